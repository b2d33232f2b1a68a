//! One fault or order, with everything that was drawn for it, so that it can be repeated by itself.

use quorate_core::configuration::{DatabaseRules, Registration, Role, ShardRules};
use quorate_core::marks::Mark;
use serde::{Deserialize, Deserializer, Serialize};

use super::databases::SHARDS;

/// The name of a shard, one of a few.
type ShardName = &'static str;

fn shard<'de, D: Deserializer<'de>>(from: D) -> Result<ShardName, D::Error> {
    let name = String::deserialize(from)?;
    SHARDS.into_iter().find(|known| *known == name).ok_or_else(|| {
        serde::de::Error::custom(format!("no shard is called '{name}'; there are {SHARDS:?}"))
    })
}

/// The name of a rare state of a node.
type MarkName = &'static str;

fn mark<'de, D: Deserializer<'de>>(from: D) -> Result<MarkName, D::Error> {
    let name = String::deserialize(from)?;
    let known = Mark::ALL.iter().map(|(_, known)| *known).find(|known| *known == name);
    known.ok_or_else(|| serde::de::Error::custom(format!("no rare state is called '{name}'")))
}

/// When a process that is to die does so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Moment {
    /// While the next write is outstanding.
    Write,
    /// Right after the next packet was sent.
    Send,
    /// When the next write has become durable, before the node learns of it.
    Durable,
    /// While a copy takes the place of another.
    Swap(Step),
}

/// The steps by which a copy takes the place of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Step {
    /// A part of it is being written.
    Receiving,
    /// The whole file is being synced and given its name.
    Finishing,
    /// It bears its name, before the node learns of it.
    Placed,
    /// The record that names it is outstanding.
    Recording,
    /// The record is durable, before the node learns of it.
    Recorded,
    /// It is being opened.
    Opening,
    /// The other one is being put away.
    Tidying,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 7] = [
        Self::Receiving,
        Self::Finishing,
        Self::Placed,
        Self::Recording,
        Self::Recorded,
        Self::Opening,
        Self::Tidying,
    ];
}

/// What an operator wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Order {
    /// Take the server of that host out.
    Remove(usize),
    /// Make it a master or a replica.
    SetRole(usize, Role),
    /// Make it static or dynamic.
    SetRegistration(usize, Registration),
    /// Make a database, one of a few names.
    Create(u8),
    /// Drop it.
    Drop(u8),
    /// Stop the node that is asked.
    Stop,
    /// Something about a database.
    Database(u8, Box<DatabaseOrder>),
}

