//! What was durable and has rotted, vanished or been exchanged is told, never silently shortened;
//! and whatever the files hold, nothing panics.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use quorate_core::raft::{Entry, Index, Payload};
use quorate_core::{LogId, Recovered, StorageOp, Term};

use super::super::directory::open_log;
use super::super::item::Batch;
use super::super::log::read_only;
use super::model::{Step, batches, history, play};
use super::world::{Dice, World};
use super::{Opened, StoreError, append, log_dir, open, segments, small};

/// A directory with several segments, closed in good order or left as a crash leaves it, and the
/// states that may be found in it while nothing has rotted.
fn written(history: &[Vec<Step>], close: bool) -> (World, Vec<Recovered>) {
    let world = World::new();
    let mut opened = open(&world, &small()).expect("sound");
    let (ops, states) = play(&opened.recovered, history);
    for (at, batch) in ops.iter().enumerate() {
        if at == history.len() / 2 {
            opened = open(&world, &small()).expect("sound");
        }
        append(&mut opened.log, batch).expect("sound");
    }
    if close {
        opened.log.seal(true).expect("sound");
        return (world, states[states.len() - 1..].to_vec());
    }
    (world, states[states.len() - 2..].to_vec())
}

#[derive(Default, Debug)]
struct Outcomes {
    harmless: u64,
    told: u64,
    refused: u64,
}

impl Outcomes {
    /// Opens a tampered directory and checks that no loss is silent, now and at the next start.
    fn check(&mut self, world: &World, allowed: &[Recovered], what: &str) {
        let read = read_only(world, &log_dir());
        let opened = match open(world, &small()) {
            Ok(opened) => opened,
            Err(StoreError::IdentityUnreadable { .. } | StoreError::WrongLog { .. }) => {
                assert!(open(world, &small()).is_err(), "{what}: refused once, then not");
                self.refused += 1;
                return;
            }
            Err(error) => panic!("{what}: {error}"),
        };
        let found = &opened.recovered;
        let read = read.expect(what).expect("there is a log");
        assert!(&read.0 == found, "{what}: a reader sees something else");
        if allowed.contains(found) {
            self.harmless += 1;
        } else {
            self.told += 1;
            assert!(!opened.findings.is_empty(), "{what}: silent");
            assert_told(&opened, allowed, what);
        }
        // It is told again, also when the node has gone on writing.
        let mut log = opened.log;
        let start = StorageOp::Identity(found.identity.clone());
        append(&mut log, &[start]).expect(what);
        drop(log);
        let again = open(world, &small()).expect(what);
        assert!(&again.recovered == found, "{what}: something else at the next start");
    }
}

/// Every part is as it was, or said to be damaged. A log of which nothing is left may be missing
/// if it cannot be told which logs are hit, and then the configuration log is damaged.
fn assert_told(opened: &Opened, allowed: &[Recovered], what: &str) {
    let found = &opened.recovered;
    let damaged = |log: &LogId| found.logs.get(log).is_some_and(|held| held.damaged);
    let unknown = opened.findings.iter().any(|finding| finding.logs.is_none());
    assert!(!unknown || damaged(&LogId::CONFIGURATION), "{what}: which logs is not known");
    let is_told = allowed.iter().any(|state| {
        let mut logs = state.logs.keys().chain(found.logs.keys());
        let same_logs = logs.all(|log| match found.logs.get(log) {
            Some(held) => held.damaged || state.logs.get(log) == Some(held),
            None => unknown,
        });
        let same_peers = found.peer_starts == state.peer_starts || damaged(&LogId::CONFIGURATION);
        found.identity == state.identity && same_logs && same_peers
    });
    assert!(is_told, "{what}: a loss is not told");
}

#[test]
fn one_rotten_byte_anywhere_is_harmless_or_told() {
    for (close, seed) in [(true, 21), (false, 22), (true, 23), (false, 24)] {
        let (world, allowed) = written(&history(seed, 24), close);
        let mut outcomes = Outcomes::default();
        for path in segments(&world) {
            for at in (0..world.content(&path).len()).step_by(61) {
                let rotten = world.copy();
                rotten.tamper(&path, |bytes| bytes[at] ^= 0x10);
                let what = format!("byte {at} of {}, closed: {close}", path.display());
                outcomes.check(&rotten, &allowed, &what);
            }
        }
        let Outcomes { harmless, told, refused } = outcomes;
        assert!(harmless > 0 && told > 0 && refused > 0, "not every case was met: {outcomes:?}");
    }
}

