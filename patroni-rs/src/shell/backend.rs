//! The daemon as the REST API sees it.
//!
//! The API has a thread and a runtime of its own; what needs the DCS, PostgreSQL
//! or a job is carried over to the daemon's runtime.

mod orders;
mod status;

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use patroni_api::backend::Result;
use patroni_api::measured::Measured;
use patroni_api::snapshot::{PostgresState, Queried, Snapshot};
use patroni_api::{Backend, BackendError, Batched, FailsafeReply, Reinitialize, Restarted, SingleFlight};
use patroni_core::ha::{self, FailsafePing, PgState, Role, ScheduledRestart};
use patroni_core::model::{Cluster, Lsn, Member};
use pyfmt::Value;

use super::citus;
use super::peers;
use super::shared::Shared;
use crate::instance::{locked, mono_now};

/// Longer than any status query takes.
const QUERY_LIMIT: Duration = Duration::from_secs(5);
/// Answers of this age count as just asked for: however many clients there are, PostgreSQL
/// is asked twenty times a second at most.
const STATUS_MAX_AGE: Duration = Duration::from_millis(50);
/// A state of this node that is no older stands for that of this moment.
const SNAPSHOT_MAX_AGE: Duration = Duration::from_millis(1);
/// A query result that is not older may stand for one that does not come.
const STALE_OK_FOR: Duration = Duration::from_secs(3);
/// How long a request waits for PostgreSQL where there is a result that may stand in,
const STATUS_WAIT_KNOWN: Duration = Duration::from_millis(500);
/// where there is none (the query itself is limited to 2 s, J14),
const STATUS_WAIT: Duration = Duration::from_millis(2500);
/// and once PostgreSQL has kept somebody waiting that long and has not answered since.
const STATUS_WAIT_STALLED: Duration = Duration::from_millis(30);
/// How long a request waits at most for the member key to tell what it has changed.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(2);

/// See the module.
pub struct ApiBackend {
    shared: Arc<Shared>,
    flight: SingleFlight<Option<Arc<Queried>>>,
    reads: Batched<Result<Arc<Cluster>>>,
    /// The last read of the DCS.
    read: Mutex<Option<Read>>,
    /// Of the DCS' keys, as far as heard of.
    changes: tokio::sync::watch::Receiver<u64>,
    /// Writes of requests that have begun or ended.
    writes: AtomicU64,
    known: Arc<Known>,
    made: Mutex<Option<Made>>,
}

/// A view of the cluster that a request has read.
struct Read {
    begun: Instant,
    /// Changes and writes that were known of then: after another one it is out of date.
    counts: (u64, u64),
    cluster: Arc<Cluster>,
}

/// What PostgreSQL said last, and whether it still says something.
#[derive(Default)]
struct Known {
    last: Mutex<Option<Answer>>,
    stalled: AtomicBool,
    postmaster: Mutex<Option<(Instant, bool)>>,
}

#[derive(Clone)]
struct Answer {
    asked: Instant,
    /// State and role that were believed when it was asked: with others, it is out of date.
    believed: (PgState, Role),
    queried: Arc<Queried>,
}

/// The last state that was put together.
struct Made {
    at: Instant,
    believed: (PgState, Role),
    counts: (u64, u64),
    queried: Option<Arc<Queried>>,
    snapshot: Arc<Snapshot>,
}

impl ApiBackend {
    /// Waits until the member key tells of a scheduled restart, or does not: whoever has our answer and asks the DCS,
    /// as patronictl does, finds it there (the reference writes the key before it answers).
    async fn restart_is_published(&self, wanted: bool) {
        let mut published = self.shared.restart_published.subscribe();
        self.shared.wake.notify_one();
        let _ = tokio::time::timeout(PUBLISHED_WITHIN, published.wait_for(|there| *there == wanted)).await;
    }

    /// For a daemon.
    pub fn new(shared: Arc<Shared>) -> ApiBackend {
        ApiBackend {
            flight: SingleFlight::default(),
            reads: Batched::default(),
            read: Mutex::default(),
            changes: shared.dcs.changes(),
            writes: AtomicU64::new(0),
            known: Arc::default(),
            made: Mutex::default(),
            shared,
        }
    }

