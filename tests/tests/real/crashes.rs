//! `kill -9` of donor, receiver, owner and coordinator at random moments of writes, deltas, full
//! copies and swaps: whatever was acknowledged is there once on every copy, all copies are equal, and
//! there is a whole copy on every disk at every moment.
//!
//! Ten rounds in every run of the tests. More: `CRASH_ROUNDS=200 cargo test --release -p quorate-tests
//! --test real crashes`; `CRASH_SEED` for other moments.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;
use std::time::Duration;

use quorate_tests::{Door, Lab, Node, eventually};
use serde_json::json;

use super::databases::{data, with_database};

/// Everything has to be well again in this time after a round.
const WELL: Duration = Duration::from_secs(60);
/// Thousands of rows of some size in the database, so that a whole copy takes its time.
const THOUSANDS: usize = 8;

/// A small generator (splitmix64): the rounds are the same for the same seed, as far as processes are.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    }

    fn pause(&mut self, below_ms: u64) {
        thread::sleep(Duration::from_millis(self.roll(below_ms)));
    }
}

/// What the writers have been told.
#[derive(Default)]
struct Told {
    next: AtomicI64,
    acknowledged: Mutex<BTreeSet<i64>>,
    /// Refused for good: these must not be there.
    refused: Mutex<BTreeSet<i64>>,
    over: AtomicBool,
}

