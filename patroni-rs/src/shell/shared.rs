//! What the HA loop, its jobs and the REST API share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use patroni_api::measured::Measured;
use patroni_config::Config;
use patroni_core::ha::{
    FailsafePing, HeldBack, Job, LocalMember, Role, ScheduledRestart, Source, WatchdogView,
};
use patroni_core::model::Cluster;
use patroni_core::node::{LeaderLock, Server};
use patroni_core::slots::Retention;
use patroni_core::tags::Tags;
use patroni_dcs::{Dcs, Timing};
use patroni_net::{ClientOptions, HttpClient};
use patroni_postgres::process::replica;
use pyfmt::Value;
use tokio::sync::Notify;

use super::citus::{self, Citus};
use super::jobs::Jobs;
use super::lease::Lease;
use crate::guardian;
use crate::instance::{locked, Instance};
use crate::log::Log;
use crate::watchdog::Watchdog;

/// How often a node that waits to be released as synchronous standby looks.
const RELEASE_LOOK: Duration = Duration::from_millis(500);

/// How often the TLS files for requests to the peers are looked at.
const TLS_LOOK: Duration = Duration::from_secs(60);

/// How long a look at the watchdog may take.
const WATCHDOG_LOOK: Duration = Duration::from_secs(1);

/// Everything that more than one part of the daemon touches.
pub struct Shared {
    /// PostgreSQL.
    pub instance: Arc<Instance>,
    /// The DCS.
    pub dcs: Arc<dyn Dcs>,
    /// The promise of the lock.
    pub lease: Arc<Lease>,
    /// Long work.
    pub jobs: Arc<Jobs>,
    /// Wakes the HA loop.
    pub wake: Arc<Notify>,
    /// The runtime of the HA loop; the REST API has one of its own.
    pub runtime: tokio::runtime::Handle,
    /// A restart was begun on request, with this start timeout.
    pub restarting: Mutex<Option<Duration>>,
    /// Citus, where it is on.
    pub citus: Option<Arc<Citus>>,
    /// The log.
    pub log: Log,
    /// Asked to be left alone as synchronous standby.
    pub disable_sync: AtomicBool,
    /// A reload was asked for.
    pub reload_wanted: AtomicBool,
    /// The process is to end.
    pub stop_wanted: AtomicBool,
    /// The last ping of a primary without a DCS.
    pub failsafe_ping: Mutex<Option<FailsafePing>>,
    /// Our own failsafe holds since then.
    pub failsafe_since: Mutex<Option<patroni_core::ha::Mono>>,
    /// Why the last cycle did not promote this node.
    pub held_back: Mutex<Option<HeldBack>>,
    /// How long cycles and their requests to the DCS take.
    pub measured: Mutex<Measured>,
    /// The own position as the last cycle saw it, also without a DCS: what a primary that asks for consent is told.
    pub last_lsn: Mutex<Option<patroni_core::model::Lsn>>,
    /// The restart that waits for its time.
    pub scheduled_restart: Mutex<Option<ScheduledRestart>>,
    /// Whether the member key last written tells of one.
    pub restart_published: tokio::sync::watch::Sender<bool>,
    /// When the next cycle is due.
    pub next_run: Mutex<Option<std::time::Instant>>,
    /// Slots of absent members that the leader keeps.
    pub retention: Mutex<Retention>,
    /// Local and dynamic configuration.
    pub config: RwLock<Config>,
    me: ArcSwap<LocalMember>,
    peers: ArcSwap<HttpClient>,
    peer_options: Mutex<ClientOptions>,
    watchdog: Mutex<Watchdog>,
    watchdog_view: Mutex<WatchdogView>,
}

