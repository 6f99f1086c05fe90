//! A connection to one node by gRPC.

use std::sync::{Arc, Mutex};

use etcd_client::{
    Channel, Client, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, GetOptions, KeyValue,
    KvClient, LeaseKeepAliveStream, LeaseKeeper, PutOptions, ResponseHeader, TxnOp, TxnOpResponse,
};
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use patroni_core::mutex::locked;
use patroni_net::client_builder;
use tonic::transport::Endpoint;

use super::failure::{auth_not_enabled, classify, Failure};
use super::resolver::Resolver;
use super::rpc::{Body, Cmp, Kv, Op, Reply, Rpc, Txn};
use crate::address;
use crate::etcd::wire::Manner;
use crate::etcd::{EtcdOptions, Told};

/// The largest answer that is read. gRPC's own limit of 4 MiB is less than what a few large values, or many members and
/// slots, make of a cluster; etcd itself holds 2 to 8 GB at most.
pub const LARGEST_ANSWER: usize = 1 << 30;

/// Renewals of one lease, one after the other.
struct Renewals {
    lease: i64,
    ask: LeaseKeeper,
    answers: LeaseKeepAliveStream,
}

/// A connection to a node.
#[derive(Clone)]
pub struct Grpc {
    /// For everything but keys.
    pub client: Client,
    /// For keys: their values may be large.
    kv: KvClient,
    /// An open stream of renewals; whoever uses it takes it, so that nobody finds it with an answer that is another's.
    renewals: Arc<Mutex<Option<Renewals>>>,
    /// Whose.
    pub url: String,
    /// With what it was made.
    pub options: Arc<EtcdOptions>,
    /// And how.
    pub manner: Manner,
}

impl Grpc {
    /// Connects and, with credentials, authenticates.
    ///
    /// # Errors
    /// The TLS files are not usable, or authentication has failed.
    pub async fn connect(url: &str, options: &Arc<EtcdOptions>, manner: Manner) -> Result<Grpc, Failure> {
        let client = connect(url, options, manner).await?;
        let kv = client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
        let (url, options) = (url.to_owned(), options.clone());
        Ok(Grpc { client, kv, renewals: Arc::default(), url, options, manner })
    }

    /// Sends the request and waits for the answer, without any limit of time.
    ///
    /// # Errors
    /// Whatever the client gives.
    pub async fn send(&mut self, rpc: &Rpc) -> Result<Reply, Failure> {
        self.try_send(rpc).await.map_err(|error| classify(&error))
    }

    async fn try_send(&mut self, rpc: &Rpc) -> Result<Reply, Error> {
        match rpc {
            Rpc::List(prefix) => {
                let found = self.kv.get(prefix.as_str(), Some(GetOptions::new().with_prefix())).await?;
                Ok(reply(found.header(), true, Body::Keys(found.kvs().iter().map(kv).collect())))
            }
            Rpc::Get(key) => {
                let found = self.kv.get(key.as_str(), None).await?;
                Ok(reply(found.header(), true, Body::Keys(found.kvs().iter().map(kv).collect())))
            }
            Rpc::Put(key, value, lease) => {
                let done = self.kv.put(key.as_str(), value.as_str(), put_options(*lease)).await?;
                Ok(reply(done.header(), true, Body::Done))
            }
            Rpc::Delete(key) => {
                let done = self.kv.delete(key.as_str(), None).await?;
                Ok(reply(done.header(), true, Body::Done))
            }
            Rpc::DeletePrefix(prefix) => {
                let done = self.kv.delete(prefix.as_str(), Some(DeleteOptions::new().with_prefix())).await?;
                Ok(reply(done.header(), true, Body::Done))
            }
            Rpc::Txn(txn) => {
                let done = self.kv.txn(transaction(txn)).await?;
                let nested = |op| matches!(op, TxnOpResponse::Txn(inner) if inner.succeeded());
                let succeeded = done.succeeded() || done.op_responses().into_iter().any(nested);
                Ok(reply(done.header(), true, Body::Txn(succeeded)))
            }
            Rpc::Grant(seconds) => {
                let lease = self.client.lease_grant(*seconds, None).await?;
                Ok(reply(lease.header(), true, Body::Lease(lease.id(), lease.ttl())))
            }
            Rpc::KeepAlive(lease) => self.keep_alive(*lease).await,
            Rpc::Revoke(lease) => {
                let done = self.client.lease_revoke(*lease).await?;
                Ok(reply(done.header(), true, Body::Done))
            }
            Rpc::Members => {
                let found = self.client.member_list().await?;
                // Learners answer nothing that we ask.
                let voters = found.members().iter().filter(|m| !m.is_learner());
                let urls = voters.flat_map(|m| m.client_urls().iter().cloned());
                Ok(reply(found.header(), false, Body::Urls(Some(urls.collect()))))
            }
        }
    }

