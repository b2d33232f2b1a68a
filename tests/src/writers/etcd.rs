//! Puts over gRPC, as any client of etcd sends them: the id is the key, the text the value.
//!
//! Of HTTP/2 (RFC 9113) only what one unary call after the other needs. A call that failed is
//! answered with its trailers alone, so that none of the peer's header compression has to be read:
//! a message came, or it did not.

use std::io;
use std::net::TcpStream;

use super::{FIRST_ID, Outcome, Protocol, TEXT, Writer};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

struct Grpc {
    stream: u32,
    /// What the next request's headers are; they differ only in the first one.
    headers: Vec<u8>,
    /// The message with its prefix, and where in it the id is.
    message: Vec<u8>,
    id_at: usize,
    /// How many bytes the peer still takes on this connection.
    window: i64,
    answered: bool,
}

/// A writer over this connection.
pub(crate) fn open(stream: TcpStream) -> io::Result<Writer> {
    let mut writer = Writer::new(stream, Box::new(Grpc::new()))?;
    writer.out.extend_from_slice(PREFACE);
    frame(SETTINGS, 0, 0, &[], &mut writer.out);
    // No answer is ever to wait for room here.
    frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes(), &mut writer.out);
    writer.flush()?;
    Ok(writer)
}

/// `etcdserverpb.PutRequest`: the key is field 1, the value field 2.
fn put(key: &str, value: &str) -> (Vec<u8>, usize) {
    let mut fields = Vec::new();
    for (number, text) in [(1_u8, key), (2, value)] {
        fields.extend([number << 3 | 2, short(text)]);
        fields.extend_from_slice(text.as_bytes());
    }
    // Not compressed, and the length.
    let length = u32::try_from(fields.len()).expect("it is short");
    let message = [&[0], &length.to_be_bytes()[..], &fields].concat();
    (message, 5 + 2)
}

/// The length of a text, where one byte has to hold it in every coding that is used here.
fn short(text: &str) -> u8 {
    u8::try_from(text.len()).ok().filter(|length| *length < 127).expect("it is short")
}

/// In HPACK (RFC 7541): the fields that are not in the static table enter the dynamic one.
fn first_headers() -> Vec<u8> {
    // `:method: POST` and `:scheme: http`.
    let mut block = vec![0x83, 0x86];
    let named = [(4, "/etcdserverpb.KV/Put"), (1, "localhost"), (31, "application/grpc")];
    for (name, value) in named {
        block.extend([0x40 | name, short(value)]);
        block.extend_from_slice(value.as_bytes());
    }
    block.push(0x40);
    for text in ["te", "trailers"] {
        block.push(short(text));
        block.extend_from_slice(text.as_bytes());
    }
    block
}

/// All of them by their places: the last that entered the dynamic table is number 62.
fn later_headers() -> Vec<u8> {
    vec![0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).expect("it is short");
    out.extend_from_slice(&length.to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

impl Protocol for Grpc {
    fn ask(&mut self, id: u64, out: &mut Vec<u8>) {
        let id = id.to_string();
        self.message[self.id_at..self.id_at + id.len()].copy_from_slice(id.as_bytes());
        self.answered = false;
        frame(HEADERS, END_HEADERS, self.stream, &self.headers, out);
        self.headers = later_headers();
        frame(DATA, END_STREAM, self.stream, &self.message, out);
        // It gives room back long before: a quarter of the window is the most that it keeps.
        self.window -= self.message.len() as i64;
        assert!(self.window >= 0, "the server gives no room");
    }

    fn take(&mut self, came: &mut Vec<u8>, out: &mut Vec<u8>) -> Option<Outcome> {
        let mut at = 0;
        let mut outcome = None;
        while outcome.is_none() && came.len() - at >= FRAME_HEAD_BYTES {
            let head = &came[at..at + FRAME_HEAD_BYTES];
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let begin = at + FRAME_HEAD_BYTES;
            let Some(payload) = came.get(begin..begin + length) else { break };
            outcome = self.frame_came(kind, flags, stream, payload, out);
            at = begin + length;
        }
        came.drain(..at);
        outcome
    }
}

impl Grpc {
    fn new() -> Self {
        let (message, id_at) = put(&FIRST_ID.to_string(), TEXT);
        let headers = first_headers();
        Self { stream: 1, headers, message, id_at, window: 65_535, answered: false }
    }

    fn frame_came(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Option<Outcome> {
        let said = || String::from_utf8_lossy(payload).into_owned();
        match kind {
            SETTINGS | PING if flags & ACK == 0 => {
                let echo = if kind == PING { payload } else { &[] };
                frame(kind, ACK, 0, echo, out);
            }
            WINDOW_UPDATE if stream == 0 => {
                let more = payload.try_into().map_or(0, u32::from_be_bytes);
                self.window += i64::from(more & 0x7fff_ffff);
            }
            GOAWAY => return Some(Err(format!("it goes away: {}", said()))),
            DATA | HEADERS | RST_STREAM if stream == self.stream => {
                self.answered |= kind == DATA && payload.len() > 5;
                if kind == RST_STREAM || flags & END_STREAM != 0 {
                    self.stream += 2;
                    let done = self.answered && kind != RST_STREAM;
                    return Some(if done { Ok(None) } else { Err(said()) });
                }
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of frames, after one request was sent.
    fn took(came: &[u8]) -> (Option<Outcome>, Vec<u8>) {
        let (mut grpc, mut out) = (Grpc::new(), Vec::new());
        grpc.ask(FIRST_ID, &mut Vec::new());
        let outcome = grpc.take(&mut came.to_vec(), &mut out);
        (outcome, out)
    }

    fn frames(all: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        all.iter().for_each(|(kind, flags, on, said)| frame(*kind, *flags, *on, said, &mut bytes));
        bytes
    }

    #[test]
    fn an_answer_counts_once_its_trailers_are_whole() {
        let ends = END_HEADERS | END_STREAM;
        let answer = [
            (HEADERS, END_HEADERS, 1, &b"\x88"[..]),
            (DATA, 0, 1, b"\0\0\0\0\x02\x0a\x00"),
            (HEADERS, ends, 1, b"grpc-status 0"),
        ];
        let bytes = frames(&answer);
        for length in 0..bytes.len() {
            assert_eq!(took(&bytes[..length]).0, None);
        }
        assert_eq!(took(&bytes).0, Some(Ok(None)));
    }

    #[test]
    fn trailers_alone_are_no_write() {
        let ends = END_HEADERS | END_STREAM;
        let (outcome, _) = took(&frames(&[(HEADERS, ends, 1, b"etcdserver: no leader")]));
        assert_eq!(outcome, Some(Err("etcdserver: no leader".to_owned())));
    }

    #[test]
    fn what_the_server_asks_for_itself_is_answered_and_is_no_answer() {
        let asked = [(SETTINGS, 0, 0, &[0; 6][..]), (PING, 0, 0, b"12345678")];
        let answered = [(SETTINGS, ACK, 0, &[][..]), (PING, ACK, 0, b"12345678")];
        assert_eq!(took(&frames(&asked)), (None, frames(&answered)));
        assert_eq!(took(&frames(&answered)), (None, vec![]), "and an answer is not answered");
    }
}
