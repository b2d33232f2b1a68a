//! hazelcast.xml: OrientDB's files unchanged, every row, every default, every oddity.

use std::net::Ipv4Addr;
use std::time::Duration;

use quorate_core::configuration::AutoRemove;

use super::super::hazelcast::{Hazelcast, Multicast, SymmetricEncryption, TcpIp};
use super::super::{Level, Member, Note, Port, PublicAddress, Variables};

fn read(xml: &str) -> (Hazelcast, Vec<Note>) {
    Hazelcast::parse("x.xml", xml.as_bytes(), &Variables::none()).expect("accepted")
}

fn in_network(inner: &str) -> String {
    format!("<hazelcast><group/><network>{inner}</network></hazelcast>")
}

fn shown(notes: &[Note]) -> Vec<String> {
    notes.iter().map(ToString::to_string).collect()
}

fn members(texts: &[&str]) -> Vec<Member> {
    texts.iter().map(|text| Member::parse(text).expect("a member")).collect()
}

#[test]
fn orientdb_22_default_file_loads_unchanged() {
    let xml = include_str!("../testdata/orientdb-2.2-hazelcast.xml");
    let (read, notes) = read(xml);
    assert_eq!(read.group.name, "orientdb");
    assert_eq!(read.group.password.expose(), "orientdb");
    assert_eq!(read.network.port, Port { first: 2434, auto_increment: true, count: 100 });
    let multicast = &read.network.join.multicast;
    assert!(multicast.enabled);
    assert_eq!((multicast.group, multicast.port), (Ipv4Addr::new(235, 1, 1, 1), 2434));
    assert!(!read.network.join.tcp_ip.enabled);
    assert!(!read.network.encryption.enabled);
    assert_eq!(read.properties.wait_before_join.as_ref().map(|at| at.value), Some(5));
    assert_eq!(read.properties.heartbeat_interval.as_ref().map(|at| at.value), Some(5));
    assert_eq!(read.properties.max_no_heartbeat.as_ref().map(|at| at.value), Some(30));
    assert_eq!(read.properties.merge_next_run_delay.as_ref().map(|at| at.value), Some(15));
    assert!(notes.iter().all(|note| note.level == Level::Info), "{notes:#?}");
    let path = "hazelcast/properties/property[hazelcast.rest.enabled]";
    assert!(
        shown(&notes).contains(&format!("x.xml:15: {path}: is ignored: it has no meaning here"))
    );
    let executor = "x.xml:35: hazelcast/executor-service: is ignored: it has no meaning here";
    assert_eq!(shown(&notes).last().map(String::as_str), Some(executor));
}

#[test]
fn orientdb_3_default_file_loads_unchanged() {
    let (read, notes) = read(include_str!("../testdata/orientdb-3.x-hazelcast.xml"));
    assert!(read.network.join.multicast.enabled);
    assert_eq!(read.network.join.discovery.len(), 1);
    let off = "x.xml:17: hazelcast/network/join/kubernetes: is ignored: it is not enabled";
    assert!(shown(&notes).contains(&off.to_owned()), "{notes:#?}");
}

#[test]
fn every_block_of_the_manuals_in_one_file_loads_unchanged() {
    let (read, notes) = read(include_str!("../testdata/orientdb-manual-hazelcast.xml"));
    let join = &read.network.join;
    assert!(join.multicast.enabled && !join.tcp_ip.enabled);
    assert_eq!(join.tcp_ip.members, members(&["127.0.0.1"]));
    assert_eq!(join.aws.region, "us-west-1");
    assert_eq!(
        join.discovery[0].service_dns.as_deref(),
        Some("orientdb.default.svc.cluster.local")
    );
    assert_eq!(read.network.encryption, SymmetricEncryption::default());
    assert!(read.network.outbound_ports.is_empty());
    assert!(notes.iter().all(|note| note.level == Level::Info), "{notes:#?}");
}

