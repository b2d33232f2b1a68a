use proptest::prelude::*;

use super::super::{
    Absorption, Applied, AutoRemove, ConfigCommand, Defaults, OperatorChange, Registration,
    Rejection, RemoveReason, Role, ServerStatus, apply,
};
use super::{addresses, after, away, cluster, founded, join, node, refused, remove};
use crate::configuration::Configuration;
use crate::ids::{ClusterId, ConfigVersion, DatabaseId, Start};

#[test]
fn every_change_raises_the_version_by_one_and_nothing_else_does() {
    let document = founded(3, Defaults::default());
    assert_eq!(document.version, ConfigVersion(3));
    let changed = after(&document, &away(2));
    assert_eq!(changed.version, ConfigVersion(4));
    let mut same = Some(changed.clone());
    assert_eq!(apply(&mut same, &away(2)), Ok(Applied::Unchanged));
    assert_eq!(same, Some(changed));
}

#[test]
fn a_missing_strategy_registers_as_static_and_a_listed_name_is_static_always() {
    let mut defaults = Defaults { new_node_strategy: Registration::Dynamic, ..Defaults::default() };
    defaults.roles.insert("n2".to_owned(), Role::Replica);
    let document = founded(3, defaults);
    let registration = |n| document.servers[&node(n)].registration;
    assert_eq!(registration(1), Registration::Dynamic);
    assert_eq!(registration(2), Registration::Static);
    assert_eq!(document.servers[&node(2)].role, Role::Replica);
    assert_eq!(Defaults::default().registration_of("any"), Registration::Static);
}

#[test]
fn a_name_in_use_is_refused_with_the_address_of_its_holder() {
    let document = founded(2, Defaults::default());
    let holder = document.servers[&node(2)].addresses.node;
    let expected = Rejection::DuplicateName { name: "n2".to_owned(), holder };
    assert_eq!(refused(&document, &join(9, "n2")), expected);
}

#[test]
fn a_name_whose_holder_is_away_goes_to_the_newcomer_with_its_role_and_registration() {
    let mut defaults = Defaults::default();
    defaults.roles.insert("n2".to_owned(), Role::Replica);
    let document = after(&founded(3, defaults), &away(2));
    let changed = after(&document, &join(9, "n2"));
    assert!(!changed.servers.contains_key(&node(2)), "the old one is out in the same version");
    let new = &changed.servers[&node(9)];
    assert_eq!((new.role, new.replaces), (Role::Replica, Some(node(2))));
    assert_eq!(changed.version, document.version.next());
}

#[test]
fn a_server_does_not_rename_itself_to_one_that_is_away() {
    let document = after(&founded(3, Defaults::default()), &away(2));
    assert!(matches!(refused(&document, &join(3, "n2")), Rejection::DuplicateName { .. }));
}

#[test]
fn names_with_dots_slashes_or_nothing_in_them_are_refused() {
    let document = founded(1, Defaults::default());
    for name in ["", "a.b", "a/b", "ä", "a b", &"x".repeat(65)] {
        assert!(matches!(refused(&document, &join(2, name)), Rejection::BadName { .. }), "{name}");
    }
}

#[test]
fn joining_again_only_updates_what_changed() {
    let document = after(&founded(2, Defaults::default()), &away(2));
    let mut again = join(2, "n2");
    if let ConfigCommand::Join { addresses: to, .. } = &mut again {
        *to = addresses(77);
    }
    let changed = after(&document, &again);
    let server = &changed.servers[&node(2)];
    assert_eq!((server.status, server.addresses), (ServerStatus::Online, addresses(77)));
    assert_eq!(server.joined, document.servers[&node(2)].joined, "as long a member as before");
}

#[test]
fn the_last_master_can_neither_go_nor_become_a_replica() {
    let document = founded(2, Defaults::default());
    let replica = |n| ConfigCommand::SetRole { node: node(n), role: Role::Replica };
    let document = after(&document, &replica(2));
    let reason = Rejection::LastMaster { name: "n1".to_owned() };
    assert_eq!(refused(&document, &replica(1)), reason);
    assert_eq!(refused(&document, &remove(1, RemoveReason::Operator)), reason);
}

#[test]
fn who_was_taken_out_by_an_operator_is_remembered_until_it_joins_again() {
    let document = after(&founded(2, Defaults::default()), &remove(2, RemoveReason::Operator));
    assert!(document.expelled.contains_key(&node(2)));
    assert!(!after(&document, &join(2, "n2")).expelled.contains_key(&node(2)));
    let lost = after(&founded(2, Defaults::default()), &remove(2, RemoveReason::Unreachable));
    assert!(lost.expelled.is_empty());
}

