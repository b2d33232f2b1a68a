//! Patterns, interfaces, ports and the member list.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;

use super::super::{
    AddressPattern, Bounds, Hazelcast, Interfaces, Member, Members, Patterns, Port, PublicAddress,
    Variables, parse_outbound_ports,
};

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn socket(text: &str) -> SocketAddr {
    text.parse().expect("a socket address")
}

fn patterns(texts: &[&str]) -> Patterns {
    let parse = |text: &&str| AddressPattern::parse(text).expect("a pattern");
    Patterns(texts.iter().map(parse).collect())
}

fn list(port: Port, entries: &[&str]) -> Members {
    let parse = |text: &&str| Member::parse(text).expect("a member");
    Members {
        list: entries.iter().map(parse).collect(),
        required: None,
        port,
        port_tries: Members::PORT_TRIES,
        interfaces: Interfaces::default(),
    }
}

#[test]
fn patterns_match_exactly_what_they_say() {
    let cases = [
        ("10.3.16.*", "10.3.16.0", true),
        ("10.3.16.*", "10.3.16.255", true),
        ("10.3.16.*", "10.3.17.1", false),
        ("10.3.10.4-18", "10.3.10.4", true),
        ("10.3.10.4-18", "10.3.10.18", true),
        ("10.3.10.4-18", "10.3.10.3", false),
        ("10.3.10.4-18", "10.3.10.19", false),
        ("10.3.*.4-18", "10.3.200.5", true),
        ("*.*.*.*", "1.2.3.4", true),
        ("10.3.10.7", "::ffff:10.3.10.7", true),
        ("::ffff:10.3.10.7", "10.3.10.7", true),
        ("10.3.10.*", "fe80::1", false),
        ("fe80:0:0:0:45c5:47ee:fe15:493a-5555", "fe80::45c5:47ee:fe15:5555", true),
        ("fe80:0:0:0:45c5:47ee:fe15:493a-5555", "fe80::45c5:47ee:fe15:5556", false),
        ("fe80::*", "fe80::abcd", true),
        ("fe80::*", "fe80::1:abcd", false),
        ("FE80::1-FF%eth0", "fe80::a0", true),
        ("::1", "::1", true),
        ("::", "::", true),
    ];
    for (pattern, address, expected) in cases {
        let parsed = AddressPattern::parse(pattern).expect(pattern);
        assert_eq!(parsed.matches(ip(address)), expected, "{pattern} {address}");
    }
}

#[test]
fn what_is_no_pattern_is_refused() {
    let wrong = [
        "",
        "10.3.16",
        "10.3.16.1.2",
        "10.3.16.256",
        "10.3.16.5-4",
        "10.3.16.-4",
        "10.3.16.4-",
        "10.3.16.+4",
        "10.3.16.1-2-3",
        "10.3..1",
        "a.b.c.d",
        "fe80:::1",
        "fe80::1::2",
        "fe80",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "fe80::12345",
        "fe80::5-4",
        "1:2:3:4:5:6:7::8",
        "::ffff:10.3.10.300",
        "fe80::10.3.10.3",
        "10.3.16.**",
        " 10.3.16.1",
    ];
    for text in wrong {
        assert_eq!(AddressPattern::parse(text), None, "{text:?}");
    }
}

#[test]
fn an_empty_list_trusts_all_and_a_list_only_its_own() {
    assert!(Patterns::default().trusted(ip("8.8.8.8")));
    let listed = patterns(&["192.168.1.*", "10.0.0.1-9"]);
    assert!(listed.trusted(ip("192.168.1.200")) && listed.trusted(ip("10.0.0.9")));
    assert!(!listed.trusted(ip("10.0.0.10")) && !listed.trusted(ip("::1")));
}

#[test]
fn interfaces_select_the_listed_addresses_and_fail_with_all_that_is_known() {
    let local = [ip("127.0.0.1"), ip("10.3.16.8"), ip("192.168.7.7")];
    let mut interfaces = Interfaces { enabled: false, patterns: patterns(&["10.3.16.*"]) };
    assert_eq!(interfaces.select(&local).expect("off: all"), local);
    interfaces.enabled = true;
    assert_eq!(interfaces.select(&local).expect("one is listed"), [ip("10.3.16.8")]);
    interfaces.patterns = patterns(&["10.9.9.1-7", "fe80::*"]);
    let error = interfaces.select(&local).expect_err("none is listed");
    assert_eq!(
        error.to_string(),
        "none of this host's addresses (127.0.0.1, 10.3.16.8, 192.168.7.7) is listed in \
         <interfaces> (10.9.9.1-7, fe80:0:0:0:0:0:0:*); add one of them there, or set \
         enabled=\"false\""
    );
}

