//! Hosts of their own: network namespaces with a wire between them, made and removed by the test.
//!
//! They need root and the `ip` command. Where those are missing the tests fail: a test that is
//! skipped shows nothing.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sched::{CloneFlags, setns};
use quorate_core::{DialError, NodeId};
use tokio::runtime::Builder;
use tokio::sync::mpsc;

use super::{PATIENCE, Peer, credentials};
use crate::net::{MulticastConfig, NetConfig, NetEvent, NetLimits, Transport, Trouble};

const A: &str = "10.77.0.1";
const B: &str = "10.77.0.2";

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    let output = output.expect("the tests need the `ip` command (iproute2)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "`ip {arguments}` failed, and the tests need network namespaces (run as root): {said}"
    );
}

/// Two namespaces, each with one end of a wire.
struct Wire {
    name: String,
}

impl Wire {
    fn new(test: &str) -> Self {
        let wire = Self { name: format!("qn{}{test}", std::process::id()) };
        for host in [wire.a(), wire.b()] {
            ip(&format!("netns add {host}"));
            ip(&format!("-n {host} link set lo up"));
        }
        wire.plug();
        wire
    }

    fn a(&self) -> String {
        format!("{}a", self.name)
    }

    fn b(&self) -> String {
        format!("{}b", self.name)
    }

    /// Makes the wire, both ends with an address and up.
    fn plug(&self) {
        let (a, b) = (self.a(), self.b());
        ip(&format!("link add eth0 netns {a} type veth peer name eth0 netns {b}"));
        for (host, address) in [(&a, A), (&b, B)] {
            ip(&format!("-n {host} address add {address}/24 dev eth0"));
            ip(&format!("-n {host} link set eth0 up"));
        }
    }

    /// Removes the wire and both interfaces.
    fn unplug(&self) {
        ip(&format!("-n {} link delete eth0", self.a()));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for host in [self.a(), self.b()] {
            let _ = Command::new("ip").args(["netns", "delete", &host]).output();
        }
    }
}

/// A node in a namespace, on a thread of its own that has entered it. Multicasts ten times a
/// second, and passes on what it hears.
struct Remote {
    heard: Receiver<NetEvent>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

fn config() -> NetConfig {
    NetConfig {
        multicast: Some(MulticastConfig {
            poll: Duration::from_millis(100),
            ttl: 1,
            ..Default::default()
        }),
        port_auto_increment: false,
        ..NetConfig::new(credentials())
    }
}

impl Remote {
    fn start(namespace: String, node: u128, config: NetConfig) -> Self {
        let (events, heard) = channel();
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || {
            enter(&namespace);
            // One thread: every socket is made in the namespace that it has entered.
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(chat(node, config, &events, &stopped));
        });
        Self { heard, stop: Some(stop), thread: Some(thread) }
    }

    /// Waits for an event that fits.
    fn wait_for(&self, what: &str, fits: impl Fn(&NetEvent) -> bool) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let event = self.heard.recv_timeout(left);
            if fits(&event.unwrap_or_else(|e| panic!("waiting for {what}: {e}"))) {
                return;
            }
        }
    }

    fn hears(&self, host: &str) {
        let expected: IpAddr = host.parse().unwrap();
        self.wait_for(
            &format!("a datagram of {host}"),
            |event| matches!(event, NetEvent::Datagram { from, .. } if from.ip() == expected),
        );
    }

    /// Forgets what has been heard up to now.
    fn forget(&self) {
        while self.heard.try_recv().is_ok() {}
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(ended, Some(Ok(()))), "the node's thread panicked");
    }
}

fn enter(namespace: &str) {
    let file = File::open(format!("/run/netns/{namespace}")).expect("the namespace exists");
    setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
}

async fn chat(node: u128, config: NetConfig, events: &Sender<NetEvent>, stopped: &Receiver<()>) {
    let (sender, mut receiver) = mpsc::channel(256);
    let net = Transport::start(config, NodeId(node), sender).unwrap();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    while !matches!(stopped.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)) {
        tokio::select! {
            event = receiver.recv() => drop(events.send(event.unwrap())),
            _ = tick.tick() => net.multicast(&Bytes::from(format!("node {node}"))),
        }
    }
    net.shutdown().await;
}

