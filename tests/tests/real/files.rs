//! Configuration files: OrientDB's own load unchanged, broken ones are refused precisely.

use std::path::PathBuf;

use quorate_tests::{Lab, Node};

fn given(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../io/src/config/testdata"));
    path.join(name).display().to_string()
}

#[test]
fn the_default_files_of_orientdb_load_unchanged() {
    let lab = Lab::wired(2);
    let flags = [
        ("--config", "orientdb-2.2-hazelcast.xml"),
        ("--db-config", "orientdb-2.2-db-config.json"),
    ];
    let with =
        |node: Node| flags.iter().fold(node, |n, (flag, file)| n.with([*flag, &given(file)]));
    let mut nodes: Vec<Node> = (1..=2).map(|number| with(lab.node(number))).collect();
    nodes.iter_mut().for_each(Node::start);
    let view = lab.one_cluster(&nodes);
    assert!(view.servers.iter().all(|s| s.role == "master" && s.registration == "static"));
    assert!(view.warnings.iter().any(|w| w.starts_with("PASSWORD")), "{:?}", view.warnings);
    assert!(nodes[0].log().contains("default one, which everyone knows"));
}

/// Nine ways to break a file, each with what the message must name: the line, the element, what is
/// wrong, and what is allowed.
const BROKEN: [(&str, [&str; 4]); 9] = [
    ("port.xml", ["port.xml:5:", "hazelcast/network/port", "24x4", "from 1 to 65535"]),
    ("boolean.xml", ["boolean.xml:4:", "multicast/@enabled", "ture", "true, yes, on"]),
    ("two-joiners.xml", ["two-joiners.xml:5:", "join/tcp-ip", "both enabled", "enabled=\"false\""]),
    ("duplicate-group.xml", ["duplicate-group.xml:4:", "hazelcast/group", "again", "line 2"]),
    ("aws-enabled.xml", ["aws-enabled.xml:5:", "join/aws", "cannot find nodes", "<multicast>"]),
    ("multicast-group.xml", ["-group.xml:4:", "multicast-group", "192.168.1.1", "224.0.0.0"]),
    (
        "heartbeat-limit.xml",
        ["-limit.xml:4:", "max.no.heartbeat", "only every 5 s", "set it to 15"],
    ),
    ("member-range.xml", ["member-range.xml:5:", "tcp-ip/members", "9-2:2434", "last octet"]),
    ("cut-off.xml", ["cut-off.xml:3:", "network", "never closed", "</network> is missing"]),
];

#[test]
fn nine_broken_files_give_nine_precise_errors_and_start_nothing() {
    let lab = Lab::loopback();
    let data = lab.path("data").display().to_string();
    for (file, parts) in BROKEN {
        let file = given(&format!("broken/{file}"));
        let (code, said) = lab.run(1, &["start", "--config", &file, "--data", &data]);
        assert_eq!(code, 2, "{said}");
        for part in parts {
            assert!(said.contains(part), "{part} is missing in: {said}");
        }
        assert_eq!(said.lines().count(), 1, "one line, nothing else: {said}");
    }
    assert!(!lab.path("data").exists(), "no directory was made");
}

#[test]
fn a_missing_file_and_a_directory_of_something_else_are_refused_with_what_to_do() {
    let lab = Lab::loopback();
    let nowhere = lab.path("nowhere.xml").display().to_string();
    let (code, said) = lab.run(1, &["start", "--config", &nowhere]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains(&nowhere) && said.contains("check the path"), "{said}");
    let other = lab.path("other");
    std::fs::create_dir(&other).expect("a directory");
    std::fs::write(other.join("precious"), "mine").expect("a file");
    let data = other.display().to_string();
    let (code, said) = lab.run(1, &["start", "--data", &data, "--new-identity"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("'precious'"), "{said}");
    assert!(other.join("precious").exists(), "and nothing was moved");
}
