//! Transcripts: `scenarios/*.txt`, to be read from top to bottom by a person.
//!
//! A line that begins with `>` is a command, a line that begins with `#` or is empty is for the
//! reader, and every other line is what happened because of the command above it. Nodes are letters;
//! the tie-breaker carries a star. Commands:
//!
//! ```text
//! cluster a* b c learners d     everybody's disk holds this membership as entry 1 of term 1
//! new e                         a node with an empty disk
//! timeout a                     a has waited long enough for a leader
//! pass 700 | tick a             the clock moves (ms), nothing else does | a looks at its timers
//! run 1000                      time goes by as in life; shown is only where it leads to
//! deliver a b [2]               the first (2) messages from a to b arrive
//! settle [but a]                all writes become durable (but a's), all messages arrive
//! persist a                     a's oldest batch becomes durable
//! lose a b                      what is under way from a to b is lost
//! cut a b | isolate a | heal    no link | no link at all | every link again, both ends know
//! linkdown a b                  a is told that its link to b is gone
//! crash a [2] | restart a       the process dies, (2) writes under way survive | it starts again
//! damage a                      (while down) part of a's log becomes unreadable
//! propose a text                a is asked to append `text`
//! change a v2 a* b learners d   a is asked to change the membership to configuration version 2
//! transfer a b | read a 7       a is asked to hand over to b | to serve read number 7
//! compact a                     a replaces what it has applied by a snapshot
//! show [a] | log a | disk a     where everybody (a) stands | a's log | what a's disk holds
//! ```
//!
//! To rewrite the files from what happens: `QUORATE_UPDATE_SCENARIOS=1 cargo test -p quorate-core
//! scenario`, and then read the difference.

use super::super::*;
use super::net::{Net, change, membership};
use super::show;

struct Player {
    net: Net,
    out: Vec<String>,
}

fn node(word: &str) -> NodeId {
    let letter = word.trim_end_matches('*').bytes().next().expect("a letter");
    NodeId(u128::from(letter - b'a') + 1)
}

/// `a* b c learners d`: the voters, the starred one first, and the learners.
fn members(words: &[&str]) -> (Vec<NodeId>, Vec<NodeId>, Option<NodeId>) {
    let mut parts = words.split(|word| *word == "learners");
    let voters = parts.next().unwrap_or_default();
    let learners = parts.next().unwrap_or_default().iter().map(|w| node(w)).collect();
    let tie = voters.iter().find(|w| w.ends_with('*')).map(|w| node(w));
    (voters.iter().map(|w| node(w)).collect(), learners, tie)
}

impl Player {
    fn say(&mut self, line: String) {
        self.out.push(line);
    }

