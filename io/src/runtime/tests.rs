//! Runtimes with real sockets on the loopback address, real directories and the real clock.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use quorate_core::{
    Command, CommandError, ConfigVersion, NodeConfig, Reply, State, Status, StopReason,
};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::*;
use crate::net::{Credentials, NetConfig};
use crate::store::{DataDir, StoreError};

const LIMIT: Duration = Duration::from_secs(20);

fn setup(seeds: Vec<SocketAddr>) -> Setup {
    let mut net = NetConfig::new(Credentials::derive("runtime tests", "secret", None));
    net.bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
    net.port = 0;
    net.multicast = None;
    let mut node = NodeConfig::loopback("runtime tests", 0);
    node.multicast = false;
    node.timings.found_wait = Duration::from_millis(if seeds.is_empty() { 0 } else { 5_000 });
    node.seeds = seeds;
    Setup { node, net, members: None, http: None, client: None }
}

struct Running {
    handle: Handle,
    address: SocketAddr,
    task: JoinHandle<Ended>,
}

fn start(setup: Setup, dir: DataDir) -> Running {
    let runtime = Runtime::open(setup, dir).expect("it opens");
    let address = runtime.address();
    let (handle, mut inbox) = channel();
    let task = tokio::spawn(async move {
        let ended = runtime.run(&mut inbox).await;
        inbox.close(ended.reason.clone());
        ended
    });
    Running { handle, address, task }
}

async fn until(handle: &Handle, what: &str, test: impl Fn(&Status) -> bool) -> Status {
    let waiting = async {
        loop {
            let status = handle.status().await.expect("it runs");
            if test(&status) {
                return status;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{what}"))
}

#[tokio::test]
async fn a_node_alone_founds_answers_and_gives_its_directory_back_locked() {
    let scratch = TempDir::new().unwrap();
    let dir = DataDir::lock(scratch.path()).unwrap();
    let node = start(setup(vec![]), dir);
    let status = until(&node.handle, "it decides alone", |s| {
        s.state == State::Member && s.coordinator == Some(s.node)
    })
    .await;
    let server = status.configuration.and_then(|c| c.servers.get(&status.node).cloned());
    assert_eq!(server.map(|s| s.addresses.node), Some(node.address), "the bound port is told");
    let layout = node.handle.layout();
    assert_eq!(layout.coordinator, Some(status.node));
    assert_eq!(layout.configuration.map(|c| c.version), Some(ConfigVersion(1)));

    let unknown = Command::RemoveServer { server: "nobody".to_owned() };
    let reply = timeout(LIMIT, node.handle.command(unknown)).await.unwrap().unwrap();
    assert!(matches!(reply, Reply::Failed(CommandError::Refused(_))), "{reply:?}");

    // The answer may get lost in the end; the end itself does not.
    let _ = node.handle.command(Command::Stop).await;
    let ended = timeout(LIMIT, node.task).await.unwrap().unwrap();
    assert_eq!(node.handle.stopped().await, Some(ended.reason));
    assert!(node.handle.status().await.is_err(), "nobody is there any more");
    let other = DataDir::lock(scratch.path());
    assert!(matches!(other, Err(StoreError::Locked { .. })), "{other:?}");
    drop(ended.dir);
    DataDir::lock(scratch.path()).expect("free once it is let go");
}

#[tokio::test]
async fn two_nodes_meet_by_the_member_list_and_the_one_that_stops_is_missed_by_the_other() {
    let scratch = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let first = start(setup(vec![]), DataDir::lock(scratch[0].path()).unwrap());
    until(&first.handle, "the first founds", |s| s.state == State::Member).await;
    let mut changes = first.handle.changes();
    let listed = setup(vec![first.address]);
    let second = start(listed, DataDir::lock(scratch[1].path()).unwrap());
    let both = |s: &Status| s.configuration.as_ref().is_some_and(|c| c.servers.len() == 2);
    let joined = until(&second.handle, "the second is let in", both).await;
    until(&first.handle, "the first knows it", both).await;
    let told = timeout(LIMIT, async {
        loop {
            let layout = changes.recv().await.unwrap();
            if layout.configuration.is_some_and(|c| c.servers.contains_key(&joined.node)) {
                return;
            }
        }
    });
    told.await.expect("whoever listens is told");

    let _ = second.handle.command(Command::Stop).await;
    let ended = timeout(LIMIT, second.task).await.unwrap().unwrap();
    assert_eq!(ended.reason, StopReason::Left);
    until(&first.handle, "the first hears of it at once", |s| {
        use quorate_core::configuration::ServerStatus::Away;
        let server = s.configuration.as_ref().and_then(|c| c.servers.get(&joined.node));
        server.is_some_and(|s| s.status == Away)
    })
    .await;
    drop(first.task);
}
