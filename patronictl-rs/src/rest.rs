//! Requests to the REST API of members (surface-api-ctl O1 to O5).

use std::time::Duration;

use nix::errno::Errno;
use patroni_net::{ClientOptions, HttpClient, NetError, REFUSED_CERTIFICATE};
use pyfmt::value::str_repr;
use pyfmt::Value;

/// A switchover or restart may rightly take hours, and the reference waits
/// forever; this only bounds a connection that has died unnoticed.
const TIMEOUT: Duration = Duration::from_secs(24 * 3600);
/// How often a refused connection is tried again, as in the reference.
const RETRIES: u32 = 3;

/// A connection that ended without an answer.
const DROPPED: &str = "RemoteDisconnected('Remote end closed connection without response')";

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

/// The clients of a run, each made when it is first needed.
pub struct Rest {
    options: ClientOptions,
    plain: Option<HttpClient>,
    secure: Option<HttpClient>,
}

impl Rest {
    /// A client with the credentials and certificates of the configuration.
    pub fn new(config: &Value) -> Rest {
        Rest { options: ClientOptions::for_peers(config, None), plain: None, secure: None }
    }

    /// The client for a URL: certificates count, and can be wrong, only with TLS.
    fn client(&mut self, kind: &str) -> Result<&HttpClient, NetError> {
        let secure = kind == "HTTPS";
        let slot = if secure { &mut self.secure } else { &mut self.plain };
        Ok(match slot {
            Some(client) => client,
            none => {
                let basic_auth = self.options.basic_auth.clone();
                let plain = ClientOptions { basic_auth, ..ClientOptions::default() };
                none.insert(HttpClient::new(if secure { &self.options } else { &plain })?)
            }
        })
    }

