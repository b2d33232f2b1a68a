//! What both readers promise: every broken file a precise message, and no panic on any bytes.

mod addresses;
mod database;
mod hazelcast;
mod settings;

use proptest::prelude::*;

use super::{Bounds, ConfigError, DatabaseConfig, Hazelcast, Settings, Variables};

/// The message for a broken file, all the way to the settings.
fn message(name: &str, bytes: &[u8]) -> String {
    let read = || -> Result<(), ConfigError> {
        let (mut hazelcast, mut database) = (None, None);
        if name.ends_with(".xml") {
            hazelcast = Some(Hazelcast::parse(name, bytes, &Variables::none())?.0);
        } else {
            database = Some(DatabaseConfig::parse(name, bytes)?.0);
        }
        Settings::new(hazelcast, database).map(|_| ())
    };
    match read() {
        Ok(()) => format!("{name} was accepted"),
        Err(error) => error.to_string(),
    }
}

macro_rules! broken {
    ($($test:ident: $file:literal => $message:literal;)*) => {
        $(
            #[test]
            fn $test() {
                let bytes = include_bytes!(concat!("../testdata/broken/", $file));
                assert_eq!(message($file, bytes), $message);
            }
        )*

        #[test]
        fn every_broken_file_has_its_exact_message_tested() {
            let listed = [$($file),*];
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/testdata/broken");
            let files = std::fs::read_dir(folder).expect("the folder of broken files");
            let names = files.map(|f| f.expect("a file").file_name().into_string().expect("UTF-8"));
            let mut names: Vec<String> = names.collect();
            names.sort();
            let mut expected: Vec<String> = listed.iter().map(|f| (*f).to_owned()).collect();
            expected.sort();
            assert_eq!(names, expected);
        }
    };
}

