//! The streams between two requests, and the batons by which their holders come back to them.
//!
//! A baton names its node, its stream and its turn in it, under a key that only this process has. It is
//! good for one request: the answer has the next one. A node is asked for its own streams only; one
//! that meets a baton of another node says whose it is, so that a driver behind a balancer finds out
//! what is wrong. (Nothing is passed on, and `base_url` is never set: the address that a client can reach
//! is not the server's to know.)

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use quorate_core::NodeId;

use super::holder::Holder;
use super::problem::Refusal;
use super::stream::Stream;

/// How many streams a node has at once. One more takes the place of the one that has been idle longest, if
/// there is one outside of a transaction.
pub(super) const STREAMS_MAX: usize = 1024;
/// How long a stream is kept for its holder: outside of a transaction, and inside of one, which holds
/// up others.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(120);
pub(super) const IDLE_MAX_INSIDE: Duration = Duration::from_secs(10);

/// Bytes of a baton: node, stream, turn, and the hash of these under the key.
const SAID: usize = 16 + 16 + 8;
const BYTES: usize = SAID + 32;

/// All streams of a node.
pub(in crate::http) struct Streams {
    key: [u8; 32],
    slots: Mutex<BTreeMap<u128, Slot>>,
}

enum Slot {
    /// Some request has it.
    Taken,
    Idle {
        stream: Box<Stream>,
        /// Which baton is good.
        turn: u64,
        since: Instant,
    },
}

/// A stream that one request has. Dropped, the stream is closed.
pub(super) struct Lease<'s> {
    streams: &'s Streams,
    id: u128,
    turn: u64,
    stream: Option<Box<Stream>>,
}

/// What a baton says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Baton {
    node: NodeId,
    stream: u128,
    turn: u64,
}

impl Streams {
    /// None yet.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub(in crate::http) fn new() -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(Self { key, slots: Mutex::default() })
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<u128, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new stream.
    pub(super) fn open(&self, stream: Stream) -> Result<Lease<'_>, Refusal> {
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            let code = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Refusal::new(code, "UNAVAILABLE", "the system gives no randomness"));
        }
        let id = u128::from_le_bytes(random);
        let mut slots = self.slots();
        let left = if slots.len() < STREAMS_MAX { None } else { Some(make_room(&mut slots)?) };
        slots.insert(id, Slot::Taken);
        drop(slots);
        drop(left);
        Ok(Lease { streams: self, id, turn: 0, stream: Some(Box::new(stream)) })
    }

    /// The stream of a baton, for `who` at `database`. `name`: how a node is called.
    pub(super) fn take(
        &self,
        baton: &str,
        who: &Holder,
        database: &str,
        name: impl Fn(NodeId) -> String,
    ) -> Result<Lease<'_>, Refusal> {
        let Baton { stream: id, turn, .. } = self.read(baton, name)?;
        let mut slots = self.slots();
        match slots.get(&id) {
            None => return Err(expired()),
            Some(Slot::Idle { stream, since, .. }) if is_over(stream, *since, Instant::now()) => {
                let left = slots.remove(&id);
                drop(slots);
                drop(left);
                return Err(expired());
            }
            Some(Slot::Idle { stream, .. })
                if !stream.who.is(who) || stream.database != database =>
            {
                return Err(invalid(
                    "this baton was given to somebody else, or at another database",
                ));
            }
            Some(Slot::Idle { turn: expected, .. }) if *expected == turn => {}
            Some(Slot::Taken | Slot::Idle { .. }) => {
                return Err(Refusal::new(
                    StatusCode::BAD_REQUEST,
                    "BATON_REUSED",
                    "this baton was used before: the answer to that request has the next one, and \
                     must be awaited",
                ));
            }
        }
        let Some(Slot::Idle { stream, .. }) = slots.insert(id, Slot::Taken) else {
            return Err(expired());
        };
        Ok(Lease { streams: self, id, turn: turn.wrapping_add(1), stream: Some(stream) })
    }

    /// Closes the streams that have been idle for too long. Whether any are left.
    pub(super) fn sweep(&self, now: Instant) -> bool {
        let over = |slot: &Slot| match slot {
            Slot::Taken => false,
            Slot::Idle { stream, since, .. } => is_over(stream, *since, now),
        };
        let mut slots = self.slots();
        let ids: Vec<u128> =
            slots.iter().filter(|(_, slot)| over(slot)).map(|(id, _)| *id).collect();
        let left: Vec<Option<Slot>> = ids.iter().map(|id| slots.remove(id)).collect();
        let any = !slots.is_empty();
        drop(slots);
        drop(left);
        any
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.slots().is_empty()
    }

    fn write(&self, baton: Baton) -> String {
        let said = baton.said();
        let hash = blake3::keyed_hash(&self.key, &said);
        BASE64.encode([said.as_slice(), hash.as_bytes()].concat())
    }

    fn read(&self, text: &str, name: impl Fn(NodeId) -> String) -> Result<Baton, Refusal> {
        // Longer ones are not even decoded.
        let bytes = Some(text).filter(|text| text.len() <= 2 * BYTES);
        let bytes = bytes.and_then(|text| BASE64.decode(text).ok()).unwrap_or_default();
        let Some((said, hash)) = bytes.split_first_chunk::<SAID>() else {
            return Err(invalid("this is no baton: give one as an answer has it"));
        };
        let baton = Baton::of(said);
        // Compared in constant time.
        let good = <[u8; 32]>::try_from(hash)
            .is_ok_and(|hash| blake3::keyed_hash(&self.key, said) == blake3::Hash::from(hash));
        if good {
            return Ok(baton);
        }
        Err(invalid(&format!(
            "the stream of this baton is not here: it says that it is of the node '{}', since the last \
             start of that. Streams live where they were opened: send their requests there, or begin \
             anew",
            name(baton.node)
        )))
    }
}

