//! A laboratory: namespaces, the wire between them, and nodes in them.

use std::fs;
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::binary::quorate;
use crate::net::Namespace;
use crate::node::Node;
use crate::view::View;
use crate::wait::eventually;

/// How long a cluster may take to come to rest on a machine that is busy with other tests.
const SETTLE: Duration = Duration::from_secs(40);

/// Where nodes run. Everything in it is gone when it is dropped.
#[derive(Debug)]
pub struct Lab {
    dir: TempDir,
    hosts: Vec<Arc<Namespace>>,
    /// The namespace of the bridges, if there is a wire.
    wire: Option<Namespace>,
}

impl Lab {
    /// One host with a loopback interface: its nodes differ by port and directory.
    ///
    /// # Panics
    /// If namespaces cannot be made.
    #[must_use]
    pub fn loopback() -> Self {
        let dir = TempDir::new().expect("a scratch directory");
        Self { dir, hosts: vec![Arc::new(Namespace::new())], wire: None }
    }

    /// So many hosts on one wire, 10.77.0.1 and up.
    ///
    /// # Panics
    /// If namespaces cannot be made.
    #[must_use]
    pub fn wired(count: usize) -> Self {
        let wire = Namespace::new();
        for bridge in ["br0", "br1"] {
            wire.ip(&["link", "add", bridge, "type", "bridge", "mcast_snooping", "0"]);
            wire.ip(&["link", "set", bridge, "up"]);
        }
        let hosts: Vec<_> = (0..count).map(|_| Arc::new(Namespace::new())).collect();
        for (number, host) in hosts.iter().enumerate() {
            let port = format!("v{number}");
            let link = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns"];
            wire.ip(&[&link[..], &[host.name.as_str()]].concat());
            wire.ip(&["link", "set", &port, "master", "br0", "up"]);
            host.ip(&["addr", "add", &format!("10.77.0.{}/24", number + 1), "dev", "eth0"]);
            host.ip(&["link", "set", "eth0", "up"]);
            host.ip(&["route", "add", "default", "dev", "eth0"]);
        }
        Self { dir: TempDir::new().expect("a scratch directory"), hosts, wire: Some(wire) }
    }

    /// So many nodes `n1`, `n2` … without a configuration file: on the loopback address of the one
    /// host, or one on each host of the wire.
    #[must_use]
    pub fn nodes(&self, count: usize) -> Vec<Node> {
        (1..=count).map(|number| self.node(number)).collect()
    }

    /// The node `n<number>`; on a wire it lives on host `number`, counted from 1.
    #[must_use]
    pub fn node(&self, number: usize) -> Node {
        self.named(&format!("n{number}"), number)
    }

    /// A node of any name, on host `number` of a wire, counted from 1.
    #[must_use]
    pub fn named(&self, name: &str, number: usize) -> Node {
        let (space, flags) = match self.wire {
            Some(_) => (&self.hosts[number - 1], vec![]),
            None => (&self.hosts[0], vec!["--bind".to_owned(), "127.0.0.1".to_owned()]),
        };
        Node::new(name, self.dir.path(), space.clone(), flags)
    }

