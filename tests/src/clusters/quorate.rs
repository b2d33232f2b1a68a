//! Three nodes of the binary of this workspace, with every default.

use serde_json::json;

use super::{Cluster, SETTLE};
use crate::writers::{Writer, to_node};
use crate::{Door, Lab, Node, eventually};

pub(super) struct Quorate {
    // Before the laboratory: they are ended in this order.
    nodes: Vec<Node>,
    _lab: Lab,
}

impl Quorate {
    pub(super) fn start() -> Self {
        let lab = Lab::loopback();
        let mut nodes = lab.nodes(3);
        nodes.iter_mut().for_each(Node::start);
        lab.one_cluster(&nodes);
        let data = nodes[0].data.display().to_string();
        let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)";
        for args in [["db", "create", "bench"], ["sql", "bench", table]] {
            let (code, said) = lab.run(1, &[&args[..], &["--data", &data]].concat());
            assert_eq!(code, 0, "{said}");
        }
        let cluster = Self { nodes, _lab: lab };
        eventually("three copies are online", SETTLE, || {
            let (_, copies) = cluster.nodes[0].get("/db/bench/copies")?;
            let list = copies.as_array().cloned().unwrap_or_default();
            let whole = list.iter().filter(|c| c["status"] == "ONLINE" && c["state"] == "whole");
            if whole.count() == 3 { Ok(()) } else { Err(copies.to_string()) }
        });
        cluster
    }
}

impl Cluster for Quorate {
    fn processes(&self) -> Vec<u32> {
        self.nodes.iter().map(Node::id).collect()
    }

    fn leader(&self) -> usize {
        eventually("an owner", SETTLE, || {
            let (_, list) = self.nodes[0].get("/db")?;
            let owner = list[0]["shards"]["main"]["owner"].as_str().unwrap_or_default();
            self.nodes.iter().position(|node| node.name == owner).ok_or_else(|| list.to_string())
        })
    }

    fn writer(&self, server: usize) -> Result<Writer, String> {
        to_node(&self.nodes[server], 1)?.pop().ok_or_else(|| "no connection".to_owned())
    }

    fn rows(&self, server: usize) -> Result<u64, String> {
        let count = json!({ "sql": "SELECT count(*) FROM t" });
        let (_, said) = Door::to(&self.nodes[server]).post("/db/bench/query", &count)?;
        said["results"][0]["rows"][0][0].as_u64().ok_or_else(|| said.to_string())
    }

    fn kill(&mut self, server: usize) {
        self.nodes[server].kill();
    }
}
