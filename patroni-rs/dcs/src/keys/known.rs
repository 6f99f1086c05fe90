//! The cluster as it was read last, for a cycle in which nothing has happened: what the watch would have told need not be
//! asked again (docs/safety.md).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_core::model::Cluster;
use patroni_core::mutex::locked;

/// All that a read of the cluster may have come before or after.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Before the question went out.
    pub at: Instant,
    /// So many changes the watch had told of.
    pub changes: u64,
    /// So often the store had become another one.
    pub setbacks: u64,
    /// So often a write of our own had begun or ended.
    pub writes: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Known {
    cluster: Mutex<Option<(Arc<Cluster>, Reading)>>,
    open: Mutex<Arc<AtomicBool>>,
    writes: AtomicU64,
}

/// A write that is on its way: what is read meanwhile may be older or newer.
pub struct Writes<'a>(&'a AtomicU64);

impl Drop for Writes<'_> {
    /// Its answer is there, or nobody waits for it any more; a write that is carried out later the watch tells.
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Known {
    /// It is told here whether the watch is open.
    pub fn watched_by(&self, open: Arc<AtomicBool>) {
        *locked(&self.open) = open;
    }

    /// So often a write has begun or ended.
    pub fn written(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// A write of our own begins; it ends with what this gives.
    pub fn writes(&self) -> Writes<'_> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        Writes(&self.writes)
    }

    /// The cluster was read; `reading` is from before.
    pub fn read(&self, cluster: &Arc<Cluster>, reading: Reading) {
        // With a watch that is opened later, what was missed before is told by its first list.
        let open = locked(&self.open).load(Ordering::SeqCst);
        *locked(&self.cluster) = open.then(|| (Arc::clone(cluster), reading));
    }

    /// What was read proves nothing any more.
    pub fn forget(&self) {
        *locked(&self.cluster) = None;
    }

    /// The cluster as it was read last, unless it may have changed since. Somebody has to lead, and nobody to have
    /// ordered anything: where there is something to do, it is done by what is so now.
    pub fn unchanged(&self, now: Reading, stands: impl Fn(Duration) -> bool) -> Option<Arc<Cluster>> {
        if !locked(&self.open).load(Ordering::SeqCst) {
            return None;
        }
        let known = locked(&self.cluster);
        let (cluster, read) = known.as_ref()?;
        let same = (read.changes, read.setbacks, read.writes) == (now.changes, now.setbacks, now.writes);
        let quiet = !cluster.is_unlocked() && cluster.failover.is_none();
        let fresh = stands(now.at.saturating_duration_since(read.at));
        (same && quiet && fresh).then(|| Arc::clone(cluster))
    }
}

#[cfg(test)]
mod tests {
    use patroni_core::model::{Node, Nodes};

    use super::*;

    fn cluster(keys: &[(&str, &str)]) -> Arc<Cluster> {
        let node = |value: &str| Node { value: value.into(), ..Node::default() };
        let nodes: Nodes = keys.iter().map(|(key, value)| ((*key).to_owned(), node(value))).collect();
        Arc::new(Cluster::from_nodes(&nodes))
    }

    /// With an open watch, and the cluster read.
    fn read(cluster: &Arc<Cluster>) -> (Known, Reading, Arc<AtomicBool>) {
        let (known, open) = (Known::default(), Arc::new(AtomicBool::new(true)));
        known.watched_by(Arc::clone(&open));
        let reading = Reading { at: Instant::now(), changes: 5, setbacks: 0, writes: known.written() };
        known.read(cluster, reading);
        (known, reading, open)
    }

    const LED: [(&str, &str); 2] = [("leader", "a"), ("members/a", "{}")];

    #[test]
    fn what_was_read_stands_until_anything_speaks_against_it() {
        let second = Duration::from_secs(1);
        let stands = |age: Duration| age <= second;
        let led = cluster(&LED);
        let (known, reading, open) = read(&led);
        let is = |now: Reading| known.unchanged(now, stands).is_some_and(|known| Arc::ptr_eq(&known, &led));
        assert!(is(reading) && is(Reading { at: reading.at + second, ..reading }));
        assert!(!is(Reading { at: reading.at + second * 2, ..reading }));
        assert!(!is(Reading { changes: 6, ..reading }));
        assert!(!is(Reading { setbacks: 1, ..reading }));
        // A watch that has ended, also one that is opened again: its first list counts as a change.
        open.store(false, Ordering::SeqCst);
        assert!(!is(reading));
        open.store(true, Ordering::SeqCst);
        assert!(is(reading));
        // A write of our own, on its way and after it.
        let writes = known.writes();
        assert!(!is(Reading { writes: known.written(), ..reading }));
        let meanwhile = Reading { writes: known.written(), ..reading };
        known.read(&led, meanwhile);
        drop(writes);
        assert!(!is(Reading { writes: known.written(), ..reading }));
        known.forget();
        assert!(!is(meanwhile));
    }

    #[test]
    fn what_asks_for_something_is_read_anew() {
        let order = ("failover", r#"{"leader": "a"}"#);
        for (keys, stands) in [
            (LED.to_vec(), true),
            (vec![("members/a", "{}")], false),
            (vec![LED[0], LED[1], order], false),
            (Vec::new(), false),
        ] {
            let (known, reading, _) = read(&cluster(&keys));
            assert_eq!(known.unchanged(reading, |_| true).is_some(), stands, "{keys:?}");
        }
        // Read while the watch was not open: what it missed before that nobody tells.
        let (known, reading, open) = read(&cluster(&LED));
        open.store(false, Ordering::SeqCst);
        known.read(&cluster(&LED), reading);
        open.store(true, Ordering::SeqCst);
        assert!(known.unchanged(reading, |_| true).is_none());
    }
}
