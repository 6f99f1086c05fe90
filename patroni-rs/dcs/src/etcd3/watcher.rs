//! The watch that wakes the HA loop. What the loop then sees it reads itself. As long as it
//! tells of nothing, what was read before stands for a few seconds: a watch that has
//! silently died costs that much (docs/safety.md).

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchStream};

use super::failure::{classify, Failure};
use super::gateway::{self, Message};
use super::grpc::{kv, LARGEST_ANSWER};
use super::rpc::{Kv, Rpc};
use super::wire::Node;
use super::Pool;
use crate::watch::{Sink, PAUSE};

/// Watches forever; to be spawned, and aborted at the end.
pub async fn run(pool: Arc<Pool>, prefix: String, mut sink: Sink) {
    loop {
        let followed = follow(&pool, &prefix, &mut sink).await;
        sink.lost();
        if let Err(failure) = followed {
            tracing::error!(target: "patroni.dcs.etcd3", "watchprefix failed: {}", failure.text());
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Lists, then watches from there on. Returns when the list has to be read again.
async fn follow(pool: &Pool, prefix: &str, sink: &mut Sink) -> Result<(), Failure> {
    let mut selected = pool.selected();
    let list = pool.call(&Rpc::List(prefix.to_owned()), pool.deadline()).await?;
    let revision = list.revision();
    let keys: Vec<_> = list
        .keys()
        .into_iter()
        .filter_map(|kv| Some((kv.key.strip_prefix(prefix)?.to_owned(), kv.value, kv.mod_revision)))
        .collect();
    sink.listed(&keys);
    let url = selected.borrow_and_update().clone();
    let node = pool.connect_for_watch(&url).await?;
    let limit = pool.timing().retry_timeout;
    let opening = tokio::time::timeout(limit, Events::open(node, prefix, revision + 1, limit)).await;
    let mut events = opening.unwrap_or_else(|_| Err(Failure::Node("timed out".into())))?;
    sink.opened();
    let quiet = pool.timing().ttl * 2;
    loop {
        tokio::select! {
            message = events.message(quiet) => match message? {
                // Whoever waits for HTTP does not notice that the other side is gone.
                Message::Silence => return Ok(()),
                Message::Canceled => {
                    tracing::info!(target: "patroni.dcs.etcd3", "Watch request canceled");
                    // A node without a leader cancels at once, again and again.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    return Ok(());
                }
                Message::Events(events) => tell(sink, prefix, &events),
            },
            changed = selected.changed() => {
                return changed.map_err(|e| Failure::Node(e.to_string()));
            }
        }
    }
}

/// An open watch.
enum Events {
    Grpc(WatchStream),
    Gateway(gateway::Watch),
}

impl Events {
    async fn open(node: Node, prefix: &str, from: i64, limit: Duration) -> Result<Events, Failure> {
        match node {
            Node::Grpc(grpc) => {
                let mut client = grpc.client.watch_client().max_decoding_message_size(LARGEST_ANSWER);
                let options = WatchOptions::new().with_prefix().with_start_revision(from);
                let stream = client.watch(prefix, Some(options)).await;
                Ok(Events::Grpc(stream.map_err(|e| classify(&e))?))
            }
            Node::Gateway(gateway) => Ok(Events::Gateway(gateway.watch(prefix, from, limit).await?)),
        }
    }

    async fn message(&mut self, quiet: Duration) -> Result<Message, Failure> {
        let stream = match self {
            Events::Gateway(watch) => {
                let message = tokio::time::timeout(quiet, watch.message()).await;
                return message.unwrap_or(Ok(Message::Silence));
            }
            Events::Grpc(stream) => stream,
        };
        let Some(message) = stream.message().await.map_err(|e| classify(&e))? else {
            return Err(Failure::Node("the watch has ended".into()));
        };
        if message.canceled() || message.compact_revision() != 0 {
            return Ok(Message::Canceled);
        }
        let event =
            |event: &etcd_client::Event| Some((event.event_type() == EventType::Put, event.kv().map(kv)?));
        Ok(Message::Events(message.events().iter().filter_map(event).collect()))
    }
}

fn tell(sink: &mut Sink, prefix: &str, events: &[(bool, Kv)]) {
    for (put, kv) in events {
        let Some(name) = kv.key.strip_prefix(prefix) else { continue };
        sink.changed(name, put.then_some(kv.value.as_str()), kv.mod_revision);
    }
}