    fn counts(&self) -> (u64, u64) {
        (*self.changes.borrow(), self.writes.load(Ordering::SeqCst))
    }

    /// A read that may stand for one of this moment: it is as young as an answer of PostgreSQL
    /// may be, and neither has the watch told of a change since nor have we written.
    fn recent_read(&self) -> Option<Arc<Cluster>> {
        let read = locked(&self.read);
        let same = |r: &&Read| r.begun.elapsed() < STATUS_MAX_AGE && r.counts == self.counts();
        read.as_ref().filter(same).map(|r| r.cluster.clone())
    }

    async fn read_cluster(&self) -> Result<Arc<Cluster>> {
        let dcs = self.shared.dcs.clone();
        let read = || async move {
            let (begun, counts) = (Instant::now(), self.counts());
            let cluster = self.dcs(async move { dcs.get_cluster().await }).await?;
            *locked(&self.read) = Some(Read { begun, counts, cluster: cluster.clone() });
            Ok(cluster)
        };
        self.reads.get(read).await
    }

    /// A write of the DCS, after which no older read is used.
    async fn write<R: Send + 'static>(
        &self,
        work: impl Future<Output = std::result::Result<R, patroni_dcs::DcsError>> + Send + 'static,
    ) -> Result<R> {
        let begun = Begun::new(&self.writes);
        let result = self.dcs(work).await;
        drop(begun);
        result
    }

    async fn ask(&self, retry: bool) -> Arc<Snapshot> {
        let mut found = self.query().await;
        let stalled = self.known.stalled.load(Ordering::Relaxed);
        if found.is_none() && retry && !stalled && self.may_query() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            found = self.query().await;
        }
        self.snapshot_of(found)
    }

    /// Runs on the daemon's runtime.
    async fn on_main<R: Send + 'static>(&self, work: impl Future<Output = R> + Send + 'static) -> Result<R> {
        self.shared.runtime.spawn(work).await.map_err(|e| BackendError(e.to_string()))
    }

    async fn dcs<R: Send + 'static>(
        &self,
        work: impl Future<Output = std::result::Result<R, patroni_dcs::DcsError>> + Send + 'static,
    ) -> Result<R> {
        self.on_main(work).await?.map_err(|e| BackendError(e.to_string()))
    }

    /// One that was put together a moment ago stands for others, if PostgreSQL has said nothing new, we believe the same
    /// of it, and no key has changed.
    fn snapshot_of(&self, queried: Option<Arc<Queried>>) -> Arc<Snapshot> {
        let (at, believed, counts) = (Instant::now(), self.believed(), self.counts());
        let same = |made: &&Made| {
            made.queried.as_ref().map(Arc::as_ptr) == queried.as_ref().map(Arc::as_ptr)
                && made.believed == believed
                && made.counts == counts
                && at.saturating_duration_since(made.at) < SNAPSHOT_MAX_AGE
        };
        if let Some(made) = locked(&self.made).as_ref().filter(same) {
            return Arc::clone(&made.snapshot);
        }
        let snapshot = Arc::new(self.put_together(queried.as_deref().cloned()));
        *locked(&self.made) = Some(Made { at, believed, counts, queried, snapshot: Arc::clone(&snapshot) });
        snapshot
    }

    fn put_together(&self, queried: Option<Queried>) -> Snapshot {
        let shared = &self.shared;
        let me = shared.me();
        let (now, mono) = (Instant::now(), mono_now());
        let cluster = shared.dcs.cached_cluster();
        let instant = |at: ha::Mono| now + at.since(mono);
        let config = shared.instance.dynamic();
        let fresh = |at: ha::Mono| at + me.timing.ttl > mono;
        let failsafe_active = locked(&shared.failsafe_since).is_some_and(fresh)
            || locked(&shared.failsafe_ping).as_ref().is_some_and(|p| fresh(p.at));
        let log = shared.log.counters();
        let watchdog = shared.watchdog_view();
        Snapshot {
            name: shared.instance.name.clone(),
            scope: shared.instance.scope.clone(),
            lease_until: shared.lease.until().map(instant),
            other_groups: shared.citus.as_ref().map(|citus| citus.other_members()).unwrap_or_default(),
            cluster_valid_until: cluster.as_ref().map(|_| now + me.timing.ttl),
            cluster,
            config,
            dcs_last_seen: shared.dcs.last_seen() as i64,
            failsafe: shared.dcs.failsafe(),
            failsafe_active,
            ttl: me.timing.ttl,
            loop_wait: me.timing.loop_wait,
            next_run: *locked(&shared.next_run),
            postgres: PostgresState {
                state: shared.instance.state(),
                role: shared.instance.role(),
                postmaster_alive: self.postmaster_alive(),
                queried,
            },
            tags: me.tags.clone(),
            effective_tags: ha::effective_tags(&me, shared.disable_sync.load(Ordering::SeqCst)),
            sysid: shared.instance.known_sysid(),
            pending_restart_reason: shared.instance.pending_restart(),
            scheduled_restart: locked(&shared.scheduled_restart)
                .as_ref()
                .map_or(Value::Null, |r| r.data.clone()),
            watchdog_failed: !watchdog.healthy,
            held_back: locked(&shared.held_back).clone(),
            measured: Measured {
                guardian_armed: shared.instance.guard.is_armed(),
                ..locked(&shared.measured).clone()
            },
            log_queue_size: log.queue_size as i64,
            log_records_lost: log.records_lost as i64,
            copy_progress: shared.instance.copy_progress(),
            copy_failed: locked(&shared.instance.copy_failed).clone(),
        }
    }

    fn may_query(&self) -> bool {
        matches!(self.shared.instance.state(), PgState::Running | PgState::Restarting | PgState::Starting)
    }

    fn believed(&self) -> (PgState, Role) {
        (self.shared.instance.state(), self.shared.instance.role())
    }

    /// A look into /proc that may be as old as an answer.
    fn postmaster_alive(&self) -> bool {
        let mut last = locked(&self.known.postmaster);
        match *last {
            Some((at, alive)) if at.elapsed() < STATUS_MAX_AGE => alive,
            _ => {
                let alive = self.shared.instance.known_postmaster().is_some_and(|p| p.is_running());
                *last = Some((Instant::now(), alive));
                alive
            }
        }
    }

    /// The last answer, if it is not older than that. None also where PostgreSQL has ended
    /// the connection since, or we believe something else of it than then.
    fn known(&self, age: Duration) -> Option<Arc<Queried>> {
        let last = locked(&self.known.last);
        let answer = last.as_ref().filter(|a| a.asked.elapsed() < age && a.believed == self.believed())?;
        (self.may_query() && self.shared.instance.pool().is_restapi_open()).then(|| answer.queried.clone())
    }

    /// Joins the query on its way or begins one, and waits for its end as long as
    /// PostgreSQL deserves.
    async fn query(&self) -> Option<Arc<Queried>> {
        let (shared, known, believed) = (self.shared.clone(), self.known.clone(), self.believed());
        let query = move || async move {
            let (asked, runtime) = (Instant::now(), shared.runtime.clone());
            let found = runtime
                .spawn(async move { status::queried(&shared).await })
                .await
                .ok()
                .flatten()
                .map(Arc::new);
            if let Some(queried) = &found {
                known.stalled.store(false, Ordering::Relaxed);
                *locked(&known.last) = Some(Answer { asked, believed, queried: queried.clone() });
            }
            found
        };
        let patience = match (self.known.stalled.load(Ordering::Relaxed), self.known(STALE_OK_FOR)) {
            (true, _) => STATUS_WAIT_STALLED,
            (false, Some(_)) => STATUS_WAIT_KNOWN,
            (false, None) => STATUS_WAIT,
        };
        match tokio::time::timeout(patience, self.flight.get(QUERY_LIMIT, query)).await {
            Ok(found) => found.flatten(),
            Err(_) => {
                self.known.stalled.store(true, Ordering::Relaxed);
                self.known(STALE_OK_FOR)
            }
        }
    }
}

