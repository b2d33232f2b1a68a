//! Whatever moment the machine stops at: what comes back is a prefix that holds all that was
//! acknowledged, nothing is called damaged, and it comes back the same every time.

use proptest::prelude::*;
use quorate_core::Recovered;

use super::model::{Step, batches, history, play};
use super::world::{Faults, World};
use super::{append, open, small};

/// What was promised before the machine stopped.
struct Promise {
    states: Vec<Recovered>,
    acknowledged: usize,
}

/// Opens, writes the history, opens once more half-way, until it ends or the machine dies.
fn run(world: &World, history: &[Vec<Step>]) -> Option<Promise> {
    let mut opened = open(world, &small()).ok()?;
    let (ops, states) = play(&opened.recovered, history);
    let mut acknowledged = 0;
    for (at, batch) in ops.iter().enumerate() {
        if at == history.len() / 2 {
            let Ok(again) = open(world, &small()) else {
                return Some(Promise { states, acknowledged });
            };
            assert_eq!(again.recovered, states[acknowledged]);
            opened = again;
        }
        if at % 3 == 1 && opened.log.seal(false).is_err() {
            break;
        }
        if append(&mut opened.log, batch).is_err() {
            break;
        }
        acknowledged += 1;
    }
    Some(Promise { states, acknowledged })
}

/// Opens after a crash and checks what came back. Returns it.
fn check(world: &World, promise: Option<&Promise>, when: &str) -> Recovered {
    let opened = open(world, &small()).unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(opened.findings, [], "{when}: a torn write was taken for damage");
    let recovered = opened.recovered;
    assert!(recovered.logs.values().all(|log| !log.damaged), "{when}");
    super::check_tail(&opened.log.shared(), &recovered);
    if let Some(Promise { states, acknowledged }) = promise {
        // The batch after the last acknowledged one may have survived; none after that was begun.
        let allowed = &states[*acknowledged..(*acknowledged + 2).min(states.len())];
        assert!(
            allowed.contains(&recovered),
            "{when}: {acknowledged} batches were acknowledged, and what came back is none of them"
        );
    }
    recovered
}

/// Stops the machine at every change that a run makes, in several ways each.
fn crash_everywhere(history: &[Vec<Step>], seeds: u64) {
    let counting = World::new();
    run(&counting, history).expect("no fault was set");
    let (changes, ..) = counting.counts();
    for die_at in 0..=changes {
        let world = World::new();
        world.set(Faults { die_at: Some(die_at), ..Faults::default() });
        let promise = run(&world, history);
        for seed in 0..seeds {
            let when = format!("stopped at change {die_at} of {changes}, seed {seed}");
            let power = world.copy();
            power.lose_power(seed.wrapping_mul(0x1234_5678_9ABC_DEF1) ^ die_at);
            let first = check(&power, promise.as_ref(), &when);
            // The node has acted on what came back: it may not change any more.
            power.lose_power(seed);
            assert_eq!(check(&power, promise.as_ref(), &when), first, "{when}, and again");
        }
        let when = format!("process killed at change {die_at} of {changes}");
        world.restart_process();
        let first = check(&world, promise.as_ref(), &when);
        world.lose_power(die_at);
        assert_eq!(check(&world, promise.as_ref(), &when), first, "{when}, then the power failed");
    }
}

#[test]
fn a_crash_at_any_point_keeps_every_acknowledged_batch() {
    for seed in 0..4 {
        crash_everywhere(&history(seed, 24), 4);
    }
}

#[test]
fn a_crash_while_recovering_from_a_crash_loses_nothing() {
    let history = history(11, 20);
    let world = World::new();
    let mut promise = run(&world, &history).expect("no fault was set");
    // The last batch was written and its sync is still under way.
    let more = play(&promise.states[promise.acknowledged], &history);
    let mut opened = open(&world, &small()).expect("sound");
    let (.., syncs_before) = (0, world.counts().1);
    world.set(Faults { fail_sync_at: Some(syncs_before), ..Faults::default() });
    append(&mut opened.log, &more.0[0]).expect_err("the sync fails");
    promise.states.push(more.1[1].clone());
    let before = world.counts().0;
    let counting = world.copy();
    counting.restart_process();
    check(&counting, Some(&promise), "counting");
    let steps = counting.counts().0 - before;
    assert!(steps > 5, "recovery writes something, or this test shows nothing");
    for die_at in 0..steps {
        let again = world.copy();
        again.restart_process();
        again.set(Faults { die_at: Some(before + die_at), ..Faults::default() });
        let _ = open(&again, &small());
        again.lose_power(die_at);
        check(&again, Some(&promise), &format!("recovery stopped at change {die_at}"));
    }
}

