//! Members (surface-dcs 2.1, 4).

use pyfmt::{json, Value};

use super::{Lsn, Version};
use crate::parse::parse_int;
use crate::tags::Tags;

/// A member key, or what stands for a server that has none.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Member {
    /// Compare-and-set token.
    pub version: Version,
    /// Name.
    pub name: String,
    /// Lease or session that the key hangs on.
    pub session: Option<String>,
    /// The document.
    pub data: Value,
}

/// The pieces of `postgres://host:port/dbname?...`.
struct Url {
    hosts: Vec<(String, Option<String>)>,
    dbname: Option<String>,
}

impl Member {
    /// Reads a member key; garbage is a member without data. A value that starts
    /// with `postgres` is the URL that Governor wrote.
    pub fn from_node(version: &str, name: &str, session: Option<String>, text: &str) -> Member {
        let data = if text.starts_with("postgres") { governor_data(text) } else { object_or_empty(text) };
        Member { version: version.to_owned(), name: name.to_owned(), session, data }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key).and_then(Value::as_str)
    }

    /// `conn_url`, or one made of `conn_kwargs`.
    pub fn conn_url(&self) -> Option<String> {
        if let Some(url) = self.text("conn_url").filter(|u| !u.is_empty()) {
            return Some(url.to_owned());
        }
        let host = self.data.at(&["conn_kwargs", "host"])?.py_str();
        let port = self.data.at(&["conn_kwargs", "port"]).map_or_else(|| "5432".into(), Value::py_str);
        Some(format!("postgresql://{}:{port}", bracketed(&host)))
    }

    /// Ordered libpq keywords, with `auth` over them: not its `options` and
    /// `connect_timeout`, `username` as `user`, nothing that is null.
    pub fn conn_kwargs(&self, auth: Option<&Value>) -> Vec<(String, Value)> {
        let mut kwargs: Vec<(String, Value)> = match self.data.get("conn_kwargs") {
            Some(Value::Map(m)) if !m.is_empty() => m.iter().map(|(k, v)| (k.py_str(), v.clone())).collect(),
            _ => match self.text("conn_url").and_then(parse_url) {
                Some(url) => url_kwargs(&url),
                None => return Vec::new(),
            },
        };
        for (key, value) in auth.and_then(Value::as_map).into_iter().flatten() {
            let key = match key.as_str() {
                None | Some("options" | "connect_timeout") => continue,
                Some("username") => "user",
                Some(key) => key,
            };
            if value.is_null() {
                continue;
            }
            match kwargs.iter_mut().find(|(k, _)| k == key) {
                Some((_, old)) => *old = value.clone(),
                None => kwargs.push((key.to_owned(), value.clone())),
            }
        }
        kwargs
    }

    /// URL of the REST API.
    pub fn api_url(&self) -> Option<&str> {
        self.text("api_url").filter(|u| !u.is_empty())
    }

    /// `api_url` with another path; the endpoint alone when there is no URL.
    pub fn endpoint_url(&self, endpoint: &str) -> String {
        let Some(url) = self.api_url() else { return endpoint.to_owned() };
        let Some((scheme, rest)) = url.split_once("://") else { return endpoint.to_owned() };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        format!("{scheme}://{authority}/{endpoint}")
    }

    /// State of PostgreSQL; `unknown` when the key does not say.
    pub fn state(&self) -> &str {
        self.text("state").unwrap_or("unknown")
    }

    /// Is PostgreSQL running?
    pub fn is_running(&self) -> bool {
        self.state() == "running"
    }

    /// The role that the member says it has.
    pub fn role(&self) -> &str {
        self.text("role").unwrap_or_default()
    }

    /// The tags.
    pub fn tags(&self) -> Tags {
        Tags::from_value(self.data.get("tags").unwrap_or(&Value::Null))
    }

    /// See [`Tags::nofailover`].
    pub fn nofailover(&self) -> bool {
        self.tags().nofailover()
    }

    /// See [`Tags::failover_priority`].
    pub fn failover_priority(&self) -> i64 {
        self.tags().failover_priority()
    }

    /// See [`Tags::nosync`].
    pub fn nosync(&self) -> bool {
        self.tags().nosync()
    }

    /// See [`Tags::sync_priority`].
    pub fn sync_priority(&self) -> i64 {
        self.tags().sync_priority()
    }

    /// See [`Tags::noloadbalance`].
    pub fn noloadbalance(&self) -> bool {
        self.tags().noloadbalance()
    }

    /// See [`Tags::nostream`].
    pub fn nostream(&self) -> bool {
        self.tags().nostream()
    }

    /// See [`Tags::replicatefrom`].
    pub fn replicatefrom(&self) -> Option<&str> {
        self.data.at(&["tags", "replicatefrom"]).and_then(Value::as_str).filter(|s| !s.is_empty())
    }

    /// Offers itself to be copied.
    pub fn clonefrom(&self) -> bool {
        self.data.at(&["tags", "clonefrom"]).is_some_and(Value::truthy) && self.text("conn_url").is_some()
    }

    fn lsn_at(&self, key: &str) -> Option<Lsn> {
        parse_int(self.data.get(key)?, None).and_then(|n| Lsn::try_from(n).ok())
    }

    /// `xlog_location`.
    pub fn lsn(&self) -> Option<Lsn> {
        self.lsn_at("xlog_location")
    }

    /// `receive_lsn`.
    pub fn receive_lsn(&self) -> Option<Lsn> {
        self.lsn_at("receive_lsn")
    }

    /// `replay_lsn`.
    pub fn replay_lsn(&self) -> Option<Lsn> {
        self.lsn_at("replay_lsn")
    }

    /// `timeline`.
    pub fn timeline(&self) -> Option<u32> {
        self.data.get("timeline").and_then(Value::as_i64).and_then(|t| u32::try_from(t).ok())
    }

    /// The member's Patroni version; None unless it is numbers with dots.
    pub fn patroni_version(&self) -> Option<Vec<u64>> {
        self.text("version")?.split('.').map(|p| p.parse().ok()).collect()
    }
}

