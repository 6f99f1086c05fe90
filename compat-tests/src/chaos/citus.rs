//! Two groups of Citus, a coordinator (0) and a worker (1), on the stand-in of fixtures/citus: a client that writes to the
//! worker by way of the coordinator, and what the coordinator's table says of both.
//!
//! Invariant 13: that table names the primaries that live, and a distributed write goes through.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use patroni_core::mutex::locked;
use tokio_postgres::NoTls;

use super::net::address;
use super::options::Mode;
use super::report::Weight;
use super::run::{Chaos, WHOLE};
use crate::lab::wait::ensure;
use crate::lab::{wait_until, Kind, Result};

/// The database of `citus.database`.
const DATABASE: &str = "dist";
/// The coordinator's group, and the worker's.
const COORDINATOR: usize = 0;
const WORKER: usize = 1;
/// A statement may wait for a switchover; a session that has been silent for this long is given up.
const SILENCE: Duration = Duration::from_secs(15);
/// Between two rows, and two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// What a member's configuration has besides. (One more database is much to write for a copy's checkpoint.)
pub(super) fn overrides(group: usize) -> String {
    format!(
        "citus: {{database: {DATABASE}, group: {group}}}\npostgresql: {{basebackup: {{checkpoint: fast}}}}\n"
    )
}

/// A row that was acknowledged: its number, and when it was sent and answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    n: u64,
    sent: Duration,
    acked: Duration,
}

/// The client.
#[derive(Debug)]
pub(super) struct Distributed {
    stop: Arc<AtomicBool>,
    rows: Arc<Mutex<Vec<Row>>>,
    thread: Option<JoinHandle<()>>,
}

impl Distributed {
    /// Writes by way of whichever member of the coordinator's group, by their sockets, takes it. Times count from `began`.
    fn start(sockets: Vec<PathBuf>, began: Instant) -> Distributed {
        let (stop, rows) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let work = Work { sockets, began, stop: stop.clone(), rows: rows.clone() };
        Distributed { stop, rows, thread: Some(std::thread::spawn(move || work.run())) }
    }

    fn rows(&self) -> Vec<Row> {
        locked(&self.rows).clone()
    }

    /// Stops it and gives the record.
    pub(super) fn finish(&mut self) -> Vec<Row> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.rows()
    }
}

impl Drop for Distributed {
    fn drop(&mut self) {
        self.finish();
    }
}

struct Work {
    sockets: Vec<PathBuf>,
    began: Instant,
    stop: Arc<AtomicBool>,
    rows: Arc<Mutex<Vec<Row>>>,
}

impl Work {
    fn run(&self) {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        let mut next = 1;
        while !self.stop.load(Ordering::Relaxed) {
            for socket in self.sockets.iter().filter(|socket| socket.join(".s.PGSQL.5432").exists()) {
                // Ends with the first statement that fails: this one is a standby, or the worker cannot be reached.
                let _ = runtime.block_on(self.session(socket, &mut next));
            }
            std::thread::sleep(PAUSE);
        }
    }

    async fn session(&self, socket: &PathBuf, next: &mut u64) -> Result<()> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(socket).port(5432).user("postgres").dbname(DATABASE).application_name("distributed");
        let (client, connection) = tokio::time::timeout(SILENCE, config.connect(NoTls)).await??;
        let connection = tokio::spawn(connection);
        let outcome = async {
            while !self.stop.load(Ordering::Relaxed) {
                // Each number is tried once: whether an unanswered one is there is not asked.
                let n = *next;
                *next += 1;
                let sql = format!("SELECT citus_standin_write({WORKER}, 'INSERT INTO rows VALUES ({n})')");
                let sent = self.began.elapsed();
                tokio::time::timeout(SILENCE, client.simple_query(&sql)).await??;
                locked(&self.rows).push(Row { n, sent, acked: self.began.elapsed() });
                tokio::time::sleep(PAUSE).await;
            }
            Result::Ok(())
        };
        let outcome = outcome.await;
        connection.abort();
        outcome
    }
}

/// What the table has to say of primaries, as [`Chaos::named_primaries`] gives it.
fn wanted(primaries: &[(usize, usize)]) -> String {
    let rows: Vec<String> =
        primaries.iter().map(|(group, member)| format!("{group} {}", address(*member))).collect();
    rows.join(", ")
}

