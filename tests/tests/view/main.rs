//! The page of a simulated run, in a real browser: what it shows, and what a person can do with it.
//!
//! The script beside this file looks at it; here the runs are made. Pictures lie in `target/pages`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quorate_tests::binary::{simulator, simulator_with_faults};
use quorate_tests::drivers::{Browser, browser};
use serde_json::json;

/// Looking at a page takes some ten seconds, and on a busy machine no longer than this: who waits for a page
/// that does nothing any more learns it.
const SECONDS_MAX: u32 = 240;
/// Among so many seeds there is one that is wanted.
const SEEDS_MAX: u32 = 1_000;

/// A run that was made a page.
struct Shown {
    page: PathBuf,
    /// What was said of it.
    said: String,
}

fn pages() -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pages");
    fs::create_dir_all(&dir).expect("a directory");
    dir.canonicalize().expect("a path")
}

fn said(binary: &Path, args: &[&str]) -> String {
    let output = Command::new(binary).args(args).output().expect("the simulator runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn shown(binary: &Path, name: &str, args: &[&str]) -> Shown {
    let page = pages().join(format!("{name}.html"));
    let file = page.to_string_lossy().into_owned();
    let said = said(binary, &[&["run", "--html", &file], args].concat());
    assert!(page.exists(), "{said}");
    Shown { page, said }
}

/// Lets the browser look at a page; `least` is how many events it must hold.
fn look(name: &str, shown: &Shown, violation: Option<&str>, least: usize) {
    let Browser { node, script, chromium } = browser("page.mjs");
    let expected = json!({
        "hosts": 2, "violation": violation, "least": least,
        "chromium": chromium, "seconds": SECONDS_MAX,
    })
    .to_string();
    let mut child = Command::new(node)
        .arg(script)
        .args([&shown.page, &pages()])
        .arg(name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node runs");
    child.stdin.take().expect("a pipe").write_all(expected.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    print!("{text}");
}

/// How many events the line about a run names.
fn events(said: &str) -> usize {
    let count = said.split(" events in ").next().and_then(|head| head.rsplit(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no events: {said}"))
}

/// The first seed from `from` on that is wanted, by what is said of its run.
fn seed(from: u32, wanted: impl Fn(&str) -> bool) -> String {
    let seeds = (from..from + SEEDS_MAX).map(|seed: u32| seed.to_string());
    let mut seeds = seeds.filter(|seed| wanted(&said(simulator(), &["run", "--seed", seed])));
    seeds.next().expect("one of these seeds is like that")
}

#[test]
fn a_clean_run_can_be_watched() {
    let seed = seed(0, |said| events(said) > 20_000 && !said.contains("FAILED"));
    let shown = shown(simulator(), "clean", &["--seed", &seed]);
    look("clean", &shown, None, 20_000);
}

#[test]
fn the_page_of_a_broken_run_opens_where_it_broke() {
    let found = said(simulator_with_faults(), &["mutants", "--fault", "commit-old-term"]);
    let row = found.lines().find(|line| line.starts_with("commit-old-term"));
    let words: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    let [_, seed, .., invariant] = words.as_slice() else { panic!("not found: {found}") };
    let args = ["--seed", seed, "--fault", "commit-old-term"];
    let shown = shown(simulator_with_faults(), "broken", &args);
    assert!(shown.said.contains(invariant), "{}", shown.said);
    look("broken", &shown, Some(invariant), 100);
}

/// How long a frame takes is said, and not judged: that depends on the machine.
#[test]
fn a_page_of_two_hundred_thousand_events_can_be_used() {
    // So many are rare: this one is, as long as plans are drawn as they are.
    let seed = seed(1_318, |said| events(said) > 200_000 && !said.contains("FAILED"));
    let shown = shown(simulator(), "large", &["--seed", &seed]);
    let size = fs::metadata(&shown.page).expect("it is there").len();
    let each = size / events(&shown.said) as u64;
    assert!(each < 150, "{each} bytes for each event");
    look("large", &shown, None, 200_000);
}

#[test]
fn a_recording_changes_nothing() {
    for seed in ["0", "1", "2", "3", "4", "5"] {
        let plain = said(simulator(), &["run", "--seed", seed]);
        let recorded = shown(simulator(), &format!("seed-{seed}"), &["--seed", seed]);
        assert!(recorded.said.ends_with(&plain), "{plain}{}", recorded.said);
    }
}