broken! {
    an_end_tag_that_does_not_match_is_named: "mismatched-end.xml" =>
        "mismatched-end.xml:3: is not well-formed XML: expected `</port>`, but `</prot>` was found";
    a_file_that_was_cut_off_names_what_is_open: "cut-off.xml" =>
        "cut-off.xml:3: is not well-formed XML: <network> is never closed: </network> is missing";
    another_kind_of_file_is_recognised: "wrong-root.xml" =>
        "wrong-root.xml:2: orient-server: the outermost element is <orient-server>, but it must be <hazelcast>";
    a_second_group_is_an_error: "duplicate-group.xml" =>
        "duplicate-group.xml:4: hazelcast/group: stands here again, after line 2; keep one of the two";
    two_enabled_joiners_are_an_error: "two-joiners.xml" =>
        "two-joiners.xml:5: hazelcast/network/join/tcp-ip: <multicast> and <tcp-ip> are both enabled, but only one may be; set enabled=\"false\" on the other";
    enabled_aws_is_an_error_that_says_what_to_use: "aws-enabled.xml" =>
        "aws-enabled.xml:5: hazelcast/network/join/aws: is enabled, but Quorate cannot find nodes this way yet; use <multicast>, or list the nodes in <tcp-ip>";
    enabled_kubernetes_is_an_error_that_says_what_to_use: "kubernetes-enabled.xml" =>
        "kubernetes-enabled.xml:3: hazelcast/network/join/discovery-strategies/discovery-strategy: is enabled, but Quorate cannot find nodes this way yet; use <tcp-ip> with the headless service's DNS name as <member>: it may resolve to many addresses";
    a_port_that_is_no_number_is_an_error: "port.xml" =>
        "port.xml:5: hazelcast/network/port: \"24x4\" is not allowed; allowed is a port from 1 to 65535";
    a_port_count_of_zero_is_an_error: "port-count.xml" =>
        "port-count.xml:3: hazelcast/network/port/@port-count: \"0\" is not allowed; allowed is a whole number from 1 to 65535";
    a_mistyped_true_is_an_error_not_a_false: "boolean.xml" =>
        "boolean.xml:4: hazelcast/network/join/multicast/@enabled: \"ture\" is not allowed; allowed is true, yes, on, false, no or off";
    a_range_that_runs_backwards_is_an_error: "member-range.xml" =>
        "member-range.xml:5: hazelcast/network/join/tcp-ip/members: \"192.168.1.9-2:2434\" is not allowed; allowed is a host, host:port, or an IPv4 address with a range or * in the last octet, such as 192.168.1.0-7:2434 or 192.168.1.* (ports 1 to 65535)";
    a_list_of_too_many_addresses_is_an_error: "too-many-members.xml" =>
        "too-many-members.xml:3: hazelcast/network/join/tcp-ip: \"4608 addresses and ports\" is not allowed; allowed is at most 4096: narrow the ranges, or give each entry its port";
    a_group_that_is_no_multicast_address_is_an_error: "multicast-group.xml" =>
        "multicast-group.xml:4: hazelcast/network/join/multicast/multicast-group: \"192.168.1.1\" is not allowed; allowed is an IPv4 multicast address, 224.0.0.0 to 239.255.255.255";
    a_time_to_live_above_255_is_an_error: "time-to-live.xml" =>
        "time-to-live.xml:4: hazelcast/network/join/multicast/multicast-time-to-live: \"256\" is not allowed; allowed is a whole number of hops from 0 to 255";
    an_interface_with_a_wrong_octet_is_an_error: "interface.xml" =>
        "interface.xml:5: hazelcast/network/interfaces/interface: \"10.3.*.300\" is not allowed; allowed is an address whose parts are numbers, ranges or *, such as 10.3.10.7, 10.3.16.*, 10.3.10.4-18 or fe80::1-ff";
    outbound_ports_that_run_backwards_are_an_error: "outbound-ports.xml" =>
        "outbound-ports.xml:4: hazelcast/network/outbound-ports/ports: \"35000-33000\" is not allowed; allowed is ports and ranges of ports from 1 to 65535, separated by commas, such as 33000-35000,37000; * or 0 for any port";
    a_doctype_is_refused_before_any_entity_is_read: "doctype.xml" =>
        "doctype.xml:2: a DOCTYPE is not allowed in a configuration file; write the text itself, or use ${variable}";
    an_unknown_entity_is_refused: "entity.xml" =>
        "entity.xml:3: the entity &passwd; in hazelcast/group/name is not allowed in a configuration file; write the text itself, or use ${variable}";
    a_file_that_is_not_utf8_names_the_line: "latin-1.xml" =>
        "latin-1.xml:3: is not valid UTF-8; save the file in UTF-8";
    a_property_that_is_no_number_is_an_error: "property.xml" =>
        "property.xml:3: hazelcast/properties/property[hazelcast.wait.seconds.before.join]: \"5s\" is not allowed; allowed is a whole number of seconds from 0 to 86400";
    a_heartbeat_limit_at_the_interval_is_an_error: "heartbeat-limit.xml" =>
        "heartbeat-limit.xml:4: hazelcast/properties/property[hazelcast.max.no.heartbeat.seconds]: a server would count as unreachable after 5 s, but it is heard only every 5 s; set it to 15 or more, or lower hazelcast.heartbeat.interval.seconds";
    a_trailing_comma_names_its_line: "trailing-comma.json" =>
        "trailing-comma.json:5: is not well-formed JSON: key must be a string (column 3)";
    an_unknown_quorum_word_is_an_error: "write-quorum.json" =>
        "write-quorum.json:3: writeQuorum: \"most\" is not allowed; allowed is a number from 1 to 64, \"majority\", \"all\" or \"localDataCenter\"";
    an_unknown_role_is_an_error: "role.json" =>
        "role.json:4: servers.europe-1: \"slave\" is not allowed; allowed is \"master\" or \"replica\"";
    an_unknown_strategy_is_an_error: "strategy.json" =>
        "strategy.json:3: newNodeStrategy: \"elastic\" is not allowed; allowed is \"static\" or \"dynamic\"";
    a_server_name_with_a_dot_is_an_error: "server-name.json" =>
        "server-name.json:6: clusters.*.servers[1]: \"node.example.org\" is not allowed; allowed is <NEW_NODE>, or a server's name: 1 to 64 letters, digits, - or _";
    local_data_center_without_data_centers_is_an_error: "local-data-center.json" =>
        "local-data-center.json:4: clusters.client.writeQuorum: \"localDataCenter\" is not allowed; allowed is a number from 1 to 64, \"majority\" or \"all\"; or this one, with \"dataCenters\"";
    a_key_that_stands_twice_is_an_error: "duplicate-key.json" =>
        "duplicate-key.json:4: writeQuorum: stands here again, after line 2; keep one of the two";
    a_negative_removal_time_is_an_error: "auto-remove.json" =>
        "auto-remove.json:2: autoRemoveOfflineServers: \"-2\" is not allowed; allowed is -1 (never), 0 (at once) or a whole number of milliseconds";
    a_flag_that_is_no_boolean_is_an_error: "auto-deploy.json" =>
        "auto-deploy.json:2: autoDeploy: \"yes\" is not allowed; allowed is true or false";
    a_server_in_two_data_centers_is_an_error: "two-centers.json" =>
        "two-centers.json:4: dataCenters.austin.servers[1]: stands here again, after line 3; keep one of the two";
}

