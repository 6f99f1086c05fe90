//! One PostgreSQL instance: what the files, processes and statements of
//! `patroni-postgres` come to together, and what we believe of its state.
//!
//! Methods do one thing each and decide nothing: decisions are
//! [`patroni_core::ha`]'s. Blocking work runs on the blocking pool, so that a
//! dead disk hangs the caller, never the runtime.

mod bootstrap;
mod configuration;
mod follow;
mod postmaster;
mod probe;
mod query;
mod reload;
mod replication;
mod rewind;
mod slots;
mod start;
mod stop;
mod sync;
mod work;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::{Callback, DataDir, Mono, PgState, Role};
use patroni_core::PgVersion;
use patroni_postgres::files::{AvailableGucs, ConfigHandler, PendingRestart};
use patroni_postgres::process::callbacks::{self, CallbackExecutor};
use patroni_postgres::process::control::ControlReader;
use patroni_postgres::process::evidence::{self, Place};
use patroni_postgres::process::proc::Process;
use patroni_postgres::process::progress::CopyProgress;
use patroni_postgres::process::{Binaries, Cancellable, Postmaster};
use pyfmt::Value;
use tokio::sync::watch;

use crate::guardian::Guard;

pub use crate::clock::mono_now;
pub use follow::Apply;
pub(crate) use patroni_core::mutex::locked;
pub use query::SqlError;
pub use replication::timeline_of;
pub use slots::SlotState;
pub use start::Started;
pub use stop::{RestartHow, StopHow};

/// What is asked of the file system in one go may take this long before the
/// caller gives up on it.
const FILE_DEADLINE: Duration = Duration::from_secs(30);

/// Tells those that have to know, within that time.
pub type OnLeaving = Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// What a start fires when the server is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pending {
    Nothing,
    Call(Callback),
}

/// What we believe; changed by jobs and cycles.
#[derive(Debug)]
struct LocalState {
    state: PgState,
    state_since: Mono,
    role: Role,
    callback_fired: bool,
    pending_callback: Option<Pending>,
    pending_restart: PendingRestart,
    bootstrapping: bool,
    custom_bootstrap: bool,
    keep_existing_recovery_conf: bool,
    hot_standby_feedback: bool,
    server_version: PgVersion,
    binary_version: PgVersion,
    major_version: PgVersion,
    /// The postmaster last seen, until its end *and* that of all its processes is proven.
    postmaster: Option<Postmaster>,
    /// Where it works: the data directory as it was when the server was started or taken over.
    place: Option<Place>,
    start_time: Option<String>,
    dynamic: GlobalConfig,
}

/// The instance; shared by the HA loop, the jobs and the REST API.
pub struct Instance {
    /// Member name.
    pub name: String,
    /// Cluster name.
    pub scope: String,
    /// PGDATA.
    pub data_dir: PathBuf,
    /// Programs.
    pub bin: Binaries,
    /// pg_control.
    pub control: ControlReader,
    /// Cancel flag of the running job.
    pub cancel: Cancellable,
    /// The critical point of a promotion or start has been passed.
    pub committed: AtomicBool,
    /// Progress of a copy.
    pub progress: watch::Sender<Option<CopyProgress>>,
    /// Why the last copy came to nothing.
    pub copy_failed: Mutex<Option<String>>,
    /// Wakes the HA loop.
    pub wake: Arc<tokio::sync::Notify>,
    /// Stops the postmaster when this process cannot any more.
    pub guard: Arc<Guard>,
    /// Called when the fence has to know something else of the postmaster: another one is known to run, or its stop has
    /// come so far that nobody writes any more.
    pub on_postmaster: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Called, and waited for that long, before a primary with the lock is stopped in order.
    pub on_leaving: OnceLock<OnLeaving>,
    config: Arc<configuration::Configuration>,
    local_state: Mutex<LocalState>,
    callbacks: CallbackExecutor,
    available: tokio::sync::Mutex<Option<Arc<AvailableGucs>>>,
    sql: query::Connections,
    slot_state: tokio::sync::Mutex<SlotState>,
    replica_timeline: Mutex<Option<u32>>,
    sync_tracker: tokio::sync::Mutex<patroni_core::sync::Tracker>,
    rewind_possible: Mutex<Option<(std::time::Instant, bool)>>,
    last_row: tokio::sync::Mutex<Option<patroni_postgres::sql::Monitored>>,
    checkpointing: AtomicBool,
    /// A start is under way, and the caller hears of its end.
    starting: AtomicBool,
    /// Something is at work on the data directory.
    working: AtomicBool,
    /// What an earlier daemon has left at work there could not be ended.
    unended: AtomicBool,
    /// The leader is being asked to write something.
    prompting: AtomicBool,
    /// When it was last said that a disk is full.
    full_said: Mutex<Option<std::time::Instant>>,
    tags: Mutex<patroni_core::tags::Tags>,
    sysid: Mutex<String>,
    silent: AtomicBool,
    /// The last row of the postmaster that runs: it is a primary.
    writes: AtomicBool,
    /// What `synchronous_standby_names` should be and is, as it was last complained of.
    overruled: Mutex<String>,
    /// Members whose name somebody else uses, as it was last complained of.
    impersonated: Mutex<String>,
    /// The postmaster whose stop has come so far that no client is left.
    quiet: Mutex<Option<Process>>,
    due: Mutex<reload::Due>,
}