#[test]
fn ports_never_pass_the_last_one() {
    let all = |first, auto_increment, count| {
        Port { first, auto_increment, count }.ports().collect::<Vec<_>>()
    };
    assert_eq!(all(2434, true, 3), [2434, 2435, 2436]);
    assert_eq!(all(2434, false, 3), [2434]);
    assert_eq!(all(65534, true, 100), [65534, 65535]);
}

#[test]
fn outbound_ports_take_ranges_lists_and_mixtures() {
    assert_eq!(parse_outbound_ports("33000-35000"), Some(vec![(33000, 35000)]));
    assert_eq!(parse_outbound_ports("37000,37001"), Some(vec![(37000, 37001)]));
    assert_eq!(parse_outbound_ports("9, 5-7; 1-6 20"), Some(vec![(1, 7), (9, 9), (20, 20)]));
    assert_eq!(parse_outbound_ports("*"), Some(vec![]));
    for wrong in ["a", "1-", "-1", "7-6", "65536", "1-2-3", "+5"] {
        assert_eq!(parse_outbound_ports(wrong), None, "{wrong}");
    }
}

#[test]
fn members_are_told_apart_from_mistakes() {
    let good = [
        "node-a",
        "node_b:2434",
        "a.b.example.org",
        "a.b.example.org.",
        "1a",
        "10.0.0.1",
        "10.0.0.1:1",
        "10.0.0.*",
        "10.0.0.0-7:65535",
        "::1",
        "fe80::1%eth0",
        "[::1]",
        "[::1]:9",
    ];
    for text in good {
        assert!(Member::parse(text).is_some(), "{text}");
    }
    let wrong = [
        "",
        ":2434",
        "a:",
        "a:0",
        "a:65536",
        "a:x",
        "a:+1",
        "a b",
        "-a",
        "a-",
        "a..b",
        "10.0.0",
        "10.0.0.300",
        "10.0.*.1",
        "10.0.0-3.1",
        "10.0.0.9-2",
        "fe80::1-9",
        "fe80::*",
        "[::1",
        "[::1]9",
        "[::1]:",
        "[10.0.0.1]:9",
        "${host}",
        "a/24",
        "10.0.0.0/24",
        "ä",
    ];
    for text in wrong {
        assert_eq!(Member::parse(text), None, "{text}");
    }
    let long = "a".repeat(64);
    assert_eq!(Member::parse(&long), None);
    assert_eq!(Member::parse(&vec!["a".repeat(63); 4].join(".")), None);
}

#[test]
fn an_entry_without_a_port_stands_for_the_first_three() {
    let expanded = list(Port::default(), &["10.0.0.1", "10.0.0.2:7", "name", "name:8"]).expand();
    let expanded = expanded.expect("within the bound");
    let expected = ["10.0.0.1:2434", "10.0.0.1:2435", "10.0.0.1:2436", "10.0.0.2:7"];
    assert_eq!(expanded.addresses, expected.map(socket));
    let hosts = [("name".to_owned(), vec![2434, 2435, 2436]), ("name".to_owned(), vec![8])];
    assert_eq!(expanded.hosts, hosts);
}

#[test]
fn without_auto_increment_an_entry_stands_for_one_port() {
    let port = Port { auto_increment: false, ..Port::default() };
    let expanded = list(port, &["10.0.0.1"]).expand().expect("within the bound");
    assert_eq!(expanded.addresses, [socket("10.0.0.1:2434")]);
    let port = Port { count: 2, ..Port::default() };
    let expanded = list(port, &["10.0.0.1"]).expand().expect("within the bound");
    assert_eq!(expanded.addresses.len(), 2);
}

#[test]
fn ranges_and_wildcards_expand_in_order_and_once() {
    let entries = ["192.168.1.0-7:2434", "192.168.1.6-9:2434", "192.168.2.*:1", "[fe80::1]:2"];
    let expanded = list(Port::default(), &entries).expand().expect("within the bound");
    assert_eq!(expanded.addresses.len(), 10 + 256 + 1);
    assert_eq!(expanded.addresses[9], socket("192.168.1.9:2434"));
    assert_eq!(expanded.addresses[10], socket("192.168.2.0:1"));
    assert_eq!(expanded.addresses[265], socket("192.168.2.255:1"));
    assert_eq!(expanded.addresses[266], socket("[fe80::1]:2"));
}

#[test]
fn a_list_beyond_the_bound_is_refused_before_it_is_expanded() {
    let wide: Vec<String> = (0..17).map(|n| format!("10.0.{n}.*:1")).collect();
    let wide: Vec<&str> = wide.iter().map(String::as_str).collect();
    assert!(list(Port::default(), &wide[..16]).expand().is_ok());
    let error = list(Port::default(), &wide).expand().expect_err("4352 addresses");
    assert_eq!((error.count, error.max), (17 * 256, Bounds::CANDIDATES));
}

