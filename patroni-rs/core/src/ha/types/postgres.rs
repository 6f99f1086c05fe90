//! PostgreSQL, as one cycle sees it.

use indexmap::IndexMap;
use pyfmt::Value;

use super::{Mono, PgState, Role};
use crate::cluster_state::ClusterState;
use crate::model::Lsn;
use crate::PgVersion;

/// One row of the monitoring statement, or why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Query {
    /// The statement answered.
    Row(Box<PgStatus>),
    /// No connection, or it broke.
    Unreachable,
    /// The statement ran into its timeout.
    TimedOut,
}

/// What the monitoring statement says (surface-ha-pg 24-02).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PgStatus {
    /// Not in recovery.
    pub is_primary: bool,
    /// The timeline of a primary, 0 on a standby.
    pub timeline: u32,
    /// Flush location of a primary; on a standby the further of received and replayed.
    pub wal_position: Lsn,
    /// Standby: replayed.
    pub replayed: Option<Lsn>,
    /// Standby: received.
    pub received: Option<Lsn>,
    /// Standby: replay is paused.
    pub replay_paused: bool,
    /// Timeline in the control file, where asked.
    pub control_timeline: Option<u32>,
    /// Timeline of the WAL receiver.
    pub received_timeline: Option<u32>,
    /// `streaming`, `in archive recovery`, or nothing.
    pub replication_state: Option<String>,
    /// Slots with their location, for publication.
    pub slots: IndexMap<String, Lsn>,
}

/// Work on the data directory that was begun and broken off: by the end of the daemon or the machine, or of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfinished {
    /// A copy of another server, or of a backup.
    Copy,
    /// `pg_rewind`.
    Rewind,
    /// `initdb`, or the user's own way to make a cluster.
    Bootstrap,
}

impl Unfinished {
    /// The word in the mark and in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Unfinished::Copy => "copy",
            Unfinished::Rewind => "rewind",
            Unfinished::Bootstrap => "bootstrap",
        }
    }
}

/// The data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataDir {
    /// It holds a cluster.
    Present,
    /// Missing or empty.
    Empty,
    /// No server may run on what is in it.
    HalfMade(Unfinished),
    /// The error.
    Inaccessible(String),
}

/// PostgreSQL as one cycle sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct PgView {
    /// The state we last set.
    pub state: PgState,
    /// The role we last set.
    pub role: Role,
    /// A postmaster lives.
    pub running: bool,
    /// The monitoring statement's answer.
    pub query: Query,
    /// The data directory.
    pub data_dir: DataDir,
    /// System identifier from the control file, empty when unreadable.
    pub sysid: String,
    /// Why it is empty, in words for people; empty when it is not, or nobody knows.
    pub sysid_problem: String,
    /// Since when the state is what it is.
    pub state_since: Mono,
    /// Some callback has been fired since the daemon started.
    pub callback_fired: bool,
    /// The version that the server tells.
    pub server_version: PgVersion,
    /// The major version of the binaries or data.
    pub major_version: PgVersion,
    /// Parameters that wait for a restart, as published.
    pub pending_restart_reason: Value,
    /// As Python prints it: `2026-11-21 10:00:00.120000+00:00`.
    pub postmaster_start_time: Option<String>,
}

impl PgView {
    /// Is this a primary? When it cannot be asked, the last known role counts as
    /// long as a postmaster lives (surface-ha-pg 4J-04): a hung primary must not
    /// look like a replica.
    pub fn is_primary(&self) -> bool {
        match &self.query {
            Query::Row(row) => row.is_primary,
            _ => self.running && self.role == Role::Primary,
        }
    }

    /// The monitoring row.
    pub fn row(&self) -> Option<&PgStatus> {
        match &self.query {
            Query::Row(row) => Some(row),
            _ => None,
        }
    }
}

/// `pg_controldata`, as far as decisions need it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ControlData {
    /// All lines, for the log, in order.
    pub lines: Vec<(String, String)>,
    /// `Database cluster state`.
    pub state: ClusterState,
    /// recovery.conf, standby.signal or recovery.signal is there.
    pub recovery_conf_exists: bool,
    /// A backup_label is there on 15 or newer: only a normal start may recover it.
    pub restored_from_backup: bool,
}
