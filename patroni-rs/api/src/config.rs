//! The `restapi` section, typed (surface-api-ctl 2).

use std::net::ToSocketAddrs;
use std::path::PathBuf;

use patroni_core::ha::VERSION;
use patroni_core::parse::{is_empty_host, split_host_port};
use patroni_net::{TlsOptions, VerifyClient};
use pyfmt::int::{clamped, int};
use pyfmt::value::str_repr;
use pyfmt::{oserror, Value};

use crate::access::IpNet;
use crate::credentials::Credentials;

/// Stands for a port that `listen` lacks; no port is it.
const NO_PORT: i64 = -1;

/// Why the `restapi` section cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `listen` is mandatory (T1).
    #[error("Can not find \"restapi.listen\" config")]
    NoListen,
    /// `listen` is not host and port (T1).
    #[error("Invalid \"restapi\" config: expected <HOST>:<PORT> for \"listen\", but got \"{0}\"")]
    BadListen(String),
    /// `request_queue_size` is not a whole number (H22), in Python's words.
    #[error("{0}")]
    BadQueueSize(String),
    /// An entry of `allowlist` is no text: it would be left out, and with the only one everybody is let in.
    #[error("Invalid \"restapi\" config: expected addresses, networks or host names in \"allowlist\", but got {0}")]
    BadAllowlist(String),
    /// Headers that are no mapping: they may be what makes browsers careful.
    #[error("Invalid \"restapi\" config: expected a mapping for \"{0}\", but it is of type {1}")]
    BadHeaders(&'static str, &'static str),
    /// `connect_address` is not host and port.
    #[error("Invalid \"restapi\" config: expected <HOST>:<PORT> for \"connect_address\", but got \"{0}\"")]
    BadConnectAddress(String),
}

/// The REST API's settings. `Debug` prints no secret.
#[derive(Clone)]
pub struct ApiConfig {
    /// Host of `listen`; None: every address.
    pub host: Option<String>,
    /// Port of `listen`.
    pub port: u16,
    /// TLS, if `certfile` is set.
    pub tls: Option<TlsOptions>,
    /// What protected endpoints ask for.
    pub(crate) auth: Option<Credentials>,
    /// Networks that protected endpoints are open to; empty: all.
    pub allowlist: Vec<IpNet>,
    /// The hosts of the members' `api_url` are allowed too.
    pub allowlist_include_members: bool,
    /// Headers of normal answers.
    pub extra_headers: Vec<(String, String)>,
    /// Value of `Server`.
    pub server: String,
    /// Wanted length of the queue of connections not yet accepted.
    pub request_queue_size: i32,
    /// What is published as `api_url` (T5).
    pub connection_string: String,
    /// The page for people is there (an addition: `status_page`).
    pub status_page: bool,
}

impl std::fmt::Debug for ApiConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiConfig")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("tls", &self.tls)
            .field("connection_string", &self.connection_string)
            .finish_non_exhaustive()
    }
}

impl ApiConfig {
    /// Reads the section. **Blocks** on the resolver for names in `allowlist`.
    ///
    /// Bad entries of `allowlist`, a bad `verify_client` and a bad `server_tokens`
    /// are logged and passed over, as in the reference.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn from_value(section: &Value) -> Result<ApiConfig, ConfigError> {
        ApiConfig::read(section, || build_allowlist(section.get("allowlist")))
    }

    /// [`ApiConfig::from_value`] with networks that were looked up before; does not block.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn with_allowlist(section: &Value, allowlist: Vec<IpNet>) -> Result<ApiConfig, ConfigError> {
        ApiConfig::read(section, || Ok(allowlist))
    }

    fn read(
        section: &Value,
        allowlist: impl FnOnce() -> Result<Vec<IpNet>, ConfigError>,
    ) -> Result<ApiConfig, ConfigError> {
        let listen = section.get("listen").ok_or(ConfigError::NoListen)?;
        let listen_text = listen.py_str();
        let bad = || ConfigError::BadListen(listen_text.clone());
        let (host, port) = match listen.as_str().map(|text| split_host_port(text, NO_PORT)) {
            Some(Ok((host, port))) => (host, u16::try_from(port).map_err(|_| bad())?),
            _ => return Err(bad()),
        };
        let tls = tls_options(section);
        let connection_string = match section.get("connect_address").filter(|v| v.truthy()) {
            None => connection_string(tls.is_some(), &listen_text).ok_or_else(bad)?,
            Some(address) => address
                .as_str()
                .and_then(|text| connection_string(tls.is_some(), text))
                .ok_or_else(|| ConfigError::BadConnectAddress(address.py_str()))?,
        };
        Ok(ApiConfig {
            host: Some(host).filter(|h| !matches!(h.as_str(), "" | "*")),
            port,
            auth: auth(section),
            allowlist: allowlist()?,
            allowlist_include_members: section.get("allowlist_include_members").is_some_and(Value::truthy),
            extra_headers: extra_headers(section, tls.is_some())?,
            server: server_header(section.get("server_tokens")),
            request_queue_size: queue_size(section)?,
            connection_string,
            status_page: section.get("status_page").is_some_and(Value::truthy),
            tls,
        })
    }
}

