//! Deliberate faults, to prove that the simulator can find them.
//!
//! They exist only in a build with `--cfg quorate_faults`; in any other, [`active`] is the constant
//! `false` and nothing of them is left in the binary.

/// A deliberate fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Fault {
    /// Messages leave before what they claim is durable.
    SendBeforePersist = 1,
    /// A leader commits an entry of an old term by counting copies.
    CommitOldTerm,
    /// Voters are changed without the joint step.
    SingleStepChange,
    /// The tie-breaker's extra weight counts at odd sizes too.
    TieBreakAtOddSizes,
    /// The tie-breaker is taken from the configuration document, not from the log.
    TieBreakerFromDocument,
    /// A learner counts in quorums.
    LearnerCounted,
    /// The vote is not read back after a restart.
    VoteForgotten,
    /// A truncated membership entry stays in force.
    MembershipNotReverted,
    /// A leader removes a server without waiting for the log to commit it.
    RemovalWithoutQuorum,
    /// A founder announces its cluster before the founding is durable.
    FounderDoesNotPersist,
    /// A copy comes online before it has caught up.
    OnlineBeforeCaughtUp,
    /// An owner answers when an entry is appended, before it is committed.
    AnswerBeforeCommit,
    /// An open transaction is kept when the term ends in which it was run.
    OpenOverATerm,
    /// An owner runs transactions before its copy holds every entry, one of its own term included.
    ExecuteBeforeOwnTerm,
    /// The write quorum is counted over the voters that are there.
    WriteQuorumOfTheLiving,
    /// A voter whose copy is not online loses its vote.
    StatusDecidesTheVote,
    /// A shard's log is begun anew though the store holds it.
    ShardFoundedTwice,
    /// A static owner that is away is replaced in the document.
    StaticOwnerReassigned,
    /// Replicas count for the write quorum.
    ReplicaCounted,
    /// A shard's log lets go of entries that are not durable in the copy yet.
    CompactedPastSynced,
    /// The live copy is put aside before the record of the one that takes its place is durable.
    OldCopyPutAsideFirst,
    /// A member goes on from entries of a leader that do not follow from its own.
    DeltaFromDivergedHistory,
    /// A cluster of one server ends without sealing the shards that it brings.
    BroughtUnsealed,
    /// What was brought is imported again by each start, though the shard's log has begun.
    BroughtTwice,
    /// A full copy comes without the table of sessions.
    SessionsLostInCopy,
    /// A request in a session that is not known any more is run.
    ExpiredSessionExecuted,
    /// A request that is in the open batch already is run again with it.
    OpenDuplicateExecuted,
    /// A copy that follows the log does not take over what entries say of sessions.
    SessionsLostInDelta,
    /// A session of another cluster is taken for one of this, if its numbers are those of one.
    SessionOfAnotherCluster,
    /// A client sends a request again under another sequence.
    RetryWithNewSequence,
    /// A node reads what its copy has, though it has answered from beyond that.
    ShownIgnored,
    /// An interactive transaction is kept when the term ends in which it was begun.
    InteractiveOverATerm,
    /// An interactive transaction may be open for as long as something is asked of it.
    InteractiveWithoutLimit,
    /// A client takes over what an older version of the configuration says.
    OlderLayoutAccepted,
    /// An owner answers linearizable reads without asking a quorum whether it still leads.
    ReadIndexSkipped,
    /// A client forgets what it has seen when it goes on with another server.
    TokenIgnoredAfterSwitch,
    /// A client takes what comes over a connection that it has given up for the answer to its oldest
    /// request.
    ReplyOfEarlierConnection,
}

impl Fault {
    /// Every fault, with the name it is chosen by.
    pub const ALL: [(Self, &'static str); 37] = [
        (Self::SendBeforePersist, "send-before-persist"),
        (Self::CommitOldTerm, "commit-old-term"),
        (Self::SingleStepChange, "single-step-change"),
        (Self::TieBreakAtOddSizes, "tie-break-at-odd-sizes"),
        (Self::TieBreakerFromDocument, "tie-breaker-from-document"),
        (Self::LearnerCounted, "learner-counted"),
        (Self::VoteForgotten, "vote-forgotten"),
        (Self::MembershipNotReverted, "membership-not-reverted"),
        (Self::RemovalWithoutQuorum, "removal-without-quorum"),
        (Self::FounderDoesNotPersist, "founder-does-not-persist"),
        (Self::OnlineBeforeCaughtUp, "online-before-caught-up"),
        (Self::AnswerBeforeCommit, "answer-before-commit"),
        (Self::OpenOverATerm, "open-over-a-term"),
        (Self::ExecuteBeforeOwnTerm, "execute-before-own-term"),
        (Self::WriteQuorumOfTheLiving, "write-quorum-of-the-living"),
        (Self::StatusDecidesTheVote, "status-decides-the-vote"),
        (Self::ShardFoundedTwice, "shard-founded-twice"),
        (Self::StaticOwnerReassigned, "static-owner-reassigned"),
        (Self::ReplicaCounted, "replica-counted"),
        (Self::CompactedPastSynced, "compacted-past-synced"),
        (Self::OldCopyPutAsideFirst, "old-copy-put-aside-first"),
        (Self::DeltaFromDivergedHistory, "delta-from-diverged-history"),
        (Self::BroughtUnsealed, "brought-unsealed"),
        (Self::BroughtTwice, "imported-at-each-start"),
        (Self::SessionsLostInCopy, "sessions-lost-in-a-full-copy"),
        (Self::ExpiredSessionExecuted, "expired-session-executed"),
        (Self::OpenDuplicateExecuted, "duplicate-in-the-open-batch"),
        (Self::SessionsLostInDelta, "sessions-lost-in-a-delta"),
        (Self::SessionOfAnotherCluster, "session-of-another-cluster"),
        (Self::RetryWithNewSequence, "retry-with-a-new-sequence"),
        (Self::ShownIgnored, "shown-ignored"),
        (Self::InteractiveOverATerm, "interactive-over-a-term"),
        (Self::InteractiveWithoutLimit, "interactive-without-a-limit"),
        (Self::OlderLayoutAccepted, "older-layout-accepted"),
        (Self::ReadIndexSkipped, "read-index-skipped"),
        (Self::TokenIgnoredAfterSwitch, "token-ignored-after-switch"),
        (Self::ReplyOfEarlierConnection, "reply-of-an-earlier-connection"),
    ];
}

#[cfg(quorate_faults)]
impl Fault {
    /// The name it is chosen by.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(fault, _)| *fault == self).map_or("", |(_, name)| name)
    }
}

#[cfg(quorate_faults)]
impl core::str::FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|(_, known)| *known == name);
        known.map(|(fault, _)| *fault).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|(_, name)| *name).collect();
            format!("there is no fault '{name}'; there are {}", names.join(", "))
        })
    }
}

#[cfg(quorate_faults)]
static ACTIVE: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

/// Chooses the fault of this process; `None`: none.
#[cfg(quorate_faults)]
pub fn set(fault: Option<Fault>) {
    ACTIVE.store(fault.map_or(0, |f| f as u8), core::sync::atomic::Ordering::SeqCst);
}

/// Whether `fault` is switched on.
#[cfg(quorate_faults)]
pub fn active(fault: Fault) -> bool {
    ACTIVE.load(core::sync::atomic::Ordering::SeqCst) == fault as u8
}

/// Whether `fault` is switched on: never in this build.
#[cfg(not(quorate_faults))]
pub(crate) const fn active(_fault: Fault) -> bool {
    false
}