#[test]
fn every_row_is_read_with_a_namespace_prefix() {
    let (read, notes) = read(include_str!("../testdata/full-hazelcast.xml"));
    assert_eq!(read.group.name, "shop");
    assert_eq!(read.group.password.expose(), "<p&w>");
    let network = &read.network;
    assert_eq!(network.port, Port { first: 7000, auto_increment: false, count: 20 });
    assert_eq!(network.outbound_ports, [(33000, 35000), (37000, 37002), (38000, 38002)]);
    assert!(!network.reuse_address);
    let public = PublicAddress { host: "db.example.org".to_owned(), port: Some(7777) };
    assert_eq!(network.public_address, Some(public));
    assert!(network.interfaces.enabled);
    assert_eq!(network.interfaces.patterns.0.len(), 3);
    let multicast = &network.join.multicast;
    assert!(!multicast.enabled && multicast.loopback);
    assert_eq!((multicast.group, multicast.port), (Ipv4Addr::new(224, 5, 6, 7), 5555));
    assert_eq!(multicast.time_to_live, 7);
    assert_eq!(multicast.timeout, Some(Duration::from_secs(9)));
    assert_eq!(multicast.trusted.0.len(), 2);
    let tcp_ip = &network.join.tcp_ip;
    assert!(tcp_ip.enabled);
    assert_eq!(tcp_ip.connection_timeout, Duration::from_secs(11));
    assert_eq!(tcp_ip.required_member, Member::parse("seed.example.org:7001"));
    let listed = [
        "node-a",
        "node_b:7002",
        "10.3.16.8",
        "192.168.1.0-7:2434",
        "192.168.2.*",
        "[fe80::1]:7003",
    ];
    assert_eq!(tcp_ip.members, members(&listed));
    let aws = &network.join.aws;
    let of = |text: &Option<String>| text.clone().unwrap_or_default();
    assert_eq!(aws.connection_timeout, Duration::from_secs(13));
    assert_eq!(aws.access_key.as_ref().map(|key| key.expose()), Some("AKIA"));
    assert_eq!(aws.secret_key.as_ref().map(|key| key.expose()), Some("hush"));
    assert_eq!(of(&aws.iam_role), "role");
    assert_eq!(
        (aws.region.as_str(), aws.host_header.as_str()),
        ("eu-central-1", "ec2.example.org")
    );
    assert_eq!(of(&aws.security_group_name), "sg");
    assert_eq!((of(&aws.tag_key), of(&aws.tag_value)), ("k".to_owned(), "v".to_owned()));
    assert_eq!(of(&aws.hz_port), "7000-7005");
    assert_eq!(network.join.discovery[0].service_dns.as_deref(), Some("pods.example.org"));
    let encryption = &network.encryption;
    assert!(encryption.enabled);
    assert_eq!((encryption.algorithm.as_str(), encryption.salt.as_str()), ("Blowfish", "sea"));
    assert_eq!(encryption.password.expose(), "passphrase");
    assert_eq!(encryption.iteration_count, 4096);
    let p = &read.properties;
    let values = [
        &p.wait_before_join,
        &p.max_wait_before_join,
        &p.max_join,
        &p.heartbeat_interval,
        &p.max_no_heartbeat,
        &p.merge_first_run_delay,
        &p.merge_next_run_delay,
        &p.initial_min_cluster_size,
        &p.tcp_join_port_try_count,
    ];
    let values = values.map(|at| at.as_ref().map(|at| at.value));
    assert_eq!(values, [3, 21, 301, 10, 60, 31, 32, 3, 2].map(Some));
    assert_eq!(p.auto_remove.as_ref().map(|at| at.value), Some(AutoRemove::Never));
    assert!(!shown(&notes).iter().any(|note| note.contains("has no meaning here")), "{notes:#?}");
}

#[test]
fn an_empty_file_has_every_default_and_says_that_nobody_is_looked_for() {
    let (read, notes) = read("<hazelcast/>");
    assert_eq!(read.group.name, "orientdb");
    assert_eq!(read.network.port, Port { first: 2434, auto_increment: true, count: 100 });
    assert!(read.network.outbound_ports.is_empty());
    assert!(read.network.reuse_address);
    assert_eq!(read.network.public_address, None);
    assert!(!read.network.interfaces.enabled);
    let multicast = Multicast::default();
    assert_eq!(read.network.join.multicast, multicast);
    assert_eq!((multicast.group, multicast.port), (Ipv4Addr::new(224, 2, 2, 3), 54327));
    assert_eq!((multicast.time_to_live, multicast.loopback), (32, false));
    let tcp_ip = TcpIp::default();
    assert_eq!(read.network.join.tcp_ip, tcp_ip);
    assert_eq!(tcp_ip.connection_timeout, Duration::from_secs(5));
    let aws = &read.network.join.aws;
    assert_eq!((aws.region.as_str(), aws.host_header.as_str()), ("us-east-1", "ec2.amazonaws.com"));
    assert_eq!(aws.connection_timeout, Duration::from_secs(5));
    let encryption = &read.network.encryption;
    assert_eq!((encryption.enabled, encryption.iteration_count), (false, 19));
    let warnings: Vec<_> = notes.iter().filter(|note| note.level == Level::Warning).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].message.contains("looks for no other"));
}