/// Writes rows through one node after the other; an id is used once, whatever comes of it.
fn write(doors: &[Door], first: usize, told: &Told) {
    let mut at = first;
    while !told.over.load(Ordering::Relaxed) {
        let id = told.next.fetch_add(1, Ordering::Relaxed);
        let body = json!({ "sql": "INSERT INTO t VALUES (?, 0, 0)", "args": [id] });
        match doors[at % doors.len()].post("/db/demo/execute", &body) {
            Ok((200, _)) => {
                told.acknowledged.lock().expect("sound").insert(id);
            }
            Ok((code, answer)) => {
                assert!(code == 503 || code == 504, "{code}: {answer}");
                if answer["outcome"] == "nothing-done" {
                    told.refused.lock().expect("sound").insert(id);
                }
                at += 1;
                thread::sleep(Duration::from_millis(20));
            }
            Err(_) => {
                at += 1;
                thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// The directories of copies that are whole by their names.
fn generations(node: &Node) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(shards) = std::fs::read_dir(node.data.join("shards")) else { return found };
    for shard in shards.flatten() {
        for copy in std::fs::read_dir(shard.path()).into_iter().flatten().flatten() {
            if copy.file_name().to_str().is_some_and(|name| name.parse::<u64>().is_ok()) {
                found.push(copy.path());
            }
        }
    }
    found
}

/// A process that has just been killed leaves a whole copy.
fn has_whole_copy(node: &Node, round: u64) {
    let whole = generations(node).into_iter().any(|dir| {
        let file = dir.join("copy.sqlite");
        let connection = rusqlite::Connection::open(file).expect("it can be opened");
        let check = connection.query_row("PRAGMA quick_check", [], |row| row.get::<_, String>(0));
        check.is_ok_and(|said| said == "ok")
    });
    assert!(whole, "round {round}: {} has no whole copy: {:?}", node.name, generations(node));
}

fn owner(nodes: &[Node]) -> Option<usize> {
    let running = nodes.iter().find_map(|node| node.get("/db").ok())?;
    let owner = running.1[0]["shards"]["main"]["owner"].as_str()?.to_owned();
    nodes.iter().position(|node| node.name == owner)
}

fn coordinator(nodes: &[Node]) -> Option<usize> {
    let view = nodes.iter().find_map(|node| node.view().ok())?;
    let name = view.coordinator_name()?.to_owned();
    nodes.iter().position(|node| node.name == name)
}

/// Whoever gives a copy at the moment.
fn donor(nodes: &[Node], receiver: usize) -> Option<usize> {
    let (_, copies) = nodes[receiver].get("/db/demo/copies").ok()?;
    let copies = copies.as_array()?;
    let donor = copies.iter().find_map(|copy| copy["progress"]["donor"].as_str())?.to_owned();
    nodes.iter().position(|node| node.name == donor)
}

fn well(lab: &Lab, nodes: &[Node], round: u64) {
    let of = data(&nodes[0]);
    eventually(&format!("round {round}: all copies are online"), WELL, || {
        let (_, list) = lab.run(1, &["db", "list", "--data", &of]);
        if list.matches("ONLINE").count() == 3 { Ok(()) } else { Err(list) }
    });
}

fn check(lab: &Lab, nodes: &[Node], told: &Told, round: u64) {
    let acknowledged = told.acknowledged.lock().expect("sound").clone();
    let refused = told.refused.lock().expect("sound").clone();
    for node in nodes {
        let door = Door::to(node);
        eventually(&format!("round {round}: {} has all", node.name), WELL, || {
            let (code, body) =
                door.post("/db/demo/query", &json!({ "sql": "SELECT id FROM t" }))?;
            let rows = body["results"][0]["rows"].as_array().cloned().unwrap_or_default();
            let held: BTreeSet<i64> = rows.iter().filter_map(|row| row[0].as_i64()).collect();
            assert_eq!(held.len(), rows.len(), "round {round}: a row is there twice");
            let undead: Vec<_> = held.intersection(&refused).collect();
            assert!(undead.is_empty(), "round {round}: refused, and done: {undead:?}");
            let missing: Vec<_> = acknowledged.difference(&held).take(5).collect();
            if code == 200 && missing.is_empty() {
                Ok(())
            } else {
                Err(format!("{code}: {} rows, without {missing:?}", held.len()))
            }
        });
    }
    let of = data(&nodes[0]);
    // The configuration may call a copy ONLINE for a moment that is not there any more.
    eventually(&format!("round {round}: all copies are equal"), WELL, || {
        let (code, said) = lab.run(1, &["verify", "demo", "--data", &of]);
        assert!(!said.contains("DIFFERENT"), "round {round}: {said}");
        if code == 0 { Ok(()) } else { Err(said) }
    });
}

/// Kills one, leaves it down for a while, and starts it again.
fn crash(nodes: &mut [Node], victim: usize, down_ms: u64, round: u64, may_lack: Option<usize>) {
    nodes[victim].kill();
    if may_lack != Some(victim) {
        has_whole_copy(&nodes[victim], round);
    }
    thread::sleep(Duration::from_millis(down_ms));
    nodes[victim].start();
}

#[test]
fn killed_at_any_moment_nothing_acknowledged_is_lost_and_a_whole_copy_is_on_every_disk() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds: u64 = number("CRASH_ROUNDS").unwrap_or(10);
    let mut dice = Dice(number("CRASH_SEED").unwrap_or(7));
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let doors: Vec<Door> = nodes.iter().map(Door::to).collect();
    let fill = "CREATE TABLE big AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                WHERE i < 1000) SELECT i, randomblob(2000) v FROM n";
    let more = "INSERT INTO big SELECT i + (SELECT max(i) FROM big), randomblob(2000) FROM big \
                WHERE i <= 1000";
    for sql in std::iter::once(fill).chain(std::iter::repeat_n(more, THOUSANDS - 1)) {
        let answer = doors[0].post("/db/demo/execute", &json!({ "sql": sql }));
        assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
    }
    let told = Told::default();
    for round in 0..rounds {
        told.over.store(false, Ordering::Relaxed);
        thread::scope(|scope| {
            for first in 0..3 {
                let (doors, told) = (&doors, &told);
                scope.spawn(move || write(doors, first, told));
            }
            dice.pause(200);
            play(&mut nodes, &mut dice, round);
            dice.pause(300);
            told.over.store(true, Ordering::Relaxed);
        });
        well(&lab, &nodes, round);
        check(&lab, &nodes, &told, round);
    }
    let (acknowledged, refused) =
        (told.acknowledged.lock().expect("sound").len(), told.refused.lock().expect("sound").len());
    println!("{rounds} rounds: {acknowledged} writes acknowledged, {refused} refused");
    assert!(acknowledged as u64 > 50 * rounds, "{acknowledged}");
}

/// What happens in one round.
fn play(nodes: &mut [Node], dice: &mut Dice, round: u64) {
    let any = usize::try_from(dice.roll(3)).expect("small");
    match round % 5 {
        // Writes: the owner, or the coordinator, or anybody.
        0 => {
            let victim = match dice.roll(3) {
                0 => owner(nodes),
                1 => coordinator(nodes),
                _ => None,
            };
            let down = dice.roll(1500);
            crash(nodes, victim.unwrap_or(any), down, round, None);
        }
        // A delta: one is away, comes back, and is killed again while it catches up, or the owner is.
        1 => {
            let down = 500 + dice.roll(1500);
            crash(nodes, any, down, round, None);
            dice.pause(800);
            let victim = if dice.roll(2) == 0 { Some(any) } else { owner(nodes) };
            let down = dice.roll(500);
            crash(nodes, victim.unwrap_or(any), down, round, None);
        }
        // A whole copy: the file of one is gone; it, or whoever gives it, is killed meanwhile.
        2 | 3 => {
            nodes[any].kill();
            has_whole_copy(&nodes[any], round);
            for dir in generations(&nodes[any]) {
                std::fs::remove_dir_all(dir).expect("it is removed");
            }
            nodes[any].start();
            dice.pause(1200);
            let victim = if round % 5 == 2 { Some(any) } else { donor(nodes, any) };
            let down = dice.roll(500);
            crash(nodes, victim.unwrap_or(any), down, round, Some(any));
        }
        // The swap of a copy that is whole for another.
        _ => {
            let body = json!({ "full": true, "force": true });
            let answer = Door::to(&nodes[any]).post("/db/demo/sync", &body);
            assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
            dice.pause(600);
            let down = dice.roll(500);
            crash(nodes, any, down, round, None);
        }
    }
}
