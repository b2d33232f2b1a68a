//! Whole copies that are interrupted, on real processes: by the end of the receiver, of the donor, and
//! of the room on the disk. What has come is kept, whoever goes on with it.
//!
//! 64 MB in every run of the tests; `INTERRUPTED_MB=1024 cargo test --release -p quorate-tests --test
//! real interrupted -- --nocapture` for the gigabyte, which an ignored test does as well.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use quorate_tests::{Door, Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::{data, post, with_database};

/// How long anything may take on a busy machine, with a gigabyte to move.
const LONG: Duration = Duration::from_secs(120);

/// `megabytes` of rows of two kilobytes, made by the database itself: what is sent is small.
fn fill(node: &Node, megabytes: u64) {
    let door = Door::to(node);
    let run = |sql: &str| {
        let answer = door.post("/db/demo/execute", &json!({ "sql": sql }));
        assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
    };
    run("CREATE TABLE big (id INTEGER PRIMARY KEY, v BLOB)");
    for _ in 0..megabytes.div_ceil(2) {
        run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
             INSERT INTO big (v) SELECT randomblob(2000) FROM n");
    }
}

/// How many rows there are, and the sum of something that each of them has.
fn content(node: &Node) -> Result<Value, String> {
    let sql = "SELECT count(*), sum(id), hex(group_concat(substr(v, 1, 1), '')) FROM big \
               WHERE id % 97 = 0";
    let (code, body) = post(node, "/db/demo/query", &json!({ "sql": sql }))?;
    if code == 200 { Ok(body["results"][0]["rows"][0].clone()) } else { Err(body.to_string()) }
}

/// All copies are online, and all have the same content.
fn whole(nodes: &[Node]) {
    eventually("all copies are online", LONG, || {
        let (_, copies) = nodes[0].get("/db/demo/copies")?;
        let online = |copy: &&Value| copy["status"] == "ONLINE" && copy["state"] == "whole";
        let count = copies.as_array().map_or(0, |all| all.iter().filter(online).count());
        if count == nodes.len() { Ok(()) } else { Err(copies.to_string()) }
    });
    for node in nodes {
        eventually(&format!("{} has all", node.name), LONG, || {
            // A local read of any of them may be a little behind what was acknowledged.
            let (held, expected) = (content(node)?, content(&nodes[0])?);
            if held == expected { Ok(()) } else { Err("it has something else".to_owned()) }
        });
    }
}

fn shard(node: &Node) -> PathBuf {
    let shards = fs::read_dir(node.data.join("shards")).expect("it has shards");
    shards.flatten().next().expect("it has one").path()
}

/// Takes the copy of a node that does not run away from it.
fn lose_copy(node: &Node) {
    for copy in fs::read_dir(shard(node)).expect("a directory").flatten() {
        fs::remove_dir_all(copy.path()).expect("removed");
    }
}

/// Bytes of a copy on its way.
fn come(node: &Node) -> u64 {
    shard(node).join("incoming/copy.sqlite").metadata().map_or(0, |file| file.len())
}

/// Waits until so many bytes have come, as closely as a process can.
fn until_come(node: &Node, bytes: u64) {
    let began = Instant::now();
    while come(node) < bytes {
        assert!(began.elapsed() < LONG, "{} of {bytes}: {}", come(node), node.log());
        std::thread::sleep(Duration::from_micros(300));
    }
}

/// The numbers that follow a name in the lines of a log that hold some words.
fn told(node: &Node, words: &str, name: &str) -> Vec<String> {
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains(words));
    let value = |line: &str| {
        let rest = line.split_once(&format!(" {name}="))?.1;
        Some(rest.split_whitespace().next()?.trim_matches('"').to_owned())
    };
    lines.filter_map(value).collect()
}

const BEGUN: &str = "a whole copy is fetched";
const DONE: &str = "a whole copy has come";

