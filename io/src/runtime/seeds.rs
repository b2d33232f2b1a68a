//! The member list, resolved again and again: containers and their addresses come and go.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::config::Members;

/// Between two looks at the names of the list.
const AGAIN: Duration = Duration::from_secs(10);

/// Resolves the list until the receiver is gone; sends it when it has changed. `extra` are always
/// part of it.
pub(super) async fn resolve(
    members: Members,
    extra: Vec<SocketAddr>,
    seeds: mpsc::Sender<Vec<SocketAddr>>,
) {
    let mut told: Option<Vec<SocketAddr>> = None;
    let mut failing = BTreeSet::new();
    loop {
        let resolved = match members.resolve().await {
            Ok(resolved) => resolved,
            Err(error) => {
                // Checked at the start; the list does not change after that.
                warn!(%error, "the member list is not used");
                return;
            }
        };
        let failed: BTreeSet<String> = resolved.failed.iter().map(|(n, _)| n.clone()).collect();
        for (name, error) in resolved.failed.iter().filter(|(name, _)| !failing.contains(name)) {
            warn!(name, %error, "a name of the member list does not resolve; it is tried again");
        }
        for name in failing.difference(&failed) {
            info!(name, "a name of the member list resolves again");
        }
        failing = failed;
        if resolved.left_out > 0 {
            warn!(
                left_out = resolved.left_out,
                "the member list has more addresses than are tried"
            );
        }
        let mut addrs = resolved.addresses;
        addrs.extend(extra.iter().filter(|a| !addrs.contains(a)).copied().collect::<Vec<_>>());
        if told.as_ref() != Some(&addrs) {
            told = Some(addrs.clone());
            if seeds.send(addrs).await.is_err() {
                return;
            }
        }
        if members.expand().is_ok_and(|candidates| candidates.hosts.is_empty()) {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = seeds.closed() => return,
        }
    }
}
