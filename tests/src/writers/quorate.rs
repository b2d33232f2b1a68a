//! Rows over HTTP, as any client of Quorate writes them.

use std::io;
use std::net::TcpStream;

use super::{FIRST_ID, Outcome, Protocol, TEXT, Writer};

struct Http {
    request: Vec<u8>,
    /// Where in the request the id is.
    id_at: usize,
}

/// A writer over this connection, with the node's token: in the database `bench`, `t` has the columns
/// `id` and `text`.
pub(crate) fn open(stream: TcpStream, token: &str) -> io::Result<Writer> {
    let body =
        format!("{{\"sql\":\"INSERT INTO t VALUES (?, ?)\",\"args\":[{FIRST_ID},\"{TEXT}\"]}}");
    let head = format!(
        "POST /db/bench/execute HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer \
         {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let id_at = head.len() + body.find(&FIRST_ID.to_string()).expect("the id");
    Writer::new(stream, Box::new(Http { request: (head + &body).into_bytes(), id_at }))
}

impl Protocol for Http {
    fn ask(&mut self, id: u64, out: &mut Vec<u8>) {
        let id = id.to_string();
        self.request[self.id_at..self.id_at + id.len()].copy_from_slice(id.as_bytes());
        out.extend_from_slice(&self.request);
    }

    fn take(&mut self, came: &mut Vec<u8>, _: &mut Vec<u8>) -> Option<Outcome> {
        let text = std::str::from_utf8(came).expect("text");
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|l| l.parse().ok()).expect("a length");
        if body.len() < length {
            return None;
        }
        let outcome = if head.starts_with("HTTP/1.1 200 ") {
            let (_, lsn) = body.split_once("\"lsn\":").expect("an LSN");
            let lsn = lsn.split([',', '}']).next().and_then(|lsn| lsn.parse().ok());
            Ok(Some(lsn.expect("a number")))
        } else {
            Err(text.to_owned())
        };
        came.clear();
        Some(outcome)
    }
}
