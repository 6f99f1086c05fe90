//! PostgreSQL as far as high availability is concerned: timelines, positions,
//! who streams from whom, synchronous standbys, slow starts and stops, crashes.

use std::rc::Rc;

use patroni_core::ha::{PgState, Role};
use patroni_core::sync::SyncNamesValue;

use super::hazards::Dir;

/// A piece of WAL history: this timeline of this branch was left at this position.
/// Branches tell two timelines apart that two nodes gave the same number.
pub type Switch = (u32, u64, u64);

/// One server and its data directory.
#[derive(Debug, Clone)]
pub struct Server {
    /// None: the data directory is empty.
    pub data: Option<Data>,
    /// A postmaster lives.
    pub running: bool,
    /// Its postmaster has died, and a backend goes on committing.
    pub orphans: bool,
    /// Counts postmasters, so that what was meant for one does not reach the next.
    pub incarnation: u64,
    /// It recovers from a crash and takes no connections yet.
    pub opening: bool,
    /// It is a standby (has a signal file).
    pub recovery: bool,
    /// Index of the node that it streams from, by its settings.
    pub source: Option<usize>,
    /// The shutdown has begun: nothing is committed any more.
    pub stopping: bool,
    /// Believed state.
    pub state: PgState,
    /// Since when, true time.
    pub state_since: u64,
    /// Believed role.
    pub role: Role,
    /// A callback was fired.
    pub callback_fired: bool,
    /// `synchronous_standby_names` in the configuration file.
    pub sync_file: String,
    /// And as the server has it.
    pub sync_live: (String, SyncNamesValue),
    /// Something else than the configuration file says `synchronous_standby_names = ''`.
    pub overruled: bool,
    /// The server, and which of its lives, that its WAL receiver is connected to.
    pub fed_by: Option<(usize, u64)>,
    /// When its WAL receiver tries again: `wal_retrieve_retry_interval`.
    pub receiver_at: u64,
    /// Its next orderly stop takes longer than the ttl.
    pub crawls: bool,
    /// Its WAL receiver is stalled.
    pub stalled: bool,
    /// It has a WAL receiver.
    pub receiving: bool,
    /// Starts, stops and promotions take long.
    pub slow: bool,
    /// Its disk is full.
    pub full: bool,
    /// Its replication slots.
    pub slots: super::slots::Slots,
    /// The WAL that it needs next is gone everywhere.
    pub gap: bool,
    /// What is wrong with its data directory.
    pub dir: Dir,
    /// pg_rewind works on it, or was broken off in the middle.
    pub torn: bool,
}

/// A data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// System identifier.
    pub sysid: Rc<str>,
    /// Current timeline.
    pub timeline: u32,
    /// What tells this timeline from others of its number.
    pub branch: u64,
    /// End of its WAL.
    pub lsn: u64,
    /// Timelines that it went through.
    pub history: Rc<Vec<Switch>>,
    /// It was not shut down cleanly.
    pub dirty: bool,
}

impl Data {
    /// Is `self` an ancestor of `of`: can it follow without a rewind?
    pub fn is_prefix_of(&self, of: &Data) -> bool {
        self.sysid == of.sysid && of.has(self.branch, self.lsn)
    }

    /// Is this another timeline of the same number?
    pub fn is_namesake_of(&self, of: &Data) -> bool {
        self.timeline == of.timeline && self.branch != of.branch
    }

    /// Such a one that left its parent at the same place: the history files are alike.
    pub fn looks_like(&self, of: &Data) -> bool {
        let forks = |data: &Data| data.history.iter().map(|(tli, at, _)| (*tli, *at)).collect::<Vec<_>>();
        self.is_namesake_of(of) && forks(self) == forks(of)
    }

    /// How far this branch is part of it.
    pub fn reach(&self, branch: u64) -> Option<u64> {
        if self.branch == branch {
            return Some(self.lsn);
        }
        self.history.iter().find(|(_, _, b)| *b == branch).map(|(_, at, _)| *at)
    }

    /// Does it hold this commit?
    pub fn has(&self, branch: u64, lsn: u64) -> bool {
        self.reach(branch).is_some_and(|at| lsn <= at)
    }
}

impl Server {
    /// An empty machine.
    pub fn new() -> Server {
        Server {
            data: None,
            running: false,
            orphans: false,
            incarnation: 0,
            opening: false,
            recovery: false,
            source: None,
            stopping: false,
            state: PgState::Stopped,
            state_since: 0,
            role: Role::Uninitialized,
            callback_fired: false,
            sync_file: String::new(),
            sync_live: Default::default(),
            overruled: false,
            fed_by: None,
            receiver_at: 0,
            crawls: false,
            stalled: false,
            receiving: false,
            slow: false,
            full: false,
            slots: Default::default(),
            gap: false,
            dir: Dir::Sound,
            torn: false,
        }
    }

    /// Would a client's write be committed?
    pub fn writable(&self) -> bool {
        let open = self.running && !self.opening && !self.stopping && !self.state.is_starting();
        (open || self.orphans) && !self.recovery && self.data.is_some()
    }

    /// End of WAL.
    pub fn lsn(&self) -> u64 {
        self.data.as_ref().map_or(0, |d| d.lsn)
    }

    /// A postmaster comes up.
    pub fn started(&mut self, recovery: bool, role: Role) {
        self.orphans = false;
        self.incarnation += 1;
        self.opening = false;
        self.receives_anew();
        (self.running, self.stopping, self.recovery, self.role) = (true, false, recovery, role);
        self.reloaded();
    }

    /// The configuration file is in force.
    pub fn reloaded(&mut self) {
        let value = if self.overruled { String::new() } else { self.sync_file.clone() };
        let parsed = patroni_core::sync::parse_names(&value).unwrap_or_default();
        self.sync_live = (value, parsed);
    }

    /// A new WAL receiver, which tries at once.
    pub fn receives_anew(&mut self) {
        (self.fed_by, self.receiver_at) = (None, 0);
    }

    /// The machine dies, or its postmaster.
    pub fn crash(&mut self) {
        self.orphans = false;
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
        } else if let Some(data) = self.data.as_mut().filter(|_| self.running) {
            data.dirty = false;
        }
        self.running = false;
        self.stopping = false;
    }

    /// Promotion: a new timeline begins here.
    pub fn promote(&mut self, branch: u64) {
        if let Some(data) = self.data.as_mut().filter(|_| self.running && self.recovery) {
            let mut history = (*data.history).clone();
            history.push((data.timeline, data.lsn, data.branch));
            data.history = Rc::new(history);
            data.timeline += 1;
            data.branch = branch;
            self.recovery = false;
            self.source = None;
            self.reloaded();
        }
    }
}
