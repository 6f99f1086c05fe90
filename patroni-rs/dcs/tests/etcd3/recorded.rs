//! The requests that each operation makes, in their order: golden, so that a change of the layers above the wire shows.
//! `GOLDEN=write` writes the file anew.

use patroni_core::model::Lsn;
use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::{span, Event, Metadata, Subscriber};

use super::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/etcd3/recorded.txt");

/// Keeps the requests that the pool tells of.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<String>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "rpc" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

impl Subscriber for Recorder {
    fn enabled(&self, meta: &Metadata<'_>) -> bool {
        meta.target() == "dcs::etcd::rpc"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// Bytes as text, and numbers of more than two digits (leases, revisions of a store that is never that old) as N.
fn readable(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('[') {
        let Some(end) = rest[at..].find(']') else { break };
        let inner = &rest[at + 1..at + end];
        let bytes: Option<Vec<u8>> =
            inner.split(", ").filter(|b| !b.is_empty()).map(|b| b.parse().ok()).collect();
        out.push_str(&rest[..at]);
        match bytes {
            Some(bytes) => {
                let _ = write!(out, "'{}'", String::from_utf8_lossy(&bytes));
                rest = &rest[at + end + 1..];
            }
            None => {
                out.push('[');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    let number = |part: &str| part.len() > 9 && part.bytes().all(|b| b.is_ascii_digit());
    out.split_inclusive(|c: char| !c.is_ascii_digit())
        .map(|part| {
            let digits = part.trim_end_matches(|c: char| !c.is_ascii_digit());
            if number(digits) {
                part.replacen(digits, "N", 1)
            } else {
                part.to_owned()
            }
        })
        .collect()
}

async fn note<T: std::fmt::Debug>(
    recorder: &Recorder,
    story: &mut String,
    what: &str,
    operation: impl Future<Output = T>,
) -> T {
    recorder.0.lock().unwrap().clear();
    let answer = operation.await;
    let _ = writeln!(story, "{what}");
    for rpc in recorder.0.lock().unwrap().drain(..) {
        let _ = writeln!(story, "    {}", readable(&rpc));
    }
    answer
}

#[tokio::test]
async fn the_requests_of_each_operation() {
    let etcd = Etcd::single();
    let recorder = Recorder::default();
    let dcs = start("n1", &[&etcd.url]).await;
    dcs.get_cluster().await.unwrap();
    // What the watch asks at the start is none of this.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _guard = tracing::subscriber::set_default(recorder.clone());
    let mut s = String::new();
    let (r, yes, no) = (&recorder, Ok(true), Ok(false));
    let slots = [("n1".to_owned(), Lsn::new(5))].into_iter().collect();
    let status = Status { last_lsn: Lsn::new(5), slots: Some(slots), retain_slots: vec!["n1".into()] };
    let failsafe = Value::from_iter([("n1", "http://h:8008/patroni")]);

    assert_eq!(note(r, &mut s, "initialize, new", dcs.initialize(true, "")).await, yes);
    assert_eq!(note(r, &mut s, "initialize, new, there", dcs.initialize(true, "")).await, no);
    assert_eq!(note(r, &mut s, "initialize, sysid", dcs.initialize(false, "7")).await, yes);
    assert_eq!(note(r, &mut s, "cancel_initialization", dcs.cancel_initialization()).await, yes);
    assert_eq!(note(r, &mut s, "initialize, new sysid", dcs.initialize(true, "7")).await, yes);
    assert_eq!(note(r, &mut s, "initialize, new sysid, there", dcs.initialize(true, "8")).await, no);
    let config = Value::from_iter([("ttl", 30)]);
    assert_eq!(note(r, &mut s, "set_config", dcs.set_config(&config, None)).await, yes);
    assert_eq!(note(r, &mut s, "touch_member", dcs.touch_member(&data("running"))).await, yes);
    note(r, &mut s, "get_cluster", dcs.get_cluster()).await.unwrap();
    assert_eq!(note(r, &mut s, "touch_member, the same", dcs.touch_member(&data("running"))).await, yes);
    dcs.watch(false, Duration::from_millis(1)).await;
    assert_eq!(note(r, &mut s, "touch_member, another cycle", dcs.touch_member(&data("running"))).await, yes);
    assert_eq!(note(r, &mut s, "acquire_leader", dcs.acquire_leader(None)).await, yes);
    assert_eq!(note(r, &mut s, "acquire_leader, held", dcs.acquire_leader(None)).await, no);
    assert_eq!(note(r, &mut s, "take_leader", dcs.take_leader()).await, yes);
    let cluster = dcs.get_cluster().await.unwrap();
    let leader = cluster.leader.clone().unwrap();
    let update = dcs.update_leader(&leader, Some(&status), Some(&failsafe));
    assert_eq!(note(r, &mut s, "update_leader", update).await, yes);
    let update = dcs.update_leader(&leader, Some(&status), Some(&failsafe));
    assert_eq!(note(r, &mut s, "update_leader, nothing new", update).await, yes);
    let version = cluster.config.as_ref().unwrap().version.clone();
    assert_eq!(note(r, &mut s, "set_config, version", dcs.set_config(&config, Some(&version))).await, yes);
    assert_eq!(note(r, &mut s, "set_config, old version", dcs.set_config(&config, Some(&version))).await, no);
    let failover = dcs.manual_failover(FailoverOrder { leader: Some("n1"), ..Default::default() }, None);
    assert_eq!(note(r, &mut s, "manual_failover", failover).await, yes);
    let reset = dcs.manual_failover(FailoverOrder::default(), Some("1"));
    assert_eq!(note(r, &mut s, "manual_failover, old version", reset).await, no);
    let standbys = ["b".to_owned()];
    let sync = note(r, &mut s, "write_sync", dcs.write_sync("n1", &standbys, 0, None)).await;
    let version = sync.unwrap().unwrap().version.unwrap();
    let sync = dcs.write_sync("n1", &[], 0, Some(&version));
    assert!(note(r, &mut s, "write_sync, version", sync).await.unwrap().is_some());
    assert_eq!(note(r, &mut s, "delete_sync, old version", dcs.delete_sync(Some(&version))).await, no);
    assert_eq!(note(r, &mut s, "delete_sync", dcs.delete_sync(None)).await, yes);
    assert_eq!(note(r, &mut s, "set_history", dcs.set_history("[]")).await, yes);
    assert_eq!(note(r, &mut s, "write_status", dcs.write_status(Lsn::new(9))).await, yes);
    assert_eq!(note(r, &mut s, "write_failsafe, the same", dcs.write_failsafe(&failsafe)).await, yes);
    assert_eq!(note(r, &mut s, "write_failsafe", dcs.write_failsafe(&Value::map())).await, yes);
    note(r, &mut s, "get_groups", dcs.get_groups()).await.unwrap();
    assert_eq!(
        note(r, &mut s, "delete_leader", dcs.delete_leader(Some(&leader), Some(Lsn::new(11)))).await,
        yes
    );
    assert_eq!(note(r, &mut s, "delete_leader, none", dcs.delete_leader(None, None)).await, no);
    etcd.run(&["put", &key("leader"), "n1"]);
    let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();
    assert_eq!(
        note(r, &mut s, "update_leader, on no lease", dcs.update_leader(&leader, None, None)).await,
        yes
    );
    etcd.run(&["put", &key("leader"), "n2"]);
    assert_eq!(note(r, &mut s, "take_leader, another's", dcs.take_leader()).await, no);
    // The lease is gone.
    let stopped = data("stopped");
    let gone = |dcs: &Etcd3| etcd.run(&["lease", "revoke", &format!("{:x}", dcs.lease_id().unwrap())]);
    etcd.run(&["del", &key("leader")]);
    gone(&dcs);
    assert_eq!(note(r, &mut s, "acquire_leader, lease gone", dcs.acquire_leader(None)).await, yes);
    gone(&dcs);
    let touched = dcs.touch_member(&stopped);
    assert_eq!(note(r, &mut s, "touch_member, lease gone", touched).await, no);
    let touched = dcs.touch_member(&stopped);
    assert_eq!(note(r, &mut s, "touch_member, again", touched).await, yes);
    gone(&dcs);
    dcs.watch(false, Duration::from_millis(1)).await;
    assert_eq!(
        note(r, &mut s, "update_leader, lease gone", dcs.update_leader(&leader, None, None)).await,
        no
    );
    assert_eq!(note(r, &mut s, "delete_cluster", dcs.delete_cluster()).await, yes);

    if std::env::var_os("GOLDEN").is_some() {
        std::fs::write(GOLDEN, &s).unwrap();
    }
    let golden = std::fs::read_to_string(GOLDEN).unwrap();
    assert_eq!(s, golden, "the requests have changed");
}
