//! Logical slots of a standby are advanced beside the cycles, because that
//! decodes WAL and may take long (18-14).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use indexmap::IndexMap;
use patroni_core::model::Lsn;
use patroni_core::mutex::locked;
use tokio::sync::Notify;

use super::error::PgError;
use super::pool::Pool;
use super::session::Session;
use super::slots::advance_statement;

/// Even a slot that is far behind gets there within this.
const ADVANCE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Positions by database and slot.
type Schedule = IndexMap<String, IndexMap<String, Lsn>>;

/// What has happened since the last look.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdvanceReport {
    /// Something failed: read the slots again.
    pub failed: bool,
    /// Slots that cannot be advanced any more and must be copied.
    pub copy: Vec<String>,
}

#[derive(Debug, Default)]
struct State {
    schedule: Schedule,
    report: AdvanceReport,
    running: bool,
    /// Nobody is left to give work.
    closed: bool,
}

#[derive(Debug)]
struct Shared {
    pool: Arc<Pool>,
    state: Mutex<State>,
    wake: Notify,
}

/// Advances slots in a background task, which lives as long as this.
#[derive(Debug)]
pub struct SlotAdvancer {
    shared: Arc<Shared>,
}

impl Drop for SlotAdvancer {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.wake.notify_one();
    }
}

impl SlotAdvancer {
    /// The task starts with the first work.
    pub fn new(pool: Arc<Pool>) -> SlotAdvancer {
        SlotAdvancer { shared: Arc::new(Shared { pool, state: Mutex::default(), wake: Notify::new() }) }
    }

    /// Adds work, and takes the report of earlier work. Slots that are about
    /// to be copied are not advanced.
    pub fn schedule(&self, work: Schedule) -> AdvanceReport {
        let mut state = self.shared.state();
        for (database, slots) in work {
            for (name, lsn) in slots {
                if !state.report.copy.contains(&name) {
                    state.schedule.entry(database.clone()).or_default().insert(name, lsn);
                }
            }
        }
        if !state.schedule.is_empty() && !state.running {
            state.running = true;
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.run().await });
        }
        self.shared.wake.notify_one();
        std::mem::take(&mut state.report)
    }

    /// Forgets all work and reports.
    pub fn clean(&self) {
        let mut state = self.shared.state();
        state.schedule.clear();
        state.report = AdvanceReport::default();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Works until there is nothing left that could be done now, then waits.
    async fn run(&self) {
        while !self.state().closed {
            self.round().await;
            self.wake.notified().await;
        }
    }

    async fn round(&self) {
        let databases: Vec<String> = self.state().schedule.keys().cloned().collect();
        for database in databases {
            if let Err(error) = self.advance_in(&database).await {
                let error = error.py_repr();
                tracing::error!(
                    target: "patroni.postgresql.slots",
                    "Failed to advance replication slots in database {database}: {error}"
                );
            }
        }
    }

    async fn advance_in(&self, database: &str) -> Result<(), PgError> {
        let names: Vec<String> =
            self.state().schedule.get(database).map(|s| s.keys().cloned().collect()).unwrap_or_default();
        if names.is_empty() {
            return Ok(());
        }
        let params = self.pool.params().with("dbname", database).with("options", "-c statement_timeout=0");
        let session = Session::connect(&params.with_safe_search_path()).await?;
        for name in names {
            let lsn = self.state().schedule.get(database).and_then(|s| s.get(&name)).copied();
            if let Some(lsn) = lsn {
                let result = session.query(&advance_statement(&name, lsn), ADVANCE_TIMEOUT).await;
                self.note(database, &name, lsn, result.err());
            }
        }
        Ok(())
    }

    fn note(&self, database: &str, name: &str, lsn: Lsn, error: Option<PgError>) {
        if let Some(error) = &error {
            let error = error.py_repr();
            tracing::error!(
                target: "patroni.postgresql.slots",
                "Failed to advance logical replication slot '{name}': {error}"
            );
        }
        let mut state = self.state();
        let copy = error.as_ref().is_some_and(PgError::needs_slot_copy);
        // After clean() nobody wants to hear of it any more.
        if error.is_some() && !state.schedule.is_empty() {
            state.report.failed = true;
            if copy && !state.report.copy.iter().any(|n| n == name) {
                state.report.copy.push(name.to_owned());
            }
        }
        let Some(slots) = state.schedule.get_mut(database) else {
            return;
        };
        // A newer position may have come in the meantime; that one stays.
        if copy || slots.get(name) == Some(&lsn) {
            slots.shift_remove(name);
        }
        if slots.is_empty() {
            state.schedule.shift_remove(database);
        }
    }
}