impl Baton {
    fn said(self) -> [u8; SAID] {
        let mut said = [0; SAID];
        said[..16].copy_from_slice(&self.node.0.to_le_bytes());
        said[16..32].copy_from_slice(&self.stream.to_le_bytes());
        said[32..].copy_from_slice(&self.turn.to_le_bytes());
        said
    }

    fn of(said: &[u8; SAID]) -> Self {
        let wide = |at: usize| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&said[at..at + 16]);
            u128::from_le_bytes(bytes)
        };
        let mut turn = [0; 8];
        turn.copy_from_slice(&said[32..]);
        Self { node: NodeId(wide(0)), stream: wide(16), turn: u64::from_le_bytes(turn) }
    }
}

impl Lease<'_> {
    pub(super) fn stream(&mut self) -> &mut Stream {
        // There until the lease is given back.
        self.stream.as_mut().unwrap_or_else(|| unreachable!("a lease has its stream"))
    }

    /// Keeps the stream for its holder, and says by which baton it is found.
    pub(super) fn keep(mut self, node: NodeId) -> String {
        let baton = Baton { node, stream: self.id, turn: self.turn };
        if let Some(stream) = self.stream.take() {
            let idle = Slot::Idle { stream, turn: self.turn, since: Instant::now() };
            self.streams.slots().insert(self.id, idle);
        }
        self.streams.write(baton)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.stream.is_some() {
            self.streams.slots().remove(&self.id);
        }
    }
}

fn is_over(stream: &Stream, since: Instant, now: Instant) -> bool {
    let limit = if stream.is_inside() { IDLE_MAX_INSIDE } else { IDLE_MAX };
    now.saturating_duration_since(since) >= limit
}

/// Ends the stream that has been idle longest; it is to be dropped when nothing is locked.
fn make_room(slots: &mut BTreeMap<u128, Slot>) -> Result<Option<Slot>, Refusal> {
    let idle = slots.iter().filter_map(|(id, slot)| match slot {
        Slot::Idle { stream, since, .. } if !stream.is_inside() => Some((*since, *id)),
        Slot::Idle { .. } | Slot::Taken => None,
    });
    match idle.min() {
        Some((_, id)) => Ok(slots.remove(&id)),
        None => Err(Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "BUSY",
            format!("{STREAMS_MAX} streams are in use on this node: try again, or ask another"),
        )),
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "BATON_INVALID", message)
}

