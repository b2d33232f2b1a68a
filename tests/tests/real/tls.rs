//! TLS on the HTTP port, at real nodes, with certificates made here.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use quorate_tests::{Door, Lab, Node, Proxy, eventually};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustix::process::{Pid, Signal, kill_process};

const SOON: Duration = Duration::from_secs(30);

/// An authority, and what it has signed.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The file with its certificate.
    pub(super) file: String,
}

/// Where certificate and key of a node are.
pub(super) struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    pub(super) fn new(lab: &Lab, name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![]).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let own = params.self_signed(&key).expect("a certificate");
        let file = lab.file(&format!("{name}.pem"), &own.pem());
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A certificate for these names, good until the end of that year.
    pub(super) fn sign(&self, lab: &Lab, file: &str, names: &[&str], until: i32) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("parameters");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 12, 31);
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            certificate: lab.file(&format!("{file}.crt"), &signed.pem()),
            key: lab.file(&format!("{file}.key"), &key.serialize_pem()),
        }
    }
}

pub(super) const HERE: [&str; 2] = ["localhost", "127.0.0.1"];

/// A node that speaks TLS with this certificate, and is up.
pub(super) fn secured(lab: &Lab, pair: &Pair) -> Node {
    let mut node = lab.node(1).with(["--tls-cert", &pair.certificate, "--tls-key", &pair.key]);
    node.start();
    eventually("it is up", SOON, || match lab.run(1, &["status", "--data", &data(&node)]) {
        (0, said) if said.contains("coordinator") => Ok(()),
        (code, said) => Err(format!("{code}: {said}")),
    });
    node
}

fn data(node: &Node) -> String {
    node.data.display().to_string()
}

