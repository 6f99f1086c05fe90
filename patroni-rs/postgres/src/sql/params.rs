//! Connection parameters by libpq's keywords (PostgreSQL documentation 34.1.2).

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indexmap::IndexMap;
use pyfmt::Value;

use super::error::PgError;
use super::service;

/// Keywords that libpq takes from the environment when they are not given.
const ENVIRONMENT: [(&str, &str); 27] = [
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("dbname", "PGDATABASE"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("sslmode", "PGSSLMODE"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcrl", "PGSSLCRL"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("gssencmode", "PGGSSENCMODE"),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
    ("client_encoding", "PGCLIENTENCODING"),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS"),
    ("require_auth", "PGREQUIREAUTH"),
    ("requirepeer", "PGREQUIREPEER"),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION"),
    ("sslcrldir", "PGSSLCRLDIR"),
    ("sslnegotiation", "PGSSLNEGOTIATION"),
    ("sslsni", "PGSSLSNI"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
];

/// Settings that libpq takes from the environment for every session.
const SETTINGS: [(&str, &str); 3] = [("DateStyle", "PGDATESTYLE"), ("TimeZone", "PGTZ"), ("geqo", "PGGEQO")];

/// Where sockets are when nobody says: Debian's directory, then PostgreSQL's own.
const SOCKET_DIRS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// A connection must not take forever, even if its parameters ask for it.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// Ordered keywords and values, all text. [`std::fmt::Debug`] hides secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ConnParams(IndexMap<String, String>);

/// Whether and how the connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(super) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// One server to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The socket file.
    Unix(PathBuf),
    /// A name to resolve (and to verify a certificate against), or an address.
    Tcp { host: String, addr: Option<IpAddr>, port: u16 },
}

impl Target {
    /// libpq's name of the server: `at "127.0.0.1", port 5432`.
    pub(super) fn shown(&self) -> String {
        match self {
            Target::Unix(path) => format!("on socket \"{}\"", path.display()),
            Target::Tcp { addr: Some(addr), port, .. } => format!("at \"{addr}\", port {port}"),
            Target::Tcp { host, port, .. } => format!("at \"{host}\", port {port}"),
        }
    }
}

impl ConnParams {
    /// No parameters.
    pub fn new() -> ConnParams {
        ConnParams::default()
    }

    /// From a mapping; what is null is not given.
    pub fn from_value(value: &Value) -> ConnParams {
        let entries = value.as_map().into_iter().flatten().filter(|(_, v)| !v.is_null());
        entries.map(|(k, v)| (k.py_str(), v.py_str())).collect()
    }

    /// The value of a keyword.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.get(keyword).map(String::as_str)
    }

    /// The first keyword that libpq does not know.
    pub fn unknown(&self) -> Option<&str> {
        let known = |keyword: &str| {
            keyword == "service" || service::KEYWORDS.split_whitespace().any(|known| known == keyword)
        };
        self.0.keys().map(String::as_str).find(|keyword| !known(keyword))
    }

    /// Sets a keyword.
    pub fn set(&mut self, keyword: &str, value: impl Into<String>) {
        self.0.insert(keyword.to_owned(), value.into());
    }

    /// The same with another value of a keyword.
    #[must_use]
    pub fn with(&self, keyword: &str, value: impl Into<String>) -> ConnParams {
        let mut params = self.clone();
        params.set(keyword, value);
        params
    }

    /// The same without a keyword.
    #[must_use]
    pub fn without(&self, keyword: &str) -> ConnParams {
        let mut params = self.clone();
        params.0.shift_remove(keyword);
        params
    }

    /// Where a keyword is absent, the value of [`Self`]; where present, its own.
    #[must_use]
    pub fn or_defaults(mut self, defaults: &[(&str, &str)]) -> ConnParams {
        for (keyword, value) in defaults {
            self.0.entry((*keyword).to_owned()).or_insert_with(|| (*value).to_owned());
        }
        self
    }

    /// With an empty `search_path` but for `pg_catalog`: we connect as
    /// superuser, and nobody shall slip us a function.
    #[must_use]
    pub fn with_safe_search_path(mut self) -> ConnParams {
        let given = self.get("options").unwrap_or_default();
        let options = format!("{given} -c search_path=pg_catalog");
        self.set("options", options.trim_start());
        self
    }

    /// With what libpq would add: environment, then the name of the system's user.
    pub(super) fn completed(&self) -> ConnParams {
        let mut params = self.clone();
        for (keyword, variable) in ENVIRONMENT {
            if let (false, Ok(value)) = (params.0.contains_key(keyword), std::env::var(variable)) {
                params.set(keyword, value);
            }
        }
        if params.given("user").is_none() {
            if let Ok(Some(user)) = nix::unistd::User::from_uid(nix::unistd::geteuid()) {
                params.set("user", user.name);
            }
        }
        params
    }

    /// `options` with the settings that the environment asks for in front.
    pub(super) fn session_options(&self) -> String {
        let escaped = |value: &str| value.replace('\\', "\\\\").replace(' ', "\\ ");
        let setting = |(name, variable): (&str, &str)| {
            let value = std::env::var(variable).ok().filter(|v| !v.is_empty())?;
            Some(format!("-c {name}={} ", escaped(&value)))
        };
        let mut text: String = SETTINGS.into_iter().filter_map(setting).collect();
        text.push_str(self.given("options").unwrap_or_default());
        text
    }

    /// The value of a keyword unless it is empty, which for libpq is not given.
    pub(super) fn given(&self, keyword: &str) -> Option<&str> {
        self.get(keyword).filter(|v| !v.is_empty())
    }

    /// `application_name`, or what stands in for it.
    pub(super) fn application_name(&self) -> Option<&str> {
        self.given("application_name").or_else(|| self.given("fallback_application_name"))
    }

    /// The database, which is named like the user unless given.
    pub(super) fn dbname(&self) -> Option<&str> {
        self.given("dbname").or_else(|| self.given("user"))
    }

    /// How long one connection may take. libpq knows no less than two seconds.
    pub(super) fn connect_timeout(&self) -> Duration {
        match self.given("connect_timeout").and_then(|t| t.trim().parse::<f64>().ok()) {
            Some(seconds) if seconds > 0.0 => {
                Duration::from_secs_f64(seconds.clamp(2.0, CONNECT_TIMEOUT_MAX.as_secs_f64()))
            }
            _ => CONNECT_TIMEOUT_MAX,
        }
    }

    /// Must the session be writable?
    pub(super) fn wants_read_write(&self) -> bool {
        matches!(self.given("target_session_attrs"), Some("read-write" | "primary"))
    }

    pub(super) fn sslmode(&self) -> Result<SslMode, PgError> {
        match self.given("sslmode").unwrap_or("prefer") {
            "disable" => Ok(SslMode::Disable),
            "allow" => Ok(SslMode::Allow),
            "prefer" => Ok(SslMode::Prefer),
            "require" => Ok(SslMode::Require),
            "verify-ca" => Ok(SslMode::VerifyCa),
            "verify-full" => Ok(SslMode::VerifyFull),
            other => Err(PgError::Config(format!("invalid sslmode value: \"{other}\""))),
        }
    }

    /// What libpq refuses before it asks anybody, beyond what [`Self::sslmode`] and [`Self::targets`] find.
    ///
    /// # Errors
    /// [`PgError::Config`] in libpq's words.
    pub(super) fn check(&self) -> Result<(), PgError> {
        let one_of = |keyword: &str, values: &[&str]| match self.given(keyword) {
            Some(value) if !values.contains(&value) => {
                Err(PgError::Config(format!("invalid {keyword} value: \"{value}\"")))
            }
            _ => Ok(()),
        };
        one_of("channel_binding", &["disable", "prefer", "require"])?;
        super::auth::Accepted::parse(self.given("require_auth"))?;
        let mode = self.sslmode()?;
        one_of("sslnegotiation", &["postgres", "direct"])?;
        let shown = self.given("sslmode").unwrap_or("prefer");
        if self.given("sslrootcert") == Some("system") && mode != SslMode::VerifyFull {
            return Err(PgError::Config(format!(
                "weak sslmode \"{shown}\" may not be used with sslrootcert=system (use \"verify-full\")"
            )));
        }
        if self.given("sslnegotiation") == Some("direct") && mode < SslMode::Require {
            return Err(PgError::Config(format!(
                "weak sslmode \"{shown}\" may not be used with sslnegotiation=direct (use \"require\", \
                 \"verify-ca\", or \"verify-full\")"
            )));
        }
        let (lowest, highest) = self.tls_versions()?;
        if highest.is_some_and(|highest| highest < lowest) {
            return Err(PgError::Config("invalid SSL protocol version range".to_owned()));
        }
        one_of("gssencmode", &["disable", "prefer", "require"])?;
        one_of(
            "target_session_attrs",
            &["any", "read-write", "read-only", "primary", "standby", "prefer-standby"],
        )
    }

    /// The lowest and the highest version of TLS, as the number after `TLSv1.`.
    ///
    /// # Errors
    /// [`PgError::Config`] for a version that nobody knows.
    pub(super) fn tls_versions(&self) -> Result<(u8, Option<u8>), PgError> {
        let version = |keyword: &str| match self.given(keyword).map(str::to_lowercase).as_deref() {
            None => Ok(None),
            Some("tlsv1") => Ok(Some(0)),
            Some("tlsv1.1") => Ok(Some(1)),
            Some("tlsv1.2") => Ok(Some(2)),
            Some("tlsv1.3") => Ok(Some(3)),
            Some(_) => {
                let value = self.given(keyword).unwrap_or_default();
                Err(PgError::Config(format!("invalid \"{keyword}\" value: \"{value}\"")))
            }
        };
        Ok((version("ssl_min_protocol_version")?.unwrap_or(2), version("ssl_max_protocol_version")?))
    }

    /// The servers, in the order in which they are to be tried.
    pub(super) fn targets(&self) -> Result<Vec<Target>, PgError> {
        let split = |keyword| self.given(keyword).map(|v| v.split(',').map(str::trim).collect::<Vec<_>>());
        let (hosts, addrs) = (split("host"), split("hostaddr"));
        let count = addrs.as_ref().or(hosts.as_ref()).map_or(1, Vec::len);
        let ports = split("port").unwrap_or_else(|| vec!["5432"]);
        if ports.len() != 1 && ports.len() != count {
            return Err(PgError::Config(format!(
                "could not match {} port numbers to {count} hosts",
                ports.len()
            )));
        }
        let nth = |list: &Option<Vec<&str>>, i: usize| {
            list.as_ref().and_then(|l| l.get(i)).map(|s| (*s).to_owned()).filter(|s| !s.is_empty())
        };
        (0..count)
            .map(|i| {
                let port =
                    ports.get(i).or_else(|| ports.first()).filter(|p| !p.is_empty()).unwrap_or(&"5432");
                target(nth(&hosts, i), nth(&addrs, i), port_number(port)?)
            })
            .collect()
    }
}

/// In libpq's words: what is no integer, and what is no port.
fn port_number(text: &str) -> Result<u16, PgError> {
    let refused = |why: String| PgError::Config(why);
    let number: i32 = text
        .trim()
        .parse()
        .map_err(|_| refused(format!("invalid integer value \"{text}\" for connection option \"port\"")))?;
    let number = u16::try_from(number).ok().filter(|port| *port > 0);
    number.ok_or_else(|| refused(format!("invalid port number: \"{text}\"")))
}

fn target(host: Option<String>, addr: Option<String>, port: u16) -> Result<Target, PgError> {
    let socket = |dir: &str| Path::new(dir).join(format!(".s.PGSQL.{port}"));
    match (host, addr) {
        (host, Some(addr)) => {
            let ip = addr.parse().map_err(|_| {
                PgError::Config(format!(
                    "could not parse network address \"{addr}\": Name or service not known"
                ))
            })?;
            Ok(Target::Tcp { host: host.unwrap_or(addr), addr: Some(ip), port })
        }
        (Some(host), None) if host.starts_with('/') => Ok(Target::Unix(socket(&host))),
        (Some(host), None) => Ok(Target::Tcp { host, addr: None, port }),
        (None, None) => {
            let found = SOCKET_DIRS.iter().map(|dir| socket(dir)).find(|path| path.exists());
            Ok(Target::Unix(found.unwrap_or_else(|| socket("/var/run/postgresql"))))
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for ConnParams {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(iter: I) -> ConnParams {
        ConnParams(iter.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

impl std::fmt::Debug for ConnParams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |(k, v): (&String, &String)| match k.as_str() {
            "password" | "sslpassword" => (k.clone(), "***".to_owned()),
            _ => (k.clone(), v.clone()),
        };
        f.debug_map().entries(self.0.iter().map(shown)).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hosts_and_ports_are_paired() {
        let targets = |pairs: &[(&str, &str)]| pairs.iter().copied().collect::<ConnParams>().targets();
        let tcp = |host: &str, port| Target::Tcp { host: host.into(), addr: None, port };
        assert_eq!(targets(&[("host", "a,b"), ("port", "1,2")]).unwrap(), [tcp("a", 1), tcp("b", 2)]);
        assert_eq!(targets(&[("host", "a,b"), ("port", "7")]).unwrap(), [tcp("a", 7), tcp("b", 7)]);
        assert_eq!(targets(&[("host", "a,b"), ("port", ",2")]).unwrap(), [tcp("a", 5432), tcp("b", 2)]);
        assert_eq!(
            targets(&[("host", "/run/x"), ("port", "7")]).unwrap(),
            [Target::Unix("/run/x/.s.PGSQL.7".into())]
        );
        let with_addr = Target::Tcp { host: "a".into(), addr: Some("::1".parse().unwrap()), port: 5432 };
        assert_eq!(targets(&[("host", "a"), ("hostaddr", "::1")]).unwrap(), [with_addr]);
        for bad in [
            vec![("host", "a"), ("port", "1,2")],
            vec![("host", "a"), ("port", "x")],
            vec![("hostaddr", "name")],
        ] {
            assert!(targets(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let params: ConnParams = [("user", "u"), ("password", "secret")].into_iter().collect();
        assert_eq!(format!("{params:?}"), r#"{"user": "u", "password": "***"}"#);
    }

    #[test]
    fn options_grow() {
        let params = ConnParams::new().with_safe_search_path();
        assert_eq!(params.get("options"), Some("-c search_path=pg_catalog"));
        let params = params.with("options", "-c a=b").with_safe_search_path();
        assert_eq!(params.get("options"), Some("-c a=b -c search_path=pg_catalog"));
    }
}
