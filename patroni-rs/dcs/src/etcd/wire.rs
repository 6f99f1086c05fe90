//! How the nodes of an etcd cluster are spoken to: what differs between gRPC, the JSON gateway and the v2 API.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::seen::Told;
use super::EtcdOptions;
use crate::kv::{self, Level};

/// Why a request has not been carried out, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No usable answer from this node: another one may give it.
    Node(String),
    /// The cluster could not do it now; the same request may be repeated.
    Busy(String),
    /// The token or the lack of one was not accepted: authenticate and repeat.
    Token(String),
    /// User or password are wrong.
    Password(String),
    /// The lease is gone.
    LeaseNotFound,
    /// Refused, and it would be again.
    Refused(String),
}

impl Failure {
    /// The text for the log.
    pub fn text(&self) -> &str {
        match self {
            Failure::Node(text) | Failure::Busy(text) | Failure::Token(text) => text,
            Failure::Password(text) | Failure::Refused(text) => text,
            Failure::LeaseNotFound => "etcdserver: requested lease not found",
        }
    }
}

impl From<Failure> for kv::Failure {
    fn from(failure: Failure) -> kv::Failure {
        match failure {
            Failure::Node(text) | Failure::Busy(text) => kv::Failure::Unknown(text),
            Failure::Token(text) | Failure::Password(text) => kv::Failure::Denied(text),
            Failure::LeaseNotFound => kv::Failure::SessionGone(Failure::LeaseNotFound.text().to_owned()),
            Failure::Refused(text) => kv::Failure::Refused(text),
        }
    }
}

/// How a node is to be connected to.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Limit for the TCP connection and the TLS handshake; and for a request that connecting takes.
    pub connect_timeout: Duration,
    /// HTTP/2 pings while a request or a watch is open. etcd disconnects clients that
    /// ping more often than every 5 seconds.
    pub ping: (Duration, Duration),
    /// Fail at once where the node has lost the leader of its cluster.
    pub require_leader: bool,
    /// Streams may stay open between two requests: somebody serves the connection meanwhile.
    pub streams: bool,
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Reply<B> {
    /// What it says of the store; the revision is that of the store when it was done.
    pub told: Told,
    /// An earlier attempt of the same request may have been carried out, too.
    pub repeated: bool,
    /// The rest.
    pub body: B,
}

impl<B> Reply<B> {
    /// Revision of the store when it was done.
    pub fn revision(&self) -> i64 {
        self.told.revision
    }
}

/// A way to speak to nodes.
pub trait Wire: Send + Sync + 'static {
    /// A request, as a value: so that it can be repeated at another node.
    type Rpc: std::fmt::Debug + Send + Sync;
    /// What is in the answer.
    type Body: Send;
    /// A connection, cheap to clone.
    type Conn: Clone + Send + Sync;

    /// A connection to a node; with credentials, authenticated. It belongs to the tokio runtime it was made in. A node
    /// that cannot be reached may show at the first request only.
    fn connect(
        &self,
        url: &str,
        options: &Arc<EtcdOptions>,
        manner: Manner,
    ) -> impl Future<Output = Result<Self::Conn, Failure>> + Send;

    /// Sends the request and waits for the answer, without any limit of time.
    fn send(
        &self,
        conn: &mut Self::Conn,
        rpc: &Self::Rpc,
    ) -> impl Future<Output = Result<Reply<Self::Body>, Failure>> + Send;

    /// Has etcd looked at user and password, once a connection is there (None), or that request has gone well?
    fn shows_credentials(&self, rpc: Option<&Self::Rpc>) -> bool {
        rpc.is_none()
    }

    /// The question for the members of the cluster.
    fn members(&self) -> Self::Rpc;

    /// The client URLs in the answer to it, without those that answer nothing that we ask. None: they are of no use to
    /// us, and the nodes of the configuration are all there are.
    fn urls(&self, body: Self::Body) -> Option<Vec<String>>;

    /// What we call it: `Etcd`, `Etcd3`.
    fn name(&self) -> &'static str;

    /// What a request is about, for people.
    fn what(&self, rpc: &Self::Rpc) -> String;

    /// Logs a line of this version of the API.
    fn say(&self, level: Level, text: &str);
}
