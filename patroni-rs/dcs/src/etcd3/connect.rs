//! A connection to one node.

use std::time::Duration;

use etcd_client::{Client, ConnectOptions, Error, OpenSslClientConfig};
use patroni_net::{client_builder, configure_client, NetError, TlsOptions};

use super::failure::{auth_not_enabled, classify, Failure};
use crate::etcd::EtcdOptions;

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
    let mut connect = ConnectOptions::new()
        .with_connect_timeout(manner.connect_timeout)
        .with_keep_alive(manner.ping.0, manner.ping.1)
        .with_keep_alive_while_idle(false)
        .with_require_leader(manner.require_leader);
    if url.starts_with("https:") {
        let tls = options.tls.clone();
        let config = tokio::task::spawn_blocking(move || tls_config(&tls)).await;
        let config = config.map_err(|e| Failure::Refused(e.to_string()))?;
        connect = connect.with_openssl_tls(config.map_err(|e| Failure::Refused(e.to_string()))?);
    }
    let Some((user, password)) = &options.credentials else {
        return Client::connect([url], Some(connect)).await.map_err(|e| classify(&e));
    };
    tracing::debug!(target: "patroni.dcs.etcd3", "Trying to authenticate on Etcd...");
    let with_user = connect.clone().with_user(user, password);
    match Client::connect([url], Some(with_user)).await {
        Err(error) if auth_not_enabled(&error) => {
            tracing::debug!(target: "patroni.dcs.etcd3", "Etcd authentication is not enabled");
            Client::connect([url], Some(connect)).await.map_err(|e| classify(&e))
        }
        other => other.map_err(|e: Error| classify(&e)),
    }
}

fn tls_config(options: &TlsOptions) -> Result<OpenSslClientConfig, NetError> {
    // The closure below can only give OpenSSL's own errors, which do not name the file.
    client_builder(options)?;
    Ok(OpenSslClientConfig::default().manually(|builder| {
        configure_client(builder, options).map_err(|error| match error {
            NetError::Tls { source, .. } => source,
            _ => openssl::error::ErrorStack::get(),
        })
    }))
}