/// Bytes that have crossed the loopback of the network.
fn crossed(door: &Door) -> u64 {
    door.inside(|| {
        let text = fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
        let line = text.lines().find(|line| line.trim_start().starts_with("lo:"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
    })
}

fn goes_on_after_both_ends(megabytes: u64) {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    fill(&nodes[0], megabytes);
    whole(&nodes);
    let size = shard(&nodes[0]).join("1/copy.sqlite").metadata().map_or(0, |file| file.len());
    assert_eq!(nodes[2].stop(), 0);
    lose_copy(&nodes[2]);
    let door = Door::to(&nodes[0]);
    let before = crossed(&door);
    let began = Instant::now();
    nodes[2].start();
    until_come(&nodes[2], size / 4);
    nodes[2].kill();
    let first = come(&nodes[2]);
    assert!(first < size, "it was killed on the way");
    // Again, and now the donor ends: another one goes on.
    nodes[2].start();
    until_come(&nodes[2], first.max(size / 2) + 2_000_000);
    let donor = told(&nodes[2], BEGUN, "donor").pop().expect("it has said who gives");
    let at = nodes.iter().position(|node| node.name == donor).expect("one of them");
    nodes[at].kill();
    let second = come(&nodes[2]);
    assert!(second < size, "its donor was killed on the way");
    eventually("the copy comes from another", LONG, || {
        let done = told(&nodes[2], DONE, "donor");
        if done.is_empty() { Err(nodes[2].log()) } else { Ok(()) }
    });
    let (took, moved) = (began.elapsed(), crossed(&door) - before);
    let last = told(&nodes[2], DONE, "donor").pop().expect("it is done");
    assert_ne!(last, donor, "another one went on: {}", nodes[2].log());
    let number = |name: &str| -> u64 {
        told(&nodes[2], DONE, name).pop().and_then(|n| n.parse().ok()).expect("a number")
    };
    let (bytes, kept) = (number("bytes"), number("kept"));
    // Of what has come some chunks differ between the two donors' files: their first, at least.
    assert!(kept >= second / 10 * 9, "{kept} of {second} were kept, {bytes} in all");
    println!(
        "{:.0} MB, interrupted at {:.0} MB and by the donor's end at {:.0} MB: {:.0} MB kept of what \
         had come, {:.0} MB crossed the network in all, {:.1} s with both restarts",
        bytes as f64 / 1e6,
        first as f64 / 1e6,
        second as f64 / 1e6,
        kept as f64 / 1e6,
        moved as f64 / 1e6,
        took.as_secs_f64(),
    );
    assert!(moved < bytes + bytes / 4, "{moved} bytes crossed the network for {bytes}");
    nodes[at].start();
    whole(&nodes);
    comes_back_with_little(&mut nodes, megabytes);
}

/// A node that has missed 1,000 rows gets those, not the database.
fn comes_back_with_little(nodes: &mut [Node], megabytes: u64) {
    let copies = told(&nodes[2], DONE, "bytes").len();
    nodes[2].kill();
    for id in 0..1000 {
        let body = json!({ "sql": "INSERT INTO t VALUES (?, 1, 1)", "args": [id] });
        eventually("it is written", LONG, || {
            match post(&nodes[id % 2], "/db/demo/execute", &body)? {
                (200, _) => Ok(()),
                (400, said) if said["error"].as_str().is_some_and(|e| e.contains("UNIQUE")) => {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        });
    }
    let door = Door::to(&nodes[0]);
    let (before, began) = (crossed(&door), Instant::now());
    nodes[2].start();
    eventually("it has all rows", LONG, || {
        let (code, body) =
            post(&nodes[2], "/db/demo/query", &json!({ "sql": "SELECT count(*) FROM t" }))?;
        let held = &body["results"][0]["rows"][0][0];
        if code == 200 && *held == 1000 { Ok(()) } else { Err(body.to_string()) }
    });
    let (took, moved) = (began.elapsed(), crossed(&door) - before);
    println!(
        "back after 1,000 missed rows of {megabytes} MB: {:.0} kB crossed the network, heartbeats and \
         the looking in it, {} ms",
        moved as f64 / 1e3,
        took.as_millis()
    );
    assert!(moved < 3_000_000, "{moved} bytes");
    assert_eq!(told(&nodes[2], DONE, "bytes").len(), copies, "no whole copy was fetched");
    whole(nodes);
}

#[test]
fn a_copy_goes_on_where_it_was_when_its_receiver_and_its_donor_were_killed() {
    let megabytes = std::env::var("INTERRUPTED_MB").ok().and_then(|mb| mb.parse().ok());
    goes_on_after_both_ends(megabytes.unwrap_or(64));
}

#[test]
#[ignore = "figures: takes minutes and 5 GB of disk"]
fn figures_of_an_interrupted_copy_of_a_gigabyte() {
    goes_on_after_both_ends(1024);
}

/// A file system of its own, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None`, and says so: this user may not mount anything here.
    fn mount(at: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory");
        let options = format!("size={megabytes}m,mode=700");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &options, "quorate-test"]).arg(at);
        if command.status().is_ok_and(|status| status.success()) {
            return Some(Self(at.to_owned()));
        }
        eprintln!("SKIPPED: a tmpfs cannot be mounted here; run this test as root");
        None
    }

    fn resize(&self, megabytes: u32) {
        let options = format!("remount,size={megabytes}m");
        let resized = Command::new("mount").args(["-o", &options]).arg(&self.0).status();
        assert!(resized.is_ok_and(|status| status.success()), "it is not resized");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Free and all bytes of a file system.
fn room(at: &Path) -> (u64, u64) {
    let disk = rustix::fs::statvfs(at).expect("a file system");
    (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
}

const NO_ROOM: &str = "a copy cannot be written here";

#[test]
fn a_copy_for_which_there_is_no_room_says_so_and_comes_by_itself_once_there_is() {
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    let Some(disk) = Disk::mount(&nodes[2].data, 400) else { return };
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let (code, said) = lab.run(1, &["db", "create", "demo", "--data", &data(&nodes[0])]);
    assert_eq!(code, 0, "{said}");
    fill(&nodes[0], 48);
    whole(&nodes);
    assert_eq!(nodes[2].stop(), 0);
    lose_copy(&nodes[2]);
    // No room for all of it from the beginning.
    let (free, all) = room(&nodes[2].data);
    let used = (all - free) >> 20;
    let megabytes = |bytes: u64| u32::try_from(bytes).expect("not so large");
    disk.resize(megabytes(used + 24));
    nodes[2].start();
    eventually("it says what is missing", LONG, || {
        let (_, copies) = nodes[0].get("/db/demo/copies")?;
        let own = copies.as_array().into_iter().flatten().find(|copy| copy["server"] == "n3");
        let text = own.map(ToString::to_string).unwrap_or_default();
        if text.contains("No space left") { Ok(()) } else { Err(text) }
    });
    let log = nodes[2].log();
    assert!(log.contains(NO_ROOM) && log.contains("are free"), "{log}");
    assert!(nodes[2].is_running(), "the rest of the node goes on");
    assert_eq!(come(&nodes[2]), 0, "nothing is begun that cannot end");
    let more = json!({ "sql": "INSERT INTO big (v) VALUES (x'00')" });
    assert_eq!(post(&nodes[1], "/db/demo/execute", &more).map(|a| a.0), Ok(200));
    // There is room, and somebody else takes it while the copy comes.
    let before = told(&nodes[2], NO_ROOM, "shard").len();
    disk.resize(megabytes(used + 90));
    until_come(&nodes[2], 4_000_000);
    let hog = nodes[2].data.join("somebody-elses");
    let mut taken = fs::File::create(&hog).expect("a file");
    while told(&nodes[2], DONE, "bytes").is_empty() {
        let (free, all) = room(&nodes[2].data);
        if free <= all / 20 {
            break;
        }
        taken.write_all(&vec![1; 1 << 20]).expect("there is room for it");
    }
    let taken_in_time = eventually("it stops for want of room, or is done", LONG, || {
        let failed = told(&nodes[2], NO_ROOM, "shard").len() > before;
        let done = !told(&nodes[2], DONE, "bytes").is_empty();
        if failed || done { Ok(failed) } else { Err(nodes[2].log()) }
    });
    assert!(nodes[2].is_running(), "it never takes the room of the logs: {}", nodes[2].log());
    let had = come(&nodes[2]);
    // What is still open takes its room for as long.
    drop(taken);
    fs::remove_file(&hog).expect("removed");
    whole(&nodes);
    let kept = told(&nodes[2], DONE, "kept").pop().and_then(|kept| kept.parse::<u64>().ok());
    println!("stopped by a full disk at {had} bytes, of which {kept:?} were kept");
    let kept = kept.expect("a number");
    assert!(!taken_in_time || kept >= had / 10 * 9, "{kept} of {had}");
    let (code, said) = lab.run(1, &["verify", "demo", "--data", &data(&nodes[2])]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_disk_that_fills_while_its_node_writes_loses_nothing_and_it_goes_on_once_there_is_room() {
    fills_while_it_writes(false);
}

#[test]
fn while_the_disk_of_an_owner_is_full_the_others_write() {
    fills_while_it_writes(true);
}

fn fills_while_it_writes(others_write: bool) {
    let lab = Lab::loopback();
    let mut nodes = lab.nodes(3);
    let Some(disk) = Disk::mount(&nodes[0].data, 16) else { return };
    nodes.iter_mut().for_each(Node::start);
    lab.one_cluster(&nodes);
    let (code, said) = lab.run(1, &["db", "create", "demo", "--data", &data(&nodes[0])]);
    assert_eq!(code, 0, "{said}");
    let run = |node: &Node, sql: &str| post(node, "/db/demo/execute", &json!({ "sql": sql }));
    let made = run(&nodes[0], "CREATE TABLE big (id INTEGER PRIMARY KEY, v BLOB)");
    assert_eq!(made.map(|answer| answer.0), Ok(200));
    // Through the node whose disk fills, for as long as it takes them.
    let insert = "INSERT INTO big (v) VALUES (randomblob(300000))";
    let mut acknowledged = 0;
    while matches!(run(&nodes[0], insert), Ok((200, _))) && acknowledged < 200 {
        acknowledged += 1;
    }
    assert!(acknowledged > 3, "{acknowledged}: {}", nodes[0].log());
    let log = nodes[0].log();
    assert!(log.contains("No space left") || log.contains("disk is full"), "{log}");
    let last = "INSERT INTO big (v) VALUES (x'00')";
    if others_write {
        eventually("the others write", LONG, || match run(&nodes[1], last)? {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    let count = |node: &Node| -> Result<u64, String> {
        let sql = json!({ "sql": "SELECT count(*) FROM big WHERE length(v) = 300000" });
        let (code, body) = post(node, "/db/demo/query", &sql)?;
        let held = body["results"][0]["rows"][0][0].as_u64();
        held.filter(|_| code == 200).ok_or_else(|| body.to_string())
    };
    disk.resize(400);
    // Without room for its log a node stops, and says so; without room for a copy alone it goes on.
    std::thread::sleep(Duration::from_secs(2));
    if !nodes[0].is_running() {
        assert_eq!(nodes[0].exit_code(), 7, "{}", nodes[0].log());
        nodes[0].start();
    }
    lab.one_cluster(&nodes);
    eventually("it writes", LONG, || match run(&nodes[1], last)? {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    whole(&nodes);
    let held = count(&nodes[0]).expect("it answers");
    assert!(held >= acknowledged, "{acknowledged} were acknowledged, {held} are there");
    assert_eq!(count(&nodes[0]), count(&nodes[1]));
    let (code, said) = lab.run(1, &["verify", "demo", "--data", &data(&nodes[0])]);
    assert_eq!(code, 0, "{said}");
}
