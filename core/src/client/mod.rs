//! The client's end: a pure machine that finds servers, asks them, and goes on with another when one
//! is gone, without an error and without doing anything twice.
//!
//! It is driven like a node: [`Client::handle`], [`Client::poll_output`], [`Client::next_timeout`]. What
//! must hold:
//!
//! * Each request is answered once, by its deadline.
//! * A write is sent with the same session and sequence for as long as its outcome is open, to whatever
//!   server; it is told as not done only if it never was sent, or a server has said what became of it.
//!   What was sent, and of which no server could say anything, is [`ClientError::OutcomeUnknown`].
//! * A session that a server does not know any more is replaced; a request that may have run in it is
//!   not sent in another.
//! * Whoever reads by the usual consistency sees what this client wrote and read before, whichever
//!   server it asks ([`Reading::Session`]).
//! * Nothing is kept without a bound: requests, connections, unanswered sequences.
//!
//! The server's end of a connection is here too ([`Service`]), and what it tells ([`Layout::of`]).
//!
//! Files: `api` what goes in and out · `layout` what is known of the cluster · `servers` connections and
//! whom to ask · `requests` each on its way · `session` sequences and what is acknowledged ·
//! `transactions` those that run step by step · `serve` the server's end.

mod api;
mod layout;
mod requests;
mod serve;
mod servers;
mod session;
#[cfg(test)]
mod tests;
mod transactions;

use std::collections::VecDeque;
use std::time::Duration;

pub use api::{
    Answer, ClientConfig, ClientError, ConnectionId, Done, Event, Input, Kind, Output, Reading,
    Request, Strategy, TicketId, ToClient, ToServer,
};
pub use layout::{Layout, LayoutServer, LayoutShard};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
pub use serve::{FLIGHTS_MAX, NumberInUse, Rights, Served, Service, TIMEOUT_MAX, greeting};

use crate::copies::CopyReport;
use crate::faults::{self, Fault};
use crate::ids::{LogId, NodeId};
use crate::time::Time;

/// How much a client keeps: all of it has bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Requests that are not answered; at most [`ClientConfig::requests_max`].
    pub requests: usize,
    /// What was sent and is not answered.
    pub flights: usize,
    /// Those of the requests that are to be sent as soon as there is a server.
    pub ready: usize,
    /// Connections, those that are on their way included.
    pub connections: usize,
    /// Addresses of which it remembers something.
    pub addresses: usize,
}

/// A client of a cluster. See the module's documentation.
#[derive(Debug)]
pub struct Client {
    config: ClientConfig,
    now: Time,
    rng: ChaCha8Rng,
    layout: Layout,
    /// The copies that are not whole, as was told last.
    copies: Vec<(LogId, NodeId, CopyReport)>,
    servers: servers::Servers,
    requests: requests::Requests,
    /// Why no server wants this client.
    refused: Option<String>,
    out: VecDeque<Output>,
}

impl Client {
    /// A client that begins to connect at once. All that it draws comes from `seed`.
    #[must_use]
    pub fn new(config: ClientConfig, seed: [u8; 32], now: Time) -> Self {
        let mut client = Self {
            config,
            now,
            rng: ChaCha8Rng::from_seed(seed),
            layout: Layout::default(),
            copies: Vec::new(),
            servers: servers::Servers::default(),
            requests: requests::Requests::default(),
            refused: None,
            out: VecDeque::new(),
        };
        client.settle();
        client
    }

    /// Something has happened. Drain [`Client::poll_output`] before the next.
    pub fn handle(&mut self, now: Time, input: Input) {
        self.now = now;
        match input {
            Input::Timer => {}
            Input::Request(ticket, request) => self.on_request(ticket, request),
            Input::Forget(ticket) => _ = self.end(ticket),
            Input::Received(id, message) => self.on_received(id, message),
            Input::Closed(id) => self.lost(id),
        }
        self.settle();
    }

    /// What it wants next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// When [`Input::Timer`] is due.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let due = [self.connections_due(), self.requests_due()];
        let due = due.into_iter().flatten().min()?;
        // What could not be done now is looked at again soon.
        Some(due.max(self.now + Duration::from_millis(1)))
    }

    /// What is known of the cluster.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The copies that are not whole, by log and server, as the server in use knows, or the last one that
    /// was.
    #[must_use]
    pub fn copies(&self) -> &[(LogId, NodeId, CopyReport)] {
        &self.copies
    }

    /// How much it keeps at the moment.
    #[must_use]
    pub fn held(&self) -> Held {
        self.count_held()
    }

    fn on_received(&mut self, id: ConnectionId, message: ToClient) {
        let taken_anyhow = faults::active(Fault::ReplyOfEarlierConnection)
            && matches!(message, ToClient::Reply { .. });
        if !self.heard(id) && !taken_anyhow {
            return;
        }
        match message {
            ToClient::Welcome { node } => self.welcomed(id, node),
            ToClient::Refused { reason, final_ } => self.refused_by(id, reason, final_),
            ToClient::Layout(layout) => {
                if self.layout.merge(layout) {
                    self.out.push_back(Output::Event(Event::Layout(self.layout.clone())));
                }
            }
            ToClient::Copies(copies) => self.told_of_copies(id, copies),
            ToClient::Reply { id: number, reply, of } => self.on_reply(id, number, reply, of),
            ToClient::Denied { id: number, reason } => self.on_denied(id, number, &reason),
            ToClient::Pong(_) => {}
        }
    }

    fn settle(&mut self) {
        self.tend_connections();
        self.drive_requests();
    }

    fn below(&mut self, n: usize) -> usize {
        let n = u64::try_from(n).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.rng.next_u64() % n).unwrap_or(0)
    }
}

/// How long to wait after so many failures in a row: the first wait doubled with each, and drawn from
/// its second half, so that not all come back together.
fn backoff((first, most): (Duration, Duration), failures: u32, rng: &mut ChaCha8Rng) -> Duration {
    let doubled = first.saturating_mul(1 << failures.saturating_sub(1).min(20));
    let whole = u64::try_from(doubled.min(most).as_micros()).unwrap_or(u64::MAX).max(2);
    Duration::from_micros(whole / 2 + rng.next_u64() % (whole / 2 + 1))
}
