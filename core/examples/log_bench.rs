//! What one entry costs in the log alone: three replicas in one thread, disks and network that take no
//! time.
//!
//! ```text
//! cargo build --release -p quorate-core --example log_bench
//! valgrind --tool=callgrind target/release/examples/log_bench 20000
//! ```
//!
//! It counts no time, for core has no clock: instructions do not differ from run to run.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::raft::{Content, Entry, Half, Limits, Membership, Payload, Raft, Settings};
use quorate_core::{ConfigVersion, HardState, Index, LogId, NodeId, RecoveredLog, Term, Time};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

/// Entries that are proposed, unless the command line says otherwise.
const ENTRIES: u64 = 200_000;
/// What is in one.
const ENTRY_BYTES: usize = 100;
/// The time of the replicas that passes between two entries.
const STEP: Duration = Duration::from_micros(100);

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn replica(node: NodeId) -> Raft {
    let voters = BTreeSet::from(NODES);
    let incoming = Half { voters, tie_breaker: Some(NODES[0]) };
    let version = ConfigVersion(1);
    let membership = Membership { incoming, outgoing: None, learners: BTreeSet::new(), version };
    let (index, term) = (Index(1), Term(1));
    let first = Entry { index, term, payload: Payload::Membership(membership) };
    let hard_state = HardState { term, vote: None, commit: index };
    let recovered = RecoveredLog { hard_state, entries: vec![first], ..RecoveredLog::default() };
    let settings = Settings {
        node,
        log: LogId(1),
        content: Content::Apart,
        heartbeat: Duration::from_millis(100),
        election_min: Duration::from_millis(300),
        election_max: Duration::from_millis(600),
        limits: Limits::default(),
    };
    let seed = [u8::try_from(node.0).unwrap_or(0); 32];
    Raft::new(settings, recovered, ChaCha8Rng::from_seed(seed), Time::ZERO)
}

/// Lets everything happen that follows at `now`.
fn settle(replicas: &mut [Raft; 3], now: Time) {
    loop {
        let mut quiet = true;
        for at in 0..replicas.len() {
            let replica = &mut replicas[at];
            replica.flush(now);
            while let Some((ticket, _)) = replica.take_batch(now) {
                replica.persisted(now, ticket);
            }
            let _ = replica.pass_committed();
            while let Some((to, message)) = replicas[at].next_message() {
                quiet = false;
                if let Some(there) = NODES.iter().position(|node| *node == to) {
                    replicas[there].receive(now, NODES[at], message);
                }
            }
        }
        if quiet {
            return;
        }
    }
}

fn main() {
    let asked = std::env::args().nth(1).and_then(|count| count.parse().ok());
    let entries: u64 = asked.unwrap_or(ENTRIES);
    let mut replicas = NODES.map(replica);
    let mut now = Time::ZERO + Duration::from_secs(1);
    replicas[0].tick(now);
    settle(&mut replicas, now);
    assert!(replicas[0].is_settled_leader(), "nobody else campaigns");
    let data = Bytes::from(vec![7; ENTRY_BYTES]);
    for _ in 0..entries {
        now = now + STEP;
        for replica in replicas.iter_mut().filter(|replica| now >= replica.next_timeout()) {
            replica.tick(now);
        }
        assert!(replicas[0].propose(data.clone()).is_ok(), "the leader takes it");
        settle(&mut replicas, now);
    }
    assert!(replicas[0].commit().0 >= entries, "all is committed");
    println!("{entries} entries are committed on three replicas");
}
