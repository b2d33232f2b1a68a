//! The directory itself: one process at a time, moving aside, the ways the command line uses it.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use quorate_core::raft::{Entry, Index, Payload};
use quorate_core::{LogId, PersistId, StorageOp, Term};

use super::super::directory::move_aside;
use super::super::{self as store, DataDir, Options, StoreError};
use super::world::{Faults, World};
use super::{append, data_dir, segments, small};

fn ignore(_: store::Completion) {}

fn entry(index: u64) -> Vec<StorageOp> {
    let data = Bytes::from(index.to_string());
    let entry = Entry { index: Index(index), term: Term(1), payload: Payload::Data(data) };
    vec![StorageOp::Append { log: LogId::CONFIGURATION, entries: vec![entry] }]
}

#[test]
fn a_directory_that_is_half_moved_aside_is_known_for_a_nodes() {
    let temp = tempfile::tempdir().expect("a scratch directory");
    let dir = temp.path();
    std::fs::create_dir(dir.join("shards")).expect("it can be made");
    assert!(!store::is_data_dir(dir), "anybody's");
    // Killed after FORMAT has gone and before its copies have.
    std::fs::write(dir.join("MOVING"), "20260131T235959Z-5eaf00d").expect("it can be written");
    assert!(store::is_data_dir(dir));
}

#[test]
fn a_new_directory_is_private_and_keeps_its_id() {
    let temp = tempfile::tempdir().expect("a scratch directory");
    let dir = temp.path().join("a/b");
    let (store, recovered) = store::open(&dir, Options::default(), ignore).expect("sound");
    let node = recovered.identity.node;
    assert_eq!(recovered, quorate_core::Recovered::fresh(node));
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode();
    assert_eq!(mode(&dir) & 0o777, 0o700);
    assert_eq!(mode(&dir.join("log")) & 0o777, 0o700);
    assert_eq!(mode(&dir.join("FORMAT")) & 0o777, 0o600);
    drop(store);
    let (_store, again) = store::open(&dir, Options::default(), ignore).expect("sound");
    assert_eq!(again.identity.node, node);
    let other = temp.path().join("other");
    let (_store, other) = store::open(&other, Options::default(), ignore).expect("sound");
    assert_ne!(other.identity.node, node, "two directories got one id");
}

/// Plays both parts: run by the test runner it starts itself once more as the first process.
#[test]
fn a_second_process_is_refused_and_a_killed_one_loses_nothing_acknowledged() {
    const CHILD: &str = "QUORATE_TEST_STORE_CHILD";
    if let Some(dir) = std::env::var_os(CHILD) {
        write_until_killed(Path::new(&dir));
    }
    let temp = tempfile::tempdir().expect("a scratch directory");
    let name = "store::tests::directory::\
                a_second_process_is_refused_and_a_killed_one_loses_nothing_acknowledged";
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, temp.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts once more");
    let mut acknowledged = 0;
    let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
    let mut next =
        || lines.by_ref().map_while(Result::ok).find_map(|l| l.strip_prefix("done ")?.parse().ok());
    while acknowledged < 200 {
        acknowledged = next().expect("the child writes until it is killed");
    }
    let error = store::open(temp.path(), Options::default(), ignore).err().expect("it is locked");
    assert!(
        matches!(error, StoreError::Locked { holder, .. } if holder == Some(child.id())),
        "{error}"
    );
    let dir = temp.path().canonicalize().expect("it is there");
    assert!(error.to_string().contains(&dir.display().to_string()), "{error}");
    let error = store::read_only(temp.path()).expect_err("a reader is refused too");
    assert!(matches!(error, StoreError::Locked { holder: Some(_), .. }), "{error}");
    child.kill().expect("it still runs");
    child.wait().expect("it was a child");
    while let Some(more) = next() {
        acknowledged = more;
    }
    let (_store, found) = store::open(temp.path(), Options::default(), ignore).expect("sound");
    let held = found.logs[&LogId::CONFIGURATION].entries.len() as u64;
    assert!(held >= acknowledged, "{acknowledged} were acknowledged, {held} are there");
    assert!(found.logs.values().all(|log| !log.damaged));
}

fn write_until_killed(dir: &Path) -> ! {
    let say = |done: store::Completion| {
        done.result.expect("the disk is sound");
        println!("done {}", done.id.0);
    };
    let options = Options { queue_batches_max: 8, ..Options::default() };
    let (store, _) = store::open(dir, options, say).expect("the directory is new");
    for index in 1.. {
        store.submit(PersistId(index), &entry(index)).expect("the thread runs");
    }
    unreachable!("the numbers do not end")
}

