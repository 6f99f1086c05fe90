//! The watch: one that lasts and covers everything below the directory (ZooKeeper 3.6 and later), or one-shot watches of
//! every key, also of those that are not there yet.

use std::time::Instant;

use tokio::sync::mpsc;

use super::client::{failure, Client};
use super::list;
use super::proto::{Answer, Code, Op};
use super::shared::Noticed;
use crate::kv::Failure;
use crate::watch::{Sink, PAUSE};

const LOG: &str = "patroni.dcs.zookeeper";

/// Keys that wake the HA loop when they are made, too: an older server watches them by name.
const AWAITED: [&str; 4] = ["leader", "config", "status", "optime/leader"];

/// Tells the sink of changes below the directory for as long as it lives.
pub async fn run(client: Client, directory: String, mut sink: Sink) {
    let (noticer, mut noticed) = mpsc::unbounded_channel();
    client.shared().notice(noticer);
    let mut watcher = Watcher { client, directory, lasting: true, armed: false };
    // Of a connection that was there before, a first look; and then of each that comes.
    while let Some(what) = noticed.recv().await {
        let mut again = watcher.hear(what, &mut sink).await;
        while let Err(failure) = again {
            tracing::error!(target: LOG, "watch: {}", failure.text());
            tokio::time::sleep(PAUSE).await;
            again = watcher.arm(&mut sink).await;
        }
    }
}

struct Watcher {
    client: Client,
    directory: String,
    /// The server knows watches that last.
    lasting: bool,
    armed: bool,
}

impl Watcher {
    fn deadline(&self) -> Instant {
        Instant::now() + self.client.shared().state().timing.retry_timeout
    }

    async fn hear(&mut self, what: Noticed, sink: &mut Sink) -> Result<(), Failure> {
        match what {
            Noticed::Connected(new) => {
                let again = std::mem::replace(&mut self.armed, true);
                self.lasting = true;
                self.arm(sink).await?;
                if new && again {
                    // All that hung on the session of before is gone, or will be.
                    sink.something();
                }
                Ok(())
            }
            Noticed::Changed(path) => {
                let name = path.strip_prefix(&self.directory).and_then(|rest| rest.strip_prefix('/'));
                match name {
                    Some(name) if self.lasting => {
                        let name = name.to_owned();
                        self.look(&name, sink).await
                    }
                    _ if self.lasting => Ok(()),
                    _ => self.arm(sink).await,
                }
            }
        }
    }

    /// What has become of one key.
    async fn look(&self, name: &str, sink: &mut Sink) -> Result<(), Failure> {
        let path = format!("{}/{name}", self.directory);
        let reply = self.client.ask(&[Op::Get { path }], None, self.deadline(), false).await?.replies.pop();
        let Some(reply) = reply else { return Ok(()) };
        match reply.result {
            Ok(Answer::Value(value, stat)) => {
                sink.changed(name, Some(&String::from_utf8_lossy(&value)), stat.mzxid);
                Ok(())
            }
            Err(Code::NO_NODE) => {
                sink.changed(name, None, reply.zxid);
                Ok(())
            }
            Err(code) => Err(failure(code, name)),
            Ok(_) => Err(Failure::Unknown("watch: not the answer to what was asked".into())),
        }
    }

    /// Sets the watches, then reads what they cover.
    async fn arm(&mut self, sink: &mut Sink) -> Result<(), Failure> {
        if self.lasting {
            let op = Op::AddWatch { path: self.directory.clone() };
            let reply = self.client.ask(&[op], None, self.deadline(), false).await?.replies.pop();
            match reply.map(|reply| reply.result) {
                Some(Ok(_)) => {}
                Some(Err(Code::UNIMPLEMENTED)) | None => {
                    tracing::info!(target: LOG, "this ZooKeeper has no lasting watches");
                    self.lasting = false;
                }
                Some(Err(code)) => return Err(failure(code, "watch")),
            }
        }
        let nodes = list::list(&self.client, &self.directory, self.deadline()).await?;
        if !self.lasting {
            self.watch_each(nodes.keys().map(String::as_str)).await?;
        }
        let keys: Vec<_> = nodes
            .into_iter()
            .map(|(name, node)| {
                let order = node.modify_version.and_then(|zxid| zxid.parse().ok()).unwrap_or(0);
                (name, node.value, order)
            })
            .collect();
        sink.listed(&keys);
        Ok(())
    }

    async fn watch_each(&self, names: impl Iterator<Item = &str>) -> Result<(), Failure> {
        let directories = [self.directory.clone(), format!("{}/members", self.directory)];
        let directories = directories.into_iter().map(|path| Op::Children { path, watch: true });
        let names = names.filter(|name| !AWAITED.contains(name)).chain(AWAITED);
        let keys = names.map(|name| Op::Exists { path: format!("{}/{name}", self.directory), watch: true });
        let ops: Vec<Op> = directories.chain(keys).collect();
        self.client.ask(&ops, None, self.deadline(), false).await.map(drop)
    }
}
