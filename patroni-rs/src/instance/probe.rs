//! One look at PostgreSQL for a cycle.

use std::sync::atomic::Ordering;
use std::time::Duration;

use indexmap::IndexMap;
use patroni_core::ha::{ControlData, DataDir, PgState, PgView, Query, Role, Unfinished};
use patroni_core::model::{Cluster, Lsn};
use patroni_core::mutex::locked;
use patroni_core::slots;
use patroni_core::tags::Tags;
use patroni_core::PgVersion;
use patroni_postgres::process::{blocking, datadir, history, unfinished};
use patroni_postgres::sql::{
    monitor_statement, parse_monitor_row, parse_status_row, python_time, status_statement, Connection,
    MonitorOptions, Monitored, RestStatus,
};
use pyfmt::{oserror, Value};

use super::{Instance, Pending, SqlError};

/// How long the data directory may take to answer whether it is there.
const STAT_DEADLINE: Duration = Duration::from_secs(10);

impl Instance {
    /// At the start of the process: what is there already? A server that runs is
    /// taken over, and `on_start` fired (surface-ha-pg 1-03, 2-03).
    pub async fn take_over(&self) {
        let running = self.postmaster().await.is_some();
        let readable =
            self.data_dir_state(running).await == DataDir::Present && self.control.read().await.is_ok();
        let role = if readable { self.role_by_data_directory() } else { Role::Uninitialized };
        if !running {
            self.set_role(if role == Role::Primary { Role::Demoted } else { role });
            return;
        }
        self.set_role(role);
        self.set_state(PgState::Starting);
        self.check_startup().await;
        locked(&self.due).join = true;
        if self.state() != PgState::Running {
            return;
        }
        if let Ok(row) = self.monitor(false).await {
            self.set_role(if row.is_primary() { Role::Primary } else { Role::Replica });
        }
        let section = self.config().section().clone();
        self.join(section).await;
    }

    /// A server runs of which it was thought that it does not: it could not be seen for a while, or people have started
    /// it. In another state it would be a primary that is never told its `synchronous_standby_names`.
    async fn take_back(&self, believed: PgState) {
        tracing::warn!(
            target: "patroni.postgresql", "PostgreSQL is running, and was thought to be '{}'", believed.as_str()
        );
        // Nobody has started it here, unless a start of ours is to be told of yet.
        locked(&self.local_state).pending_callback.get_or_insert(Pending::Nothing);
        self.set_state(PgState::Starting);
        self.check_startup().await;
        locked(&self.due).join = true;
    }

    /// The parameters of a server that was started by somebody else. False: they could not be read.
    pub(super) async fn load_gucs(&self, primary: bool) -> bool {
        let query = self.config().current_parameters_query();
        match patroni_postgres::sql::load_gucs(self.pool(), &query).await {
            Ok(rows) => {
                self.with_config(move |c, _| c.load_current_server_parameters(rows, primary)).await.is_ok()
            }
            Err(e) => {
                tracing::error!(target: "patroni.postgresql", "Failed to load server parameters: {e}");
                false
            }
        }
    }

    pub(super) async fn data_dir_state(&self, running: bool) -> DataDir {
        let dir = self.data_dir.clone();
        match blocking::run(STAT_DEADLINE, move || datadir::is_empty(&dir)).await {
            Ok(true) => DataDir::Empty,
            // We start no server on what is half made; one that runs was started by somebody who knows better.
            Ok(false) if running => DataDir::Present,
            Ok(false) => match self.half_made().await {
                Ok(None) => DataDir::Present,
                Ok(Some(work)) => DataDir::HalfMade(work),
                Err(e) => DataDir::Inaccessible(oserror::text(&e, Some(&self.data_dir.to_string_lossy()))),
            },
            Err(e) => DataDir::Inaccessible(oserror::text(&e, Some(&self.data_dir.to_string_lossy()))),
        }
    }

    /// What is half made here by work that was broken off; nothing while the work goes on.
    pub(super) async fn half_made(&self) -> std::io::Result<Option<Unfinished>> {
        if self.working.load(Ordering::SeqCst) {
            return Ok(None);
        }
        unfinished::look(&self.data_dir, &self.control).await
    }

