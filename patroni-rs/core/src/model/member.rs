//! `/members/<name>` (surface-dcs 2.1, 4).

use pyfmt::int::int_clamped;
use pyfmt::{json, Value};

use super::url::{bracketed, Url};
use super::{Lsn, Version};
use crate::parse::parse_int;
use crate::tags::Tags;

/// What `standby_cluster` may say of its source besides the addresses (surface-dcs 4, RemoteMember).
pub const STANDBY_SOURCE_KEYS: [&str; 5] = [
    "primary_slot_name",
    "create_replica_methods",
    "restore_command",
    "archive_cleanup_command",
    "recovery_min_apply_delay",
];
/// The source of a standby cluster has no slot for us.
pub const NO_REPLICATION_SLOT: &str = "no_replication_slot";

const DEFAULT_PORT: i64 = 5432;

/// A member key, or what stands for a server that has none.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Compare-and-set token; empty when there is no key.
    pub version: Version,
    /// Name.
    pub name: String,
    /// Lease or session that the key is attached to.
    pub session: Option<String>,
    /// The document; always a mapping.
    pub data: Value,
}

impl Default for Member {
    fn default() -> Member {
        Member::remote("", Value::map())
    }
}

impl Member {
    /// Reads a member key; garbage is a member without data. A value that starts
    /// with `postgres` is the URL that Governor wrote.
    pub fn from_node(version: &str, name: &str, session: Option<String>, text: &str) -> Member {
        let data = match json::loads(text) {
            _ if text.starts_with("postgres") => governor_data(text),
            Ok(data @ Value::Map(_)) => data,
            _ => Value::map(),
        };
        Member { version: version.to_owned(), name: name.to_owned(), session, data }
    }

