use super::*;

fn donor(node: u128, owns: bool, rested: Option<Time>) -> Donor {
    Donor {
        node: NodeId(node),
        applied: Some(Index(9)),
        serves: true,
        online: true,
        offline: false,
        owns,
        failed: false,
        rested,
        busy: 0,
    }
}

/// One that an operator has put out of use.
fn out_of_use(node: u128, rested: Option<Time>) -> Donor {
    Donor { online: false, offline: true, ..donor(node, false, rested) }
}

fn rested(second: u64) -> Option<Time> {
    Some(Time::from_millis(second * 1000))
}

fn chosen(donors: &[Donor]) -> u128 {
    let need = Need { applied: Index(0), commit: Index(9), full: Some(Index(5)) };
    match plan_sync(need, donors) {
        SyncPlan::Full { donor, .. } => donor.0,
        other => panic!("{other:?}"),
    }
}

#[test]
fn everybody_is_asked_in_turn_where_many_refuse() {
    // Whoever refused may be asked again by now: not before the owner was asked once.
    let owner = donor(3, true, None);
    assert_eq!(chosen(&[donor(1, false, None), donor(2, false, rested(4)), owner]), 1);
    assert_eq!(chosen(&[donor(1, false, rested(5)), donor(2, false, rested(4)), owner]), 3);
    let owner = donor(3, true, rested(6));
    assert_eq!(chosen(&[donor(1, false, rested(5)), donor(2, false, rested(4)), owner]), 2);
}

#[test]
fn what_is_out_of_use_is_asked_when_all_that_is_in_use_has_refused_and_not_before() {
    let (one, other) = (donor(1, false, rested(5)), donor(2, false, rested(4)));
    assert_eq!(chosen(&[out_of_use(4, None), one, donor(2, false, None)]), 2);
    assert_eq!(chosen(&[out_of_use(4, None), one, donor(3, true, None)]), 3);
    // Those that refused may be asked again by now: there are so many that some always may.
    assert_eq!(chosen(&[out_of_use(4, None), one, other]), 4);
    assert_eq!(chosen(&[out_of_use(4, rested(6)), one, other]), 2);
    assert_eq!(chosen(&[out_of_use(4, rested(3)), one, other]), 4);
    assert_eq!(chosen(&[out_of_use(4, rested(5)), one]), 1);
    assert_eq!(chosen(&[out_of_use(4, rested(6)), Donor { failed: true, ..one }]), 4);
}
