//! Which servers clients use, and what becomes of a client that does not behave.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quorate_core::client::ToServer;
use quorate_core::engine::{Statement, Transaction};
use quorate_core::shard::{Consistency, SqlKind};
use quorate_io::client::wire::{Hello, MAGIC, frame};
use quorate_io::client::{Client, Error};
use quorate_tests::{Lab, Node, eventually, resident_kb};
use serde_json::json;

use super::clients::{on, url, with_user};
use super::databases::{SETTLE, data};
use super::tls::{Authority, HERE};

fn metrics(node: &Node) -> String {
    let (code, text) = node.get("/metrics").expect("it answers");
    assert_eq!(code, 200, "{text}");
    text.as_str().expect("text").to_owned()
}

/// How many requests a node has served over its client port.
fn requests(node: &Node) -> u64 {
    let text = metrics(node);
    let line = text.lines().find(|line| line.starts_with("quorate_client_requests_total "));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a number")
}

fn served(nodes: &[Node]) -> Vec<u64> {
    nodes.iter().map(requests).collect()
}

/// Has a client of this URL read so often, each time by a connection of its own or not; what each node
/// has served of that.
fn spread(lab: &Lab, nodes: &[Node], url: &str, connections: u32, reads: u32) -> Vec<u64> {
    let before = served(nodes);
    on(lab, async || {
        for _ in 0..connections {
            let client = Client::connect(url).await.expect(url);
            for _ in 0..reads {
                client.query("SELECT 1", ()).await.expect("it reads");
            }
        }
    });
    served(nodes).iter().zip(before).map(|(now, before)| now - before).collect()
}