fn address(node: &Node) -> String {
    let text = fs::read_to_string(node.data.join("node.json")).expect("node.json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    json["http"].as_str().expect("an address").to_owned()
}

/// `quorate status` at this address, with these flags, and with the node's own token.
fn look(lab: &Lab, node: &Node, url: &str, flags: &[&str]) -> (i32, String) {
    let at = data(node);
    lab.run(1, &[&["status", "--http", url, "--data", &at], flags].concat())
}

#[test]
fn everything_goes_through_tls_as_it_does_without() {
    let lab = Lab::loopback();
    let authority = Authority::new(&lab, "ca");
    let pair = authority.sign(&lab, "n1", &HERE, 2099);
    let node = secured(&lab, &pair);
    let (at, url) = (data(&node), format!("https://{}", address(&node)));
    let run = |args: &[&str]| {
        let (code, said) = lab.run(1, args);
        assert_eq!(code, 0, "{args:?}: {said}");
        said
    };
    // On its own machine the data directory is enough; elsewhere an authority that is trusted.
    run(&["db", "create", "demo", "--data", &at]);
    let ca = ["--http", &url, "--tls-ca", &authority.file, "--data", &at];
    run(&[&["sql", "demo", "CREATE TABLE t (id INTEGER PRIMARY KEY)"], &ca[..]].concat());
    run(&[&["sql", "demo", "INSERT INTO t VALUES (4711)"], &ca[..]].concat());
    let said = run(&[&["sql", "demo", "SELECT id FROM t", "--query"], &ca[..]].concat());
    assert!(said.contains("4711"), "{said}");
    run(&["user", "add", "ada", "--role", "admin", "--data", &at]);
    let (code, token, errors) =
        lab.run_with(1, &["user", "token", "add", "ada", "--data", &at], &[], "");
    assert_eq!(code, 0, "{errors}");
    let flags = ["status", "--http", &url, "--tls-ca", &authority.file, "--data", "none"];
    let (code, said, errors) = lab.run_with(1, &flags, &[("QUORATE_TOKEN", token.trim())], "");
    assert_eq!(code, 0, "{said}{errors}");
    let (code, _, errors) = lab.run_with(1, &flags, &[], "");
    assert!(code == 12 && errors.contains("this cluster has users"), "{code} {errors}");
    let backup = lab.path("demo.sqlite").display().to_string();
    run(&[&["backup", "demo", &backup], &ca[..]].concat());
    run(&[&["stop"], &ca[..]].concat());
}

#[test]
fn a_mismatch_of_any_kind_is_named_and_the_node_goes_on() {
    let lab = Lab::loopback();
    let authority = Authority::new(&lab, "ca");
    let other = Authority::new(&lab, "other");
    let node = secured(&lab, &authority.sign(&lab, "n1", &["localhost"], 2099));
    let at = address(&node);
    let port = at.split(':').nth(1).expect("a port").to_owned();
    let by_name = format!("https://localhost:{port}");
    let ca = ["--tls-ca", authority.file.as_str()];
    let cases: [(&str, &str, &[&str], i32, &str); 6] = [
        (
            "plain HTTP to TLS",
            &format!("http://{at}"),
            &[],
            1,
            "this port speaks TLS: use https://",
        ),
        ("an authority nobody knows", &by_name, &[], 12, "give that with --tls-ca"),
        ("another authority", &by_name, &["--tls-ca", &other.file], 12, "not trusted here"),
        ("another name", &format!("https://{at}"), &ca, 12, "is not for 127.0.0.1"),
        ("TLS and not", &format!("http://{at}"), &ca, 2, "write https://"),
        ("no such file", &by_name, &["--tls-ca", "nosuch.pem"], 2, "nosuch.pem"),
    ];
    for (what, url, flags, expected, part) in cases {
        let (code, said) = look(&lab, &node, url, flags);
        assert!(code == expected && said.contains(part), "{what}: {code} {said}");
    }
    let (code, said) = look(&lab, &node, &by_name, &ca);
    assert_eq!(code, 0, "{said}");
    let log = node.log();
    assert!(log.contains("a client spoke plain HTTP"), "the log says so too: {log}");
    let mut plain = lab.named("plain", 1);
    plain.start();
    eventually("it is up", SOON, || plain.view());
    let (code, said) = look(&lab, &plain, &format!("https://{}", address(&plain)), &ca);
    assert!(code == 2 && said.contains("does not speak TLS"), "{code} {said}");
    plain.view().expect("it goes on");
    eventually("the log says so", SOON, || {
        let log = plain.log();
        if log.contains("for TLS give it --tls-cert and --tls-key") { Ok(()) } else { Err(log) }
    });
}

#[test]
fn a_certificate_that_signed_itself_is_trusted_if_it_is_no_authority() {
    let lab = Lab::loopback();
    for (name, is_ca, expected, part) in [
        ("plain", IsCa::ExplicitNoCa, 0, "coordinator"),
        ("authority", IsCa::Ca(BasicConstraints::Unconstrained), 12, "basicConstraints=CA:FALSE"),
    ] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(HERE.map(str::to_owned)).expect("parameters");
        params.is_ca = is_ca;
        let own = params.self_signed(&key).expect("a certificate");
        let certificate = lab.file(&format!("{name}.crt"), &own.pem());
        let key = lab.file(&format!("{name}.key"), &key.serialize_pem());
        let mut node = secured(&lab, &Pair { certificate: certificate.clone(), key });
        let url = format!("https://{}", address(&node));
        let (code, said) = look(&lab, &node, &url, &["--tls-ca", &certificate]);
        assert!(code == expected && said.contains(part), "{name}: {code} {said}");
        node.kill();
    }
}

#[test]
fn an_expired_certificate_is_trusted_by_nobody() {
    let lab = Lab::loopback();
    let authority = Authority::new(&lab, "ca");
    let node = secured(&lab, &authority.sign(&lab, "n1", &HERE, 2021));
    let url = format!("https://{}", address(&node));
    let (code, said) = look(&lab, &node, &url, &["--tls-ca", &authority.file]);
    assert!(code == 12 && said.contains("has expired"), "{code} {said}");
    assert!(said.contains("nothing was sent"), "{said}");
}

