//! Whose turn it is: a fair, stable order of servers for each of many logs.
//!
//! Logs take the servers in turns, as `log mod n` would have it, but a server more moves only what
//! the new one takes over: of every n logs of each other server one. So the first in the order are
//! evenly spread (within 2 for up to 5 servers and any run of consecutive logs), and whoever is
//! skipped is replaced evenly by the others, since within its share the turns go on.

/// The order of `count` slots for the log with that number: a permutation of `0..count`.
pub(super) fn order(number: u64, count: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..count).collect();
    let mut order = Vec::with_capacity(count);
    let mut rank = number;
    while !left.is_empty() {
        let (slot, within) = turn(rank, left.len());
        order.push(left.remove(slot));
        rank = within;
    }
    order
}

/// The slot whose turn it is at `number`, and how many turns that slot had before.
fn turn(number: u64, count: usize) -> (usize, u64) {
    let (mut slot, mut rank) = (0, number);
    for (newest, size) in (1..count).zip(2u64..) {
        // The newest slot takes one of every `size` turns of each slot before it; which one differs
        // from slot to slot, so that it does not take neighbouring ones.
        let taken = (slot as u64 + 1) % size;
        let (round, place) = (rank / size, rank % size);
        if place == taken {
            rank = round * (size - 1) + slot as u64;
            slot = newest;
        } else {
            rank = round * (size - 1) + place - u64::from(place > taken);
        }
    }
    (slot, rank)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many logs of the first `logs` each slot is first for, when some are skipped.
    fn shares(logs: u64, count: usize, skipped: &[usize]) -> Vec<usize> {
        let mut shares = vec![0; count];
        for log in 0..logs {
            let first = order(log, count).into_iter().find(|slot| !skipped.contains(slot));
            shares[first.unwrap()] += 1;
        }
        shares
    }

    fn spread(shares: &[usize], skipped: &[usize]) -> usize {
        let of =
            || shares.iter().enumerate().filter(|(s, _)| !skipped.contains(s)).map(|(_, n)| *n);
        of().max().unwrap() - of().min().unwrap()
    }

    #[test]
    fn every_order_is_a_permutation() {
        for count in 0..=9 {
            for log in 0..500 {
                let mut all = order(log, count);
                all.sort_unstable();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
        assert_eq!(order(u64::MAX, 64).len(), 64);
    }

    #[test]
    fn turns_are_even_over_any_first_logs_and_so_are_those_of_one_that_is_skipped() {
        for (count, apart, apart_skipped) in [(2, 1, 0), (3, 1, 2), (4, 2, 3), (5, 2, 3), (7, 3, 4)]
        {
            for logs in 1..400 {
                assert!(spread(&shares(logs, count, &[]), &[]) <= apart, "{count} {logs}");
                let skipped = [0];
                let shares = shares(logs, count, &skipped);
                assert!(spread(&shares, &skipped) <= apart_skipped, "{count} {logs}");
            }
        }
    }

    #[test]
    fn a_slot_more_takes_turns_from_the_others_and_moves_nothing_between_them() {
        for count in 1..12 {
            let mut moved = 0;
            for log in 0..1000 {
                let (before, after) = (order(log, count)[0], order(log, count + 1)[0]);
                assert!(after == before || after == count, "log {log} of {count}");
                moved += usize::from(after == count);
            }
            assert!(moved.abs_diff(1000 / (count + 1)) <= count, "{count}: {moved}");
        }
    }
}
