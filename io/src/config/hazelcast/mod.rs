//! `hazelcast.xml` of Hazelcast 3.x, as OrientDB uses it.

mod join;
mod properties;
mod read;

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use super::error::{ConfigError, Place};
use super::file;
use super::interfaces::{Interfaces, Patterns};
use super::members::Member;
use super::note::{Note, Notes};
use super::ports::Port;
use super::public::PublicAddress;
use super::secret::Secret;
use super::variables::Variables;

pub(super) use properties::{AUTO_REMOVE, auto_remove_of};
pub use properties::{At, Properties};

/// The group name and password of OrientDB's own files, which everyone knows: it authenticates
/// nobody.
pub const DEFAULT_GROUP: &str = "orientdb";

/// What a hazelcast.xml says.
///
/// Every element that says something about finding and trusting other nodes is read; the rest is
/// ignored with a [`Note`] that names its path. Differences from Hazelcast 3.8's own reader, all
/// towards saying more: a boolean must be `true`, `yes`, `on`, `false`, `no` or `off` (Hazelcast
/// takes every other word for false); values are checked when the file is read, not when they are
/// first used; a missing `<group>` is `orientdb`/`orientdb` and a missing `<port>` 2434, as in
/// the file that OrientDB ships, where Hazelcast would take `dev` and 5701.
///
/// What stands in a block that is not enabled is read too, but a mistake there is a warning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hazelcast {
    /// `<group>`.
    pub group: Group,
    /// `<network>`.
    pub network: Network,
    /// Those of `<properties>` that mean something here.
    pub properties: Properties,
}

/// `<group>`: who belongs together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// `<name>`, `orientdb` if missing. 1 to 255 bytes.
    pub name: String,
    /// `<password>`, `orientdb` if missing.
    pub password: Secret,
}

/// `<network>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Network {
    /// `<port>`: 2434, auto-increment, 100.
    pub port: Port,
    /// `<outbound-ports>`: ranges to dial from, sorted; empty: any port.
    pub outbound_ports: Vec<(u16, u16)>,
    /// `<reuse-address>`: true.
    pub reuse_address: bool,
    /// `<public-address>`: where others reach this node, if not where it listens.
    pub public_address: Option<PublicAddress>,
    /// `<interfaces>`: off.
    pub interfaces: Interfaces,
    /// `<join>`: how the others are found.
    pub join: Join,
    /// `<symmetric-encryption>`: off.
    pub encryption: SymmetricEncryption,
}

/// `<join>`. At most one of multicast and TCP/IP is enabled; none: the node is on its own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Join {
    /// `<multicast>`.
    pub multicast: Multicast,
    /// `<tcp-ip>`.
    pub tcp_ip: TcpIp,
    /// `<aws>`: never enabled, since that is an error.
    pub aws: Aws,
    /// `<kubernetes>` and the strategies of `<discovery-strategies>`: never enabled, since that is
    /// an error.
    pub discovery: Vec<Discovery>,
}

/// `<multicast>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Multicast {
    /// Off unless the file says so.
    pub enabled: bool,
    /// `loopbackModeEnabled`, false: whether to use multicast when the node is bound to a loopback
    /// address. It does not switch `IP_MULTICAST_LOOP`: several nodes on one host find each other.
    pub loopback: bool,
    /// `<multicast-group>`: 224.2.2.3.
    pub group: Ipv4Addr,
    /// `<multicast-port>`: 54327.
    pub port: u16,
    /// `<multicast-time-to-live>`: 32 hops, at most 255.
    pub time_to_live: u8,
    /// `<multicast-timeout-seconds>`, if the file says it (Hazelcast takes 2 s): how long to look
    /// for a cluster. Counts when `hazelcast.wait.seconds.before.join` is missing.
    pub timeout: Option<Duration>,
    /// `<trusted-interfaces>`: whose datagrams are heeded; empty: everyone's.
    pub trusted: Patterns,
}

impl Default for Multicast {
    fn default() -> Self {
        Self {
            enabled: false,
            loopback: false,
            group: Ipv4Addr::new(224, 2, 2, 3),
            port: 54327,
            time_to_live: 32,
            timeout: None,
            trusted: Patterns::default(),
        }
    }
}

/// `<tcp-ip>`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpIp {
    /// Off unless the file says so.
    pub enabled: bool,
    /// `connection-timeout-seconds`: 5 s.
    pub connection_timeout: Duration,
    /// `<member>`, `<members>` and `<interface>`, merged, none twice.
    pub members: Vec<Member>,
    /// `<required-member>`.
    pub required_member: Option<Member>,
}

