//! Writers of single rows, for measuring: all of them on one thread, each with a connection of its
//! own and one write under way, whatever protocol the servers speak.
//!
//! They share the machine with what they measure. So the protocols here are no drivers: each sends
//! one kind of request, made once and filled with the id of the row, and reads of the answer only
//! whether it was done.

mod client;
mod etcd;
mod mysql;
mod quorate;

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

pub use client::run_client;
pub(crate) use etcd::open as open_etcd;
pub(crate) use mysql::{
    ask as ask_mysql, open as open_mysql, run as run_mysql, speak as speak_mysql,
};
use quorate::open as open_quorate;

use crate::{Lab, Node, Proxy};

/// All ids have as many digits, so that every request has one length.
pub const FIRST_ID: u64 = 1_000_000_000;
/// What is written beside the id.
pub const TEXT: &str = "some hundred bytes of text, as a row of an application would have them";
/// How long no write may succeed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a server has answered: the entry of the log that the write became, where it tells; or why it
/// has refused.
pub type Outcome = Result<Option<u64>, String>;

/// How writes are asked for and answered on one connection.
pub(crate) trait Protocol {
    /// Appends the request that writes a row with this id.
    fn ask(&mut self, id: u64, out: &mut Vec<u8>);

    /// Takes one whole answer from what has come. What the protocol has to send by itself is appended
    /// to `out`.
    fn take(&mut self, came: &mut Vec<u8>, out: &mut Vec<u8>) -> Option<Outcome>;
}

/// One connection, with at most one write under way.
pub struct Writer {
    stream: TcpStream,
    protocol: Box<dyn Protocol>,
    out: Vec<u8>,
    came: Vec<u8>,
    sent: Instant,
}

impl Writer {
    pub(crate) fn new(stream: TcpStream, protocol: Box<dyn Protocol>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, protocol, out: Vec::new(), came: Vec::new(), sent: Instant::now() })
    }

    fn send(&mut self, id: u64) -> io::Result<()> {
        self.protocol.ask(id, &mut self.out);
        self.sent = Instant::now();
        self.flush()
    }

    /// One request waits at a time: the socket always has room for it.
    fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Reads once; the answer, if it is whole now.
    fn receive(&mut self) -> io::Result<Option<Outcome>> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.came.extend_from_slice(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        let outcome = self.protocol.take(&mut self.came, &mut self.out);
        if !self.out.is_empty() {
            self.flush()?;
        }
        Ok(outcome)
    }

    /// Writes one row and waits for the answer.
    ///
    /// # Errors
    /// The server refuses, hangs up, or has not answered within `limit`: then the row may be written
    /// or not, and the connection is of no more use.
    pub fn write(&mut self, id: u64, limit: Duration) -> Result<(), String> {
        let failed = |error: io::Error| error.to_string();
        self.stream.set_nonblocking(false).map_err(failed)?;
        self.send(id).map_err(failed)?;
        loop {
            let left = limit.saturating_sub(self.sent.elapsed());
            if left.is_zero() {
                return Err(format!("no answer within {limit:?}"));
            }
            self.stream.set_read_timeout(Some(left)).map_err(failed)?;
            if let Some(outcome) = self.receive().map_err(failed)? {
                return outcome.map(|_| ());
            }
        }
    }
}

/// So many writers to the table `t (id, text)` of the database `bench` of a node of Quorate.
///
/// # Errors
/// The node does not answer.
pub fn to_node(node: &Node, count: usize) -> Result<Vec<Writer>, String> {
    let token = token(node)?;
    let streams = node.connections(count, b"")?;
    let writer = |stream| open_quorate(stream, &token).map_err(|error| error.to_string());
    streams.into_iter().map(writer).collect()
}

/// So many writers to the same table through a proxy, each with the token of this node.
///
/// # Errors
/// The proxy does not answer.
pub fn to_proxy(
    lab: &Lab,
    proxy: &Proxy,
    node: &Node,
    count: usize,
) -> Result<Vec<Writer>, String> {
    let token = token(node)?;
    let open = || (0..count).map(|_| TcpStream::connect(&proxy.address)).collect();
    let streams: io::Result<Vec<TcpStream>> = lab.inside(1, open);
    let writer = |stream| open_quorate(stream, &token).map_err(|error| error.to_string());
    streams.map_err(|error| error.to_string())?.into_iter().map(writer).collect()
}

/// The admin token of a node.
///
/// # Errors
/// It cannot be read.
pub fn token(node: &Node) -> Result<String, String> {
    let token = std::fs::read_to_string(node.data.join("admin.token"));
    let token = token.map_err(|error| format!("{}: {error}", node.name))?;
    Ok(token.trim().to_owned())
}

/// What writers have done.
#[derive(Debug, Default)]
pub struct Done {
    /// How long each write took that succeeded, in order.
    pub times: Vec<Duration>,
    /// The entries of the log that they became, where the server tells.
    pub entries: BTreeSet<u64>,
    /// How long all of it took.
    pub took: Duration,
    /// Writes that were answered with an error.
    pub refused: u64,
}

impl Done {
    /// Writes a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.times.len() as f64 / self.took.as_secs_f64()
    }

    /// So many percent of the writes took no longer; in milliseconds.
    #[must_use]
    pub fn rank_ms(&self, percent: usize) -> f64 {
        let place = self.times.len().saturating_sub(1) * percent / 100;
        self.times.get(place).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    }
}

/// Lets all writers write for so long, each the next row as soon as it has an answer.
///
/// # Panics
/// If a server hangs up, or no write succeeds for 20 s.
pub fn run(mut writers: Vec<Writer>, span: Duration, next: &mut u64) -> Done {
    let poll = epoll::create(CreateFlags::CLOEXEC).expect("a poll");
    for (at, writer) in writers.iter().enumerate() {
        let data = EventData::new_u64(at as u64);
        writer.stream.set_nonblocking(true).expect("a socket");
        epoll::add(&poll, &writer.stream, data, EventFlags::IN).expect("it is watched");
    }
    let mut id = || {
        *next += 1;
        *next - 1
    };
    let began = Instant::now();
    let mut done = Done::default();
    writers.iter_mut().for_each(|writer| writer.send(id()).expect("it is sent"));
    let mut running = writers.len();
    let mut last = began;
    let mut events = vec![Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 64];
    while running > 0 {
        let ready = epoll::wait(&poll, &mut events[..], None).expect("something comes");
        for event in &events[..ready] {
            let at = usize::try_from(event.data.u64()).expect("as it was given");
            let writer = &mut writers[at];
            match writer.receive().expect("the server does not hang up") {
                None => continue,
                Some(Ok(entry)) => {
                    done.times.push(writer.sent.elapsed());
                    done.entries.extend(entry);
                    last = Instant::now();
                }
                Some(Err(answer)) => {
                    assert!(last.elapsed() < PATIENCE, "no write succeeds: {answer}");
                    done.refused += 1;
                }
            }
            if began.elapsed() < span {
                writer.send(id()).expect("it is sent");
            } else {
                running -= 1;
            }
        }
    }
    done.took = began.elapsed();
    done.times.sort_unstable();
    done
}