/// Counts when it is made and when it is dropped, so that no read that began in between is used.
/// (What is written after its caller has gone away the watch tells of.)
struct Begun<'a>(&'a AtomicU64);

impl Begun<'_> {
    fn new(count: &AtomicU64) -> Begun<'_> {
        count.fetch_add(1, Ordering::SeqCst);
        Begun(count)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Backend for ApiBackend {
    fn last_snapshot(&self) -> Arc<Snapshot> {
        self.snapshot_of(self.known(STALE_OK_FOR))
    }

    async fn snapshot(&self, retry: bool) -> Arc<Snapshot> {
        if !self.may_query() {
            return self.snapshot_of(None);
        }
        if let Some(recent) = self.known(STATUS_MAX_AGE) {
            return self.snapshot_of(Some(recent));
        }
        // Twenty times a second at most: not in the task of every connection.
        Box::pin(self.ask(retry)).await
    }

    async fn cluster(&self) -> Result<Arc<Cluster>> {
        match self.recent_read() {
            Some(cluster) => Ok(cluster),
            None => Box::pin(self.read_cluster()).await,
        }
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.dcs.changes()
    }

    async fn set_config(&self, text: String, version: Option<String>) -> Result<bool> {
        let dcs = self.shared.dcs.clone();
        let value = pyfmt::json::loads(&text).map_err(|e| BackendError(e.to_string()))?;
        self.write(async move { dcs.set_config(&value, version.as_deref()).await }).await
    }

    async fn set_failover(&self, text: String, version: Option<String>) -> Result<bool> {
        let dcs = self.shared.dcs.clone();
        self.write(async move { dcs.set_failover(&text, version.as_deref()).await }).await
    }

    fn wakeup(&self) {
        self.shared.wake.notify_one();
    }

    fn reload(&self) {
        self.shared.reload_wanted.store(true, Ordering::SeqCst);
        self.shared.wake.notify_one();
    }

    async fn restart(&self, filter: Value) -> Result<Restarted> {
        let shared = self.shared.clone();
        self.on_main(async move { orders::restart(&shared, &filter).await }).await
    }

    async fn schedule_restart(&self, filter: Value, at_us: i64) -> Result<bool> {
        let shared = self.shared.clone();
        let start_time = self.on_main(async move { shared.instance.start_time().await }).await?;
        {
            let mut slot = locked(&self.shared.scheduled_restart);
            if slot.is_some() {
                return Ok(false);
            }
            let schedule = filter.get("schedule").map(Value::py_str).unwrap_or_default();
            let mut data = filter;
            data.set("postmaster_start_time", start_time);
            *slot = Some(ScheduledRestart { data, at_us, schedule });
        }
        self.restart_is_published(true).await;
        Ok(true)
    }

    async fn delete_restart(&self) -> Result<bool> {
        let deleted = locked(&self.shared.scheduled_restart).take().is_some();
        if deleted {
            self.restart_is_published(false).await;
        }
        Ok(deleted)
    }

    async fn reinitialize(&self, how: Reinitialize) -> Result<Option<String>> {
        let shared = self.shared.clone();
        self.on_main(async move { orders::reinitialize(&shared, how).await }).await?
    }

    async fn any_can_promote(&self, members: Vec<Member>) -> bool {
        let client = self.shared.peers();
        let asked = self.on_main(async move { peers::statuses(&client, &members, None).await }).await;
        asked.is_ok_and(|peers| peers.iter().any(|p| p.limitation().is_none()))
    }

    async fn failsafe(&self, leader: Value) -> Result<FailsafeReply> {
        let instance = &self.shared.instance;
        if self.shared.lease.refuses_failsafe(instance.state(), instance.role()) {
            return Ok(FailsafeReply::RunningAsLeader);
        }
        *locked(&self.shared.failsafe_ping) = Some(FailsafePing { data: leader, at: mono_now() });
        Ok(FailsafeReply::Accepted(locked(&self.shared.last_lsn).map(Lsn::bytes)))
    }

    async fn mpp_event(&self, event: Value) -> Result<()> {
        let shared = self.shared.clone();
        self.on_main(async move { citus::event(&shared, event).await }).await?.map_err(BackendError)
    }
}
