//! Watches of the store: the sink and the rules of what wakes a loop are those that ship; when a watch is told, and when
//! it is lost and opened again, is decided here.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use patroni_dcs::watch::Sink;

use super::events::Event;
use super::floor::Upper;
use super::planted::Planted;
use super::world::World;

/// A store's watch pauses so long before it opens again what was lost.
const PAUSE: u64 = 1000;

/// A node that can hear of a new leader, or of none, looks within this.
const PATIENCE: u64 = 5000;

/// The watch of one life of a daemon.
pub struct Watch {
    sink: Sink,
    /// It has shown that the leader key is not ours any more.
    lock_gone: Arc<AtomicBool>,
    /// It has not been opened yet. Its first list wakes nobody: a daemon looks when it starts.
    new: bool,
    /// It is not open: what changes is missed.
    lost: bool,
    /// The change that is told next is not told before.
    told_at: u64,
    /// The leader is another one since then, and no cycle has begun.
    owes_look: Option<u64>,
    /// Since when nothing has kept it from beginning one.
    able_since: u64,
    /// The leader that it has told of last.
    leader: Option<String>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Watch {
    /// Of this daemon, which opens it.
    pub fn new(upper: &Upper) -> Watch {
        let (owes_look, leader, lock_gone) = (None, None, Arc::new(AtomicBool::new(false)));
        let seen = Arc::clone(&lock_gone);
        upper.on_lock_gone(Box::new(move || seen.store(true, Ordering::Relaxed)));
        let sink = upper.sink();
        Watch { sink, lock_gone, new: true, lost: true, told_at: 0, owes_look, able_since: 0, leader }
    }

    /// The loop was to go on at this moment only, whatever has set it free before.
    pub fn unable_until(&mut self, at: u64) {
        self.able_since = self.able_since.max(at);
    }

    /// A cycle begins.
    pub fn looked(&mut self) {
        self.owes_look = None;
    }
}

/// A change of a key that may wake: its name, what is in it, its place in the order.
pub type Change = (String, Option<String>, i64);

impl World {
    fn hears(&self, node: usize) -> bool {
        let member = &self.members[node];
        let open = !member.deaf_to_dcs && !member.no_watch && member.watch_from <= self.now;
        member.alive && open && self.reaches_dcs(node)
    }

    /// All watches end, and are opened again.
    pub(super) fn lose_watches(&mut self) {
        for member in &mut self.members {
            member.watch.lost = true;
            // It is told, where it may also end without a word.
            member.watch.sink.lost();
        }
    }

    /// After each event: what has changed is on its way to each node that has a watch open.
    pub(super) fn tell_watches(&mut self) {
        let changes = self.store.take_changes();
        if changes.is_empty() {
            return;
        }
        // A key that moves to another session wakes nobody.
        let leader = self.store.get("leader").unwrap_or_default() != self.last_leader;
        for node in 0..self.members.len() {
            let hears = self.hears(node);
            let latency = self.rng.between(2, 40);
            let (now, generation) = (self.now, self.members[node].generation);
            let watch = &mut self.members[node].watch;
            if leader {
                watch.owes_look.get_or_insert(now);
            }
            if !hears || watch.lost {
                watch.lost = true;
                continue;
            }
            let at = (now + latency).max(watch.told_at);
            watch.told_at = at;
            self.at(at, Event::Told { node, generation, changes: Some(changes.clone()) });
        }
    }

    /// Watches that were lost are opened again, where that is possible, and a node that hears of a leader looks.
    pub(super) fn tend_watches(&mut self) {
        for node in 0..self.members.len() {
            let (now, generation, hears) = (self.now, self.members[node].generation, self.hears(node));
            let member = &self.members[node];
            let able = hears
                && !member.watch.lost
                && !member.frozen()
                && !member.stopped(now)
                && member.hung_until <= now
                && !member.ending
                && member.cycle.is_none();
            let watch = &mut self.members[node].watch;
            if !able {
                watch.unable_until(now);
            }
            let since = watch.owes_look.map(|at| at.max(watch.able_since));
            // Who leads himself knows; and so does who has missed that the same one was away for a moment.
            let leader = self.store.get("leader");
            let member = &self.members[node];
            let knows = leader == Some(member.me.name.as_str()) || leader == member.seen.leader_name();
            let watch = &mut self.members[node].watch;
            if hears && watch.lost {
                watch.lost = false;
                let pause = if std::mem::take(&mut watch.new) { 0 } else { PAUSE };
                watch.owes_look = watch.owes_look.filter(|_| pause > 0);
                watch.told_at = now + pause;
                self.at(now + pause, Event::Told { node, generation, changes: None });
            } else if !knows && since.is_some_and(|since| now > since + PATIENCE) {
                self.fail(12, format!("n{node} does not look although there is another leader"));
            }
        }
    }

    /// A watch is told; None: it was opened again, and shows all that is there.
    pub(super) fn told(&mut self, node: usize, generation: u64, changes: Option<Vec<Change>>) {
        if self.members[node].generation != generation || !self.members[node].alive {
            return;
        }
        let all = changes.is_none().then(|| self.store.keys_that_wake());
        if all.is_some() && !self.hears(node) {
            self.members[node].watch.lost = true;
            return;
        }
        let forgets = self.config.planted == Planted::ForgetsToReRead;
        let leader = self.store.get("leader").map(str::to_owned);
        let watch = &mut self.members[node].watch;
        if all.is_some() {
            // One that the loop has missed between its look and this list, and that is the one from before: the next
            // cycle is early enough.
            watch.owes_look = watch.owes_look.filter(|_| watch.leader != leader);
            watch.leader = leader;
        }
        for (key, value, order) in changes.into_iter().flatten() {
            watch.sink.changed(&key, value.as_deref(), order);
            if key == "leader" {
                watch.leader = value;
            }
        }
        let sink = &mut watch.sink;
        if let Some(all) = all {
            if !forgets {
                sink.listed(&all);
            }
            sink.opened();
        }
        if self.members[node].watch.lock_gone.swap(false, Ordering::Relaxed) {
            let clock = self.clock(node);
            self.members[node].lock.key_seen_gone(clock);
            self.rearm(node);
        }
        if self.members[node].upper.was_woken() {
            let now = self.now;
            self.at(now, Event::Wake { node, forced: true });
        }
    }
}