impl Shared {
    /// Ties the parts together.
    ///
    /// # Errors
    /// The credentials for requests to the peers make no header.
    pub fn new(
        instance: Arc<Instance>,
        dcs: Arc<dyn Dcs>,
        config: Config,
        watchdog: Watchdog,
        log: Log,
        wake: Arc<Notify>,
    ) -> Result<Arc<Shared>, String> {
        let timing = Timing::of(|key| config.effective().get(key));
        let guard = instance.guard.clone();
        let lock = LeaderLock::new(timing, instance.dynamic().is_paused());
        let lease = Lease::new(lock, wake.clone(), guard);
        let peer_options = ClientOptions::for_peers(config.effective(), Some(true));
        let peers = HttpClient::lazy(&peer_options).map_err(|e| e.to_string())?;
        let me = local_member(&config, &instance, String::new());
        let view = WatchdogView { running: watchdog.is_running(), healthy: watchdog.is_healthy() };
        let citus = Citus::of(config.effective()).map(Arc::new);
        let shared = Arc::new(Shared {
            citus,
            instance,
            dcs,
            lease,
            jobs: Arc::default(),
            wake,
            runtime: tokio::runtime::Handle::current(),
            restarting: Mutex::new(None),
            log,
            disable_sync: AtomicBool::new(false),
            reload_wanted: AtomicBool::new(false),
            stop_wanted: AtomicBool::new(false),
            failsafe_ping: Mutex::new(None),
            failsafe_since: Mutex::new(None),
            held_back: Mutex::new(None),
            measured: Mutex::default(),
            last_lsn: Mutex::new(None),
            scheduled_restart: Mutex::new(None),
            restart_published: tokio::sync::watch::Sender::new(false),
            next_run: Mutex::new(None),
            retention: Mutex::default(),
            config: RwLock::new(config),
            me: ArcSwap::from_pointee(me),
            peers: ArcSwap::from_pointee(peers),
            peer_options: Mutex::new(peer_options),
            watchdog: Mutex::new(watchdog),
            watchdog_view: Mutex::new(view),
        });
        // A server that is started under the lock is under the fence from its first moment.
        let weak = Arc::downgrade(&shared);
        let known = move || {
            if let Some(shared) = weak.upgrade() {
                let (paused, server) = (shared.instance.dynamic().is_paused(), shared.server());
                shared.lease.with(|lock| lock.server_known(paused, &server));
            }
        };
        // Only a second call could fail, and there is none.
        let _ = shared.instance.on_postmaster.set(Box::new(known));
        let weak = Arc::downgrade(&shared);
        let leaving = move |limit| -> futures_util::future::BoxFuture<'static, ()> {
            let shared = weak.upgrade();
            Box::pin(async move {
                if let Some(shared) = shared {
                    citus::leaving(&shared, limit).await;
                }
            })
        };
        let _ = shared.instance.on_leaving.set(Box::new(leaving));
        Ok(shared)
    }

    /// What is known of the server, as far as the fence is concerned.
    pub fn server(&self) -> Server {
        let instance = &self.instance;
        Server {
            number: instance.known_postmaster().map_or(0, |p| guardian::number(&p.process)),
            role: instance.role(),
            promoting: instance.committed.load(Ordering::SeqCst)
                && self.jobs.runs(|job| *job == Job::Promote),
            writes: instance.says_it_writes(),
            quiet: instance.is_quiet(),
        }
    }

    /// Who we are.
    pub fn me(&self) -> Arc<LocalMember> {
        self.me.load_full()
    }

    /// The same, with the addresses that the server has by now: new ones are published from its restart on.
    pub fn me_now(&self) -> Arc<LocalMember> {
        let (conn_url, proxy_url) = self.instance.published_urls();
        let me = self.me();
        if me.conn_url == conn_url && me.proxy_url == proxy_url {
            return me;
        }
        let me = Arc::new(LocalMember { conn_url, proxy_url, ..LocalMember::clone(&me) });
        self.me.store(me.clone());
        me
    }

    /// The client for requests to peers.
    pub fn peers(&self) -> Arc<HttpClient> {
        self.peers.load_full()
    }

    /// Says once a minute that requests to the peers fail for want of a certificate, key or CA file. The daemon runs
    /// without: a node that led for a year must come up again, and its peers may speak plain HTTP.
    pub async fn watch_peer_tls(self: Arc<Self>) {
        loop {
            let client = self.peers();
            let looked = tokio::task::spawn_blocking(move || client.check_tls()).await;
            if let Ok(Err(e)) = looked {
                let files = locked(&self.peer_options).tls.files();
                tracing::error!(
                    target: "patroni.request", "Can not use the TLS files for requests to other members ({files}): {e}"
                );
            }
            tokio::time::sleep(TLS_LOOK).await;
        }
    }

    /// Runs `read` on the configuration.
    pub fn with_config<R>(&self, read: impl FnOnce(&Config) -> R) -> R {
        read(&self.config.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Changes the configuration.
    pub fn change_config<R>(&self, change: impl FnOnce(&mut Config) -> R) -> R {
        change(&mut self.config.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// After the configuration has changed: everything that is derived from it.
    pub fn refresh(&self, api_url: String) {
        let (me, options, timing) = self.with_config(|c| {
            let me = local_member(c, &self.instance, api_url);
            (
                me,
                ClientOptions::for_peers(c.effective(), Some(true)),
                Timing::of(|key| c.effective().get(key)),
            )
        });
        self.dcs.set_timing(timing);
        self.me.store(Arc::new(me));
        // The client itself takes note of files that change.
        let mut known = locked(&self.peer_options);
        if *known != options {
            match HttpClient::lazy(&options) {
                Ok(client) => {
                    self.peers.store(Arc::new(client));
                    *known = options;
                }
                Err(e) => tracing::error!(target: "patroni.request", "Can not use the options of ctl: {e}"),
            }
        }
    }

    /// The view of the cluster last read; empty when there is none.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.dcs.cached_cluster().unwrap_or_default()
    }

    /// The local `bootstrap` section.
    pub fn bootstrap_section(&self) -> Value {
        self.with_config(|c| c.get("bootstrap").clone())
    }

    /// Runs `work` on the watchdog, off the runtime: the device may block.
    pub async fn with_watchdog<R: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut Watchdog) -> R + Send + 'static,
    ) -> Option<R> {
        let shared = self.clone();
        let run = tokio::task::spawn_blocking(move || {
            let mut watchdog = locked(&shared.watchdog);
            let result = work(&mut watchdog);
            shared.note_watchdog(&watchdog);
            result
        });
        run.await.ok()
    }

    fn note_watchdog(&self, watchdog: &Watchdog) {
        *locked(&self.watchdog_view) =
            WatchdogView { running: watchdog.is_running(), healthy: watchdog.is_healthy() };
    }

    /// The same for what opens no device: where none is in use it is done at once, and wakes no thread.
    async fn with_open_watchdog(self: &Arc<Self>, work: fn(&mut Watchdog)) {
        if let Ok(mut watchdog) = self.watchdog.try_lock() {
            if watchdog.is_idle() {
                work(&mut watchdog);
                return self.note_watchdog(&watchdog);
            }
        }
        self.with_watchdog(work).await;
    }

    /// Feeds it.
    pub async fn feed_watchdog(self: &Arc<Self>) {
        self.with_open_watchdog(Watchdog::keepalive).await;
    }

    /// The watchdog as last seen.
    pub fn watchdog_view(&self) -> WatchdogView {
        *locked(&self.watchdog_view)
    }

    /// The watchdog as it is now: a device may come and go while nobody uses it. What does not answer at once
    /// is taken as last seen.
    pub async fn fresh_watchdog_view(self: &Arc<Self>) -> WatchdogView {
        let _ = tokio::time::timeout(WATCHDOG_LOOK, self.with_open_watchdog(|_| ())).await;
        self.watchdog_view()
    }

    /// Is it armed?
    pub fn watchdog_running(&self) -> bool {
        self.watchdog_view().running
    }

    /// Disarms it.
    pub async fn disable_watchdog(self: &Arc<Self>) {
        self.with_open_watchdog(Watchdog::disable).await;
    }

    /// Tells the leader that this node gives up being a synchronous standby, and
    /// waits until it is released, twice `loop_wait` at most (surface-ha-pg 20-14).
    pub async fn release_sync_standby(&self) {
        self.disable_sync.store(true, Ordering::SeqCst);
        self.wake.notify_one();
        let me = self.me();
        let deadline = tokio::time::Instant::now() + me.timing.loop_wait * 2;
        let mut said = false;
        while tokio::time::Instant::now() < deadline {
            match self.dcs.get_cluster().await {
                Ok(cluster) => {
                    let leads =
                        cluster.leader.as_ref().is_some_and(|l| cluster.sync.leader_matches(l.name()));
                    if !(leads && cluster.sync.matches(&me.name, false)) {
                        return;
                    }
                }
                Err(_) => {
                    tracing::warn!(
                        target: "patroni.ha",
                        "Could not get cluster state, skipping synchronous standby disable"
                    );
                    return;
                }
            }
            if !std::mem::replace(&mut said, true) {
                tracing::info!(
                    target: "patroni.ha", "Waiting for primary to release us from synchronous standby"
                );
            }
            tokio::time::sleep(RELEASE_LOOK).await;
        }
    }

    /// Whom to follow after a copy: by the newest view, else what was copied. A replica of a standby cluster has
    /// copied a member in the remote server's stead, without a slot, and follows it as any replica does.
    pub async fn node_to_follow(&self, copied: Option<Source>) -> Option<Source> {
        let me = self.me();
        if me.tags.nostream() {
            return None;
        }
        let dynamic = self.instance.dynamic();
        if copied.as_ref().is_some_and(|source| source.remote) && !dynamic.is_standby_cluster() {
            return copied;
        }
        let Ok(cluster) = self.dcs.get_cluster().await else { return copied };
        patroni_core::ha::node_to_follow(&me.name, &me.tags, &dynamic, &cluster).or(copied)
    }

    /// The role in which this node runs.
    pub fn role(&self) -> Role {
        self.instance.role()
    }
}

fn local_member(config: &Config, instance: &Instance, api_url: String) -> LocalMember {
    let effective = config.effective();
    let (conn_url, proxy_url) = instance.published_urls();
    let postgresql = config.get("postgresql");
    let without_source = replica::methods_without_source(postgresql);
    let has_no_leader_method =
        replica::configured_methods(postgresql).iter().any(|m| without_source.contains(m));
    let flag = |key| postgresql.get(key).is_some_and(Value::truthy);
    let tags = Tags::published(config.get("tags"));
    instance.set_tags(tags.clone());
    LocalMember {
        name: instance.name.clone(),
        conn_url,
        api_url,
        proxy_url,
        tags,
        can_bootstrap: config.local().get("bootstrap").is_some(),
        has_no_leader_method,
        no_leader_methods: without_source,
        reinit_on_diverged: flag("remove_data_directory_on_diverged_timelines"),
        reinit_on_failed_rewind: flag("remove_data_directory_on_rewind_failure"),
        user_sync_names: instance.user_sync_names(),
        dynamic_config: config.dynamic().clone(),
        timing: Timing::of(|key| effective.get(key)),
    }
}
