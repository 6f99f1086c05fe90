//! Options of the sections `etcd` and `etcd3`, and the list of nodes they name.

use std::path::PathBuf;
use std::time::Duration;

use patroni_core::model::url::{bracketed, Url};
use patroni_net::TlsOptions;
use pyfmt::Value;

use super::srv;
use crate::DcsError;

const DEFAULT_PORT: u16 = 2379;

/// Where the first list of nodes comes from: the first of these that gives any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// SRV records of a domain, with an optional suffix to the service names.
    pub srv: Option<(String, Option<String>)>,
    /// URLs.
    pub hosts: Vec<String>,
    /// One host, each of whose addresses is a node.
    pub host: Option<(String, u16)>,
}

/// Options of an etcd client.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// The nodes.
    pub source: Source,
    /// `http` or `https`.
    pub protocol: String,
    /// User and password.
    pub credentials: Option<(String, String)>,
    /// TLS.
    pub tls: TlsOptions,
    /// Ask only the nodes of the configuration, through the HTTP gateway.
    pub use_proxies: bool,
}

/// Shows everything but the password.
impl std::fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdOptions").field("source", &self.source).finish_non_exhaustive()
    }
}

impl EtcdOptions {
    /// Reads a section. Credentials of a URL are kept (the reference loses them at the
    /// first reload), and are used when the section has none of its own.
    ///
    /// # Errors
    /// No node is named, or a port is no number.
    pub fn from_section(section: &Value) -> Result<EtcdOptions, DcsError> {
        let text = |key: &str| section.get(key).filter(|v| v.truthy()).map(Value::py_str);
        let proxy = text("proxy");
        let url_text = proxy.clone().or_else(|| text("url"));
        let url = url_text.as_deref().map(Url::split);
        let mut protocol = text("protocol").unwrap_or_else(|| "http".into());
        let mut credentials = text("username").zip(text("password"));
        if let Some(url) = &url {
            protocol.clone_from(&url.scheme);
            if let (None, (Some(user), Some(password))) = (&credentials, url.user_info()) {
                credentials = Some((user.to_owned(), password.to_owned()));
            }
        }
        let srv = ["srv_domain", "discovery_srv", "srv"].into_iter().find_map(text);
        let source = match &url {
            Some(url) if proxy.is_some() => Source { host: Some(url_host(url)?), ..Source::default() },
            url => Source {
                srv: srv.map(|domain| (domain, text("srv_suffix"))),
                hosts: listed(section, &protocol)?,
                // A URL's host goes before another one.
                host: url.as_ref().map_or_else(|| single(section), |url| url_host(url).map(Some))?,
            },
        };
        if source == Source::default() {
            return Err(DcsError::Config(
                "Neither srv, hosts, host nor url are defined in etcd section of config".into(),
            ));
        }
        let tls = TlsOptions {
            certfile: text("cert").map(PathBuf::from),
            keyfile: text("key").map(PathBuf::from),
            cafile: text("cacert").map(PathBuf::from),
            ..TlsOptions::default()
        };
        let use_proxies = proxy.is_some() || text("use_proxies").is_some();
        Ok(EtcdOptions { source, protocol, credentials, tls, use_proxies })
    }

    /// Is everything the same but user and password?
    pub fn differ_in_credentials_alone(&self, other: &EtcdOptions) -> bool {
        self.credentials != other.credentials
            && *self == EtcdOptions { credentials: self.credentials.clone(), ..other.clone() }
    }

    /// The URLs of the nodes that the configuration names; may be empty. Looks up names.
    pub async fn nodes(&self, timeout: Duration) -> Vec<String> {
        let Source { srv, hosts, host } = &self.source;
        if let Some((domain, suffix)) = srv {
            let resolver = srv::Resolver::of_system().await;
            let found = srv::nodes(&resolver, domain, suffix.as_deref(), timeout).await;
            if !found.is_empty() {
                return found;
            }
        }
        match host {
            _ if !hosts.is_empty() => hosts.clone(),
            Some((host, port)) => self.addresses(host, *port, timeout).await,
            None => Vec::new(),
        }
    }

    /// The addresses of one host; its name where that matters to TLS, or they are not to be had.
    async fn addresses(&self, host: &str, port: u16, timeout: Duration) -> Vec<String> {
        let by_name = vec![node_url(&self.protocol, host, port)];
        if self.protocol != "http" {
            return by_name;
        }
        let lookup = tokio::net::lookup_host((host, port));
        let mut urls: Vec<String> = match tokio::time::timeout(timeout, lookup).await {
            Ok(Ok(found)) => found.map(|a| node_url("http", &a.ip().to_string(), a.port())).collect(),
            failed => {
                let reason = match failed {
                    Ok(Err(error)) => pyfmt::oserror::resolver(&error),
                    _ => "timed out".to_owned(),
                };
                tracing::warn!(target: "patroni.dcs.etcd", "failed to resolve host {host}: {reason}");
                Vec::new()
            }
        };
        urls.sort();
        urls.dedup();
        Some(urls).filter(|u| !u.is_empty()).unwrap_or(by_name)
    }
}

/// The URL of a node.
pub(super) fn node_url(protocol: &str, host: &str, port: u16) -> String {
    format!("{protocol}://{}:{port}", bracketed(host))
}

fn bad_port(text: &str) -> DcsError {
    DcsError::Config(format!("invalid port in the etcd section of config: {text}"))
}

fn url_host(url: &Url<'_>) -> Result<(String, u16), DcsError> {
    let (host, port) = url.host_port().ok_or_else(|| bad_port(url.netloc))?;
    let host =
        host.ok_or_else(|| DcsError::Config(format!("no host in the etcd url: {}", url.without_query())))?;
    Ok((host, port.unwrap_or(DEFAULT_PORT)))
}

