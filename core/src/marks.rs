//! Rare states that matter. A simulation that never came to one has proved nothing of it.
//!
//! `sometimes!(Name)` stands where the state is entered, `sometimes!(condition, Name)` where it may be.
//! A mark changes nothing that a node does. They are counted, for each thread by itself, only with the
//! feature `marks`, which the simulator asks for, and in tests; in any other build nothing of them is left.
//!
//! A campaign of the simulator tells how often each was reached, and a long one that misses one fails. For
//! each a test of this crate leads to it in a few scripted steps, and says so by `reaches!(Name)`.

macro_rules! marks {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A rare state.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Mark {
            $($(#[$doc])* $variant,)*
        }

        impl Mark {
            /// All of them, with their names.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

marks! {
    // Logs.
    /// A leader is elected while two memberships must agree.
    ElectedUnderJoint = "elected-under-a-joint-membership",
    /// A leader is elected by exactly half of the voters, the tie-breaker among them.
    ElectedByTieBreaker = "elected-by-the-tie-breaker",
    /// A candidate of a higher term is ignored, since the leader was heard a moment ago.
    DisruptionIgnored = "disruptive-candidate-ignored",
    /// An election comes up while the candidate's vote for itself is being written.
    OwnVoteSlow = "own-vote-slower-than-an-election",
    /// A quorum holds an entry of an earlier term, and that alone does not commit it.
    EarlierTermHeld = "earlier-term-not-committed-by-copies",
    /// Entries are cut off that contradict the leader's.
    LogCut = "log-cut",
    /// The membership in force is cut off with them.
    MembershipCut = "membership-cut",
    /// A leader without a quorum gives up its office.
    LeaderWithoutQuorum = "leader-without-a-quorum",
    /// A leader hands over since its own disk is what all wait for.
    SlowLeader = "leader-with-a-slow-disk",
    /// A hand-over was not taken up in time.
    TransferGivenUp = "transfer-given-up",
    /// A leader has committed a membership in which it has no vote.
    LeaderLeftOut = "leader-left-out",
    /// A voter that lacks what it once held does not stand for election.
    VoterAbstains = "voter-abstains",
    /// A member lacks entries that come before what was sent to it.
    AppendAfterGap = "append-after-a-gap",
    /// An entry that was durable cannot be read back.
    EntryUnreadable = "entry-unreadable",
    /// Such an entry is known all the same, by its place in the log.
    EntryRebuilt = "unreadable-entry-rebuilt",
    /// Nothing is written, so that there is a copy to be had that holds such an entry.
    UnreadableSteppedOver = "unreadable-entry-stepped-over",
    /// A member is behind the beginning of its leader's log: only a whole copy brings it up.
    DeltaRefused = "delta-refused-for-a-gap",

    // Shards.
    /// A request that has run in its session is answered by what the session kept.
    SessionReplayed = "session-replayed",
    /// The answer was too large to be kept: only that it was done is known.
    AnswerNotKept = "answer-not-kept",
    /// A request comes again while its first attempt waits to be run.
    DuplicateInBatch = "duplicate-in-the-batch",
    /// A request comes in a session that has ended.
    SessionExpired = "session-expired",
    /// A request comes again after its answer was acknowledged.
    Superseded = "request-superseded",
    /// What an owner has run, and appended, is undone in its copy.
    OpenUndone = "open-batch-undone",
    /// An owner is deposed while the engine runs for it: nothing is appended.
    DeposedWhileRunning = "deposed-while-running",
    /// An entry that an owner lost sight of was replaced by another.
    AppendedInVain = "appended-in-vain",
    /// It was committed after all.
    CommittedAfterAll = "committed-after-all",
    /// An entry is committed on fewer copies than the write quorum asks for, and answered so.
    BelowQuorum = "committed-below-quorum",
    /// A copy is one of another shard, or holds something else than the log.
    CopyDiverged = "copy-diverged",
    /// The entries after a whole copy are gone before anybody could hold them for it.
    HoldRefused = "hold-refused",
    /// What was fetched does not fit the log any more when it is to take the live copy's place.
    InstallRefused = "install-refused",
    /// An interactive transaction is undone, for its owner's term is over.
    InteractiveCut = "interactive-cut-by-a-term",

    // Whole copies.
    /// A whole copy goes on with chunks that an earlier attempt has brought.
    CopyResumed = "copy-resumed",
    /// A donor is silent in the midst of a whole copy.
    DonorSilent = "donor-silent",
    /// A donor cannot give a whole copy now.
    DonorRefused = "donor-refused",
    /// A shard's new holder takes the log rather than wait for a whole copy.
    BlankTakesLog = "blank-copy-takes-the-log",

    // Clusters.
    /// A node whose directory is not what others know of it stops.
    StaleDirectory = "stale-directory",
    /// Two clusters have each offered to take in the other.
    OffersCrossed = "offers-crossed",
    /// An offer to take in another cluster is taken back.
    OfferWithdrawn = "offer-withdrawn",
    /// A member hears from elsewhere that its cluster has ended.
    StragglerFollows = "straggler-follows",
    /// Two clusters that hold databases meet, and neither can end.
    SplitSeen = "split-seen",
    /// A node tells a request at once that too few are in reach.
    NobodyInReach = "nobody-in-reach",

    // Clients.
    /// A client loses a connection with a write on its way, which is sent again elsewhere.
    WriteInDoubt = "write-in-doubt",
    /// An answer says that what became of a write is not known, and it is sent again.
    OutcomeInDoubt = "outcome-in-doubt",
    /// A client's transaction is lost with the connection to its server.
    TransactionLost = "transaction-lost-with-its-connection",
    /// A transaction has begun that nobody waits for any more, and is undone.
    OrphanUndone = "orphan-transaction-undone",
    /// A client's session has ended, and what was not done goes on in another.
    SessionReplaced = "client-session-replaced",
    /// A server tells of a layout that is older than the client's.
    OlderLayout = "older-layout-told",
    /// All servers that a client knows refuse it.
    RefusedByAll = "refused-by-all",
}

/// Whether marks are counted in this build.
pub(crate) const COUNTED: bool = cfg!(any(test, feature = "marks"));

#[cfg(any(test, feature = "marks"))]
mod counts {
    use std::cell::Cell;

    use super::Mark;

    thread_local! {
        pub(super) static REACHED: [Cell<u64>; Mark::ALL.len()] = const { [const { Cell::new(0) }; Mark::ALL.len()] };
    }

    pub(crate) fn reach(mark: Mark) {
        REACHED.with(|reached| {
            let count = &reached[mark as usize];
            count.set(count.get() + 1);
        });
    }

    /// How often a mark was reached by this thread since all were last taken.
    #[must_use]
    pub fn reached(mark: Mark) -> u64 {
        REACHED.with(|reached| reached[mark as usize].get())
    }

    /// How often each mark was reached by this thread since it was last asked, by name.
    #[must_use]
    pub fn take() -> Vec<(&'static str, u64)> {
        REACHED.with(|reached| {
            let counts = Mark::ALL.iter().zip(reached);
            counts.map(|((_, name), count)| (*name, count.take())).collect()
        })
    }
}

#[cfg(any(test, feature = "marks"))]
pub(crate) use counts::reach;
#[cfg(any(test, feature = "marks"))]
pub use counts::{reached, take};

/// Not counted in this build.
#[cfg(not(any(test, feature = "marks")))]
pub(crate) const fn reach(_mark: Mark) {}

/// A rare state is entered here; with a condition: if that holds.
macro_rules! sometimes {
    ($mark:ident) => {
        $crate::marks::reach($crate::marks::Mark::$mark)
    };
    ($condition:expr, $mark:ident) => {
        if $crate::marks::COUNTED && $condition {
            $crate::marks::reach($crate::marks::Mark::$mark);
        }
    };
}
pub(crate) use sometimes;

/// The test in which this stands leads to a state, or fails.
#[cfg(test)]
macro_rules! reaches {
    ($($mark:ident),+) => {
        let _reaches = [$($crate::marks::tests::Reaches($crate::marks::Mark::$mark)),+];
    };
}
#[cfg(test)]
pub(crate) use reaches;

#[cfg(test)]
pub(crate) mod tests;
