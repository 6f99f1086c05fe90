//! Options of the section `consul` (surface-dcs 12).

use std::path::PathBuf;

use patroni_core::model::url::{bracketed, Url};
use patroni_core::parse::parse_bool;
use patroni_net::{TlsOptions, Verify};
use pyfmt::Value;

use crate::address;
use crate::DcsError;

const DEFAULT_PORT: u16 = 8500;
/// As messages name it.
const SECTION: &str = "consul";

/// How fresh what is read has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// What the leader of Consul has.
    #[default]
    Default,
    /// The same, and the leader makes sure that it still is the leader.
    Consistent,
    /// Whatever any server has.
    Stale,
}

/// What a reload of the configuration may change. (The servers stay: another Consul would be another cluster.)
#[derive(Clone, PartialEq, Eq, Default)]
pub struct LiveOptions {
    /// Sent with every request.
    pub token: Option<String>,
    /// Of reads.
    pub consistency: Consistency,
    /// The data center whose keys and sessions are meant; the agent's own without it.
    pub dc: Option<String>,
    /// Is our PostgreSQL to be a service in Consul's catalogue?
    pub register_service: bool,
    /// Additional tags of that service, sorted.
    pub service_tags: Vec<String>,
}

/// Shows everything but the token.
impl std::fmt::Debug for LiveOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveOptions").field("consistency", &self.consistency).finish_non_exhaustive()
    }
}

/// Looks up a variable that is set and not empty.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Options of a Consul client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulOptions {
    /// `http://host:port`
    pub base: String,
    /// What a reload may change.
    pub live: LiveOptions,
    /// Health checks that end the session when they fail.
    pub checks: Vec<String>,
    /// How often Consul checks the service: `5s`.
    pub service_check_interval: String,
    /// The server name for the TLS of those checks.
    pub service_check_tls_server_name: Option<String>,
    /// TLS.
    pub tls: ConsulTls,
}

/// TLS options with a `Debug` that tells nothing.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ConsulTls(pub TlsOptions);

impl std::fmt::Debug for ConsulTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConsulTls").finish_non_exhaustive()
    }
}

impl ConsulOptions {
    /// Reads a section; an empty one means an agent on this machine. What is not in it may be in variables of Consul's own
    /// (`CONSUL_HTTP_ADDR`, `CONSUL_HTTP_SSL`, `CONSUL_HTTP_SSL_VERIFY`), as for Consul's command line.
    ///
    /// # Errors
    /// A port is no number, a URL has no host, or an unknown consistency.
    pub fn from_section(section: &Value, environment: Environment<'_>) -> Result<ConsulOptions, DcsError> {
        let text = |key: &str| section.get(key).filter(|v| v.truthy()).map(Value::py_str);
        let (certfile, keyfile) = match text("cert") {
            Some(cert) => (Some(PathBuf::from(cert)), text("key").map(PathBuf::from)),
            None => (None, None),
        };
        let cafile = text("cacert").or_else(|| text("ca_cert")).map(PathBuf::from);
        let verified = section.get("verify").and_then(parse_bool);
        let verified =
            verified.or_else(|| Some(environment("CONSUL_HTTP_SSL_VERIFY")?.to_lowercase() == "true"));
        let unchecked = verified == Some(false) && cafile.is_none();
        let verify = if unchecked { Verify::Nothing } else { Verify::Full };
        Ok(ConsulOptions {
            base: base(section, environment)?,
            live: LiveOptions::from_section(section)?,
            checks: texts(section, "checks"),
            service_check_interval: text("service_check_interval").unwrap_or_else(|| "5s".into()),
            service_check_tls_server_name: section
                .get("service_check_tls_server_name")
                .filter(|v| !v.is_null())
                .map(Value::py_str),
            tls: ConsulTls(TlsOptions { certfile, keyfile, cafile, verify, ..TlsOptions::default() }),
        })
    }
}

impl LiveOptions {
    /// Reads a section.
    ///
    /// # Errors
    /// An unknown consistency.
    pub fn from_section(section: &Value) -> Result<LiveOptions, DcsError> {
        let text = |key: &str| section.get(key).filter(|v| v.truthy()).map(Value::py_str);
        let consistency = match text("consistency").as_deref() {
            None | Some("default") => Consistency::Default,
            Some("consistent") => Consistency::Consistent,
            Some("stale") => Consistency::Stale,
            Some(_) => {
                let text = "consistency must be either default, consistent or state";
                return Err(DcsError::Config(text.into()));
            }
        };
        let mut service_tags = texts(section, "service_tags");
        service_tags.sort();
        Ok(LiveOptions {
            token: text("token"),
            consistency,
            dc: text("dc"),
            register_service: section.get("register_service").is_some_and(Value::truthy),
            service_tags,
        })
    }
}

