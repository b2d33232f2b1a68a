//! Partitions: what does not get from one host to another, in which direction, and by which means.

/// The most hosts of a world.
pub const HOSTS_MAX: usize = 24;

/// One partition.
#[derive(Clone, Debug)]
pub struct Cut {
    /// Its number.
    pub id: u32,
    /// From each host: those that its datagrams do not reach, a bit each.
    pub datagrams: [u32; HOSTS_MAX],
    /// From each host: those that its streams do not reach.
    pub streams: [u32; HOSTS_MAX],
}

impl Cut {
    /// Cuts what goes from the hosts of `from` to those of `to`.
    #[must_use]
    pub fn one_way(id: u32, from: u32, to: u32, datagrams: bool, streams: bool) -> Self {
        let mut cut = Self { id, datagrams: [0; HOSTS_MAX], streams: [0; HOSTS_MAX] };
        for host in (0..HOSTS_MAX).filter(|host| from & (1 << host) != 0) {
            let others = to & !(1 << host);
            cut.datagrams[host] = if datagrams { others } else { 0 };
            cut.streams[host] = if streams { others } else { 0 };
        }
        cut
    }

    /// Cuts the other direction too.
    #[must_use]
    pub fn both_ways(mut self) -> Self {
        let one_way = self.clone();
        for (from, to) in (0..HOSTS_MAX).flat_map(|a| (0..HOSTS_MAX).map(move |b| (a, b))) {
            self.datagrams[to] |= ((one_way.datagrams[from] >> to) & 1) << from;
            self.streams[to] |= ((one_way.streams[from] >> to) & 1) << from;
        }
        self
    }
}

/// All partitions at the moment.
#[derive(Clone, Debug, Default)]
pub struct Cuts {
    cuts: Vec<Cut>,
    datagrams: [u32; HOSTS_MAX],
    streams: [u32; HOSTS_MAX],
}

impl Cuts {
    /// Begins one.
    pub fn begin(&mut self, cut: Cut) {
        self.cuts.push(cut);
        self.sum();
    }

    /// Ends one.
    pub fn heal(&mut self, id: u32) {
        self.cuts.retain(|cut| cut.id != id);
        self.sum();
    }

    /// Ends all.
    pub fn heal_all(&mut self) {
        self.cuts.clear();
        self.sum();
    }

    fn sum(&mut self) {
        self.datagrams = [0; HOSTS_MAX];
        self.streams = [0; HOSTS_MAX];
        for cut in &self.cuts {
            for host in 0..HOSTS_MAX {
                self.datagrams[host] |= cut.datagrams[host];
                self.streams[host] |= cut.streams[host];
            }
        }
    }

    /// The hosts that a datagram of a host does not reach, a bit each; itself may be among them, and is reached.
    #[must_use]
    pub fn datagrams_from(&self, from: usize) -> u32 {
        self.datagrams[from] & !(1 << from)
    }

    /// Whether a datagram gets through.
    #[must_use]
    pub fn datagram_open(&self, from: usize, to: usize) -> bool {
        self.datagrams[from] & (1 << to) == 0
    }

    /// Whether a stream gets through, in this direction.
    #[must_use]
    pub fn stream_open(&self, from: usize, to: usize) -> bool {
        self.streams[from] & (1 << to) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_one_way_cut_leaves_the_way_back_and_a_healed_one_leaves_nothing() {
        let mut cuts = Cuts::default();
        cuts.begin(Cut::one_way(1, 0b0011, 0b1100, true, false));
        assert!(!cuts.datagram_open(0, 2) && cuts.datagram_open(2, 0));
        assert!(cuts.stream_open(0, 2), "datagrams only");
        cuts.begin(Cut::one_way(2, 0b0001, 0b1110, false, true).both_ways());
        assert!(!cuts.stream_open(0, 3) && !cuts.stream_open(3, 0));
        assert!(cuts.stream_open(1, 2));
        cuts.heal(1);
        assert!(cuts.datagram_open(0, 2));
        cuts.heal(2);
        assert!(cuts.stream_open(0, 3) && cuts.stream_open(3, 0));
    }
}
