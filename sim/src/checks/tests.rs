//! Each check is handed a history that is wrong and must find it, and one that is right and must
//! let it pass.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_core::configuration::{
    Addresses, ConfigCommand, Configuration, Defaults, RemoveReason,
};
use quorate_core::raft::{Body, Entry, Half, Membership, Message, Payload, Snapshot};
use quorate_core::wire::{Info, Packet};
use quorate_core::{
    ClusterId, Command, ConfigVersion, HardState, Identity, Index, LogId, NodeId, PersistId,
    Recovered, Start, StorageOp, Term,
};

use super::{Checks, Mind, RunView};
use crate::disk::{Batch, DirId, Directory, Disks};
use crate::outcome::{Verdict, Violation};

const LOG: LogId = LogId::CONFIGURATION;
const CLUSTER: ClusterId = ClusterId(77);

/// A world of a few directories and the checks that look at it.
struct Scene {
    checks: Checks,
    disks: Disks,
}

fn membership(voters: &[u128], tie_breaker: u128, version: u64) -> Membership {
    let voters = voters.iter().map(|id| NodeId(*id)).collect();
    Membership {
        incoming: Half { voters, tie_breaker: Some(NodeId(tie_breaker)) },
        outgoing: None,
        learners: BTreeSet::new(),
        version: ConfigVersion(version),
    }
}

fn entry(index: u64, term: u64, payload: Payload) -> Entry {
    Entry { index: Index(index), term: Term(term), payload }
}

fn empty(index: u64, term: u64) -> Entry {
    entry(index, term, Payload::Empty)
}

fn data(index: u64, term: u64, command: &ConfigCommand) -> Entry {
    // The encoding of core's log entries is postcard, as of everything on its wire.
    entry(index, term, Payload::Data(postcard::to_allocvec(command).expect("encodes").into()))
}

fn addresses() -> Addresses {
    Addresses { node: crate::network::address(0), client: None, http: None }
}

fn founding() -> ConfigCommand {
    ConfigCommand::Found {
        cluster: CLUSTER,
        group: "g".to_owned(),
        node: NodeId(1),
        name: "n1".to_owned(),
        addresses: addresses(),
        start: quorate_core::Start { number: 1, nonce: 1 },
        defaults: Defaults::default(),
    }
}

fn hard(term: u64, vote: Option<u128>, commit: u64) -> StorageOp {
    let state = HardState { term: Term(term), vote: vote.map(NodeId), commit: Index(commit) };
    StorageOp::HardState { log: LOG, state }
}

fn append(entries: Vec<Entry>) -> StorageOp {
    StorageOp::Append { log: LOG, entries }
}

/// What one of the invariants says, by its name.
fn broken<T: std::fmt::Debug>(verdict: Result<T, Violation>) -> String {
    verdict.expect_err("the history is wrong").invariant
}

impl Scene {
    /// Directories of the nodes 1 to `nodes`, members of the cluster with empty logs.
    fn of(nodes: u128) -> Self {
        let mut scene = Self { checks: Checks::default(), disks: Disks::default() };
        for id in 1..=nodes {
            let mut recovered = Recovered::fresh(NodeId(id));
            recovered.identity.cluster = Some(CLUSTER);
            scene.disks.add(Directory::new(recovered));
        }
        scene
    }

    fn dir(node: u128) -> DirId {
        DirId(usize::try_from(node - 1).expect("small"))
    }

    fn directory(&self, node: u128) -> &Directory {
        self.disks.get(Self::dir(node))
    }

    /// A node hands out operations; they are checked, and on their way.
    fn write(&mut self, node: u128, ops: Vec<StorageOp>) -> Verdict {
        self.disks.get_mut(Self::dir(node)).written_log.forget_previous();
        for op in &ops {
            let directory = self.disks.get(Self::dir(node));
            let cluster = directory.written_log.cluster;
            self.checks.writes(directory, Index::ZERO, cluster, op)?;
            self.disks.get_mut(Self::dir(node)).write(op);
        }
        self.disks.get_mut(Self::dir(node)).enqueue(Batch { id: PersistId(0), ops });
        Ok(())
    }