#[test]
fn the_stopped_directory_is_read_appended_to_and_given_to_a_new_node() {
    let temp = tempfile::tempdir().expect("a scratch directory");
    let dir = temp.path().join("data");
    assert!(matches!(store::read_only(&dir), Err(StoreError::Absent { .. })));
    assert!(matches!(store::append_offline(&dir, &entry(1)), Err(StoreError::Absent { .. })));
    assert!(!dir.exists(), "looking made something");

    let (send, done) = channel();
    let (opened, fresh) =
        store::open(&dir, Options::default(), move |c| send.send(c).expect("heard")).expect("new");
    opened.submit(PersistId(1), &entry(1)).expect("the thread runs");
    done.recv().expect("it completes").result.expect("the disk is sound");
    drop(opened);
    store::append_offline(&dir, &entry(2)).expect("sound");
    let before: Vec<_> = std::fs::read_dir(dir.join("log")).expect("there").flatten().collect();
    let view = store::read_only(&dir).expect("sound");
    let after: Vec<_> = std::fs::read_dir(dir.join("log")).expect("there").flatten().collect();
    assert_eq!(before.len(), after.len(), "reading changed something");
    assert_eq!(view.findings, []);
    assert!(view.log_bytes > 0);
    assert_eq!(view.recovered.identity, fresh.identity);
    assert_eq!(view.recovered.logs[&LogId::CONFIGURATION].entries.len(), 2);

    std::fs::write(dir.join("token"), "secret").expect("the scratch directory takes it");
    let (node, aside) = store::new_identity(&dir).expect("sound");
    let aside = aside.expect("there was something to move");
    assert_ne!(node, fresh.identity.node);
    assert!(aside.starts_with(dir.canonicalize().expect("there").join("backup/clusters")));
    assert_eq!(std::fs::read_to_string(aside.join("token")).expect("moved"), "secret");
    let old = store::read_only(&aside).expect("a moved directory is whole");
    assert_eq!(old.recovered, view.recovered);
    let new = store::read_only(&dir).expect("sound");
    assert_eq!(new.recovered, quorate_core::Recovered::fresh(node));
}

#[test]
fn a_node_keeps_the_lock_while_its_directory_is_moved_aside() {
    let temp = tempfile::tempdir().expect("a scratch directory");
    let (opened, first) = store::open(temp.path(), Options::default(), ignore).expect("new");
    let dir = opened.close();
    let locked = || matches!(DataDir::lock(temp.path()), Err(StoreError::Locked { .. }));
    assert!(locked());
    let aside = dir.move_aside().expect("sound").expect("there was something to move");
    assert_eq!(dir.move_aside().expect("sound"), None, "nothing is left to move");
    let (opened, second) = dir.open(Options::default(), ignore).expect("sound");
    assert!(locked());
    assert_ne!(first.identity.node, second.identity.node);
    assert_eq!(store::read_only(&aside).expect("whole").recovered, first);
    drop(opened);
    assert!(!locked());
}

/// Every file that is not the store's own note, wherever it lies now.
fn contents(world: &World, dirs: &[PathBuf]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for dir in dirs {
        for name in world.names(dir).iter().filter(|n| n.ends_with(".seg") || *n == "FORMAT") {
            all.push(world.content(&dir.join(name)));
        }
    }
    all.sort();
    all
}

#[test]
fn a_crash_at_any_point_of_moving_aside_leaves_the_old_node_or_a_place_for_a_new_one() {
    let now = UNIX_EPOCH + Duration::from_secs(1_769_904_000);
    let world = World::new();
    let mut opened = super::open(&world, &small()).expect("sound");
    append(&mut opened.log, &entry(1)).expect("sound");
    opened.log.seal(true).expect("sound");
    let node = opened.recovered.identity.node;
    let before = contents(&world, &[data_dir(), data_dir().join("log")]);
    let start = world.counts().0;
    let counting = world.copy();
    let target = move_aside(&counting, &data_dir(), now).expect("sound").expect("moved");
    let expected = format!("/data/backup/clusters/20260201T000000Z-{}", node.short());
    assert_eq!(target, PathBuf::from(expected));
    let steps = counting.counts().0 - start;
    let (mut kept, mut moved) = (0, 0);
    for die_at in 0..=steps {
        for seed in 0..8 {
            let crashed = world.copy();
            crashed.set(Faults { die_at: Some(start + die_at), ..Faults::default() });
            let _ = move_aside(&crashed, &data_dir(), now);
            crashed.lose_power(seed ^ (die_at << 8));
            let opened = super::open(&crashed, &small()).expect("either is sound");
            if opened.recovered.identity.node == node {
                kept += 1;
                assert_eq!(opened.recovered.logs[&LogId::CONFIGURATION].entries.len(), 1);
            } else {
                moved += 1;
                let whole = [target.clone(), target.join("log")];
                assert_eq!(contents(&crashed, &whole), before, "stopped at change {die_at}");
                assert_eq!(segments(&crashed).len(), 1);
            }
        }
    }
    assert!(kept > 0 && moved > 0, "{kept} kept, {moved} moved");
}