#[test]
fn a_missing_enabled_means_off() {
    let inner = "<join><multicast/><tcp-ip><member>a</member></tcp-ip><aws/></join>\
                 <interfaces><interface>10.0.0.*</interface></interfaces><symmetric-encryption/>";
    let (read, _) = read(&in_network(inner));
    let network = &read.network;
    assert!(!network.join.multicast.enabled && !network.join.tcp_ip.enabled);
    assert!(!network.interfaces.enabled && !network.encryption.enabled);
}

#[test]
fn element_names_lose_prefix_and_case_as_in_hazelcast() {
    let xml = "<a:Hazelcast xmlns:a='x'><b:GROUP xmlns:b='y'><Name>shop</Name></b:GROUP>\
               </a:Hazelcast>";
    assert_eq!(read(xml).0.group.name, "shop");
}

#[test]
fn comments_cdata_and_entities_are_part_of_ordinary_text() {
    let xml = "<hazelcast><group><name>a<!-- x -->b&amp;&#x41;<![CDATA[<c>]]></name></group>\
               </hazelcast>";
    assert_eq!(read(xml).0.group.name, "ab&A<c>");
}

#[test]
fn variables_are_replaced_once_and_an_undefined_one_stays_with_a_warning() {
    let xml = "<hazelcast>\n<group><name>${name}-${nobody}</name></group>\n<network>\n\
               <port auto-increment=\"${auto}\">24${port}</port>\n\
               <join><multicast enabled=\"true\"/></join></network></hazelcast>";
    let lookup = |name: &str| match name {
        "name" => Some("${port}".to_owned()),
        "auto" => Some("false".to_owned()),
        "port" => Some("34".to_owned()),
        _ => None,
    };
    let (read, notes) =
        Hazelcast::parse("x.xml", xml.as_bytes(), &Variables::new(&lookup)).expect("accepted");
    assert_eq!(read.group.name, "${port}-${nobody}");
    assert_eq!(read.network.port, Port { first: 2434, auto_increment: false, count: 100 });
    let warning = "x.xml:2: hazelcast/group/name: the variable ${nobody} is not defined and stays \
                   as it is";
    assert_eq!(shown(&notes), [warning]);
    assert_eq!(notes[0].level, Level::Warning);
}

#[test]
fn a_variable_that_is_never_closed_stays_with_a_warning() {
    let (read, notes) = read("<hazelcast><group><name>a${b</name></group><network/></hazelcast>");
    assert_eq!(read.group.name, "a${b");
    assert_eq!(notes[0].level, Level::Warning);
}

#[test]
fn the_older_name_of_the_time_to_live_is_read() {
    let inner = "<join><multicast enabled='true'>\
                 <multicast-time-to-live-seconds>9</multicast-time-to-live-seconds>\
                 </multicast></join>";
    assert_eq!(read(&in_network(inner)).0.network.join.multicast.time_to_live, 9);
}

#[test]
fn properties_may_be_elements_of_their_own_name() {
    let xml = "<hazelcast><properties>\
               <hazelcast.max.no.heartbeat.seconds>40</hazelcast.max.no.heartbeat.seconds>\
               </properties></hazelcast>";
    let limit = read(xml).0.properties.max_no_heartbeat;
    assert_eq!(limit.map(|at| at.value), Some(40));
}

#[test]
fn a_mistake_in_a_block_that_is_off_is_a_warning() {
    let inner = "<join><multicast enabled='true'/>\n<tcp-ip enabled='false'>\n\
                 <member>not a.host.300</member></tcp-ip></join>";
    let (read, notes) = read(&in_network(inner));
    assert!(read.network.join.multicast.enabled);
    let warning = notes.iter().find(|note| note.level == Level::Warning).expect("a warning");
    assert_eq!(warning.place.line, 3);
    assert!(warning.message.starts_with("\"a.host.300\" would not be allowed"), "{warning}");
}

#[test]
fn unknown_elements_attributes_and_properties_are_noted_by_path() {
    let xml = "<hazelcast>\n<frob><x/></frob><network>\n<port speed='9'>2434</port>\n<ssl/>\
               <join><multicast enabled='true'>\n<x/></multicast></join></network>\
               <properties>\n<property name='a.b'>1</property></properties><group/></hazelcast>";
    let ignored = "is ignored: it has no meaning here";
    let expected = [
        format!("x.xml:2: hazelcast/frob: {ignored}"),
        format!("x.xml:3: hazelcast/network/port/@speed: {ignored}"),
        "x.xml:4: hazelcast/network/ssl: is ignored: every byte between nodes is always encrypted"
            .to_owned(),
        format!("x.xml:5: hazelcast/network/join/multicast/x: {ignored}"),
        format!("x.xml:6: hazelcast/properties/property[a.b]: {ignored}"),
    ];
    assert_eq!(shown(&read(xml).1), expected);
}

