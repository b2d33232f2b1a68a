//! Patterns of addresses.

use std::net::IpAddr;

use proptest::prelude::*;

use crate::net::{AddressFilter, AddressPattern};

fn matches(pattern: &str, ip: &str) -> bool {
    pattern.parse::<AddressPattern>().unwrap().matches(ip.parse().unwrap())
}

#[test]
fn a_pattern_matches_what_its_stars_and_ranges_say() {
    let table = [
        ("10.3.16.*", "10.3.16.255", true),
        ("10.3.16.*", "10.3.17.1", false),
        ("10.3.10.4-18", "10.3.10.4", true),
        ("10.3.10.4-18", "10.3.10.18", true),
        ("10.3.10.4-18", "10.3.10.19", false),
        ("10.*.1-2.3", "10.200.2.3", true),
        (" 127.0.0.1 ", "127.0.0.1", true),
        ("127.0.0.1", "::ffff:127.0.0.1", true),
        ("127.0.0.1", "::1", false),
        ("fe80::1", "fe80::1", true),
        ("fe80:0:0:0:0:0:0:10-20", "fe80::1f", true),
        ("fe80:0:0:0:0:0:0:10-20", "fe80::21", false),
        ("fe80:0:0:0:*:*:*:*", "fe80::a:b:c:d", true),
    ];
    for (pattern, ip, expected) in table {
        assert_eq!(matches(pattern, ip), expected, "{pattern} {ip}");
    }
}

#[test]
fn what_is_no_pattern_is_refused_with_what_was_written_and_what_may_be() {
    for text in
        ["", "10.3.16", "10.3.16.1.2", "10.3.16.256", "10.3.9-4.1", "a.b.c.d", "1.2.3.-", "::*"]
    {
        let error = text.parse::<AddressPattern>().unwrap_err();
        assert_eq!(error.text, text);
        assert!(error.to_string().contains("10.3.10.4-18"), "{error}");
    }
}

#[test]
fn an_empty_filter_lets_everything_through_and_any_pattern_of_another_is_enough() {
    let ip: IpAddr = "192.0.2.1".parse().unwrap();
    assert!(AddressFilter::default().allows(ip));
    let filter = |patterns: &[&str]| {
        AddressFilter::new(patterns.iter().map(|p| p.parse().unwrap()).collect())
    };
    assert!(filter(&["10.*.*.*", "192.0.2.*"]).allows(ip));
    assert!(!filter(&["10.*.*.*"]).allows(ip));
}

proptest! {
    #[test]
    fn what_a_pattern_prints_is_the_same_pattern(
        parts in prop::collection::vec((any::<u8>(), any::<u8>()), 4),
        wide in prop::collection::vec((any::<u16>(), any::<u16>()), 8),
    ) {
        let v4 = parts.iter().map(|(a, b)| format!("{}-{}", a.min(b), a.max(b)));
        let v6 = wide.iter().map(|(a, b)| format!("{:x}-{:x}", a.min(b), a.max(b)));
        for text in [v4.collect::<Vec<_>>().join("."), v6.collect::<Vec<_>>().join(":")] {
            let pattern: AddressPattern = text.parse().unwrap();
            prop_assert_eq!(pattern.to_string().parse::<AddressPattern>().unwrap(), pattern);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,60}") {
        let _ = text.parse::<AddressPattern>();
    }
}
