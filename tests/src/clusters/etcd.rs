//! Three servers of etcd, with its defaults: each entry is on the disk before it is answered.

use std::time::Duration;

use serde_json::{Value, json};

use super::process::Servers;
use super::{Cluster, SETTLE};
use crate::eventually;
use crate::writers::{Writer, open_etcd};

pub(super) const PROGRAM: &str = "etcd";
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

pub(super) struct Etcd(Servers);

impl Etcd {
    pub(super) fn start() -> Self {
        let mut servers = Servers::new();
        let url = |server, port| format!("http://{}:{port}", Servers::address(server));
        let all: Vec<String> =
            (0..3).map(|server| format!("n{server}={}", url(server, PEER_PORT))).collect();
        for server in 0..3 {
            let (client, peer) = (url(server, CLIENT_PORT), url(server, PEER_PORT));
            let data = servers.dir().join(format!("n{server}")).display().to_string();
            let args = [
                ("--name", format!("n{server}")),
                ("--data-dir", data),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client),
                ("--listen-peer-urls", peer.clone()),
                ("--initial-advertise-peer-urls", peer),
                ("--initial-cluster", all.join(",")),
                ("--initial-cluster-state", "new".to_owned()),
                ("--logger", "zap".to_owned()),
            ];
            let args: Vec<String> =
                args.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
            servers.start(PROGRAM, &args);
        }
        let cluster = Self(servers);
        cluster.leader();
        cluster
    }

    /// What a server answers to a call of its JSON gateway.
    fn ask(&self, server: usize, call: &str, body: &Value) -> Result<Value, String> {
        let url = format!("http://{}:{CLIENT_PORT}/v3/{call}", Servers::address(server));
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2)));
        let agent = config.proxy(None).build().new_agent();
        let ask = || -> Result<Value, ureq::Error> {
            agent.post(&url).send_json(body)?.body_mut().read_json()
        };
        self.0.space.inside(ask).map_err(|error| format!("{url}: {error}"))
    }

    /// Whether a server is the leader, by its own word.
    fn leads(&self, server: usize) -> Result<bool, String> {
        let said = self.ask(server, "maintenance/status", &json!({}))?;
        Ok(said["leader"].is_string() && said["leader"] == said["header"]["member_id"])
    }
}

impl Cluster for Etcd {
    fn processes(&self) -> Vec<u32> {
        self.0.processes()
    }

    fn leader(&self) -> usize {
        eventually("a leader", SETTLE, || {
            let each: Result<Vec<bool>, String> = (0..3).map(|server| self.leads(server)).collect();
            each?.iter().position(|leads| *leads).ok_or_else(|| "none leads".to_owned())
        })
    }

    fn writer(&self, server: usize) -> Result<Writer, String> {
        let stream = self.0.connect(server, CLIENT_PORT)?;
        open_etcd(stream).map_err(|error| error.to_string())
    }

    fn rows(&self, server: usize) -> Result<u64, String> {
        // All keys: from the one of one zero byte, in Base64, with no end.
        let all = json!({ "key": "AA==", "range_end": "AA==", "count_only": true });
        let said = self.ask(server, "kv/range", &all)?;
        let count = said["count"].as_str().and_then(|count| count.parse().ok());
        count.ok_or_else(|| said.to_string())
    }

    fn kill(&mut self, server: usize) {
        self.0.kill(server);
    }
}
