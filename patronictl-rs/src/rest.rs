//! Requests to the REST API of members (surface-api-ctl O1 to O5).

use std::time::Duration;

use patroni_net::{ClientOptions, HttpClient, NetError};
use pyfmt::value::str_repr;
use pyfmt::Value;

/// A switchover or restart may rightly take hours, and the reference waits
/// for ever; this only bounds a connection that has died unnoticed.
const TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// How often a refused connection is tried again, as in the reference.
const RETRIES: u32 = 3;

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

/// Why there is no answer, in the words of the reference's HTTP library.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No connection, after all retries.
    #[error("{0}")]
    MaxRetries(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl RestError {
    /// The last line of the reference's traceback.
    pub fn traceback_line(&self) -> String {
        match self {
            RestError::MaxRetries(text) => format!("urllib3.exceptions.MaxRetryError: {text}"),
            RestError::Other(text) => format!("urllib3.exceptions.ProtocolError: {text}"),
        }
    }
}

/// The client of a run.
pub struct Rest {
    client: HttpClient,
}

impl Rest {
    /// A client with the credentials and certificates of the configuration.
    ///
    /// # Errors
    /// A certificate file that cannot be used.
    pub fn new(config: &Value) -> Result<Rest, RestError> {
        let client = HttpClient::new(&ClientOptions::for_peers(config, None));
        Ok(Rest { client: client.map_err(|e| RestError::Other(e.to_string()))? })
    }

    /// Sends a request. A connection that cannot be made is tried again three
    /// times, each time with a warning.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn call(&self, method: &str, url: &str, body: Option<&Value>) -> Result<Reply, RestError> {
        let body = body.map(pyfmt::json::dumps).unwrap_or_default();
        let target = Target::of(url);
        let mut left = RETRIES;
        loop {
            let error = match self.client.request(method, url, &[], body.clone(), TIMEOUT).await {
                Ok(reply) => return Ok(Reply { status: reply.status, body: reply.body.to_vec() }),
                Err(error) => error,
            };
            let Some(cause) = target.connect_error(&error) else {
                return Err(RestError::Other(error.to_string()));
            };
            if left == 0 {
                return Err(RestError::MaxRetries(target.max_retries(&cause)));
            }
            left -= 1;
            tracing::warn!(
                target: "patroni.ctl",
                "Retrying (Retry(total={left}, connect=None, read=None, redirect=None, status=None)) \
                 after connection broken by '{cause}': {}",
                target.path
            );
        }
    }
}

/// The parts of a URL that error texts name.
struct Target {
    kind: &'static str,
    host: String,
    port: String,
    path: String,
}

impl Target {
    fn of(url: &str) -> Target {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (kind, default_port) =
            if scheme.eq_ignore_ascii_case("https") { ("HTTPS", "443") } else { ("HTTP", "80") };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address = authority.rsplit_once('@').map_or(authority, |(_, a)| a);
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (address, default_port),
        };
        Target {
            kind,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: port.to_owned(),
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
        }
    }

    fn address(&self) -> String {
        format!("host={}, port={}", str_repr(&self.host), self.port)
    }

    /// The library's words for a connection that could not be made; `None` for
    /// errors of other kinds, which are not tried again.
    fn connect_error(&self, error: &NetError) -> Option<String> {
        let NetError::Connection(text) = error else { return None };
        let number = text.rsplit_once("(os error ")?.1.trim_end_matches(')').parse::<i32>().ok()?;
        let errno = nix::errno::Errno::from_raw(number);
        use nix::errno::Errno::{ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT};
        if ![ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT].contains(&errno) {
            return None;
        }
        Some(format!(
            "NewConnectionError(\"{}Connection({}): Failed to establish a new connection: [Errno {number}] {}\")",
            self.kind,
            self.address(),
            errno.desc()
        ))
    }

    fn max_retries(&self, cause: &str) -> String {
        format!(
            "{}ConnectionPool({}): Max retries exceeded with url: {} (Caused by {cause})",
            self.kind,
            self.address(),
            self.path
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn refused_in_the_librarys_words() {
        let target = Target::of("http://127.0.0.1:18009/patroni");
        let error = NetError::Connection("Connection refused (os error 111)".into());
        let cause = target.connect_error(&error).unwrap();
        assert_eq!(
            target.max_retries(&cause),
            "HTTPConnectionPool(host='127.0.0.1', port=18009): Max retries exceeded with url: /patroni \
             (Caused by NewConnectionError(\"HTTPConnection(host='127.0.0.1', port=18009): \
             Failed to establish a new connection: [Errno 111] Connection refused\"))"
        );
        assert!(target.connect_error(&NetError::Timeout).is_none());
        let target = Target::of("https://[::1]/x");
        assert_eq!((target.host.as_str(), target.port.as_str()), ("::1", "443"));
    }
}
