//! Clients with Quorate's own protocol: they find the servers, and go on when one is gone.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use quorate_io::client::{Client, ConnectError, Error, Options, Reading, Strategy};
use quorate_tests::{Lab, Node, eventually, resident_kb};

use super::databases::{SETTLE, equal, with_database};
use super::users::{run, token};

/// On a host's own runtime.
pub(super) fn on<T: Send>(lab: &Lab, work: impl AsyncFnOnce() -> T + Send) -> T {
    lab.inside(1, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(work())
    })
}

/// The cluster's URL, beginning with these nodes.
pub(super) fn url<'a>(nodes: impl IntoIterator<Item = &'a Node>, more: &str) -> String {
    let known = nodes.into_iter().map(|node| node.client().expect("it listens"));
    let hosts: Vec<String> = known.collect();
    format!("quorate://{}/demo?{more}", hosts.join(","))
}

/// A cluster with the database `demo` and a user's token that is good on all of it.
pub(super) fn with_user(lab: &Lab, count: usize) -> (Vec<Node>, String) {
    let nodes = with_database(lab, count);
    run(lab, &nodes[0], &["user", "add", "root", "--role", "admin"]);
    let token = token_of(lab, &nodes[0], "app", "writer");
    for node in &nodes {
        eventually("the user is known everywhere", SETTLE, || {
            let (code, said) =
                lab.run(1, &["user", "list", "--data", &super::databases::data(node)]);
            if code == 0 && said.contains("app") { Ok(()) } else { Err(said) }
        });
    }
    (nodes, token)
}

/// Adds a user, and makes a token for it.
pub(super) fn token_of(lab: &Lab, node: &Node, name: &str, role: &str) -> String {
    run(lab, node, &["user", "add", name, "--role", role]);
    token(lab, node, name, "test")
}

pub(super) async fn connect(url: &str) -> Client {
    Client::connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}

#[test]
fn a_client_writes_and_reads_and_goes_on_when_its_server_is_killed() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let url = url([&nodes[0]], &format!("token={token}"));
    let stalls = Mutex::new(Vec::new());
    let written = on(&lab, async || {
        let client = connect(&url).await;
        let done = client.execute("INSERT INTO t VALUES (?, ?, ?)", (1, 1, 1)).await.unwrap();
        assert_eq!(done.affected(), 1);
        let rows: Vec<(i64, i64)> = client.fetch("SELECT id, writer FROM t", ()).await.unwrap();
        assert_eq!(rows, [(1, 1)]);
        let refused = client.execute("INSERT INTO t VALUES (1, 1, 1)", ()).await.unwrap_err();
        let Error::Sql(sql) = refused else { panic!("{refused}") };
        assert!(sql.message.contains("UNIQUE"), "{sql}");
        let results = client
            .batch()
            .add("INSERT INTO t VALUES (?, 0, 0)", [2_i64])
            .add("UPDATE t SET number = number + 1 WHERE id = ?", (1,))
            .run()
            .await
            .unwrap();
        assert_eq!(results[1].affected(), 1);
        for id in 3..400 {
            if id == 100 {
                let used = client.view().using.expect("one is in use").to_string();
                let node =
                    nodes.iter_mut().find(|node| node.view().is_ok_and(|view| view.node == used));
                node.expect("it is one of them").kill();
            }
            let began = Instant::now();
            client.execute("INSERT INTO t VALUES (?, 0, 0)", (id,)).await.unwrap();
            let count: i64 =
                client.fetch_one::<(i64,)>("SELECT count(*) FROM t", ()).await.unwrap().0;
            assert_eq!(count, i64::from(id), "what was written is read, wherever");
            stalls.lock().unwrap().push(began.elapsed());
        }
        let layout = client.layout();
        assert_eq!(layout.servers.len(), 3);
        assert!(layout.shard("demo", None).is_some_and(|shard| shard.owner.is_some()));
        (1..400).collect::<BTreeSet<i64>>()
    });
    let longest = stalls.into_inner().unwrap().into_iter().max().unwrap_or_default();
    println!("the longest stall: {longest:?}");
    let living: Vec<Node> =
        nodes.into_iter().filter_map(|mut n| n.is_running().then_some(n)).collect();
    equal(&living, &written);
}