    /// Everything that a cycle wants to know of PostgreSQL.
    pub async fn view(&self, cluster: Option<&Cluster>, tags: &Tags) -> PgView {
        self.check_startup().await;
        // Before the look: a stop that ends meanwhile is not a server that runs after all.
        let believed = self.state();
        let server = self.postmaster().await;
        let running = server.is_some();
        let at_work = self.working.load(Ordering::SeqCst);
        if believed.is_over() && !at_work && server.is_some_and(|server| !server.single_user) {
            self.take_back(believed).await;
        }
        if !running || self.state().is_starting() {
            self.silent.store(false, Ordering::SeqCst);
        }
        // What runs while a data directory is being made is nobody's server.
        let made = !matches!(
            self.state(),
            PgState::InitDb | PgState::InitDbFailed | PgState::CustomBootstrap | PgState::CreatingReplica
        );
        let query =
            if running && made { self.monitoring_answer(cluster, tags).await } else { Query::Unreachable };
        let data_dir = self.data_dir_state(running).await;
        let (sysid, sysid_problem) = self.system_identifier(running && data_dir == DataDir::Present).await;
        let start_time = if running { self.postmaster_start_time().await } else { None };
        let major_version = self.major_version();
        let local_state = locked(&self.local_state);
        PgView {
            state: local_state.state,
            role: local_state.role,
            running,
            query,
            data_dir,
            sysid,
            sysid_problem,
            state_since: local_state.state_since,
            callback_fired: local_state.callback_fired,
            server_version: self.sql.pool.server_version(),
            major_version,
            pending_restart_reason: local_state.pending_restart.to_value(),
            postmaster_start_time: start_time,
        }
    }

    /// Of the control file, and why it is empty. A server that runs keeps the one with which it was
    /// started: no cycle of a running server depends on that file.
    async fn system_identifier(&self, running: bool) -> (String, String) {
        let known = self.known_sysid();
        if running && !known.is_empty() {
            return (known, String::new());
        }
        let (sysid, problem) = match self.control.read().await {
            Ok(control) => (control.sysid().unwrap_or_default().to_owned(), String::new()),
            Err(e) => (String::new(), e.to_string()),
        };
        (*locked(&self.sysid)).clone_from(&sysid);
        (sysid, problem)
    }

    /// Somebody may have put another cluster in place: the control file has to be read again.
    pub fn forget_sysid(&self) {
        locked(&self.sysid).clear();
    }

    async fn monitoring_answer(&self, cluster: Option<&Cluster>, tags: &Tags) -> Query {
        let with_slots = self.slots_matter(cluster, tags);
        match self.monitor(with_slots).await {
            Ok(row) => {
                let slots = self.published_slots(&row, cluster).await;
                let restores = self.config().restore_command().is_some();
                let status = row.to_status(slots, self.major_version(), restores);
                Query::Row(Box::new(status))
            }
            Err(e) if e.is_timeout() => Query::TimedOut,
            Err(_) => Query::Unreachable,
        }
    }

    /// The monitoring statement; its row is kept for what follows in the cycle.
    pub(super) async fn monitor(&self, with_slots: bool) -> Result<Monitored, SqlError> {
        if self.state().is_starting() {
            return Err(SqlError::Connection("the server is starting".into()));
        }
        let options = {
            let local_state = locked(&self.local_state);
            MonitorOptions {
                major_version: local_state.major_version,
                role: local_state.role,
                with_slots,
                synchronous_mode: local_state.dynamic.is_synchronous_mode(),
            }
        };
        let rows = self.query(&monitor_statement(&options)).await;
        self.note_silence(&rows);
        let rows = rows?;
        let row = rows.first().ok_or_else(|| SqlError::Unexpected("no row".into()))?;
        let row = parse_monitor_row(row)?;
        locked(&self.local_state).server_version = self.sql.pool.server_version();
        self.writes.store(row.is_primary(), Ordering::SeqCst);
        *self.last_row.lock().await = Some(row.clone());
        Ok(row)
    }

    /// A statement without any answer: the server would have ended it by
    /// `statement_timeout`. That it cannot be reached since proves nothing more.
    fn note_silence<T>(&self, answer: &Result<T, SqlError>) {
        match answer {
            Err(SqlError::Timeout(_)) => self.silent.store(true, Ordering::SeqCst),
            Err(SqlError::Connection(_)) => {}
            _ => self.silent.store(false, Ordering::SeqCst),
        }
    }

