//! `quorate playground`: its nodes are killed and frozen, nothing is lost, and nothing stays behind.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use quorate_tests::{Lab, Pty, eventually};
use rustix::process::{Pid, Signal, kill_process};

const LONG: Duration = Duration::from_secs(60);

/// A directory for its scratch directory, so that it is seen whether that goes.
fn scratch(lab: &Lab) -> String {
    let path = lab.path("tmp");
    fs::create_dir_all(&path).expect("a directory");
    path.display().to_string()
}

fn is_empty(dir: &str) -> bool {
    fs::read_dir(dir).expect("it is there").next().is_none()
}

/// The processes whose command line names this directory, other than the test itself.
fn processes(dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(dir) && line.contains(" start ") {
            found.push(format!("{} {line}", entry.path().display()));
        }
    }
    found
}

/// The number before a word.
fn before(text: &str, word: &str) -> u64 {
    let words: Vec<&str> = text.split([' ', ',', ';', '\n']).filter(|w| !w.is_empty()).collect();
    let at =
        words.iter().position(|w| *w == word).unwrap_or_else(|| panic!("no '{word}' in {text}"));
    words[at - 1].parse().unwrap_or_else(|_| panic!("no number before '{word}' in {text}"))
}

#[test]
fn nodes_are_killed_frozen_stopped_and_started_and_no_write_fails_or_is_lost() {
    let lab = Lab::loopback();
    let tmp = scratch(&lab);
    let script = "wait 1; kill 2; wait 1.5; start 2; wait 2; freeze 1 4; wait 6; stop 3; wait 1.5; start 3; \
        wait 3; kill 1; wait 1; start 1; wait 3; quit";
    let args = ["playground", "--script", script];
    let (code, said, errors) = lab.run_with(1, &args, &[("TMPDIR", &tmp)], "");
    println!("{said}");
    assert_eq!(code, 0, "{said}{errors}");
    let last = said.lines().last().expect("a summary");
    assert!(before(last, "writes") > 500, "{last}");
    assert_eq!(
        (before(last, "errors"), before(last, "lost"), before(last, "done")),
        (0, 0, 0),
        "{last}"
    );
    for event in [
        "n2 is killed",
        "n2 is started again",
        "n1 is frozen for 4.0 s",
        "n1 goes on",
        "n3 is told to stop in good order",
        "n3 has left and stopped",
        "owns demo now after",
        "the writer: n",
    ] {
        assert!(said.contains(event), "{event}: {said}");
    }
    assert!(is_empty(&tmp), "its directory is gone");
    assert_eq!(processes(&tmp), Vec::<String>::new());
}

#[test]
fn writes_that_find_no_quorum_are_told_by_the_exit_code_and_nothing_is_lost() {
    let lab = Lab::loopback();
    let script = "wait 0.5; kill 1; kill 2; wait 3; start 1; start 2; wait 6; quit";
    let (code, said, errors) = lab.run_with(1, &["playground", "--script", script], &[], "");
    let last = said.lines().last().expect("a summary");
    assert_eq!((before(last, "errors"), before(last, "lost")), (0, 0), "{said}{errors}");
    // What is refused, and what is only answered late, is a matter of moments.
    let refused = before(last, "refused");
    assert_eq!(code, if refused > 0 { 4 } else { 0 }, "{said}{errors}");
}

/// Starts one that goes on for long; returns when its writer has begun.
fn running(lab: &Lab, tmp: &str) -> Child {
    let mut command = lab.command(1, &["playground", "--script", "wait 600"]);
    command.env("TMPDIR", tmp).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut playground = command.spawn().expect("it runs");
    let mut said = BufReader::new(playground.stdout.take().expect("a pipe")).lines();
    let begun = said.find(|line| line.as_ref().is_ok_and(|line| line.contains("has begun")));
    assert!(begun.is_some(), "the writer begins");
    // Nobody reads any more: that must not keep it from ending its nodes.
    playground
}

fn send(playground: &Child, signal: Signal) {
    let pid = i32::try_from(playground.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, signal).expect("a signal");
}

#[test]
fn a_signal_ends_the_nodes_and_removes_the_directory() {
    let lab = Lab::loopback();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let tmp = scratch(&lab);
        let mut playground = running(&lab, &tmp);
        assert_eq!(processes(&tmp).len(), 3);
        send(&playground, signal);
        assert_eq!(playground.wait().expect("it ends").code(), Some(130), "{signal:?}");
        assert!(is_empty(&tmp), "{signal:?}");
        assert_eq!(processes(&tmp), Vec::<String>::new(), "{signal:?}");
    }
}

#[test]
fn the_nodes_end_with_a_playground_that_is_killed() {
    let lab = Lab::loopback();
    let tmp = scratch(&lab);
    let mut playground = running(&lab, &tmp);
    assert_eq!(processes(&tmp).len(), 3);
    send(&playground, Signal::KILL);
    playground.wait().expect("it ends");
    eventually("the nodes have ended", LONG, || {
        let left = processes(&tmp);
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
}

#[test]
fn a_person_kills_and_restarts_nodes_on_the_screen() {
    let lab = Lab::loopback();
    let tmp = scratch(&lab);
    let mut command = lab.command(1, &["playground"]);
    command.env("TMPDIR", &tmp);
    let mut screen = Pty::start(command, (80, 24));
    screen.until_screen("quorate playground");
    screen.until_screen("q quit");
    screen.send("2k");
    screen.until_screen("n2 is killed");
    screen.send("k");
    screen.until_screen("n2 does not run");
    screen.send("s");
    screen.until_screen("n2 is started again");
    screen.until_screen("n2    running");
    screen.send("q");
    let ended = screen.end();
    let shown = screen.shown();
    assert!(ended.success(), "{shown}");
    let last = shown.rfind(" writes, ").expect("a summary");
    assert!(shown[last..].contains("0 errors, 0 lost"), "{}", &shown[last..]);
    assert!(is_empty(&tmp));
}

#[test]
fn a_directory_that_is_given_stays_and_one_that_is_not_empty_is_refused() {
    let lab = Lab::loopback();
    let dir = lab.path("kept").display().to_string();
    let args = ["playground", "--nodes", "1", "--dir", &dir, "--script", "wait 0.5"];
    let (code, said) = lab.run(1, &args);
    assert_eq!(code, 0, "{said}");
    assert!(Path::new(&dir).join("n1/shards").is_dir() || Path::new(&dir).join("n1/log").is_dir());
    let (code, said) = lab.run(1, &args);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains(&dir) && said.contains("not empty"), "{said}");
}

#[test]
fn a_script_that_cannot_be_followed_starts_nothing() {
    let lab = Lab::loopback();
    for (script, named) in [("dance 1", "'dance 1'"), ("kill 4", "node 4"), ("", "nothing in it")] {
        let (code, said) = lab.run(1, &["playground", "--script", script]);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(named) && !said.contains("starting"), "{said}");
    }
    let (code, said) = lab.run(1, &["playground"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("needs a terminal") && said.contains("--script"), "{said}");
}