fn expired() -> Refusal {
    Refusal::new(
        StatusCode::GONE,
        "STREAM_EXPIRED",
        format!(
            "the stream has been closed, or was idle for too long ({} s, in a transaction {} s). What \
             was done in a transaction that was not committed is undone",
            IDLE_MAX.as_secs(),
            IDLE_MAX_INSIDE.as_secs()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::super::super::access::Who;
    use super::*;

    const ME: NodeId = NodeId(77);

    fn streams() -> Streams {
        Streams::new().unwrap()
    }

    fn stream() -> Stream {
        Stream::new(Who::admin().into(), "demo".to_owned())
    }

    fn code(result: Result<Lease<'_>, Refusal>) -> String {
        match result {
            Ok(_) => "taken".to_owned(),
            Err(refusal) => refusal.code().to_owned(),
        }
    }

    fn take<'s>(streams: &'s Streams, baton: &str) -> Result<Lease<'s>, Refusal> {
        streams.take(baton, &Who::admin().into(), "demo", |node| format!("n{}", node.0))
    }

    #[test]
    fn a_baton_is_good_once_and_its_answer_has_the_next() {
        let streams = streams();
        let first = streams.open(stream()).unwrap().keep(ME);
        let second = take(&streams, &first).unwrap().keep(ME);
        assert_ne!(first, second);
        assert_eq!(code(take(&streams, &first)), "BATON_REUSED");
        let held = take(&streams, &second).unwrap();
        assert_eq!(code(take(&streams, &second)), "BATON_REUSED", "while somebody has it");
        drop(held);
        assert_eq!(code(take(&streams, &second)), "STREAM_EXPIRED", "closed");
    }

    #[test]
    fn a_baton_is_of_its_holder_and_its_database_alone() {
        let streams = streams();
        let baton = streams.open(stream()).unwrap().keep(ME);
        let name = |node: NodeId| node.short();
        let other = streams.take(&baton, &Who::user("eve").into(), "demo", name);
        assert_eq!(code(other), "BATON_INVALID");
        let elsewhere = streams.take(&baton, &Who::admin().into(), "other", name);
        assert_eq!(code(elsewhere), "BATON_INVALID");
        assert_eq!(code(take(&streams, &baton)), "taken");
    }

    #[test]
    fn no_bit_of_a_baton_can_be_changed_and_one_of_another_node_says_whose_it_is() {
        let streams = streams();
        let baton = streams.open(stream()).unwrap().keep(ME);
        let bytes = BASE64.decode(&baton).unwrap();
        for at in 0..bytes.len() * 8 {
            let mut forged = bytes.clone();
            forged[at / 8] ^= 1 << (at % 8);
            assert_eq!(code(take(&streams, &BASE64.encode(forged))), "BATON_INVALID", "bit {at}");
        }
        for wrong in ["", "x", "!", &"A".repeat(10_000), &baton[1..], &format!("{baton}A")] {
            assert_eq!(code(take(&streams, wrong)), "BATON_INVALID", "{wrong}");
        }
        let elsewhere = Streams::new().unwrap();
        let refusal = take(&elsewhere, &baton).err().unwrap();
        assert!(refusal.message().contains("of the node 'n77'"), "{refusal:?}");
    }

    #[test]
    fn streams_that_are_idle_for_too_long_are_closed() {
        let streams = streams();
        let baton = streams.open(stream()).unwrap().keep(ME);
        let now = Instant::now();
        assert!(streams.sweep(now + IDLE_MAX / 2));
        assert_eq!(code(take(&streams, &baton)), "taken");
        let baton = streams.open(stream()).unwrap().keep(ME);
        assert!(!streams.sweep(Instant::now() + IDLE_MAX));
        assert_eq!(code(take(&streams, &baton)), "STREAM_EXPIRED");
        let mut inside = streams.open(stream()).unwrap();
        inside.stream().go_inside();
        let baton = inside.keep(ME);
        assert!(!streams.sweep(Instant::now() + IDLE_MAX_INSIDE));
        assert_eq!(code(take(&streams, &baton)), "STREAM_EXPIRED");
    }

    #[test]
    fn a_node_has_so_many_streams_and_makes_room_only_outside_of_transactions() {
        let streams = streams();
        let first = streams.open(stream()).unwrap().keep(ME);
        let others: Vec<String> =
            (1..STREAMS_MAX).map(|_| streams.open(stream()).unwrap().keep(ME)).collect();
        assert_eq!(streams.slots().len(), STREAMS_MAX);
        drop(streams.open(stream()).unwrap());
        assert_eq!(code(take(&streams, &first)), "STREAM_EXPIRED", "idle longest");
        for baton in others {
            let mut lease = take(&streams, &baton).unwrap();
            lease.stream().go_inside();
            lease.keep(ME);
        }
        let mut last = streams.open(stream()).unwrap();
        last.stream().go_inside();
        last.keep(ME);
        assert_eq!(streams.slots().len(), STREAMS_MAX);
        assert_eq!(code(streams.open(stream())), "BUSY");
    }
}
