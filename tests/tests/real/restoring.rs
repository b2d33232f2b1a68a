//! Restores on real processes: a file becomes the content of all copies, entries go on counting, and a
//! server that is killed on the way comes to hold the same.

use std::time::Duration;

use quorate_tests::{Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::{SETTLE, data, post, with_database};

fn run(node: &Node, sql: &str) {
    let answer = post(node, "/db/demo/execute", &json!({ "sql": sql }));
    assert_eq!(answer.as_ref().map(|a| a.0), Ok(200), "{answer:?}");
}

fn with_rows(lab: &Lab) -> Vec<Node> {
    let nodes = with_database(lab, 3);
    run(&nodes[0], "CREATE TABLE big (id INTEGER PRIMARY KEY, v TEXT)");
    fill(&nodes[0], 3000);
    nodes
}

fn fill(node: &Node, rows: u32) {
    let sql = format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO big (v) SELECT hex(randomblob(300)) FROM n"
    );
    run(node, &sql);
}

/// How many rows each copy holds, and that all are the same at one entry, which is told.
fn equal(lab: &Lab, nodes: &[Node], rows: u64) -> u64 {
    eventually("all copies hold it and are the same", SETTLE, || {
        for node in nodes {
            let sql = "SELECT count(*) FROM big";
            let (code, body) = post(node, "/db/demo/query", &json!({ "sql": sql }))?;
            if code != 200 || body["results"][0]["rows"][0][0] != json!(rows) {
                return Err(format!("{}: {code} {body}", node.name));
            }
        }
        let (code, told) = lab.run(1, &["verify", "demo", "--json", "--data", &data(&nodes[0])]);
        let told: Value =
            serde_json::from_str(&told).map_err(|error| format!("{error}: {told}"))?;
        let servers = told[0]["copies"].as_object().map_or(0, |copies| copies.len());
        let lsn = told[0]["copies"].as_object().and_then(|c| c.values().next()?["lsn"].as_u64());
        match lsn {
            Some(lsn) if code == 0 && servers == nodes.len() => Ok(lsn),
            _ => Err(format!("{code}: {told}")),
        }
    })
}

fn backups(node: &Node) -> usize {
    let of = node.data.join("backup/databases/demo");
    std::fs::read_dir(of).map_or(0, |listed| listed.count())
}

#[test]
fn a_backup_holds_all_that_was_acknowledged_before_through_whatever_node() {
    let lab = Lab::loopback();
    let nodes = with_rows(&lab);
    for round in 0..6_u32 {
        let at = |number: u32| &nodes[usize::try_from(number % 3).expect("small")];
        fill(at(round), 3000);
        let file = lab.path(&format!("{round}.sqlite"));
        let name = file.display().to_string();
        let (code, said) = lab.run(1, &["backup", "demo", &name, "--data", &data(at(round + 1))]);
        assert_eq!(code, 0, "{said}");
        let kept = rusqlite::Connection::open(&file).expect("it can be opened");
        let count = kept.query_row("SELECT count(*) FROM big", [], |row| row.get::<_, u32>(0));
        assert_eq!(count, Ok(3000 * (round + 2)), "round {round}: {said}");
    }
}

#[test]
fn a_backup_is_restored_on_all_servers_even_if_one_is_killed_on_the_way() {
    let lab = Lab::loopback();
    let mut nodes = with_rows(&lab);
    let file = lab.path("demo.sqlite").display().to_string();
    let (code, said) = lab.run(1, &["backup", "demo", &file, "--data", &data(&nodes[0])]);
    assert_eq!(code, 0, "{said}");
    run(&nodes[0], "DELETE FROM big WHERE id > 10");
    fill(&nodes[1], 500);
    let before = equal(&lab, &nodes, 510);
    // Without a terminal nobody can be asked.
    let args = ["restore", "demo", &file, "--data", &data(&nodes[1])];
    let (code, said) = lab.run(1, &args);
    assert!(code == 2 && said.contains("--yes"), "{code} {said}");
    assert_eq!(equal(&lab, &nodes, 510), before, "nothing was put into the log");
    let (code, said) = lab.run(1, &[&args[..], &["--yes"]].concat());
    assert!(code == 0 && said.contains("as of entry"), "{code} {said}");
    let after = equal(&lab, &nodes, 3000);
    assert!(after > before, "{after} {before}");
    eventually("the old content is put away everywhere", Duration::from_secs(10), || {
        let kept: Vec<usize> = nodes.iter().map(backups).collect();
        if kept == [1, 1, 1] { Ok(()) } else { Err(format!("{kept:?}")) }
    });
    // Each server in turn is killed while a restore is under way.
    for victim in 0..3_usize {
        run(&nodes[0], "DELETE FROM big WHERE id > 20");
        let asked = (victim + 1) % 3;
        let of = data(&nodes[asked]);
        let wait = Duration::from_millis(40 * (victim as u64 + 1));
        let (code, said) = std::thread::scope(|scope| {
            let args = ["restore", "demo", &file, "--yes", "--data", &of];
            let lab = &lab;
            let restoring = scope.spawn(move || lab.run(1, &args));
            std::thread::sleep(wait);
            nodes[victim].kill();
            restoring.join().expect("it ends")
        });
        nodes[victim].start();
        // Refused or unknown: then it is done again, and the outcome is the same.
        if code != 0 {
            assert!([1, 4, 5].contains(&code), "{code} {said}");
            eventually("it is restored", SETTLE, || {
                let args = ["restore", "demo", &file, "--yes", "--data", &of];
                let (code, said) = lab.run(1, &args);
                if code == 0 { Ok(()) } else { Err(format!("{code} {said}")) }
            });
        }
        equal(&lab, &nodes, 3000);
        fill(&nodes[victim], 7);
        equal(&lab, &nodes, 3007);
    }
}

#[test]
fn an_ordinary_database_is_restored_over_http_and_a_bad_file_changes_nothing() {
    let lab = Lab::loopback();
    let nodes = with_rows(&lab);
    let of = data(&nodes[2]);
    let before = equal(&lab, &nodes, 3000);
    let bad = lab.path("bad.sqlite");
    std::fs::write(&bad, [&b"SQLite format 3\0"[..], &[9; 9000]].concat()).expect("written");
    let bad = bad.display().to_string();
    let (code, said) = lab.run(1, &["restore", "demo", &bad, "--yes", "--data", &of]);
    assert!(code == 1 && said.contains("nothing was changed"), "{code} {said}");
    let text = lab.file("text.sqlite", "this is no database");
    let (code, said) = lab.run(1, &["restore", "demo", &text, "--yes", "--data", &of]);
    assert!(code == 2 && said.contains("no SQLite database"), "{code} {said}");
    let nowhere = ["restore", "demo/no", &bad, "--yes", "--data", &of];
    let (code, said) = lab.run(1, &nowhere);
    assert!(code == 1 && said.contains("no shard 'no'"), "{code} {said}");
    // Without the token, or with a body that is cut off, nothing is taken.
    let refused = nodes[2].exchange(
        b"POST /db/demo/restore HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc",
        Duration::from_secs(5),
    );
    assert!(refused.as_ref().is_ok_and(|said| said.starts_with("HTTP/1.1 401")), "{refused:?}");
    assert_eq!(equal(&lab, &nodes, 3000), before, "nothing was put into the log");
    for node in &nodes {
        assert_eq!(backups(node), 0);
        for shard in std::fs::read_dir(node.data.join("shards")).expect("it has shards") {
            let held = std::fs::read_dir(shard.expect("listed").path()).expect("a directory");
            assert_eq!(held.count(), 1, "nothing is left of what was refused");
        }
    }
}
