//! Clients that write through every member all the time, and remember each acknowledgement.
//!
//! They speak over the members' Unix sockets: also a member that is cut off has clients beside it, and
//! a network that is cut must not hide what a primary still accepts.
//!
//! They pipeline, as drivers do with batches: several statements are always in the socket. A backend looks
//! for the death of its postmaster only when it waits, and such a backend never waits for its client. What
//! keeps the pace must not wait either: between two rows the backend runs `sleep` as a program, which it
//! waits for in the kernel (`pg_sleep` would see the postmaster's end).

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::stream::FuturesOrdered;
use futures_util::StreamExt;
use tokio_postgres::{Client, Error, NoTls, SimpleQueryMessage};

use super::check::Ack;
use crate::lab::Result;

/// A session that has been silent for this long is given up, as an application would.
const SILENCE: Duration = Duration::from_secs(4);
/// Between two attempts where no write is accepted.
const PROBE: Duration = Duration::from_millis(100);
/// How many rows are in flight; each has its pause behind it.
const DEPTH: usize = 4;
/// What a backend does between two rows. Superusers may.
const PAUSE: &str = "COPY (SELECT) TO PROGRAM 'sleep 0.03'";

/// What a client writes to: a member's socket.
#[derive(Debug, Clone)]
pub struct Door {
    /// The member's number.
    pub member: usize,
    /// The directory of its Unix socket.
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
    began: Instant,
    next: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    acks: Arc<Mutex<Vec<Ack>>>,
}

impl Writers {
    /// One client for each door. The table `journal (n bigint, member int)` must be there. Times count
    /// from `began`.
    pub fn start(doors: Vec<Door>, began: Instant) -> Writers {
        let (stop, acks) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let shared =
            Shared { began, next: Arc::new(AtomicU64::new(1)), stop: stop.clone(), acks: acks.clone() };
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

    /// The last acknowledgement on the newest timeline, of those by these members since then.
    pub fn newest(&self, of: &Range<usize>, since: Duration) -> Option<Ack> {
        let acks = self.acks.lock().ok()?;
        // In order but for what two clients push at the same time.
        let recent =
            acks.iter().rev().take_while(|ack| ack.acked >= since).filter(|a| of.contains(&a.member));
        recent.max_by_key(|ack| (ack.timeline, ack.acked)).copied()
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
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        while !self.stop.load(Ordering::Relaxed) {
            if door.socket.join(".s.PGSQL.5432").exists() {
                // Ends when the session is of no use any more: nobody knows about the rows in flight.
                let _ = runtime.block_on(self.session(door));
            }
            std::thread::sleep(PROBE);
        }
    }

    async fn session(&self, door: &Door) -> Result<()> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&door.socket).port(5432).user("postgres").dbname("postgres");
        config.application_name("chaos");
        let (client, connection) = tokio::time::timeout(SILENCE, config.connect(NoTls)).await??;
        let connection = tokio::spawn(connection);
        let outcome = self.pipeline(&client, door.member).await;
        connection.abort();
        outcome
    }

    /// One row alone until it is accepted, then [`DEPTH`] rows with their pauses in flight, until one is refused.
    async fn pipeline(&self, client: &Client, member: usize) -> Result<()> {
        let mut flight = FuturesOrdered::new();
        let mut accepted = false;
        while !self.stop.load(Ordering::Relaxed) {
            let depth = if accepted { 2 * DEPTH } else { 1 };
            // A future sends its statement when it is first polled, which the stream does in order.
            while flight.len() < depth {
                // Each number is tried once: whether an unanswered one is there is not asked.
                let n = self.next.fetch_add(1, Ordering::Relaxed);
                flight.push_back(self.step(client, member, Some(n)));
                if accepted {
                    flight.push_back(self.step(client, member, None));
                }
            }
            let answer =
                tokio::time::timeout(SILENCE, flight.next()).await?.ok_or("nothing is in flight")??;
            match answer {
                Answer::Done(ack) => {
                    accepted = true;
                    self.acks.lock().map_err(|e| e.to_string())?.push(ack);
                }
                Answer::Pause => {}
                Answer::Refused => {
                    // The server is no primary. What is in flight is answered first.
                    accepted = false;
                    while let Some(answer) = tokio::time::timeout(SILENCE, flight.next()).await? {
                        if let Answer::Done(ack) = answer? {
                            self.acks.lock().map_err(|e| e.to_string())?.push(ack);
                        }
                    }
                    tokio::time::sleep(PROBE).await;
                }
            }
        }
        Ok(())
    }

    /// Sends the row of this number, or a pause, and gives what becomes of it.
    ///
    /// # Errors
    /// The session is of no use any more; nobody knows about the row.
    async fn step(&self, client: &Client, member: usize, row: Option<u64>) -> Result<Answer> {
        let Some(n) = row else {
            // One that fails has not waited, and that is all.
            return client.simple_query(PAUSE).await.map(|_| Answer::Pause).or_else(refused);
        };
        let statement = format!(
            "INSERT INTO journal VALUES ({n}, {member}) RETURNING \
             pg_current_wal_insert_lsn() - '0/0', pg_walfile_name(pg_current_wal_insert_lsn())"
        );
        let sent = self.began.elapsed();
        let messages = match client.simple_query(&statement).await {
            Ok(messages) => messages,
            Err(error) => return refused(error),
        };
        let acked = self.began.elapsed();
        let (lsn, timeline) = position(&messages).ok_or("a row without its position")?;
        Ok(Answer::Done(Ack { n, member, timeline, lsn, sent, acked }))
    }
}

/// What became of a statement.
enum Answer {
    /// Committed.
    Done(Ack),
    /// The server says no.
    Refused,
    /// It was no row.
    Pause,
}

/// Did the server say no, or did the session break? A server that ends a session says so, too.
fn refused(error: Error) -> Result<Answer> {
    let fatal = error.as_db_error().is_none_or(|error| error.severity() != "ERROR");
    if fatal {
        Err(error.into())
    } else {
        Ok(Answer::Refused)
    }
}

/// The WAL position and the timeline that came with a row.
fn position(messages: &[SimpleQueryMessage]) -> Option<(u64, u32)> {
    let row = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })?;
    let lsn = row.get(0)?.parse().ok()?;
    Some((lsn, u32::from_str_radix(row.get(1)?.get(..8)?, 16).ok()?))
}