    async fn keep_alive(&mut self, lease: i64) -> Result<Reply, Error> {
        let open = locked(&self.renewals).take().filter(|renewals| renewals.lease == lease);
        if let Some(mut renewals) = open {
            if let Some(reply) = renewals.next().await {
                if matches!(reply.body, Body::Alive(true)) {
                    *locked(&self.renewals) = Some(renewals);
                }
                return Ok(reply);
            }
            // The stream has ended, as it does when etcd is restarted: it is asked on a new one.
        }
        let alive = match self.client.lease_keep_alive(lease).await {
            Ok((ask, answers)) => {
                let kept = Renewals { lease, ask, answers };
                *locked(&self.renewals) = Some(kept).filter(|_| self.manner.streams);
                true
            }
            // The client's word for an answer without a TTL.
            Err(Error::LeaseKeepAliveError(text)) if text == "lease not found" => false,
            Err(error) => return Err(error),
        };
        // The client shows no header of a stream's first answer. But an old leader that does not know that it is none goes
        // on answering (https://github.com/etcd-io/etcd/issues/15247): its term tells.
        match self.client.lease_time_to_live(lease, None).await {
            Ok(found) => Ok(reply(found.header(), false, Body::Alive(alive))),
            Err(error) if matches!(classify(&error), Failure::Node(_) | Failure::Busy(_)) => Err(error),
            Err(_) => Ok(reply(None, false, Body::Alive(alive))),
        }
    }
}

impl Renewals {
    /// Asks once more, on the open stream. None: it has ended, and nobody has answered.
    async fn next(&mut self) -> Option<Reply> {
        self.ask.keep_alive().await.ok()?;
        let answer = self.answers.message().await.ok()??;
        let alive = answer.id() == self.lease && answer.ttl() > 0;
        Some(reply(answer.header(), false, Body::Alive(alive)))
    }
}

fn reply(header: Option<&ResponseHeader>, by_majority: bool, body: Body) -> Reply {
    let (cluster, term, revision) =
        header.map_or((0, 0, 0), |h| (h.cluster_id(), h.raft_term(), h.revision()));
    Reply { told: Told { cluster, term, revision, by_majority }, repeated: false, body }
}

/// As it came.
pub fn kv(found: &KeyValue) -> Kv {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Kv {
        key: text(found.key()),
        value: text(found.value()),
        create_revision: found.create_revision(),
        mod_revision: found.mod_revision(),
        lease: found.lease(),
    }
}

/// The options of a put that is attached to a lease; 0 for none.
fn put_options(lease: i64) -> Option<PutOptions> {
    (lease != 0).then(|| PutOptions::new().with_lease(lease))
}