const SEEDS: [&[u8]; 7] = [
    include_bytes!("../testdata/orientdb-2.2-hazelcast.xml"),
    include_bytes!("../testdata/orientdb-3.x-hazelcast.xml"),
    include_bytes!("../testdata/orientdb-manual-hazelcast.xml"),
    include_bytes!("../testdata/full-hazelcast.xml"),
    include_bytes!("../testdata/orientdb-2.2-db-config.json"),
    include_bytes!("../testdata/orientdb-1.7-db-config.json"),
    include_bytes!("../testdata/sharded-db-config.json"),
];

/// Words that the readers look for, to get past the first checks.
const WORDS: [&str; 24] = [
    "<hazelcast>",
    "</hazelcast>",
    "<network>",
    "<join>",
    "<tcp-ip enabled='true'>",
    "<members>",
    "</",
    "/>",
    "&amp;",
    "&x;",
    "<!DOCTYPE a>",
    "<![CDATA[",
    "]]>",
    "<!--",
    "-->",
    "${",
    "}",
    "0-255",
    "*",
    "[::1]:",
    "{\"clusters\":",
    "[\"<NEW_NODE>\"",
    "-1",
    "\u{e9}\0",
];

/// Reads `bytes` as either file, to the end. It is enough that nothing panics or hangs, and that
/// an accepted file makes settings or a named error.
fn survive(bytes: &[u8]) {
    let lookup = |name: &str| name.starts_with('a').then(|| name.repeat(3));
    let hazelcast = Hazelcast::parse("x.xml", bytes, &Variables::new(&lookup));
    let database = DatabaseConfig::parse("x.json", bytes);
    if let Ok((_, notes)) = &hazelcast {
        assert!(notes.len() <= Bounds::NOTES);
    }
    let (hazelcast, database) = (hazelcast.ok(), database.ok());
    let settings = Settings::new(hazelcast.map(|read| read.0), database.map(|read| read.0));
    if let Ok((settings, _)) = settings {
        assert!(settings.members.is_none_or(|members| members.expand().is_ok()));
        assert!(settings.port.ports().next().is_some());
        assert!(settings.timings.election_min >= settings.timings.heartbeat * 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        survive(&bytes);
    }

    #[test]
    fn no_sequence_of_meaningful_words_makes_the_readers_panic(
        words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..40),
    ) {
        survive(words.concat().as_bytes());
    }

    #[test]
    fn no_mutation_of_a_valid_file_makes_the_readers_panic(
        seed in 0..SEEDS.len(),
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..24_usize, prop::sample::select(&WORDS[..]), any::<u8>()),
            1..8,
        ),
    ) {
        let mut bytes = SEEDS[seed].to_vec();
        for (at, remove, word, byte) in edits {
            let at = at.index(bytes.len() + 1);
            let end = (at + remove).min(bytes.len());
            match byte % 3 {
                0 => drop(bytes.splice(at..end, [byte])),
                1 => drop(bytes.splice(at..end, word.bytes())),
                _ => bytes.truncate(at),
            }
        }
        survive(&bytes);
    }
}

fn parse(xml: &str) -> Result<Hazelcast, ConfigError> {
    Hazelcast::parse("x.xml", xml.as_bytes(), &Variables::none()).map(|read| read.0)
}

#[test]
fn a_file_beyond_a_mebibyte_is_refused_unread() {
    let folder = tempfile::tempdir().expect("a scratch directory");
    let path = folder.path().join("big.xml");
    let mut bytes = b"<hazelcast>".to_vec();
    bytes.resize(Bounds::FILE_BYTES, b' ');
    bytes.extend_from_slice(b"</hazelcast>");
    std::fs::write(&path, &bytes).expect("written");
    let xml = Hazelcast::load(&path, &Variables::none());
    assert!(matches!(xml, Err(ConfigError::TooLarge { max: Bounds::FILE_BYTES, .. })));
    let json = DatabaseConfig::load(&path);
    assert!(matches!(json, Err(ConfigError::TooLarge { max: Bounds::FILE_BYTES, .. })));
}

#[test]
fn a_missing_file_is_named() {
    let path = std::path::Path::new("/nowhere/hazelcast.xml");
    let error = Hazelcast::load(path, &Variables::none()).expect_err("no such file");
    assert!(error.to_string().starts_with("/nowhere/hazelcast.xml: cannot be read: "), "{error}");
}