    /// And they are durable.
    fn store(&mut self, node: u128, ops: Vec<StorageOp>) {
        self.write(node, ops).expect("sound so far");
        while self.disks.get_mut(Self::dir(node)).sync().is_some() {}
    }

    fn leads(&mut self, node: u128, term: u64) -> Result<(), Violation> {
        let directory = self.disks.get(Self::dir(node));
        let mind = Mind { log: &directory.written_log, term_at: &|_| None, membership: None };
        self.checks.leads(&self.disks, directory, mind, Term(term)).map(drop)
    }

    fn commits(&mut self, node: u128, to: u64, led: Option<u64>) -> Result<(), Violation> {
        let directory = self.disks.get(Self::dir(node));
        let mind = Mind { log: &directory.written_log, term_at: &|_| None, membership: None };
        let led = led.map(Term);
        self.checks.commits(&self.disks, directory, mind, Index(to), led).map(drop)
    }

    fn sends(&mut self, node: u128, to: u128, packet: &Packet) -> Verdict {
        self.checks.sends(self.disks.get(Self::dir(node)), NodeId(to), packet)
    }

    fn says(&mut self, node: u128, to: u128, term: u64, body: Body) -> Verdict {
        let message = Message { term: Term(term), body };
        self.sends(node, to, &Packet::Raft { cluster: CLUSTER, log: LOG, message })
    }
}

/// Three voters whose logs begin alike: a membership of 1, 2, 3 and the founding.
fn three() -> Scene {
    let mut scene = Scene::of(3);
    let first = entry(1, 1, Payload::Membership(membership(&[1, 2, 3], 1, 1)));
    for node in 1..=3 {
        let log = append(vec![first.clone(), data(2, 1, &founding())]);
        scene.store(node, vec![log, hard(1, Some(1), 0)]);
    }
    scene
}

#[test]
fn a_sound_history_passes_every_check() {
    let mut scene = three();
    scene.leads(1, 1).expect("three durable votes");
    scene.commits(1, 2, Some(1)).expect("on three disks");
    scene.commits(2, 2, None).expect("told");
    scene.says(2, 1, 1, Body::Appended { matched: Index(2) }).expect("durable");
    scene.checks.sweep(&scene.disks).expect("nothing is missing");
}

#[test]
fn two_leaders_in_a_term_are_found() {
    let mut scene = three();
    scene.leads(1, 1).expect("elected");
    assert_eq!(broken(scene.leads(2, 1)), "two-leaders");
}

#[test]
fn a_leader_without_a_quorum_of_durable_votes_is_found() {
    let mut scene = three();
    scene.store(2, vec![hard(2, Some(2), 0)]);
    assert_eq!(broken(scene.leads(2, 2)), "leader-without-quorum");
    scene.write(3, vec![hard(2, Some(2), 0)]).expect("sound");
    assert_eq!(broken(scene.leads(2, 2)), "leader-without-quorum", "written is not durable");
}

#[test]
fn a_leader_that_lacks_what_was_committed_is_found() {
    let mut scene = three();
    scene.leads(1, 1).expect("elected");
    for node in 1..=2 {
        scene.store(node, vec![append(vec![empty(3, 1)])]);
    }
    scene.commits(1, 3, Some(1)).expect("on two of three");
    for node in 1..=3 {
        scene.store(node, vec![hard(2, Some(3), 0)]);
    }
    assert_eq!(broken(scene.leads(3, 2)), "leader-incomplete");
}

#[test]
fn a_commit_without_a_quorum_of_disks_is_found() {
    let mut scene = three();
    scene.leads(1, 1).expect("elected");
    scene.store(1, vec![append(vec![empty(3, 1)])]);
    assert_eq!(broken(scene.commits(1, 3, Some(1))), "commit-without-quorum");
    scene.write(2, vec![append(vec![empty(3, 1)])]).expect("sound");
    assert_eq!(broken(scene.commits(1, 3, Some(1))), "commit-without-quorum", "not durable");
}