#[test]
fn a_kill_at_any_point_and_a_power_failure_at_any_point_of_recovering_lose_nothing() {
    let history = history(3, 30);
    let counting = World::new();
    run(&counting, &history).expect("no fault was set");
    let (changes, ..) = counting.counts();
    for die_at in 0..changes {
        let killed = World::new();
        killed.set(Faults { die_at: Some(die_at), ..Faults::default() });
        let promise = run(&killed, &history);
        killed.restart_process();
        let begun = killed.counts().0;
        for step in 0.. {
            let world = killed.copy();
            world.set(Faults { die_at: Some(begun + step), ..Faults::default() });
            let finished = open(&world, &small()).is_ok();
            for seed in 0..3 {
                let power = world.copy();
                power.lose_power(seed ^ (die_at << 16) ^ step);
                let when = format!("killed at change {die_at}, then at change {step} of opening");
                check(&power, promise.as_ref(), &when);
            }
            if finished {
                break;
            }
        }
    }
}

#[test]
fn a_checkpoint_is_reached_and_old_segments_go() {
    let world = World::new();
    let history = history(3, 200);
    let promise = run(&world, &history).expect("no fault was set");
    let names = super::segments(&world);
    assert!(!names[0].ends_with("0000000000000001.seg"), "the first segment was never removed");
    assert!(names.len() < 20, "{} segments are left", names.len());
    check(&world, Some(&promise), "after checkpoints");
}

#[test]
fn many_restarts_take_no_more_space() {
    let world = World::new();
    for _ in 0..100 {
        open(&world, &small()).expect("sound").log.seal(true).expect("sound");
    }
    assert!(super::segments(&world).len() < 10);
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged_and_nothing_acknowledged_is_lost() {
    let history = history(5, 16);
    let counting = World::new();
    run(&counting, &history).expect("no fault was set");
    for fail_at in 0..counting.counts().1 {
        let world = World::new();
        world.set(Faults { fail_sync_at: Some(fail_at), ..Faults::default() });
        let promise = run(&world, &history);
        let when = format!("sync {fail_at} failed");
        // The next process sees pages that never reached the disk. What it reads it must own.
        world.restart_process();
        let first = check(&world, promise.as_ref(), &when);
        world.lose_power(fail_at);
        assert_eq!(check(&world, promise.as_ref(), &when), first, "{when}, then the power failed");
    }
}

#[test]
fn a_failed_write_or_sync_poisons_the_store() {
    for (sync, write) in [(true, false), (false, true)] {
        let world = World::new();
        let mut opened = open(&world, &small()).expect("sound");
        let (ops, states) = play(&opened.recovered, &history(1, 6));
        append(&mut opened.log, &ops[0]).expect("sound");
        let (_, syncs, writes) = world.counts();
        world.set(Faults {
            fail_sync_at: sync.then_some(syncs),
            fail_write_at: write.then_some(writes),
            ..Faults::default()
        });
        append(&mut opened.log, &ops[1]).expect_err("the fault was set");
        let (changes, ..) = world.counts();
        for batch in &ops[2..] {
            append(&mut opened.log, batch).expect_err("poisoned");
        }
        opened.log.seal(true).expect("nothing is written, and that is no new error");
        assert_eq!(world.counts().0, changes, "something was written after the failure");
        world.lose_power(9);
        check(&world, Some(&Promise { states, acknowledged: 1 }), "after the failure");
    }
}

#[test]
fn a_full_disk_stops_the_store_and_loses_nothing() {
    let history = history(2, 40);
    for space in (16..160).map(|kib| kib << 10) {
        let world = World::new();
        world.set(Faults { space: Some(space), ..Faults::default() });
        let promise = run(&world, &history);
        world.lose_power(space as u64);
        check(&world, promise.as_ref(), &format!("{space} bytes of space"));
    }
}

#[test]
fn short_reads_and_writes_change_nothing() {
    let history = history(4, 30);
    let world = World::new();
    world.set(Faults { short: true, ..Faults::default() });
    let promise = run(&world, &history).expect("short is no failure");
    assert_eq!(promise.acknowledged, history.len());
    check(&world, Some(&promise), "short");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn any_history_survives_a_crash_at_every_point(history in batches()) {
        crash_everywhere(&history, 1);
    }
}