#[test]
fn nesting_beyond_the_bound_is_refused() {
    let deep = format!("<hazelcast>{}{}</hazelcast>", "<a>".repeat(40), "</a>".repeat(40));
    assert!(matches!(parse(&deep), Err(ConfigError::Bound { max: Bounds::DEPTH, .. })));
    let deep = format!("{{\"x\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let read = DatabaseConfig::parse("x.json", deep.as_bytes());
    assert!(matches!(read, Err(ConfigError::Bound { .. } | ConfigError::Syntax { .. })));
}

#[test]
fn more_elements_or_attributes_than_the_bound_are_refused() {
    let many = format!("<hazelcast>{}</hazelcast>", "<a/>".repeat(Bounds::ELEMENTS));
    assert!(matches!(parse(&many), Err(ConfigError::Bound { max: Bounds::ELEMENTS, .. })));
    let all: String = (0..=Bounds::ATTRIBUTES).map(|n| format!(" a{n}=''")).collect();
    let many = format!("<hazelcast><a{all}/></hazelcast>");
    assert!(matches!(parse(&many), Err(ConfigError::Bound { max: Bounds::ATTRIBUTES, .. })));
}

#[test]
fn a_variable_cannot_grow_a_text_without_bound() {
    let lookup = |_: &str| Some("x".repeat(1_000));
    let xml = format!("<hazelcast><group><name>{}</name></group></hazelcast>", "${a}".repeat(200));
    let read = Hazelcast::parse("x.xml", xml.as_bytes(), &Variables::new(&lookup));
    assert!(matches!(read, Err(ConfigError::Bound { max: Bounds::TEXT_BYTES, .. })));
}

#[test]
fn notes_are_bounded_and_the_last_says_how_many_are_missing() {
    let xml = format!("<hazelcast>{}</hazelcast>", "<a/>".repeat(1_000));
    let (_, notes) =
        Hazelcast::parse("x.xml", xml.as_bytes(), &Variables::none()).expect("accepted");
    assert_eq!(notes.len(), Bounds::NOTES);
    let last = notes.last().expect("a note");
    // 1,000 unknown elements, the missing group and the missing joiner.
    assert_eq!(last.message, "and 747 more remarks that are not shown");
}

#[test]
fn no_error_or_note_or_debug_output_holds_a_password() {
    let xml = br#"<hazelcast>
        <group><name>a</name><password>hush-1</password></group>
        <network><join><aws enabled="false"><secret-key>hush-2</secret-key></aws></join>
        <ssl><properties><property name="keyStorePassword">hush-3</property></properties></ssl>
        <symmetric-encryption enabled="true"><password>hush-4</password></symmetric-encryption>
        </network></hazelcast>"#;
    let (hazelcast, notes) = Hazelcast::parse("x.xml", xml, &Variables::none()).expect("accepted");
    let shown = notes.iter().map(ToString::to_string).collect::<String>();
    let all = format!("{hazelcast:?} {notes:?} {shown}");
    let (settings, notes) = Settings::new(Some(hazelcast), None).expect("settings");
    assert_eq!(settings.password.expose(), "hush-1");
    assert!(!format!("{all} {settings:?} {notes:?}").contains("hush-"));
}

#[test]
fn no_message_holds_a_control_character_of_the_file() {
    let escape = "\u{1b}[31m";
    let xml = format!(
        "<hazelcast><properties><property name='{escape}'>1</property></properties><network><port>{escape}</port></network></hazelcast>"
    );
    let error = parse(&xml).expect_err("no port").to_string();
    assert!(!error.contains('\u{1b}'), "{error}");
    let xml = xml.replace(&format!("<port>{escape}"), "<port>");
    let (_, notes) = Hazelcast::parse("x.xml", xml.as_bytes(), &Variables::none()).expect("read");
    let json = "{\"\\u001b\\n\": 1, \"servers\": {\"\\n\": 1}}";
    let error = DatabaseConfig::parse("x.json", json.as_bytes()).expect_err("refused").to_string();
    let shown = notes.iter().map(ToString::to_string).collect::<String>();
    assert!(shown.contains("u{1b}"), "{shown}");
    assert!(!(shown + &error).chars().any(char::is_control), "{error}");
    let name = format!("<hazelcast><a{escape}/></hazelcast>");
    assert!(matches!(parse(&name), Err(ConfigError::Syntax { .. })));
    let name = format!("<hazelcast><group><name>a{escape}</name></group></hazelcast>");
    assert!(matches!(parse(&name), Err(ConfigError::Value { .. })));
}

#[test]
fn the_space_between_elements_counts_for_nothing() {
    let indent = " ".repeat(Bounds::TEXT_BYTES / 2);
    let map = format!("\n{indent}<map/>");
    let xml =
        format!("<hazelcast>{}<group><name> &amp; &lt; </name></group></hazelcast>", map.repeat(9));
    assert_eq!(parse(&xml).expect("accepted").group.name, "& <");
}