impl Default for TcpIp {
    fn default() -> Self {
        Self {
            enabled: false,
            connection_timeout: Duration::from_secs(5),
            members: Vec::new(),
            required_member: None,
        }
    }
}

/// `<aws>`: Amazon's EC2, not built yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Aws {
    /// `connection-timeout-seconds`: 5 s.
    pub connection_timeout: Duration,
    /// `<access-key>`.
    pub access_key: Option<Secret>,
    /// `<secret-key>`.
    pub secret_key: Option<Secret>,
    /// `<iam-role>`.
    pub iam_role: Option<String>,
    /// `<region>`: us-east-1.
    pub region: String,
    /// `<host-header>`: ec2.amazonaws.com.
    pub host_header: String,
    /// `<security-group-name>`.
    pub security_group_name: Option<String>,
    /// `<tag-key>`.
    pub tag_key: Option<String>,
    /// `<tag-value>`.
    pub tag_value: Option<String>,
    /// `<hz-port>`: the ports of the nodes there, as written.
    pub hz_port: Option<String>,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            connection_timeout: Duration::from_secs(5),
            access_key: None,
            secret_key: None,
            iam_role: None,
            region: "us-east-1".to_owned(),
            host_header: "ec2.amazonaws.com".to_owned(),
            security_group_name: None,
            tag_key: None,
            tag_value: None,
            hz_port: None,
        }
    }
}

/// `<kubernetes>`, or a `<discovery-strategy>`: not built yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Discovery {
    /// The class of a strategy; `kubernetes` for that element.
    pub name: String,
    /// `service-dns`: a name that resolves to the address of every pod.
    pub service_dns: Option<String>,
}

/// `<symmetric-encryption>`. Every byte between nodes is always encrypted; this adds its
/// passphrase, salt and count to the key that nodes must share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SymmetricEncryption {
    /// Off unless the file says so.
    pub enabled: bool,
    /// `<algorithm>`, as written. The cipher is a modern one whatever stands here.
    pub algorithm: String,
    /// `<salt>`.
    pub salt: String,
    /// `<password>`.
    pub password: Secret,
    /// `<iteration-count>`: at least 1.
    pub iteration_count: u32,
}

impl Default for SymmetricEncryption {
    /// Hazelcast's example, which its class has for defaults too.
    fn default() -> Self {
        Self {
            enabled: false,
            algorithm: "PBEWithMD5AndDES".to_owned(),
            salt: "thesalt".to_owned(),
            password: Secret::new("thepass".to_owned()),
            iteration_count: 19,
        }
    }
}

impl Default for Network {
    fn default() -> Self {
        Self {
            port: Port::default(),
            outbound_ports: Vec::new(),
            reuse_address: true,
            public_address: None,
            interfaces: Interfaces::default(),
            join: Join::default(),
            encryption: SymmetricEncryption::default(),
        }
    }
}

impl Default for Group {
    fn default() -> Self {
        let password = Secret::new(DEFAULT_GROUP.to_owned());
        Self { name: DEFAULT_GROUP.to_owned(), password }
    }
}

impl Hazelcast {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]: unreadable, beyond a bound, or wrong.
    pub fn load(path: &Path, variables: &Variables<'_>) -> Result<(Self, Vec<Note>), ConfigError> {
        Self::parse(&path.display().to_string(), &file::read(path)?, variables)
    }

    /// Reads `bytes`, which messages call `name`.
    ///
    /// # Errors
    /// [`ConfigError`]: beyond a bound, or wrong. Never panics, whatever the bytes.
    pub fn parse(
        name: &str,
        bytes: &[u8],
        variables: &Variables<'_>,
    ) -> Result<(Self, Vec<Note>), ConfigError> {
        let text = file::text(name, bytes)?;
        let mut notes = Notes::default();
        let root = super::xml::read(name, text, variables, &mut notes)?;
        let node = super::xml::Node::root(name, &root);
        if node.name() != "hazelcast" {
            let Place { file, line, .. } = node.place();
            let place = Place { file, line, path: node.name().to_owned() };
            return Err(ConfigError::Root { place, found: node.name().to_owned() });
        }
        let hazelcast = read::hazelcast(&node, &mut notes)?;
        Ok((hazelcast, notes.finish()))
    }
}
