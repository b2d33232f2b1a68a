//! The two configuration files of an OrientDB installation, read as they are.
//!
//! ```text
//! hazelcast.xml ──Hazelcast::load──┐
//!                                  ├── Settings::new ──> what a node is started with
//! database JSON ─DatabaseConfig::load
//! ```
//!
//! Everything is read and checked before anything is started. An error names the file, the line,
//! the path in it, the value and what is allowed; what is ignored or means something else here
//! than its writer may think becomes a [`Note`]. Both readers are bounded (see [`Bounds`]), read
//! no other file, and never panic. Passwords are [`Secret`]s, which do not print.
//!
//! ```
//! use quorate_io::config::{Hazelcast, Settings, Variables};
//!
//! let xml = br#"<hazelcast>
//!   <group><name>shop</name><password>${PASSWORD}</password></group>
//!   <network><join><multicast enabled="true"/></join></network>
//! </hazelcast>"#;
//! let lookup = |name: &str| (name == "PASSWORD").then(|| "s3cret".to_owned());
//! let (hazelcast, notes) = Hazelcast::parse("hazelcast.xml", xml, &Variables::new(&lookup))?;
//! assert!(notes.is_empty());
//! let (settings, _) = Settings::new(Some(hazelcast), None)?;
//! assert_eq!(settings.group, "shop");
//! assert_eq!(settings.password.expose(), "s3cret");
//! assert_eq!(format!("{:?}", settings.password), "***");
//! # Ok::<(), quorate_io::config::ConfigError>(())
//! ```

mod database;
mod error;
mod file;
mod hazelcast;
mod interfaces;
mod json;
mod members;
mod note;
mod pattern;
mod ports;
mod public;
mod secret;
mod settings;
mod timings;
mod variables;
mod xml;

#[cfg(test)]
mod tests;

pub use database::{
    DataCenter, DatabaseConfig, EffectiveRules, ExecutionMode, Placement, QuorumRule, ShardRules,
};
pub use error::{Bounds, ConfigError, Place};
pub use hazelcast::{
    At, Aws, DEFAULT_GROUP, Discovery, Group, Hazelcast, Join, Multicast, Network, Properties,
    SymmetricEncryption, TcpIp,
};
pub use interfaces::{Interfaces, NoInterface, Patterns};
pub use members::{Candidates, Member, Members, Resolved, TooManyCandidates};
pub use note::{Level, Note};
pub use pattern::{AddressPattern, V4Pattern, V6Pattern};
pub use ports::{Port, parse_outbound_ports};
pub use public::PublicAddress;
pub use secret::Secret;
pub use settings::{EncryptionSettings, MulticastSettings, Settings};
pub use variables::Variables;
