//! The watch that wakes the HA loop. It only wakes: what the loop then sees it reads
//! itself, so a watch that has silently died costs time and never the truth.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, KeyValue, WatchOptions, WatchResponse};

use super::connect::LARGEST_ANSWER;
use super::failure::{classify, Failure};
use super::pool::Pool;
use super::rpc::Rpc;
use crate::watch::Sink;

/// Watches for ever; to be spawned, and aborted at the end.
pub async fn run(pool: Arc<Pool>, prefix: String, mut sink: Sink) {
    loop {
        if let Err(failure) = follow(&pool, &prefix, &mut sink).await {
            tracing::error!(target: "patroni.dcs.etcd3", "watchprefix failed: {}", failure.text());
            tokio::time::sleep(Duration::from_secs(1)).await;
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
        .filter_map(|kv| {
            let value = String::from_utf8_lossy(kv.value()).into_owned();
            Some((name(&kv, prefix)?, value, kv.mod_revision()))
        })
        .collect();
    sink.listed(&keys);
    let url = selected.borrow_and_update().clone();
    let mut client =
        pool.connect_for_watch(&url).await?.watch_client().max_decoding_message_size(LARGEST_ANSWER);
    let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
    let opening = client.watch(prefix, Some(options));
    let stream = tokio::time::timeout(pool.timing().retry_timeout, opening).await;
    let mut stream = stream.map_err(|_| Failure::Node("timed out".into()))?.map_err(|e| classify(&e))?;
    loop {
        tokio::select! {
            message = stream.message() => match message.map_err(|e| classify(&e))? {
                Some(message) if message.canceled() || message.compact_revision() != 0 => {
                    tracing::info!(target: "patroni.dcs.etcd3", "Watch request canceled");
                    // A node without a leader cancels at once, again and again.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    return Ok(());
                }
                Some(message) => apply(sink, prefix, &message),
                None => return Err(Failure::Node("the watch has ended".into())),
            },
            changed = selected.changed() => {
                return changed.map_err(|e| Failure::Node(e.to_string()));
            }
        }
    }
}

fn apply(sink: &mut Sink, prefix: &str, message: &WatchResponse) {
    for event in message.events() {
        let Some((kv, name)) = event.kv().and_then(|kv| Some((kv, name(kv, prefix)?))) else { continue };
        let value = String::from_utf8_lossy(kv.value());
        let put = event.event_type() == EventType::Put;
        sink.changed(&name, put.then_some(&*value), kv.mod_revision());
    }
}

/// The key without the prefix.
fn name(kv: &KeyValue, prefix: &str) -> Option<String> {
    Some(String::from_utf8_lossy(kv.key()).strip_prefix(prefix)?.to_owned())
}
