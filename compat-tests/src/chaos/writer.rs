//! Clients that write through every member all the time, and remember each acknowledgement.
//!
//! They speak over the members' Unix sockets: also a member that is cut off has clients beside it, and
//! a network that is cut must not hide what a primary still accepts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::check::Ack;
use crate::lab::{process, Result};

/// A session that has been silent for this long is given up, as an application would.
const SILENCE: Duration = Duration::from_secs(4);
/// Between two rows that one client writes.
const PACE: Duration = Duration::from_millis(20);
/// Between two attempts where no write is accepted.
const PROBE: Duration = Duration::from_millis(100);

/// What a client writes to: a member's socket.
#[derive(Debug, Clone)]
pub struct Door {
    /// The member's number.
    pub member: usize,
    /// The folder of its Unix socket.
    pub socket: PathBuf,
}

/// All clients.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<Ack>>>,
    threads: Vec<JoinHandle<()>>,
}

/// What all clients share.
#[derive(Clone)]
struct Shared {
    bin: PathBuf,
    folder: PathBuf,
    began: Instant,
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<Ack>>>,
}

impl Writers {
    /// One client for each door. The table `journal (n bigint, member int)` must be there. Times count
    /// from `began`.
    pub fn start(bin: &Path, folder: &Path, doors: Vec<Door>, began: Instant) -> Writers {
        let (stop, acks) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let shared = Shared {
            bin: bin.into(),
            folder: folder.into(),
            began,
            next: Arc::new(AtomicU64::new(1)),
            stop: stop.clone(),
            acks: acks.clone(),
        };
        let start = |door: Door| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.write(&door))
        };
        Writers { stop, acks, threads: doors.into_iter().map(start).collect() }
    }

    /// What was acknowledged so far.
    pub fn acks(&self) -> Vec<Ack> {
        self.acks.lock().map(|acks| acks.clone()).unwrap_or_default()
    }

    /// The last acknowledgement.
    pub fn last(&self) -> Option<Ack> {
        self.acks.lock().ok()?.last().copied()
    }

    /// Stops them and gives the record.
    pub fn finish(&mut self) -> Vec<Ack> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        self.acks()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn write(&self, door: &Door) {
        let mut session: Option<Session> = None;
        while !self.stop.load(Ordering::Relaxed) {
            if session.is_none() && door.socket.join(".s.PGSQL.5432").exists() {
                session = Session::open(self, door).ok();
            }
            let Some(open) = session.as_mut() else {
                std::thread::sleep(PROBE);
                continue;
            };
            // Each number is tried once: whether an unanswered one is there is not asked.
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let sent = self.began.elapsed();
            let answer = open.insert(n, door.member);
            let acked = self.began.elapsed();
            match answer {
                Answer::Done { lsn, timeline } => {
                    if let Ok(mut acks) = self.acks.lock() {
                        acks.push(Ack { n, member: door.member, timeline, lsn, sent, acked });
                    }
                    std::thread::sleep(PACE);
                }
                Answer::Refused => std::thread::sleep(PROBE),
                Answer::Silent => {
                    session = None;
                    std::thread::sleep(PROBE);
                }
            }
        }
    }
}

/// What became of a row.
enum Answer {
    /// Committed.
    Done { lsn: u64, timeline: u32 },
    /// The server says no.
    Refused,
    /// The session is of no use any more; nobody knows about the row.
    Silent,
}

/// One psql that is fed line by line.
struct Session {
    child: Child,
    lines: Receiver<String>,
}

impl Session {
    fn open(shared: &Shared, door: &Door) -> Result<Session> {
        let mut command = process::command(&shared.bin.join("psql"), &shared.folder, &shared.bin)?;
        command
            .args(["-XAtq", "-U", "postgres", "-d", "postgres", "-p", "5432", "-h"])
            .arg(&door.socket)
            .env("PGCONNECT_TIMEOUT", "3")
            .env("PGAPPNAME", "chaos");
        let (child, lines) = process::conversation(command)?;
        Ok(Session { child, lines })
    }

    /// Writes a row; the second statement tells that the first has been answered, whatever the answer.
    fn insert(&mut self, n: u64, member: usize) -> Answer {
        let statement = format!(
            "INSERT INTO journal VALUES ({n}, {member}) RETURNING n, \
             pg_current_wal_insert_lsn() - '0/0', pg_walfile_name(pg_current_wal_insert_lsn());\n\
             SELECT 'end {n}';\n"
        );
        let Some(input) = self.child.stdin.as_mut() else { return Answer::Silent };
        if input.write_all(statement.as_bytes()).is_err() {
            return Answer::Silent;
        }
        let deadline = Instant::now() + SILENCE;
        let mut answer = Answer::Refused;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                // The row may have been acknowledged just before the session broke.
                return match answer {
                    Answer::Done { .. } => answer,
                    _ => Answer::Silent,
                };
            };
            if line == format!("end {n}") {
                return answer;
            }
            if let Some(done) = done(&line, n) {
                answer = done;
            }
        }
    }
}

/// `n|position|file` of the row that was asked for.
fn done(line: &str, n: u64) -> Option<Answer> {
    let mut fields = line.split('|');
    if fields.next()?.parse() != Ok(n) {
        return None;
    }
    let lsn = fields.next()?.parse().ok()?;
    let timeline = u32::from_str_radix(fields.next()?.get(..8)?, 16).ok()?;
    Some(Answer::Done { lsn, timeline })
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
