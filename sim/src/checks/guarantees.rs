//! What a client may count on, whichever server it asks: it sees what it wrote and read before, its
//! writes come after those, and what it knows of the cluster never goes back.

use std::collections::BTreeMap;

use quorate_core::client::Layout;
use quorate_core::{ClusterId, ConfigVersion, Index, LogId, NodeId, Term};

use super::{Checks, Content};
use crate::outcome::{Verdict, Violation};

/// A shard.
type Of = (ClusterId, LogId);

/// How far a client has seen a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Seen {
    wrote: Index,
    read: Index,
}

/// How far a client has seen the shard that it asks. Where two clusters have databases of one name it is
/// that which has answered last: nothing is promised across the two.
#[derive(Clone, Debug, Default)]
pub struct Guarantees {
    seen: Option<(Of, Seen)>,
    /// How often it began anew.
    epoch: u64,
}

/// What a client had seen when it asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bound {
    seen: Option<(Of, Seen)>,
    epoch: u64,
}

impl Guarantees {
    /// What it has seen up to now.
    #[must_use]
    pub fn bound(&self) -> Bound {
        Bound { seen: self.seen, epoch: self.epoch }
    }

    /// It was answered from here.
    pub fn saw(&mut self, of: Of, at: Index, reads: bool) {
        if self.seen.is_none_or(|(known, _)| known != of) {
            self.epoch += 1;
            self.seen = Some((of, Seen::default()));
        }
        let Some((_, seen)) = &mut self.seen else { return };
        let known = if reads { &mut seen.read } else { &mut seen.wrote };
        *known = (*known).max(at);
    }

    /// It was told that what it saw is gone, and asks without it.
    pub fn forget(&mut self) {
        self.seen = None;
        self.epoch += 1;
    }
}

impl Bound {
    /// Whether whoever asked with it counts on it still.
    #[must_use]
    pub fn is_of(&self, guarantees: &Guarantees) -> bool {
        self.epoch == guarantees.epoch
    }

    /// An answer from `at` comes to whoever asked with this bound.
    ///
    /// # Errors
    /// `read-your-writes`, `monotonic-reads`, `monotonic-writes`, `writes-follow-reads`.
    pub fn holds(
        &self,
        who: impl Fn() -> String,
        of: Of,
        at: Index,
        content: &Content,
        reads: bool,
    ) -> Verdict {
        let Some((_, seen)) = self.seen.filter(|(known, _)| *known == of) else { return Ok(()) };
        let names = if reads {
            [("read-your-writes", seen.wrote), ("monotonic-reads", seen.read)]
        } else {
            [("monotonic-writes", seen.wrote), ("writes-follow-reads", seen.read)]
        };
        for (name, least) in names {
            // A copy stands at the last entry with content: behind it there may be others.
            if at < least && content.position_at(least) > at {
                let detail = format!("{}: answered from {at} of {of:?}, and had {least}", who());
                return Err(Violation::new(name, detail));
            }
        }
        Ok(())
    }
}

/// What a client has been told of clusters.
#[derive(Clone, Debug, Default)]
pub struct LayoutsSeen {
    cluster: Option<ClusterId>,
    version: ConfigVersion,
    /// By log: the term of which the owner was told, and who that was.
    owners: BTreeMap<LogId, (Term, Option<NodeId>)>,
}

impl LayoutsSeen {
    /// A client sees this from now on.
    ///
    /// # Errors
    /// `layout-went-back`, `two-owners-in-a-term`.
    pub fn sees(&mut self, layout: &Layout) -> Verdict {
        if layout.cluster != self.cluster {
            *self = Self { cluster: layout.cluster, ..Self::default() };
        }
        let back = |detail: String| Err(Violation::new("layout-went-back", detail));
        if layout.version < self.version {
            return back(format!("to version {} from {}", layout.version, self.version));
        }
        self.version = layout.version;
        for shard in &layout.shards {
            let now = (shard.term, shard.owner);
            let before = self.owners.insert(shard.log, now).unwrap_or_default();
            if now.0 < before.0 {
                return back(format!("of {:?}: owner {now:?}, before {before:?}", shard.log));
            }
            if now.0 == before.0 && now.1 != before.1 && before.1.is_some() {
                let detail = format!("{:?}: {now:?}, before {before:?}", shard.log);
                return Err(Violation::new("two-owners-in-a-term", detail));
            }
        }
        Ok(())
    }
}

