//! What goes over the wire: bodies and their types.

use base64::prelude::{Engine, BASE64_STANDARD};
use patroni_core::model::{Node, Nodes};
use serde::{Deserialize, Serialize};

use crate::kv::Failure;

/// A key, as Consul tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    /// Full name, without a slash at its beginning.
    pub key: String,
    /// Anything the writer likes.
    #[serde(default)]
    pub flags: u64,
    /// Base 64; null for an empty one.
    #[serde(default)]
    value: Option<String>,
    /// Who has locked it.
    #[serde(default)]
    pub session: Option<String>,
    /// Rises with each change, of any key.
    pub modify_index: u64,
}

impl Entry {
    /// The content; what is not UTF-8 is replaced, what is not base 64 is nothing.
    pub fn text(&self) -> String {
        let bytes = self.value.as_deref().and_then(|v| BASE64_STANDARD.decode(v).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The lock's session; Consul has an empty text where it was released.
    pub fn owner(&self) -> Option<&str> {
        self.session.as_deref().filter(|s| !s.is_empty())
    }

    /// As cluster views have it.
    pub fn node(&self) -> Node {
        Node {
            value: self.text(),
            version: self.modify_index.to_string(),
            modify_version: None,
            session: self.owner().map(str::to_owned),
        }
    }
}

/// The keys below a prefix by their names without it; directories that somebody made manually are none.
pub fn nodes(entries: &[Entry], prefix: &str) -> Nodes {
    let named = entries.iter().filter_map(|entry| {
        let name = entry.key.strip_prefix(prefix)?;
        (!name.is_empty() && !name.ends_with('/')).then(|| (name.to_owned(), entry.node()))
    });
    named.collect()
}

/// A new session.
#[derive(Debug, Serialize)]
pub struct NewSession<'a> {
    /// `<scope>-<member>`
    pub name: &'a str,
    /// Always there: without it Consul ends the session with the health check of the agent's node.
    pub checks: &'a [String],
    /// Nearly none: the lock is to be had at once when a session ends.
    pub lockdelay: &'static str,
    /// Our keys go with the session.
    pub behavior: &'static str,
    /// Seconds with a decimal point and `s`.
    pub ttl: String,
}

/// The answer to a new session.
#[derive(Debug, Deserialize)]
pub struct SessionId {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
}

/// A session, as a renewal tells it.
#[derive(Debug, Deserialize)]
pub struct SessionEntry {
    /// What was asked for when it was made: `15.0s`.
    #[serde(rename = "TTL", default)]
    pub ttl: String,
}

/// A service for the catalogue.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// The scope, as a name of the DNS.
    pub name: String,
    /// Tags may be changed in the catalogue.
    pub enabletagoverride: bool,
    /// `<scope>/<member>`
    pub id: String,
    /// Of PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Of PostgreSQL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The user's, and the role.
    pub tags: Vec<String>,
    /// One.
    pub checks: Vec<HttpCheck>,
}

/// A health check by HTTP.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct HttpCheck {
    /// What to get: 200 is healthy.
    pub http: String,
    /// How often.
    pub interval: String,
    /// A service that is ill for so long is forgotten.
    #[serde(rename = "DeregisterCriticalServiceAfter")]
    pub deregister: String,
    /// Name in the server's certificate.
    #[serde(rename = "TLSServerName", skip_serializing_if = "Option::is_none")]
    pub tls_server_name: Option<String>,
}

/// One operation of a transaction.
#[derive(Debug, Serialize)]
struct TxnOp<'a> {
    #[serde(rename = "KV")]
    kv: KvOp<'a>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct KvOp<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
}

/// What a transaction does to one key; all of it or nothing.
#[derive(Debug, Default)]
pub struct Txn<'a>(Vec<TxnOp<'a>>);