#[test]
fn the_last_start_of_whoever_is_gone_is_remembered_until_it_joins_again() {
    let start = |number| Some(Start { number, nonce: number });
    let known = |document: &Configuration| document.last_start(node(2));
    let joins = |number| {
        let ConfigCommand::Join { node, name, addresses, dissolved_from, brings, .. } =
            join(2, "n2")
        else {
            unreachable!("it joins")
        };
        let start = start(number);
        ConfigCommand::Join { node, name, addresses, start, dissolved_from, brings }
    };
    let document = after(&founded(1, Defaults::default()), &joins(5));
    for reason in [RemoveReason::Operator, RemoveReason::Unreachable, RemoveReason::Left] {
        let without = after(&document, &remove(2, reason));
        assert_eq!(known(&without), start(5));
        let again = after(&without, &joins(7));
        assert_eq!((known(&again), again.departed.len()), (start(7), 0));
        assert_eq!(known(&after(&without, &joins(3))), start(5), "starts only ever rise");
    }
    let away = ConfigCommand::SetStatus {
        node: node(2),
        status: ServerStatus::Away,
        addresses: None,
        start: None,
    };
    let wiped = after(&after(&document, &away), &join(3, "n2"));
    assert!(!wiped.servers.contains_key(&node(2)), "another bears its name");
    assert_eq!(known(&wiped), start(5));
}

#[test]
fn no_database_before_the_expected_servers_were_there_at_once() {
    let create = ConfigCommand::create_database("demo", DatabaseId(1));
    let document = founded(2, Defaults { expect: 3, ..Defaults::default() });
    let reason = Rejection::ExpectNotMet { expected: 3, present: 2 };
    assert_eq!(refused(&document, &create), reason);
    let document = after(&document, &join(3, "n3"));
    let document = after(&document, &remove(3, RemoveReason::Operator));
    let document = after(&document, &create);
    assert!(document.databases.contains_key("demo"), "once met, it stays met");
    let exists = Rejection::DatabaseExists { name: "demo".to_owned() };
    assert_eq!(refused(&document, &create), exists);
}

#[test]
fn a_cluster_with_databases_or_with_an_offer_out_does_not_dissolve() {
    let dissolve = ConfigCommand::Dissolve { into: ClusterId(9), addresses: vec![] };
    let create = ConfigCommand::create_database("demo", DatabaseId(1));
    let document = founded(1, Defaults::default());
    assert_eq!(refused(&after(&document, &create), &dissolve), Rejection::HoldsDatabases);
    let offering = after(&document, &ConfigCommand::Absorb { cluster: ClusterId(8) });
    assert_eq!(refused(&offering, &dissolve), Rejection::Absorbing);
    let withdrawn = after(&offering, &ConfigCommand::WithdrawAbsorb { cluster: ClusterId(8) });
    let gone = after(&withdrawn, &dissolve);
    let ended = Rejection::Dissolved { into: ClusterId(9) };
    assert_eq!(refused(&gone, &create), ended, "from its append none can be made");
    assert_eq!(refused(&gone, &join(5, "n5")), ended);
}

#[test]
fn an_absorption_that_is_done_is_neither_withdrawn_nor_offered_again() {
    let other = ClusterId(8);
    let document = founded(1, Defaults::default());
    let document = after(&document, &ConfigCommand::Absorbed { cluster: other });
    for command in
        [ConfigCommand::WithdrawAbsorb { cluster: other }, ConfigCommand::Absorb { cluster: other }]
    {
        let mut same = Some(document.clone());
        assert_eq!(apply(&mut same, &command), Ok(Applied::Unchanged));
    }
    assert_eq!(document.absorbed.get(&other), Some(&Absorption::Done));
}

#[test]
fn a_joiner_from_a_dissolved_cluster_proves_that_it_has_dissolved() {
    let other = ClusterId(8);
    let document = founded(1, Defaults::default());
    let document = after(&document, &ConfigCommand::Absorb { cluster: other });
    let mut joiner = join(2, "n2");
    if let ConfigCommand::Join { dissolved_from, .. } = &mut joiner {
        *dissolved_from = Some(other);
    }
    assert_eq!(after(&document, &joiner).absorbed.get(&other), Some(&Absorption::Done));
}

#[test]
fn an_operator_who_meant_a_name_does_not_hit_another_server() {
    let document = founded(3, Defaults::default());
    let remove = |name: &str| ConfigCommand::Operator {
        node: node(2),
        name: Some(name.to_owned()),
        change: OperatorChange::Remove,
    };
    let reason = Rejection::UnknownServer { server: "n9".to_owned() };
    assert_eq!(refused(&document, &remove("n9")), reason);
    let removed = after(&document, &remove("n2"));
    assert!(!removed.servers.contains_key(&node(2)));
    let mut again = Some(removed);
    assert_eq!(apply(&mut again, &remove("n2")), Ok(Applied::Unchanged), "asked once more");
}

#[test]
fn the_recorded_start_of_a_server_only_rises() {
    let started = |number| ConfigCommand::SetStatus {
        node: node(2),
        status: ServerStatus::Online,
        addresses: None,
        start: Some(crate::Start { number, nonce: number }),
    };
    let document = after(&founded(2, Defaults::default()), &started(3));
    let mut same = Some(document.clone());
    assert_eq!(apply(&mut same, &started(2)), Ok(Applied::Unchanged));
    assert_eq!(document.servers[&node(2)].start.map(|s| s.number), Some(3));
}

