//! Where a store's watch tells what it has seen.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{watch, Notify};

use crate::wake::WakeRules;

/// Every store's watch waits so long after a failure before it is opened again.
pub const PAUSE: Duration = Duration::from_secs(1);

/// Who keeps our lock beside the HA loop, and is told when a watch shows that the leader key is ours no more: it was ended
/// before its time, or given up. Called by the watch itself: it must not wait for anything.
#[derive(Default)]
pub struct OnLockGone(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl OnLockGone {
    /// From now on; the first one stays.
    pub fn call(&self, tell: Box<dyn Fn() + Send + Sync>) {
        let _ = self.0.set(tell);
    }
}

/// The sink of a watch: counts every change, and wakes the HA loop for those that matter.
pub struct Sink {
    rules: WakeRules,
    wake: Arc<Notify>,
    changes: watch::Sender<u64>,
    lock_gone: Arc<OnLockGone>,
    open: Arc<AtomicBool>,
}

impl Sink {
    /// Wakes that loop by these rules.
    pub fn new(
        rules: WakeRules,
        wake: Arc<Notify>,
        changes: watch::Sender<u64>,
        lock_gone: Arc<OnLockGone>,
    ) -> Sink {
        Sink { rules, wake, changes, lock_gone, open: Arc::default() }
    }

    /// Is the watch open, as far as it knows? For a store that says so, see [`Sink::opened`].
    pub fn is_open(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.open)
    }

    /// From now on every change below the prefix since the last list is told, whatever key it is and whether it wakes or
    /// not, until [`Sink::lost`].
    pub fn opened(&self) {
        self.open.store(true, Ordering::SeqCst);
    }

    /// It ended, or nobody knows what it may have missed.
    pub fn lost(&self) {
        self.open.store(false, Ordering::SeqCst);
    }

    /// All keys below the prefix as of now: name without the prefix, value, order (see [`Sink::changed`]). Wakes if
    /// something that matters is other than before; never for the first list.
    pub fn listed(&mut self, keys: &[(String, String, i64)]) {
        let wake = self.rules.listed(keys);
        self.tell(wake);
    }

    /// A key (its name without the prefix) was put, or deleted (None). `order` rises with each change of the key, and an
    /// event that is older than what was seen does nothing: the revision in etcd, ModifyIndex, mzxid. A store without
    /// anything of the kind counts up.
    pub fn changed(&mut self, key: &str, value: Option<&str>, order: i64) {
        let wake = self.rules.changed(key, value, order);
        self.tell(wake);
    }

    /// Something has changed that the store does not tell, and the loop is to look (a connection was lost, say).
    pub fn something(&mut self) {
        self.tell(true);
    }

    fn tell(&mut self, wake: bool) {
        self.changes.send_modify(|count| *count += 1);
        if let (true, Some(tell)) = (self.rules.lost_lock(), self.lock_gone.0.get()) {
            tell();
        }
        if wake {
            self.wake.notify_one();
        }
    }
}
