//! The configuration document, its transitions, and how the memberships of logs follow it.
//!
//! ```text
//! document  database       what there is: servers · databases, shards, copies
//! command   rejection      the transitions, as commands · why one is refused
//! servers   databases  users   merging   what they do
//! rules     placement      what an operator says of a database · where that puts it
//! founding                 how the log of a shard begins, once
//! ownership rotation       who owns a shard · whose turn it is
//! plan      moves          how memberships follow · what a change would move
//! ```

mod bringing;
mod command;
mod database;
mod databases;
mod document;
mod founding;
mod merging;
mod moves;
mod ownership;
mod placement;
mod plan;
mod rejection;
mod rotation;
mod rules;
mod servers;
#[cfg(test)]
mod tests;
mod users;

pub use bringing::{Attempt, Bringing, Brought};
pub use command::{Applied, ConfigCommand, OperatorChange, RemoveReason, apply};
pub use database::{
    CopyStatus, Database, EVERY, ExecutionMode, HOLLOW, MAIN, Place, PlaceRule, QuorumRule,
    Settings, Shard,
};
pub use databases::problems;
pub use document::{
    Absorption, Addresses, AutoRemove, Configuration, Defaults, Dissolved, Registration, Role,
    Server, ServerStatus,
};
pub use founding::{Founding, Origin};
pub use moves::{Presence, ShardMoves, preview, what_moves};
pub use ownership::{ShardRef, preferred_owner};
pub use plan::{Reach, plan, plan_shard};
pub use rejection::{Rejection, check_server_name};
pub use rules::{DatabaseRules, ShardRules};
pub use users::{
    AccessToken, PasswordHash, TokenHash, User, UserChange, UserRole, check_user_name,
};