fn object_or_empty(text: &str) -> Value {
    match json::loads(text) {
        Ok(value @ Value::Map(_)) => value,
        _ => Value::map(),
    }
}

fn governor_data(text: &str) -> Value {
    let (url, query) = text.split_once('?').unwrap_or((text, ""));
    let api = query.split('&').find_map(|pair| pair.strip_prefix("application_name="));
    let mut data = Value::map();
    data.set("conn_url", url);
    data.set("api_url", api.map(str::to_owned));
    data
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

fn parse_url(url: &str) -> Option<Url> {
    let (_, rest) = url.split_once("://")?;
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
    let hosts = hosts
        .split(',')
        .map(|h| match (h.strip_prefix('[').and_then(|h| h.split_once(']')), h.rsplit_once(':')) {
            (Some((host, port)), _) => {
                (host.to_owned(), port.strip_prefix(':').filter(|p| !p.is_empty()).map(str::to_owned))
            }
            (None, Some((host, port))) => (host.to_owned(), Some(port.to_owned()).filter(|p| !p.is_empty())),
            (None, None) => (h.to_owned(), None),
        })
        .collect();
    Some(Url { hosts, dbname: Some(path.to_owned()).filter(|p| !p.is_empty()) })
}

fn url_kwargs(url: &Url) -> Vec<(String, Value)> {
    let hosts: Vec<&str> = url.hosts.iter().map(|(h, _)| h.as_str()).collect();
    let ports: Vec<&str> = url.hosts.iter().map(|(_, p)| p.as_deref().unwrap_or("5432")).collect();
    let mut kwargs =
        vec![("host".to_owned(), Value::from(hosts.join(","))), ("port".to_owned(), ports.join(",").into())];
    if let Some(dbname) = &url.dbname {
        kwargs.push(("dbname".to_owned(), dbname.as_str().into()));
    }
    kwargs
}