/// The serial number of the certificate that is shown, as the test can tell it: by who signed it.
fn is_signed_by(lab: &Lab, node: &Node, authority: &Authority) -> Result<(), String> {
    let url = format!("https://{}", address(node));
    match look(lab, node, &url, &["--tls-ca", &authority.file]) {
        (0, _) => Ok(()),
        (code, said) => Err(format!("{code}: {said}")),
    }
}

#[test]
fn a_renewed_certificate_needs_no_restart_and_a_broken_one_does_no_harm() {
    let lab = Lab::loopback();
    let authorities = ["first", "second", "third"].map(|name| Authority::new(&lab, name));
    let node = secured(&lab, &authorities[0].sign(&lab, "n1", &HERE, 2099));
    is_signed_by(&lab, &node, &authorities[0]).expect("the first");
    // Written over the files that it was started with; found by itself.
    let _ = authorities[1].sign(&lab, "n1", &HERE, 2099);
    eventually("it is noticed", SOON, || is_signed_by(&lab, &node, &authorities[1]));
    let pid = Pid::from_raw(i32::try_from(node.id()).expect("an id")).expect("an id");
    let pair = authorities[2].sign(&lab, "n1", &HERE, 2099);
    kill_process(pid, Signal::HUP).expect("a signal");
    eventually("asked for, it is read at once", Duration::from_secs(3), || {
        is_signed_by(&lab, &node, &authorities[2])
    });
    for (file, content) in [(&pair.key, "no key"), (&pair.certificate, "")] {
        fs::write(file, content).expect("written");
        kill_process(pid, Signal::HUP).expect("a signal");
        eventually("the log names the file", SOON, || {
            let (log, said) = (node.log(), format!("{file}: "));
            if log.contains(&said) { Ok(()) } else { Err(log) }
        });
        is_signed_by(&lab, &node, &authorities[2]).expect("the one of before");
    }
}

#[test]
fn files_that_make_no_certificate_are_named_before_anything_starts() {
    let lab = Lab::loopback();
    let authority = Authority::new(&lab, "ca");
    let one = authority.sign(&lab, "one", &HERE, 2099);
    let two = authority.sign(&lab, "two", &HERE, 2099);
    let empty = lab.file("empty", "");
    let text =
        lab.file("text", "-----BEGIN CERTIFICATE-----\nnonsense!\n-----END CERTIFICATE-----\n");
    let nowhere = lab.path("nowhere").display().to_string();
    let fresh = lab.path("fresh").display().to_string();
    for (certificate, key, parts) in [
        (&nowhere, &one.key, ["--tls-cert", "No such file"]),
        (&one.certificate, &nowhere, ["--tls-key", "No such file"]),
        (&empty, &one.key, ["--tls-cert", "BEGIN CERTIFICATE"]),
        (&text, &one.key, ["--tls-cert", "not a PEM file"]),
        (&one.certificate, &one.certificate, ["--tls-key", "no private key"]),
        (&one.certificate, &two.key, ["--tls-key", "not the key of the certificate"]),
    ] {
        let flags = ["start", "--data", &fresh, "--tls-cert", certificate, "--tls-key", key];
        let (code, said) = lab.run(1, &flags);
        let named = parts.iter().all(|part| said.contains(part));
        assert!(code == 2 && named, "{certificate} {key}: {code} {said}");
    }
    let (code, said) = lab.run(1, &["start", "--data", &fresh, "--tls-cert", &one.certificate]);
    assert!(code == 2 && said.contains("--tls-key"), "{said}");
    assert!(!lab.path("fresh").exists(), "nothing was made");
}

