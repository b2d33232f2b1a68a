//! Comparing copies on real processes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_tests::{Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::{SETTLE, data, post, sql, with_database};

fn verify(lab: &Lab, node: &Node, args: &[&str]) -> (i32, String) {
    lab.run(1, &[&["verify", "demo", "--data", &data(node)], args].concat())
}

/// The files of all copies of a node.
fn copies(node: &Node) -> Vec<PathBuf> {
    let inside = |dir: PathBuf| {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let all = inside(node.data.join("shards")).into_iter().flat_map(inside);
    all.map(|dir| dir.join("copy.sqlite")).filter(|file| file.exists()).collect()
}

#[test]
fn all_copies_are_compared_at_one_lsn_while_writes_go_on_and_one_that_was_changed_is_found() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let over = AtomicBool::new(false);
    let writes = std::thread::scope(|scope| {
        let (nodes, over) = (&nodes, &over);
        let writer = scope.spawn(move || {
            let mut writes = 0;
            while !over.load(Ordering::Relaxed) {
                let body = json!({ "sql": "INSERT INTO t (number) VALUES (?)", "args": [writes] });
                let answer = post(&nodes[1], "/db/demo/execute", &body);
                assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
                writes += 1;
            }
            writes
        });
        let mut lsns = Vec::new();
        for at in [0, 1, 2, 0, 1] {
            let (code, said) = verify(&lab, &nodes[at], &["--json"]);
            assert_eq!(code, 0, "{said}");
            let told: Value = serde_json::from_str(&said).expect("JSON");
            assert_eq!(told[0]["equal"], true, "{said}");
            let copies = told[0]["copies"].as_object().expect("copies").clone();
            assert_eq!(copies.len(), 3, "{said}");
            assert!(copies.values().all(|copy| *copy == copies["n1"]), "{said}");
            lsns.push(copies["n1"]["lsn"].as_u64().expect("a number"));
        }
        over.store(true, Ordering::Relaxed);
        assert!(lsns.windows(2).all(|two| two[0] < two[1]), "writes went on: {lsns:?}");
        writer.join().expect("the writer")
    });
    assert!(writes > 5, "{writes}");
    let (code, said) = verify(&lab, &nodes[0], &["--shard", "main"]);
    assert_eq!((code, said.matches(" equal").count()), (0, 3), "{said}");

    // One copy is changed behind its node's back.
    nodes[2].kill();
    for file in copies(&nodes[2]) {
        let copy = rusqlite::Connection::open(file).expect("a database");
        copy.execute("UPDATE t SET number = -1 WHERE id = 1", []).expect("changed");
    }
    let away = eventually("it is missed", SETTLE, || match verify(&lab, &nodes[0], &[]) {
        (11, said) => Ok(said),
        other => Err(format!("{other:?}")),
    });
    assert!(away.contains("no answer") && away.contains("demo/main"), "{away}");
    nodes[2].start();
    let said = eventually("all answer", SETTLE, || match verify(&lab, &nodes[0], &[]) {
        (code, said) if !said.contains("no answer") => Ok((code, said)),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(said.0, 11, "{said:?}");
    let line = |name: &str| said.1.lines().find(|line| line.contains(name)).expect("its line");
    assert!(line(" n3 ").contains("DIFFERENT"), "{}", said.1);
    assert!(line(" n1 ").contains("equal") && line(" n2 ").contains("equal"), "{}", said.1);
    let (code, said) = sql(&lab, &nodes[0], "demo", "INSERT INTO t (number) VALUES (0)");
    assert_eq!(code, 0, "it goes on: {said}");

    for (args, expected, part) in [
        (&["verify", "nothing"][..], 1, "there is no database 'nothing'"),
        (&["verify", "demo/nothing"], 1, "has no shard 'nothing'"),
        (&["verify", "de.mo"], 2, "names no database"),
    ] {
        let (code, said) = lab.run(1, &[args, &["--data", &data(&nodes[0])]].concat());
        assert!(code == expected && said.contains(part), "{args:?}: {code} {said}");
    }
}
