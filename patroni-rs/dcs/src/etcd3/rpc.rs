//! The requests we make, as values: so that one can be repeated at another node.

use etcd_client::{DeleteOptions, Error, GetOptions, KeyValue, PutOptions, ResponseHeader, Txn, TxnResponse};

use super::connect::Node;
use super::failure::{classify, Failure};
use super::seen::Told;

/// One request.
#[derive(Debug, Clone)]
pub enum Rpc {
    /// All keys with a prefix, linearizable: as of now or later.
    List(String),
    /// One key, linearizable.
    Get(String),
    /// Put, with a lease or 0.
    Put(String, Vec<u8>, i64),
    /// Delete a key.
    Delete(String),
    /// Delete all keys with a prefix.
    DeletePrefix(String),
    /// A transaction about a key.
    Txn(String, Txn),
    /// A new lease of so many seconds.
    Grant(i64),
    /// Renew a lease.
    KeepAlive(i64),
    /// The members of the etcd cluster.
    Members,
}

/// The answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// What it says of the store; the revision is that of the store when it was done.
    pub told: Told,
    /// An earlier attempt of the same request may have been carried out, too.
    pub repeated: bool,
    /// The rest.
    pub body: Body,
}

/// The part of the answer that depends on the request.
#[derive(Debug, Clone)]
pub enum Body {
    /// Put and delete.
    Done,
    /// List and get.
    Keys(Vec<KeyValue>),
    /// Transaction.
    Txn(TxnResponse),
    /// Id of a new lease, and the seconds that it was granted.
    Lease(i64, i64),
    /// Does the lease still exist?
    Alive(bool),
    /// Client URLs.
    Urls(Vec<String>),
}

impl Reply {
    fn new(header: Option<&ResponseHeader>, by_majority: bool, body: Body) -> Reply {
        let (cluster, term, revision) =
            header.map_or((0, 0, 0), |h| (h.cluster_id(), h.raft_term(), h.revision()));
        Reply { told: Told { cluster, term, revision, by_majority }, repeated: false, body }
    }

    /// Revision of the store when it was done.
    pub fn revision(&self) -> i64 {
        self.told.revision
    }

    /// The keys of a list.
    pub fn keys(self) -> Vec<KeyValue> {
        match self.body {
            Body::Keys(keys) => keys,
            _ => Vec::new(),
        }
    }
}

impl Rpc {
    /// What it is about, for people.
    pub fn what(&self) -> String {
        match self {
            Rpc::List(key) | Rpc::Get(key) | Rpc::Delete(key) | Rpc::DeletePrefix(key) => key.clone(),
            Rpc::Put(key, value, _) => format!("{key} ({} bytes)", value.len()),
            Rpc::Txn(key, _) => key.clone(),
            Rpc::Grant(_) | Rpc::KeepAlive(_) => "the lease".into(),
            Rpc::Members => "the members".into(),
        }
    }

    /// Sends the request and waits for the answer, without any limit of time.
    ///
    /// # Errors
    /// Whatever the client gives.
    pub async fn send(&self, node: &mut Node) -> Result<Reply, Error> {
        match self {
            Rpc::List(prefix) => {
                let reply = node.kv.get(prefix.as_str(), Some(GetOptions::new().with_prefix())).await?;
                Ok(Reply::new(reply.header(), true, Body::Keys(reply.kvs().to_vec())))
            }
            Rpc::Get(key) => {
                let reply = node.kv.get(key.as_str(), None).await?;
                Ok(Reply::new(reply.header(), true, Body::Keys(reply.kvs().to_vec())))
            }
            Rpc::Put(key, value, lease) => {
                let reply = node.kv.put(key.as_str(), value.clone(), put_options(*lease)).await?;
                Ok(Reply::new(reply.header(), true, Body::Done))
            }
            Rpc::Delete(key) => {
                let reply = node.kv.delete(key.as_str(), None).await?;
                Ok(Reply::new(reply.header(), true, Body::Done))
            }
            Rpc::DeletePrefix(prefix) => {
                let reply = node.kv.delete(prefix.as_str(), Some(DeleteOptions::new().with_prefix())).await?;
                Ok(Reply::new(reply.header(), true, Body::Done))
            }
            Rpc::Txn(_, txn) => {
                let reply = node.kv.txn(txn.clone()).await?;
                Ok(Reply::new(reply.header(), true, Body::Txn(reply.clone())))
            }
            Rpc::Grant(seconds) => {
                let reply = node.client.lease_grant(*seconds, None).await?;
                Ok(Reply::new(reply.header(), true, Body::Lease(reply.id(), reply.ttl())))
            }
            Rpc::KeepAlive(lease) => {
                let alive = match node.client.lease_keep_alive(*lease).await {
                    Ok(_) => true,
                    // The client's word for an answer without a TTL.
                    Err(Error::LeaseKeepAliveError(text)) if text == "lease not found" => false,
                    Err(error) => return Err(error),
                };
                // The client shows no header of that answer. But an old leader that does not know that it is none goes
                // on answering (https://github.com/etcd-io/etcd/issues/15247): its term tells.
                match node.client.lease_time_to_live(*lease, None).await {
                    Ok(reply) => Ok(Reply::new(reply.header(), false, Body::Alive(alive))),
                    Err(error) if matches!(classify(&error), Failure::Node(_) | Failure::Busy(_)) => {
                        Err(error)
                    }
                    Err(_) => Ok(Reply::new(None, false, Body::Alive(alive))),
                }
            }
            Rpc::Members => {
                let reply = node.client.member_list().await?;
                // Learners answer nothing that we ask.
                let voters = reply.members().iter().filter(|m| !m.is_learner());
                let urls = voters.flat_map(|m| m.client_urls().iter().cloned());
                Ok(Reply::new(reply.header(), false, Body::Urls(urls.collect())))
            }
        }
    }
}

/// The options of a put that hangs on a lease; 0 for none.
pub fn put_options(lease: i64) -> Option<PutOptions> {
    (lease != 0).then(|| PutOptions::new().with_lease(lease))
}