#[test]
fn a_handshake_that_stays_silent_is_let_go() {
    let lab = Lab::loopback();
    let authority = Authority::new(&lab, "ca");
    let node = secured(&lab, &authority.sign(&lab, "n1", &HERE, 2099));
    // The head of a record, and nothing of what it announces.
    let half = [0x16, 3, 1, 2, 0, 1];
    let begin = Instant::now();
    let mut silent = node.connections(1, &half).expect("a connection").remove(0);
    silent.set_read_timeout(Some(SOON)).expect("a limit");
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest);
    let waited = begin.elapsed();
    assert!((5..20).contains(&waited.as_secs()), "{waited:?}");
    // So many that there is no place for another one.
    let crowd = node.connections(300, &half).expect("connections");
    eventually("the node answers all the same", Duration::from_secs(60), || {
        match lab.run(1, &["status", "--data", &data(&node)]) {
            (0, _) => Ok(()),
            (code, said) => Err(format!("{code}: {said}")),
        }
    });
    drop(crowd);
}

#[test]
fn bytes_that_are_no_tls_harm_nobody() {
    let lab = Lab::loopback();
    let authority = Authority::new(&lab, "ca");
    let node = secured(&lab, &authority.sign(&lab, "n1", &HERE, 2099));
    let at = address(&node);
    let said = Door::to(&node).inside(|| {
        let mut said = Vec::new();
        let mut junk = vec![vec![0x16; 100_000], vec![0; 100_000], vec![0x16, 3, 3, 0xff, 0xff]];
        junk.push(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec());
        for bytes in junk {
            let mut stream = TcpStream::connect(&at).expect("connected");
            stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a limit");
            let _ = stream.write_all(&bytes);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            said.push(String::from_utf8_lossy(&answer).into_owned());
        }
        said
    });
    assert!(said[3].starts_with("HTTP/1.1 400"), "{said:?}");
    let (code, said) = lab.run(1, &["status", "--data", &data(&node)]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_proxy_speaks_tls_with_the_cluster_and_on_its_own_port() {
    let lab = Lab::loopback();
    let authority = Authority::new(&lab, "ca");
    let pair = authority.sign(&lab, "n1", &HERE, 2100);
    let node = secured(&lab, &pair);
    let trust = ["--tls-ca", &authority.file];
    let run = |args: &[&str]| lab.run(1, args);
    let (code, said) =
        run(&[&["db", "create", "demo", "--data", &data(&node)], &trust[..]].concat());
    assert_eq!(code, 0, "{said}");
    let text = fs::read_to_string(node.data.join("node.json")).expect("node.json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let to = format!("quorate://{}", json["client"].as_str().expect("an address"));
    let token = fs::read_to_string(node.data.join("admin.token")).expect("a token");
    let token = token.trim();

    let own = ["--tls-cert", &pair.certificate, "--tls-key", &pair.key];
    let proxy = Proxy::start(&lab, "proxy", &[&["--to", &to], &trust[..], &own[..]].concat());
    let url = format!("https://{}", proxy.address);
    let sql = ["sql", "demo", "SELECT 41 + 1", "--http", &url, "--token", token];
    let (code, said) = run(&[&sql[..], &trust[..]].concat());
    assert!(code == 0 && said.contains("42"), "{code} {said}");

    let other = Authority::new(&lab, "other");
    let body = r#"{"sql": "SELECT 1", "timeout_ms": 1500}"#;
    for (name, flags) in [("plain", vec![]), ("stranger", vec!["--tls-ca", &other.file])] {
        let proxy = Proxy::start(&lab, name, &[&["--to", &to], &flags[..]].concat());
        let shown = format!("Bearer {token}");
        let answer = proxy.send(&lab, "POST", "/db/demo/query", &shown, body);
        let (code, said) = answer.expect("an answer");
        assert!(code == 503 && said.contains("nothing-done"), "{name}: {code} {said}");
        assert!(flags.is_empty() || said.contains("TLS"), "{name}: {said}");
    }
    let (code, said) =
        run(&["proxy", "--to", &to, "--tls-ca", "/nowhere.pem", "--listen", "127.0.0.1:0"]);
    assert!(code == 2 && said.contains("/nowhere.pem"), "{code} {said}");
}
