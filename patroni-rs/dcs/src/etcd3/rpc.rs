//! The requests we make, as values that both ways to speak to etcd 3 understand.

use super::failure::Failure;
use crate::etcd::wire;

/// One request.
#[derive(Debug, Clone)]
pub enum Rpc {
    /// All keys with a prefix, linearizable: as of now or later.
    List(String),
    /// One key, linearizable.
    Get(String),
    /// Put, with a lease or 0.
    Put(String, String, i64),
    /// Delete a key.
    Delete(String),
    /// Delete all keys with a prefix.
    DeletePrefix(String),
    /// A transaction about a key.
    Txn(Txn),
    /// A new lease of so many seconds.
    Grant(i64),
    /// Renew a lease.
    KeepAlive(i64),
    /// End a lease, with its keys.
    Revoke(i64),
    /// The members of the etcd cluster.
    Members,
}

/// What one key is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cmp {
    /// There is none.
    Absent,
    /// Its mod revision.
    Revision(i64),
    /// Its value.
    Value(String),
    /// Its lease.
    Lease(i64),
    /// The revision that created it: an earlier one than this.
    MadeBefore(i64),
}

/// What is done to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Put, with a lease or 0.
    Put(String, i64),
    /// Delete.
    Delete,
}

/// A transaction about one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Txn {
    /// The key.
    pub key: String,
    /// When all of this holds,
    pub when: Vec<Cmp>,
    /// this is done;
    pub then: Op,
    /// otherwise, when that holds, that.
    pub otherwise: Option<(Cmp, Op)>,
}

/// The answer.
pub type Reply = wire::Reply<Body>;

/// The part of the answer that depends on the request.
#[derive(Debug, Clone)]
pub enum Body {
    /// Put, delete, and the end of a lease.
    Done,
    /// List and get.
    Keys(Vec<Kv>),
    /// Transaction: was either of its operations done?
    Txn(bool),
    /// Id of a new lease, and the seconds that it was granted.
    Lease(i64, i64),
    /// Does the lease still exist?
    Alive(bool),
    /// Client URLs; None: they are of no use to who cannot speak gRPC to them.
    Urls(Option<Vec<String>>),
}

/// A key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kv {
    /// Its full name.
    pub key: String,
    /// Its value.
    pub value: String,
    /// When it was created.
    pub create_revision: i64,
    /// When it was changed last.
    pub mod_revision: i64,
    /// What it is attached to, or 0.
    pub lease: i64,
}

impl Reply {
    /// The keys of a list.
    pub fn keys(self) -> Vec<Kv> {
        match self.body {
            Body::Keys(keys) => keys,
            _ => Vec::new(),
        }
    }

    /// Did the transaction do either of what it was to?
    pub fn succeeded(&self) -> bool {
        matches!(self.body, Body::Txn(true))
    }
}

impl Rpc {
    /// What it is about, for people.
    pub fn what(&self) -> String {
        match self {
            Rpc::List(key) | Rpc::Get(key) | Rpc::Delete(key) | Rpc::DeletePrefix(key) => key.clone(),
            Rpc::Put(key, value, _) => format!("{key} ({} bytes)", value.len()),
            Rpc::Txn(txn) => txn.key.clone(),
            Rpc::Grant(_) | Rpc::KeepAlive(_) | Rpc::Revoke(_) => "the lease".into(),
            Rpc::Members => "the members".into(),
        }
    }
}

/// The end of the range of all keys with a prefix: its last byte plus one.
pub fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

/// `text` as a revision.
///
/// # Errors
/// It is none.
pub fn revision(text: &str) -> Result<i64, Failure> {
    text.parse().map_err(|_| Failure::Refused(format!("not a version: {text}")))
}
