//! Which rows of the decision table have been reached: each ends in one status line.

use std::collections::BTreeMap;

/// Beginnings of the status lines of the contract (surface-ha-pg 4 to 13).
pub const ROWS: &[&str] = &[
    "Copying logical slots",
    "DCS is not accessible",
    "Demoting self because watchdog could not be activated",
    "Error communicating with PostgreSQL",
    "Failed to run",
    "Not promoting self because watchdog could not be activated",
    "PostgreSQL is still starting up",
    "Postponing promotion because synchronous replication state",
    "Promotion cancelled because the pre-promote script failed",
    "Postponing promotion because PostgreSQL does not tell",
    "Postponing promotion because synchronous_standby_names could not be set",
    "not promoting before",
    "not taking the leader lock because",
    "released leader key because I did not win it",
    "released leader key again because nobody has confirmed that it was",
    "Promotion cancelled because PostgreSQL could not be asked to promote itself",
    "switchover: starting primary again",
    "acquired session lock as a leader",
    "bootstrap",
    "cannot be a real primary in standby cluster",
    "continue following the old known standby leader",
    "continue to run as a leader because failsafe mode is enabled",
    "continue to run as primary after failing to update leader lock",
    "continue to run as primary without lock",
    "copy_logical_slots in progress",
    "data dir for the cluster is not empty, but system ID is invalid",
    "data directory is not accessible",
    "demoted self after trying and failing to obtain lock",
    "demoted self because DCS is not accessible and I was a leader",
    "demoted self because failed to update leader lock in DCS",
    "demoting self because I am not allowed to become primary",
    "demoting self because I do not have the lock and I was a leader",
    "demoting self because i am not the healthiest node",
    "demoting to a standby cluster in progress",
    "doing crash recovery in a single user mode",
    "failed to acquire initialize lock",
    "failed to start postgres",
    "following a different leader because I am not allowed to promote",
    "following a different leader because i am not the healthiest node",
    "following new leader after trying and failing to obtain lock",
    "initialized a new cluster",
    "lost leader before promote",
    "lost leader lock during",
    "manual failover: demote in progress",
    "manual failover: demoting myself",
    "no action. I am (*)",
    "no action. I am (*), a secondary, and following a leader",
    "no action. I am (*), a secondary, and following a standby leader",
    "no action. I am (*), the leader with the lock",
    "no action. I am (*), the standby leader with the lock",
    "not promoting because failed to update leader lock in DCS",
    "postgres is not running",
    "promoted self to a standby leader",
    "promoted self to leader because I had the session lock",
    "promoted self to leader by acquiring session lock",
    "released leader key voluntarily as data dir",
    "released leader key voluntarily due to the system ID mismatch",
    "not removing leader key because processes of postgres may still be running",
    "removed leader key after trying and failing to start postgres",
    "not starting postgres before another member has taken over",
    "removed leader lock because postgres is not running as primary",
    "removed leader lock because postgres is not running",
    "reinitialize in progress",
    "restart in progress",
    "restart initiated",
    "running post_bootstrap",
    "running pg_rewind from",
    "running with empty data directory",
    "restarting after failure in progress",
    "starting after demotion in progress",
    "starting as a secondary",
    "starting as a standby leader because i had the session lock",
    "starting as readonly because i had the session lock",
    "starting primary after failure",
    "stopped PostgreSQL because of startup timeout",
    "stopped PostgreSQL to fail over after a crash",
    "stopped PostgreSQL while starting up because leader key was lost",
    "switchover: demote in progress",
    "switchover: demoting myself",
    "terminated crash recovery because of startup timeout",
    "trying to bootstrap (without leader)",
    "trying to bootstrap a new cluster",
    "trying to bootstrap a new standby leader",
    "trying to bootstrap from",
    "trying to follow a remote member because standby cluster is unhealthy",
    "updated leader lock during",
    "waiting for end of recovery after bootstrap",
    "waiting for leader to bootstrap",
    "waiting for standby_leader to bootstrap",
    "waiting to become primary after promote",
];

/// Status lines seen.
#[derive(Debug, Default, Clone)]
pub struct Coverage {
    lines: BTreeMap<String, u64>,
}

impl Coverage {
    /// One status line: counted without names and numbers.
    pub fn line(&mut self, line: &str) {
        let line = line.strip_prefix("PAUSE: ").unwrap_or(line);
        let (open, close) = (line.find('('), line.find(')'));
        let text = match (open, close) {
            (Some(open), Some(close)) if open < close && line.starts_with("no action") => {
                format!("{}(*){}", &line[..open], &line[close + 1..])
            }
            _ => line.to_owned(),
        };
        *self.lines.entry(text).or_default() += 1;
    }

    /// Those of another run as well.
    pub fn add(&mut self, other: &Coverage) {
        for (line, count) in &other.lines {
            *self.lines.entry(line.clone()).or_default() += count;
        }
    }

    /// Rows and how often each was reached.
    pub fn rows(&self) -> Vec<(&'static str, u64)> {
        let count = |row: &str| self.lines.iter().filter(|(l, _)| l.starts_with(row)).map(|(_, n)| n).sum();
        ROWS.iter().map(|row| (*row, count(row))).collect()
    }

    /// Lines that no row describes.
    pub fn unknown(&self) -> Vec<&str> {
        let known = |line: &str| line.is_empty() || ROWS.iter().any(|row| line.starts_with(row));
        self.lines.keys().map(String::as_str).filter(|line| !known(line)).collect()
    }
}
