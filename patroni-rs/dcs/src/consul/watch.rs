//! The watch: a blocking query of all keys of the cluster, answered by the first change of any.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer::Meaning;
use super::api::{bare, Api, Ask, Said};
use super::options::LiveOptions;
use super::wire::{from_json, nodes, Entry};
use crate::watch::{Sink, PAUSE};

/// Answers without a change that come faster than this are no waiting.
const BUSY: Duration = Duration::from_millis(50);

/// Where a blocking query goes on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Position(u64);

impl Position {
    /// An answer had this index; is there anything new in it? An index that goes back (a new or a restored Consul)
    /// begins anew, as Consul's documentation asks for.
    fn heard(&mut self, index: u64) -> bool {
        let new = index != self.0;
        self.0 = if index < self.0 { 0 } else { index };
        new
    }
}

/// Watches forever.
pub async fn run(api: Arc<Api>, prefix: String, mut sink: Sink) {
    let mut position = Position::default();
    loop {
        let begun = Instant::now();
        match look(&api, &prefix, &mut position).await {
            Ok(Some(keys)) => sink.listed(&keys),
            Ok(None) if begun.elapsed() < BUSY => tokio::time::sleep(BUSY).await,
            Ok(None) => {}
            Err(text) => {
                tracing::error!(target: "patroni.dcs.consul", "watch: {text}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The keys as they are after the next change; None: nothing has changed for `loop_wait`.
async fn look(
    api: &Api,
    prefix: &str,
    position: &mut Position,
) -> Result<Option<Vec<(String, String, i64)>>, String> {
    let wait = api.shared().timing().loop_wait;
    let (ask, timeout) = ask(&api.shared().live_options(), prefix, position, wait);
    let reply = match api.attempt(&ask, timeout).await {
        Ok(reply) => reply,
        Err(Meaning::Again(text)) => return Err(text),
        Err(Meaning::Final(failure)) => return Err(failure.text().to_owned()),
        Err(other) => return Err(format!("{other:?}")),
    };
    let index = reply.index.ok_or("no X-Consul-Index in the answer")?;
    let entries: Vec<Entry> = match reply.said {
        Said::Yes => from_json(&reply.body).map_err(|failure| failure.text().to_owned())?,
        Said::NotFound | Said::Refused => Vec::new(),
    };
    if !position.heard(index) {
        return Ok(None);
    }
    let nodes = nodes(&entries, bare(prefix));
    let keys =
        nodes.into_iter().map(|(key, node)| (key, node.value, node.version.parse().unwrap_or_default()));
    Ok(Some(keys.collect()))
}

/// The request, and how long it may take: Consul waits for up to a sixteenth longer than it is told.
fn ask(options: &LiveOptions, prefix: &str, position: &Position, wait: Duration) -> (Ask, Duration) {
    let mut ask = Ask::key("GET", prefix);
    if position.0 != 0 {
        let wait = format!("{}s", pyfmt::value::float_repr(wait.as_secs_f64()));
        ask = ask.with("index", position.0.to_string()).with("wait", wait);
    }
    let ask = ask.with("recurse", "1").in_dc(options).consistent(options.consistency);
    (ask, wait + (wait / 15).max(Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions() {
        let mut position = Position::default();
        for (index, new, then) in [(7, true, 7), (7, false, 7), (9, true, 9), (3, true, 0), (3, true, 3)] {
            assert_eq!((position.heard(index), position.0), (new, then), "{index}");
        }
    }

    #[test]
    fn how_long_a_query_may_take() {
        let s = Duration::from_secs;
        let options = LiveOptions::default();
        assert_eq!(ask(&options, "/a/", &Position(3), s(10)).1, s(11));
        assert_eq!(ask(&options, "/a/", &Position(3), s(30)).1, s(32));
    }
}
