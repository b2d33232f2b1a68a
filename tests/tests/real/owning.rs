//! Static owners on real processes: kept while they are away, never replaced.

use quorate_tests::{Lab, eventually};
use serde_json::json;

use super::databases::{SETTLE, data, equal, ids, post, sql, with_database};

#[test]
fn while_the_static_owner_is_away_inserts_are_refused_by_name_and_all_else_works() {
    let lab = Lab::loopback();
    let mut nodes = with_database(&lab, 3);
    let (code, said) =
        lab.run(1, &["server", "set-owner", "demo", "n3", "--data", &data(&nodes[0])]);
    assert_eq!(code, 0, "{said}");
    let (code, said) = sql(&lab, &nodes[0], "demo", "INSERT INTO t VALUES (1, 1, 1)");
    assert_eq!(code, 0, "it is sent on to the owner: {said}");
    nodes[2].kill();
    for statement in [
        "INSERT INTO t VALUES (2, 2, 2)",
        "REPLACE INTO t VALUES (1, 9, 9)",
        "INSERT INTO t VALUES (1, 9, 9) ON CONFLICT DO UPDATE SET number = 9",
    ] {
        let said = eventually("it is refused", SETTLE, || {
            match sql(&lab, &nodes[0], "demo", statement) {
                (10, said) => Ok(said),
                // Sent on just when the owner was killed.
                (4 | 5, said) => Err(said),
                other => panic!("{statement}: {other:?}"),
            }
        });
        assert!(said.contains("'n3', is away") && said.contains("set-owner"), "{said}");
    }
    let body = json!({ "sql": "INSERT INTO t VALUES (2, 2, 2)" });
    let (code, said) = post(&nodes[1], "/db/demo/execute", &body).expect("it answers");
    assert_eq!(
        (code, &said["kind"], &said["outcome"]),
        (503, &json!("owner-away"), &json!("nothing-done"))
    );
    let (code, said) = sql(&lab, &nodes[1], "demo", "UPDATE t SET number = 5 WHERE id = 1");
    assert!(code == 0 && said.contains("1 row affected"), "{code} {said}");
    eventually("it is known who takes care", SETTLE, || {
        let (_, said) = lab.run(1, &["db", "list", "--data", &data(&nodes[0])]);
        let known = said.contains("n3 (static, not there: no inserts; n");
        if known { Ok(()) } else { Err(said) }
    });
    let body = json!({ "sql": "SELECT number FROM t", "consistency": "linearizable" });
    let (code, said) = post(&nodes[0], "/db/demo/query", &body).expect("it answers");
    assert_eq!((code, &said["results"][0]["rows"]), (200, &json!([[5]])), "{said}");
    nodes[2].start();
    eventually("the owner is back", SETTLE, || {
        match sql(&lab, &nodes[0], "demo", "INSERT INTO t VALUES (2, 2, 2)") {
            (0, _) => Ok(()),
            (10 | 4, said) => Err(said),
            other => panic!("{other:?}"),
        }
    });
    equal(&nodes, &[1, 2].into());
    assert_eq!(ids(&nodes[2]), Ok([1, 2].into()));
}
