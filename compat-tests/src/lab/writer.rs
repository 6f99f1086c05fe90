//! A client that writes all the time and remembers what was acknowledged.

use std::io::Write;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::process;
use super::{Cluster, Result};

/// A session that has been silent for this long is given up, as an application would.
const SILENCE: Duration = Duration::from_secs(3);

/// What was acknowledged, and the pauses between.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// The rows that the server said it has.
    pub acknowledged: Vec<u64>,
    /// When each of them came, from the writer's start.
    pub times: Vec<Duration>,
    /// How many statements came to nothing that the client knows of.
    pub failed: usize,
}

impl Record {
    /// The longest time without an acknowledged row, between two of them.
    pub fn longest_gap(&self) -> Duration {
        let pairs = self.times.iter().zip(self.times.iter().skip(1));
        pairs.map(|(earlier, later)| later.saturating_sub(*earlier)).max().unwrap_or_default()
    }

    /// The gaps longer than `least`.
    pub fn gaps(&self, least: Duration) -> Vec<Duration> {
        let pairs = self.times.iter().zip(self.times.iter().skip(1));
        pairs.map(|(earlier, later)| later.saturating_sub(*earlier)).filter(|gap| *gap >= least).collect()
    }
}

/// How the writer fares.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Rows that were acknowledged in all.
    pub rows: usize,
    /// The longest time without one, since the moment that was asked about; it may go on.
    pub longest: Duration,
}

/// Writes in a thread until it is stopped.
#[derive(Debug)]
pub struct Writer {
    stop: Arc<AtomicBool>,
    record: Arc<Mutex<Record>>,
    thread: Option<JoinHandle<()>>,
    since: Instant,
}

/// What is written, and where.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The database.
    pub database: String,
    /// SQL that writes the number `{n}` and gives it back.
    pub sql: String,
    /// How long it may take.
    pub patience: Duration,
}

impl Default for Statement {
    fn default() -> Statement {
        let sql = "INSERT INTO journal VALUES ({n}) RETURNING n;".into();
        Statement { database: "postgres".into(), sql, patience: SILENCE }
    }
}

/// What the thread works with.
#[derive(Debug)]
struct Work {
    statement: Statement,
    psql: PathBuf,
    bin: PathBuf,
    directory: PathBuf,
    ports: Vec<String>,
    /// The first row.
    first: u64,
    /// From when the times count.
    since: Instant,
}

impl Writer {
    /// Makes the table `journal` on `leader` and begins to write rows to whichever member takes writes.
    ///
    /// # Errors
    /// The table cannot be made.
    pub fn start(cluster: &Cluster, leader: &str) -> Result<Writer> {
        cluster.member(leader)?.sql("CREATE TABLE IF NOT EXISTS journal (n bigint PRIMARY KEY)")?;
        let names: Vec<&str> = cluster.members.iter().map(|member| member.name.as_str()).collect();
        Writer::start_on(cluster, &names, 1, Instant::now())
    }

    /// Begins to write by that statement on whichever of `names` takes writes.
    ///
    /// # Errors
    /// There is no such member.
    pub fn start_with(cluster: &Cluster, names: &[&str], statement: Statement) -> Result<Writer> {
        Writer::begin(cluster, names, (1, Instant::now()), statement)
    }

    /// Begins to write rows from `first` on into the table `journal`, which is there, of whichever of
    /// `names` takes writes; times count from `since`.
    ///
    /// # Errors
    /// There is no such member.
    pub fn start_on(cluster: &Cluster, names: &[&str], first: u64, since: Instant) -> Result<Writer> {
        Writer::begin(cluster, names, (first, since), Statement::default())
    }