    /// The body of a `GET`, in one attempt.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn get_once(&mut self, url: &str, limit: Duration) -> Result<String, String> {
        let target = Target::of(url);
        let client = self.client(target.kind).map_err(|e| e.to_string())?;
        let reply = client.request("GET", url, &[], String::new(), limit).await.map_err(|e| e.to_string())?;
        match reply.status {
            200 => Ok(String::from_utf8_lossy(&reply.body).into_owned()),
            // Of a node that does not run its PostgreSQL: it says so.
            503 if !reply.body.is_empty() => Ok(String::from_utf8_lossy(&reply.body).into_owned()),
            status => Err(format!("status code {status}")),
        }
    }

    /// Sends a request. A connection that cannot be made is tried again three
    /// times, each time with a warning.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn call(&mut self, method: &str, url: &str, body: Option<&Value>) -> Result<Reply, RestError> {
        let text = body.map(pyfmt::json::dumps).unwrap_or_default();
        let target = Target::of(url);
        let mut headers = vec![("accept-encoding", "identity")];
        // A method that may carry a body says how long it is, even if there is none.
        if text.is_empty() && matches!(method, "POST" | "PATCH" | "PUT") {
            headers.push(("content-length", "0"));
        }
        let mut left = RETRIES;
        loop {
            let exchange = match self.client(target.kind) {
                Ok(client) => client.request(method, url, &headers, text.clone(), TIMEOUT).await,
                Err(error) => Err(error),
            };
            let error = match exchange {
                Ok(reply) => return Ok(Reply { status: reply.status, body: reply.body.to_vec() }),
                Err(error) => error,
            };
            let dropped = target.is_dropped(&error);
            // A request that was sent is sent again only if that does no harm.
            let again = dropped && matches!(method, "GET" | "DELETE");
            let cause = match target.connect_error(&error) {
                Some(cause) => cause,
                None if again => DROPPED.to_owned(),
                None if dropped => {
                    return Err(RestError::Other(format!("('Connection aborted.', {DROPPED})")))
                }
                None => return Err(RestError::Other(error.to_string())),
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
        match error {
            NetError::File { source, .. } => {
                let errno = Errno::from_raw(source.raw_os_error()?);
                let class = match errno {
                    Errno::ENOENT => "FileNotFoundError",
                    Errno::EACCES => "PermissionError",
                    _ => "OSError",
                };
                Some(format!("SSLError({class}({}, {}))", errno as i32, str_repr(errno.desc())))
            }
            NetError::Tls { .. } => Some("SSLError(SSLError(9, '[SSL] PEM lib (_ssl.c:3900)'))".to_owned()),
            NetError::Connection(text) => self.tcp_error(text).or_else(|| self.tls_error(text)),
            _ => None,
        }
    }

    fn tcp_error(&self, text: &str) -> Option<String> {
        if let Some(reason) = text.strip_prefix("failed to lookup address information: ") {
            let number = match reason {
                "Temporary failure in name resolution" => -3,
                "No address associated with hostname" => -5,
                _ => -2,
            };
            tracing::warn!(
                target: "patroni.ctl",
                "failed to resolve host {}: [Errno {number}] {reason}", self.host
            );
            return Some(self.new_connection_error("getaddrinfo returns an empty list"));
        }
        let number = text.rsplit_once("(os error ")?.1.trim_end_matches(')').parse::<i32>().ok()?;
        let errno = Errno::from_raw(number);
        use Errno::{ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT};
        if ![ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT].contains(&errno) {
            return None;
        }
        Some(self.new_connection_error(&format!("[Errno {number}] {}", errno.desc())))
    }

    fn new_connection_error(&self, reason: &str) -> String {
        let (kind, address) = (self.kind, self.address());
        format!(
            "NewConnectionError(\"{kind}Connection({address}): Failed to establish a new connection: {reason}\")"
        )
    }

    /// What Python's TLS library says of the usual failures.
    fn tls_error(&self, text: &str) -> Option<String> {
        if self.kind != "HTTPS" {
            return None;
        }
        let refused = text.strip_prefix(REFUSED_CERTIFICATE).and_then(|rest| rest.strip_prefix(": "));
        if let Some(reason) = refused {
            let of_name =
                |what: &str| format!("{what} mismatch, certificate is not valid for '{}'.", self.host);
            let reason = match reason {
                "hostname mismatch" => of_name("Hostname"),
                "IP address mismatch" => of_name("IP address"),
                reason => reason.to_owned(),
            };
            let text =
                format!("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {reason} (_ssl.c:992)");
            return Some(format!("SSLCertVerificationError(1, {})", str_repr(&text)));
        }
        let error = if text.contains("wrong version number") {
            "SSLError(1, '[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:992)')"
        } else if text.contains("unexpected EOF") {
            "SSLZeroReturnError(6, 'TLS/SSL connection has been closed (EOF) (_ssl.c:992)')"
        } else {
            return None;
        };
        Some(error.to_owned())
    }

    /// Did the member close the connection without an answer?
    fn is_dropped(&self, error: &NetError) -> bool {
        matches!(error, NetError::Connection(text) if text.contains("before message completed"))
    }

    fn max_retries(&self, cause: &str) -> String {
        // A failed handshake is told as it is while there are retries left.
        let handshake = ["SSLError(1", "SSLCert", "SSLZero"].iter().any(|start| cause.starts_with(start));
        let cause = match cause {
            DROPPED => &format!("ProtocolError('Connection aborted.', {DROPPED})"),
            _ if handshake => &format!("SSLError({cause})"),
            cause => cause,
        };
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
    }

    #[test]
    fn a_refused_certificate_in_pythons_words() {
        let target = Target::of("https://node1:8008/restart");
        for (reason, shown) in [
            ("certificate has expired", "'[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:992)'"),
            ("hostname mismatch", "\"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for 'node1'. (_ssl.c:992)\""),
            ("IP address mismatch", "\"[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: IP address mismatch, certificate is not valid for 'node1'. (_ssl.c:992)\""),
        ] {
            let error = NetError::Connection(format!("{REFUSED_CERTIFICATE}: {reason}"));
            let expected = format!("SSLCertVerificationError(1, {shown})");
            assert_eq!(target.connect_error(&error).unwrap(), expected);
        }
        let target = Target::of("https://[::1]/x");
        assert_eq!((target.host.as_str(), target.port.as_str()), ("::1", "443"));
    }
}
