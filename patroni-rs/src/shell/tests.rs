//! What ties the parts of the daemon together: that each word reaches those whom it concerns.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use patroni_api::{Backend, FailsafeReply};
use patroni_config::{Check, Config, Environment};
use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::keeper::Arm;
use patroni_core::ha::{ask, Answer, Job, Memory, Mono, PgState, Request, Role};
use patroni_core::model::{Cluster, Leader, Lsn, Member, Status, SyncState};
use patroni_core::node::Now;
use patroni_dcs::lock::{Granted, LockRenewer, Renewal};
use patroni_dcs::{Dcs, DcsError, Timing};
use pyfmt::Value;
use tokio::sync::Notify;

mod jobs;
mod server;
mod steps;

use super::backend::ApiBackend;
use super::daemon::watchdog_config;
use super::shared::Shared;
use super::tick;
use crate::instance::{locked, mono_now, Instance};
use crate::log::Log;
use crate::watchdog::Watchdog;

type Outcome = Result<bool, DcsError>;

/// A store that is away, and remembers the durations that it was told.
pub(super) struct Away {
    timing: Mutex<Timing>,
    /// Whoever reads the keys panics.
    panics: AtomicBool,
    /// What it has told before it went away.
    told: Mutex<Option<Arc<Cluster>>>,
    /// So often the leader key was left to run out.
    left: AtomicUsize,
    changes: tokio::sync::watch::Sender<u64>,
}

fn away<T>() -> Result<T, DcsError> {
    Err(DcsError::Unreachable("away".into()))
}

#[async_trait]
impl Dcs for Away {
    async fn get_cluster(&self) -> Result<Arc<Cluster>, DcsError> {
        if self.panics.load(Ordering::SeqCst) {
            panic!("the test wants it");
        }
        away()
    }
    async fn get_groups(&self) -> Result<BTreeMap<i64, Cluster>, DcsError> {
        away()
    }
    fn cached_cluster(&self) -> Option<Arc<Cluster>> {
        locked(&self.told).clone()
    }
    fn last_seen(&self) -> u64 {
        0
    }
    fn failsafe(&self) -> Option<Value> {
        None
    }
    async fn watch(&self, _: bool, _: Duration) -> bool {
        false
    }
    fn wake(&self) {}
    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changes.subscribe()
    }
    async fn acquire_leader(&self, _: Option<&Leader>) -> Outcome {
        away()
    }
    async fn update_leader(&self, _: &Leader, _: Option<&Status>, _: Option<&Value>) -> Outcome {
        away()
    }
    async fn take_leader(&self) -> Outcome {
        away()
    }
    async fn delete_leader(&self, _: Option<&Leader>, _: Option<Lsn>) -> Outcome {
        away()
    }
    async fn touch_member(&self, _: &Value) -> Outcome {
        away()
    }
    async fn set_config(&self, _: &Value, _: Option<&str>) -> Outcome {
        away()
    }
    async fn set_failover(&self, _: &str, _: Option<&str>) -> Outcome {
        away()
    }
    async fn write_sync(
        &self,
        _: &str,
        _: &[String],
        _: i64,
        _: Option<&str>,
    ) -> Result<Option<SyncState>, DcsError> {
        away()
    }
    async fn delete_sync(&self, _: Option<&str>) -> Outcome {
        away()
    }
    async fn set_history(&self, _: &str) -> Outcome {
        away()
    }
    async fn write_status(&self, _: Lsn) -> Outcome {
        away()
    }
    async fn write_failsafe(&self, _: &Value) -> Outcome {
        away()
    }
    async fn initialize(&self, _: bool, _: &str) -> Outcome {
        away()
    }
    async fn cancel_initialization(&self) -> Outcome {
        away()
    }
    async fn delete_cluster(&self) -> Outcome {
        away()
    }
    fn set_timing(&self, timing: Timing) {
        *locked(&self.timing) = timing;
    }
    fn reload(&self, _: &Value) -> Result<(), DcsError> {
        Ok(())
    }
    fn granted(&self) -> Duration {
        Duration::MAX
    }
    fn renewer(&self) -> Option<Box<dyn LockRenewer>> {
        None
    }
    fn let_leader_run_out(&self) {
        self.left.fetch_add(1, Ordering::SeqCst);
    }
    fn setbacks(&self) -> u64 {
        0
    }
}