/// What an operator wants of a database, one of a few names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DatabaseOrder {
    /// To be made.
    Create(DatabaseRules),
    /// To be dropped.
    Drop,
    /// To get other rules, and perhaps to lose the shards that these do not name.
    Configure(DatabaseRules, bool),
    /// To get a shard.
    AddShard(#[serde(deserialize_with = "shard")] ShardName, ShardRules),
    /// To lose one.
    DropShard(#[serde(deserialize_with = "shard")] ShardName),
    /// A shard to get that host's server as its static owner, or none.
    SetOwner(#[serde(deserialize_with = "shard")] ShardName, Option<usize>),
    /// The copy of a shard at that host to be put out of use, or taken back.
    SetOffline(#[serde(deserialize_with = "shard")] ShardName, usize, bool),
    /// The asked node's copy of a shard to be brought up to date: by a whole one, even where the log
    /// would do, and even if it holds everything.
    Sync(#[serde(deserialize_with = "shard")] ShardName, bool, bool),
    /// The content of a shard to be kept as a file.
    BackUp(#[serde(deserialize_with = "shard")] ShardName),
    /// That of a shard to become what a file holds.
    Restore(#[serde(deserialize_with = "shard")] ShardName, Content),
}

impl Order {
    /// The last host that it names beside the one that is asked.
    #[must_use]
    pub fn whom(&self) -> Option<usize> {
        match self {
            Self::Remove(of) | Self::SetRole(of, _) | Self::SetRegistration(of, _) => Some(*of),
            Self::Database(_, order) => match **order {
                DatabaseOrder::SetOwner(_, of) => of,
                DatabaseOrder::SetOffline(_, of, _) => Some(of),
                _ => None,
            },
            Self::Create(_) | Self::Drop(_) | Self::Stop => None,
        }
    }

    /// The same order about another host, if it names one.
    #[must_use]
    pub fn about(mut self, host: usize) -> Self {
        match &mut self {
            Self::Remove(of) | Self::SetRole(of, _) | Self::SetRegistration(of, _) => *of = host,
            Self::Database(_, order) => match &mut **order {
                DatabaseOrder::SetOwner(_, Some(of)) | DatabaseOrder::SetOffline(_, of, _) => {
                    *of = host;
                }
                _ => {}
            },
            Self::Create(_) | Self::Drop(_) | Self::Stop => {}
        }
        self
    }
}

/// What a file holds that is to become the content of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Content {
    /// What some shard once held, the latest backup being 0.
    Backup(usize),
    /// Nothing.
    Nothing,
    /// It is no database.
    Rubbish,
}

/// What happens to a host that comes to a rare state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Strike {
    /// Its process is killed.
    Crash {
        /// The machine loses its power: nobody tells the others.
        power: bool,
        /// It is started again after this.
        down: u64,
    },
    /// Its process stops for a while and then goes on.
    Pause {
        /// For so long.
        lasts: u64,
    },
    /// An operator gives an order about it, if orders of this kind name a host.
    Order {
        /// At which node.
        host: usize,
        /// What.
        order: Order,
    },
}

/// A fault or an order. Times are in nanoseconds; sets of hosts have a bit for each.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Action {
    /// What goes from some hosts to others is lost.
    Cut {
        /// Its number.
        id: u32,
        /// From these.
        from: u32,
        /// To those.
        to: u32,
        /// The other direction too.
        both: bool,
        /// Datagrams are.
        datagrams: bool,
        /// Streams are.
        streams: bool,
        /// For so long.
        lasts: u64,
    },
    /// Whoever leads a log is cut off.
    IsolateLeader {
        /// The number of the cut.
        id: u32,
        /// Which log of those that have a leader: 0 is the configuration's, and it goes on from the first again.
        which: usize,
        /// What it sends still arrives.
        sends: bool,
        /// It still hears the others.
        hears: bool,
        /// For so long.
        lasts: u64,
    },
    /// A process stops for a while and then goes on.
    Pause {
        /// Whose.
        host: usize,
        /// For so long.
        lasts: u64,
    },
    /// Processes are killed.
    Crash {
        /// Of these hosts.
        hosts: u32,
        /// The machine loses its power: nobody tells the others.
        power: bool,
        /// They are started again after this, each a little later than the one before.
        down: u64,
    },
    /// A process is killed at a bad moment.
    Arm {
        /// Whose.
        host: usize,
        /// When.
        moment: Moment,
        /// How many such moments pass before.
        skip: u32,
        /// It is started again after this.
        down: u64,
    },
    /// A disk is lost; a new one comes in its place, under the old name.
    Wipe {
        /// Whose.
        host: usize,
        /// Started again after this.
        down: u64,
        /// Even when the cluster cannot live on without it.
        ruthless: bool,
    },
    /// Somebody copies the disk, for a backup.
    BackUp {
        /// Whose.
        host: usize,
    },
    /// An old copy of the disk is put back, if that is fair.
    Restore {
        /// Whose.
        host: usize,
        /// Which of the copies, the latest being 0.
        copy: usize,
    },
    /// The disk of a host that is down is copied to a spare host and started there.
    Clone {
        /// Whose.
        host: usize,
    },
    /// The disk takes no more writes.
    FailDisk {
        /// Whose.
        host: usize,
        /// Repaired and started again after this.
        down: u64,
    },
    /// The disk is slow.
    SlowDisk {
        /// Whose.
        host: usize,
        /// Added to each sync.
        extra: u64,
        /// For so long.
        lasts: u64,
    },
    /// The clock runs at another pace.
    Drift {
        /// Whose.
        host: usize,
        /// Millionths gained.
        ppm: i32,
    },
    /// The clock jumps ahead.
    Jump {
        /// Whose.
        host: usize,
        /// So far.
        ahead: u64,
    },
    /// All links of a host are slow.
    SlowLinks {
        /// Which.
        host: usize,
        /// Added each way.
        extra: u64,
        /// For so long.
        lasts: u64,
    },
    /// Streams of a host break.
    Reset {
        /// Which.
        host: usize,
        /// Every how manieth of them.
        one_in: u64,
    },
    /// Engines of a host find no space left.
    FillDisk {
        /// Which.
        host: usize,
        /// For so long.
        lasts: u64,
    },
    /// Engines of a host are slow.
    SlowEngines {
        /// Which.
        host: usize,
        /// Added to each call.
        extra: u64,
        /// For so long.
        lasts: u64,
    },
    /// The files of a copy are damaged, if enough other copies are whole.
    Rot {
        /// At which host.
        host: usize,
        /// Which of its copies.
        which: usize,
    },
    /// A process is killed, and starts again with a copy of another shard in the place of one of its
    /// copies, if enough other copies are whole.
    Misplace {
        /// At which host.
        host: usize,
        /// Which of its copies.
        which: usize,
        /// Which of all copies of other shards, of any cluster.
        other: usize,
        /// Starts again after so long.
        down: u64,
    },
    /// Entries of a log cannot be read back from the disk any more, as after bit rot or a write that
    /// went astray, if the others can still decide and hold what is needed.
    RotLog {
        /// At which host.
        host: usize,
        /// Which of its logs.
        which: usize,
        /// How many entries before the last one.
        back: usize,
        /// How many more, each as many entries further on.
        more: usize,
    },
    /// Somebody waits for a rare state of a node, and strikes then.
    Ambush {
        /// Which state, by its name in [`quorate_core::marks`].
        #[serde(deserialize_with = "mark")]
        mark: MarkName,
        /// How often it is let pass before.
        skip: u64,
        /// What happens to the host that comes to it.
        strike: Strike,
    },
    /// An operator gives an order.
    Order {
        /// At which node.
        host: usize,
        /// What.
        order: Order,
    },
}

impl Action {
    /// The last host that it names.
    #[must_use]
    pub fn last_host(&self) -> Option<usize> {
        let last = |hosts: u32| hosts.checked_ilog2().and_then(|last| usize::try_from(last).ok());
        match self {
            Self::Cut { from, to, .. } => last(from | to),
            Self::Crash { hosts, .. } => last(*hosts),
            Self::Order { host, order }
            | Self::Ambush { strike: Strike::Order { host, order }, .. } => {
                Some(order.whom().map_or(*host, |of| of.max(*host)))
            }
            other => other.host(),
        }
    }

    /// The host that it is about, if that is one.
    #[must_use]
    pub fn host(&self) -> Option<usize> {
        match self {
            Self::Cut { .. }
            | Self::Crash { .. }
            | Self::IsolateLeader { .. }
            | Self::Ambush { strike: Strike::Crash { .. } | Strike::Pause { .. }, .. } => None,
            Self::Order { host, .. }
            | Self::Ambush { strike: Strike::Order { host, .. }, .. }
            | Self::Pause { host, .. }
            | Self::Arm { host, .. }
            | Self::Wipe { host, .. }
            | Self::BackUp { host }
            | Self::Restore { host, .. }
            | Self::Clone { host }
            | Self::FailDisk { host, .. }
            | Self::SlowDisk { host, .. }
            | Self::Drift { host, .. }
            | Self::Jump { host, .. }
            | Self::SlowLinks { host, .. }
            | Self::Reset { host, .. }
            | Self::FillDisk { host, .. }
            | Self::SlowEngines { host, .. }
            | Self::Rot { host, .. }
            | Self::Misplace { host, .. }
            | Self::RotLog { host, .. } => Some(*host),
        }
    }
}