#[test]
fn the_required_member_is_tried_first_and_once() {
    let xml = b"<hazelcast><network><join><tcp-ip enabled='true'><member>a</member>\
        <member>b</member><required-member>b</required-member></tcp-ip></join></network>\
        </hazelcast>";
    let read = Hazelcast::parse("x.xml", xml, &Variables::none()).expect("accepted").0;
    let members = Members::of(&read).expect("enabled");
    let names: Vec<_> = members.expand().expect("two").hosts.into_iter().map(|h| h.0).collect();
    assert_eq!(names, ["b", "a"]);
    assert_eq!(members.required, Member::parse("b"));
}

#[tokio::test]
async fn a_name_resolves_to_every_port_and_an_unknown_one_is_reported_not_fatal() {
    let mut members = list(Port::default(), &["127.0.0.9:1", "localhost"]);
    // A name that the resolver refuses by itself: no name server is asked.
    let unknown = "no\0host".to_owned();
    members.list.insert(0, Member::Host { name: unknown.clone(), port: None });
    let resolved = members.resolve().await.expect("within the bound");
    assert_eq!(resolved.addresses[0], socket("127.0.0.9:1"));
    let rest = &resolved.addresses[1..];
    assert!(rest.iter().all(|address| address.ip().is_loopback()), "{rest:?}");
    for port in 2434..=2436 {
        assert!(rest.iter().any(|address| address.port() == port), "{rest:?}");
    }
    let failed: Vec<_> = resolved.failed.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(failed, [unknown]);
    assert_eq!(resolved.left_out, 0);
}

#[tokio::test]
async fn names_resolve_only_to_addresses_of_the_listed_interfaces() {
    let mut members = list(Port::default(), &["localhost", "127.0.0.9:1"]);
    members.interfaces = Interfaces { enabled: true, patterns: patterns(&["10.0.0.*"]) };
    let resolved = members.resolve().await.expect("within the bound");
    assert_eq!(resolved.addresses, [socket("127.0.0.9:1")]);
}

#[tokio::test]
async fn a_public_address_takes_the_listening_port_if_it_has_none() {
    let resolve = async |text: &str| {
        let public = PublicAddress::parse(text).expect("an address");
        public.resolve(2437).await.expect("resolved")
    };
    assert_eq!(resolve("127.0.0.9").await, socket("127.0.0.9:2437"));
    assert_eq!(resolve("[::1]:7000").await, socket("[::1]:7000"));
    let named = resolve("localhost:7001").await;
    assert!(named.ip().is_loopback() && named.port() == 7001, "{named}");
    for wrong in ["", "a:0", "10.0.0.*", "10.0.0.256", "a b", "${host}"] {
        assert_eq!(PublicAddress::parse(wrong), None, "{wrong}");
    }
}

proptest! {
    #[test]
    fn a_pattern_means_the_same_after_it_was_shown(
        parts in prop::array::uniform4((any::<u8>(), any::<u8>())),
        groups in prop::array::uniform8((any::<u16>(), any::<u16>())),
        probe in any::<[u8; 4]>(),
        probe6 in any::<[u16; 8]>(),
    ) {
        let v4 = parts.map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))).join(".");
        let v6 = groups.map(|(a, b)| format!("{:x}-{:x}", a.min(b), a.max(b))).join(":");
        for text in [v4, v6] {
            let pattern = AddressPattern::parse(&text).expect("a pattern");
            let again = AddressPattern::parse(&pattern.to_string()).expect("as shown");
            prop_assert_eq!(&pattern, &again);
            prop_assert_eq!(pattern.matches(IpAddr::from(probe)), again.matches(IpAddr::from(probe)));
            prop_assert_eq!(pattern.matches(IpAddr::from(probe6)), again.matches(IpAddr::from(probe6)));
        }
    }

    #[test]
    fn a_single_address_matches_itself_and_expands_to_itself(bytes in any::<[u8; 16]>()) {
        let v6 = std::net::Ipv6Addr::from(bytes);
        prop_assume!(v6.to_ipv4_mapped().is_none() && !v6.to_string().contains('.'));
        let v4 = IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]);
        for address in [IpAddr::V6(v6), v4] {
            let pattern = AddressPattern::parse(&address.to_string()).expect("an address");
            prop_assert!(pattern.matches(address));
            prop_assert_eq!(pattern.addresses().collect::<Vec<_>>(), vec![address]);
        }
    }
}
