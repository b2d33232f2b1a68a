//! The configuration document, its transitions, and how the log's membership follows it.

mod command;
mod document;
mod plan;
#[cfg(test)]
mod tests;

pub use command::{
    Applied, ConfigCommand, OperatorChange, Rejection, RemoveReason, apply, check_server_name,
};
pub use document::{
    Absorption, Addresses, AutoRemove, Configuration, Database, Defaults, Dissolved, Registration,
    Role, Server, ServerStatus,
};
pub use plan::{Reach, plan};
