//! The worlds there are.

use crate::laws::Mark;
use crate::world::{Budget, Disk, World};

const NONE: Budget = Budget {
    timeouts: 0,
    heartbeats: 0,
    silences: 0,
    proposals: 0,
    changes: 0,
    transfers: 0,
    crashes: 0,
};

/// Three voters, the first of which leads in term 2.
const THREE: World = World {
    name: "",
    about: "",
    voters: &[1, 2, 3],
    learners: &[],
    led: true,
    disks: &[],
    one_by_one: false,
    terms_max: 4,
    slow_disks: false,
    change_to: &[],
    budget: NONE,
    expected: &[Mark::Elected],
};

/// Two leaders have each written an entry that nobody else has, the second elected by the one in between.
const DIVERGED: World = World {
    led: false,
    disks: &[
        Disk { term: 2, vote: 1, entries: &[2] },
        Disk { term: 3, vote: 3, entries: &[] },
        Disk { term: 3, vote: 3, entries: &[3] },
    ],
    one_by_one: true,
    ..THREE
};

pub(crate) static WORLDS: [World; 18] = [
    World {
        name: "contention",
        about: "two of three campaigns at once for one term",
        led: false,
        terms_max: 2,
        budget: Budget { timeouts: 2, ..NONE },
        expected: &[Mark::Elected],
        ..THREE
    },
    World {
        name: "two-removal",
        about: "two voters, the leader removes itself, resigns, one election",
        voters: &[1, 2],
        change_to: &[2],
        terms_max: 3,
        budget: Budget { timeouts: 1, silences: 1, changes: 1, ..NONE },
        expected: &[Mark::Elected, Mark::ChangeDone, Mark::JointLeader],
        ..THREE
    },
    World {
        name: "two-crash",
        about: "two voters, slow disks, an entry, one election, a crash",
        voters: &[1, 2],
        terms_max: 3,
        slow_disks: true,
        budget: Budget { timeouts: 1, proposals: 1, crashes: 1, ..NONE },
        expected: &[
            Mark::Elected,
            Mark::Committed,
            Mark::CommittedAfterChange,
            Mark::CrashBeforeSync,
        ],
        ..THREE
    },
    World {
        name: "replication-1",
        about: "an entry, one election",
        terms_max: 3,
        budget: Budget { timeouts: 1, proposals: 1, ..NONE },
        expected: &[Mark::Elected, Mark::Committed, Mark::CommittedAfterChange, Mark::Truncated],
        ..THREE
    },
    World {
        name: "vote",
        about: "slow disks, one that may crash after it has voted, two campaigns for a term",
        led: false,
        voters: &[1, 2],
        terms_max: 2,
        slow_disks: true,
        budget: Budget { timeouts: 2, crashes: 1, ..NONE },
        expected: &[Mark::Elected, Mark::CrashBeforeSync],
        ..THREE
    },
    World {
        name: "learner",
        about: "three voters and a learner, an entry, nobody campaigns",
        learners: &[4],
        terms_max: 2,
        budget: Budget { proposals: 1, ..NONE },
        expected: &[Mark::Elected, Mark::Committed],
        ..THREE
    },
    World {
        name: "diverged",
        about: "three different logs, one election, entries one by one",
        terms_max: 4,
        budget: Budget { timeouts: 2, ..NONE },
        expected: &[Mark::Elected, Mark::Truncated],
        ..DIVERGED
    },
    World {
        name: "transfer",
        about: "an entry, a hand-over",
        terms_max: 3,
        budget: Budget { transfers: 1, proposals: 1, ..NONE },
        expected: &[Mark::Elected, Mark::Committed, Mark::HandedOver],
        ..THREE
    },
    World {
        name: "resignation",
        about: "an entry, a leader that resigns, one election",
        terms_max: 3,
        budget: Budget { timeouts: 1, silences: 1, proposals: 1, ..NONE },
        expected: &[Mark::Elected, Mark::Committed, Mark::Resigned],
        ..THREE
    },
    World {
        name: "removal",
        about: "a voter is removed, the tie-breaker moves, one election",
        terms_max: 3,
        change_to: &[2, 1],
        budget: Budget { timeouts: 1, changes: 1, ..NONE },
        expected: &[Mark::Elected, Mark::ChangeDone, Mark::JointLeader, Mark::ChangeTruncated],
        ..THREE
    },
    World {
        name: "self-removal",
        about: "the leader is removed, one election",
        terms_max: 3,
        change_to: &[2, 3],
        budget: Budget { timeouts: 1, changes: 1, ..NONE },
        expected: &[Mark::Elected, Mark::ChangeDone, Mark::JointLeader, Mark::ChangeTruncated],
        ..THREE
    },
    World {
        name: "replication",
        about: "two entries, one election",
        terms_max: 3,
        budget: Budget { timeouts: 1, proposals: 2, ..NONE },
        expected: &[Mark::Elected, Mark::Committed, Mark::CommittedAfterChange, Mark::Truncated],
        ..THREE
    },
    World {
        name: "election",
        about: "three voters, two elections",
        led: false,
        terms_max: 3,
        budget: Budget { timeouts: 2, ..NONE },
        expected: &[Mark::Elected],
        ..THREE
    },
    World {
        name: "crash-vote",
        about: "slow disks, nobody leads, two campaigns for a term, a crash",
        led: false,
        terms_max: 2,
        slow_disks: true,
        budget: Budget { timeouts: 2, crashes: 1, ..NONE },
        expected: &[Mark::Elected, Mark::CrashBeforeSync],
        ..THREE
    },
    World {
        name: "crash",
        about: "an entry, slow disks, one election, a crash",
        terms_max: 3,
        slow_disks: true,
        budget: Budget { timeouts: 1, proposals: 1, crashes: 1, ..NONE },
        expected: &[
            Mark::Elected,
            Mark::Committed,
            Mark::CommittedAfterChange,
            Mark::CrashBeforeSync,
        ],
        ..THREE
    },
    World {
        name: "replacement",
        about: "a voter makes way for a learner, one election",
        terms_max: 3,
        learners: &[4],
        change_to: &[2, 1, 4],
        budget: Budget { timeouts: 1, changes: 1, ..NONE },
        expected: &[Mark::Elected, Mark::ChangeDone, Mark::JointLeader],
        ..THREE
    },
    World {
        name: "small-cluster",
        about: "two entries, a removal, one election, slow disks, a crash",
        terms_max: 3,
        slow_disks: true,
        change_to: &[2, 1],
        budget: Budget { timeouts: 1, proposals: 2, changes: 1, crashes: 1, ..NONE },
        expected: &[Mark::Elected, Mark::Committed, Mark::ChangeDone, Mark::CrashBeforeSync],
        ..THREE
    },
    World {
        name: "everything",
        about: "two entries, a removal, a hand-over, a resignation, heartbeats, two elections, slow disks, a crash",
        terms_max: 4,
        slow_disks: true,
        change_to: &[2, 1],
        budget: Budget {
            timeouts: 2,
            heartbeats: 1,
            silences: 1,
            proposals: 2,
            changes: 1,
            transfers: 1,
            crashes: 1,
        },
        expected: &[Mark::Elected],
        ..THREE
    },
];
