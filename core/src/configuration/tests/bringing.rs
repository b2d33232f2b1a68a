//! What a cluster of one server is to bring.

use std::collections::BTreeMap;

use super::{after, cluster, node, places};
use crate::configuration::{Bringing, Brought, ConfigCommand, DatabaseRules, Settings};
use crate::ids::{ClusterId, DatabaseId, LogId};

#[test]
fn a_holder_whose_name_another_server_bears_has_a_place_in_what_it_is_to_bring() {
    let document = cluster(&["n1", "n2"]);
    let settings = Settings { places: places("n1 n2"), ..Settings::default() };
    let brought = Brought {
        name: "brought".to_owned(),
        was: DatabaseId(8),
        id: DatabaseId(9),
        rules: DatabaseRules { settings, shards: BTreeMap::new() },
        logs: BTreeMap::from([("main".to_owned(), LogId(1))]),
    };
    let bringing = Box::new(Bringing {
        holder: node(70),
        name: "n2".to_owned(),
        attempt: (1, 1),
        databases: vec![brought],
    });
    let cluster = ClusterId(0xffff);
    let document = after(&document, &ConfigCommand::Reserve { cluster, bringing });
    assert!(document.reserved("brought").is_some());
}