#[test]
fn a_client_begins_with_dead_seeds_and_strangers_and_says_what_became_of_each() {
    let lab = Lab::loopback();
    let (nodes, token) = with_user(&lab, 2);
    let live = nodes[0].client().unwrap();
    let http = nodes[1].view().unwrap().servers[1].http.clone().expect("it serves HTTP");
    on(&lab, async || {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = (silent.local_addr().unwrap(), silent);
        let all = format!("127.0.0.1:1,{},{http},{live}", silent.0);
        let client = connect(&format!("quorate://{all}/demo?token={token}")).await;
        let count = client.fetch_one::<(i64,)>("SELECT count(*) FROM t", ()).await.unwrap();
        assert_eq!(count, (0,));
        // Nobody is there who could answer.
        let bad = format!("quorate://127.0.0.1:1,{},{http}/demo?timeout-ms=4000", silent.0);
        let error = Client::connect(&bad).await.unwrap_err();
        let said = error.to_string();
        assert!(matches!(error, ConnectError::NoServer { .. }), "{said}");
        assert!(said.contains("refused") && said.contains("does not answer"), "{said}");
        assert!(said.contains("does not speak Quorate's protocol"), "{said}");
    });
}

#[test]
fn a_client_that_is_not_let_in_hears_why_at_once() {
    let lab = Lab::loopback();
    let (nodes, _) = with_user(&lab, 2);
    let reader = token_of(&lab, &nodes[0], "eyes", "reader");
    let plain = url(&nodes, "");
    on(&lab, async || {
        let began = Instant::now();
        for url in [plain.clone(), format!("{plain}&token=wrong"), format!("{plain}&token=qrt_x")] {
            let error = Client::connect(&url).await.unwrap_err();
            assert!(matches!(error, ConnectError::Refused { .. }), "{url}: {error}");
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        let client = eventually_connect(&format!("{plain}&token={reader}")).await;
        let count = client.fetch_one::<(i64,)>("SELECT count(*) FROM t", ()).await.unwrap();
        assert_eq!(count, (0,));
        let error = client.execute("INSERT INTO t VALUES (1, 1, 1)", ()).await.unwrap_err();
        assert!(matches!(&error, Error::Denied(why) if why.contains("writer")), "{error}");
        let error = client.query("INSERT INTO t VALUES (1, 1, 1)", ()).await.unwrap_err();
        assert!(matches!(&error, Error::Sql(_)), "{error}");
        let long = "x".repeat(10 << 20);
        let error = client.query("SELECT ?", (long,)).await.unwrap_err();
        assert!(matches!(&error, Error::TooLarge { .. }), "{error}");
    });
}

/// A user that was added on one node may not be known on all yet.
async fn eventually_connect(url: &str) -> Client {
    for _ in 0..100 {
        if let Ok(client) = Client::connect(url).await {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    connect(url).await
}

/// What writers have done while something else happened to the cluster.
struct Written {
    acknowledged: BTreeSet<i64>,
    errors: Vec<String>,
    longest: Duration,
    count: usize,
}

/// Writes through as many clients until `over`; each reads back what it wrote.
fn write_until(lab: &Lab, url: &str, writers: usize, over: &AtomicBool) -> Written {
    let next = AtomicI64::new(1);
    let written = Mutex::new(Written {
        acknowledged: BTreeSet::new(),
        errors: Vec::new(),
        longest: Duration::ZERO,
        count: 0,
    });
    on(lab, async || {
        let one = async |writer: usize| {
            let client = connect(url).await.timeout(Duration::from_secs(30));
            while !over.load(Ordering::Relaxed) {
                let id = next.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                let sql = "INSERT INTO t VALUES (?, ?, 0)";
                let done =
                    client.execute(sql, (id, i64::try_from(writer).expect("a small number"))).await;
                let took = began.elapsed();
                let read = client.fetch::<(i64,)>("SELECT id FROM t WHERE id = ?", (id,)).await;
                let mut written = written.lock().expect("no writer panics");
                written.count += 1;
                written.longest = written.longest.max(took);
                match done {
                    Ok(_) => _ = written.acknowledged.insert(id),
                    Err(error) => written.errors.push(format!("{id} after {took:?}: {error}")),
                }
                match read {
                    Ok(rows) if rows == [(id,)] => {}
                    other => written.errors.push(format!("{id} is read as {other:?}")),
                }
            }
        };
        let mut all = Vec::new();
        for writer in 0..writers {
            all.push(one(writer));
        }
        join_all(all).await;
    });
    written.into_inner().expect("no writer panics")
}

/// Says that it is over when it is dropped, also by a panic: the writers end, and the test with them.
pub(super) struct Over<'a>(pub(super) &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What eight writers have done while the cluster was disturbed, without an error.
fn written_while(lab: &Lab, url: &str, disturb: impl FnOnce()) -> Written {
    let over = AtomicBool::new(false);
    let written = thread::scope(|scope| {
        let writers = scope.spawn(|| write_until(lab, url, 8, &over));
        {
            let _over = Over(&over);
            disturb();
        }
        writers.join().expect("the writers end")
    });
    println!("{} writes, the longest stall {:?}", written.count, written.longest);
    assert_eq!(written.errors, Vec::<String>::new());
    written
}

/// How long the harness disturbs the cluster: 20 seconds, or `CLIENT_SECONDS`.
fn span() -> Duration {
    let given = std::env::var("CLIENT_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(given.unwrap_or(20))
}

#[test]
fn eight_writers_see_no_error_while_nodes_are_killed_and_frozen_and_come_back() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let url = url(&nodes, &format!("token={token}"));
    let written = written_while(&lab, &url, || {
        let began = Instant::now();
        let mut round = 0_usize;
        while began.elapsed() < span() {
            let at = round % 3;
            match round % 4 {
                0 | 2 => {
                    nodes[at].kill();
                    thread::sleep(Duration::from_millis(700));
                    nodes[at].start();
                }
                // Shorter than what is waited for an answer, and longer.
                1 => freeze(&nodes[at], Duration::from_millis(600)),
                _ => freeze(&nodes[at], Duration::from_secs(4)),
            }
            // One at a time: the next only when all are there again.
            lab.one_cluster(&nodes);
            settled(&nodes);
            round += 1;
        }
    });
    assert!(written.acknowledged.len() > 100, "{}", written.acknowledged.len());
    equal(&nodes, &written.acknowledged);
}

pub(super) fn freeze(node: &Node, span: Duration) {
    node.freeze();
    thread::sleep(span);
    node.thaw();
}

/// All copies are whole again.
pub(super) fn settled(nodes: &[Node]) {
    eventually("all copies are online", SETTLE, || {
        let (_, layout) = nodes[0].get("/layout")?;
        let copies: Vec<_> = layout["shards"].as_array().into_iter().flatten().collect();
        let online = |shard: &&serde_json::Value| {
            let copies = shard["copies"].as_array().cloned().unwrap_or_default();
            !copies.is_empty() && copies.iter().all(|copy| copy["status"] == "ONLINE")
        };
        match !copies.is_empty() && copies.iter().all(online) {
            true => Ok(()),
            false => Err(layout.to_string()),
        }
    });
}

#[test]
fn a_rolling_restart_of_all_nodes_under_load_is_no_error() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let url = url(&nodes, &format!("token={token}"));
    let written = written_while(&lab, &url, || {
        for at in 0..3 {
            thread::sleep(Duration::from_millis(500));
            assert_eq!(nodes[at].stop(), 0);
            nodes[at].start();
            lab.one_cluster(&nodes);
            settled(&nodes);
        }
    });
    equal(&nodes, &written.acknowledged);
}

#[test]
fn while_all_servers_are_down_short_calls_fail_and_long_ones_are_done_once_later() {
    let lab = Lab::loopback();
    let (mut nodes, token) = with_user(&lab, 3);
    let url = url(&nodes, &format!("token={token}"));
    let (started, ready) = std::sync::mpsc::channel();
    let acknowledged = thread::scope(|scope| {
        let calls = scope.spawn(|| {
            on(&lab, async || {
                let client = connect(&url).await;
                client.execute("INSERT INTO t VALUES (0, 0, 0)", ()).await.unwrap();
                started.send(()).unwrap();
                while client.view().using.is_some() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                let short = client.timeout(Duration::from_millis(800));
                let long = client.timeout(Duration::from_secs(60));
                let mut all = vec![0];
                let began = Instant::now();
                let error =
                    short.execute("INSERT INTO t VALUES (100, 0, 0)", ()).await.unwrap_err();
                assert!(matches!(&error, Error::TimedOut { .. }), "{error}");
                assert!(error.to_string().contains("no server"), "{error}");
                let took = began.elapsed();
                assert!(took >= Duration::from_millis(800) && took < Duration::from_secs(3));
                started.send(()).unwrap();
                for id in 1..=20 {
                    long.execute("INSERT INTO t VALUES (?, 0, 0)", (id,)).await.unwrap();
                    all.push(id);
                }
                all
            })
        });
        ready.recv().expect("it has begun");
        nodes.iter_mut().for_each(Node::kill);
        ready.recv().expect("the short one has failed");
        thread::sleep(Duration::from_secs(10));
        nodes.iter_mut().for_each(Node::start);
        calls.join().expect("the calls end")
    });
    equal(&nodes, &acknowledged.into_iter().collect());
}

#[test]
fn requests_go_where_the_strategy_says_and_to_the_own_data_centre_first() {
    let lab = Lab::loopback();
    let (nodes, token) = with_user(&lab, 3);
    let seeds: Vec<(String, u16)> = nodes
        .iter()
        .map(|node| node.client().unwrap())
        .map(|at| at.rsplit_once(':').map(|(h, p)| (h.to_owned(), p.parse().unwrap())).unwrap())
        .collect();
    on(&lab, async || {
        let with = async |strategy| {
            let token = Some(token.clone());
            let options = Options { strategy, token, ..Options::new(seeds.clone()) };
            Client::with(options, "demo", None).await.unwrap().reading(Reading::Local)
        };
        // Each connects to one; many of them to all.
        let mut used = BTreeSet::new();
        for _ in 0..24 {
            let client = with(Strategy::Sticky).await;
            let before = client.view().using;
            for _ in 0..20 {
                client.query("SELECT 1", ()).await.unwrap();
            }
            assert_eq!(client.view().using, before, "it stays");
            used.extend(before);
        }
        assert_eq!(used.len(), 3, "clients that begin together do not all begin at one server");
    });
}

/// When a listener saw what, in this order.
#[derive(Clone, Copy, Default)]
struct Saw {
    joined: Option<Instant>,
    away: Option<Instant>,
    left: Option<Instant>,
}

const LISTENERS: usize = 1000;

/// How many listeners have seen what. What is told is always the newest, so whoever is slow may never hear of
/// what was over soon: each step waits until all have seen the one before.
#[derive(Default)]
struct Seen {
    ready: AtomicI64,
    joined: AtomicI64,
    away: AtomicI64,
}

/// Listens until a fourth server has come, was away, and has left.
async fn listen(url: &str, seen: &Seen) -> Saw {
    let client = connect(url).await;
    let mut view = client.watch();
    let mut saw = Saw::default();
    let mut newest = 0;
    seen.ready.fetch_add(1, Ordering::Relaxed);
    loop {
        {
            let view = view.borrow_and_update();
            let layout = &view.layout;
            assert!(layout.version.0 >= newest, "a layout never goes back");
            newest = layout.version.0;
            let fourth = layout.servers.iter().find(|server| server.name == "n4");
            match (fourth, saw.joined) {
                (Some(_), None) => {
                    saw.joined = Some(Instant::now());
                    seen.joined.fetch_add(1, Ordering::Relaxed);
                }
                (Some(server), Some(_)) if !server.is_online && saw.away.is_none() => {
                    saw.away = Some(Instant::now());
                    seen.away.fetch_add(1, Ordering::Relaxed);
                }
                (None, Some(_)) => {
                    saw.left = Some(Instant::now());
                    return saw;
                }
                _ => {}
            }
        }
        view.changed().await.expect("the client goes on");
    }
}

#[test]
fn a_thousand_listeners_each_see_a_server_join_and_leave_in_order() {
    let lab = Lab::loopback();
    let (nodes, token) = with_user(&lab, 3);
    let url = url(&nodes, &format!("token={token}&timeout-ms=60000"));
    let before: u64 = nodes.iter().map(|node| resident_kb(node.id())).max().unwrap_or_default();
    let seen = Arc::new(Seen::default());
    let all = |what: &str, by: &AtomicI64| {
        eventually(what, Duration::from_secs(120), || {
            let count = by.load(Ordering::Relaxed);
            if count == LISTENERS as i64 { Ok(()) } else { Err(count.to_string()) }
        });
    };
    let (saw, after) = thread::scope(|scope| {
        let listeners = scope.spawn(|| {
            on(&lab, async || {
                let mut all = tokio::task::JoinSet::new();
                for _ in 0..LISTENERS {
                    let (url, seen) = (url.clone(), Arc::clone(&seen));
                    all.spawn(async move { listen(&url, &seen).await });
                }
                all.join_all().await
            })
        });
        all("all listen", &seen.ready);
        let mut fourth = lab.node(4);
        fourth.start();
        lab.one_cluster(nodes.iter().chain([&fourth]));
        all("all have seen it join", &seen.joined);
        assert_eq!(fourth.stop(), 0);
        let after: u64 = nodes.iter().map(|node| resident_kb(node.id())).max().unwrap_or_default();
        all("all have seen it go", &seen.away);
        let data = super::databases::data(&nodes[0]);
        let (code, said) = lab.run(1, &["server", "remove", "n4", "--data", &data]);
        assert_eq!(code, 0, "{said}");
        (listeners.join().expect("all have seen it"), after)
    });
    assert_eq!(saw.len(), LISTENERS);
    let spread = |what: fn(&Saw) -> Option<Instant>| {
        let all: Vec<Instant> =
            saw.iter().map(|saw| what(saw).expect("each has seen it")).collect();
        let first = all.iter().min().expect("one");
        all.iter().map(|at| at.duration_since(*first)).max().expect("one")
    };
    let (joined, away) = (spread(|saw| saw.joined), spread(|saw| saw.away));
    let left = spread(|saw| saw.left);
    let rate = (3 * LISTENERS) as f64 / (joined + away + left).as_secs_f64();
    println!(
        "from the first listener to the last of {LISTENERS}: joined {joined:?}, away {away:?}, left \
         {left:?}: {rate:.0} layouts a second; resident {before} kB before, {after} kB with them"
    );
    for saw in saw {
        assert!(saw.joined < saw.away && saw.away < saw.left, "in order");
    }
    // A thousand connections may cost something, and not without bound.
    assert!(after < before + 200_000, "{before} kB before, {after} kB with the listeners");
}