/// None where the port is no number, or the host empty: nobody would reach us there. No port means the scheme's.
fn connection_string(https: bool, address: &str) -> Option<String> {
    let scheme = if https { "https" } else { "http" };
    let (host, port) = split_host_port(address, 0).ok()?;
    if is_empty_host(&host) {
        return None;
    }
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host,
    };
    let port = if port == 0 { String::new() } else { format!(":{port}") };
    Some(format!("{scheme}://{host}{port}/patroni"))
}

fn text(section: &Value, key: &str) -> Option<String> {
    section.get(key).filter(|v| v.truthy()).map(Value::py_str)
}

fn tls_options(section: &Value) -> Option<TlsOptions> {
    let file = |key| text(section, key).map(PathBuf::from);
    Some(TlsOptions {
        certfile: Some(file("certfile")?),
        keyfile: file("keyfile"),
        keyfile_password: text(section, "keyfile_password"),
        cafile: file("cafile"),
        ciphers: text(section, "ciphers"),
        verify_client: verify_client(section.get("verify_client")),
        ..TlsOptions::default()
    })
}

/// T7: a bad value is logged and means `none`.
fn verify_client(value: Option<&Value>) -> VerifyClient {
    let mode = value.and_then(Value::as_str).map(str::to_lowercase).unwrap_or_default();
    VerifyClient::parse(&mode).unwrap_or_else(|| {
        if !mode.is_empty() {
            tracing::error!(target: "patroni.api", "Bad value in the \"restapi.verify_client\": {mode}");
        }
        VerifyClient::None
    })
}

/// `auth` is `user:password`, made of `authentication` when the configuration was
/// loaded. Half an `authentication` still closes the protected endpoints.
fn auth(section: &Value) -> Option<Credentials> {
    let pair = |both: &Value| {
        let part = |key| both.get(key).map_or_else(|| "None".to_owned(), Value::py_str);
        format!("{}:{}", part("username"), part("password"))
    };
    let plain = section.get("auth").map(Value::py_str).or_else(|| section.get("authentication").map(pair))?;
    // The reference takes an empty text for no authentication.
    Some(plain).filter(|plain| !plain.is_empty()).map(|plain| Credentials::new(&plain))
}

fn extra_headers(section: &Value, https: bool) -> Result<Vec<(String, String)>, ConfigError> {
    let mut headers: indexmap::IndexMap<String, String> = indexmap::IndexMap::new();
    let keys = if https {
        ["http_extra_headers", "https_extra_headers"].as_slice()
    } else {
        &["http_extra_headers"]
    };
    for key in keys {
        let Some(value) = section.get(key).filter(|v| v.truthy()) else { continue };
        let map = value.as_map().ok_or_else(|| ConfigError::BadHeaders(key, value.type_name()))?;
        headers.extend(map.iter().map(|(k, v)| (k.py_str(), v.py_str())));
    }
    Ok(headers.into_iter().collect())
}

