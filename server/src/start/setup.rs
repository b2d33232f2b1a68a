//! From flags, environment and files to what the node is started with.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use quorate_core::NodeConfig;
use quorate_core::configuration::{Configuration, check_server_name};
use quorate_io::config::{
    self, ConfigError, DatabaseConfig, Hazelcast, Level, Members, Note, Secret, Settings, Variables,
};
use quorate_io::net::{self, AddressFilter, Credentials, MulticastConfig, NetConfig};
use quorate_io::runtime::Setup;
use tracing::{info, warn};

use crate::cli::{Listen, Start};
use crate::exit::Failure;

/// Everything a node needs but its directory; used again if it takes on another identity.
#[derive(Debug)]
pub(super) struct Prepared {
    node: NodeConfig,
    net: NetConfig,
    members: Option<Members>,
    /// What an operator should do something about: said in the log, and with the status.
    pub(super) warnings: Vec<String>,
    /// The database of drivers whose URL names none.
    pub(super) default_database: Option<String>,
}

/// Reads and checks everything. Nothing has been started or written.
///
/// # Errors
/// [`Failure::Usage`]: what is wrong, where, and what is allowed.
pub(super) fn prepare(args: &Start) -> Result<Prepared, Failure> {
    let settings = settings(args)?;
    if let Some(name) = &args.name {
        check_server_name(name)
            .map_err(|rejection| Failure::Usage(format!("--name: {rejection}")))?;
    }
    let warnings = warnings(args, &settings);
    for warning in &warnings {
        warn!("{warning}");
    }
    let net = net(args, &settings)?;
    let node = NodeConfig {
        limits: quorate_core::Limits::default(),
        shards: Some(quorate_core::shard::ShardLimits::default()),
        name: args.name.clone(),
        group: settings.group.clone(),
        // Known when the port is bound.
        addresses: NodeConfig::loopback("", 0).addresses,
        seeds: Vec::new(),
        multicast: settings.multicast.is_some(),
        defaults: settings.defaults.clone(),
        timings: settings.timings.clone(),
    };
    if settings.multicast.is_none() && settings.members.is_none() {
        warn!("neither multicast nor a member list is enabled: this node looks for nobody");
    }
    let default_database = args.default_database.clone();
    Ok(Prepared { node, net, members: settings.members, warnings, default_database })
}

impl Prepared {
    /// The port of the last start is tried before all others, where there is a choice.
    pub(super) fn prefer_port(&mut self, port: Option<u16>) {
        self.net.port_preferred = port;
    }

    /// For the next identity; `http` and `client`: where these listen. What only this machine reaches
    /// is told to others only where the node itself stays on the machine.
    pub(super) fn setup(&self, http: Option<SocketAddr>, client: Option<SocketAddr>) -> Setup {
        let reached = |at: &SocketAddr| !at.ip().is_loopback() || self.net.bind.is_loopback();
        Setup {
            node: self.node.clone(),
            net: self.net.clone(),
            members: self.members.clone(),
            http: http.filter(reached),
            client: client.filter(reached),
        }
    }

    /// The node's cluster has ended: the next identity keeps the name and knows where to go.
    pub(super) fn follow(&mut self, name: String, addresses: Vec<SocketAddr>) {
        self.node.name.get_or_insert(name);
        self.node.seeds = addresses;
    }
}

fn settings(args: &Start) -> Result<Settings, Failure> {
    let variables = Variables::environment();
    let mut notes: Vec<Note> = Vec::new();
    let hazelcast = match &args.config {
        Some(path) => {
            let (file, more) =
                Hazelcast::load(path, &variables).map_err(|e| wrong("--config", &e))?;
            notes.extend(more);
            Some(file)
        }
        None => None,
    };
    let database = match &args.db_config {
        Some(path) => {
            let (file, more) = DatabaseConfig::load(path).map_err(|e| wrong("--db-config", &e))?;
            notes.extend(more);
            Some(file)
        }
        None => None,
    };
    let (mut settings, more) =
        Settings::new(hazelcast, database).map_err(|e| wrong("--config", &e))?;
    notes.extend(more);
    for note in &notes {
        match note.level {
            Level::Info => info!("{note}"),
            Level::Warning => warn!("{note}"),
        }
    }
    if let Some(group) = &args.group {
        if group.is_empty() || group.len() > 255 {
            return Err(Failure::Usage("--group: give 1 to 255 bytes".to_owned()));
        }
        settings.group.clone_from(group);
    }
    if let Some(path) = &args.password_file {
        settings.password = password(path)?;
    }
    if let Some(expect) = args.expect {
        let max = u32::try_from(Configuration::SERVERS_MAX).unwrap_or(u32::MAX);
        if expect > max {
            return Err(Failure::Usage(format!(
                "--expect {expect}: a cluster has at most {max} servers"
            )));
        }
        settings.defaults.expect = expect;
    }
    Ok(settings)
}