#[test]
fn each_strategy_spreads_requests_as_it_says_and_a_client_stays_in_its_data_center() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let known = |more: &str| url(&nodes, &format!("token={token}&{more}"));
    let sticky = spread(&lab, &nodes, &known("strategy=sticky"), 1, 60);
    let turns = spread(&lab, &nodes, &known("strategy=round-robin-request"), 1, 60);
    println!("60 requests of one client: sticky {sticky:?}, round-robin-request {turns:?}");
    assert_eq!(sticky.iter().filter(|count| **count == 60).count(), 1, "{sticky:?}");
    assert!(turns.iter().all(|count| (15..=25).contains(count)), "{turns:?}");
    let connects = spread(&lab, &nodes, &known("strategy=round-robin-connect"), 30, 2);
    println!("60 requests of 30 clients: round-robin-connect {connects:?}");
    assert!(connects.iter().all(|count| *count > 0), "{connects:?}");

    // n2 and n3 are in the client's data centre.
    let (code, said) = lab.run(1, &["db", "config", "demo", "--json", "--data", &data(&nodes[0])]);
    assert_eq!(code, 0, "{said}");
    let shown: serde_json::Value = serde_json::from_str(&said).expect("JSON");
    let mut config = shown["config"].clone();
    config["dataCenters"] = json!({
        "rome": { "writeQuorum": "majority", "servers": ["n1"] },
        "austin": { "writeQuorum": "majority", "servers": ["n2", "n3"] },
    });
    let file = lab.file("centers.json", &config.to_string());
    let change = ["db", "config", "demo", "--file", &file, "--yes", "--data"];
    let (code, said) = lab.run(1, &[&change[..], &[&data(&nodes[0])]].concat());
    assert_eq!(code, 0, "{said}");
    let from_rome = |more: &str| url([&nodes[0]], &format!("token={token}&{more}"));
    let here = from_rome("data-center=austin&strategy=round-robin-request");
    on(&lab, async || {
        let client = Client::connect(&here).await.expect("the seed is elsewhere");
        // It learns of its own data centre's servers, and goes over to them.
        for _ in 0..20 {
            client.query("SELECT 1", ()).await.expect("it reads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let before = served(&nodes);
        for _ in 0..60 {
            client.query("SELECT 1", ()).await.expect("it reads");
        }
        let counts = served(&nodes);
        let counts: Vec<u64> = counts.iter().zip(&before).map(|(now, b)| now - b).collect();
        println!("60 requests of a client in n2's and n3's data centre: {counts:?}");
        assert_eq!(counts[0], 0, "{counts:?}");
        assert!(counts[1] >= 20 && counts[2] >= 20, "{counts:?}");
    });
    // Without a server of its own it uses the others, and comes back.
    nodes[1].kill();
    nodes[2].kill();
    on(&lab, async || {
        let client = Client::connect(&here).await.expect("one is there").timeout(SETTLE);
        let local = client.reading(quorate_io::client::Reading::Local);
        local.query("SELECT 1", ()).await.expect("n1 answers");
        nodes[1].start();
        let other = nodes[1].data.display().to_string();
        eventually("n2 serves", SETTLE, || match lab.run(1, &["status", "--data", &other]) {
            (0, _) => Ok(()),
            (code, said) => Err(format!("{code}: {said}")),
        });
        let began = Instant::now();
        while requests(&nodes[1]) == 0 {
            assert!(began.elapsed() < SETTLE, "it stays with {:?}", local.view().using);
            local.query("SELECT 1", ()).await.expect("it reads");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        println!("back in its data centre {:?} after n2 serves", began.elapsed());
    });
}

#[test]
fn a_client_that_reads_nothing_is_let_go_and_costs_nobody_anything() {
    let lab = Lab::loopback();
    let (nodes, token) = with_user(&lab, 3);
    let address = nodes[0].client().expect("it listens");
    let before = resident_kb(nodes[0].id());
    lab.inside(1, || {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.set_write_timeout(Some(Duration::from_secs(2))).expect("a time-out");
        let mut out = BytesMut::new();
        frame(&Hello { magic: MAGIC, token: Some(token.clone()) }, &mut out);
        // Each answer has a megabyte.
        let big = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                   SELECT hex(randomblob(500)) FROM n";
        let statements = vec![Statement::new(big)];
        for id in 0..200 {
            let message = ToServer::Sql {
                id,
                database: "demo".to_owned(),
                shard: None,
                transaction: Transaction { statements: statements.clone() },
                kind: SqlKind::Read(Consistency::Local),
                timeout_ms: 60_000,
            };
            frame(&message, &mut out);
        }
        let began = Instant::now();
        // The node takes no more of it than it has room for answers.
        let _ = stream.write_all(&out);
        let grown = loop {
            let grown = resident_kb(nodes[0].id()).saturating_sub(before);
            assert!(grown < 160 * 1024, "{grown} kB more");
            // Others are served meanwhile.
            let (code, said) = lab.run(1, &["sql", "demo", "SELECT 1", "--data", &data(&nodes[0])]);
            assert_eq!(code, 0, "{said}");
            let nobody = metrics(&nodes[0]).contains("quorate_clients 0");
            if nobody || began.elapsed() > Duration::from_secs(60) {
                break grown;
            }
            std::thread::sleep(Duration::from_millis(500));
        };
        println!("let go after {:?}, with {grown} kB more in memory", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(45), "{:?}", began.elapsed());
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out");
        let mut rest = Vec::new();
        // What had been sent before comes, and then the end.
        let ended = stream.read_to_end(&mut rest);
        assert!(rest.len() > 1024, "{ended:?}");
        assert!(rest.len() < 64 * 1024 * 1024, "{} bytes", rest.len());
    });
}

#[test]
fn clients_speak_tls_with_a_node_that_does_and_are_told_what_is_wrong_otherwise() {
    let lab = Lab::loopback();
    let authority = Authority::new(&lab, "authority");
    let pair = authority.sign(&lab, "node", &HERE, 2099);
    let stranger = Authority::new(&lab, "stranger");
    let nodes = [super::tls::secured(&lab, &pair)];
    let (code, said) = lab.run(1, &["db", "create", "demo", "--data", &data(&nodes[0])]);
    assert_eq!(code, 0, "{said}");
    let token = std::fs::read_to_string(nodes[0].data.join("admin.token")).expect("it is there");
    let plain = format!("timeout-ms=4000&token={}", token.trim());
    let secured = |ca: &str| url(&nodes, &format!("{plain}&tls=on&tls-ca={ca}"));
    on(&lab, async || {
        let client = Client::connect(&secured(&authority.file)).await.expect("it is trusted");
        client.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)", ()).await.expect("done");
        let wrong = Client::connect(&secured(&stranger.file)).await.expect_err("not trusted");
        assert!(wrong.to_string().contains("certificate"), "{wrong}");
        let refused = Client::connect(&url(&nodes, &plain)).await.expect_err("no TLS");
        assert!(refused.to_string().contains("tls"), "it says what to do: {refused}");
        let rows = client.query("SELECT count(*) FROM t", ()).await;
        assert!(matches!(rows, Ok(_) | Err(Error::TimedOut { .. })), "the node is unharmed");
    });
}