#[test]
fn a_lost_or_misplaced_block_is_harmless_or_told() {
    let (world, allowed) = written(&history(31, 30), true);
    let mut outcomes = Outcomes::default();
    for path in segments(&world) {
        let blocks = world.content(&path).len() / 4096;
        for block in 0..blocks {
            let range = block * 4096..(block + 1) * 4096;
            let lost = world.copy();
            lost.tamper(&path, |bytes| bytes[range.clone()].fill(0));
            outcomes.check(&lost, &allowed, &format!("block {block} of {path:?} zeroed"));
            // A newest segment without its tail and seal looks like one that never had them,
            // unless it is shorter than it was born.
            if Some(&path) != segments(&world).last() || range.start < 8192 {
                let cut = world.copy();
                cut.tamper(&path, |bytes| bytes.truncate(range.start));
                outcomes.check(&cut, &allowed, &format!("{path:?} cut at block {block}"));
            }
            let misplaced = world.copy();
            misplaced.tamper(&path, |bytes| bytes.copy_within(range, (blocks / 2) * 4096));
            outcomes.check(&misplaced, &allowed, &format!("block {block} of {path:?} copied"));
        }
    }
    assert!(outcomes.harmless > 0 && outcomes.told > 0, "{outcomes:?}");
}

#[test]
fn a_missing_or_exchanged_segment_is_told() {
    // Some that a checkpoint keeps among them, and some that it made superfluous in between.
    let interesting = |world: &World| {
        let paths = segments(world);
        let numbers: Vec<u64> = paths.iter().map(|path| number(path)).collect();
        paths.len() >= 4 && numbers.windows(2).any(|pair| pair[1] > pair[0] + 1)
    };
    let mut runs = (41..200).map(|seed| written(&history(seed, 60), true));
    let (world, allowed) = runs.find(|(world, _)| interesting(world)).expect("one of them");
    let paths = segments(&world);
    let mut outcomes = Outcomes::default();
    for path in &paths {
        let missing = world.copy();
        missing.vanish(path);
        outcomes.check(&missing, &allowed, &format!("{path:?} is missing"));
        for other in paths.iter().filter(|other| *other != path) {
            let exchanged = world.copy();
            let content = world.content(other);
            exchanged.tamper(path, |bytes| bytes.clone_from(&content));
            outcomes.check(&exchanged, &allowed, &format!("{path:?} holds {other:?}"));
        }
    }
    assert_eq!(outcomes.harmless, 0, "{outcomes:?}");
}

#[test]
fn a_segment_of_an_earlier_time_in_its_place_is_told() {
    // The newest segment as it was before its last frames, as a restored snapshot of one file has
    // it, is what a torn write looks like, unless the seal or a later segment proves otherwise.
    let (world, allowed) = written(&history(51, 40), true);
    let mut outcomes = Outcomes::default();
    let paths = segments(&world);
    for path in &paths[..paths.len() - 1] {
        let content = world.content(path);
        let mut blocks = (0..content.len()).step_by(4096).rev();
        let is_frame = |at: &usize| content[*at..].starts_with(b"QFR1");
        let last = blocks.by_ref().filter(is_frame).nth(1).expect("the last but one");
        let early = world.copy();
        early.tamper(path, |bytes| bytes[last..].fill(0));
        outcomes.check(&early, &allowed, &format!("{path:?} ends early"));
    }
    assert!(outcomes.harmless == 0 && outcomes.told > 0, "{outcomes:?}");
}

fn number(path: &Path) -> u64 {
    let name = path.file_stem().and_then(|name| name.to_str()).expect("a segment's name");
    u64::from_str_radix(name, 16).expect("hexadecimal")
}

fn entry(log: u64, index: u64, fill: u8) -> Vec<StorageOp> {
    let payload = Payload::Data(Bytes::from(vec![fill; 100]));
    let entry = Entry { index: Index(index), term: Term(1), payload };
    vec![StorageOp::Append { log: LogId(log), entries: vec![entry] }]
}

/// Where a byte that occurs in only one frame lies.
fn position_of(world: &World, fill: u8) -> (PathBuf, usize) {
    for path in segments(world) {
        let content = world.content(&path);
        if let Some(at) = content.windows(60).position(|w| w.iter().all(|b| *b == fill)) {
            return (path, at);
        }
    }
    panic!("no run of {fill}");
}