impl<'a> Txn<'a> {
    fn with(mut self, kv: KvOp<'a>) -> Txn<'a> {
        self.0.push(TxnOp { kv });
        self
    }

    /// The key is there, at this index.
    pub fn check(self, key: &'a str, index: u64) -> Txn<'a> {
        self.with(KvOp { verb: "check-index", key, index: Some(index), ..KvOp::default() })
    }

    /// Deletes a key, if it is there.
    pub fn delete(self, key: &'a str) -> Txn<'a> {
        self.with(KvOp { verb: "delete", key, ..KvOp::default() })
    }

    /// Writes a key and locks it.
    pub fn lock(self, key: &'a str, value: &str, session: &'a str) -> Txn<'a> {
        let value = Some(BASE64_STANDARD.encode(value));
        self.with(KvOp { verb: "lock", key, value, session: Some(session), ..KvOp::default() })
    }

    /// Writes a key that nobody has locked.
    pub fn set(self, key: &'a str, value: &str) -> Txn<'a> {
        self.with(KvOp { verb: "set", key, value: Some(BASE64_STANDARD.encode(value)), ..KvOp::default() })
    }

    /// The request's body.
    ///
    /// # Errors
    /// Never, as far as is known.
    pub fn body(&self) -> Result<String, Failure> {
        to_json(&self.0)
    }
}

/// The answer to a transaction that was carried out.
#[derive(Debug, Deserialize)]
pub struct TxnResults {
    /// One a writing operation that has not deleted.
    #[serde(rename = "Results", default)]
    results: Option<Vec<TxnResult>>,
}

#[derive(Debug, Deserialize)]
struct TxnResult {
    #[serde(rename = "KV")]
    kv: Option<TxnKv>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnKv {
    modify_index: u64,
}

impl TxnResults {
    /// The index of the last write.
    pub fn version(&self) -> String {
        let last = self.results.as_deref().unwrap_or_default().iter().rev().find_map(|r| r.kv.as_ref());
        last.map(|kv| kv.modify_index.to_string()).unwrap_or_default()
    }
}

/// Why a transaction was not carried out.
#[derive(Debug, Deserialize)]
pub struct TxnErrors {
    /// One an operation that failed.
    #[serde(rename = "Errors", default)]
    errors: Option<Vec<TxnError>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnError {
    #[serde(default)]
    what: String,
}

impl TxnErrors {
    /// All of them.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.errors.as_deref().unwrap_or_default().iter().map(|e| e.what.as_str())
    }
}

/// Text of a body.
///
/// # Errors
/// Never, as far as is known.
pub fn to_json<T: Serialize>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::Refused(e.to_string()))
}

/// A body that was read.
///
/// # Errors
/// It is something else (a proxy's page, say): nobody knows what was done.
pub fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|e| Failure::Unknown(format!("unexpected answer of Consul: {e}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    // From the traffic of the reference with a server 1.8.7.
    const LIST: &str = r#"[{"LockIndex":0,"Key":"service/demo/initialize","Flags":0,"Value":null,"CreateIndex":12,"ModifyIndex":12},{"LockIndex":1,"Key":"service/demo/members/m0","Flags":0,"Value":"e30=","Session":"646acf48-a741-ffae-6806-1d3c17cecc5c","CreateIndex":11,"ModifyIndex":11},{"LockIndex":0,"Key":"service/demo/","Flags":0,"Value":null,"CreateIndex":1,"ModifyIndex":1}]"#;

    #[test]
    fn a_list() {
        let entries: Vec<Entry> = from_json(LIST.as_bytes()).unwrap();
        let nodes = nodes(&entries, "service/demo/");
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["initialize", "members/m0"]);
        let (initialize, member) = (&nodes["initialize"], &nodes["members/m0"]);
        assert_eq!((initialize.value.as_str(), initialize.version.as_str()), ("", "12"));
        assert_eq!((initialize.session.as_deref(), member.value.as_str()), (None, "{}"));
        assert_eq!(member.session.as_deref(), Some("646acf48-a741-ffae-6806-1d3c17cecc5c"));
    }

    #[test]
    fn sessions() {
        let renewed = r#"[{"ID":"646a","Name":"demo-m0","Node":"vm","LockDelay":1000000,"Behavior":"delete","TTL":"10.0s","NodeChecks":[],"ServiceChecks":null,"CreateIndex":9,"ModifyIndex":9}]"#;
        let sessions: Vec<SessionEntry> = from_json(renewed.as_bytes()).unwrap();
        assert_eq!(sessions[0].ttl, "10.0s");
        let id: SessionId = from_json(br#"{"ID":"389ac408"}"#).unwrap();
        assert_eq!(id.id, "389ac408");
        let new = NewSession {
            name: "demo-m0",
            checks: &[],
            lockdelay: "0.001s",
            behavior: "delete",
            ttl: "15.0s".into(),
        };
        let want = r#"{"name":"demo-m0","checks":[],"lockdelay":"0.001s","behavior":"delete","ttl":"15.0s"}"#;
        assert_eq!(to_json(&new).unwrap(), want);
    }

    #[test]
    fn transactions() {
        let txn = Txn::default().check("a/l", 7).delete("a/l").lock("a/l", "m", "s");
        let want = r#"[{"KV":{"Verb":"check-index","Key":"a/l","Index":7}},{"KV":{"Verb":"delete","Key":"a/l"}},{"KV":{"Verb":"lock","Key":"a/l","Value":"bQ==","Session":"s"}}]"#;
        assert_eq!(txn.body().unwrap(), want);
        let done = br#"{"Results":[{"KV":{"LockIndex":1,"Key":"a/l","Flags":0,"Value":null,"Session":"s","CreateIndex":31,"ModifyIndex":31}}],"Errors":null}"#;
        assert_eq!(from_json::<TxnResults>(done).unwrap().version(), "31");
        let refused = br#"{"Results":null,"Errors":[{"OpIndex":0,"What":"key \"a/l\" doesn't exist"}]}"#;
        let errors: TxnErrors = from_json(refused).unwrap();
        assert_eq!(errors.texts().collect::<Vec<_>>(), ["key \"a/l\" doesn't exist"]);
    }

    #[test]
    fn a_proxys_page_is_no_answer() {
        assert!(matches!(from_json::<Vec<Entry>>(b"<html>"), Err(Failure::Unknown(_))));
    }
}