#[test]
fn elements_that_may_occur_often_do() {
    let xml = "<hazelcast><map/><map/><queue/><queue/><executor-service/><executor-service/>\
               <semaphore/><semaphore/></hazelcast>";
    assert_eq!(read(xml).0, read("<hazelcast/>").0);
}

#[test]
fn a_second_port_counts_with_a_warning() {
    let (read, notes) = read(&in_network("<port>1</port>\n<port>2</port>"));
    assert_eq!(read.network.port.first, 2);
    let again = "x.xml:2: hazelcast/network/port: stands here again; this one counts".to_owned();
    assert!(shown(&notes).contains(&again));
}

#[test]
fn member_lists_merge_without_repetition_and_take_every_separator() {
    let inner = "<join><tcp-ip enabled='yes'><member>a</member><members>b, a;c:2434\n d</members>\
                 <member-list><member>e</member></member-list><interface>b</interface>\
                 <required-member></required-member></tcp-ip></join>";
    let tcp_ip = read(&in_network(inner)).0.network.join.tcp_ip;
    assert_eq!(tcp_ip.members, members(&["a", "b", "c:2434", "d", "e"]));
    assert_eq!(tcp_ip.required_member, None);
}

#[test]
fn any_outbound_port_is_no_limit() {
    for text in ["0", "*", "33000-35000, *"] {
        let inner =
            format!("<outbound-ports><ports>1-9</ports><ports>{text}</ports></outbound-ports>");
        assert!(read(&in_network(&inner)).0.network.outbound_ports.is_empty(), "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_skipped_and_lines_stay_right() {
    let xml = "\u{feff}<hazelcast>\r\n<network>\r\n<port>x</port></network></hazelcast>";
    let error = Hazelcast::parse("x.xml", xml.as_bytes(), &Variables::none()).expect_err("refused");
    assert!(error.to_string().starts_with("x.xml:3: hazelcast/network/port: "), "{error}");
}

#[test]
fn another_encoding_is_refused_only_if_it_matters() {
    let xml = |name: &str| {
        format!(
            "<?xml version='1.0' encoding='ISO-8859-1'?><hazelcast><group><name>{name}</name>\
             </group></hazelcast>"
        )
    };
    assert_eq!(read(&xml("cafe")).0.group.name, "cafe");
    let text = xml("café");
    assert!(Hazelcast::parse("x.xml", text.as_bytes(), &Variables::none()).is_err());
}

#[test]
fn an_element_of_hazelcast_4_that_renames_the_cluster_is_a_warning() {
    let (read, notes) = read("<hazelcast><cluster-name>shop</cluster-name></hazelcast>");
    assert_eq!(read.group.name, "orientdb");
    assert_eq!(
        (notes[0].level, notes[0].place.path.as_str()),
        (Level::Warning, "hazelcast/cluster-name")
    );
}

#[test]
fn encryption_without_a_passphrase_of_its_own_is_a_warning() {
    for inner in ["", "<password/>", "<password>thepass</password>"] {
        let block = format!(
            "<join><multicast enabled='on'/></join>\
             <symmetric-encryption enabled='true'>{inner}</symmetric-encryption>"
        );
        let (read, notes) = read(&in_network(&block));
        assert!(read.network.encryption.enabled);
        assert!(notes.iter().any(|note| note.level == Level::Warning), "{inner}: {notes:#?}");
    }
}

#[test]
fn every_element_that_may_stand_once_is_an_error_the_second_time() {
    let once = [
        "group",
        "network",
        "properties",
        "instance-name",
        "license-key",
        "management-center",
        "partition-group",
        "listeners",
        "serialization",
        "services",
        "security",
        "member-attributes",
        "native-memory",
        "lite-member",
    ];
    for name in once {
        let xml = format!("<hazelcast><{name}/>\n<map/>\n<{name}/></hazelcast>");
        let error = Hazelcast::parse("x.xml", xml.as_bytes(), &Variables::none());
        let expected = format!(
            "x.xml:3: hazelcast/{name}: stands here again, after line 1; keep one of the two"
        );
        assert_eq!(error.expect_err(name).to_string(), expected);
    }
}