/// A daemon's parts over a store that is away, and no PostgreSQL.
pub(super) async fn parts(directory: &std::path::Path) -> (Arc<Shared>, Arc<Away>) {
    let file = directory.join("patroni.yml");
    let text = format!(
        "scope: s\nname: n0\nrestapi: {{listen: '127.0.0.1:1', connect_address: '127.0.0.1:1'}}\n\
         postgresql: {{listen: '127.0.0.1:1', connect_address: '127.0.0.1:1', data_dir: {0}/data, bin_dir: {0}}}\n",
        directory.display()
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file.to_string_lossy(), &Environment::default(), &Check::NotEmpty).unwrap();
    let dcs = Arc::new(Away {
        timing: Mutex::default(),
        panics: AtomicBool::new(false),
        told: Mutex::default(),
        left: AtomicUsize::new(0),
        changes: tokio::sync::watch::Sender::new(0),
    });
    let wake = Arc::new(Notify::new());
    let watchdog = Watchdog::new(watchdog_config(&config)).unwrap();
    let dynamic = GlobalConfig::new(config.dynamic().clone());
    let instance = Instance::new(config.get("postgresql").clone(), dynamic, wake.clone()).await.unwrap();
    let shared = Shared::new(instance, dcs.clone(), config, watchdog, Log::deaf(), wake).unwrap();
    (shared, dcs)
}

fn now(shared: &Shared) -> Now<'_> {
    Now {
        at: mono_now(),
        name: &shared.instance.name,
        paused: false,
        timing: shared.me().timing,
        granted: Duration::MAX,
        server: shared.server(),
    }
}

/// The lock is won.
fn won(shared: &Shared) {
    let now = now(shared);
    let answer = Answer::Dcs(Ok(true));
    shared
        .lease
        .with(|lock| lock.answered((&Request::from(ask::AcquireLeader), &answer), now.at, false, &now));
}

#[tokio::test]
async fn a_primary_without_the_dcs_is_refused_by_who_holds_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let backend = ApiBackend::new(shared.clone());
    let ping = || Value::from_iter([("name", "n1")]);
    assert!(matches!(backend.failsafe(ping()).await, Ok(FailsafeReply::Accepted(_))));
    assert!(locked(&shared.failsafe_ping).take().is_some());
    won(&shared);
    assert!(matches!(backend.failsafe(ping()).await, Ok(FailsafeReply::RunningAsLeader)));
    assert!(locked(&shared.failsafe_ping).is_none(), "nor is it taken for the leader");
}

/// A server that is started as a primary is under the fence from its first moment: nothing else tells the lock of it
/// before the next answer.
#[tokio::test]
async fn a_server_arms_the_fence_as_soon_as_it_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    won(&shared);
    let armed = || shared.lease.with(|lock| lock.promise().1);
    assert_ne!(armed(), Arm::Writes);
    shared.instance.set_role(Role::Primary);
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    shared.instance.pretend_postmaster(child.id());
    assert_eq!(armed(), Arm::Writes);
    assert_ne!(shared.server().number, 0);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// By a reload of the files or of `/config`.
#[tokio::test]
async fn a_new_ttl_reaches_the_keeper_and_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, dcs) = parts(directory.path()).await;
    won(&shared);
    let until = || shared.lease.with(|lock| lock.lease_until()).unwrap();
    let long = until();
    let dynamic = pyfmt::json::loads(r#"{"ttl": 20, "loop_wait": 2, "retry_timeout": 3}"#).unwrap();
    shared.change_config(|config| config.set_dynamic(dynamic));
    shared.refresh(String::new());
    let timing = *locked(&dcs.timing);
    let seconds = Duration::from_secs;
    assert_eq!((timing.ttl, timing.loop_wait, timing.retry_timeout), (seconds(20), seconds(2), seconds(3)));
    let now = now(&shared);
    shared.lease.with(|lock| lock.request_sent(&Request::from(ask::LoadCluster), &now));
    assert!(long.since(until()) > seconds(5), "what is promised already is shorter, too");
    assert_eq!(shared.lease.with(|lock| lock.loop_wait()), seconds(2));
}

