//! The watches: one of the objects that hold state, one of the Pods. They only wake.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use tokio::task::JoinHandle;

use super::objects::Objects;
use super::port::{Failure, ObjectStore as _, Which};
use super::view::Names;
use super::wire::{Event, Object, Status};
use crate::kv::Effort;
use crate::watch::Sink;

const LOG: &str = "patroni.dcs.kubernetes";

/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// A line that is longer is no event.
const LONGEST: usize = 16 * 1024 * 1024;

/// Starts both. They end with the last of the handles' abortion.
pub fn start(objects: &Arc<Objects>, sink: Sink) -> Vec<JoinHandle<()>> {
    let sink = Arc::new(Mutex::new(sink));
    [Which::State, Which::Pods]
        .into_iter()
        .map(|which| {
            let kind = objects.kind(which);
            let watch = Watch { objects: Arc::clone(objects), which, kind, sink: Arc::clone(&sink) };
            tokio::spawn(watch.run())
        })
        .collect()
}

struct Watch {
    objects: Arc<Objects>,
    which: Which,
    kind: &'static str,
    sink: Arc<Mutex<Sink>>,
}

/// How a watch ended.
enum End {
    /// It goes on from here.
    Later(String),
    /// Everything is to be listed anew.
    Anew,
}

impl Watch {
    async fn run(self) {
        // Where the watch goes on; None: where a new list ends.
        let mut position: Option<String> = None;
        loop {
            let from = match position.take() {
                Some(from) => Ok(from),
                None => self.list().await,
            };
            let ended = match from {
                Ok(from) => self.follow(from).await,
                Err(failure) => Err(failure),
            };
            match ended {
                Ok(End::Later(version)) => position = Some(version),
                Ok(End::Anew) => {}
                Err(failure) => {
                    tracing::error!(target: LOG, "watch of {}: {}", self.kind, failure.text());
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn tell(&self, tell: impl FnOnce(&mut Sink, &Names)) {
        let mut sink = locked(&self.sink);
        tell(&mut sink, &self.objects.scope().names);
    }

    async fn list(&self) -> Result<String, Failure> {
        let deadline = Instant::now() + self.objects.api().shared().timing().retry_timeout;
        let list = self.objects.list(self.which, Effort::Until(deadline)).await?;
        let objects = list.items.unwrap_or_default();
        self.tell(|sink, names| {
            if self.which == Which::Pods {
                objects.iter().for_each(|pod| sink.changed(&member(pod), Some(""), order(pod)));
            } else {
                let keys = objects.iter().flat_map(|object| keys(names, object));
                let keys = keys.filter_map(|(key, value, order)| Some((key.to_owned(), value?, order)));
                sink.listed(&keys.collect::<Vec<_>>());
            }
        });
        Ok(list.metadata.resource_version)
    }

    /// Hears of changes after that version, until there is nothing to be heard for so long that something must be wrong:
    /// the leader object changes in each cycle of the leader.
    async fn follow(&self, from: String) -> Result<End, Failure> {
        let timing = self.objects.api().shared().timing();
        let silence = timing.ttl.max(timing.loop_wait + timing.retry_timeout);
        let ask = self.objects.all("GET", self.kind).with("watch", "True");
        let ask = ask.with("allowWatchBookmarks", "true").with("resourceVersion", from.clone());
        let (mut stream, server) = match self.objects.api().watch(&ask).await {
            Ok(opened) => opened,
            Err(Failure::TooOld) => return Ok(End::Anew),
            Err(failure) => return Err(failure),
        };
        let (mut position, mut lines, began) = (from, Lines::default(), Instant::now());
        loop {
            let heard = tokio::select! {
                heard = tokio::time::timeout(silence, stream.chunk()) => heard,
                () = self.objects.api().left(&server) => return Ok(End::Later(position)),
            };
            let chunk = match heard {
                Ok(Ok(Some(chunk))) => chunk,
                // Ended at once, again and again, is no watch.
                Ok(Ok(None)) if began.elapsed() < PAUSE => {
                    return Err(Failure::Unknown("ended at once".into()))
                }
                Ok(Ok(None)) | Err(_) => return Ok(End::Later(position)),
                Ok(Err(error)) => return Err(Failure::Unknown(error.to_string())),
            };
            for line in lines.add(&chunk)? {
                match self.event(&line)? {
                    Some(version) => position = version,
                    None => return Ok(End::Anew),
                }
            }
        }
    }

    /// The version that the watch is at after this event; None: it cannot go on.
    fn event(&self, line: &[u8]) -> Result<Option<String>, Failure> {
        let bad = |e: serde_json::Error| Failure::Unknown(format!("unexpected event of Kubernetes: {e}"));
        let event: Event = serde_json::from_slice(line).map_err(bad)?;
        if event.kind == "ERROR" {
            let status: Status = serde_json::from_value(event.object).unwrap_or_default();
            if status.code != 410 {
                return Err(Failure::Unknown(format!("({}) {}", status.code, status.message)));
            }
            return Ok(None);
        }
        let object: Object = serde_json::from_value(event.object).map_err(bad)?;
        let deleted = match event.kind.as_str() {
            "ADDED" | "MODIFIED" => false,
            "DELETED" => true,
            "BOOKMARK" => return Ok(Some(object.version().to_owned())),
            other => {
                tracing::warn!(target: LOG, "Unexpected event type: {other}");
                return Ok(Some(object.version().to_owned()));
            }
        };
        self.tell(|sink, names| {
            if self.which == Which::Pods {
                sink.changed(&member(&object), Some("").filter(|_| !deleted), order(&object));
                return;
            }
            let mut told = false;
            for (key, value, order) in keys(names, &object) {
                told = true;
                sink.changed(key, value.as_deref().filter(|_| !deleted), order);
            }
            if !told {
                sink.changed(object.name(), None, order(&object));
            }
        });
        Ok(Some(object.version().to_owned()))
    }
}

fn member(pod: &Object) -> String {
    format!("members/{}", pod.name())
}

fn order(object: &Object) -> i64 {
    object.version().parse().unwrap_or_default()
}

/// The keys that the loop is woken by, as other stores have them: name, value, order.
fn keys(names: &Names, object: &Object) -> Vec<(&'static str, Option<String>, i64)> {
    let order = order(object);
    let text = |name: &str| object.annotation(name).map(str::to_owned);
    if object.name() == names.leader {
        let status = ["optime", "slots", "retain_slots", "failsafe"].map(text);
        let status = status.map(Option::unwrap_or_default).join("\n");
        let leader = text("leader").filter(|name| !name.is_empty());
        return vec![("leader", leader, order), ("status", Some(status), order)];
    }
    if object.name() == names.config {
        return vec![("config", text("config"), order)];
    }
    Vec::new()
}

/// The lines of a stream that comes in pieces.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// What is complete with this piece.
    fn add(&mut self, piece: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        self.0.extend_from_slice(piece);
        let mut lines = Vec::new();
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let rest = self.0.split_off(end + 1);
            let line = std::mem::replace(&mut self.0, rest);
            if !line.trim_ascii().is_empty() {
                lines.push(line);
            }
        }
        if self.0.len() > LONGEST {
            return Err(Failure::Unknown("an event is too long".into()));
        }
        Ok(lines)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_in_pieces() {
        let mut lines = Lines::default();
        let mut add = |piece: &str| -> Vec<String> {
            let found = lines.add(piece.as_bytes()).unwrap();
            found.into_iter().map(|line| String::from_utf8(line).unwrap()).collect()
        };
        assert_eq!(add("{\"a\""), Vec::<String>::new());
        assert_eq!(add(":1}\n{\"b\":2}\n\n{"), ["{\"a\":1}\n", "{\"b\":2}\n"]);
        assert_eq!(add("}\n"), ["{}\n"]);
    }

    #[test]
    fn what_objects_tell() {
        let names = Names::of("demo", None, false);
        let object = |name: &str, annotations: &str| -> Object {
            let text = format!(
                r#"{{"metadata":{{"name":"{name}","resourceVersion":"7","annotations":{annotations}}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let leader = |renewed: &str, optime: &str| {
            let annotations = format!(r#"{{"leader":"a","renewTime":"{renewed}","optime":"{optime}"}}"#);
            keys(&names, &object("demo-leader", &annotations))
        };
        assert_eq!(leader("1", "5")[0], ("leader", Some("a".into()), 7));
        // A renewal alone tells nothing new; a position does.
        assert_eq!(leader("1", "5"), leader("2", "5"));
        assert_ne!(leader("1", "5"), leader("1", "6"));
        assert_eq!(keys(&names, &object("demo-leader", "null"))[0].1, None);
        assert_eq!(
            keys(&names, &object("demo-config", r#"{"config":"{}"}"#)),
            [("config", Some("{}".into()), 7)]
        );
        assert!(keys(&names, &object("demo-sync", "{}")).is_empty());
    }
}