#[test]
fn half_of_the_voters_commit_only_with_the_tie_breaker() {
    for (leader, decides) in [(1, true), (2, false)] {
        let mut scene = Scene::of(2);
        let first = entry(1, 1, Payload::Membership(membership(&[1, 2], 1, 1)));
        for node in 1..=2 {
            let log = append(vec![first.clone(), data(2, 1, &founding())]);
            scene.store(node, vec![log, hard(1, Some(leader), 0)]);
        }
        scene.leads(leader, 1).expect("both voted");
        scene.store(leader, vec![append(vec![empty(3, 1)])]);
        assert_eq!(scene.commits(leader, 3, Some(1)).is_ok(), decides, "leader {leader}");
    }
}

#[test]
fn a_learner_that_is_counted_is_found() {
    let mut scene = Scene::of(3);
    let mut first = membership(&[1, 2], 2, 1);
    first.learners.insert(NodeId(3));
    for node in [1, 3] {
        let log = vec![entry(1, 1, Payload::Membership(first.clone())), data(2, 1, &founding())];
        scene.store(node, vec![append(log), hard(1, Some(1), 0)]);
    }
    assert_eq!(broken(scene.commits(1, 2, Some(1))), "commit-without-quorum");
}

#[test]
fn an_entry_of_an_old_term_that_is_committed_by_counting_is_found() {
    let mut scene = three();
    for node in 1..=3 {
        scene.store(node, vec![hard(2, Some(1), 0)]);
    }
    scene.leads(1, 2).expect("elected");
    assert_eq!(broken(scene.commits(1, 2, Some(2))), "commit-by-old-term");
}

#[test]
fn a_follower_that_knows_of_more_than_was_committed_is_found() {
    let mut scene = three();
    assert_eq!(broken(scene.commits(2, 2, None)), "commit-invented");
}

#[test]
fn a_follower_that_takes_another_entry_for_committed_is_found() {
    let mut scene = three();
    scene.leads(1, 1).expect("elected");
    for node in 1..=2 {
        scene.store(node, vec![append(vec![empty(3, 1)])]);
    }
    scene.commits(1, 3, Some(1)).expect("on two of three");
    scene.store(3, vec![hard(2, Some(3), 0), append(vec![empty(3, 2)])]);
    assert_eq!(broken(scene.commits(3, 3, None)), "commit-diverged");
}

#[test]
fn what_is_durable_never_goes_back() {
    let mut scene = three();
    scene.store(1, vec![hard(5, Some(2), 2)]);
    assert_eq!(broken(scene.write(1, vec![hard(4, None, 2)])), "term-regressed");
    assert_eq!(broken(scene.write(1, vec![hard(5, Some(3), 2)])), "vote-changed");
    assert_eq!(broken(scene.write(1, vec![hard(5, None, 2)])), "vote-changed");
    assert_eq!(broken(scene.write(1, vec![hard(5, Some(2), 1)])), "commit-regressed");
    let cut = StorageOp::Truncate { log: LOG, from: Index(2) };
    assert_eq!(broken(scene.write(1, vec![cut])), "committed-entry-cut");
    assert_eq!(broken(scene.write(1, vec![append(vec![empty(2, 5)])])), "committed-entry-cut");
    assert_eq!(broken(scene.write(1, vec![append(vec![empty(9, 5)])])), "log-gap");
    assert_eq!(broken(scene.write(1, vec![StorageOp::DropLog { log: LOG }])), "log-dropped");
}

#[test]
fn a_vote_forgotten_over_a_restart_is_found() {
    let mut scene = three();
    scene.store(2, vec![hard(3, Some(1), 0)]);
    scene.disks.get_mut(Scene::dir(2)).crash(0);
    assert_eq!(broken(scene.write(2, vec![hard(3, Some(3), 0)])), "vote-changed");
}

#[test]
fn two_logs_that_disagree_about_an_entry_are_found() {
    let mut scene = three();
    scene.store(1, vec![append(vec![empty(3, 1)])]);
    let other = data(3, 1, &ConfigCommand::DropDatabase { name: "x".to_owned() });
    assert_eq!(broken(scene.write(2, vec![append(vec![other])])), "log-matching");
    // The same entry after another past is as bad.
    scene.store(1, vec![append(vec![empty(4, 2)])]);
    scene.store(2, vec![append(vec![empty(3, 2)])]);
    assert_eq!(broken(scene.write(2, vec![append(vec![empty(4, 2)])])), "log-matching");
}

