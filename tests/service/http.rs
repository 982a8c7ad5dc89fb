//! A connection for HTTP, and its answers.

use serde_json::Value;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The timeout of every wait.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) text: String,
}

/// A connection to a service for one call after the other.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
}

impl Connection {
    pub(crate) fn new(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream), host: address.to_owned() }
    }

    /// Sends a request without waiting for the answer.
    pub(crate) fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) {
        self.try_send(method, path, headers, body).unwrap();
    }

    fn try_send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> std::io::Result<()> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nContent-Length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "Host") {
            write!(text, "Host: {}\r\n", self.host).unwrap();
        }
        for (name, value) in headers {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        self.stream.get_mut().write_all(format!("{text}\r\n{body}").as_bytes())
    }

    /// Sends these bytes without blocking. Bytes that do not fit into the buffers of the connection are dropped.
    pub(crate) fn send_bytes(&mut self, text: &str) {
        let stream = self.stream.get_mut();
        stream.set_nonblocking(true).unwrap();
        let _ = stream.write_all(text.as_bytes());
        stream.set_nonblocking(false).unwrap();
    }

    /// Closes the sending side.
    pub(crate) fn stop_sending(&mut self) {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Reads a line of the answer.
    pub(crate) fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line
    }

    /// Reads a chunk of an answer whose length is not known. Empty: the answer has ended.
    pub(crate) fn read_chunk(&mut self) -> String {
        let length = usize::from_str_radix(self.read_line().trim(), 16).unwrap_or(0);
        let mut chunk = vec![0; length + 2];
        if length == 0 || self.stream.read_exact(&mut chunk).is_err() {
            return String::new();
        }
        chunk.truncate(length);
        String::from_utf8(chunk).unwrap()
    }

    /// Reads the answer to a request with this method.
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        self.try_answer(method).unwrap()
    }

    fn try_answer(&mut self, method: &str) -> std::io::Result<Answer> {
        let (mut headers, mut length, mut is_chunked) = (String::new(), 0, false);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line == "\r\n" {
                break;
            }
            let line = line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            is_chunked |= line.trim() == "transfer-encoding: chunked";
            headers += &line;
        }
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        // The stream of events has no end.
        if is_chunked && !headers.contains("text/event-stream") {
            let chunks = std::iter::from_fn(|| Some(self.read_chunk()).filter(|chunk| !chunk.is_empty()));
            let text = chunks.collect();
            self.read_line();
            return Ok(Answer { status, headers, text });
        }
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.stream.read_exact(&mut body)?;
        Ok(Answer { status, headers, text: String::from_utf8(body).unwrap() })
    }

    pub(crate) fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.send(method, path, headers, body);
        self.answer(method)
    }

    /// Calls a service that may end before it has answered.
    pub(crate) fn try_call(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<Answer> {
        self.try_send(method, path, &[], body)?;
        self.try_answer(method)
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Returns the body of a success.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }

    /// Returns the lock in the body of a success.
    pub(crate) fn lock(&self) -> Value {
        self.ok()["lock"].clone()
    }

    /// Returns the id of the lock in the body of a success.
    pub(crate) fn id(&self) -> String {
        self.lock()["id"].as_str().unwrap().to_owned()
    }

    /// Checks that this is a refusal with this status and code, which no script takes for a lock. Returns its body.
    pub(crate) fn expect_refusal(&self, status: u16, code: u64) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert_eq!(body["code"], code, "{self:?}");
        assert!(body.get("id").is_none() && body.get("lock").is_none(), "{self:?}");
        assert!(body["message"].is_string() && body["details"].as_array().unwrap().is_empty(), "{self:?}");
        body
    }
}
