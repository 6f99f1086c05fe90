//! Who is connected, and who has to go when there is no room.
//!
//! A new connection always gets in as long as some other one is only waiting: the
//! oldest waiting one of the address with the most connections makes room. So
//! clients that connect and keep silent push each other out, not the health checks.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::Notify;

struct Slot {
    ip: IpAddr,
    busy: bool,
    evict: Rc<Notify>,
}

/// Who is connected. Finding who has to go takes as long as there are addresses, not
/// connections: in a flood it is done for every new one.
#[derive(Default)]
struct Slots {
    all: HashMap<u64, Slot>,
    /// By address: how many connections, and which of them only wait.
    groups: HashMap<IpAddr, (usize, BTreeSet<u64>)>,
    busy: usize,
}

impl Slots {
    fn insert(&mut self, id: u64, ip: IpAddr, evict: Rc<Notify>) {
        self.all.insert(id, Slot { ip, busy: false, evict });
        let (count, waiting) = self.groups.entry(ip).or_default();
        *count += 1;
        waiting.insert(id);
    }

    fn remove(&mut self, id: u64) -> Option<Slot> {
        let slot = self.all.remove(&id)?;
        self.busy -= usize::from(slot.busy);
        if let Some((count, waiting)) = self.groups.get_mut(&slot.ip) {
            waiting.remove(&id);
            *count -= 1;
            if *count == 0 {
                self.groups.remove(&slot.ip);
            }
        }
        Some(slot)
    }

    /// False: there is no such connection.
    fn set_busy(&mut self, id: u64, busy: bool) -> bool {
        let Some(slot) = self.all.get_mut(&id) else { return false };
        if slot.busy != busy {
            slot.busy = busy;
            self.busy = if busy { self.busy + 1 } else { self.busy - 1 };
            if let Some((_, waiting)) = self.groups.get_mut(&slot.ip) {
                let _ = if busy { waiting.remove(&id) } else { waiting.insert(id) };
            }
        }
        true
    }

    /// The oldest that waits, of the address with the most connections among those that have any.
    fn victim(&self) -> Option<u64> {
        let oldest = |(count, waiting): &(usize, BTreeSet<u64>)| Some((*count, *waiting.first()?));
        let candidates = self.groups.values().filter_map(oldest);
        candidates.max_by_key(|(count, id)| (*count, std::cmp::Reverse(*id))).map(|(_, id)| id)
    }
}

/// Connections of the server, at most `max` at a time.
pub struct Registry {
    max: usize,
    next: Cell<u64>,
    slots: RefCell<Slots>,
    /// Most connections at a time since it was last asked.
    peak: Cell<usize>,
    emptied: Notify,
}

/// A place in the [`Registry`], free again when dropped.
pub struct Ticket {
    id: u64,
    evict: Rc<Notify>,
    registry: Rc<Registry>,
}

impl Registry {
    /// An empty registry.
    pub fn new(max: usize) -> Rc<Registry> {
        let (next, peak) = (Cell::new(0), Cell::new(0));
        Rc::new(Registry { max, next, slots: RefCell::default(), peak, emptied: Notify::new() })
    }

    /// A place for a connection from `ip`. None: all others are being served.
    pub fn admit(self: &Rc<Self>, ip: IpAddr) -> Option<Ticket> {
        if self.slots.borrow().all.len() >= self.max && !self.evict_one() {
            return None;
        }
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let evict = Rc::new(Notify::new());
        let mut slots = self.slots.borrow_mut();
        slots.insert(id, ip, Rc::clone(&evict));
        self.peak.set(self.peak.get().max(slots.all.len()));
        Some(Ticket { id, evict, registry: Rc::clone(self) })
    }

    /// Ends one waiting connection; its place is free at once.
    pub fn evict_one(&self) -> bool {
        let mut slots = self.slots.borrow_mut();
        let slot = slots.victim().and_then(|id| slots.remove(id));
        slot.map(|slot| slot.evict.notify_one()).is_some()
    }