#[test]
fn a_single_step_change_of_membership_is_found() {
    let mut scene = Scene::of(3);
    let pair = entry(1, 1, Payload::Membership(membership(&[1, 2], 1, 1)));
    let founded = data(2, 1, &founding());
    scene.store(1, vec![append(vec![pair, founded]), hard(1, Some(1), 0)]);
    let after = membership(&[1, 2, 3], 1, 2);
    let step = append(vec![entry(3, 1, Payload::Membership(after.clone()))]);
    assert_eq!(broken(scene.write(1, vec![step])), "quorums-disjoint");
    let outgoing = Some(membership(&[1, 2], 1, 1).incoming);
    let joint = append(vec![entry(3, 2, Payload::Membership(Membership { outgoing, ..after }))]);
    scene.write(1, vec![joint]).expect("the joint step is safe");
}

#[test]
fn a_membership_of_an_older_configuration_is_found() {
    let mut scene = three();
    scene.store(
        1,
        vec![append(vec![entry(3, 1, Payload::Membership(membership(&[1, 2, 3], 1, 4)))])],
    );
    let older = append(vec![entry(4, 1, Payload::Membership(membership(&[1, 2, 3], 1, 3)))]);
    assert_eq!(broken(scene.write(1, vec![older])), "membership-version-regressed");
}

#[test]
fn a_snapshot_of_what_was_not_committed_is_found() {
    let mut scene = three();
    let verdict = scene.checks.snapshots(scene.disks.get(Scene::dir(1)), LOG, Index(2), Term(1));
    assert_eq!(broken(verdict), "snapshot-of-uncommitted");
    scene.leads(1, 1).expect("elected");
    scene.commits(1, 2, Some(1)).expect("on three disks");
    let snapshot = |index| Snapshot {
        index: Index(index),
        term: Term(1),
        membership: membership(&[1, 2, 3], 1, 1),
        data: Default::default(),
    };
    scene.store(1, vec![StorageOp::Snapshot { log: LOG, snapshot: snapshot(2), reset: false }]);
    let back = StorageOp::Snapshot { log: LOG, snapshot: snapshot(1), reset: false };
    assert_eq!(broken(scene.write(1, vec![back])), "snapshot-regressed");
}

#[test]
fn messages_that_are_not_implied_by_the_disk_are_found() {
    let mut scene = three();
    scene.write(2, vec![hard(2, Some(3), 0), append(vec![empty(3, 2)])]).expect("sound");
    let vote = scene.says(2, 3, 2, Body::VoteReply { granted: true });
    assert_eq!(broken(vote), "vote-not-durable");
    let request = Body::Vote { last_index: Index(2), last_term: Term(1), transfer: false };
    assert_eq!(broken(scene.says(2, 3, 2, request)), "vote-not-durable");
    let matched = scene.says(2, 3, 1, Body::Appended { matched: Index(3) });
    assert_eq!(broken(matched), "append-not-durable");
    let heartbeat = Body::Heartbeat { commit: Index::ZERO, round: 1 };
    assert_eq!(broken(scene.says(2, 3, 2, heartbeat)), "term-not-durable");
    scene.says(2, 3, 2, Body::VoteReply { granted: false }).expect("a refusal promises nothing");
    while scene.disks.get_mut(Scene::dir(2)).sync().is_some() {}
    scene.says(2, 3, 2, Body::VoteReply { granted: true }).expect("durable now");
    scene.says(2, 3, 2, Body::Appended { matched: Index(3) }).expect("durable now");
}

#[test]
fn the_same_vote_given_to_two_is_found_even_after_an_old_disk_came_back() {
    let mut scene = three();
    let before = scene.directory(2).durable.clone();
    scene.store(2, vec![hard(2, Some(3), 0)]);
    scene.says(2, 3, 2, Body::VoteReply { granted: true }).expect("durable");
    let directory = scene.disks.get_mut(Scene::dir(2));
    let copies = crate::disk::Copies::default();
    directory.restore(crate::disk::OldCopy { at: 0, held: before, copies });
    directory.votes.clear();
    scene.store(2, vec![hard(2, Some(1), 0)]);
    let again = scene.says(2, 1, 2, Body::VoteReply { granted: true });
    assert_eq!(broken(again), "vote-given-twice");
}

