//! Work on the data directory by other programs: it ends with the daemon, whatever ends that.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use patroni_postgres::process::bound;

use super::Instance;
use crate::reaper::Reaper;

/// How long what an earlier daemon has left is waited for to die.
const KILLED_WITHIN: Duration = Duration::from_secs(20);

/// While it lives a reaper stands by, and what is half made is in the making.
pub(super) struct AtWork<'a> {
    working: &'a AtomicBool,
    _reaper: Option<Reaper>,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.working.store(false, Ordering::SeqCst);
    }
}

impl Instance {
    /// Before anything that writes into the data directory is started.
    pub(super) async fn at_work(&self) -> AtWork<'_> {
        self.working.store(true, Ordering::SeqCst);
        let dir = self.data_dir.clone();
        let started = tokio::task::spawn_blocking(move || Reaper::start(&dir)).await;
        let reaper = match started.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok(reaper) => Some(reaper),
            Err(e) => {
                tracing::warn!(target: "patroni.postgresql", "Could not start the reaper: {e}");
                None
            }
        };
        AtWork { working: &self.working, _reaper: reaper }
    }

    /// At the start of the process: whatever still works on the data directory does so for nobody.
    pub async fn end_leftovers(&self) {
        let programs = ["pg_rewind", "pg_basebackup"].map(|name| self.bin.text(name)).to_vec();
        let dir = self.data_dir.clone();
        let end = move || {
            let found = bound::leftovers(&dir, &programs);
            for process in &found {
                tracing::warn!(
                    target: "patroni.postgresql",
                    "Killing {} (pid={}), which an earlier daemon has left at work on {}",
                    bound::command_line(process), process.pid, dir.display()
                );
            }
            if !found.is_empty() && !bound::gone(&bound::end_leftovers(&dir, &programs, KILLED_WITHIN)) {
                tracing::error!(target: "patroni.postgresql", "What works on {} cannot be killed", dir.display());
            }
        };
        let _ = tokio::task::spawn_blocking(end).await;
    }
}
