//! From a configuration to the end of the process (surface-ha-pg 2, 3-01, 9.3).

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patroni_api::RestServer;
use patroni_config::Config;
use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::{Memory, PgState, Role, Source};
use patroni_core::timing::Timing;
use patroni_dcs::Dcs;
use patroni_net::{ClientOptions, HttpClient};
use tokio::signal::unix::{signal, Signal, SignalKind};
use tokio::sync::Notify;

use super::backend::ApiBackend;
use super::citus;
use super::exec::{stop_patience, STOP_PATIENCE};
use super::reload;
use super::shared::Shared;
use super::tick;
use crate::instance::{locked, mono_now, Instance};
use crate::log::Log;
use crate::watchdog::{Watchdog, WatchdogConfig};
use crate::{guardian, process, systemd};

/// Time between two looks for a DCS that does not answer at the start.
const DCS_RETRY: Duration = Duration::from_secs(5);

/// How long the end of the daemon waits for the job that runs.
const JOB_PATIENCE: Duration = Duration::from_secs(30);

/// How often the permit is given while the daemon ends.
const PERMIT_AGAIN: Duration = Duration::from_secs(1);

/// How often free memory goes back to the system.
const RELEASE_MEMORY: Duration = Duration::from_secs(20);

/// What the daemon starts from.
pub struct Start {
    /// Local configuration.
    pub config: Config,
    /// The log, which has been started.
    pub log: Log,
}

/// Runs the daemon to its end; the exit code.
pub async fn run(start: Start) -> i32 {
    let stop = Arc::new(Notify::new());
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(e) => {
            tracing::error!(target: "patroni.__main__", "can not listen for signals: {e}");
            return 1;
        }
    };
    tokio::select! {
        built = systemd::with_more_time(systemd::START_PATIENCE, Daemon::build(start)) => match built {
            Ok(daemon) => daemon.run(signals, stop).await,
            Err(code) => code,
        },
        // Nothing has been started yet that would have to be stopped.
        code = signals.wait_for_end() => code,
    }
}

