//! The watch that wakes the HA loop. It only wakes: what the loop then sees it reads
//! itself, so a watch that has silently died costs time and never the truth.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse};
use tokio::sync::{watch, Notify};

use super::connect::LARGEST_ANSWER;
use super::failure::{classify, Failure};
use super::pool::Pool;
use super::rpc::Rpc;
use super::wake::WakeRules;

/// Who is told.
pub struct Tell {
    /// The HA loop, of what matters to it.
    pub wake: Arc<Notify>,
    /// Anybody, of every change.
    pub changes: watch::Sender<u64>,
}

impl Tell {
    fn tell(&self, wake: bool) {
        self.changes.send_modify(|count| *count += 1);
        if wake {
            self.wake.notify_one();
        }
    }
}

/// Watches for ever; to be spawned, and aborted at the end.
pub async fn run(pool: Arc<Pool>, prefix: String, mut rules: WakeRules, tell: Tell) {
    loop {
        if let Err(failure) = follow(&pool, &prefix, &mut rules, &tell).await {
            tracing::error!(target: "patroni.dcs.etcd3", "watchprefix failed: {}", failure.text());
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// Lists, then watches from there on. Returns when the list has to be read again.
async fn follow(pool: &Pool, prefix: &str, rules: &mut WakeRules, tell: &Tell) -> Result<(), Failure> {
    let mut selected = pool.selected();
    let list = pool.call(&Rpc::List(prefix.to_owned()), pool.deadline()).await?;
    let revision = list.revision();
    let keys: Vec<_> = list
        .keys()
        .into_iter()
        .map(|kv| (String::from_utf8_lossy(kv.key()).into_owned(), kv.value().to_vec(), kv.mod_revision()))
        .collect();
    tell.tell(rules.listed(&keys));
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
                Some(message) => tell.tell(apply(rules, &message)),
                None => return Err(Failure::Node("the watch has ended".into())),
            },
            changed = selected.changed() => {
                return changed.map_err(|e| Failure::Node(e.to_string()));
            }
        }
    }
}

fn apply(rules: &mut WakeRules, message: &WatchResponse) -> bool {
    let mut wake = false;
    for event in message.events() {
        let Some(kv) = event.kv() else { continue };
        let key = String::from_utf8_lossy(kv.key());
        let value = (event.event_type() == EventType::Put).then(|| kv.value());
        wake |= rules.changed(&key, value, kv.mod_revision());
    }
    wake
}
