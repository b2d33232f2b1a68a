//! What a node needs from the two files, every default applied.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use quorate_core::Timings;
use quorate_core::configuration::{AutoRemove, Defaults};

use super::database::DatabaseConfig;
use super::error::ConfigError;
use super::hazelcast::{DEFAULT_GROUP, Group, Hazelcast, Multicast, Network};
use super::interfaces::{Interfaces, Patterns};
use super::members::Members;
use super::note::{Note, Notes};
use super::ports::Port;
use super::public::PublicAddress;
use super::secret::Secret;
use super::timings;

/// What a node is started with. Command line and environment may then replace single fields.
///
/// # From Hazelcast's seconds to timings
///
/// Without a file `Timings::default()` holds; a value in the file wins. How:
///
/// * `hazelcast.max.no.heartbeat.seconds` is [`Timings::max_no_heartbeat`] as it stands.
/// * `hazelcast.wait.seconds.before.join`, or else `<multicast-timeout-seconds>`, is
///   [`Timings::found_wait`], raised to two announcements if it is shorter: nobody is found in no
///   time. A node then defers to a smaller id for a second longer than that
///   ([`Timings::defer_wait`]): that one may have started later, and waits as long.
///   `hazelcast.max.wait.seconds.before.join` bounds both together.
/// * `hazelcast.heartbeat.interval.seconds` cannot be taken as it stands. Hazelcast's heartbeat
///   only feeds the limit above; ours is the leader's, and elections wait for several of them: with
///   OrientDB's 5 s nobody would decide for 15 to 30 s after a crash. So OrientDB's 5 s stand for
///   Quorate's own 100 ms and other values keep that ratio, 1/50, between 100 ms and 1 s; the
///   election times keep theirs to the heartbeat, 3 to 6 of them. Nodes thus hear of each other at
///   least as often as the file asks, and a slow network can still be given more time.
/// * The limit must leave room for lost heartbeats, or the healthy are removed (hazelcast #6108):
///   at or below the interval it is an error, below three intervals, or below three of the
///   longest election, a warning. If the file has an interval and no limit, the limit is six
///   intervals, OrientDB's ratio, and never below Quorate's own 5 s.
/// * `hazelcast.max.join.seconds` and the merge delays change nothing: a node goes on trying to
///   join, and clusters of one name meet as soon as one hears of the other.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The group name.
    pub group: String,
    /// The group password.
    pub password: Secret,
    /// What `<symmetric-encryption>` adds to the shared key, if enabled.
    pub encryption: Option<EncryptionSettings>,
    /// Where to listen for other nodes.
    pub port: Port,
    /// Ports to dial from, as sorted ranges; empty: any.
    pub outbound_ports: Vec<(u16, u16)>,
    /// Whether a port that was just given up may be taken again at once.
    pub reuse_address: bool,
    /// Which of the host's addresses may be used.
    pub interfaces: Interfaces,
    /// Where others reach this node, if not where it listens.
    pub public_address: Option<PublicAddress>,
    /// How to announce and to listen for announcements; `None`: not at all.
    pub multicast: Option<MulticastSettings>,
    /// The TCP/IP member list; `None`: there is none.
    pub members: Option<Members>,
    /// How long dialling another node may take.
    pub connect_timeout: Duration,
    /// What this node makes of the cluster if it founds one.
    pub defaults: Defaults,
    /// Rules of the databases.
    pub database: DatabaseConfig,
    /// All durations.
    pub timings: Timings,
}

/// `<symmetric-encryption>`: must be equal on every node of a cluster, `algorithm` excepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EncryptionSettings {
    /// As written; the cipher is a modern authenticated one whatever stands here.
    pub algorithm: String,
    /// Goes into the key.
    pub salt: String,
    /// Goes into the key.
    pub password: Secret,
    /// Goes into the key.
    pub iteration_count: u32,
}