struct Signals {
    term: tokio::sync::Mutex<(Signal, Option<Signal>)>,
    hup: tokio::sync::Mutex<Signal>,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        let interrupt = match process::interrupt_is_ignored() {
            true => None,
            false => Some(signal(SignalKind::interrupt())?),
        };
        let term = (signal(SignalKind::terminate())?, interrupt);
        let hup = signal(SignalKind::hangup())?;
        Ok(Signals { term: tokio::sync::Mutex::new(term), hup: tokio::sync::Mutex::new(hup) })
    }

    /// The exit code that this end has before the main loop.
    async fn wait_for_end(&self) -> i32 {
        let mut term = self.term.lock().await;
        let (terminate, interrupt) = &mut *term;
        let interrupted = async {
            match interrupt {
                Some(interrupt) => {
                    interrupt.recv().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => 0,
            () = interrupted => process::INTERRUPTED,
        }
    }
}

struct Daemon {
    shared: Arc<Shared>,
    api: RestServer,
    memory: Memory,
}

impl Daemon {
    /// Everything that is needed for the first cycle.
    async fn build(start: Start) -> Result<Daemon, i32> {
        let Start { mut config, log } = start;
        let fatal = |text: String| {
            tracing::error!(target: "patroni.__main__", critical = true, "{text}");
            1
        };
        if let Some(refusal) = config.refusal() {
            return Err(fatal(refusal));
        }
        check_name(&config.get("name").py_str()).map_err(&fatal)?;
        if let Some(dir) = config.get("postgresql").get("data_dir").map(pyfmt::Value::py_str) {
            let _ = tokio::task::spawn_blocking(move || guardian::keep_lock(dir.as_ref())).await;
        }
        let opened = patroni_dcs::open(config.effective()).await;
        let dcs: Arc<dyn Dcs> = opened.map_err(|e| fatal(e.to_string()))?.into();
        let cluster = loop {
            match dcs.get_cluster().await {
                Ok(cluster) => break cluster,
                Err(_) => {
                    tracing::warn!(target: "patroni.__main__", "Can not get cluster from dcs");
                    systemd::status("waiting for the DCS");
                    tokio::time::sleep(DCS_RETRY).await;
                }
            }
        };
        refuse_second_of_the_name(&config, &cluster).await?;
        match cluster.config.as_ref().filter(|c| c.data.truthy()) {
            Some(found) => {
                config.set_cluster_config(&found.modify_version, &found.data);
            }
            None if !config.dynamic().truthy() && config.effective().get("bootstrap").is_some() => {
                let bootstrap = config.get("bootstrap").get("dcs").cloned();
                let Some(bootstrap) = bootstrap.as_ref().filter(|dcs| dcs.as_map().is_some()) else {
                    let got = bootstrap
                        .map_or("it is not set".to_owned(), |v| format!("it is of type {}", v.type_name()));
                    return Err(fatal(format!(
                        "Invalid \"bootstrap\" config: expected a mapping for \"dcs\", but {got}"
                    )));
                };
                config.set_dynamic(bootstrap.clone());
            }
            None => {}
        }
        dcs.set_timing(Timing::of(|key| config.effective().get(key)));
        let watchdog = Watchdog::new(watchdog_config(&config)).map_err(|_| 1)?;
        let wake = Arc::new(Notify::new());
        let dynamic = GlobalConfig::new(config.dynamic().clone());
        let section = config.get("postgresql").clone();
        let instance = Instance::new(section, dynamic.clone(), wake.clone()).await.map_err(&fatal)?;
        instance.end_leftovers().await;
        instance.check_directories().await.map_err(&fatal)?;
        instance.guard.set_log_file(log.file());
        tokio::spawn(instance.guard.clone().tend());
        instance.take_over().await;
        let shared = Shared::new(instance, dcs, config, watchdog, log, wake).map_err(&fatal)?;
        tokio::spawn(shared.clone().watch_peer_tls());
        let section = shared.with_config(|c| c.get("restapi").clone());
        let backend = Arc::new(ApiBackend::new(shared.clone()));
        let bound = tokio::task::spawn_blocking(move || RestServer::bind(&section, backend)).await;
        let api = match bound {
            Ok(Ok(api)) => api,
            Ok(Err(e)) => return Err(fatal(e.to_string())),
            Err(e) => return Err(fatal(e.to_string())),
        };
        shared.refresh(api.connection_string().to_owned());
        shared.lease.start_keeper(shared.instance.clone(), shared.dcs.renewer()).map_err(fatal)?;
        let lease = Arc::clone(&shared.lease);
        shared.dcs.on_lock_gone(Box::new(move || lease.key_seen_gone()));
        Ok(Daemon { shared, api, memory: Memory::new(dynamic) })
    }

    async fn run(mut self, signals: Signals, _stop: Arc<Notify>) -> i32 {
        self.api.accept();
        systemd::notify("READY=1");
        citus::start(&self.shared);
        let signals = Arc::new(signals);
        let listener = tokio::spawn(listen(self.shared.clone(), signals));
        let shared = self.shared.clone();
        let heart = tokio::spawn(systemd::beat(move || loop_lives(&shared)));
        let code = self.cycles().await;
        listener.abort();
        heart.abort();
        systemd::with_more_time(systemd::STOP_PATIENCE, self.end(code)).await
    }

    /// The main loop. Some(code): a cycle said that the process must end.
    async fn cycles(&mut self) -> Option<i32> {
        let mut next_run = Instant::now();
        let mut released = Instant::now();
        loop {
            // What /liveness measures the loop by, during this cycle.
            *locked(&self.shared.next_run) = Some(next_run);
            if self.shared.stop_wanted.load(Ordering::SeqCst) {
                return None;
            }
            if self.shared.reload_wanted.swap(false, Ordering::SeqCst) {
                systemd::reloading();
                reload::local(&self.shared, &mut self.api, true).await;
                systemd::notify("READY=1");
            }
            let Some(finished) = tick::guarded_cycle(&self.shared, &mut self.memory).await else {
                next_run = self.wait(next_run).await;
                continue;
            };
            if let Some(code) = finished.exit {
                return Some(code);
            }
            tracing::info!(target: "patroni.__main__", "{}", finished.line);
            systemd::status(&finished.line);
            self.after_cycle().await;
            tick::note_end(&self.shared);
            citus::cycle_over(&self.shared);
            if released.elapsed() >= RELEASE_MEMORY {
                process::release_memory();
                released = Instant::now();
            }
            next_run = self.wait(next_run).await;
        }
    }

    /// A new dynamic configuration takes effect between two cycles.
    async fn after_cycle(&mut self) {
        let found = self.shared.dcs.cached_cluster().and_then(|c| c.config.clone());
        if let Some(found) = found.filter(|c| c.data.truthy()) {
            let changed =
                self.shared.change_config(|c| c.set_cluster_config(&found.modify_version, &found.data));
            if changed {
                reload::apply(&self.shared, &mut self.api).await;
            }
        }
        let section = self.shared.with_config(|c| c.get("postgresql").clone());
        if self.shared.instance.catch_up(section).await {
            self.shared.refresh(self.api.connection_string().to_owned());
        }
        self.help_start();
        if self.shared.role() != Role::Uninitialized && self.shared.with_config(Config::needs_saving) {
            let shared = self.shared.clone();
            let _ = tokio::task::spawn_blocking(move || shared.change_config(Config::save_cache)).await;
        }
    }

    /// A server that does not come up: does it wait for a record that nobody writes, or for room on its disk?
    fn help_start(&self) {
        let instance = self.shared.instance.clone();
        let cluster = self.shared.cluster();
        let leader = cluster.leader.as_ref().map(|l| &l.member).filter(|m| m.name != instance.name);
        if let (true, Some(leader)) = (instance.state().is_starting(), leader) {
            let source = Source { member: leader.clone(), remote: false };
            tokio::spawn(async move { instance.prompt_leader(&source).await });
        } else if instance.state() != PgState::Running {
            tokio::spawn(async move { instance.say_if_full().await });
        }
    }

    /// Until the next cycle is due, or something has happened.
    async fn wait(&self, last: Instant) -> Instant {
        let now = Instant::now();
        let loop_wait = self.shared.me().timing.loop_wait;
        let mut next = last + loop_wait;
        if next <= now {
            tracing::warn!(target: "patroni.__main__", "Loop time exceeded, rescheduling immediately.");
            return now;
        }
        if let Some(at) = self.memory.wake_at {
            next = next.min(now + at.since(mono_now()));
        }
        *locked(&self.shared.next_run) = Some(next);
        let cluster = self.shared.cluster();
        let following = !cluster.is_unlocked()
            && cluster.leader_name() != Some(self.shared.instance.name.as_str())
            && self.shared.jobs.view().is_none();
        tokio::select! {
            changed = self.shared.dcs.watch(following, next.saturating_duration_since(now)) => {
                if changed { Instant::now() } else { next.min(Instant::now()) }
            }
            () = self.shared.wake.notified() => Instant::now(),
        }
    }

    /// The order of an orderly end: the API, the job, PostgreSQL with the lock (9.3).
    async fn end(mut self, code: Option<i32>) -> i32 {
        systemd::notify("STOPPING=1");
        let api = self.api;
        let api_stops = tokio::task::spawn_blocking(move || api.stop());
        if let Some(code) = code {
            let _ = api_stops.await;
            self.shared.instance.settle_callbacks().await;
            return code;
        }
        let shared = self.shared.clone();
        keep_permit(&shared, JOB_PATIENCE + STOP_PATIENCE, async {
            let _ = api_stops.await;
            shared.jobs.cancel_and_wait(&shared, JOB_PATIENCE).await;
        })
        .await;
        let limit = stop_patience(&shared.instance.dynamic());
        keep_permit(&shared, limit, tick::shutdown(&shared, &mut self.memory)).await;
        shared.instance.settle_callbacks().await;
        0
    }
}

/// While the daemon ends no cycle permits the renewal of the lease, but the lock must hold as long as clients write:
/// what the stop would take longer would be broken off by our own fence. Bounded: a stop that does not come to the end
/// of the last client's connection makes no progress.
async fn keep_permit<T>(shared: &Shared, limit: Duration, work: impl std::future::Future<Output = T>) -> T {
    let permits = async {
        let began = Instant::now();
        while began.elapsed() < limit && !shared.instance.is_quiet() {
            shared.lease.with(|lock| lock.stop_goes_on(mono_now()));
            tokio::time::sleep(PERMIT_AGAIN).await;
        }
        std::future::pending::<T>().await
    };
    tokio::select! {
        done = work => done,
        done = permits => done,
    }
}

async fn listen(shared: Arc<Shared>, signals: Arc<Signals>) {
    let mut hup = signals.hup.lock().await;
    loop {
        tokio::select! {
            _ = signals.wait_for_end() => {
                shared.stop_wanted.store(true, Ordering::SeqCst);
            }
            _ = hup.recv() => {
                shared.reload_wanted.store(true, Ordering::SeqCst);
                // A cycle that waits for the DCS may wait for what the files say now.
                tokio::spawn(reload::tell_dcs(shared.clone()));
            }
        }
        shared.wake.notify_one();
    }
}

/// What `/liveness` says, for systemd.
fn loop_lives(shared: &Shared) -> bool {
    let primary = shared.role() == Role::Primary && shared.instance.state() == PgState::Running;
    let (due, ttl) = (*locked(&shared.next_run), shared.me().timing.ttl);
    shared.instance.dynamic().is_paused()
        || patroni_api::health::loop_lives(due, ttl, primary, Instant::now())
}

/// The watchdog's section with the durations it depends on.
pub fn watchdog_config(config: &Config) -> WatchdogConfig {
    let timing = Timing::of(|key| config.effective().get(key));
    WatchdogConfig::new(
        config.effective().get("watchdog"),
        timing.ttl.as_secs() as i64,
        timing.loop_wait.as_secs() as i64,
    )
}

/// A name that the DCS or PostgreSQL cannot carry (the reference says nothing, and such a node never clones, or never
/// becomes a synchronous standby).
///
/// # Errors
/// The name has a slash: its key would be another one.
fn check_name(name: &str) -> Result<(), String> {
    if name.contains('/') {
        return Err(format!("Invalid config: expected text without a slash for \"name\", but got '{name}'"));
    }
    if let Some(why) = patroni_core::sync::never_synchronous(name) {
        tracing::warn!(
            target: "patroni.__main__",
            "The name '{name}' {why}: this member can never be a synchronous standby"
        );
    }
    Ok(())
}

/// A member of the same name that answers is alive (2-02).
async fn refuse_second_of_the_name(
    config: &Config,
    cluster: &patroni_core::model::Cluster,
) -> Result<(), i32> {
    let name = config.get("name").py_str();
    let Some(member) = cluster.get_member(&name, false) else { return Ok(()) };
    let Ok(client) = HttpClient::lazy(&ClientOptions::for_peers(config.effective(), Some(true))) else {
        return Ok(());
    };
    let url = member.endpoint_url("liveness");
    if client.request("GET", &url, &[], Vec::new(), Duration::from_secs(3)).await.is_ok() {
        tracing::error!(
            target: "patroni.__main__", critical = true,
            "Can't start; there is already a node named '{name}' running"
        );
        return Err(1);
    }
    Ok(())
}