fn transaction(txn: &Txn) -> etcd_client::Txn {
    let key = txn.key.as_str();
    let compare = |cmp: &Cmp| match cmp {
        Cmp::Absent => Compare::create_revision(key, CompareOp::Equal, 0),
        Cmp::Revision(revision) => Compare::mod_revision(key, CompareOp::Equal, *revision),
        Cmp::Value(value) => Compare::value(key, CompareOp::Equal, value.as_str()),
        Cmp::Lease(lease) => Compare::lease(key, CompareOp::Equal, *lease),
        Cmp::MadeBefore(revision) => Compare::create_revision(key, CompareOp::Less, *revision),
    };
    let op = |op: &Op| match op {
        Op::Put(value, lease) => TxnOp::put(key, value.as_str(), put_options(*lease)),
        Op::Delete => TxnOp::delete(key, None),
    };
    let when: Vec<Compare> = txn.when.iter().map(compare).collect();
    let outer = etcd_client::Txn::new().when(when).and_then([op(&txn.then)]);
    match &txn.otherwise {
        Some((when, then)) => {
            let inner = etcd_client::Txn::new().when([compare(when)]).and_then([op(then)]);
            outer.or_else([TxnOp::txn(inner)])
        }
        None => outer,
    }
}

/// Connects and, with credentials, authenticates. The client is bound to the tokio
/// runtime it was made in.
///
/// # Errors
/// The TLS files are not usable, or authentication has failed. A node that cannot be
/// reached may show at the first request only.
async fn connect(url: &str, options: &EtcdOptions, manner: Manner) -> Result<Client, Failure> {
    let connect = ConnectOptions::new().with_require_leader(manner.require_leader);
    let Some((user, password)) = &options.credentials else {
        let channel = channel(url, options, manner).await?;
        return Client::from_channel(channel, Some(connect)).await.map_err(|e| classify(&e));
    };
    tracing::debug!(target: "patroni.dcs.etcd3", "Trying to authenticate on Etcd...");
    let with_user = connect.clone().with_user(user, password);
    match Client::from_channel(channel(url, options, manner).await?, Some(with_user)).await {
        Err(error) if auth_not_enabled(&error) => {
            tracing::debug!(target: "patroni.dcs.etcd3", "Etcd authentication is not enabled");
            let channel = channel(url, options, manner).await?;
            Client::from_channel(channel, Some(connect)).await.map_err(|e| classify(&e))
        }
        other => other.map_err(|e: Error| classify(&e)),
    }
}

/// A channel of our own: etcd-client's sockets wait with small messages for
/// acknowledgements (40 ms a request), and it backs off from a node that failed
/// for up to minutes, where failing over is our business.
async fn channel(url: &str, options: &EtcdOptions, manner: Manner) -> Result<Channel, Failure> {
    let refused = |e: &dyn std::fmt::Display| Failure::Refused(e.to_string());
    let mut tcp = HttpConnector::new_with_resolver(Resolver::new());
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(manner.connect_timeout));
    // The libraries take any scheme but `https`, in these letters, for one without TLS.
    let (word, rest) = url.split_once("://").unwrap_or(("", url));
    let scheme = address::scheme(word, &format!("the URL {url} of an etcd node")).map_err(|e| refused(&e))?;
    let endpoint = Endpoint::from_shared(format!("{scheme}://{rest}"))
        .map_err(|e| refused(&e))?
        .connect_timeout(manner.connect_timeout)
        .http2_keep_alive_interval(manner.ping.0)
        .keep_alive_timeout(manner.ping.1)
        .keep_alive_while_idle(false);
    if scheme == "http" {
        return Ok(Channel::Tonic(endpoint.connect_with_connector_lazy(tcp)));
    }
    let tls = options.tls.clone();
    // Certificates are read from files.
    let builder = tokio::task::spawn_blocking(move || client_builder(&tls)).await;
    let mut builder = builder.map_err(|e| refused(&e))?.map_err(|e| refused(&e))?;
    builder.set_alpn_protos(b"\x02h2").map_err(|e| refused(&e))?;
    let connector = HttpsConnector::with_connector(tcp, builder).map_err(|e| refused(&e))?;
    Ok(Channel::Tonic(endpoint.connect_with_connector_lazy(connector)))
}