    /// Ends all connections that are only waiting.
    pub fn evict_waiting(&self) {
        while self.evict_one() {}
    }

    /// Is exactly one connected?
    pub fn has_one(&self) -> bool {
        self.slots.borrow().all.len() == 1
    }

    /// How many are connected, and how many were at most since this was last asked.
    pub fn high_water(&self) -> (usize, usize) {
        let now = self.slots.borrow().all.len();
        (now, self.peak.replace(now))
    }

    /// Waits until nobody is connected.
    pub async fn empty(&self) {
        while !self.slots.borrow().all.is_empty() {
            self.emptied.notified().await;
        }
    }
}

impl Ticket {
    /// Ends when this connection has to make room.
    pub fn evicted(&self) -> Rc<Notify> {
        Rc::clone(&self.evict)
    }

    /// While busy a connection is not sent away. False: it has been already, or half
    /// of all places are busy and the others stay for those who only ask.
    pub fn set_busy(&self, busy: bool) -> bool {
        let mut slots = self.registry.slots.borrow_mut();
        if busy && slots.busy >= self.registry.max.div_ceil(2) {
            return false;
        }
        // One that has just been sent away must not begin anything.
        slots.set_busy(self.id, busy)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.slots.borrow_mut().remove(self.id);
        if self.registry.slots.borrow().all.is_empty() {
            self.registry.emptied.notify_one();
        }
    }
}

/// Bytes that all connections together may hold of requests not yet served.
pub struct Budget {
    left: Cell<usize>,
}

/// A share of the [`Budget`], given back when dropped.
pub struct MemoryReservation {
    budget: Rc<Budget>,
    held: usize,
}

impl Budget {
    /// So many bytes.
    pub fn new(bytes: usize) -> Rc<Budget> {
        Rc::new(Budget { left: Cell::new(bytes) })
    }

    /// A share, empty at first.
    pub fn reserve(self: &Rc<Self>) -> MemoryReservation {
        MemoryReservation { budget: Rc::clone(self), held: 0 }
    }
}

impl MemoryReservation {
    /// Grows the share to `bytes`; false: there is not as much left.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.held);
        let left = self.budget.left.get();
        if more > left {
            return false;
        }
        self.budget.left.set(left - more);
        self.held += more;
        true
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        self.budget.left.set(self.budget.left.get() + self.held);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_oldest_waiting_of_the_greediest_goes() {
        let registry = Registry::new(4);
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let tickets: Vec<Ticket> = [b, a, a, a].into_iter().map(|ip| registry.admit(ip).unwrap()).collect();
        assert!(tickets[1].set_busy(true));
        assert_eq!(registry.slots.borrow().victim(), Some(2));
        let fifth = registry.admit(b).unwrap();
        assert_eq!(registry.slots.borrow().all.len(), 4);
        assert!(fifth.set_busy(true) && !tickets[3].set_busy(true));
        assert!(registry.evict_one() && registry.evict_one() && !registry.evict_one());
        assert_eq!(registry.slots.borrow().all.len(), 2);
        drop((tickets, fifth));
        assert!(registry.slots.borrow().all.is_empty() && registry.slots.borrow().groups.is_empty());
    }

    #[test]
    fn the_peak_is_told_once() {
        let registry = Registry::new(4);
        let ip: IpAddr = "10.0.0.1".parse().unwrap();
        let tickets = [registry.admit(ip), registry.admit(ip)];
        assert_eq!(registry.high_water(), (2, 2));
        drop(tickets);
        assert_eq!((registry.high_water(), registry.high_water()), ((0, 2), (0, 0)));
    }

    #[test]
    fn budget_is_given_back() {
        let budget = Budget::new(10);
        let mut reservation = budget.reserve();
        assert!(reservation.grow(8) && reservation.grow(8) && !reservation.grow(11));
        assert!(!budget.reserve().grow(3));
        drop(reservation);
        assert!(budget.reserve().grow(10));
    }
}
