//! Inserts over the MySQL protocol, as any client of MariaDB sends them: a prepared statement on a
//! connection without a password, each execution a transaction.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use super::{FIRST_ID, Outcome, Protocol, TEXT, Writer};

const QUERY: u8 = 0x03;
const PREPARE: u8 = 0x16;
const EXECUTE: u8 = 0x17;

const OK: u8 = 0x00;
const ERROR: u8 = 0xff;

/// `CLIENT_CONNECT_WITH_DB` is asked for beside these where there is one: the protocol of 4.1, its
/// authentication, and the authentication's name.
const CAPABILITIES: u32 = 0x200 | 0x8000 | 0x8_0000;
const CONNECT_WITH_DB: u32 = 0x8;
const UTF8: u8 = 45;

struct Execution {
    request: Vec<u8>,
    id_at: usize,
}

/// A connection of root's, and in a database if one is named.
pub(crate) fn speak(mut stream: TcpStream, database: Option<&str>) -> io::Result<TcpStream> {
    let greeting = packet(&mut stream)?;
    refused(&greeting)?;
    let flags = CAPABILITIES | database.map_or(0, |_| CONNECT_WITH_DB);
    let mut login = flags.to_le_bytes().to_vec();
    login.extend((1_u32 << 24).to_le_bytes());
    login.push(UTF8);
    login.extend([0; 23]);
    // No password is an empty answer.
    login.extend(b"root\0\0");
    login.extend(database.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()));
    login.extend(b"mysql_native_password\0");
    stream.write_all(&framed(1, &login))?;
    refused(&packet(&mut stream)?)?;
    Ok(stream)
}

/// Sends a statement and reads the first packet of its answer, the only one if it has no rows.
pub(crate) fn run(stream: &mut TcpStream, sql: &str) -> io::Result<()> {
    stream.write_all(&framed(0, &[&[QUERY], sql.as_bytes()].concat()))?;
    refused(&packet(stream)?)
}

/// The one value that a query answers with, as a short text.
pub(crate) fn ask(stream: &mut TcpStream, sql: &str) -> io::Result<String> {
    run(stream, sql)?;
    // After the number of columns: what the column is, an end, the row, an end.
    let mut answer = || packet(stream);
    let (_, _, row, _) = (answer()?, answer()?, answer()?, answer()?);
    Ok(String::from_utf8_lossy(row.get(1..).unwrap_or_default()).into_owned())
}

/// A writer over a connection that is in the database: `t` has the columns `id` and `text`.
pub(crate) fn open(mut stream: TcpStream) -> io::Result<Writer> {
    let sql = b"INSERT INTO t VALUES (?, ?)";
    stream.write_all(&framed(0, &[&[PREPARE], &sql[..]].concat()))?;
    let prepared = packet(&mut stream)?;
    refused(&prepared)?;
    let statement = &prepared[1..5];
    // What it says of the two parameters, and an end.
    for _ in 0..3 {
        packet(&mut stream)?;
    }
    let mut body = [&[EXECUTE], statement].concat();
    // No cursor, once, no NULL, and the types: a long integer and a text.
    body.extend([0, 1, 0, 0, 0, 0, 1, 0x08, 0, 0xfd, 0]);
    let id_at = 4 + body.len();
    body.extend(FIRST_ID.to_le_bytes());
    body.push(u8::try_from(TEXT.len()).ok().filter(|length| *length < 251).expect("short"));
    body.extend(TEXT.as_bytes());
    Writer::new(stream, Box::new(Execution { request: framed(0, &body), id_at }))
}

/// A packet with its head: length and number.
fn framed(number: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("it is short").to_le_bytes();
    [&length[..3], &[number], body].concat()
}

/// Reads one packet.
fn packet(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = [0; 4];
    stream.read_exact(&mut head)?;
    let mut body = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn refused(packet: &[u8]) -> io::Result<()> {
    match packet.first() {
        Some(&ERROR) => Err(io::Error::other(String::from_utf8_lossy(&packet[1..]).into_owned())),
        _ => Ok(()),
    }
}

impl Protocol for Execution {
    fn ask(&mut self, id: u64, out: &mut Vec<u8>) {
        self.request[self.id_at..self.id_at + 8].copy_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&self.request);
    }

    fn take(&mut self, came: &mut Vec<u8>, _: &mut Vec<u8>) -> Option<Outcome> {
        let head = came.get(..4)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize;
        let body = came.get(4..4 + length)?;
        let outcome = match body.first() {
            Some(&OK) => Ok(None),
            _ => Err(String::from_utf8_lossy(body).into_owned()),
        };
        came.drain(..4 + length);
        Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(mut came: Vec<u8>) -> (Option<Outcome>, usize) {
        let mut execution = Execution { request: Vec::new(), id_at: 0 };
        (execution.take(&mut came, &mut Vec::new()), came.len())
    }

    #[test]
    fn an_answer_counts_once_it_is_whole() {
        let whole = framed(1, &[OK, 1, 0, 2, 0, 0, 0]);
        for length in 0..whole.len() {
            assert_eq!(took(whole[..length].to_vec()), (None, length));
        }
        assert_eq!(took([&whole[..], b"next"].concat()), (Some(Ok(None)), 4));
    }

    #[test]
    fn an_error_is_no_write() {
        let (outcome, _) = took(framed(1, b"\xff\x17\x04#08S01WSREP has not yet prepared node"));
        assert!(outcome.expect("whole").expect_err("an error").contains("not yet prepared"));
    }
}
