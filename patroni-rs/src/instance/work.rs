//! Work on the data directory by other programs: it ends with the daemon, whatever ends that.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use patroni_postgres::process::{blocking, bound};

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

/// A server that finds less than this, one WAL segment by default, cannot go on, bytes.
const LEAST_ROOM: u64 = 16 << 20;
/// Between two lines about a full disk.
const SAID_AGAIN: Duration = Duration::from_secs(60);

/// Where there is no room for WAL, and how much.
fn full(data_dir: &Path) -> Option<(PathBuf, u64)> {
    let wal = data_dir.join("pg_wal");
    let places = [if wal.exists() { wal } else { data_dir.to_owned() }, data_dir.to_owned()];
    places.into_iter().find_map(|place| {
        let room = nix::sys::statvfs::statvfs(&place).ok()?;
        let free = room.blocks_available().saturating_mul(room.fragment_size());
        (free < LEAST_ROOM).then_some((place, free))
    })
}

impl Instance {
    /// A server that does not run, on a disk that is full, will not: only people can help, and are told how.
    pub async fn say_if_full(&self) {
        let dir = self.data_dir.clone();
        let found = blocking::run(blocking::FILE_DEADLINE, move || Ok(full(&dir))).await;
        let Ok(Some((place, free))) = found else { return };
        let mut said = locked(&self.full_said);
        if said.is_some_and(|at| at.elapsed() < SAID_AGAIN) {
            return;
        }
        *said = Some(Instant::now());
        tracing::error!(
            target: "patroni.postgresql",
            "PostgreSQL can not write its WAL: {} kB are left in {}. Make room there (never by removing files of pg_wal), \
             or drop the replication slots that keep WAL once it runs; or let another member lead: patronictl failover",
            free / 1024, place.display()
        );
    }

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

    /// Does something that nobody could end still write into the data directory? It is tried once more.
    pub(super) async fn is_worked_on(&self) -> bool {
        if self.unended.load(Ordering::SeqCst) {
            self.end_leftovers().await;
        }
        self.unended.load(Ordering::SeqCst)
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
            let left =
                !found.is_empty() && !bound::gone(&bound::end_leftovers(&dir, &programs, KILLED_WITHIN));
            if left {
                tracing::error!(target: "patroni.postgresql", "What works on {} cannot be killed", dir.display());
            }
            left
        };
        let left = tokio::task::spawn_blocking(end).await;
        self.unended.store(!matches!(left, Ok(false)), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends() {
        let working = AtomicBool::new(true);
        drop(AtWork { working: &working, _reaper: None });
        assert!(!working.load(Ordering::SeqCst));
    }
}