    /// A file in the scratch directory; its path as a flag's value.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("a file");
        path.to_str().expect("a path of ours is text").to_owned()
    }

    /// A path in the scratch directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The database JSON that makes every joining server dynamic.
    #[must_use]
    pub fn dynamic(&self) -> String {
        self.file("dynamic.json", r#"{ "newNodeStrategy": "dynamic" }"#)
    }

    /// Cuts the wire: the hosts of `side` (counted from 1) talk to each other, and all others do.
    ///
    /// # Panics
    /// Without a wire.
    pub fn cut(&self, side: &[usize]) {
        let wire = self.wire.as_ref().expect("a wire");
        for number in side {
            wire.ip(&["link", "set", &format!("v{}", number - 1), "master", "br1"]);
        }
    }

    /// Takes a host (counted from 1) off the wire altogether.
    ///
    /// # Panics
    /// Without a wire.
    pub fn unplug(&self, number: usize) {
        let wire = self.wire.as_ref().expect("a wire");
        wire.ip(&["link", "set", &format!("v{}", number - 1), "nomaster"]);
    }

    /// Joins all hosts to one wire again.
    ///
    /// # Panics
    /// Without a wire.
    pub fn heal(&self) {
        let wire = self.wire.as_ref().expect("a wire");
        for number in 0..self.hosts.len() {
            wire.ip(&["link", "set", &format!("v{number}"), "master", "br0"]);
        }
    }

    /// Sends what is no Quorate from host `number` (counted from 1): datagrams to the multicast
    /// group, bytes to each of these addresses.
    ///
    /// # Panics
    /// If nothing can be sent.
    pub fn throw_garbage(&self, number: usize, addresses: &[String]) {
        self.hosts[number - 1].inside(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            for length in [0, 1, 4, 40, 1_400] {
                let junk = vec![0x51; length];
                let magic = [b"QRT\x01".as_slice(), &junk].concat();
                for datagram in [junk, magic] {
                    let _ = socket.send_to(&datagram, "235.1.1.1:2434").expect("sent");
                }
            }
            for address in addresses {
                for junk in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0xff; 100_000]] {
                    let mut stream = TcpStream::connect(address).expect("connected");
                    // It may hang up at any byte.
                    let _ = stream.write_all(&junk);
                }
            }
        });
    }

    fn space(&self, number: usize) -> &Namespace {
        if self.wire.is_some() { &self.hosts[number - 1] } else { &self.hosts[0] }
    }

    /// Runs `work` on a thread that is on a host, the first being 1.
    ///
    /// # Panics
    /// If `work` does.
    pub fn inside<T: Send>(&self, number: usize, work: impl FnOnce() -> T + Send) -> T {
        self.space(number).inside(work)
    }

    /// Runs `quorate` with these arguments where `node` runs, to its end.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run(&self, number: usize, args: &[&str]) -> (i32, String) {
        let (code, said, errors) = self.run_with(number, args, &[], "");
        (code, said + &errors)
    }

    /// As [`Lab::run`], with these variables in its environment and this on its standard input; the
    /// exit code, and what it wrote on standard output and standard error.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run_with(
        &self,
        number: usize,
        args: &[&str],
        variables: &[(&str, &str)],
        input: &str,
    ) -> (i32, String, String) {
        let mut command = self.space(number).command(quorate());
        command.args(args).envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("quorate runs");
        // It may end without having read it.
        let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
        let Output { status, stdout, stderr } = child.wait_with_output().expect("it ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (status.code().unwrap_or(-1), text(&stdout), text(&stderr))
    }

    /// Runs a program with these arguments where node `number` runs, to its end; its exit code, and
    /// what it wrote.
    ///
    /// # Panics
    /// If it cannot be run.
    #[must_use]
    pub fn run_program(&self, number: usize, program: &Path, args: &[&str]) -> (i32, String) {
        let output = self.space(number).command(program).args(args).stdin(Stdio::null()).output();
        let Output { status, stdout, stderr } = output.expect("it runs");
        let said = [stdout, stderr].concat();
        (status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
    }

    /// A program, to be started on a host, the first being 1, under the process id that it is given at its
    /// start.
    #[must_use]
    pub fn command_of(&self, number: usize, program: &Path) -> Command {
        self.space(number).command(program)
    }

    /// `quorate` with these arguments, to be started on a host, the first being 1, under the process id that
    /// it is given at its start.
    #[must_use]
    pub fn command(&self, number: usize, args: &[&str]) -> Command {
        let mut command = self.space(number).command(quorate());
        command.args(args);
        command
    }

    /// Waits until these nodes, and only they, are one cluster at rest: all `ONLINE`, all voting,
    /// one coordinator, one version. The view of the first.
    ///
    /// # Panics
    /// If they are not in time.
    #[track_caller]
    pub fn one_cluster<'a>(&self, nodes: impl IntoIterator<Item = &'a Node>) -> View {
        let nodes: Vec<&Node> = nodes.into_iter().collect();
        let names: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
        eventually(&format!("{names:?} are one cluster"), SETTLE, || at_rest(&nodes))
    }

    /// Waits until what `node` says satisfies `test`.
    ///
    /// # Panics
    /// If it does not in time.
    #[track_caller]
    pub fn until(&self, node: &Node, what: &str, test: impl Fn(&View) -> bool) -> View {
        eventually(&format!("{}: {what}", node.name), SETTLE, || {
            let view = node.view()?;
            if test(&view) { Ok(view) } else { Err(format!("{view:#?}")) }
        })
    }
}

/// Whether these nodes, and only they, are one cluster at rest; the view of the first.
///
/// # Errors
/// What one of them sees instead, or why it does not answer.
///
/// # Panics
/// Without nodes.
pub fn at_rest(nodes: &[&Node]) -> Result<View, String> {
    let views = nodes.iter().map(|n| n.view()).collect::<Result<Vec<View>, String>>()?;
    let first = &views[0];
    for view in &views {
        let mut expected: Vec<&str> = nodes.iter().map(|n| n.name.as_str()).collect();
        expected.sort_unstable();
        let fits = view.state == "member"
            && view.with_status("ONLINE") == expected
            && view.servers.len() == expected.len()
            && view.servers.iter().all(|s| s.voter || s.role == "replica")
            && view.no_quorum.is_none()
            && !view.quorum.joint
            && view.coordinator.is_some()
            && view.cluster == first.cluster
            && view.version == first.version
            && view.coordinator == first.coordinator;
        if !fits {
            return Err(format!("{view:#?}"));
        }
    }
    Ok(first.clone())
}

/// A `hazelcast.xml` with multicast, this group and password, and more `<network>` elements.
#[must_use]
pub fn hazelcast(group: &str, password: &str, network: &str) -> String {
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<hazelcast xmlns="http://www.hazelcast.com/schema/config">
  <group><name>{group}</name><password>{password}</password></group>
  <network>
    <port auto-increment="true">2434</port>
    <join>
      <multicast enabled="true">
        <multicast-group>235.1.1.1</multicast-group>
        <multicast-port>2434</multicast-port>
      </multicast>
    </join>
    {network}
  </network>
</hazelcast>
"#
    )
}