fn port_of(section: &Value) -> Result<Option<u16>, DcsError> {
    match section.get("port").filter(|p| !p.is_null()) {
        None => Ok(None),
        Some(port) => Ok(Some(port.py_str().trim().parse::<u16>().map_err(|_| bad_port(&port.py_str()))?)),
    }
}

fn listed(section: &Value, protocol: &str) -> Result<Vec<String>, DcsError> {
    let entries: Vec<String> = match section.get("hosts") {
        Some(Value::Str(text)) => text.split(',').map(str::to_owned).collect(),
        Some(Value::List(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let default_port = port_of(section)?.unwrap_or(DEFAULT_PORT);
    let urls = entries.iter().map(|entry| match entry.trim() {
        url if url.contains("://") => Ok(url.trim_end_matches('/').to_owned()),
        entry => split_host_port(entry, default_port).map(|(host, port)| node_url(protocol, &host, port)),
    });
    urls.collect()
}

fn single(section: &Value) -> Result<Option<(String, u16)>, DcsError> {
    let Some(host) = section.get("host").and_then(Value::as_str) else { return Ok(None) };
    let (host, from_host) = split_host_port(host, DEFAULT_PORT)?;
    Ok(Some((host, port_of(section)?.unwrap_or(from_host))))
}

/// `host`, `host:port`, `[v6]:port`, `[v6]`.
fn split_host_port(text: &str, default_port: u16) -> Result<(String, u16), DcsError> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().map_err(|_| bad_port(text))?),
        _ => (text, default_port),
    };
    Ok((host.trim_matches(['[', ']']).to_owned(), port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn options(json: &str) -> Result<EtcdOptions, DcsError> {
        EtcdOptions::from_section(&pyfmt::json::loads(json).unwrap())
    }

    #[test]
    fn sources() {
        let hosts = |urls: &[&str]| {
            let hosts = urls.iter().map(|u| (*u).to_owned()).collect();
            Source { hosts, ..Source::default() }
        };
        let host = |host: &str, port| Source { host: Some((host.to_owned(), port)), ..Source::default() };
        let srv = |suffix: Option<&str>, rest: Source| Source {
            srv: Some(("d".to_owned(), suffix.map(str::to_owned))),
            ..rest
        };
        for (json, want) in [
            (r#"{"host":"h"}"#, host("h", 2379)),
            (r#"{"host":"h:1"}"#, host("h", 1)),
            (r#"{"host":"h:1","port":2}"#, host("h", 2)),
            (r#"{"host":"[::1]:1"}"#, host("::1", 1)),
            (
                r#"{"hosts":"a, b:1,[::1]:2","port":"7"}"#,
                hosts(&["http://a:7", "http://b:1", "http://[::1]:2"]),
            ),
            (r#"{"hosts":["a:1","b:2"],"protocol":"https"}"#, hosts(&["https://a:1", "https://b:2"])),
            (
                r#"{"hosts":["a"],"host":"x","srv":"d"}"#,
                srv(None, Source { hosts: hosts(&["http://a:2379"]).hosts, ..host("x", 2379) }),
            ),
            (r#"{"srv":"d","url":"http://h:1","host":"x:2"}"#, srv(None, host("h", 1))),
            (r#"{"hosts":[],"host":"h:1"}"#, host("h", 1)),
            (r#"{"discovery_srv":"d","srv_suffix":"s"}"#, srv(Some("s"), Source::default())),
            (r#"{"url":"https://u:p@h/"}"#, host("h", 2379)),
            (r#"{"proxy":"http://h:5","srv":"d"}"#, host("h", 5)),
        ] {
            assert_eq!(options(json).unwrap().source, want, "{json}");
        }
        for bad in [
            r#"{}"#,
            r#"{"host":"h:x"}"#,
            r#"{"hosts":"a:"}"#,
            r#"{"url":"http://"}"#,
            r#"{"host":"h","port":"x"}"#,
        ] {
            assert!(options(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_asked_when_a_domain_has_no_records() {
        let second = Duration::from_secs(1);
        for (json, want) in [
            (
                r#"{"srv":"no.such.domain.invalid","hosts":"a:1,b:2","url":"http://127.0.0.1:3"}"#,
                vec!["http://a:1", "http://b:2"],
            ),
            (r#"{"srv":"no.such.domain.invalid","host":"127.0.0.1:4"}"#, vec!["http://127.0.0.1:4"]),
            (r#"{"srv":"no.such.domain.invalid","url":"https://h:5","host":"x"}"#, vec!["https://h:5"]),
            (r#"{"srv":"no.such.domain.invalid"}"#, vec![]),
        ] {
            assert_eq!(options(json).unwrap().nodes(second).await, want, "{json}");
        }
    }

    #[test]
    fn other_options() {
        let o = options(r#"{"url":"https://u:p@h/","cacert":"ca","cert":"c","key":"k"}"#).unwrap();
        assert_eq!((o.protocol.as_str(), o.use_proxies), ("https", false));
        assert_eq!(o.credentials, Some(("u".into(), "p".into())));
        assert_eq!((o.tls.cafile, o.tls.keyfile), (Some("ca".into()), Some("k".into())));
        assert!(options(r#"{"proxy":"http://h"}"#).unwrap().use_proxies);
        assert!(options(r#"{"host":"h","use_proxies":true}"#).unwrap().use_proxies);
        assert!(!options(r#"{"host":"h","use_proxies":false}"#).unwrap().use_proxies);
        let o = options(r#"{"host":"h","username":"u"}"#).unwrap();
        assert_eq!(o.credentials, None);
    }
}