#[test]
fn a_start_or_a_welcome_that_is_not_durable_is_found() {
    let mut scene = three();
    let start = Start { number: 1, nonce: 9 };
    let welcome = Packet::Welcome { start };
    assert_eq!(broken(scene.sends(1, 2, &welcome)), "welcome-not-durable");
    scene.store(1, vec![StorageOp::PeerStart { peer: NodeId(2), start }]);
    scene.sends(1, 2, &welcome).expect("durable now");
}

fn info(cluster: ClusterId) -> Packet {
    Packet::Info(Info {
        cluster: Some(cluster),
        seeking: false,
        version: ConfigVersion(1),
        servers: 1,
        databases: 0,
        coordinator: None,
        you_are_member: false,
        you_were_removed: false,
        leaving: false,
        your_cluster: None,
        released: false,
        damaged: false,
        clash: None,
    })
}

#[test]
fn a_cluster_that_is_named_before_its_founding_is_durable_is_found() {
    let mut scene = Scene::of(1);
    assert_eq!(broken(scene.sends(1, 2, &info(CLUSTER))), "cluster-not-durable", "no entry yet");
    let mut scene = three();
    assert_eq!(broken(scene.sends(1, 2, &info(ClusterId(5)))), "cluster-not-durable");
    scene.sends(1, 2, &info(CLUSTER)).expect("founded");
}

#[test]
fn what_a_founding_left_must_not_become_the_log_of_another_cluster() {
    let mut disks = Disks::default();
    let dir = disks.add(Directory::new(Recovered::fresh(NodeId(1))));
    let directory = disks.get_mut(dir);
    let first = entry(1, 1, Payload::Membership(membership(&[1], 1, 1)));
    let ops = vec![append(vec![first]), hard(1, Some(1), 1)];
    for op in &ops {
        directory.write(op);
    }
    directory.enqueue(Batch { id: PersistId(1), ops });
    directory.crash(2);
    directory.written_log.begin_run();
    let mut checks = Checks::default();
    let mut identity = Identity::new(NodeId(1));
    identity.cluster = Some(CLUSTER);
    let joins = StorageOp::Identity(identity);
    let verdict = checks.writes(disks.get(dir), Index::ZERO, Some(CLUSTER), &joins);
    assert_eq!(broken(verdict), "leftover-log-adopted");
    disks.get_mut(dir).write(&StorageOp::DropLog { log: LOG });
    checks.writes(disks.get(dir), Index::ZERO, Some(CLUSTER), &joins).expect("dropped first");
}

#[test]
fn a_directory_that_changes_sides_or_forgets_its_starts_is_found() {
    let mut scene = three();
    let mut identity = scene.directory(1).durable.identity.clone();
    identity.cluster = Some(ClusterId(5));
    let verdict = scene.write(1, vec![StorageOp::Identity(identity.clone())]);
    assert_eq!(broken(verdict), "cluster-changed");
    identity.cluster = Some(CLUSTER);
    let with = |numbers: &[u64]| {
        let start = |number: &u64| Start { number: *number, nonce: 3 };
        let starts = numbers.iter().map(start).collect();
        StorageOp::Identity(Identity { starts, ..identity.clone() })
    };
    scene.store(1, vec![with(&[1, 2])]);
    assert_eq!(broken(scene.write(1, vec![with(&[1])])), "starts-rewritten");
}

/// The document after the founding and `more` committed commands.
fn committed(more: &[ConfigCommand]) -> (Scene, Arc<Configuration>) {
    let mut scene = three();
    scene.leads(1, 1).expect("elected");
    let mut index = 2;
    for command in more {
        index += 1;
        for node in 1..=3 {
            scene.store(node, vec![append(vec![data(index, 1, command)])]);
        }
    }
    scene.commits(1, index, Some(1)).expect("on three disks");
    let document = scene.checks.known(CLUSTER).and_then(|l| l.document()).cloned();
    (scene, Arc::new(document.expect("founded")))
}