fn wrong(flag: &str, error: &ConfigError) -> Failure {
    Failure::Usage(format!("{flag}: {error}"))
}

/// The first line of the file.
fn password(path: &Path) -> Result<Secret, Failure> {
    let shown = path.display();
    let wrong = |what: &str| Failure::Usage(format!("--password-file {shown}: {what}"));
    let text = fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(wrong("its first line is empty; it must be the group's password"));
    }
    if let Ok(meta) = fs::metadata(path)
        && meta.permissions().mode() & 0o077 != 0
    {
        warn!(file = %shown, "others on this machine can read the password file: chmod 600 ends that");
    }
    Ok(Secret::new(line.to_owned()))
}

fn warnings(args: &Start, settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    if settings.password_is_public() {
        warnings.push(
            "PASSWORD: the group's password is the default one, which everyone knows: any node on \
             this network can join. Give one with --password-file on every node."
                .to_owned(),
        );
    }
    for (what, listen) in [("HTTP", args.http), ("CLIENTS", args.client)] {
        if let Some(Listen::Addr(address)) = listen
            && !address.ip().is_loopback()
            && args.tls_cert.is_none()
        {
            warnings.push(format!(
                "{what}: {address} is reached from other machines, unencrypted: whoever listens on \
                 the way reads data, tokens and passwords. Give --tls-cert and --tls-key."
            ));
        }
    }
    warnings
}

fn net(args: &Start, settings: &Settings) -> Result<NetConfig, Failure> {
    let encryption = settings.encryption.as_ref().map(|e| net::EncryptionSettings {
        passphrase: e.password.expose().to_owned(),
        salt: e.salt.clone(),
        iteration_count: e.iteration_count,
    });
    if let Some(encryption) = &settings.encryption {
        info!(
            algorithm = encryption.algorithm,
            "symmetric encryption: its passphrase, salt and count go into the key; the cipher is a \
             modern authenticated one whatever the algorithm is called"
        );
    }
    let credentials =
        Credentials::derive(&settings.group, settings.password.expose(), encryption.as_ref());
    let mut net = NetConfig::new(credentials);
    net.bind = args.bind.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    net.port = args.port.unwrap_or(settings.port.first);
    net.port_auto_increment = args.port.is_none() && settings.port.auto_increment;
    net.port_count = settings.port.count;
    net.reuse_address = settings.reuse_address;
    net.outbound_ports = settings.outbound_ports.iter().map(|(low, high)| *low..=*high).collect();
    net.public_address = settings.public_address.as_ref().map(public_address).transpose()?;
    if settings.interfaces.enabled {
        net.interfaces = filter(&settings.interfaces.patterns)?;
    }
    net.multicast = match &settings.multicast {
        Some(multicast) => Some(MulticastConfig {
            group: multicast.group,
            port: multicast.port,
            ttl: multicast.time_to_live,
            trusted: filter(&multicast.trusted)?,
            ..MulticastConfig::default()
        }),
        None => None,
    };
    net.limits.connect_timeout = settings.connect_timeout;
    Ok(net)
}

fn filter(patterns: &config::Patterns) -> Result<AddressFilter, Failure> {
    let parsed = patterns.0.iter().map(|pattern| pattern.to_string().parse());
    let parsed = parsed.collect::<Result<_, net::PatternError>>();
    parsed.map(AddressFilter::new).map_err(|error| Failure::Usage(error.to_string()))
}

fn public_address(public: &config::PublicAddress) -> Result<net::PublicAddress, Failure> {
    let host = public.host.as_str();
    let wrong = |what: &str| {
        Failure::Usage(format!(
            "<public-address> {host}: {what}; give an address or a name that resolves on this host"
        ))
    };
    let mut found = (host, 0).to_socket_addrs().map_err(|error| wrong(&error.to_string()))?;
    let ip = found.next().ok_or_else(|| wrong("it resolves to nothing"))?.ip();
    Ok(net::PublicAddress { ip, port: public.port })
}
