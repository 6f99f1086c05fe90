//! A connection to one node.

use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, Error, KvClient};
use hyper_openssl::client::legacy::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use patroni_net::client_builder;
use tonic::transport::Endpoint;

use super::failure::{auth_not_enabled, classify, Failure};
use super::resolver::Resolver;
use crate::etcd::EtcdOptions;

/// The largest answer that is read. gRPC's own limit of 4 MiB is less than what a few large values, or many members and
/// slots, make of a cluster; etcd itself holds 2 to 8 GB at most.
pub const LARGEST_ANSWER: usize = 1 << 30;

/// A connection to a node.
#[derive(Clone)]
pub struct Node {
    /// For everything but keys.
    pub client: Client,
    /// For keys: their values may be large.
    pub kv: KvClient,
}

impl Node {
    /// With that connection.
    pub fn new(client: Client) -> Node {
        let kv = client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
        Node { client, kv }
    }
}

/// How a node is to be connected to.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// Limit for the TCP connection and the TLS handshake.
    pub connect_timeout: Duration,
    /// HTTP/2 pings while a request or a watch is open. etcd disconnects clients that
    /// ping more often than every 5 seconds.
    pub ping: (Duration, Duration),
    /// Fail at once where the node has lost the leader of its cluster.
    pub require_leader: bool,
}

/// Connects and, with credentials, authenticates. The client is bound to the tokio
/// runtime it was made in.
///
/// # Errors
/// The TLS files are not usable, or authentication has failed. A node that cannot be
/// reached may show at the first request only.
pub async fn connect(url: &str, options: &EtcdOptions, manner: Manner) -> Result<Client, Failure> {
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
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|e| refused(&e))?
        .connect_timeout(manner.connect_timeout)
        .http2_keep_alive_interval(manner.ping.0)
        .keep_alive_timeout(manner.ping.1)
        .keep_alive_while_idle(false);
    if !url.starts_with("https:") {
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
