//! What happens in the simulated world, and when.

use patroni_core::ha::{Answer, Mono};
use patroni_core::node::Renewed;

use super::dcs::{Op, Said};
use super::faults::Fault;
use super::watches::Change;

/// Something that happens at its time.
#[derive(Debug)]
pub(super) enum Event {
    Wake {
        node: usize,
        forced: bool,
    },
    Answer {
        node: usize,
        ticket: u64,
        answer: Box<Answer>,
        after: After,
    },
    /// What came of a request to the store.
    Said {
        node: usize,
        ticket: u64,
        id: u64,
        said: Option<Box<Said>>,
    },
    /// And of one of the lock keeper's.
    Kept {
        node: usize,
        sent: Mono,
        id: u64,
        said: Option<Box<Said>>,
    },
    /// A watch is told what has changed, or is opened again.
    Told {
        node: usize,
        generation: u64,
        changes: Option<Vec<Change>>,
    },
    /// The store's client says that it is there.
    Heartbeat {
        node: usize,
    },
    Late {
        node: usize,
        generation: u64,
        op: Box<Op>,
    },
    Keeper {
        node: usize,
    },
    Renewed {
        node: usize,
        generation: u64,
        sent: Mono,
        outcome: Renewed,
    },
    Fence {
        node: usize,
        incarnation: u64,
    },
    Guardian {
        node: usize,
    },
    Thaw {
        node: usize,
    },
    Job {
        node: usize,
        ticket: u64,
        step: u32,
    },
    Postmaster {
        node: usize,
        incarnation: u64,
        what: Postmaster,
    },
    Boot {
        node: usize,
    },
    FillGap {
        node: usize,
    },
    Beat,
    Fault(Fault),
}

/// What a postmaster does although its daemon may be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Postmaster {
    Exits,
    Promotes,
    Reloads,
    Opens,
}

/// What becomes true when an answer arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    Stopped { immediate: bool, incarnation: u64 },
    Checkpoint,
}

/// An event in the queue: by its time, then by the order in which they were put there.
pub(super) struct Queued(pub u64, pub u64, pub Event);

impl PartialEq for Queued {
    fn eq(&self, other: &Queued) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Queued) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Queued) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}