fn texts(section: &Value, key: &str) -> Vec<String> {
    section.get(key).and_then(Value::as_list).unwrap_or_default().iter().map(Value::py_str).collect()
}

/// A URL goes before a host, a port of its own before that of the host.
fn base(section: &Value, environment: Environment<'_>) -> Result<String, DcsError> {
    let configured = section.get("scheme").filter(|v| v.truthy()).map(Value::py_str);
    let by_variable = || environment("CONSUL_HTTP_SSL").map(|ssl| ssl.to_lowercase() == "true");
    let scheme =
        configured.unwrap_or_else(|| if by_variable() == Some(true) { "https" } else { "http" }.into());
    let place = |key: &str| format!("\"{key}\" of the consul section of config");
    let scheme = address::scheme(&scheme, &place("scheme")).map_err(DcsError::Config)?;
    let own_port = match section.get("port").filter(|p| !p.is_null()) {
        None => None,
        Some(port) => {
            Some(port.py_str().trim().parse().map_err(|_| address::bad_port(&port.py_str(), SECTION))?)
        }
    };
    let (scheme, host, port) = match (section.get("url"), section.get("host")) {
        (Some(url), _) => {
            let text = url.py_str();
            let url = Url::split(&text);
            let (host, port) = url.host_port().ok_or_else(|| address::bad_port(url.netloc, SECTION))?;
            let no_host = || DcsError::Config(format!("no host in the consul url: {}", url.without_query()));
            let scheme = match url.scheme.as_str() {
                "" => scheme,
                own => address::scheme(own, &place("url")).map_err(DcsError::Config)?,
            };
            (scheme, host.ok_or_else(no_host)?, port.unwrap_or(DEFAULT_PORT))
        }
        (None, Some(host)) => {
            let (host, port) = address::host_port(&host.py_str(), DEFAULT_PORT, SECTION)?;
            (scheme, host, own_port.unwrap_or(port))
        }
        (None, None) => match environment("CONSUL_HTTP_ADDR").filter(|_| own_port.is_none()) {
            Some(address) => {
                let address = if address.contains("//") { address } else { format!("//{address}") };
                let url = Url::split(&address);
                let (host, port) = url.host_port().ok_or_else(|| address::bad_port(&address, SECTION))?;
                let own = Some(url.scheme.as_str()).filter(|s| !s.is_empty() && by_variable().is_none());
                let own = own.map(|own| address::scheme(own, "CONSUL_HTTP_ADDR")).transpose();
                let own = own.map_err(DcsError::Config)?;
                let host =
                    host.ok_or_else(|| DcsError::Config(format!("no host in CONSUL_HTTP_ADDR: {address}")))?;
                (own.unwrap_or(scheme), host, port.unwrap_or(DEFAULT_PORT))
            }
            None => (scheme, "127.0.0.1".to_owned(), own_port.unwrap_or(DEFAULT_PORT)),
        },
    };
    Ok(format!("{scheme}://{}:{port}", bracketed(&host)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn options(json: &str) -> Result<ConsulOptions, DcsError> {
        ConsulOptions::from_section(&pyfmt::json::loads(json).unwrap(), &|_| None)
    }

    #[test]
    fn variables_of_consuls_own() {
        for (json, variables, want) in [
            (r#"{}"#, &[("CONSUL_HTTP_ADDR", "a:1")][..], ("http://a:1", Verify::Full)),
            (r#"{}"#, &[("CONSUL_HTTP_ADDR", "https://a:1")], ("https://a:1", Verify::Full)),
            (
                r#"{}"#,
                &[("CONSUL_HTTP_ADDR", "https://a:1"), ("CONSUL_HTTP_SSL", "false")],
                ("http://a:1", Verify::Full),
            ),
            (r#"{}"#, &[("CONSUL_HTTP_SSL", "True")], ("https://127.0.0.1:8500", Verify::Full)),
            (r#"{"host":"h"}"#, &[("CONSUL_HTTP_ADDR", "a:1")], ("http://h:8500", Verify::Full)),
            (r#"{"port":7}"#, &[("CONSUL_HTTP_ADDR", "a:1")], ("http://127.0.0.1:7", Verify::Full)),
            (r#"{"scheme":"http"}"#, &[("CONSUL_HTTP_SSL", "true")], ("http://127.0.0.1:8500", Verify::Full)),
            (r#"{}"#, &[("CONSUL_HTTP_SSL_VERIFY", "false")], ("http://127.0.0.1:8500", Verify::Nothing)),
            (
                r#"{"verify":true}"#,
                &[("CONSUL_HTTP_SSL_VERIFY", "false")],
                ("http://127.0.0.1:8500", Verify::Full),
            ),
        ] {
            let find =
                |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
            let options = ConsulOptions::from_section(&pyfmt::json::loads(json).unwrap(), &find).unwrap();
            assert_eq!((options.base.as_str(), options.tls.0.verify), want, "{json} {variables:?}");
        }
    }

    #[test]
    fn where_consul_is() {
        for (json, want) in [
            (r#"{}"#, "http://127.0.0.1:8500"),
            (r#"{"port":1}"#, "http://127.0.0.1:1"),
            (r#"{"host":"h"}"#, "http://h:8500"),
            (r#"{"host":"h:1"}"#, "http://h:1"),
            (r#"{"host":"h:1","port":"2","scheme":"https"}"#, "https://h:2"),
            (r#"{"host":"[::1]:1"}"#, "http://[::1]:1"),
            (r#"{"url":"https://H:5","host":"x","port":7,"scheme":"http"}"#, "https://h:5"),
            (r#"{"url":"https://h"}"#, "https://h:8500"),
            (r#"{"host":"h","scheme":"HTTPS"}"#, "https://h:8500"),
            (r#"{"url":"//h:1","scheme":"Https"}"#, "https://h:1"),
        ] {
            assert_eq!(options(json).unwrap().base, want, "{json}");
        }
        for bad in [
            r#"{"host":"h:x"}"#,
            r#"{"url":"http://"}"#,
            r#"{"port":"x"}"#,
            r#"{"consistency":"state"}"#,
            r#"{"host":"h","scheme":"ftp"}"#,
            r#"{"host":"h","scheme":5}"#,
            r#"{"url":"ftp://h"}"#,
            r#"{"host":"http://h"}"#,
            r#"{"host":"[127.0.0.1:8500]"}"#,
        ] {
            assert!(options(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn tls() {
        for (json, verify, cert, key) in [
            (r#"{}"#, Verify::Full, None, None),
            (r#"{"verify":false}"#, Verify::Nothing, None, None),
            (r#"{"verify":"off"}"#, Verify::Nothing, None, None),
            (r#"{"verify":"nonsense"}"#, Verify::Full, None, None),
            (r#"{"verify":false,"cacert":"ca"}"#, Verify::Full, None, None),
            (r#"{"key":"k"}"#, Verify::Full, None, None),
            (r#"{"cert":"c"}"#, Verify::Full, Some("c"), None),
            (r#"{"cert":"c","key":"k"}"#, Verify::Full, Some("c"), Some("k")),
        ] {
            let tls = options(json).unwrap().tls.0;
            let path = |p: Option<PathBuf>| p.map(|p| p.display().to_string());
            assert_eq!(tls.verify, verify, "{json}");
            assert_eq!((path(tls.certfile).as_deref(), path(tls.keyfile).as_deref()), (cert, key), "{json}");
        }
    }

    #[test]
    fn other_options_and_no_token_in_debug() {
        let o = options(
            r#"{"token":"sekrit","consistency":"stale","dc":"d","checks":["c"],"register_service":true,
                "service_tags":["z","a"],"service_check_tls_server_name":"n"}"#,
        )
        .unwrap();
        assert_eq!(o.live.token.as_deref(), Some("sekrit"));
        assert_eq!((o.live.consistency, o.live.dc.as_deref()), (Consistency::Stale, Some("d")));
        assert!(o.live.register_service);
        assert_eq!((o.live.service_tags.join(","), o.checks.join(",")), ("a,z".into(), "c".into()));
        assert_eq!(o.service_check_interval, "5s");
        assert_eq!(o.service_check_tls_server_name.as_deref(), Some("n"));
        assert!(!format!("{o:?}").contains("sekrit"));
    }
}
