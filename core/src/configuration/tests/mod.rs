//! The document's transitions and the plan, one property a test.

mod plan;
mod transitions;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{Addresses, ConfigCommand, Configuration, Defaults, apply};
use crate::ids::{ClusterId, NodeId};

fn node(number: u128) -> NodeId {
    NodeId(number)
}

fn nodes(numbers: &[u128]) -> BTreeSet<NodeId> {
    numbers.iter().map(|n| NodeId(*n)).collect()
}

fn addresses(number: u16) -> Addresses {
    let node = SocketAddr::from(([127, 0, 0, 1], 2434 + number));
    Addresses { node, client: None, http: None }
}

fn join(number: u128, name: &str) -> ConfigCommand {
    let addresses = addresses(u16::try_from(number).unwrap());
    ConfigCommand::Join {
        node: node(number),
        name: name.to_owned(),
        addresses,
        start: None,
        dissolved_from: None,
    }
}

/// A cluster of servers 1 to `count`, named `n1` and so on.
fn founded(count: u128, defaults: Defaults) -> Configuration {
    let mut document = None;
    let found = ConfigCommand::Found {
        cluster: ClusterId(1),
        group: "demo".to_owned(),
        node: node(1),
        name: "n1".to_owned(),
        addresses: addresses(1),
        start: crate::Start { number: 1, nonce: 1 },
        defaults,
    };
    apply(&mut document, &found).unwrap();
    for number in 2..=count {
        apply(&mut document, &join(number, &format!("n{number}"))).unwrap();
    }
    document.unwrap()
}

/// Applies and returns the changed document.
fn after(document: &Configuration, command: &ConfigCommand) -> Configuration {
    let mut document = Some(document.clone());
    apply(&mut document, command).unwrap();
    document.unwrap()
}

/// The reason for which a command is refused; the document must be untouched.
fn refused(document: &Configuration, command: &ConfigCommand) -> super::Rejection {
    let mut changed = Some(document.clone());
    let reason = apply(&mut changed, command).unwrap_err();
    assert_eq!(changed.as_ref(), Some(document), "a refused command changes nothing");
    reason
}