impl Instance {
    /// An instance by the effective `postgresql` section (with `name` and
    /// `scope` in it) and the dynamic configuration.
    ///
    /// # Errors
    /// A configuration that cannot be used, in the reference's words.
    pub async fn new(
        config: Value,
        dynamic: GlobalConfig,
        wake: Arc<tokio::sync::Notify>,
    ) -> Result<Arc<Instance>, String> {
        let text = |key: &str| config.get(key).filter(|v| v.truthy()).map(Value::py_str).unwrap_or_default();
        let data_dir = patroni_postgres::files::data_dir(&config);
        let bin = binaries(&config);
        let major_version =
            patroni_postgres::process::probe::data_dir_version(&data_dir).await.unwrap_or_default();
        let binary_version = patroni_postgres::process::probe::binary_version(&bin).await.unwrap_or_default();
        let version = if major_version.is_known() { major_version } else { binary_version };
        let facts = patroni_postgres::files::ServerState {
            version,
            use_slots: dynamic.use_slots(),
            synchronous_mode: dynamic.is_synchronous_mode(),
            synchronous_mode_strict: dynamic.is_synchronous_mode_strict(),
            ..patroni_postgres::files::ServerState::default()
        };
        let handler = ConfigHandler::new(config.clone(), major_version, &facts).map_err(|e| e.to_string())?;
        let instance = Arc::new(Instance {
            name: text("name"),
            scope: text("scope"),
            control: ControlReader::new(bin.clone(), data_dir.clone()),
            guard: Guard::new(&data_dir),
            on_postmaster: OnceLock::new(),
            on_leaving: OnceLock::new(),
            cancel: Cancellable::for_data_dir(&data_dir),
            data_dir,
            bin,
            committed: AtomicBool::new(false),
            progress: watch::Sender::new(None),
            copy_failed: Mutex::default(),
            prompting: AtomicBool::new(false),
            full_said: Mutex::default(),
            wake,
            sql: query::Connections::new(&handler),
            config: Arc::new(configuration::Configuration::new(handler)),
            local_state: Mutex::new(LocalState {
                state: PgState::Stopped,
                state_since: mono_now(),
                role: Role::Uninitialized,
                callback_fired: false,
                pending_callback: None,
                pending_restart: PendingRestart::default(),
                bootstrapping: false,
                custom_bootstrap: false,
                keep_existing_recovery_conf: false,
                hot_standby_feedback: false,
                server_version: PgVersion::UNKNOWN,
                binary_version,
                major_version,
                postmaster: None,
                place: None,
                start_time: None,
                dynamic,
            }),
            callbacks: CallbackExecutor::start(),
            available: tokio::sync::Mutex::new(None),
            slot_state: tokio::sync::Mutex::default(),
            replica_timeline: Mutex::new(None),
            sync_tracker: tokio::sync::Mutex::default(),
            rewind_possible: Mutex::new(None),
            last_row: tokio::sync::Mutex::new(None),
            checkpointing: AtomicBool::new(false),
            starting: AtomicBool::new(false),
            working: AtomicBool::new(false),
            unended: AtomicBool::new(false),
            tags: Mutex::default(),
            sysid: Mutex::default(),
            silent: AtomicBool::new(false),
            writes: AtomicBool::new(false),
            overruled: Mutex::default(),
            impersonated: Mutex::default(),
            quiet: Mutex::new(None),
            due: Mutex::default(),
        });
        Ok(instance)
    }

    /// The configuration as of the last change that has come to its end; a change that hangs is not waited for.
    fn config(&self) -> Arc<ConfigHandler> {
        self.config.seen()
    }

    /// Can the directories of sockets, statistics and the password file be used?
    ///
    /// # Errors
    /// Not so, in the reference's words.
    pub async fn check_directories(&self) -> Result<(), String> {
        let empty = self.data_dir_state(false).await != DataDir::Present;
        self.with_config(move |c, _| c.check_directories(empty)).await?.map_err(|e| e.to_string())
    }

