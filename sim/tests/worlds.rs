//! Whole worlds: the same seed is the same run, and small campaigns are clean.

use quorate_sim::plan::Plan;
use quorate_sim::{Options, run, run_plan, run_twice};

#[test]
fn every_seed_runs_the_same_way_twice() {
    for seed in 0..30 {
        let report = run_twice(seed);
        assert!(report.is_clean(), "seed {seed}: {:?}", report.violation);
    }
}

#[test]
fn seeds_are_different_worlds() {
    let hash = |seed| run(seed, Options::default()).0.hash;
    assert_ne!(hash(1), hash(2));
}

#[test]
fn in_a_calm_world_a_database_is_written_through_every_node_and_nothing_fails() {
    for nodes in [1, 2, 3, 5] {
        let plan = Plan::calm(7, nodes, 20_000).with_database();
        let (report, _) = run_plan(plan, Options::default());
        assert!(report.is_clean(), "{nodes} nodes: {:?}", report.violation);
        assert!(report.reasons.is_empty(), "{nodes} nodes: {:?}", report.reasons);
        assert!(report.counts["requests-done"] > 100, "{nodes} nodes: {:?}", report.counts);
        assert!(report.counts["probes"] >= nodes as u64, "{nodes} nodes: each node takes a write");
    }
}

#[test]
fn a_small_campaign_of_every_fault_is_clean() {
    let mut settled = 0;
    for seed in 1_000..1_200 {
        let (report, _) = run(seed, Options::default());
        assert!(report.is_clean(), "seed {seed}: {:?}", report.violation);
        settled += u32::from(report.converged_ms.is_some());
    }
    assert_eq!(settled, 200, "a clean run has settled");
}

#[test]
fn in_a_calm_world_the_nodes_become_one_cluster_without_any_excuse() {
    for nodes in 1..=9 {
        let (report, _) = run_plan(Plan::calm(7, nodes, 5_000), Options::default());
        assert!(report.is_clean(), "{nodes} nodes: {:?}", report.violation);
        assert!(report.reasons.is_empty(), "{nodes} nodes: {:?}", report.reasons);
        assert_eq!(report.counts["foundings"], 1, "{nodes} nodes: one founds");
    }
}
