//! Whole worlds: the same seed is the same run, and small campaigns are clean.

use quorate_sim::plan::{Action, Content, DatabaseOrder, Due, Moment, Order, Plan, Step};
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

fn at(ms: u64, action: Action) -> Due {
    Due { at: ms * 1_000_000, action }
}

/// Three nodes with a database, without any fault but those of the script.
fn scripted(seed: u64, script: Vec<Due>) -> Plan {
    Plan { script, ..Plan::calm(seed, 3, 15_000).with_database() }
}

#[test]
fn a_node_that_dies_at_any_step_of_the_swap_of_a_copy_comes_back_with_a_whole_one() {
    let names = ["receiving", "finishing", "placed", "recording", "recorded", "opening", "tidying"];
    for (step, name) in Step::ALL.into_iter().zip(names) {
        // Whether the power fails, and what survives, is drawn.
        for seed in 0..8 {
            let host = 2;
            let (moment, down) = (Moment::Swap(step), 500_000_000);
            let script = vec![
                at(6_000, Action::Rot { host, which: 0 }),
                at(6_000, Action::Arm { host, moment, skip: 0, down }),
            ];
            let (report, _) = run_plan(scripted(seed, script), Options::default());
            assert!(report.is_clean(), "{name}, seed {seed}: {:?}", report.violation);
            assert!(report.reasons.is_empty(), "{name}, seed {seed}: {:?}", report.reasons);
            let died = report.counts[&format!("swap-crashes-{name}")];
            assert_eq!(died, 1, "{name}, seed {seed}: {:?}", report.counts);
            assert!(report.counts["full-copies"] > 0, "{name}, seed {seed}");
        }
    }
}

#[test]
fn what_was_kept_as_a_file_becomes_the_content_again_and_rubbish_does_not() {
    let order = |ms, order| {
        let order = Order::Database(0, Box::new(order));
        at(ms, Action::Order { host: 1, order })
    };
    let script = vec![
        order(5_000, DatabaseOrder::BackUp("main")),
        order(9_000, DatabaseOrder::Restore("main", Content::Backup(0))),
        order(11_000, DatabaseOrder::Restore("main", Content::Rubbish)),
    ];
    let (report, _) = run_plan(scripted(3, script), Options::default());
    assert!(report.is_clean(), "{:?}", report.violation);
    let count = |name: &str| report.counts[name];
    assert_eq!((count("backups"), count("content-restores")), (1, 2), "{:?}", report.counts);
    assert_eq!((count("content-restored"), count("content-placed")), (1, 3), "{:?}", report.counts);
    assert!(count("probes") >= 3, "every node takes writes afterwards");
}
