//! The configuration document: one line of versions a cluster, and nothing acknowledged is lost.

use std::sync::Arc;

use quorate_core::configuration::{ConfigCommand, Configuration};
use quorate_core::{ClusterId, Command, ConfigVersion, NodeId};

use super::Checks;
use crate::disk::Directory;
use crate::outcome::{Verdict, Violation};

/// What one run of a node has shown so far.
#[derive(Clone, Default, Debug)]
pub struct RunView {
    /// The last version it said was in force, and of which cluster.
    pub shown: Option<(ClusterId, ConfigVersion)>,
}

/// A command that was answered with success.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Acknowledged {
    /// In which cluster.
    pub cluster: ClusterId,
    /// In which version.
    pub version: ConfigVersion,
}

impl Checks {
    /// A node says that `document` is in force.
    ///
    /// # Errors
    /// `configuration-not-committed` if that version was never committed by a quorum of disks (so
    /// that no minority can remove or change anything), `configuration-diverged` if it differs from
    /// what was committed, `configuration-went-back` within the run.
    pub fn shows(
        &mut self,
        node: NodeId,
        run: &mut RunView,
        document: &Arc<Configuration>,
    ) -> Verdict {
        let (cluster, version) = (document.cluster, document.version);
        if let Some((before, shown)) = run.shown
            && (before != cluster || version < shown)
        {
            let detail = format!("{node:?} shows {cluster:?} {version} after {before:?} {shown}");
            return Err(Violation::new("configuration-went-back", detail));
        }
        run.shown = Some((cluster, version));
        let Some(committed) = self.ledger(cluster).version(version) else {
            let detail = format!("{node:?} shows {version} of {cluster:?}: {document:?}");
            return Err(Violation::new("configuration-not-committed", detail));
        };
        if **committed == **document {
            return Ok(());
        }
        let detail = format!(
            "{node:?} shows {version} of {cluster:?} as {document:?}, committed is {committed:?}"
        );
        Err(Violation::new("configuration-diverged", detail))
    }

    /// A coordinator answers a request with `version` of `cluster`.
    ///
    /// # Errors
    /// `acknowledged-before-commit`.
    pub fn answers(&mut self, node: NodeId, cluster: ClusterId, version: ConfigVersion) -> Verdict {
        if self.ledger(cluster).version(version).is_some() {
            return Ok(());
        }
        let detail = format!("{node:?} answers with version {version} of {cluster:?}");
        Err(Violation::new("acknowledged-before-commit", detail))
    }

    /// The owner of `directory` ends because its cluster `from` has dissolved. Where it goes is not
    /// judged: whoever knows that the cluster has ended may take it in.
    ///
    /// # Errors
    /// `dissolved-uncommitted` if no quorum of that cluster's disks said so.
    pub fn dissolves(&self, directory: &Directory, from: ClusterId) -> Verdict {
        let document = self.known(from).and_then(|ledger| ledger.document());
        // Members of a cluster that was given up follow its survivor if they hold nothing.
        let ended = document.is_some_and(|held| held.dissolved_into.is_some());
        if ended || self.is_given_up(from) {
            return Ok(());
        }
        let detail = format!("{:?} says that {from:?} has dissolved", directory.node);
        Err(Violation::new("dissolved-uncommitted", detail))
    }

    /// A command was answered with success: the document of `cluster` has `version`. When it was
    /// given, the node that was asked knew version `since`.
    ///
    /// # Errors
    /// `acknowledged-before-commit` if it was never committed, `acknowledged-without-effect` if
    /// what was asked for does not hold in it.
    pub fn acknowledges(
        &mut self,
        node: NodeId,
        cluster: ClusterId,
        version: ConfigVersion,
        command: &Command,
        since: ConfigVersion,
    ) -> Verdict {
        let ledger = self.ledger(cluster);
        let Some(document) = ledger.version(version) else {
            let detail = format!("{node:?} answers {command:?} with version {version}");
            return Err(Violation::new("acknowledged-before-commit", detail));
        };
        if !holds(document, command, since) {
            let detail =
                format!("{node:?} answers {command:?} with {version}, which is {document:?}");
            return Err(Violation::new("acknowledged-without-effect", detail));
        }
        self.acknowledged.push(Acknowledged { cluster, version });
        Ok(())
    }

    /// Nothing that was acknowledged has been lost from the clusters' histories.
    ///
    /// # Errors
    /// `acknowledged-lost`.
    pub fn all_acknowledged_held(&self) -> Verdict {
        for held in &self.acknowledged {
            let known = self.known(held.cluster).and_then(|l| l.version(held.version));
            if known.is_none() {
                let detail = format!("version {} of {:?}", held.version, held.cluster);
                return Err(Violation::new("acknowledged-lost", detail));
            }
        }
        Ok(())
    }
}

/// Whether what a command, given in version `since`, asks for is so in `document`.
fn holds(document: &Configuration, command: &Command, since: ConfigVersion) -> bool {
    let server = |text: &str| {
        let by_id = NodeId::parse(text).and_then(|id| document.servers.get(&id));
        by_id.or_else(|| document.by_name(text).map(|(_, server)| server))
    };
    match command {
        // Another may have come since under the name of the one that was meant.
        Command::RemoveServer { server: text } => server(text).is_none_or(|s| s.joined > since),
        Command::SetRole { server: text, role } => server(text).is_some_and(|s| s.role == *role),
        Command::SetRegistration { server: text, registration } => {
            server(text).is_some_and(|s| s.registration == *registration)
        }
        // No change of the document.
        Command::Sync { .. } | Command::Measure { .. } => true,
        Command::Change(ConfigCommand::CreateDatabase { name, .. }) => {
            document.databases.contains_key(name)
        }
        Command::Change(ConfigCommand::DropDatabase { name }) => {
            !document.databases.contains_key(name)
        }
        Command::Change(_) | Command::Stop => true,
    }
}
