//! The simulator as a command: its campaign is clean, and it would not be if core were wrong. Nor would
//! the model checker find nothing, whose small worlds are searched in its own tests.

use std::path::Path;
use std::process::{Command, Output};

use quorate_tests::binary::{model_with_faults, quorate, simulator, simulator_with_faults};

/// The names by which the deliberate faults are chosen.
const FAULTS: [&str; 37] = [
    "send-before-persist",
    "commit-old-term",
    "single-step-change",
    "tie-break-at-odd-sizes",
    "tie-breaker-from-document",
    "learner-counted",
    "vote-forgotten",
    "membership-not-reverted",
    "removal-without-quorum",
    "founder-does-not-persist",
    "online-before-caught-up",
    "answer-before-commit",
    "open-over-a-term",
    "execute-before-own-term",
    "write-quorum-of-the-living",
    "status-decides-the-vote",
    "shard-founded-twice",
    "static-owner-reassigned",
    "replica-counted",
    "compacted-past-synced",
    "old-copy-put-aside-first",
    "delta-from-diverged-history",
    "brought-unsealed",
    "imported-at-each-start",
    "sessions-lost-in-a-full-copy",
    "expired-session-executed",
    "duplicate-in-the-open-batch",
    "sessions-lost-in-a-delta",
    "session-of-another-cluster",
    "retry-with-a-new-sequence",
    "shown-ignored",
    "interactive-over-a-term",
    "interactive-without-a-limit",
    "older-layout-accepted",
    "read-index-skipped",
    "token-ignored-after-switch",
    "reply-of-an-earlier-connection",
];

fn run(binary: &Path, arguments: &[&str]) -> Output {
    Command::new(binary).args(arguments).output().expect("the binary runs")
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

#[test]
fn the_campaign_of_seeds_0_to_2500_is_clean() {
    let output = run(simulator(), &["campaign", "--seeds", "0..2500"]);
    println!("{}", said(&output));
    assert!(output.status.success(), "{}", said(&output));
}

/// Four hundred worlds, each twice, event by event the same.
#[test]
fn worlds_run_the_same_way_twice() {
    let output = run(simulator(), &["campaign", "--seeds", "2500..2900", "--twice"]);
    println!("{}", said(&output));
    assert!(output.status.success(), "{}", said(&output));
}

/// What a profile leaves are worlds like any other.
#[test]
fn campaigns_of_one_kind_of_faults_are_clean() {
    for profile in ["crash", "partition", "disk", "churn", "client"] {
        let output = run(simulator(), &["campaign", "--seeds", "0..60", "--profile", profile]);
        assert!(output.status.success(), "{profile}: {}", said(&output));
    }
}

#[test]
fn every_deliberate_fault_is_found() {
    let output = run(simulator_with_faults(), &["mutants"]);
    let table = said(&output);
    println!("{table}");
    assert!(output.status.success(), "{table}");
    for fault in FAULTS {
        let line = table.lines().find(|line| line.starts_with(fault));
        let line = line.unwrap_or_else(|| panic!("{fault} was not tried:\n{table}"));
        assert!(!line.to_lowercase().contains("not found"), "{line}");
    }
}

/// Runs that break an invariant by a deliberate fault are shrunk to a few faults and orders, which break the same
/// by it and none without it.
#[test]
fn failing_runs_are_shrunk_to_less_than_twenty_faults_and_orders() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = |path: &Path| path.to_str().expect("a path of this test's").to_owned();
    for fault in ["commit-old-term", "single-step-change", "static-owner-reassigned"] {
        // What a seed means changes with the simulator: it is looked for.
        let table = said(&run(simulator_with_faults(), &["mutants", "--fault", fault]));
        let row = table.lines().find(|line| line.starts_with(fault));
        let seed = row.and_then(|row| row.split_whitespace().nth(1));
        let seed = seed.unwrap_or_else(|| panic!("{fault} was not found:\n{table}"));
        let file = text(&directory.path().join(fault));
        let shrunk = run(
            simulator_with_faults(),
            &["shrink", "--seed", seed, "--fault", fault, "--out", &file],
        );
        let report = said(&shrunk);
        assert!(shrunk.status.success(), "{report}");
        println!("{}", report.lines().find(|line| line.contains("are left")).unwrap_or_default());
        let case: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&file).expect("it was written"))
                .expect("it is JSON");
        let left = case["schedule"].as_array().map_or(usize::MAX, Vec::len);
        assert!(left < 20, "{left} are left: {report}");
        assert!(report.contains("#[test]") && report.contains("Case::parse"), "{report}");
        let broken = run(simulator_with_faults(), &["run", "--case", &file, "--fault", fault]);
        assert_eq!(broken.status.code(), Some(1), "{}", said(&broken));
        assert!(said(&broken).contains("FAILED"), "{}", said(&broken));
        let sound = run(simulator(), &["run", "--case", &file]);
        assert!(sound.status.success(), "{}", said(&sound));
    }
}

#[test]
fn a_case_that_cannot_be_run_is_refused_with_what_is_wrong() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("case.json");
    for (text, word) in [
        ("{\"seed\": 1}", "schedule"),
        ("{\"seed\": 1, \"schedule\": [], \"without_hosts\": [99]}", "without_hosts names 99"),
        ("{\"seed\": 1, \"schedule\": [], \"profile\": \"wind\"}", "wind"),
    ] {
        std::fs::write(&file, text).expect("it is written");
        let output = run(simulator(), &["run", "--case", file.to_str().expect("a path")]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(word), "{}", said(&output));
    }
    let neither = run(simulator(), &["shrink"]);
    assert_eq!(neither.status.code(), Some(2), "{}", said(&neither));
}

/// Of the faults of the consensus machine those that a log shows by itself.
#[test]
fn the_model_checker_finds_each_fault_of_a_log() {
    let output = run(model_with_faults(), &["mutants"]);
    let table = said(&output);
    println!("{table}");
    assert!(output.status.success(), "{table}");
    assert_eq!(table.lines().count(), 9, "a line a fault, and the head: {table}");
}

#[test]
fn what_is_shipped_knows_no_deliberate_fault() {
    let output = run(simulator(), &["run", "--seed", "1", "--fault", "vote-forgotten"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for binary in [quorate(), simulator()] {
        let bytes = std::fs::read(binary).expect("the binary can be read");
        for fault in FAULTS {
            let found = bytes.windows(fault.len()).any(|window| window == fault.as_bytes());
            assert!(!found, "{} contains the name {fault}", binary.display());
        }
    }
    // The same search does find them where they are.
    let bytes = std::fs::read(simulator_with_faults()).expect("the binary can be read");
    let known = |fault: &str| bytes.windows(fault.len()).any(|w| w == fault.as_bytes());
    assert!(FAULTS.into_iter().all(known));
}
