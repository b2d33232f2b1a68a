//! How often things happened in a run.

use std::collections::BTreeMap;

macro_rules! counts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Count {
            $($(#[$doc])* $variant,)*
        }

        impl Count {
            /// All of them, with their names.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $name),)*];
        }
    };
}

counts! {
    /// A datagram was handed to a host.
    Datagrams = "datagrams",
    /// A datagram was lost, cut or changed on its way.
    DatagramsHurt = "datagrams-hurt",
    /// A packet was handed to a host.
    Packets = "packets",
    /// A link came up.
    Links = "links",
    /// A link was reset by a fault.
    Resets = "resets",
    /// A handshake was refused.
    Refusals = "refusals",
    /// A batch of operations became durable.
    Syncs = "syncs",
    /// A process was started.
    Starts = "starts",
    /// A process was killed.
    Crashes = "crashes",
    /// A process was killed with writes outstanding.
    CrashesWithWrites = "crashes-with-writes",
    /// A process was stopped for a while.
    Pauses = "pauses",
    /// A partition began.
    Partitions = "partitions",
    /// An old copy of a disk was put back.
    Restores = "restores",
    /// A copy of a disk was started on a second host.
    Clones = "clones",
    /// A disk was wiped.
    Wipes = "wipes",
    /// An operator recovered a survivor of a lost quorum.
    Recoveries = "recoveries",
    /// A disk failed for writing.
    DiskFailures = "disk-failures",
    /// An operator's command was given.
    Commands = "commands",
    /// An operator's command was acknowledged.
    Acknowledged = "acknowledged",
    /// A node became a leader.
    Elections = "elections",
    /// A node became a leader under a joint membership.
    ElectionsJoint = "elections-joint",
    /// A leader was elected, or an entry committed, by exactly half and the tie-breaker.
    TieBreaks = "tie-breaks",
    /// A leader advanced its commit index.
    Commits = "commits",
    /// A node cut back its log.
    Truncations = "truncations",
    /// A membership was reverted by that.
    MembershipsReverted = "memberships-reverted",
    /// A snapshot replaced a log.
    SnapshotsInstalled = "snapshots-installed",
    /// A log was compacted.
    Compactions = "compactions",
    /// A cluster was founded.
    Foundings = "foundings",
    /// A server was removed from the configuration.
    Removals = "removals",
    /// A cluster dissolved into another.
    Dissolutions = "dissolutions",
    /// A cluster of one server ended, and brings its databases to another.
    Bringings = "bringings",
    /// What was brought became the content of a shard.
    Imports = "imports",
    /// A node ended as a stale one.
    StaleDisks = "stale-disks",
    /// A node stopped in good order.
    Leaves = "leaves",
    /// A node noticed that it had been paused.
    PausesNoticed = "pauses-noticed",
    /// A node said that there was no quorum.
    NoQuorums = "no-quorums",
    /// A node said that another cluster has databases too.
    Splits = "splits",
    /// A full sweep of the checks was made.
    Sweeps = "sweeps",
    /// A transaction was given to a node by a client.
    Requests = "requests",
    /// It was done.
    RequestsDone = "requests-done",
    /// All copies were compared.
    Comparisons = "comparisons",
    /// It was refused for lack of a quorum.
    RequestsNoQuorum = "requests-no-quorum",
    /// It was done on fewer copies than asked for.
    RequestsBelowQuorum = "requests-below-quorum",
    /// What became of it was not known.
    RequestsUnknown = "requests-unknown",
    /// It was not done for another reason.
    RequestsFailed = "requests-failed",
    /// A node that waited for what it had answered before, in vain, answered with what it had.
    ShownGivenUp = "shown-given-up",
    /// A client opened a session.
    SessionsOpened = "sessions-opened",
    /// A client was told that its session was not known any more.
    SessionsExpired = "sessions-expired",
    /// What had never been sent before was sent in another session then.
    SessionsRenewed = "sessions-renewed",
    /// A request was sent again that had no final answer.
    AttemptsAgain = "attempts-again",
    /// It was sent again while an earlier attempt was under way.
    AttemptsRaced = "attempts-raced",
    /// It was sent once more after its final answer.
    DuplicatesLate = "duplicates-late",
    /// A request that had its final answer was answered once more, by what the session remembers.
    AnswersAgain = "answers-again",
    /// It was told that its answer was let go of.
    AnswersSuperseded = "answers-superseded",
    /// What became of an operation in a session stayed unknown.
    OnceUnknown = "once-unknown",
    /// A full copy was received that brought sessions.
    SessionsCopied = "sessions-copied",
    /// A client was told that an interactive transaction is open.
    InteractiveBegun = "interactive-begun",
    /// It was told that it is done.
    InteractiveFinished = "interactive-finished",
    /// It was told that it is undone, as it had asked for.
    InteractiveAbandoned = "interactive-abandoned",
    /// It was told that it is lost.
    InteractiveLost = "interactive-lost",
    /// One of a client that fails over is done.
    ClientTransactionsDone = "client-transactions-done",
    /// Those of clients that fail over were lost, and the clients told so.
    ClientTransactionsLost = "client-transactions-lost",
    /// An application asked its client for something.
    ClientRequests = "client-requests",
    /// It was done.
    ClientDone = "client-done",
    /// What became of it was not known.
    ClientUnknown = "client-unknown",
    /// It was not done in its time.
    ClientTimedOut = "client-timed-out",
    /// Too many were under way.
    ClientBusy = "client-busy",
    /// It was done on fewer copies than asked for.
    ClientBelowQuorum = "client-below-quorum",
    /// It was refused.
    ClientFailed = "client-failed",
    /// A client's connection was taken by a host.
    ClientConnections = "client-connections",
    /// A dial of a client came to nothing.
    ClientDialsFailed = "client-dials-failed",
    /// A client's connection broke.
    ClientConnectionsLost = "client-connections-lost",
    /// Something of a client came to a process that was stopped.
    ClientFrozen = "client-at-a-stopped-process",
    /// Something came to a client over a connection that it had closed.
    ClientLate = "client-late-messages",
    /// A client went on with another server.
    ClientSwitches = "client-switches",
    /// It sent again, over another connection, what it had sent in a session.
    ClientReplays = "client-replays",
    /// It asked for a session, and had had one.
    ClientSessionsAgain = "client-sessions-again",
    /// It took over a layout, or a part of one.
    ClientLayouts = "client-layouts-merged",
    /// It was told of copies that are not whole, or that all are by now.
    ClientCopies = "client-copies-told",
    /// It was told of a version that was older than the one it knew.
    ClientLayoutsOlder = "client-layouts-older",
    /// The history of a register was judged.
    HistoriesJudged = "histories-judged",
    /// The history of a register was not judged, for its shard was replaced.
    HistoriesSkipped = "histories-skipped",
    /// A batch of transactions was given to an engine.
    Batches = "batches",
    /// A node became the leader of a shard's log.
    ShardElections = "shard-elections",
    /// A leader advanced the commit index of a shard's log.
    ShardCommits = "shard-commits",
    /// The log of a shard was cut back.
    ShardTruncations = "shard-truncations",
    /// The membership of a shard's log changed.
    ShardMemberships = "shard-memberships",
    /// A call of an engine failed.
    EngineFaults = "engine-faults",
    /// A commit of an engine failed.
    CommitsFailed = "commits-failed",
    /// A power failure took commits back from a copy.
    CommitsLost = "commits-lost",
    /// The files of a copy were damaged.
    CopiesRotten = "copies-rotten",
    /// A copy of another shard was put in the place of one.
    CopiesMisplaced = "copies-misplaced",
    /// Entries of a log rotted on a disk.
    LogsRotten = "logs-rotten",
    /// A node was told that part of its log is unreadable, and came back as another.
    Renewals = "renewals",
    /// A client that no server knows was told so.
    StrangersRefused = "strangers-refused",
    /// Somebody who lay in ambush struck.
    Ambushes = "ambushes",
    /// Entries of a shard's log were read from a disk.
    LogReads = "log-reads",
    /// Every server told what it has measured.
    Measured = "measured",
    /// Some servers told what they have measured, and others did not answer.
    MeasuredInPart = "measured-in-part",
    /// The log of a shard was compacted.
    ShardCompactions = "shard-compactions",
    /// The log of a shard began anew behind a full copy.
    CopiesInstalled = "copies-installed",
    /// A full copy was received.
    FullCopies = "full-copies",
    /// A copy was let come online.
    Grants = "grants",
    /// The content of a shard was kept as a file.
    Backups = "backups",
    /// A file was given to a node, to be the content of a shard.
    ContentRestores = "content-restores",
    /// It became that.
    ContentRestored = "content-restored",
    /// It took its place beside a copy.
    ContentPlaced = "content-placed",
    /// A process died while a part of a full copy was written.
    CrashesReceiving = "swap-crashes-receiving",
    /// While the whole file was synced and given its name.
    CrashesFinishing = "swap-crashes-finishing",
    /// When it bore its name, and the node did not know.
    CrashesPlaced = "swap-crashes-placed",
    /// While the record that names it was outstanding.
    CrashesRecording = "swap-crashes-recording",
    /// When the record was durable, and the node did not know.
    CrashesRecorded = "swap-crashes-recorded",
    /// While it was opened.
    CrashesOpening = "swap-crashes-opening",
    /// While the other one was put away.
    CrashesTidying = "swap-crashes-tidying",
    /// Files that were put away lay where they had lain after a power failure.
    NamesLost = "names-lost",
    /// A write was taken by every node of a shard's cluster after the last fault.
    Probes = "probes",
}

/// All counts of a run.
#[derive(Clone, Debug)]
pub struct Counts([u64; Count::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Count::ALL.len()])
    }
}

impl Counts {
    /// It happened once more.
    pub fn add(&mut self, count: Count) {
        self.0[count as usize] += 1;
    }

    /// How often it happened.
    #[must_use]
    pub fn of(&self, count: Count) -> u64 {
        self.0[count as usize]
    }

    /// By name.
    #[must_use]
    pub fn by_name(&self) -> BTreeMap<String, u64> {
        Count::ALL.iter().map(|(count, name)| ((*name).to_owned(), self.of(*count))).collect()
    }
}
