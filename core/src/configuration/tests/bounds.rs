//! How large the document may get, and that it always fits the packet that carries it.

use std::net::SocketAddr;

use super::super::{
    Addresses, ConfigCommand, Configuration, DatabaseRules, Rejection, RemoveReason, apply,
};
use super::{
    DEMO, add_shard, addresses, after, away, cluster, create, node, on, refused, remove, rules,
};
use crate::ids::{ClusterId, DatabaseId, Index, LogId, Start, Term};
use crate::raft::{Body, Membership, Message, Snapshot};
use crate::wire::{self, PACKET_BYTES_MAX, Packet};

/// A document of so many servers with long names.
fn servers(count: u128) -> Configuration {
    let mut document = cluster(&["a"]);
    // Ids are random: nearly all take the longest form.
    for number in 2..=count {
        let join = ConfigCommand::Join {
            node: node(u128::MAX - number),
            name: format!("{number:064}"),
            addresses: addresses(2),
            start: None,
            dissolved_from: None,
            brings: None,
        };
        document = after(&document, &join);
    }
    document
}

fn database(number: u128, shards: usize, servers: &str) -> ConfigCommand {
    let mut given = DatabaseRules::default();
    for shard in 1..shards {
        given.shards.insert(format!("shard-{shard}"), on(servers));
    }
    let id = DatabaseId(u128::MAX - number);
    ConfigCommand::CreateDatabase { name: format!("db{number}"), id, rules: Box::new(given) }
}

#[test]
fn there_are_so_many_databases_and_no_more() {
    let mut held = Some(cluster(&["a"]));
    for number in 0..Configuration::DATABASES_MAX {
        let id = DatabaseId(number as u128);
        let create = ConfigCommand::create_database(format!("db{number}"), id);
        apply(&mut held, &create).unwrap();
    }
    let one_more = ConfigCommand::create_database("more", DatabaseId(9));
    let expected = Rejection::TooManyDatabases { max: 1000 };
    assert_eq!(refused(&held.unwrap(), &one_more), expected);
}

#[test]
fn there_are_so_many_shards_in_a_database_and_in_all() {
    let database_of = |shards| database(1, shards, "+");
    let document = cluster(&["a"]);
    let (max, asked) = (Configuration::SHARDS_MAX, 257);
    let expected = Rejection::TooManyShards { database: "db1".to_owned(), asked, max };
    assert_eq!(refused(&document, &database_of(257)), expected);
    let mut full = after(&document, &create(&rules(&[])));
    for number in 0..15 {
        full = after(&full, &database(number, 256, "+"));
    }
    full = after(&full, &database(15, 255, "+"));
    assert_eq!(full.shards().count(), 4096);
    assert_eq!(full.last_log, LogId(4096));
    let expected = Rejection::TooManyLogs { asked: 4097, max: 4096 };
    assert_eq!(refused(&full, &add_shard("more", &on("+"))), expected);
    assert_eq!(refused(&full, &ConfigCommand::create_database("more", DEMO)), expected);
}

#[test]
fn all_shards_that_there_may_be_fit_on_fifteen_servers() {
    let mut document = servers(15);
    for number in 0..16 {
        document = after(&document, &database(number, 256, "+"));
    }
    let bytes = document.encoded_bytes();
    assert_eq!(bytes, postcard::to_allocvec(&document).unwrap().len());
    println!("4096 shards on 15 servers: {bytes} bytes");
    assert!(bytes < Configuration::BYTES_MAX, "{bytes}");
}

#[test]
fn the_largest_document_fits_a_packet_whatever_else_then_happens_to_it() {
    // Every shard names servers that are still to come, with the longest names.
    let long: Vec<String> = (100..140).map(|number| format!("{number:064}")).collect();
    let listed = format!("a + {}", long.join(" "));
    let mut held = Some(servers(64));
    let mut refusal = None;
    for number in 0..100 {
        if let Err(why) = apply(&mut held, &database(number, 64, &listed)) {
            refusal = Some(why);
            break;
        }
    }
    let refusal = refusal.expect("there is an end");
    assert!(matches!(refusal, Rejection::DocumentFull { max: Configuration::BYTES_MAX, .. }));
    assert!(refusal.to_string().contains("drop databases or shards"), "{refusal}");
    // Up to the last byte, nearly; then all that makes it longer without being asked whether it may.
    let mut number = 1000;
    while apply(&mut held, &database(number, 2, "a +")).is_ok() {
        number += 1;
    }
    let mut document = held.unwrap();
    let full = document.encoded_bytes();
    assert!(full > Configuration::BYTES_MAX - 8192, "{full}");
    let far: SocketAddr = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
    for id in document.servers.clone().into_keys() {
        let addresses = Some(Addresses { node: far, client: Some(far), http: Some(far) });
        let start = Some(Start { number: u64::MAX, nonce: u64::MAX });
        let status = super::ServerStatus::Away;
        let command = ConfigCommand::SetStatus { node: id, status, addresses, start };
        document = after(&document, &command);
    }
    for cluster in 2..=64 {
        let cluster = ClusterId(u128::MAX - cluster);
        document = after(&document, &ConfigCommand::Absorb { cluster });
    }
    document.expelled.extend((0..64).map(|n| (node(u128::MAX - n), document.version)));
    let gone = (document.version, Start { number: u64::MAX, nonce: u64::MAX });
    document.departed.extend((0..256).map(|n| (node(u128::MAX - n), gone)));
    let longer = document.encoded_bytes() - full;
    println!("the largest document: {full} bytes, and {longer} more");
    let data = postcard::to_allocvec(&Some(&document)).unwrap().into();
    let members: Vec<u128> = document.servers.keys().map(|id| id.0).collect();
    let mut membership = Membership::founder(node(1), document.version);
    membership.incoming.voters = super::nodes(&members);
    membership.outgoing = Some(membership.incoming.clone());
    membership.learners = super::nodes(&members);
    let snapshot = Snapshot { index: Index(u64::MAX), term: Term(u64::MAX), membership, data };
    let message = Message { term: Term(u64::MAX), body: Body::Install { snapshot } };
    let (cluster, log) = (ClusterId(u128::MAX), LogId::CONFIGURATION);
    let bytes = wire::encode_packet(&Packet::Raft { cluster, log, message });
    assert!(bytes.len() < PACKET_BYTES_MAX, "{}", bytes.len());
}

#[test]
fn a_document_that_is_full_may_still_shrink() {
    let long: Vec<String> = (100..160).map(|number| format!("{number:064}")).collect();
    let listed = format!("a {}", long.join(" "));
    let mut held = Some(cluster(&["a", "b"]));
    let mut number = 0;
    while apply(&mut held, &database(number, 200, &listed)).is_ok() {
        number += 1;
    }
    let document = held.unwrap();
    assert!(matches!(
        refused(&document, &database(99, 200, &listed)),
        Rejection::DocumentFull { .. }
    ));
    let fewer = after(&document, &ConfigCommand::DropDatabase { name: "db0".to_owned() });
    let fewer = after(&after(&fewer, &away(2)), &remove(2, RemoveReason::Operator));
    assert!(fewer.encoded_bytes() < document.encoded_bytes());
}