fn three_entries(close: bool) -> World {
    let world = World::new();
    let mut opened = open(&world, &small()).expect("sound");
    append(&mut opened.log, &entry(1, 1, 0x51)).expect("sound");
    append(&mut opened.log, &entry(2, 1, 0x52)).expect("sound");
    append(&mut opened.log, &entry(1, 2, 0x53)).expect("sound");
    if close {
        opened.log.seal(true).expect("sound");
    }
    world
}

fn rot(world: &World, fill: u8) {
    let (path, at) = position_of(world, fill);
    world.tamper(&path, |bytes| bytes[at + 30] = 0);
}

#[test]
fn an_unreadable_frame_in_the_middle_damages_only_the_logs_it_changed() {
    let world = three_entries(false);
    rot(&world, 0x52);
    let found = open(&world, &small()).expect("the identity is readable");
    assert_eq!(found.findings.len(), 1);
    assert_eq!(found.findings[0].logs, Some(vec![LogId(2)]));
    assert!(found.recovered.logs[&LogId(2)].damaged);
    assert!(!found.recovered.logs[&LogId(1)].damaged);
    assert_eq!(found.recovered.logs[&LogId(1)].entries.len(), 2);
}

#[test]
fn an_unreadable_last_frame_is_torn_without_a_seal_and_damage_with_one() {
    for close in [false, true] {
        let world = three_entries(close);
        rot(&world, 0x53);
        let found = open(&world, &small()).expect("the identity is readable");
        assert_eq!(found.findings.is_empty(), !close);
        assert_eq!(found.recovered.logs[&LogId(1)].damaged, close);
        assert_eq!(found.recovered.logs[&LogId(1)].entries.len(), 1);
    }
}

#[test]
fn when_it_cannot_be_told_which_logs_are_hit_all_are_and_those_made_later_too() {
    let world = three_entries(false);
    let mut opened = open(&world, &small()).expect("sound");
    let newer = StorageOp::Identity(opened.recovered.identity.clone());
    append(&mut opened.log, &[newer]).expect("sound");
    let (path, at) = position_of(&world, 0x52);
    // The header of the frame, at the start of its block.
    world.tamper(&path, |bytes| bytes[at / 4096 * 4096 + 50] ^= 1);
    let mut opened = open(&world, &small()).expect("a later identity is there");
    assert_eq!(opened.findings[0].logs, None);
    append(&mut opened.log, &entry(7, 1, 0x57)).expect("sound");
    let found = open(&world, &small()).expect("a later identity is there").recovered;
    for log in [LogId::CONFIGURATION, LogId(1), LogId(7)] {
        assert!(found.logs[&log].damaged, "{log:?}");
    }
}

#[test]
fn a_whole_frame_that_cannot_be_decoded_is_damage_even_at_the_end() {
    let world = three_entries(false);
    // Written by a later version: an operation that this one does not know.
    let mut opened = open(&world, &small()).expect("sound");
    let mut batch = Batch::encode(&entry(1, 3, 0x54)).expect("it keeps the contract");
    batch.bytes[8] = 9;
    let crc = crc32c::crc32c(&batch.bytes[8..]);
    batch.bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    opened.log.append(&batch).expect("sound");
    let found = open(&world, &small()).expect("the identity is readable");
    assert_eq!(found.findings.len(), 1);
    assert!(found.recovered.logs[&LogId(1)].damaged);
    assert!(!found.recovered.logs[&LogId(2)].damaged);
}

#[test]
fn a_frame_that_a_segment_was_born_with_is_never_torn() {
    // Opening carries the unproven last frame over; nothing is written behind it, no seal.
    let world = three_entries(false);
    drop(open(&world, &small()).expect("sound"));
    let newest = segments(&world).pop().expect("there is one");
    world.tamper(&newest, |bytes| {
        let at = bytes.windows(60).position(|w| w.iter().all(|b| *b == 0x53));
        bytes[at.expect("it was carried over")] = 0;
    });
    let found = open(&world, &small()).expect("the identity is readable").recovered;
    assert!(found.logs[&LogId(1)].damaged);
}

#[test]
fn a_segment_of_a_clone_of_the_directory_is_told() {
    let world = three_entries(true);
    let clone = world.copy();
    for (world, fill) in [(&world, 0x61), (&clone, 0x62)] {
        for index in 3..5 {
            let mut opened = open(world, &small()).expect("sound");
            append(&mut opened.log, &entry(1, index, fill)).expect("sound");
            opened.log.seal(true).expect("sound");
        }
    }
    let paths = segments(&world);
    assert_eq!(paths, segments(&clone));
    for path in &paths[1..] {
        let mixed = world.copy();
        mixed.tamper(path, |bytes| *bytes = clone.content(path));
        match open(&mixed, &small()) {
            Err(StoreError::IdentityUnreadable { .. }) => {}
            Err(error) => panic!("{error}"),
            Ok(found) => assert!(found.recovered.logs[&LogId(1)].damaged, "{path:?}"),
        }
    }
}

