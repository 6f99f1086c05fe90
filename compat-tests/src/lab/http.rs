//! A small HTTP client that shows the bytes of an answer as they came.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use pyfmt::{json, Value};

use super::Result;

/// How long one call may take in each of connecting, sending and between two reads.
const PATIENCE: Duration = Duration::from_secs(10);

/// An answer.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The status code; 0 for an answer without a status line.
    pub status: u16,
    /// The status line and the headers, without the empty line after them.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is none.
    pub fn json(&self) -> Result<Value> {
        json::loads(&self.body).map_err(|e| format!("{e}: {}", self.body).into())
    }
}

/// One request to 127.0.0.1:`port`, of HTTP `version` (`1.0` or `1.1`), and its answer to the end of the
/// connection. `headers` are whole lines, each with its CR LF.
///
/// # Errors
/// No connection, or silence for `PATIENCE`.
pub fn raw(
    port: u16,
    method: &str,
    path: &str,
    version: &str,
    headers: &str,
    body: Option<&str>,
) -> Result<Response> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let length = body.map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/{version}\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}{length}\r\n{}",
        body.unwrap_or_default()
    );
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    Ok(parse(&String::from_utf8_lossy(&bytes)))
}

/// Splits an answer.
pub(super) fn parse(text: &str) -> Response {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.get(..3)).and_then(|code| code.parse().ok());
    Response { status: status.unwrap_or(0), head: head.into(), body: body.into() }
}

/// A call as a client of Patroni's REST API makes it.
///
/// # Errors
/// As [`raw`].
pub fn call(port: u16, method: &str, path: &str, body: Option<&str>) -> Result<Response> {
    raw(port, method, path, "1.1", "", body)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn splits_head_and_body() {
        let answer = parse("HTTP/1.0 503 Service Unavailable\r\nServer: x\r\n\r\n{}");
        assert_eq!((answer.status, answer.body.as_str()), (503, "{}"));
        assert_eq!(parse("HTTP/1.0 200 OK\r\n\r\n").head, "HTTP/1.0 200 OK");
    }
}