    /// A server that has no member key: `conn_kwargs` or `conn_url`, `api_url`,
    /// `slots`, and [`STANDBY_SOURCE_KEYS`] and [`NO_REPLICATION_SLOT`].
    pub fn remote(name: &str, data: Value) -> Member {
        Member { version: Version::new(), name: name.to_owned(), session: None, data }
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.data.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// `conn_url`, or one made of `conn_kwargs`.
    pub fn conn_url(&self) -> Option<String> {
        if let Some(url) = self.text("conn_url") {
            return Some(url.to_owned());
        }
        let kwargs = self.data.get("conn_kwargs").filter(|k| k.as_map().is_some() && k.truthy())?;
        let host = kwargs.get("host").unwrap_or(&Value::Null).py_str();
        let port = kwargs.get("port").cloned().unwrap_or(DEFAULT_PORT.into());
        let port = if port.truthy() { format!(":{port}") } else { String::new() };
        Some(format!("postgresql://{}{port}", bracketed(&host)))
    }

    /// Ordered libpq keywords, `host`, `port` and `dbname` first, with `auth` over
    /// them: not its `options` and `connect_timeout`, `username` as `user`, nothing
    /// that is null. User and password in a URL are dropped. Empty, whatever
    /// `auth` says, when the address is not known.
    pub fn conn_kwargs(&self, auth: Option<&Value>) -> Vec<(String, Value)> {
        let Some(mut kwargs) = self.address() else { return Vec::new() };
        let mut user = None;
        for (key, value) in auth.and_then(Value::as_map).into_iter().flatten() {
            match key.as_str() {
                None | Some("options" | "connect_timeout") => {}
                _ if value.is_null() => {}
                Some("username") => user = Some(value.clone()),
                Some(key) => set(&mut kwargs, key, value.clone()),
            }
        }
        if let Some(user) = user {
            set(&mut kwargs, "user", user);
        }
        kwargs
    }

    fn address(&self) -> Option<Vec<(String, Value)>> {
        let keywords = ["host", "port", "dbname"];
        if let Some(given) = self.data.get("conn_kwargs").and_then(Value::as_map).filter(|m| !m.is_empty()) {
            let mut kwargs = keywords.map(|key| (key.to_owned(), Value::Null)).to_vec();
            given.iter().for_each(|(key, value)| set(&mut kwargs, &key.py_str(), value.clone()));
            return Some(kwargs);
        }
        let url = self.text("conn_url")?;
        let url = Url::split(url);
        let (host, port) = url.host_port()?;
        let port = port.filter(|port| *port != 0).map_or(DEFAULT_PORT, i64::from);
        let dbname = url.path.strip_prefix('/').unwrap_or(url.path);
        let values = [Value::from(host), port.into(), dbname.into()];
        Some(keywords.map(str::to_owned).into_iter().zip(values).collect())
    }

    /// URL of the REST API.
    pub fn api_url(&self) -> Option<&str> {
        self.text("api_url")
    }

    /// `api_url` with another path; the endpoint alone when there is no URL.
    pub fn endpoint_url(&self, endpoint: &str) -> String {
        let api_url = self.api_url().unwrap_or_default();
        if endpoint.is_empty() {
            return api_url.to_owned();
        }
        let url = Url::split(api_url);
        if url.netloc.is_empty() {
            return endpoint.to_owned();
        }
        format!("{}://{}/{}", url.scheme, url.netloc, endpoint.strip_prefix('/').unwrap_or(endpoint))
    }

    /// State of PostgreSQL; `unknown` when the key does not say.
    pub fn state(&self) -> &str {
        self.data.get("state").and_then(Value::as_str).unwrap_or("unknown")
    }

    /// Is PostgreSQL running?
    pub fn is_running(&self) -> bool {
        self.state() == "running"
    }

    /// The role that the member says it has; empty when it does not. Members
    /// before 4.0 say `master` for `primary`.
    pub fn role(&self) -> &str {
        self.data.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// The tags as they are.
    pub fn raw_tags(&self) -> Option<&Value> {
        self.data.get("tags")
    }

    /// The tags.
    pub fn tags(&self) -> Tags {
        Tags::from_value(self.raw_tags().unwrap_or(&Value::Null))
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
        self.raw_tags()?.get("replicatefrom")?.as_str().filter(|name| !name.is_empty())
    }

    /// Does it offer itself to be copied, and is its address known?
    pub fn clonefrom(&self) -> bool {
        self.tags().clonefrom() && self.conn_url().is_some()
    }

    fn lsn_at(&self, key: &str) -> Option<Lsn> {
        parse_int(self.data.get(key)?, None).and_then(Lsn::from_number)
    }

    /// `xlog_location`: the last position that it has received or replayed, or written
    /// as a primary.
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
        let number = |part: &str| int_clamped(&part.into()).and_then(|n| u64::try_from(n).ok());
        self.text("version")?.split('.').map(number).collect()
    }
}

fn set(kwargs: &mut Vec<(String, Value)>, key: &str, value: Value) {
    match kwargs.iter_mut().find(|(k, _)| k == key) {
        Some((_, old)) => *old = value,
        None => kwargs.push((key.to_owned(), value)),
    }
}

fn governor_data(text: &str) -> Value {
    let url = Url::split(text);
    Value::from_iter([
        ("conn_url", Value::from(url.without_query())),
        ("api_url", url.query_value("application_name").into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Member {
        Member::from_node("1", "a", Some("5".into()), text)
    }

    fn kwargs(m: &Member, auth: Option<&str>) -> String {
        let auth = auth.and_then(|a| json::loads(a).ok());
        json::dumps_compact(&m.conn_kwargs(auth.as_ref()).into_iter().collect())
    }

    #[test]
    fn texts() {
        let m = member("postgres://u:p@h:5433/postgres?application_name=http://h:8008/patroni");
        assert_eq!(m.conn_url().as_deref(), Some("postgres://u:p@h:5433/postgres"));
        assert_eq!(m.api_url(), Some("http://h:8008/patroni"));
        assert_eq!(m.session.as_deref(), Some("5"));
        for empty in ["", "5", "[]", "null", "{", "\"postgres\""] {
            let m = member(empty);
            assert_eq!((m.data.clone(), m.name.as_str()), (Value::map(), "a"), "{empty}");
            assert_eq!((m.conn_url(), m.api_url(), m.state(), m.role()), (None, None, "unknown", ""));
        }
    }

    #[test]
    fn connection_urls() {
        for (data, want) in [
            (r#"{"conn_url":"postgres://h/x","conn_kwargs":{"host":"z"}}"#, Some("postgres://h/x")),
            (r#"{"conn_kwargs":{"host":"z"}}"#, Some("postgresql://z:5432")),
            (r#"{"conn_kwargs":{"host":"::1","port":"6000"}}"#, Some("postgresql://[::1]:6000")),
            (r#"{"conn_kwargs":{}}"#, None),
            (r#"{"conn_url":""}"#, None),
        ] {
            assert_eq!(member(data).conn_url().as_deref(), want, "{data}");
        }
    }

    #[test]
    fn connection_keywords() {
        let auth = r#"{"username":"r","password":"s","options":"-c x","connect_timeout":1,"sslmode":null}"#;
        for (data, auth, want) in [
            (r#"{"conn_url":"postgres://u:p@H:5433/db"}"#, None, r#"{"host":"h","port":5433,"dbname":"db"}"#),
            (
                r#"{"conn_url":"postgres://[::1]"}"#,
                Some(auth),
                r#"{"host":"::1","port":5432,"dbname":"","password":"s","user":"r"}"#,
            ),
            (
                r#"{"conn_kwargs":{"port":1,"user":"x","host":"h"}}"#,
                Some(auth),
                r#"{"host":"h","port":1,"dbname":null,"user":"r","password":"s"}"#,
            ),
            ("{}", Some(auth), "{}"),
            (r#"{"conn_url":"postgres://h:x/"}"#, Some(auth), "{}"),
        ] {
            assert_eq!(kwargs(&member(data), auth), want, "{data}");
        }
    }

    #[test]
    fn endpoints() {
        let m = member(r#"{"api_url":"https://h:8008/patroni"}"#);
        for (endpoint, want) in [
            ("failsafe", "https://h:8008/failsafe"),
            ("/config", "https://h:8008/config"),
            ("", "https://h:8008/patroni"),
        ] {
            assert_eq!(m.endpoint_url(endpoint), want);
        }
        assert_eq!(member("{}").endpoint_url("failsafe"), "failsafe");
    }

    #[test]
    fn positions_and_versions() {
        for (text, want) in
            [("5", Some(5)), ("\"5\"", Some(5)), ("5.6", Some(6)), ("\"0/5\"", None), ("-1", None)]
        {
            assert_eq!(member(&format!(r#"{{"xlog_location":{text}}}"#)).lsn(), want.map(Lsn::new), "{text}");
        }
        for (text, want) in [
            ("\"1.2.3\"", Some(vec![1, 2, 3])),
            ("\"2\"", Some(vec![2])),
            ("\"4.1.0rc1\"", None),
            ("\"4.1.5-rs\"", None),
            ("\"4..1\"", None),
            ("\"\"", None),
            ("5", None),
        ] {
            assert_eq!(member(&format!(r#"{{"version":{text}}}"#)).patroni_version(), want, "{text}");
        }
    }

    #[test]
    fn clone_sources() {
        assert!(member(r#"{"conn_url":"postgres://h/","tags":{"clonefrom":"no"}}"#).clonefrom());
        assert!(!member(r#"{"tags":{"clonefrom":true}}"#).clonefrom());
        assert!(!member(r#"{"tags":null}"#).nofailover());
    }
}