#[test]
fn dropping_the_damaged_log_heals_it_and_lets_checkpoints_go_on() {
    let world = three_entries(true);
    rot(&world, 0x52);
    let mut opened = open(&world, &small()).expect("the identity is readable");
    let first = segments(&world)[0].clone();
    for index in 3..60 {
        append(&mut opened.log, &entry(1, index, 1)).expect("sound");
    }
    assert!(segments(&world).contains(&first), "the evidence was removed");
    append(&mut opened.log, &[StorageOp::DropLog { log: LogId(2) }]).expect("sound");
    assert!(!open(&world, &small()).expect("sound").recovered.logs.contains_key(&LogId(2)));
    let mut opened = open(&world, &small()).expect("sound");
    for index in 60..120 {
        append(&mut opened.log, &entry(1, index, 1)).expect("sound");
    }
    assert!(!segments(&world).contains(&first), "no checkpoint was made");
    let found = open(&world, &small()).expect("sound");
    assert_eq!(found.findings, []);
    assert_eq!(found.recovered.logs[&LogId(1)].entries.len(), 119);
}

#[test]
fn what_was_healed_is_not_found_damaged_again_in_a_segment_that_is_full_of_another_log() {
    let world = World::new();
    let mut opened = open(&world, &small()).expect("sound");
    append(&mut opened.log, &entry(2, 1, 0x52)).expect("sound");
    let payload = Payload::Data(Bytes::from(vec![1; 15 << 10]));
    let big = Entry { index: Index(1), term: Term(1), payload };
    let op = StorageOp::Append { log: LogId(1), entries: vec![big.clone()] };
    append(&mut opened.log, &[op]).expect("sound");
    opened.log.seal(true).expect("sound");
    drop(opened);
    rot(&world, 0x52);
    let first = segments(&world)[0].clone();
    let mut opened = open(&world, &small()).expect("the identity is readable");
    assert!(opened.recovered.logs[&LogId(2)].damaged);
    append(&mut opened.log, &[StorageOp::DropLog { log: LogId(2) }]).expect("sound");
    append(&mut opened.log, &entry(2, 1, 0x53)).expect("sound");
    // The others become worth a checkpoint; the first stays full of what log 1 needs.
    for _ in 0..40 {
        let passing = [entry(3, 1, 3), vec![StorageOp::DropLog { log: LogId(3) }]].concat();
        append(&mut opened.log, &passing).expect("sound");
    }
    drop(opened);
    for _ in 0..3 {
        let found = open(&world, &small()).expect("sound").recovered;
        assert!(!found.logs[&LogId(2)].damaged, "it was healed");
        assert_eq!(found.logs[&LogId(2)].entries.len(), 1);
        assert_eq!(found.logs[&LogId(1)].entries, std::slice::from_ref(&big));
    }
    assert!(!segments(&world).contains(&first), "no checkpoint was made");
}

#[test]
fn an_unreadable_identity_is_an_error_and_changes_nothing() {
    let world = World::new();
    let mut opened = open(&world, &small()).expect("sound");
    let mut identity = opened.recovered.identity.clone();
    identity.name = Some("\u{71}".repeat(64));
    append(&mut opened.log, &[StorageOp::Identity(identity)]).expect("sound");
    opened.log.seal(true).expect("sound");
    rot(&world, 0x71);
    let before = world.counts();
    let error = open(&world, &small()).err().expect("the newest identity is lost");
    assert!(matches!(error, StoreError::IdentityUnreadable { .. }), "{error}");
    assert!(error.to_string().contains("quorate start --new-identity"), "{error}");
    assert_eq!(world.counts(), before);
}

#[test]
fn a_log_of_another_node_is_refused() {
    let (one, other) = (three_entries(true), three_entries(true));
    let path = segments(&one)[0].clone();
    let content = other.content(&path);
    one.tamper(&path, |bytes| bytes.clone_from(&content));
    let error = open(&one, &small()).err().expect("FORMAT names another node");
    assert!(matches!(error, StoreError::WrongLog { found: Some(_), .. }), "{error}");
    one.vanish(&log_dir());
    let error = open(&one, &small()).err().expect("a log that has gone is not a new node");
    assert!(matches!(error, StoreError::WrongLog { found: None, .. }), "{error}");
}