fn server_header(tokens: Option<&Value>) -> String {
    let original = "BaseHTTP/0.6 Python/3.11.2".to_owned();
    let Some(tokens) = tokens.map(Value::py_str) else { return original };
    match tokens.to_lowercase().as_str() {
        "original" => original,
        "productonly" => "Patroni".to_owned(),
        "minimal" => format!("Patroni/{VERSION}"),
        _ => {
            tracing::warn!(
                target: "patroni.api",
                "restapi.server_tokens is set to \"{tokens}\". Patroni will not modify the Server header. \
                 Valid values are: \"Minimal\", \"ProductOnly\"."
            );
            original
        }
    }
}

fn queue_size(section: &Value) -> Result<i32, ConfigError> {
    let Some(value) = section.get("request_queue_size") else { return Ok(5) };
    match int(value) {
        Ok(Value::BigInt(_)) => {
            Err(ConfigError::BadQueueSize("Python int too large to convert to C long".to_owned()))
        }
        Ok(number) => Ok(i32::try_from(clamped(&number)).unwrap_or(i32::MAX)),
        Err(e) => Err(ConfigError::BadQueueSize(e.message)),
    }
}

/// A list of addresses, networks and host names. What is none closes nothing, in the reference without a word.
fn build_allowlist(value: Option<&Value>) -> Result<Vec<IpNet>, ConfigError> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let Some(entries) = value.as_list() else {
        if value.truthy() {
            tracing::error!(
                target: "patroni.api",
                "The \"restapi.allowlist\" is not used, requests are accepted from everywhere: expected a list, \
                 but it is of type {}", value.type_name()
            );
        }
        return Ok(Vec::new());
    };
    let mut networks = Vec::new();
    for entry in entries {
        let text = entry.as_str().ok_or_else(|| ConfigError::BadAllowlist(entry.py_repr()))?;
        networks.extend(allowlist_entry(text));
    }
    Ok(networks)
}

fn allowlist_entry(entry: &str) -> Vec<IpNet> {
    if entry.contains('/') {
        let net = IpNet::parse(entry);
        if net.is_none() {
            let reason = format!("{} does not appear to be an IPv4 or IPv6 network", str_repr(entry));
            tracing::error!(
                target: "patroni.api",
                "Invalid value \"{entry}\" in the allowlist: ValueError({})", str_repr(&reason)
            );
        }
        return net.into_iter().collect();
    }
    match (entry, 8080).to_socket_addrs() {
        Ok(addresses) => addresses.map(|a| IpNet::host(a.ip())).collect(),
        Err(error) => {
            log_unresolved(entry, &error);
            Vec::new()
        }
    }
}