/// The keeper waits for the store no longer than the lock can.
#[tokio::test]
async fn a_renewal_is_limited() {
    struct Notes(Arc<Mutex<Vec<Duration>>>);
    impl LockRenewer for Notes {
        fn renew(&mut self, limit: Duration) -> Renewal {
            locked(&self.0).push(limit);
            Renewal::NoAnswer("away".into())
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    won(&shared);
    let limits = Arc::new(Mutex::new(Vec::new()));
    // In doubt, and with a permit: it asks at once.
    shared.lease.with(|lock| {
        lock.cycle_ended(mono_now());
        lock.clock_jumped(mono_now(), Duration::from_secs(60));
    });
    shared.lease.start_keeper(shared.instance.clone(), Some(Box::new(Notes(limits.clone())))).unwrap();
    let began = mono_now();
    while locked(&limits).is_empty() {
        assert!(mono_now().since(began) < Duration::from_secs(10), "it never asks");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shared.lease.with(|lock| lock.fence_handled());
    for limit in locked(&limits).iter() {
        assert!(*limit <= Duration::from_secs(3), "{limit:?}");
    }
}

/// At the end of the promise the server is stopped by the keeper's thread itself, whatever the loop does.
#[tokio::test]
async fn the_keeper_fences_the_server_that_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    shared.instance.set_role(Role::Primary);
    // It sleeps when there is nothing to do, and each change of the lock wakes it.
    shared.lease.start_keeper(shared.instance.clone(), None).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // In the background of a shell SIGQUIT is ignored.
    let mut server =
        std::process::Command::new("env").args(["--default-signal=QUIT", "sleep", "60"]).spawn().unwrap();
    shared.instance.pretend_postmaster(server.id());
    let now = now(&shared);
    let asked = now.at - now.timing.ttl + Duration::from_secs(4);
    let answer = Answer::Dcs(Ok(true));
    shared
        .lease
        .with(|lock| lock.answered((&Request::from(ask::AcquireLeader), &answer), asked, false, &now));
    assert_eq!(shared.instance.guard.told().1, Arm::Writes);
    let began = mono_now();
    while server.try_wait().unwrap().is_none() {
        let late = mono_now().since(began) > Duration::from_secs(10);
        if late {
            server.kill().unwrap();
        }
        assert!(!late, "it lives");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // What follows from it is the loop's.
    wakes(&shared).await;
}

/// The HA loop is woken.
async fn wakes(shared: &Shared) {
    let woken = tokio::time::timeout(Duration::from_secs(5), shared.wake.notified()).await;
    assert!(woken.is_ok(), "nobody wakes the loop");
}

/// A watch that shows the end of our key wakes the keeper, which would sleep until the next renewal is due.
#[tokio::test]
async fn a_key_that_is_seen_gone_wakes_the_keeper() {
    struct Asked(std::sync::mpsc::Sender<()>);
    impl LockRenewer for Asked {
        fn renew(&mut self, _: Duration) -> Renewal {
            let _ = self.0.send(());
            Renewal::Gone
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    won(&shared);
    shared.lease.with(|lock| lock.cycle_ended(mono_now()));
    let (send, asked) = std::sync::mpsc::channel();
    shared.lease.start_keeper(shared.instance.clone(), Some(Box::new(Asked(send)))).unwrap();
    let due = Duration::from_secs(8);
    assert!(
        shared.lease.with(|lock| lock.acts_at(mono_now())).since(mono_now()) > due,
        "it sleeps for longer"
    );
    shared.lease.key_seen_gone();
    assert!(asked.recv_timeout(due).is_ok(), "it sleeps on");
    // And it is the loop's business.
    wakes(&shared).await;
    shared.lease.with(|lock| lock.fence_handled());
}

/// A lease counts from before the request that has prolonged it, and one that is gone is the loop's business at once.
#[tokio::test]
async fn what_a_renewal_comes_to() {
    struct Slow(Arc<Mutex<Vec<Mono>>>, Renewal);
    impl LockRenewer for Slow {
        fn renew(&mut self, _: Duration) -> Renewal {
            locked(&self.0).push(mono_now());
            std::thread::sleep(Duration::from_millis(300));
            match &self.1 {
                Renewal::Until(granted) => Renewal::Until(*granted),
                _ => Renewal::Gone,
            }
        }
    }
    let ttl = Duration::from_secs(30);
    for came_to in [Renewal::Until(Granted { ttl }), Renewal::Gone] {
        let directory = tempfile::tempdir().unwrap();
        let (shared, _) = parts(directory.path()).await;
        won(&shared);
        let gone = matches!(came_to, Renewal::Gone);
        let asked = Arc::new(Mutex::new(Vec::new()));
        // In doubt, and with a permit: it asks at once.
        shared.lease.with(|lock| {
            lock.cycle_ended(mono_now());
            lock.clock_jumped(mono_now(), Duration::from_secs(60));
        });
        let renewer = Box::new(Slow(asked.clone(), came_to));
        shared.lease.start_keeper(shared.instance.clone(), Some(renewer)).unwrap();
        let began = mono_now();
        while shared.lease.with(|lock| lock.is_in_doubt()) {
            assert!(mono_now().since(began) < Duration::from_secs(10), "it never asks");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        match shared.lease.with(|lock| lock.lease_until()) {
            None => assert!(gone),
            Some(until) => assert!(!gone && until <= locked(&asked)[0] + ttl, "from its answer"),
        }
        if gone {
            wakes(&shared).await;
        }
        shared.lease.with(|lock| lock.fence_handled());
    }
}

/// A panic in a cycle: nothing of it counts, and no renewal of the lock is permitted by it.
#[tokio::test]
async fn a_cycle_that_panics_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, dcs) = parts(directory.path()).await;
    let mut memory = Memory::new(GlobalConfig::default());
    assert!(tick::guarded_cycle(&shared, &mut memory).await.is_some());
    dcs.panics.store(true, Ordering::SeqCst);
    let before = format!("{memory:?}");
    assert!(tick::guarded_cycle(&shared, &mut memory).await.is_none());
    assert_eq!(format!("{memory:?}"), before);
}

/// The fence is armed for a promotion from the moment its order goes out, and for no other job.
#[tokio::test]
async fn a_promotion_is_one_when_its_order_has_gone_out() {
    let directory = tempfile::tempdir().unwrap();
    for (job, sent, promoting) in [
        (Job::Promote, true, true),
        (Job::Promote, false, false),
        (Job::CopySlots { slots: Vec::new() }, true, false),
    ] {
        let (shared, _) = parts(directory.path()).await;
        let _running = shared.jobs.pretend(&job);
        shared.instance.committed.store(sent, Ordering::SeqCst);
        assert_eq!(shared.server().promoting, promoting, "{job:?} {sent}");
    }
}

/// A key that is ours, and that no cycle asks for: it must not live by the session of the member key.
#[tokio::test]
async fn a_lock_that_no_cycle_asks_for_is_left_to_run_out() {
    let directory = tempfile::tempdir().unwrap();
    for (leader, asks, left) in
        [(Some("n0"), false, 1), (Some("n0"), true, 0), (Some("n1"), false, 0), (None, false, 0)]
    {
        let (shared, dcs) = parts(directory.path()).await;
        let leader = leader.map(|name| {
            let member = Member { version: "1".into(), name: name.into(), session: None, data: Value::map() };
            Leader { version: "1".into(), session: None, member }
        });
        *locked(&dcs.told) = Some(Arc::new(Cluster { leader, ..Cluster::default() }));
        if asks {
            let now = now(&shared);
            shared.lease.with(|lock| lock.request_sent(&Request::from(ask::AcquireLeader), &now));
            won(&shared);
        }
        tick::note_end(&shared);
        assert_eq!(dcs.left.load(Ordering::SeqCst), left, "{:?} {asks}", shared.cluster().leader_name());
    }
}
