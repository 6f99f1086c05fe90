//! PostgreSQL as far as high availability is concerned: timelines, positions,
//! who streams from whom, slow starts and stops, crashes.

use patroni_core::ha::{PgState, Role};

/// A piece of WAL history: this timeline was left at this position.
pub type Switch = (u32, u64);

/// One server and its data directory.
#[derive(Debug, Clone)]
pub struct Server {
    /// None: the data directory is empty.
    pub data: Option<Data>,
    /// A postmaster lives.
    pub running: bool,
    /// It is a standby (has a signal file).
    pub recovery: bool,
    /// Index of the node that it streams from, by its settings.
    pub source: Option<usize>,
    /// The shutdown has begun: nothing is committed any more.
    pub stopping: bool,
    /// Believed state.
    pub state: PgState,
    /// Since when.
    pub state_since: u64,
    /// Believed role.
    pub role: Role,
    /// A callback was fired.
    pub cb_called: bool,
    /// Replay reached and received position lie apart by this much.
    pub replay_lag: u64,
}

/// A data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// System identifier.
    pub sysid: String,
    /// Current timeline.
    pub timeline: u32,
    /// End of its WAL.
    pub lsn: u64,
    /// Timelines that it went through.
    pub history: Vec<Switch>,
    /// It was not shut down cleanly.
    pub dirty: bool,
}

impl Data {
    /// Is `self` an ancestor of `of`: can it follow without a rewind?
    pub fn is_prefix_of(&self, of: &Data) -> bool {
        if self.sysid != of.sysid {
            return false;
        }
        if self.timeline == of.timeline {
            return self.lsn <= of.lsn;
        }
        of.history.iter().any(|(tli, at)| *tli == self.timeline && self.lsn <= *at)
    }
}

impl Server {
    /// An empty machine.
    pub fn new() -> Server {
        Server {
            data: None,
            running: false,
            recovery: false,
            source: None,
            stopping: false,
            state: PgState::Stopped,
            state_since: 0,
            role: Role::Uninitialized,
            cb_called: false,
            replay_lag: 0,
        }
    }

    /// Would a client's write be committed?
    pub fn writable(&self) -> bool {
        self.running && !self.recovery && !self.stopping && self.data.is_some()
    }

    /// End of WAL.
    pub fn lsn(&self) -> u64 {
        self.data.as_ref().map_or(0, |d| d.lsn)
    }

    /// The machine dies, or its postmaster.
    pub fn crash(&mut self) {
        if let Some(data) = self.data.as_mut().filter(|_| self.running) {
            data.dirty = true;
        }
        self.running = false;
        self.stopping = false;
    }

    /// The end of a stop.
    pub fn stopped(&mut self, immediate: bool) {
        if immediate {
            self.crash();
        }
        self.running = false;
        self.stopping = false;
    }

    /// Promotion: a new timeline begins here.
    pub fn promote(&mut self) {
        if let Some(data) = self.data.as_mut().filter(|_| self.running && self.recovery) {
            data.history.push((data.timeline, data.lsn));
            data.timeline += 1;
            self.recovery = false;
            self.source = None;
        }
    }
}