#[test]
fn multicast_goes_on_after_an_interface_was_down_and_after_it_was_made_anew() {
    let wire = Wire::new("m");
    let a = Remote::start(wire.a(), 1, config());
    let b = Remote::start(wire.b(), 2, config());
    a.hears(B);
    b.hears(A);

    ip(&format!("-n {} link set eth0 down", wire.a()));
    a.wait_for("the interface's end", |e| {
        matches!(e, NetEvent::Trouble(Trouble::InterfaceGone { .. }))
    });
    ip(&format!("-n {} link set eth0 up", wire.a()));
    a.hears(B);
    b.forget();
    b.hears(A);

    wire.unplug();
    a.wait_for("the interface's end", |e| {
        matches!(e, NetEvent::Trouble(Trouble::InterfaceGone { .. }))
    });
    a.forget();
    b.forget();
    wire.plug();
    a.hears(B);
    b.hears(A);
}

#[test]
fn an_interface_that_comes_and_goes_between_two_looks_is_joined_again() {
    let wire = Wire::new("q");
    let a = Remote::start(wire.a(), 1, config());
    let b = Remote::start(wire.b(), 2, config());
    let at_a = |command: &str| ip(&format!("-n {} {command}", wire.a()));
    for round in 0..6 {
        a.hears(B);
        b.hears(A);
        match round % 3 {
            0 => {
                wire.unplug();
                wire.plug();
            }
            1 => {
                at_a("link set eth0 down");
                at_a("link set eth0 up");
            }
            _ => {
                at_a(&format!("address delete {A}/24 dev eth0"));
                at_a(&format!("address add {A}/24 dev eth0"));
            }
        }
        a.forget();
        b.forget();
    }
    a.hears(B);
    b.hears(A);
}

#[test]
fn a_node_that_starts_before_its_interface_is_there_finds_it_later() {
    let wire = Wire::new("l");
    wire.unplug();
    let a = Remote::start(wire.a(), 1, config());
    wire.plug();
    let b = Remote::start(wire.b(), 2, config());
    a.hears(B);
    b.hears(A);
}

#[test]
fn a_node_on_all_addresses_advertises_the_one_that_others_reach() {
    let wire = Wire::new("d");
    let (a, b) = (wire.a(), wire.b());
    let at_a = thread::spawn(move || {
        enter(&a);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut peer = Peer::start(config(), 1);
            assert_eq!(peer.net.advertised_addr().to_string(), format!("{A}:2434"));
            loop {
                if let NetEvent::LinkUp { peer: other, .. } = peer.event().await {
                    assert_eq!(other, NodeId(2));
                    return peer.net.shutdown().await;
                }
            }
        });
    });
    let dialling = Remote::dialling(b, (Ipv4Addr::new(10, 77, 0, 1), 2434).into());
    dialling.join().unwrap();
    at_a.join().unwrap();
}

impl Remote {
    /// A thread in a namespace that dials until there is a link.
    fn dialling(namespace: String, to: std::net::SocketAddr) -> JoinHandle<()> {
        thread::spawn(move || {
            enter(&namespace);
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut peer = Peer::start(config(), 2);
                loop {
                    peer.net.dial(to);
                    let answer = loop {
                        match peer.event().await {
                            NetEvent::Datagram { .. } | NetEvent::Trouble(_) => {}
                            answer => break answer,
                        }
                    };
                    if let NetEvent::LinkUp { peer: other, dialed, .. } = answer {
                        return assert_eq!((other, dialed), (NodeId(1), Some(to)));
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        })
    }
}

#[test]
fn a_host_that_is_not_there_is_unreachable_after_the_connect_timeout() {
    let wire = Wire::new("t");
    let a = wire.a();
    let dialling = thread::spawn(move || {
        enter(&a);
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connect_timeout = Duration::from_millis(50);
            let limits = NetLimits { connect_timeout, ..Default::default() };
            let mut peer = Peer::start(NetConfig { multicast: None, limits, ..config() }, 1);
            let nobody = "10.77.0.99:2434".parse().unwrap();
            peer.net.dial(nobody);
            let failed = peer.news().await;
            assert!(matches!(
                failed,
                NetEvent::DialFailed { addr, error: DialError::Unreachable } if addr == nobody
            ));
        });
    });
    dialling.join().unwrap();
}
