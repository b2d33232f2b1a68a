//! Changing a database while it runs: shown before it is done, refused with all that is wrong.

use quorate_tests::{Lab, Node, eventually};
use serde_json::{Value, json};

use super::databases::{SETTLE, data, post, sql, with_database};

/// What the command says, and its exit code.
fn run(lab: &Lab, node: &Node, args: &[&str]) -> (i32, String) {
    lab.run(1, &[args, &["--data", &data(node)]].concat())
}

fn view(lab: &Lab, node: &Node) -> Value {
    let (code, said) = run(lab, node, &["db", "config", "demo", "--json"]);
    assert_eq!(code, 0, "{said}");
    let mut view: Value = serde_json::from_str(&said).expect("JSON");
    // Also what only servers have to say raises it.
    view["config"]["version"] = 0.into();
    view
}

#[test]
fn a_configuration_is_shown_and_changed_while_the_database_runs_and_data_is_dropped_only_loudly() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 3);
    let node = &nodes[1];
    let shown = view(&lab, node);
    assert_eq!(shown["config"]["writeQuorum"], "majority", "{shown}");
    assert_eq!(shown["config"]["clusters"]["*"]["servers"], json!(["<NEW_NODE>"]), "{shown}");
    assert_eq!(shown["shards"]["main"]["copies"]["n3"], "ONLINE", "{shown}");

    // What it says of itself, given back, changes nothing.
    let same = lab.file("same.json", &shown["config"].to_string());
    let (code, said) = run(&lab, node, &["db", "config", "demo", "--file", &same]);
    assert!(code == 0 && said.contains("nothing would change"), "{code} {said}");

    // Another one: looked at, not done without a yes, then done.
    let changed = r#"{ "writeQuorum": "all", "clusters": {
        "notes": { "servers": ["n1", "n2"] }, "*": { "servers": ["<NEW_NODE>"] } } }"#;
    let file = lab.file("changed.json", changed);
    let change = ["db", "config", "demo", "--file", &file];
    let (code, said) = run(&lab, node, &[&change[..], &["--dry-run"]].concat());
    assert_eq!(code, 0, "{said}");
    for part in ["writeQuorum: \"all\", before \"majority\"", "demo/notes: is new; on n1, n2"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = run(&lab, node, &change);
    assert!(code == 2 && said.contains("nothing was changed: give --yes"), "{code} {said}");
    assert_eq!(view(&lab, node)["config"], shown["config"]);
    let (code, said) = run(&lab, node, &[&change[..], &["--yes"]].concat());
    assert!(code == 0 && said.contains("done"), "{code} {said}");
    let now = view(&lab, node);
    assert_eq!(now["config"]["writeQuorum"], "all", "{now}");
    assert_eq!(now["config"]["clusters"]["notes"]["servers"], json!(["n1", "n2"]), "{now}");
    for statement in ["CREATE TABLE n (id INTEGER PRIMARY KEY)", "INSERT INTO n VALUES (1), (2)"] {
        let (code, said) = sql(&lab, &nodes[2], "demo/notes", statement);
        assert_eq!(code, 0, "{said}");
    }
    let (code, said) = sql(&lab, &nodes[2], "demo", "INSERT INTO t VALUES (1, 1, 1)");
    assert_eq!(code, 0, "what was there works on: {said}");

    // A shard that moves.
    let file = lab.file("moved.json", &changed.replace(r#"["n1", "n2"]"#, r#"["n3", "n2"]"#));
    let (code, said) = run(&lab, node, &["db", "config", "demo", "--file", &file, "--yes"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("demo/notes: on n3; no longer on n1"), "{said}");
    eventually("the copy is on n3", SETTLE, || {
        let now = view(&lab, &nodes[0]);
        if now["shards"]["notes"]["copies"] == json!({ "n2": "ONLINE", "n3": "ONLINE" }) {
            return Ok(());
        }
        Err(now.to_string())
    });

    // Leaving it out keeps it; dropping it says what is lost.
    let (code, said) = run(&lab, node, &["db", "config", "demo", "--file", &same, "--yes"]);
    assert!(code == 0 && said.contains("the shard notes is not named: it stays"), "{said}");
    let drop = ["db", "config", "demo", "--drop", "notes"];
    let (code, said) = run(&lab, node, &[&drop[..], &["--dry-run"]].concat());
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("!!! demo/notes GOES WITH ITS DATA on"), "{said}");
    assert!(said.contains("holds 2 rows in 1 table: n"), "{said}");
    let (code, said) = run(&lab, node, &[&drop[..], &["--yes"]].concat());
    assert_eq!(code, 0, "{said}");
    let (code, said) = sql(&lab, node, "demo/notes", "SELECT 1");
    assert!(code == 1 && said.contains("has no shard 'notes'"), "{code} {said}");
    let (code, said) = sql(&lab, node, "demo", "SELECT id FROM t");
    assert!(code == 0 && said.contains('1'), "{code} {said}");

    refused(&lab, node);
    over_http(node);
}

/// All that is wrong is named, and nothing is done.
fn refused(lab: &Lab, node: &Node) {
    let before = view(lab, node);
    let wrong = r#"{ "clusters": { "far": { "servers": ["nowhere"] },
        "own": { "servers": ["n1"], "owner": "n2" },
        "much": { "servers": ["n1", "n2"], "writeQuorum": 3 } } }"#;
    let file = lab.file("wrong.json", wrong);
    let (code, said) = run(lab, node, &["db", "config", "demo", "--file", &file, "--yes"]);
    assert_eq!(code, 1, "{said}");
    let parts = [
        "the shard 'far' of 'demo' is placed on nowhere only",
        "'n2' owns the shard 'own' of 'demo' but has no place in it",
        "writeQuorum 3 of the shard 'much' of 'demo' can never be met",
    ];
    for part in parts {
        assert!(said.contains(part), "{part}: {said}");
    }
    let broken = lab.file("broken.json", "{ \"writeQuorum\":\n \"most\" }");
    let (code, said) = run(lab, node, &["db", "config", "demo", "--file", &broken, "--yes"]);
    assert!(
        code == 1 && said.contains(":2: writeQuorum: \"most\" is not allowed"),
        "{code} {said}"
    );
    let (code, said) = run(lab, node, &["db", "config", "demo", "--file", "/nowhere.json"]);
    assert!(code == 2 && said.contains("/nowhere.json"), "{code} {said}");
    let (code, said) = run(lab, node, &["db", "config", "demo", "--drop", "main", "--yes"]);
    assert!(code == 1 && said.contains("every database has the shard 'main'"), "{code} {said}");
    let (code, said) = run(lab, node, &["db", "config", "nothing", "--drop", "x", "--yes"]);
    assert!(code == 1 && said.contains("there is no database 'nothing'"), "{code} {said}");
    let (code, said) = run(lab, node, &["db", "config", "nothing"]);
    assert!(code == 1 && said.contains("there is no database 'nothing'"), "{code} {said}");
    assert_eq!(view(lab, node), before);
}

