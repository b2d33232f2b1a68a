//! Ports that are free, for a while at least.

use std::net::{Ipv4Addr, TcpListener};

use crate::exit::Failure;

/// Below those that Linux gives to connections that go out (32768 and up): while a node is down, nothing
/// else takes its port by chance.
const FIRST: u16 = 20_000;
const SPAN: u16 = 10_000;

/// So many ports of the loopback address on which nobody listens.
///
/// # Errors
/// There are none, or the operating system gives no randomness.
pub(super) fn free(count: usize) -> Result<Vec<u16>, Failure> {
    let mut random = [0; 2];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::Refused(format!("no randomness: {error}")))?;
    let begin = u16::from_le_bytes(random) % SPAN;
    let all = (0..SPAN).map(|step| FIRST + (begin + step) % SPAN);
    let free = all.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let ports: Vec<u16> = free.take(count).collect();
    if ports.len() == count {
        return Ok(ports);
    }
    Err(Failure::Refused(format!(
        "no {count} ports from {FIRST} on are free on 127.0.0.1: something takes them all, or the \
         loopback interface is down"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_all_different() {
        let mut ports = free(9).unwrap();
        let listeners: Vec<_> =
            ports.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port))).collect();
        // Another test may be quicker; most are free still.
        assert!(listeners.iter().filter(|listener| listener.is_ok()).count() > 4);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 9);
        assert!(ports.iter().all(|port| (FIRST..FIRST + SPAN).contains(port)));
    }
}
