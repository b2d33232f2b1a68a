//! Ports to listen on and to dial from.

/// `<port>`: where a node listens for others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Port {
    /// The first port that is tried.
    pub first: u16,
    /// Whether the next one is tried when one is taken.
    pub auto_increment: bool,
    /// How many are tried; does not count without auto-increment.
    pub count: u16,
}

impl Default for Port {
    /// 2434, the next ones when it is taken, a hundred in all.
    fn default() -> Self {
        Self { first: 2434, auto_increment: true, count: 100 }
    }
}

impl Port {
    /// The ports to try, in order: at least one, none above 65535.
    pub fn ports(self) -> impl Iterator<Item = u16> + use<> {
        let count = if self.auto_increment { self.count.max(1) } else { 1 };
        self.first..=self.first.saturating_add(count - 1)
    }
}

/// What `<ports>` of `<outbound-ports>` may hold, for messages.
pub(crate) const PORTS_SYNTAX: &str = "ports and ranges of ports from 1 to 65535, separated by commas, such as 33000-35000,37000; \
     * or 0 for any port";

/// Reads `33000-35000`, `37000,37001` and mixtures. The ports are sorted and joined into as few
/// ranges as possible; none means any port, as do `*` and `0`, Hazelcast's words for it.
#[must_use]
pub fn parse_outbound_ports(text: &str) -> Option<Vec<(u16, u16)>> {
    let mut ranges = Vec::new();
    for piece in text.split([',', ';', ' ', '\t', '\n', '\r']).filter(|piece| !piece.is_empty()) {
        if piece == "*" || piece == "0" {
            return Some(Vec::new());
        }
        let number = |text: &str| {
            let digits = text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>().ok().filter(|n| digits && *n > 0)
        };
        let (low, high) = match piece.split_once('-') {
            Some((low, high)) => (number(low)?, number(high)?),
            None => (number(piece)?, number(piece)?),
        };
        if low > high {
            return None;
        }
        ranges.push((low, high));
    }
    Some(joined(ranges))
}

/// Sorts ranges and joins those that touch.
pub(crate) fn joined(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut out: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match out.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => out.push((low, high)),
        }
    }
    out
}