#[test]
fn recovery_leaves_one_server_under_a_new_cluster_and_remembers_the_old() {
    let document = founded(3, Defaults::default());
    let command = ConfigCommand::Recover { cluster: ClusterId(2), survivor: node(2) };
    let recovered = after(&document, &command);
    assert_eq!(recovered.cluster, ClusterId(2));
    assert_eq!(recovered.servers.keys().copied().collect::<Vec<_>>(), [node(2)]);
    let old = recovered.absorbed.get(&ClusterId(1));
    assert_eq!(old, Some(&Absorption::Abandoned));
    let mut same = Some(recovered.clone());
    let told = ConfigCommand::Absorbed { cluster: ClusterId(1) };
    assert_eq!(apply(&mut same, &told), Ok(Applied::Unchanged), "it may still hold databases");
}

fn any_command() -> impl Strategy<Value = ConfigCommand> {
    let number = 1_u128..6;
    let cluster = (1_u128..4).prop_map(ClusterId);
    prop_oneof![
        (number.clone(), 1_u8..6).prop_map(|(n, name)| join(n, &format!("n{name}"))),
        (number.clone(), any::<bool>()).prop_map(|(n, online)| ConfigCommand::SetStatus {
            node: node(n),
            status: if online { ServerStatus::Online } else { ServerStatus::Away },
            addresses: None,
            start: None,
        }),
        (number.clone(), any::<bool>()).prop_map(|(n, operator)| {
            let by = if operator { RemoveReason::Operator } else { RemoveReason::Unreachable };
            remove(n, by)
        }),
        (number.clone(), any::<bool>()).prop_map(|(n, master)| ConfigCommand::SetRole {
            node: node(n),
            role: if master { Role::Master } else { Role::Replica },
        }),
        number.prop_map(|n| ConfigCommand::SetRegistration {
            node: node(n),
            registration: Registration::Dynamic,
        }),
        Just(ConfigCommand::create_database("demo", DatabaseId(1))),
        Just(ConfigCommand::DropDatabase { name: "demo".to_owned() }),
        cluster.clone().prop_map(|cluster| ConfigCommand::Absorb { cluster }),
        cluster.clone().prop_map(|cluster| ConfigCommand::WithdrawAbsorb { cluster }),
        cluster.prop_map(|into| ConfigCommand::Dissolve { into, addresses: vec![] }),
    ]
}

proptest! {
    #[test]
    fn names_are_unique_a_master_is_left_and_versions_rise(
        commands in proptest::collection::vec(any_command(), 0..60)
    ) {
        let defaults = Defaults { auto_remove: AutoRemove::Never, ..Defaults::default() };
        let mut document = Some(founded(3, defaults));
        for command in &commands {
            let before = document.clone();
            let result = apply(&mut document, command);
            let (before, held) = (before.unwrap(), document.as_ref().unwrap());
            match result {
                Ok(Applied::Changed) => prop_assert_eq!(held.version, before.version.next()),
                Ok(Applied::Unchanged) | Err(_) => prop_assert_eq!(held, &before),
            }
            let names: std::collections::BTreeSet<_> =
                held.servers.values().map(|s| s.name.clone()).collect();
            prop_assert_eq!(names.len(), held.servers.len());
            prop_assert!(held.masters().next().is_some());
            prop_assert!(held.dissolved_into.is_none() || held.databases.is_empty());
        }
    }
}

#[test]
fn absorptions_are_bounded_and_an_old_one_never_stops_a_new_one() {
    let mut document = founded(1, Defaults::default());
    let offer = ClusterId(5_000);
    document = after(&document, &ConfigCommand::Absorb { cluster: offer });
    for number in 1_000..1_200 {
        let cluster = ClusterId(number);
        document = after(&document, &ConfigCommand::Absorb { cluster });
        document = after(&document, &ConfigCommand::Absorbed { cluster });
        assert!(document.absorbed.len() <= super::super::Configuration::ABSORBED_MAX);
        assert_eq!(document.absorbed.get(&cluster), Some(&Absorption::Done));
        assert_eq!(document.absorbed.get(&offer), Some(&Absorption::Offered), "it still binds");
    }
}

#[test]
fn a_cluster_does_not_dissolve_into_one_that_has_dissolved_into_it() {
    let document = founded(1, Defaults::default());
    let document = after(&document, &ConfigCommand::Absorbed { cluster: ClusterId(77) });
    let dissolve = |into| ConfigCommand::Dissolve { into: ClusterId(into), addresses: Vec::new() };
    let ended = Rejection::IntoEnded { into: ClusterId(77) };
    assert_eq!(refused(&document, &dissolve(77)), ended);
    assert!(after(&document, &dissolve(78)).dissolved_into.is_some());
}

/// Seed 8070975: it was to be taken out, which was refused, and so it never was recorded as away: nobody
/// could come in under its name.
#[test]
fn the_last_master_does_not_go_by_itself() {
    let document = cluster(&["a", "b"]);
    let document = after(&document, &ConfigCommand::SetRole { node: node(2), role: Role::Replica });
    assert!(!document.may_go(node(1)));
    assert!(document.may_go(node(2)));
}