/// The same over HTTP: a change that would do something else than what was shown is refused.
fn over_http(node: &Node) {
    let (code, shown) = node.get("/db/demo").expect("it answers");
    assert_eq!((code, &shown["config"]["autoDeploy"]), (200, &json!(true)), "{shown}");
    let config = json!({ "autoDeploy": false }).to_string();
    let mut request = json!({ "todo": "configure", "name": "demo", "config": config });
    let (code, would) = post(node, "/admin/db/preview", &request).expect("it answers");
    assert_eq!((code, would["outcome"].as_str()), (200, Some("would-do")), "{would}");
    let lines = &would["moves"]["settings"];
    assert_eq!(*lines, json!(["autoDeploy: false, before true"]), "{would}");
    request["shown"] = json!({ "settings": ["something else"], "shards": [] });
    let (_, said) = post(node, "/admin/db", &request).expect("it answers");
    assert_eq!(said["outcome"], "refused", "{said}");
    request["shown"] = would["moves"].clone();
    let (_, said) = post(node, "/admin/db", &request).expect("it answers");
    assert_eq!(said["outcome"], "done", "{said}");
    let (code, said) = node.get("/db/nothing").expect("it answers");
    assert_eq!(code, 404, "{said}");
}

#[test]
fn a_static_owner_is_set_by_command_and_the_shard_goes_to_it() {
    let lab = Lab::loopback();
    let nodes = with_database(&lab, 3);
    for owner in ["n3", "n1"] {
        let (code, said) = run(&lab, &nodes[1], &["server", "set-owner", "demo", owner]);
        assert!(code == 0 && said.contains(&format!("{owner} owns demo")), "{code} {said}");
        let (code, said) = run(&lab, &nodes[1], &["db", "list"]);
        assert!(code == 0 && said.contains(&format!("{owner} (static)")), "{code} {said}");
    }
    let (code, said) = run(&lab, &nodes[1], &["server", "set-owner", "demo", "--none"]);
    assert_eq!(code, 0, "{said}");
    let (_, said) = run(&lab, &nodes[1], &["db", "list"]);
    assert!(!said.contains("static"), "{said}");
    let wrong: [(&[&str], i32, &str); 5] = [
        (&["server", "set-owner", "demo", "n9"], 1, "'n9' owns the shard 'main' of 'demo' but"),
        (&["server", "set-owner", "demo/far", "n1"], 1, "there is no shard 'far'"),
        (&["server", "set-owner", "nothing", "n1"], 1, "there is no database 'nothing'"),
        (&["server", "set-owner", "de.mo", "n1"], 2, "names no database"),
        (&["server", "set-owner", "demo"], 2, "<SERVER>"),
    ];
    for (args, expected, part) in wrong {
        let (code, said) = run(&lab, &nodes[0], args);
        assert!(code == expected && said.contains(part), "{args:?}: {code} {said}");
    }
}