#[test]
fn a_document_that_was_never_committed_is_found_so_that_no_minority_removes_anyone() {
    let (mut scene, document) = committed(&[]);
    let mut run = RunView::default();
    scene.checks.shows(NodeId(1), &mut run, &document).expect("committed");
    let mut ahead = (*document).clone();
    ahead.version = ConfigVersion(2);
    ahead.servers.clear();
    let verdict = scene.checks.shows(NodeId(1), &mut run, &Arc::new(ahead));
    assert_eq!(broken(verdict), "configuration-not-committed");
}

#[test]
fn two_documents_of_one_version_are_found() {
    let (mut scene, document) = committed(&[]);
    let mut other = (*document).clone();
    other.servers.clear();
    let verdict = scene.checks.shows(NodeId(2), &mut RunView::default(), &Arc::new(other));
    assert_eq!(broken(verdict), "configuration-diverged");
}

#[test]
fn a_run_that_shows_an_older_version_again_is_found() {
    let create = ConfigCommand::create_database("db", quorate_core::DatabaseId(1));
    let (mut scene, newer) = committed(&[create]);
    let older = scene.checks.known(CLUSTER).and_then(|l| l.version(ConfigVersion(1))).cloned();
    let mut run = RunView::default();
    scene.checks.shows(NodeId(1), &mut run, &newer).expect("committed");
    let verdict = scene.checks.shows(NodeId(1), &mut run, &older.expect("the first"));
    assert_eq!(broken(verdict), "configuration-went-back");
}

#[test]
fn an_answer_without_its_effect_is_found() {
    let create = ConfigCommand::create_database("db", quorate_core::DatabaseId(1));
    let (mut scene, _) = committed(std::slice::from_ref(&create));
    let acknowledges = |scene: &mut Scene, version, command: &Command| {
        let since = ConfigVersion(1);
        scene.checks.acknowledges(NodeId(1), CLUSTER, ConfigVersion(version), command, since)
    };
    let command = Command::Change(create);
    acknowledges(&mut scene, 2, &command).expect("it holds");
    assert_eq!(broken(acknowledges(&mut scene, 1, &command)), "acknowledged-without-effect");
    assert_eq!(broken(acknowledges(&mut scene, 3, &command)), "acknowledged-before-commit");
    let remove = Command::RemoveServer { server: "n1".to_owned() };
    assert_eq!(broken(acknowledges(&mut scene, 2, &remove)), "acknowledged-without-effect");
    assert_eq!(
        broken(scene.checks.answers(NodeId(1), CLUSTER, ConfigVersion(9))),
        "acknowledged-before-commit"
    );
}

#[test]
fn a_node_that_ends_with_a_cluster_that_has_not_dissolved_is_found() {
    let (scene, _) = committed(&[]);
    assert_eq!(
        broken(scene.checks.dissolves(scene.directory(1), CLUSTER)),
        "dissolved-uncommitted"
    );
    let into = ClusterId(5);
    let (scene, _) = committed(&[ConfigCommand::Dissolve { into, addresses: Vec::new() }]);
    scene.checks.dissolves(scene.directory(1), CLUSTER).expect("committed");
}

#[test]
fn committed_entries_that_too_many_disks_lack_are_found_by_the_sweep() {
    let (mut scene, _) =
        committed(&[ConfigCommand::Remove { node: NodeId(9), reason: RemoveReason::Unreachable }]);
    scene.checks.sweep(&scene.disks).expect("on three disks");
    for node in 1..=2 {
        let directory = scene.disks.get_mut(Scene::dir(node));
        directory.durable_log = crate::disk::Shadow::of(&Recovered::fresh(NodeId(node)), LOG);
    }
    assert_eq!(broken(scene.checks.sweep(&scene.disks)), "committed-can-be-lost");
    // Whoever is gone for good votes for nobody: what it held is out of reach, not lost.
    for node in 1..=2 {
        scene.disks.get_mut(Scene::dir(node)).retire();
    }
    scene.checks.sweep(&scene.disks).expect("the third alone cannot decide");
}

#[test]
fn a_queue_beyond_its_bound_is_found() {
    assert_eq!(broken(super::bounded(NodeId(1), "things", 11, 10)), "queue-unbounded");
    super::bounded(NodeId(1), "things", 10, 10).expect("at its bound");
}
