//! Clients that go on with another server when one is gone, in whole worlds without other faults than those
//! of the script.

use quorate_sim::outcome::Report;
use quorate_sim::plan::{Action, Due, Plan};
use quorate_sim::{Options, run_plan};

fn at(ms: u64, action: Action) -> Due {
    Due { at: ms * 1_000_000, action }
}

fn world(seed: u64, script: Vec<Due>) -> Report {
    let plan = Plan::calm(seed, 3, 30_000).with_database().with_failover();
    let (report, _) = run_plan(Plan { script, ..plan }, Options::default());
    assert!(report.is_clean(), "seed {seed}: {:?}", report.violation);
    assert!(report.counts["client-done"] > 1_000, "seed {seed}: {:?}", report.counts);
    assert!(report.counts["histories-judged"] > 5, "seed {seed}: {:?}", report.counts);
    // Each learns once that its table is there already, or is not there.
    assert!(report.counts["client-failed"] <= 10, "seed {seed}: {:?}", report.counts);
    for never in ["client-unknown", "client-timed-out", "client-busy"] {
        assert_eq!(report.counts[never], 0, "seed {seed}: {never}");
    }
    report
}

#[test]
fn in_a_calm_world_clients_stay_with_their_servers_and_nothing_fails() {
    let report = world(3, Vec::new());
    assert_eq!(report.counts["client-replays"], 0, "{:?}", report.counts);
    assert_eq!(report.counts["client-sessions-again"], 0, "{:?}", report.counts);
}

#[test]
fn servers_that_crash_one_after_the_other_cost_no_client_an_error() {
    let (mut switches, mut replays) = (0, 0);
    for seed in 0..8 {
        let power = seed % 2 == 0;
        let crash = |(turn, host): (u64, u32)| {
            at(8_000 + turn * 7_000, Action::Crash { hosts: 1 << host, power, down: 2_000_000_000 })
        };
        let report = world(seed, [(0, 0), (1, 1), (2, 2)].map(crash).to_vec());
        switches += report.counts["client-switches"];
        replays += report.counts["client-replays"];
    }
    assert!(switches > 20 && replays > 5, "{switches} switches, {replays} replays");
}

#[test]
fn servers_that_stop_for_a_while_with_all_connections_open_cost_no_client_an_error() {
    let mut switches = 0;
    for seed in 0..8 {
        let pause = |(turn, host): (u64, usize)| {
            at(8_000 + turn * 7_000, Action::Pause { host, lasts: 3_000_000_000 })
        };
        let report = world(seed, [(0, 0), (1, 1), (2, 2)].map(pause).to_vec());
        switches += report.counts["client-switches"];
    }
    assert!(switches > 20, "{switches} switches");
}

#[test]
fn a_server_that_is_cut_off_from_the_others_costs_no_client_an_error() {
    for seed in 0..8 {
        let cut = |(turn, host): (u64, u32)| {
            let (from, to) = (1 << host, 0b111 & !(1 << host));
            let (both, datagrams, streams) = (true, true, true);
            let lasts = 3_000_000_000;
            let id = u32::try_from(turn).unwrap_or(0) + 100;
            at(8_000 + turn * 7_000, Action::Cut { id, from, to, both, datagrams, streams, lasts })
        };
        world(seed, [(0, 0), (1, 1), (2, 2)].map(cut).to_vec());
    }
}