    fn begin(
        cluster: &Cluster,
        names: &[&str],
        (first, since): (u64, Instant),
        statement: Statement,
    ) -> Result<Writer> {
        let bin = cluster.bin();
        let work = Work {
            statement,
            psql: bin.join("psql"),
            bin,
            directory: cluster.directory.clone(),
            ports: names
                .iter()
                .map(|name| Ok(cluster.member(name)?.postgres.to_string()))
                .collect::<Result<_>>()?,
            first,
            since,
        };
        let (stop, record) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Record::default())));
        let (its_stop, its_record) = (stop.clone(), record.clone());
        let thread = std::thread::spawn(move || work.write(&its_stop, &its_record));
        Ok(Writer { stop, record, thread: Some(thread), since })
    }

    /// Waits until `more` further rows are acknowledged.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_rows(&self, more: usize, within: Duration) -> Result<()> {
        let wanted = self.count() + more;
        super::wait_until("rows are written", within, || {
            super::wait::ensure(self.count() >= wanted, || format!("{} of {wanted}", self.count()))
        })
    }

    /// How many rows were acknowledged so far.
    pub fn count(&self) -> usize {
        self.record.lock().map(|record| record.acknowledged.len()).unwrap_or_default()
    }

    /// What was acknowledged so far.
    pub fn record(&self) -> Record {
        self.record.lock().map(|record| record.clone()).unwrap_or_default()
    }

    /// How it fares, looking back to `from` (on the clock of the record's times).
    pub fn progress(&self, from: Duration) -> Progress {
        let now = self.since.elapsed();
        let Ok(record) = self.record.lock() else {
            return Progress::default();
        };
        let late = record.times.partition_point(|time| *time < from).saturating_sub(1);
        let times = record.times.get(late..).unwrap_or_default().iter().copied().chain([now]);
        let (longest, _) = times.fold((Duration::ZERO, None), |(longest, last), time| {
            let gap = last.map_or(Duration::ZERO, |last| time.saturating_sub(last));
            (longest.max(gap), Some(time))
        });
        Progress { rows: record.acknowledged.len(), longest }
    }

    /// Now, on the clock of the record's times.
    pub fn now(&self) -> Duration {
        self.since.elapsed()
    }

    /// Stops and gives the record.
    pub fn finish(&mut self) -> Record {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.record()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// One psql that is fed line by line.
struct Session {
    child: Child,
    lines: Receiver<String>,
    patience: Duration,
}

impl Session {
    fn open(work: &Work, port: &str) -> Result<Session> {
        let mut command = process::command(&work.psql, &work.directory, &work.bin)?;
        command
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-d", &work.statement.database, "-p", port])
            .env("PGPASSWORD", "lab-super")
            .env("PGCONNECT_TIMEOUT", "2");
        let (child, lines) = process::conversation(command)?;
        Ok(Session { child, lines, patience: work.statement.patience })
    }

    /// Runs one statement that gives one line; `None` when the session is of no use any more.
    fn ask(&mut self, sql: &str) -> Option<String> {
        writeln!(self.child.stdin.as_mut()?, "{sql}").ok()?;
        self.lines.recv_timeout(self.patience).ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Work {
    /// A session with a member that takes writes, the members tried in turn.
    fn connect(&self) -> Option<Session> {
        self.ports.iter().find_map(|port| {
            if !accepts(port) {
                return None;
            }
            let mut session = Session::open(self, port).ok()?;
            (session.ask("SELECT pg_is_in_recovery();")? == "f").then_some(session)
        })
    }

    fn write(&self, stop: &AtomicBool, record: &Mutex<Record>) {
        let mut session: Option<Session> = None;
        let mut next = self.first;
        while !stop.load(Ordering::Relaxed) {
            let Some(open) = session.as_mut() else {
                session = self.connect();
                if session.is_none() {
                    std::thread::sleep(Duration::from_millis(10));
                }
                continue;
            };
            // Each number is tried once: whether an unanswered one is there is not asked.
            let answer = open.ask(&self.statement.sql.replace("{n}", &next.to_string()));
            if answer.as_deref() == Some(next.to_string().as_str()) {
                if let Ok(mut record) = record.lock() {
                    record.acknowledged.push(next);
                    record.times.push(self.since.elapsed());
                }
                std::thread::sleep(Duration::from_millis(5));
            } else {
                session = None;
                if let Ok(mut record) = record.lock() {
                    record.failed += 1;
                }
            }
            next += 1;
        }
    }
}

/// Whether something listens, so that no psql is started in vain.
fn accepts(port: &str) -> bool {
    let Ok(port) = port.parse::<u16>() else {
        return false;
    };
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}

/// The rows of `record` that `leader` does not have.
///
/// # Errors
/// The leader cannot be asked.
pub fn missing(cluster: &Cluster, leader: &str, record: &Record) -> Result<Vec<u64>> {
    let text = cluster.member(leader)?.sql("SELECT n FROM journal")?;
    let present: std::collections::HashSet<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    Ok(record.acknowledged.iter().copied().filter(|n| !present.contains(n)).collect())
}
