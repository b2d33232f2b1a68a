//! What this node has measured between itself and the other servers.

use std::fmt::Write;

use quorate_core::NodeId;
use quorate_core::configuration::Configuration;
use quorate_core::measures::{Measures, Traffic};
use quorate_core::raft::Latency;
use quorate_core::wire::PacketKind;

/// Samples of one name: the labels of each, and its value.
type Samples = Vec<(String, f64)>;

pub(super) fn servers(configuration: Option<&Configuration>, measures: &Measures) -> String {
    let name = |node: NodeId| match configuration {
        Some(configuration) => escaped(&configuration.name_of(node)),
        None => node.short(),
    };
    let mut text = String::new();
    owned(&mut text, measures);
    replication(&mut text, measures, &name);
    packets(&mut text, measures, &name);
    links(&mut text, measures, &name);
    text
}

/// Nothing, where there is no sample: what was not measured is not zero.
fn family(text: &mut String, name: &str, kind: &str, help: &str, samples: Samples) {
    if samples.is_empty() {
        return;
    }
    // Writing to a String does not fail.
    let _ = write!(text, "# HELP quorate_{name} {help}\n# TYPE quorate_{name} {kind}\n");
    for (labels, value) in samples {
        let _ = writeln!(text, "quorate_{name}{labels} {value}");
    }
}

fn owned(text: &mut String, measures: &Measures) {
    let bare = |count| vec![(String::new(), as_float(u64::try_from(count).unwrap_or(u64::MAX)))];
    let owned = "Shards that this node owns.";
    family(text, "shards_owned", "gauge", owned, bare(measures.owned.len()));
    let refused = measures.owned.iter().filter(|owned| owned.refuses.is_some()).count();
    let help = "Shards that this node owns and that refuse writes, or inserts, at the moment.";
    family(text, "shards_refusing_writes", "gauge", help, bare(refused));
}

fn replication(text: &mut String, measures: &Measures, name: &dyn Fn(NodeId) -> String) {
    let of_each = |value: fn(&Latency) -> Option<f64>| {
        let all = measures.followers.iter();
        all.filter_map(|(node, of)| Some((label(&name(*node)), value(of)?))).collect::<Samples>()
    };
    for (name, help, samples) in [
        (
            "replication_latency_average_seconds",
            "From sending entries until the peer holds them durably, on average, last minute.",
            of_each(|of| of.average_us().map(seconds)),
        ),
        (
            "replication_latency_worst_seconds",
            "From sending entries until the peer holds them durably, at worst, last minute.",
            of_each(|of| of.average_us().map(|_| seconds(of.worst_us))),
        ),
        (
            "replication_waiting_seconds",
            "For how long the oldest entry on its way to the peer has not been acknowledged.",
            of_each(|of| Some(seconds(of.waiting_us))),
        ),
        (
            "replication_behind_entries",
            "Entries of this node's shards that the peer has not acknowledged.",
            of_each(|of| Some(as_float(of.behind))),
        ),
    ] {
        family(text, name, "gauge", help, samples);
    }
}

fn packets(text: &mut String, measures: &Measures, name: &dyn Fn(NodeId) -> String) {
    for (direction, is_sent) in [("sent", true), ("received", false)] {
        for (unit, in_bytes) in [("messages", false), ("bytes", true)] {
            let mut samples = Samples::new();
            for (node, traffic) in &measures.traffic {
                let tallies = if is_sent { &traffic.sent } else { &traffic.received };
                let kinds = PacketKind::ALL.into_iter().zip(tallies);
                for (kind, tally) in kinds.filter(|(_, tally)| tally.messages > 0) {
                    let (peer, kind) = (name(*node), kind.name());
                    let labels = format!("{{peer=\"{peer}\",kind=\"{kind}\"}}");
                    let value = if in_bytes { tally.bytes } else { tally.messages };
                    samples.push((labels, as_float(value)));
                }
            }
            let metric = format!("peer_{direction}_{unit}_total");
            let help = format!("Packets {direction} over links between nodes, in {unit}.");
            family(text, &metric, "counter", &help, samples);
        }
    }
}

fn links(text: &mut String, measures: &Measures, name: &dyn Fn(NodeId) -> String) {
    let of_each = |value: fn(&Traffic) -> u64| {
        let all = measures.traffic.iter();
        all.map(|(node, of)| (label(&name(*node)), as_float(value(of)))).collect::<Samples>()
    };
    let queued = "Packets that wait to be sent to the peer";
    let messages = of_each(|of| of.queued.messages);
    family(text, "peer_queued_messages", "gauge", &format!("{queued}."), messages);
    let bytes = of_each(|of| of.queued.bytes);
    family(text, "peer_queued_bytes", "gauge", &format!("{queued}, in bytes."), bytes);
    let dropped = "Packets that were to be sent to the peer and went with their link.";
    let messages = of_each(|of| of.dropped.messages);
    family(text, "peer_dropped_messages_total", "counter", dropped, messages);
    let help = "Links to the peer that were opened, by either side.";
    family(text, "peer_links_total", "counter", help, of_each(|of| of.links));
}

fn label(peer: &str) -> String {
    format!("{{peer=\"{peer}\"}}")
}

fn seconds(us: u64) -> f64 {
    as_float(us) / 1e6
}

/// As Prometheus keeps all numbers; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "the format knows no other numbers")]
fn as_float(number: u64) -> f64 {
    number as f64
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use quorate_core::measures::Tally;

    use super::*;

    #[test]
    fn figures_are_in_base_units_and_what_was_not_measured_is_left_out() {
        let latency = Latency {
            acknowledged: 4,
            total_us: 6_000,
            worst_us: 2_500_000,
            behind: 3,
            ..Latency::default()
        };
        let mut traffic = Traffic { links: 2, ..Traffic::default() };
        traffic.sent[PacketKind::Entries as usize] = Tally { messages: 7, bytes: 900 };
        let (one, two) = (NodeId(1 << 120), NodeId(2 << 120));
        let measures = Measures {
            owned: Vec::new(),
            followers: vec![(one, latency), (two, Latency::default())],
            traffic: vec![(one, traffic)],
        };
        let text = servers(None, &measures);
        for line in [
            "# TYPE quorate_replication_latency_average_seconds gauge",
            "quorate_replication_latency_average_seconds{peer=\"01000000\"} 0.0015",
            "quorate_replication_latency_worst_seconds{peer=\"01000000\"} 2.5",
            "quorate_replication_behind_entries{peer=\"02000000\"} 0",
            "# TYPE quorate_peer_sent_messages_total counter",
            "quorate_peer_sent_messages_total{peer=\"01000000\",kind=\"entries\"} 7",
            "quorate_peer_sent_bytes_total{peer=\"01000000\",kind=\"entries\"} 900",
            "quorate_peer_links_total{peer=\"01000000\"} 2",
            "quorate_shards_owned 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
        let absent = "quorate_replication_latency_average_seconds{peer=\"02000000\"}";
        assert!(!text.contains(absent), "nothing was measured, which is not zero:\n{text}");
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