#[test]
fn a_format_of_the_future_is_refused() {
    let world = three_entries(true);
    let path = Path::new("/data/FORMAT");
    world.tamper(path, |bytes| *bytes = b"quorate 2\nnode x\n".to_vec());
    let error = open(&world, &small()).err().expect("version 2");
    assert!(matches!(&error, StoreError::Format { found, .. } if found == "quorate 2"), "{error}");
}

#[test]
fn a_copy_of_the_log_inside_an_entry_is_not_taken_for_frames() {
    // The last frame is torn, and behind its header lie blocks that were frames elsewhere.
    let world = three_entries(false);
    let copied = world.content(&segments(&world)[0]);
    let mut opened = open(&world, &small()).expect("sound");
    let mut aligned = 0;
    for shift in 0..16 {
        let data = [vec![0; 4096 - 96 + shift], copied.clone()].concat();
        let payload = Payload::Data(Bytes::from(data));
        let entry = Entry { index: Index(1), term: Term(1), payload };
        let op = StorageOp::Append { log: LogId(9), entries: vec![entry] };
        append(&mut opened.log, &[op]).expect("sound");
        let torn = world.copy();
        let (path, at) = position_of_last_frame(&torn, LogId(9));
        let behind = &torn.content(&path)[at..];
        aligned += behind.chunks(4096).filter(|block| block.starts_with(b"QRTSEG")).count();
        torn.tamper(&path, |bytes| bytes[at + 70] ^= 1);
        assert_eq!(open(&torn, &small()).expect("sound").findings, []);
    }
    assert!(aligned > 0, "no copy came to lie on blocks");
}

/// The last block of the newest segment that begins like a frame changing `log` alone.
fn position_of_last_frame(world: &World, log: LogId) -> (PathBuf, usize) {
    let path = segments(world).pop().expect("there is one");
    let content = world.content(&path);
    let blocks = (0..content.len()).step_by(4096).rev();
    let at = blocks.into_iter().find(|at| {
        content[*at..].starts_with(b"QFR1") && content[at + 64..at + 72] == log.0.to_le_bytes()
    });
    (path, at.expect("the frame is there"))
}

/// Where the seal at the end of the newest segment stands: all before it is proven.
fn position_of_seal(world: &World) -> (PathBuf, usize) {
    let path = segments(world).pop().expect("there is one");
    let content = world.content(&path);
    let mut blocks = (0..content.len()).step_by(4096).rev();
    let at = blocks.find(|at| content[*at..].starts_with(b"QFR1"));
    (path, at.expect("it was closed in good order"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn many_rotten_places_are_harmless_or_told(
        history in batches(),
        seed in any::<u64>(),
        places in 1..6usize,
    ) {
        let (world, allowed) = written(&history, true);
        let (newest, seal) = position_of_seal(&world);
        let paths = segments(&world);
        let mut dice = Dice(seed);
        let mut outcomes = Outcomes::default();
        for _ in 0..20 {
            let rotten = world.copy();
            let mut what = String::new();
            for _ in 0..places {
                let path = &paths[dice.below(paths.len())];
                rotten.tamper(path, |bytes| {
                    let bound = if *path == newest { seal } else { bytes.len() };
                    let at = dice.below(bound);
                    let end = (at + 1 + dice.below(64)).min(bound);
                    what += &format!("{path:?} {at}..{end}; ");
                    for byte in &mut bytes[at..end] {
                        *byte ^= 1 << dice.below(8);
                    }
                });
            }
            outcomes.check(&rotten, &allowed, &what);
        }
    }

    #[test]
    fn arbitrary_files_never_panic(
        content in prop::collection::vec(any::<u8>(), 0..20_000),
        keep in 0..20_000usize,
        which in any::<prop::sample::Index>(),
    ) {
        let (world, _) = written(&history(61, 12), true);
        let paths = segments(&world);
        world.tamper(which.get(paths.as_slice()).as_path(), |bytes| {
            bytes.truncate(keep.min(bytes.len()));
            bytes.extend_from_slice(&content);
        });
        if let Ok((_, findings)) = open_log(Arc::new(world.clone()), Path::new("/data"), small()) {
            prop_assert!(findings.iter().all(|finding| !finding.to_string().is_empty()));
        }
    }
}