impl Chaos {
    /// Makes the worker's table, waits until the coordinator knows the worker, and starts the client.
    pub(super) fn start_distributed(&mut self) -> Result<()> {
        let first = |group| self.fleet.settings.members_of(group).start;
        self.fleet.sql_in(first(WORKER), DATABASE, "CREATE TABLE rows (n bigint PRIMARY KEY)")?;
        let members = self.fleet.settings.members_of(COORDINATOR);
        let sockets = members.filter_map(|i| self.fleet.nodes.get(i)).map(|node| node.directory.clone());
        self.distributed = Some(Distributed::start(sockets.collect(), self.began));
        wait_until("a distributed row", WHOLE, || {
            let rows = self.distributed.as_ref().map(Distributed::rows).unwrap_or_default();
            ensure(!rows.is_empty(), || "none".into())
        })
    }

    /// The primaries that the coordinator's table names: `0 10.77.0.1, 1 10.77.0.3`.
    fn named_primaries(&self, coordinator: usize) -> Result<String> {
        let sql = "SELECT string_agg(groupid || ' ' || nodename, ', ' ORDER BY groupid) \
                   FROM pg_catalog.pg_dist_node WHERE noderole = 'primary'";
        self.fleet.sql_in(coordinator, DATABASE, sql)
    }

    /// Invariant 13, once all are back: an open transaction may last for the ttl, and ten cycles are enough for what follows. Then
    /// invariant 3 of distributed rows.
    pub(super) fn check_nodes(&mut self, what: &str) -> Result<()> {
        if self.distributed.is_none() {
            return Ok(());
        }
        let [ttl, loop_wait, _] = self.options.timing;
        let began = self.began.elapsed();
        let right = wait_until("pg_dist_node", Duration::from_secs(ttl + 10 * loop_wait), || {
            let primaries = self.groups().map(|group| Some((group, self.primary(group)?)));
            let primaries = primaries.collect::<Option<Vec<_>>>().ok_or("a group takes no writes")?;
            let (_, coordinator) = primaries.first().ok_or("no groups")?;
            let (named, wanted) = (self.named_primaries(*coordinator)?, wanted(&primaries));
            ensure(named == wanted, || format!("it names {named}, not {wanted}"))?;
            let rows = self.distributed.as_ref().map(Distributed::rows).unwrap_or_default();
            ensure(rows.iter().rev().any(|row| row.sent >= began), || "no distributed row".into())
        });
        if let Err(error) = right {
            let now = self.began.elapsed();
            let coordinator = self.primary(COORDINATOR).map(|member| self.kind_at(member, now));
            let weight =
                if coordinator == Some(Kind::Reference) { Weight::Reference } else { self.fault_of_all() };
            self.find(13, weight, format!("{error}: {what}"));
        }
        self.check_distributed()
    }

    /// Every distributed row that was acknowledged before now is on the worker's primary.
    fn check_distributed(&mut self) -> Result<()> {
        let now = self.began.elapsed();
        let text = wait_until("the distributed rows are read", WHOLE, || {
            let primary = self.primary(WORKER).ok_or("nobody takes writes")?;
            self.fleet.sql_in(primary, DATABASE, "SELECT n FROM rows")
        })?;
        let there: std::collections::HashSet<u64> =
            text.lines().filter_map(|line| line.parse().ok()).collect();
        let rows = self.distributed.as_ref().map(Distributed::rows).unwrap_or_default();
        let is_lost = |row: &&Row| row.acked < now && !there.contains(&row.n);
        let lost: Vec<&Row> = rows.iter().filter(is_lost).collect();
        if let (Some(first), true) = (lost.first(), self.options.mode != Mode::Async) {
            let what = format!(
                "{} distributed rows are gone, (first {}) of {:.2} s",
                lost.len(),
                first.n,
                first.acked.as_secs_f32()
            );
            self.find(3, self.fault_of_all(), what);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_wanted_as_it_is_asked_for() {
        assert_eq!(wanted(&[(0, 1), (1, 2)]), format!("0 {}, 1 {}", address(1), address(2)));
    }
}
