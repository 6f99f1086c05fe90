//! The requests we make, as values: so that one can be repeated at another node.

use etcd_client::{
    Client, DeleteOptions, Error, GetOptions, KeyValue, PutOptions, ResponseHeader, Txn, TxnResponse,
};

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
    /// A transaction.
    Txn(Txn),
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
    /// Id of the etcd cluster and its raft term; 0 when the answer does not say.
    pub cluster: (u64, u64),
    /// Revision of the store when it was done.
    pub revision: i64,
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
    /// Id of a new lease.
    Lease(i64),
    /// Does the lease still exist?
    Alive(bool),
    /// Client URLs.
    Urls(Vec<String>),
}

impl Reply {
    fn new(header: Option<&ResponseHeader>, body: Body) -> Reply {
        let cluster = header.map_or((0, 0), |h| (h.cluster_id(), h.raft_term()));
        Reply { cluster, revision: header.map_or(0, ResponseHeader::revision), repeated: false, body }
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
    /// Sends the request and waits for the answer, without any limit of time.
    ///
    /// # Errors
    /// Whatever the client gives.
    pub async fn send(&self, client: &mut Client) -> Result<Reply, Error> {
        match self {
            Rpc::List(prefix) => {
                let reply = client.get(prefix.as_str(), Some(GetOptions::new().with_prefix())).await?;
                Ok(Reply::new(reply.header(), Body::Keys(reply.kvs().to_vec())))
            }
            Rpc::Get(key) => {
                let reply = client.get(key.as_str(), None).await?;
                Ok(Reply::new(reply.header(), Body::Keys(reply.kvs().to_vec())))
            }
            Rpc::Put(key, value, lease) => {
                let reply = client.put(key.as_str(), value.clone(), put_options(*lease)).await?;
                Ok(Reply::new(reply.header(), Body::Done))
            }
            Rpc::Delete(key) => {
                let reply = client.delete(key.as_str(), None).await?;
                Ok(Reply::new(reply.header(), Body::Done))
            }
            Rpc::DeletePrefix(prefix) => {
                let reply = client.delete(prefix.as_str(), Some(DeleteOptions::new().with_prefix())).await?;
                Ok(Reply::new(reply.header(), Body::Done))
            }
            Rpc::Txn(txn) => {
                let reply = client.txn(txn.clone()).await?;
                Ok(Reply::new(reply.header(), Body::Txn(reply.clone())))
            }
            Rpc::Grant(seconds) => {
                let reply = client.lease_grant(*seconds, None).await?;
                Ok(Reply::new(reply.header(), Body::Lease(reply.id())))
            }
            Rpc::KeepAlive(lease) => match client.lease_keep_alive(*lease).await {
                Ok(_) => Ok(Reply::new(None, Body::Alive(true))),
                // The client's word for an answer without a TTL.
                Err(Error::LeaseKeepAliveError(text)) if text == "lease not found" => {
                    Ok(Reply::new(None, Body::Alive(false)))
                }
                Err(error) => Err(error),
            },
            Rpc::Members => {
                let reply = client.member_list().await?;
                let urls = reply.members().iter().flat_map(|m| m.client_urls().iter().cloned());
                Ok(Reply::new(reply.header(), Body::Urls(urls.collect())))
            }
        }
    }
}

/// The options of a put that hangs on a lease; 0 for none.
pub fn put_options(lease: i64) -> Option<PutOptions> {
    (lease != 0).then(|| PutOptions::new().with_lease(lease))
}