/// Logs a failure of the resolver as the reference does: `gaierror(number, text)`.
pub(crate) fn log_unresolved(host: &str, error: &std::io::Error) {
    let (number, reason) = oserror::gaierror(error);
    let number = number.unwrap_or(-4);
    tracing::error!(target: "patroni.api", "Failed to resolve {host}: gaierror({number}, {})", str_repr(&reason));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn section(json: &str) -> Value {
        pyfmt::json::loads(json).unwrap()
    }

    #[test]
    fn listen() {
        for (text, expected) in [
            ("*:8008", Some((None, 8008))),
            (":8008", None),
            (" :8008", None),
            ("[]:8008", None),
            ("[::]:8008", Some((Some("::"), 8008))),
            ("::1:8008", Some((Some("::1"), 8008))),
            ("127.0.0.1: 8008", Some((Some("127.0.0.1"), 8008))),
            ("127.0.0.1", None),
            ("127.0.0.1:x", None),
            ("127.0.0.1:70000", None),
        ] {
            let config = ApiConfig::from_value(&Value::from_iter([("listen", text)]));
            match (config, expected) {
                (Ok(c), Some((host, port))) => assert_eq!((c.host.as_deref(), c.port), (host, port), "{text}"),
                (Err(e), None) => assert_eq!(
                    e.to_string(),
                    format!("Invalid \"restapi\" config: expected <HOST>:<PORT> for \"listen\", but got \"{text}\"")
                ),
                (other, _) => panic!("{text}: {other:?}"),
            }
        }
        assert_eq!(ApiConfig::from_value(&Value::map()).unwrap_err(), ConfigError::NoListen);
        // Where others reach us is said beside it.
        for text in [":8008", "*:8008"] {
            let section = Value::from_iter([("listen", text), ("connect_address", "h:8008")]);
            let config = ApiConfig::from_value(&section).unwrap();
            assert_eq!(
                (config.host, config.connection_string.as_str()),
                (None, "http://h:8008/patroni"),
                "{text}"
            );
        }
    }

    /// The reference does not start with any of them.
    #[test]
    fn refused() {
        let allowlist = "expected addresses, networks or host names in \"allowlist\", but got ";
        let address = "expected <HOST>:<PORT> for \"connect_address\", but got ";
        for (more, want) in [
            (r#""allowlist": [1]"#, format!("Invalid \"restapi\" config: {allowlist}1")),
            (r#""allowlist": ["127.0.0.1", ["a"]]"#, format!("Invalid \"restapi\" config: {allowlist}['a']")),
            (r#""allowlist": [null]"#, format!("Invalid \"restapi\" config: {allowlist}None")),
            (
                r#""connect_address": "10.0.0.1:abc""#,
                format!("Invalid \"restapi\" config: {address}\"10.0.0.1:abc\""),
            ),
            (
                r#""http_extra_headers": "a: b""#,
                "Invalid \"restapi\" config: expected a mapping for \"http_extra_headers\", but it is of type str"
                    .to_owned(),
            ),
            (r#""connect_address": 8008"#, format!("Invalid \"restapi\" config: {address}\"8008\"")),
            (r#""connect_address": ":8008""#, format!("Invalid \"restapi\" config: {address}\":8008\"")),
            (r#""connect_address": " ""#, format!("Invalid \"restapi\" config: {address}\" \"")),
            (r#""connect_address": "[]:8008""#, format!("Invalid \"restapi\" config: {address}\"[]:8008\"")),
            (r#""request_queue_size": "abc""#, "invalid literal for int() with base 10: 'abc'".to_owned()),
            (r#""request_queue_size": 1e400"#, "cannot convert float infinity to integer".to_owned()),
            (
                r#""request_queue_size": 99999999999999999999"#,
                "Python int too large to convert to C long".to_owned(),
            ),
        ] {
            let found =
                ApiConfig::from_value(&section(&format!(r#"{{"listen": "127.0.0.1:8008", {more}}}"#)));
            assert_eq!(found.map(|_| ()).map_err(|e| e.to_string()), Err(want), "{more}");
        }
        for more in [
            r#""https_extra_headers": 5"#,
            r#""http_extra_headers": null"#,
            r#""allowlist": null"#,
            r#""allowlist": []"#,
            r#""allowlist": "x""#,
            r#""connect_address": """#,
        ] {
            let found =
                ApiConfig::from_value(&section(&format!(r#"{{"listen": "127.0.0.1:8008", {more}}}"#)));
            assert!(found.is_ok(), "{more}");
        }
    }

    #[test]
    fn headers_and_address() {
        let config = ApiConfig::from_value(&section(
            r#"{"listen": "[::1]:8008", "certfile": "/c", "server_tokens": "Minimal", "verify_client": "Optional",
                "http_extra_headers": {"A": 5, "B": true}, "https_extra_headers": {"A": "x", "C": "y"},
                "authentication": {"username": "u", "password": "p"}, "allowlist": ["127.0.0.1", "10.0.0.1/8", "bad/cidr"]}"#,
        ))
        .unwrap();
        assert_eq!(config.connection_string, "https://[::1]:8008/patroni");
        assert_eq!(config.server, "Patroni/4.1.5");
        assert!(config.auth.as_ref().is_some_and(|ours| ours.are("dTpw")));
        let headers: Vec<_> = config.extra_headers.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(headers, ["A=x", "B=True", "C=y"]);
        assert_eq!(config.allowlist.len(), 2);
        assert_eq!(config.tls.unwrap().verify_client, VerifyClient::Optional);
    }
}