/// How to find others by multicast.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MulticastSettings {
    /// The multicast address.
    pub group: Ipv4Addr,
    /// The UDP port.
    pub port: u16,
    /// How many hops, 0 to 255.
    pub time_to_live: u8,
    /// Whether to use it also when bound to a loopback address. It has nothing to do with
    /// `IP_MULTICAST_LOOP`, which stays on: several nodes on one host find each other.
    pub loopback: bool,
    /// Whose datagrams are heeded.
    pub trusted: Patterns,
}

impl Settings {
    /// What a node needs, from either file, both or none, and remarks on the values. Without a
    /// hazelcast.xml everything is as in the one that OrientDB ships (multicast to
    /// 235.1.1.1:2434), except that Quorate's own faster timings hold.
    ///
    /// # Errors
    /// [`ConfigError::HeartbeatLimit`]; all else was checked when the files were read.
    pub fn new(
        hazelcast: Option<Hazelcast>,
        database: Option<DatabaseConfig>,
    ) -> Result<(Self, Vec<Note>), ConfigError> {
        let mut notes = Notes::default();
        let hazelcast = hazelcast.unwrap_or_else(Hazelcast::without_file);
        let timings = timings::of(&hazelcast, &mut notes)?;
        let database = database.unwrap_or_default();
        let auto_remove = auto_remove(&hazelcast, &database, &mut notes);
        let expect = hazelcast.properties.initial_min_cluster_size.as_ref();
        let defaults = database.defaults(auto_remove, expect.map_or(0, |at| at.value));
        let members = Members::of(&hazelcast);
        let Hazelcast { group: Group { name: group, password }, network, .. } = hazelcast;
        let Network { port, outbound_ports, reuse_address, .. } = network;
        let multicast = network.join.multicast;
        let encryption = network.encryption;
        let settings = Self {
            group,
            password,
            encryption: encryption.enabled.then(|| EncryptionSettings {
                algorithm: encryption.algorithm.clone(),
                salt: encryption.salt.clone(),
                password: encryption.password.clone(),
                iteration_count: encryption.iteration_count,
            }),
            port,
            outbound_ports,
            reuse_address,
            interfaces: network.interfaces,
            public_address: network.public_address,
            multicast: multicast.enabled.then(|| MulticastSettings::of(multicast)),
            members,
            connect_timeout: network.join.tcp_ip.connection_timeout,
            defaults,
            database,
            timings,
        };
        Ok((settings, notes.finish()))
    }

    /// Whether the password is the one that everyone knows, or none: it authenticates nobody, and
    /// every start says so.
    #[must_use]
    pub fn password_is_public(&self) -> bool {
        self.password.is_empty() || self.password.expose() == DEFAULT_GROUP
    }
}

impl MulticastSettings {
    /// Whether a datagram from `address` is heeded; see [`Patterns::trusted`].
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.trusted(address)
    }

    fn of(multicast: Multicast) -> Self {
        let Multicast { group, port, time_to_live, loopback, trusted, .. } = multicast;
        Self { group, port, time_to_live, loopback, trusted }
    }
}

impl Hazelcast {
    /// What holds without a file: as in the one that OrientDB ships, without its properties.
    #[must_use]
    pub fn without_file() -> Self {
        let mut network = Network::default();
        network.join.multicast = Multicast {
            enabled: true,
            group: Ipv4Addr::new(235, 1, 1, 1),
            port: 2434,
            ..Multicast::default()
        };
        Self { group: Group::default(), network, properties: super::Properties::default() }
    }
}

/// The database JSON wins over the property, since it is what a founder replicates.
fn auto_remove(
    hazelcast: &Hazelcast,
    database: &DatabaseConfig,
    notes: &mut Notes,
) -> Option<AutoRemove> {
    let property = hazelcast.properties.auto_remove.as_ref()?;
    if let Some(json) = database.auto_remove.as_ref().filter(|json| json.value != property.value) {
        notes.warn(
            property.place.clone(),
            format!(
                "is not used: autoRemoveOfflineServers in line {} of {} says otherwise",
                json.place.line, json.place.file
            ),
        );
    }
    Some(property.value)
}
