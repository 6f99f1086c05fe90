//! Options of the sections `etcd` and `etcd3`, and the list of nodes they name.

use std::path::PathBuf;
use std::time::Duration;

use patroni_core::model::url::{bracketed, Url};
use patroni_net::TlsOptions;
use pyfmt::Value;

use super::srv;
use crate::address;
use crate::DcsError;

const DEFAULT_PORT: u16 = 2379;
/// As messages name it.
const SECTION: &str = "etcd";

/// In the words of the reference's client.
const NO_PASSWORD: &str = "Username provided without password, both are required for authentication";
const NO_USER: &str = "Password provided without username, both are required for authentication";

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
    /// No node is named, or one of them cannot be a node; a protocol that is neither `http` nor `https`.
    pub fn from_section(section: &Value) -> Result<EtcdOptions, DcsError> {
        let text = |key: &str| section.get(key).filter(|v| v.truthy()).map(Value::py_str);
        let proxy = text("proxy");
        let url_text = proxy.clone().or_else(|| text("url"));
        let url = url_text.as_deref().map(Url::split);
        let (word, key) = match &url {
            Some(url) if !url.scheme.is_empty() => (url.scheme.clone(), "url"),
            _ => (text("protocol").unwrap_or_else(|| "http".into()), "protocol"),
        };
        let protocol = address::scheme(&word, &format!("\"{key}\" of the etcd section of config"));
        let protocol = protocol.map_err(DcsError::Config)?;
        let (user, password) = user_and_password(section);
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
        Ok(EtcdOptions { source, protocol, credentials: user.zip(password), tls, use_proxies })
    }

    /// Lines about what a section holds and [`EtcdOptions::from_section`] makes no use of.
    pub fn unused(section: &Value) -> Vec<String> {
        let mut lines = address::hosts(section.get("hosts"), "etcd hosts").1;
        match user_and_password(section) {
            (Some(_), None) => lines.push(NO_PASSWORD.to_owned()),
            (None, Some(_)) => lines.push(NO_USER.to_owned()),
            _ => {}
        }
        lines
    }

    /// Says all of [`EtcdOptions::unused`] in the log.
    pub fn warn_of_unused(section: &Value) {
        for line in EtcdOptions::unused(section) {
            tracing::warn!(target: "patroni.dcs.etcd", "{line}");
        }
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

fn url_host(url: &Url<'_>) -> Result<(String, u16), DcsError> {
    let (host, port) = url.host_port().ok_or_else(|| address::bad_port(url.netloc, SECTION))?;
    let host =
        host.ok_or_else(|| DcsError::Config(format!("no host in the etcd url: {}", url.without_query())))?;
    Ok((host, port.unwrap_or(DEFAULT_PORT)))
}

fn port_of(section: &Value) -> Result<Option<u16>, DcsError> {
    match section.get("port").filter(|p| !p.is_null()) {
        None => Ok(None),
        Some(port) => Ok(Some(
            port.py_str().trim().parse::<u16>().map_err(|_| address::bad_port(&port.py_str(), SECTION))?,
        )),
    }
}

/// Those of the section, or those of its URL. Half a pair is none, and both halves are of one place.
fn user_and_password(section: &Value) -> (Option<String>, Option<String>) {
    let text = |key: &str| section.get(key).filter(|v| v.truthy()).map(Value::py_str);
    let own = (text("username"), text("password"));
    if own.0.is_some() && own.1.is_some() {
        return own;
    }
    let Some(url) = text("proxy").or_else(|| text("url")) else { return own };
    let (user, password) = Url::split(&url).user_info();
    let given = |part: Option<&str>| part.filter(|part| !part.is_empty()).map(str::to_owned);
    match (given(user), given(password)) {
        (None, None) => own,
        of_url => of_url,
    }
}

fn listed(section: &Value, protocol: &str) -> Result<Vec<String>, DcsError> {
    let default_port = port_of(section)?.unwrap_or(DEFAULT_PORT);
    let (entries, _) = address::hosts(section.get("hosts"), "");
    let url = |entry: &String| {
        address::host_port(entry, default_port, SECTION).map(|(host, port)| node_url(protocol, &host, port))
    };
    entries.iter().map(url).collect()
}

fn single(section: &Value) -> Result<Option<(String, u16)>, DcsError> {
    let Some(host) = section.get("host").and_then(Value::as_str) else { return Ok(None) };
    let (host, from_host) = address::host_port(host.trim(), DEFAULT_PORT, SECTION)?;
    Ok(Some((host, port_of(section)?.unwrap_or(from_host))))
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
            (r#"{"hosts":["a:1"],"protocol":"HTTPS"}"#, hosts(&["https://a:1"])),
            (r#"{"hosts":[null,"a:1",5,true," "]}"#, hosts(&["http://a:1"])),
            (r#"{"hosts":"a:1,,b:2"}"#, hosts(&["http://a:1", "http://b:2"])),
            (r#"{"host":"203.0.113.90 :1"}"#, host("203.0.113.90", 1)),
            (r#"{"hosts":["[::1]"," b:2"]}"#, hosts(&["http://[::1]:2379", "http://b:2"])),
        ] {
            assert_eq!(options(json).unwrap().source, want, "{json}");
        }
        for bad in [
            r#"{}"#,
            r#"{"host":"h:x"}"#,
            r#"{"hosts":"a:"}"#,
            r#"{"url":"http://"}"#,
            r#"{"host":"h","port":"x"}"#,
            r#"{"hosts":[5,null]}"#,
        ] {
            assert!(options(bad).is_err(), "{bad}");
        }
        // What no node can be, or would be spoken to without TLS.
        for (bad, named) in [
            (r#"{"hosts":"[127.0.0.1:33379]"}"#, "'[127.0.0.1:33379]'"),
            (r#"{"hosts":["a:1","https://b:2"]}"#, "'https://b:2'"),
            (r#"{"host":"http://h"}"#, "'http://h'"),
            (r#"{"host":"http://h:1"}"#, "'http://h:1'"),
            (r#"{"hosts":"a:1;b:2"}"#, "'a:1;b:2'"),
            (r#"{"host":"h","protocol":"ftp"}"#, "\"protocol\" of the etcd section of config, but got 'ftp'"),
            (r#"{"host":"h","protocol":5}"#, "'5'"),
            (r#"{"url":"ftp://h"}"#, "\"url\" of the etcd section of config, but got 'ftp'"),
        ] {
            let told = options(bad).unwrap_err().to_string();
            assert!(told.contains(named), "{bad}: {told}");
        }
    }

    #[test]
    fn what_is_not_used_is_told() {
        for (json, want) in [
            (r#"{"hosts":["a:1",null,"b",5,true]}"#, &["None", "5", "True"][..]),
            (r#"{"hosts":"a:1,"}"#, &["''"]),
            (r#"{"host":"h","username":"u","password":"p"}"#, &[]),
            (r#"{"host":"h","username":"u"}"#, &[NO_PASSWORD]),
            (r#"{"host":"h","password":"secret"}"#, &[NO_USER]),
            (r#"{"url":"http://u@h"}"#, &[NO_PASSWORD]),
            (r#"{"url":"http://u:p@h","username":"x"}"#, &[]),
            (r#"{"url":"http://h","username":"x"}"#, &[NO_PASSWORD]),
        ] {
            let told = EtcdOptions::unused(&pyfmt::json::loads(json).unwrap());
            let want: Vec<String> = want
                .iter()
                .map(|what| match what.contains(' ') {
                    true => (*what).to_owned(),
                    false => format!("etcd hosts: {what} is no host, and is not used"),
                })
                .collect();
            assert_eq!(told, want, "{json}");
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
