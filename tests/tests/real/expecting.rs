//! `--expect N`.

use quorate_tests::{Lab, Node};

#[test]
fn two_of_three_expected_are_a_cluster_that_is_not_ready_until_the_third_is_there() {
    let lab = Lab::loopback();
    let mut nodes: Vec<Node> = (1..=3).map(|n| lab.node(n).with(["--expect", "3"])).collect();
    nodes[0].start();
    nodes[1].start();
    let view = lab.one_cluster(&nodes[..2]);
    let expect = view.expect.expect("it says what is missing");
    assert_eq!((expect.missing, expect.expected), (1, 3));
    let (code, body) = nodes[0].get("/readyz").expect("readyz");
    assert_eq!(code, 503);
    assert!(body["reason"].as_str().is_some_and(|r| r.contains("--expect 3")), "{body}");
    nodes[2].start();
    lab.one_cluster(&nodes);
    for node in &nodes {
        lab.until(node, "expects nobody any more", |v| {
            v.expect.as_ref().is_none_or(|e| e.missing == 0)
        });
        assert_eq!(node.get("/readyz").expect("readyz").0, 200);
    }
    // Once met, it stays met.
    nodes[2].kill();
    lab.until(&nodes[0], "sees it AWAY", |v| v.with_status("AWAY") == ["n3"]);
    assert_eq!(nodes[0].get("/readyz").expect("readyz").0, 200);
}
