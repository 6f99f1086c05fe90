//! What this process has read and written last: for the REST API, and to spare
//! writes that change nothing (surface-dcs 2.2, 2.3, 3).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use patroni_core::model::{Cluster, Lsn, Status};
use patroni_core::mutex::locked;
use patroni_core::parse::deep_compare;
use pyfmt::Value;

/// The first version that reads `/status`; older members need `/optime/leader`.
const READS_STATUS: [u64; 3] = [2, 1, 0];

#[derive(Debug, Default)]
struct State {
    cluster: Option<(Arc<Cluster>, Instant)>,
    last_seen: u64,
    status: Status,
    failsafe: Option<Value>,
    legacy_lsn: Lsn,
}

/// Memory of the last read and the last writes.
#[derive(Debug, Default)]
pub struct Published(Mutex<State>);

impl Published {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.0)
    }

    /// The cluster was read; it stands until then.
    pub fn loaded(&self, cluster: &Arc<Cluster>, until: Instant) {
        let mut state = self.state();
        state.cluster = Some((Arc::clone(cluster), until));
        state.last_seen = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        state.status = cluster.status.clone();
        state.failsafe = cluster.failsafe.clone();
    }

    /// The cluster could not be read, or is no longer what it was.
    pub fn forget_cluster(&self) {
        self.state().cluster = None;
    }

    /// The cluster as of the last read.
    pub fn cluster(&self, now: Instant) -> Option<Arc<Cluster>> {
        let state = self.state();
        state.cluster.as_ref().filter(|(_, until)| *until > now).map(|(cluster, _)| Arc::clone(cluster))
    }

    /// Seconds since 1970 of the last read.
    pub fn last_seen(&self) -> u64 {
        self.state().last_seen
    }

    /// `/failsafe` as far as we know.
    pub fn failsafe(&self) -> Option<Value> {
        self.state().failsafe.clone()
    }

    /// Need this be written to `/status`?
    pub fn status_differs(&self, status: &Status) -> bool {
        self.state().status != normal(status)
    }

    /// It was.
    pub fn status_written(&self, status: &Status) {
        self.state().status = normal(status);
    }

    /// A new position with the slots that were last known.
    pub fn status_at(&self, last_lsn: Lsn) -> Status {
        Status { last_lsn, ..self.state().status.clone() }
    }

    /// Need `/optime/leader` be written for legacy members?
    pub fn legacy_lsn_due(&self, last_lsn: Lsn, now: Instant) -> bool {
        let old = self
            .cluster(now)
            .and_then(|c| c.min_version())
            .is_some_and(|v| v.as_slice() < READS_STATUS.as_slice());
        let mut state = self.state();
        let due = old && state.legacy_lsn != last_lsn;
        if due {
            state.legacy_lsn = last_lsn;
        }
        due
    }

    /// Need this be written to `/failsafe`?
    pub fn failsafe_differs(&self, value: &Value) -> bool {
        match &self.state().failsafe {
            Some(known @ Value::Map(_)) => !deep_compare(known, value),
            _ => true,
        }
    }

    /// It was.
    pub fn failsafe_written(&self, value: &Value) {
        self.state().failsafe = Some(value.clone());
    }
}

/// No slots and an empty list of slots are written alike.
fn normal(status: &Status) -> Status {
    Status { slots: status.slots.clone().filter(|slots| !slots.is_empty()), ..status.clone() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use patroni_core::model::{Member, Node, Nodes};

    fn nodes(keys: &[(&str, &str)]) -> Nodes {
        keys.iter().map(|(k, v)| ((*k).into(), Node { value: (*v).into(), ..Node::default() })).collect()
    }

    #[test]
    fn writes_that_change_nothing_are_spared() {
        let published = Published::default();
        let (now, soon) = (Instant::now(), Instant::now() + Duration::from_secs(9));
        let cluster = Cluster::from_nodes(&nodes(&[
            ("status", r#"{"optime":5,"slots":{"a":1},"retain_slots":["a"]}"#),
            ("failsafe", r#"{"a":"u"}"#),
        ]));
        let status = cluster.status.clone();
        assert!(published.status_differs(&status));
        published.loaded(&Arc::new(cluster), soon);
        assert!(published.cluster(now).is_some() && published.last_seen() > 0);
        assert!(published.cluster(soon).is_none());
        assert!(!published.status_differs(&status));
        let next = published.status_at(Lsn::new(6));
        assert_eq!((next.last_lsn, &next.slots), (Lsn::new(6), &status.slots));
        assert!(published.status_differs(&next));
        published.status_written(&next);
        assert!(!published.status_differs(&next));
        let urls = Value::from_iter([("a", "u")]);
        assert!(!published.failsafe_differs(&urls));
        assert!(published.failsafe_differs(&Value::from_iter([("a", "v")])));
        published.forget_cluster();
        assert!(published.cluster(now).is_none());
    }

    #[test]
    fn old_members_need_the_old_key() {
        let published = Published::default();
        let (now, soon) = (Instant::now(), Instant::now() + Duration::from_secs(9));
        assert!(!published.legacy_lsn_due(Lsn::new(5), now));
        let member = |v: &str| Member::from_node("1", "a", None, &format!(r#"{{"version":"{v}"}}"#));
        for (version, due) in [("4.1.5", false), ("2.1.0", false), ("2.0.2", true)] {
            let cluster = Cluster { members: vec![member("4.0"), member(version)], ..Cluster::default() };
            published.loaded(&Arc::new(cluster), soon);
            assert_eq!(published.legacy_lsn_due(Lsn::new(7), now), due, "{version}");
        }
        assert!(!published.legacy_lsn_due(Lsn::new(7), now));
    }
}