    /// Published state.
    pub fn state(&self) -> PgState {
        locked(&self.local_state).state
    }

    /// Published role.
    pub fn role(&self) -> Role {
        locked(&self.local_state).role
    }

    /// Takes a state.
    pub fn set_state(&self, state: PgState) {
        let mut local_state = locked(&self.local_state);
        local_state.state = state;
        local_state.state_since = mono_now();
    }

    /// Takes a role.
    pub fn set_role(&self, role: Role) {
        locked(&self.local_state).role = role;
    }

    /// Why a restart is pending, as published.
    pub fn pending_restart(&self) -> Value {
        locked(&self.local_state).pending_restart.to_value()
    }

    fn set_pending_restart(&self, pending: PendingRestart) {
        locked(&self.local_state).pending_restart = pending;
    }

    /// The configured tags.
    pub fn tags(&self) -> patroni_core::tags::Tags {
        locked(&self.tags).clone()
    }

    /// Takes the configured tags.
    pub fn set_tags(&self, tags: patroni_core::tags::Tags) {
        *locked(&self.tags) = tags;
    }

    /// The system identifier last read; empty when there is none.
    pub fn known_sysid(&self) -> String {
        locked(&self.sysid).clone()
    }

    /// `synchronous_standby_names` of the user's parameters.
    pub fn user_sync_names(&self) -> Option<String> {
        let config = self.config();
        config.user_synchronous_standby_names().filter(|v| !v.is_null()).map(Value::py_str)
    }

    /// Callbacks are not fired while the cluster is being made.
    pub fn set_bootstrapping(&self, on: bool) {
        locked(&self.local_state).bootstrapping = on;
    }

    /// Is the cluster being made?
    pub fn is_bootstrapping(&self) -> bool {
        locked(&self.local_state).bootstrapping
    }

    /// The dynamic configuration that the next files are written by.
    pub fn set_dynamic(&self, dynamic: GlobalConfig) {
        locked(&self.local_state).dynamic = dynamic;
    }

    /// The dynamic configuration in force.
    pub fn dynamic(&self) -> GlobalConfig {
        locked(&self.local_state).dynamic.clone()
    }

    /// Major version of the data, else of the programs.
    pub fn major_version(&self) -> PgVersion {
        let local_state = locked(&self.local_state);
        if local_state.major_version.is_known() {
            local_state.major_version
        } else {
            local_state.binary_version.major()
        }
    }

    /// An entry of the `postgresql` section.
    pub fn setting(&self, key: &str) -> Option<Value> {
        self.config().get(key).cloned()
    }

    /// The `citus` section, where it switches Citus on.
    pub fn citus(&self) -> Option<patroni_core::citus::Section> {
        patroni_core::citus::Section::of(self.config().section())
    }

    /// `conn_url` and `proxy_url` of the member key.
    pub fn published_urls(&self) -> (String, Option<String>) {
        let config = self.config();
        (config.addresses().connection_string.clone(), config.addresses().proxy_url.clone())
    }

    /// Fires a callback, unless the cluster is being made (surface-ha-pg 22).
    pub fn call(&self, action: Callback) {
        let role = {
            let mut local_state = locked(&self.local_state);
            if local_state.bootstrapping {
                return;
            }
            local_state.callback_fired |= action != Callback::OnReload;
            local_state.role
        };
        let script = self.config().get("callbacks").and_then(|c| c.get(action.as_str())).cloned();
        match script.filter(Value::truthy) {
            None => {}
            Some(Value::Str(script)) => self.callbacks.call(&script, action, role.as_str(), &self.scope),
            Some(other) => {
                let why = format!("AttributeError: '{}' object has no attribute 'read'", other.type_name());
                callbacks::failed(&other.py_str(), action, role.as_str(), &self.scope, &why);
            }
        }
    }

    /// Before the process ends: scripts handed over must have been started.
    pub async fn settle_callbacks(&self) {
        self.callbacks.settle(Duration::from_secs(5)).await;
    }
}

/// `bin_dir` and `bin_name` of the `postgresql` section.
fn binaries(config: &Value) -> Binaries {
    let mut bin = Binaries::new(config.get("bin_dir").map(Value::py_str).unwrap_or_default());
    for (name, other) in config.get("bin_name").and_then(Value::as_map).into_iter().flatten() {
        bin.names.insert(name.py_str(), other.py_str());
    }
    if let Some(program) = bin.path("postgres").file_name() {
        evidence::know_program(program.to_owned());
    }
    bin
}

#[cfg(test)]
mod tests;