    /// Is a server that runs hung: has it left a statement unanswered, and said
    /// nothing since?
    pub fn is_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst)
    }

    /// Has the server that runs said that it is a primary, when it was asked last?
    pub fn says_it_writes(&self) -> bool {
        self.writes.load(Ordering::SeqCst)
    }

    pub(super) async fn last_status(&self) -> Option<Monitored> {
        self.last_row.lock().await.clone()
    }

    async fn published_slots(&self, row: &Monitored, cluster: Option<&Cluster>) -> IndexMap<String, Lsn> {
        let Some(cluster) = cluster else { return IndexMap::new() };
        let major = self.major_version();
        let known = match &row.slots {
            Some(seen) => self.slot_state.lock().await.refresh(seen),
            None => IndexMap::new(),
        };
        let all = slots::with_own_slot(known, &self.name, row.last_operation(), major);
        slots::maybe_filter_permanent_slots(cluster, &self.dynamic(), &self.name, major, all)
    }

    /// `pg_control`, as far as decisions need it.
    pub async fn control_data(&self) -> ControlData {
        let restored = datadir::was_restored_from_backup(&self.data_dir, self.major_version());
        let recovery_conf_exists = self.config().recovery_conf_exists();
        match self.control.read().await {
            Ok(control) => ControlData {
                lines: control.raw.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
                state: control.state(),
                recovery_conf_exists,
                restored_from_backup: restored,
            },
            Err(_) => {
                ControlData { recovery_conf_exists, restored_from_backup: restored, ..ControlData::default() }
            }
        }
    }

    /// `pg_postmaster_start_time()` as Python prints it.
    pub async fn start_time(&self) -> Option<String> {
        self.postmaster_start_time().await
    }

    /// Asked once for each postmaster.
    async fn postmaster_start_time(&self) -> Option<String> {
        if let Some(known) = locked(&self.local_state).start_time.clone() {
            return Some(known);
        }
        if self.state() != PgState::Running {
            return None;
        }
        // As JSON it does not depend on DateStyle.
        let rows =
            self.query("SELECT pg_catalog.to_json(pg_catalog.pg_postmaster_start_time())").await.ok()?;
        let time = rows.first().and_then(|r| r.text(0).map(python_time));
        locked(&self.local_state).start_time.clone_from(&time);
        time
    }

    /// Rows of the history file of `timeline`.
    pub async fn history(&self, timeline: u32) -> Vec<Value> {
        if timeline <= 1 {
            return Vec::new();
        }
        history::local_history(&self.data_dir, self.major_version(), timeline, &self.name).await
    }

    /// The statement of the REST API, on its own connection.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn rest_status(&self) -> Result<RestStatus, SqlError> {
        let major = self.major_version();
        let rows = self.pool().query_restapi(&status_statement(major)).await?;
        let row = rows.first().ok_or_else(|| SqlError::Unexpected("no row".into()))?;
        parse_status_row(row, major, self.config().restore_command().is_some())
    }

    /// Was a CHECKPOINT run since the promotion? Otherwise one is begun beside the cycles.
    pub async fn ensure_checkpoint(self: &std::sync::Arc<Self>) -> bool {
        let timeline = self.last_status().await.map_or(0, |row| row.timeline);
        if self.control.read().await.is_ok_and(|c| c.timeline() == Some(timeline)) {
            return true;
        }
        if !self.checkpointing.swap(true, Ordering::SeqCst) {
            let instance = self.clone();
            tokio::spawn(async move {
                instance.checkpoint(None).await;
                instance.checkpointing.store(false, Ordering::SeqCst);
                instance.wake.notify_one();
            });
        }
        false
    }

    /// A replay that PostgreSQL 14 or newer paused for a parameter goes on.
    pub async fn resume_replay(&self) {
        if self.major_version().at_least(PgVersion::V14) {
            tracing::info!(target: "patroni.postgresql", "Resuming paused WAL replay for PostgreSQL 14+");
            let _ =
                self.sql.pool.query(Connection::Heartbeat, "SELECT pg_catalog.pg_wal_replay_resume()").await;
        }
    }
}
