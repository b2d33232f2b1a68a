//! One HTTP connection to a node that stays open: what a driver would use. For measuring.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::Node;

/// An open connection.
pub struct Line {
    reader: BufReader<TcpStream>,
    token: String,
}

impl Line {
    /// Connects to a node.
    ///
    /// # Errors
    /// Why it does not answer.
    pub fn open(node: &Node) -> Result<Self, String> {
        let token = fs::read_to_string(node.data.join("admin.token")).map_err(|e| e.to_string())?;
        let stream = node.connections(1, b"")?.pop().ok_or("no connection")?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        Ok(Self { reader: BufReader::new(stream), token: token.trim().to_owned() })
    }

    /// Posts JSON; the code and the body of the answer.
    ///
    /// # Errors
    /// The connection broke off.
    pub fn post(&mut self, path: &str, body: &Value) -> Result<(u16, Vec<u8>), String> {
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: node\r\nauthorization: Bearer {}\r\ncontent-type: \
             application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        let failed = |error: std::io::Error| error.to_string();
        self.reader.get_mut().write_all(request.as_bytes()).map_err(failed)?;
        let mut line = String::new();
        self.reader.read_line(&mut line).map_err(failed)?;
        let code = line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no code")?;
        let mut length = 0;
        loop {
            line.clear();
            self.reader.read_line(&mut line).map_err(failed)?;
            let line = line.trim();
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(|_| "no length")?;
            }
        }
        let mut answer = vec![0; length];
        self.reader.read_exact(&mut answer).map_err(failed)?;
        Ok((code, answer))
    }
}