impl Checks {
    /// What a client is told of a cluster was so: the document of that version, and each owner was
    /// elected in its term.
    ///
    /// # Errors
    /// `layout-untrue`.
    pub fn layout_is_true(&self, layout: &Layout) -> Verdict {
        let Some(cluster) = layout.cluster else { return Ok(()) };
        let untrue = |detail: String| Err(Violation::new("layout-untrue", detail));
        let mut owners = BTreeMap::new();
        for shard in &layout.shards {
            let Some(owner) = shard.owner else { continue };
            owners.insert(shard.log, (owner, shard.term));
            let ledger = self.shard(cluster, shard.log);
            let elected = ledger.and_then(|ledger| ledger.leaders.get(&shard.term));
            if elected != Some(&owner) {
                let (log, term) = (shard.log, shard.term);
                return untrue(format!("{owner:?} owns {log:?} in term {term}; it is {elected:?}"));
            }
        }
        let ledger = self.known(cluster);
        let Some(document) = ledger.and_then(|ledger| ledger.version(layout.version)) else {
            let before = ledger.is_some_and(|ledger| ledger.is_before(layout.version));
            if before {
                return Ok(());
            }
            return untrue(format!("version {} of {cluster:?} is not committed", layout.version));
        };
        let due = Layout::of(document, &owners);
        if due == *layout {
            return Ok(());
        }
        untrue(format!("version {} is {due:?}, told was {layout:?}", layout.version))
    }

    /// Whether reads of a shard are as configured linearizable, by the last document that is committed.
    #[must_use]
    pub fn is_strict(&self, cluster: ClusterId, log: LogId) -> bool {
        let document = self.known(cluster).and_then(|ledger| ledger.latest());
        let shard = document.and_then(|document| document.shard_of(log));
        shard.is_some_and(|s| s.read_quorum().copies(s.masters().count()) > 1)
    }

    /// A key that somebody was told is not there, and never will be.
    ///
    /// # Errors
    /// `refused-and-done`.
    pub fn nobody_holds(&self, key: i64) -> Verdict {
        match self.shards().find(|ledger| ledger.content.had(key)) {
            None => Ok(()),
            Some(ledger) => {
                let of = (ledger.cluster, ledger.log);
                let detail =
                    format!("{of:?} holds {key}, of which a client was told that it does not");
                Err(Violation::new("refused-and-done", detail))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::DatabaseId;
    use quorate_core::client::LayoutShard;

    fn layout(version: u64, term: u64, owner: u128) -> Layout {
        let shard = LayoutShard {
            database: "d".to_owned(),
            id: DatabaseId(1),
            name: "main".to_owned(),
            log: LogId(7),
            owner: Some(NodeId(owner)),
            term: Term(term),
            is_linearizable: false,
            copies: Vec::new(),
        };
        let cluster = Some(ClusterId(1));
        let version = ConfigVersion(version);
        Layout { cluster, version, servers: Vec::new(), shards: vec![shard] }
    }

    fn name(verdict: Verdict) -> Option<String> {
        verdict.err().map(|violation| violation.invariant)
    }

    #[test]
    fn a_layout_that_goes_back_is_found_in_the_document_and_in_each_owner() {
        let mut seen = LayoutsSeen::default();
        assert_eq!(name(seen.sees(&layout(3, 5, 1))), None);
        assert_eq!(name(seen.sees(&layout(4, 6, 2))), None);
        assert_eq!(name(seen.clone().sees(&layout(3, 6, 2))).as_deref(), Some("layout-went-back"));
        assert_eq!(name(seen.clone().sees(&layout(5, 5, 1))).as_deref(), Some("layout-went-back"));
        let two = name(seen.clone().sees(&layout(4, 6, 1)));
        assert_eq!(two.as_deref(), Some("two-owners-in-a-term"));
        // Another cluster has versions and terms of its own.
        let other = Layout { cluster: Some(ClusterId(2)), ..layout(1, 1, 1) };
        assert_eq!(name(seen.sees(&other)), None);
    }

    #[test]
    fn whoever_asks_in_time_counts_on_what_it_had_seen_and_no_more() {
        let of = (ClusterId(1), LogId(7));
        let mut guarantees = Guarantees::default();
        let before = guarantees.bound();
        guarantees.saw(of, Index(9), false);
        // Nothing has content: wherever a copy stands it has all there is.
        let content = Content::default();
        let who = || "a client".to_owned();
        assert!(before.holds(who, of, Index(1), &content, true).is_ok());
        assert!(guarantees.bound().holds(who, of, Index(1), &content, true).is_ok());
        let of_another = (ClusterId(1), LogId(8));
        assert!(guarantees.bound().holds(who, of_another, Index(1), &content, true).is_ok());
    }
}
