//! Figures of the network: handshakes a second, round trip, megabytes a second, on 127.0.0.1.
//!
//! `cargo run --release -p quorate-io --example net_bench`

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_core::{LinkId, NodeId};
use quorate_io::net::{Credentials, NetConfig, NetEvent, NetLimits, Transport};
use tokio::sync::mpsc;

type Outcome<T> = Result<T, Box<dyn Error>>;

const HANDSHAKES: u32 = 500;
const ROUND_TRIPS: usize = 20_000;
const BULK_PACKETS: usize = 1_000;
const BULK_PACKET_BYTES: usize = 1024 * 1024;
const SMALL_PACKETS: usize = 500_000;
const SMALL_PACKET_BYTES: usize = 100;
/// Sent ahead of what has arrived, so that the bound of the write queue is not reached.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;

struct Peer {
    net: Transport,
    events: mpsc::Receiver<NetEvent>,
}

impl Peer {
    fn start(credentials: &Credentials, node: u128) -> Outcome<Self> {
        let config = NetConfig {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            multicast: None,
            limits: NetLimits::default(),
            ..NetConfig::new(credentials.clone())
        };
        let (sender, events) = mpsc::channel(1024);
        Ok(Self { net: Transport::start(config, NodeId(node), sender)?, events })
    }

    async fn link(&mut self) -> Outcome<LinkId> {
        match self.event().await {
            Some(NetEvent::LinkUp { link, .. }) => Ok(link),
            other => Err(format!("expected a link, got {other:?}").into()),
        }
    }

    /// The next event that still holds: the end that is closed second may have said `LinkDown`.
    async fn event(&mut self) -> Option<NetEvent> {
        loop {
            let event = self.events.recv().await?;
            if self.net.admits(&event) {
                return Some(event);
            }
        }
    }

    async fn packet(&mut self) -> Outcome<Bytes> {
        match self.event().await {
            Some(NetEvent::Packet { bytes, .. }) => Ok(bytes),
            other => Err(format!("expected a packet, got {other:?}").into()),
        }
    }
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let before = Instant::now();
    let credentials = Credentials::derive("group", "password", None);
    println!("deriving the key, once a process: {:.1} ms", ms(before.elapsed()));
    let mut a = Peer::start(&credentials, 1)?;
    let mut b = Peer::start(&credentials, 2)?;
    handshakes(&mut a, &mut b).await?;
    a.net.dial(b.net.local_addr());
    let (at_a, at_b) = (a.link().await?, b.link().await?);
    round_trips(&mut a, at_a, &mut b, at_b).await?;
    stream("1 MiB packets", &a, at_a, &mut b, BULK_PACKETS, BULK_PACKET_BYTES).await?;
    stream("100 B packets", &a, at_a, &mut b, SMALL_PACKETS, SMALL_PACKET_BYTES).await?;
    a.net.shutdown().await;
    b.net.shutdown().await;
    Ok(())
}

/// Both ends of each handshake run here, so it is the work of two nodes.
async fn handshakes(a: &mut Peer, b: &mut Peer) -> Outcome<()> {
    let before = Instant::now();
    for _ in 0..HANDSHAKES {
        a.net.dial(b.net.local_addr());
        let (at_a, at_b) = (a.link().await?, b.link().await?);
        b.net.close(at_b);
        a.net.close(at_a);
    }
    let spent = before.elapsed();
    let each = ms(spent) / f64::from(HANDSHAKES);
    println!("handshakes, one after the other: {:.0} a second, {each:.2} ms each", 1e3 / each);
    Ok(())
}

async fn round_trips(a: &mut Peer, at_a: LinkId, b: &mut Peer, at_b: LinkId) -> Outcome<()> {
    let ping = Bytes::from_static(&[7; SMALL_PACKET_BYTES]);
    let mut spent = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let before = Instant::now();
        a.net.send(at_a, ping.clone());
        let got = b.packet().await?;
        b.net.send(at_b, got);
        a.packet().await?;
        spent.push(before.elapsed());
    }
    spent.sort();
    let us = |of_hundred: usize| ms(spent[ROUND_TRIPS * of_hundred / 100]) * 1e3;
    println!("round trip of 100 B: median {:.0} µs, 99th of 100 {:.0} µs", us(50), us(99));
    Ok(())
}

async fn stream(
    what: &str,
    a: &Peer,
    at_a: LinkId,
    b: &mut Peer,
    packets: usize,
    packet_bytes: usize,
) -> Outcome<()> {
    let packet = Bytes::from(vec![7; packet_bytes]);
    let ahead = (WINDOW_BYTES / packet_bytes).max(1).min(packets);
    let before = Instant::now();
    for _ in 0..ahead {
        a.net.send(at_a, packet.clone());
    }
    for n in 0..packets {
        let got = b.packet().await?;
        assert_eq!(got.len(), packet_bytes);
        if n + ahead < packets {
            a.net.send(at_a, packet.clone());
        }
    }
    let seconds = before.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let (count, bytes) = (packets as f64, (packets * packet_bytes) as f64);
    println!(
        "{what}, one way: {:.0} MB/s, {:.0} packets/s",
        bytes / seconds / 1e6,
        count / seconds
    );
    Ok(())
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
