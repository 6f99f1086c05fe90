//! The two ways to speak to etcd 3: gRPC, and the JSON gateway where gRPC cannot be had.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use patroni_core::mutex::locked;

use super::failure::Failure;
use super::gateway::Gateway;
use super::grpc::Grpc;
use super::rpc::{Body, Reply, Rpc};
use crate::etcd::wire::{self, Manner};
use crate::etcd::EtcdOptions;
use crate::kv::Level;

/// A connection to a node.
#[derive(Clone)]
pub enum Node {
    /// By gRPC.
    Grpc(Box<Grpc>),
    /// By the gateway.
    Gateway(Box<Gateway>),
}

/// Knows which nodes are spoken to in which way.
#[derive(Default)]
pub struct Wire {
    /// Nodes that answer HTTP/1.1 and not gRPC: a load balancer, or the other port of `--listen-client-http-urls`.
    http_only: Mutex<HashSet<String>>,
}

impl Wire {
    fn http_only(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        locked(&self.http_only)
    }

    /// The node has not understood gRPC, as `grpc` says. Does it answer HTTP? Then it is spoken to like that from now on;
    /// a password that it refuses is an answer, too.
    async fn try_gateway(
        &self,
        url: &str,
        options: &Arc<EtcdOptions>,
        manner: Manner,
        grpc: String,
    ) -> Result<Gateway, Failure> {
        let gateway = match Gateway::connect(url, options, manner).await {
            Err(Failure::Node(_) | Failure::Refused(_)) => return Err(Failure::Node(grpc)),
            answered => answered,
        };
        if self.http_only().insert(url.to_owned()) {
            let text = format!("{url} speaks no gRPC, using its JSON gateway");
            wire::Wire::say(self, Level::Info, &text);
        }
        gateway
    }
}

impl wire::Wire for Wire {
    type Rpc = Rpc;
    type Body = Body;
    type Conn = Node;

    async fn connect(&self, url: &str, options: &Arc<EtcdOptions>, manner: Manner) -> Result<Node, Failure> {
        let gateway = options.use_proxies || self.http_only().contains(url);
        if gateway {
            return Ok(Node::Gateway(Box::new(Gateway::connect(url, options, manner).await?)));
        }
        match Grpc::connect(url, options, manner).await {
            Ok(grpc) => Ok(Node::Grpc(Box::new(grpc))),
            // With credentials the connection has been used already.
            Err(Failure::Node(text)) if not_understood(&text) => {
                let gateway = self.try_gateway(url, options, manner, text).await?;
                Ok(Node::Gateway(Box::new(gateway)))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn send(&self, node: &mut Node, rpc: &Rpc) -> Result<Reply, Failure> {
        let grpc = match node {
            Node::Gateway(gateway) => return gateway.send(rpc).await,
            Node::Grpc(grpc) => grpc,
        };
        match grpc.send(rpc).await {
            // Only to find nodes: whatever else fails is repeated, and by then it is known how.
            Err(Failure::Node(text)) if matches!(rpc, Rpc::Members) && not_understood(&text) => {
                let gateway = self.try_gateway(&grpc.url, &grpc.options, grpc.manner, text).await?;
                gateway.send(rpc).await
            }
            other => other,
        }
    }

    fn members(&self) -> Rpc {
        Rpc::Members
    }

    fn urls(&self, body: Body) -> Option<Vec<String>> {
        match body {
            Body::Urls(urls) => urls,
            _ => Some(Vec::new()),
        }
    }

    fn name(&self) -> &'static str {
        "Etcd3"
    }

    fn what(&self, rpc: &Rpc) -> String {
        rpc.what()
    }

    crate::voice!("patroni.dcs.etcd3");
}

/// Somebody is there, and does not speak gRPC? Nobody there, or silence, says nothing.
fn not_understood(text: &str) -> bool {
    !text.contains("tcp connect error") && text != "timed out"
}