    fn command(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, rest) = words.split_first().expect("a command");
        match *verb {
            "cluster" => self.cluster(rest),
            "show" => self.show(rest),
            "log" => self.log(node(rest[0])),
            "disk" => self.disk(node(rest[0])),
            "run" => self.run(rest[0].parse().expect("milliseconds")),
            "propose" | "change" | "transfer" | "read" => self.ask(verb, node(rest[0]), &rest[1..]),
            _ => self.world(verb, rest),
        }
        let lines = self.net.transcript.replace(Vec::new()).unwrap_or_default();
        self.out.extend(lines);
    }

    fn cluster(&mut self, words: &[&str]) {
        let (voters, learners, tie) = members(words);
        let mut first = membership(&voters, &learners);
        first.incoming.tie_breaker = tie;
        self.net = Net::with_membership(first, 1);
        self.show(&[]);
    }

    fn show(&mut self, words: &[&str]) {
        let chosen: Vec<NodeId> = words.iter().map(|w| node(w)).collect();
        for id in self.net.nodes() {
            if !chosen.is_empty() && !chosen.contains(&id) {
                continue;
            }
            let line = match &self.net.host(id).raft {
                Some(raft) => show::state(id, raft),
                None => format!("{}: down", show::name(id)),
            };
            self.say(line);
        }
    }

    fn log(&mut self, id: NodeId) {
        let raft = self.net.at(id);
        let entries: Vec<Entry> = (raft.snapshot().index.0 + 1..=raft.last_index().0)
            .filter_map(|index| raft.entry(Index(index)).cloned())
            .collect();
        for entry in entries {
            self.say(format!("  {}", show::entry(&entry)));
        }
    }

    fn disk(&mut self, id: NodeId) {
        let disk = self.net.host(id).disk().clone();
        let HardState { term, vote, commit } = disk.hard_state;
        let vote = vote.map_or("nobody".to_owned(), |v| show::name(v).to_string());
        self.say(format!("  term {term} vote {vote} commit {commit}"));
        if disk.snapshot.index > Index::ZERO {
            self.say(format!("  snapshot {}/{}", disk.snapshot.index, disk.snapshot.term));
        }
        for entry in &disk.entries {
            self.say(format!("  {}", show::entry(entry)));
        }
    }

    fn run(&mut self, ms: u64) {
        self.net.transcript = None;
        self.net.run(ms);
        self.net.transcript = Some(Vec::new());
        self.show(&[]);
    }

    fn ask(&mut self, verb: &str, id: NodeId, words: &[&str]) {
        let answer = match verb {
            "propose" => self.net.propose(id, &words.join(" ")).err().map(|e| e.to_string()),
            "transfer" => {
                let to = node(words[0]);
                let asked = self.net.with(id, |raft, now| raft.transfer(now, to));
                asked.err().map(|e| e.to_string())
            }
            "read" => {
                let token = words[0].parse().expect("a number");
                self.net.with(id, |raft, _| raft.read(token)).err().map(|e| e.to_string())
            }
            _ => {
                let version = words[0].trim_start_matches('v').parse().expect("v and a number");
                let (voters, learners, tie) = members(&words[1..]);
                let mut asked = change(&voters, &learners, version);
                asked.half.tie_breaker = tie;
                match self.net.change(id, asked) {
                    Err(ChangeError::NotCaughtUp(lagging)) => {
                        Some(format!("{} is not a learner that has caught up", show::name(lagging)))
                    }
                    result => result.err().map(|e| e.to_string()),
                }
            }
        };
        if let Some(why) = answer {
            self.say(format!("{} refuses: {why}", show::name(id)));
        }
    }

    fn world(&mut self, verb: &str, words: &[&str]) {
        let number = |at: usize| words.get(at).and_then(|w| w.parse::<usize>().ok());
        let at = |at: usize| node(words[at]);
        let net = &mut self.net;
        match verb {
            "new" => net.add(at(0)),
            "timeout" => net.timeout(at(0)),
            "tick" => net.tick(at(0)),
            "pass" => net.pass(words[0].parse().expect("milliseconds")),
            "deliver" => {
                for _ in 0..number(2).unwrap_or(1) {
                    assert!(net.deliver(at(0), at(1)), "nothing is under way: {words:?}");
                }
            }
            "settle" => {
                let stuck: Vec<NodeId> = words.iter().skip(1).map(|w| node(w)).collect();
                net.settle_but(&stuck);
            }
            "persist" => assert!(net.persist(at(0)), "nothing is being written: {words:?}"),
            "lose" => net.lose(at(0), at(1)),
            "cut" => net.cut(at(0), at(1)),
            "isolate" => net.isolate(at(0)),
            "heal" => net.heal(),
            "linkdown" => net.with(at(0), |raft, now| raft.link_lost(now, at(1))),
            "crash" => net.crash(at(0), number(1).unwrap_or(0)),
            "restart" => net.restart(at(0)),
            "damage" => net.hosts.get_mut(&at(0)).expect("it exists").damage(),
            "compact" => net.compact(at(0)),
            _ => panic!("no such command: {verb} {words:?}"),
        }
        self.reads();
    }

    fn reads(&mut self) {
        for id in self.net.nodes() {
            let host = self.net.hosts.get_mut(&id).expect("it exists");
            for (token, index) in std::mem::take(&mut host.reads) {
                let line = format!("{} may serve read {token} at {index}", show::name(id));
                self.net.transcript.get_or_insert_default().push(line);
            }
        }
    }
}

/// Plays a transcript and writes it anew.
fn play(text: &str) -> String {
    let net = Net::with_membership(membership(&[NodeId(1)], &[]), 1);
    let mut player = Player { net, out: Vec::new() };
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            player.say(line.to_owned());
            player.command(command);
        } else if line.is_empty() || line.starts_with('#') {
            player.say(line.to_owned());
        }
    }
    assert!(player.net.checks.reigns() > 0, "a scenario in which nobody ever led shows nothing");
    player.out.join("\n") + "\n"
}

#[expect(clippy::disallowed_methods, reason = "a test's own switch; core never reads it")]
fn updating() -> bool {
    std::env::var("QUORATE_UPDATE_SCENARIOS").is_ok()
}

fn check(name: &str, text: &str) {
    let played = play(text);
    if played == text {
        return;
    }
    if updating() {
        let path = format!("{}/src/raft/tests/scenarios/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, played).expect("the file can be written");
        return;
    }
    let lines = played.lines().zip(text.lines()).enumerate();
    let (at, (now, written)) = lines.into_iter().find(|(_, (a, b))| a != b).unwrap_or_default();
    panic!("{name}.txt, line {}:\nwritten: {written}\nhappens: {now}\n\n{played}", at + 1);
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name), include_str!(concat!("scenarios/", stringify!($name), ".txt")));
        })*

        #[test]
        fn every_transcript_is_played() {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/raft/tests/scenarios");
            let files = std::fs::read_dir(folder).expect("the folder can be read");
            let names = files.map(|f| f.expect("an entry").file_name().to_string_lossy().into_owned());
            let written: std::collections::BTreeSet<String> = names.collect();
            let played = [$(concat!(stringify!($name), ".txt")),*].map(str::to_owned);
            assert_eq!(written, played.into_iter().collect());
        }
    };
}

scenarios! {
    adding_a_voter
    crash_while_writing
    damaged
    demotion
    diverging_logs
    election
    joint_inherited
    leader_removes_itself
    lower_term_pre_vote
    membership_reverted
    read_index
    removal_interrupted
    replication
    restart_of_all
    returning_node
    slow_disk
    snapshot
    split_vote
    stale_leader
    tie_breaker
    tie_breaker_moves
    transfer
    transfer_fails
    two_nodes
}
