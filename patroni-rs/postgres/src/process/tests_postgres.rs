//! One life of two servers on real PostgreSQL, for each installed version.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use patroni_core::rewind::RewindAttempt;
use pyfmt::Value;
use tokio::sync::{mpsc, watch};

use super::basebackup::BaseBackup;
use super::cancellable::Cancellable;
use super::control::ControlReader;
use super::initdb::{initdb, Superuser};
use super::postmaster::Postmaster;
use super::ready::Ready;
use super::rewind::{self, RewindLeader, RewindRequest};
use super::start::{launch, wait_for_startup, StartCommand, Startup};
use super::stop::{stop, StopEvent, StopRequest, Stopped};
use super::testkit::{versions, Sandbox};
use super::{crash_recovery, datadir, probe, proc, promote};
use patroni_core::cluster_state::ClusterState;
use patroni_core::ha::StopMode;
use patroni_core::PgVersion;

const LIMIT: Duration = Duration::from_secs(60);
/// Stops whose beginning was told.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

/// One server of a sandbox.
struct Server<'a> {
    sandbox: &'a Sandbox,
    data: PathBuf,
    port: u16,
    control: ControlReader,
    cancel: Cancellable,
}

impl<'a> Server<'a> {
    fn new(sandbox: &'a Sandbox, name: &str) -> Server<'a> {
        let data = sandbox.path(name);
        let control = ControlReader::new(sandbox.bin.clone(), &data);
        Server { sandbox, data, port: Sandbox::free_port(), control, cancel: Cancellable::default() }
    }

    fn dsn(&self) -> String {
        self.sandbox.dsn(self.port)
    }

    async fn sql(&self, statement: &str) -> String {
        self.sandbox.sql(&self.dsn(), statement).await.unwrap()
    }

    fn command(&self) -> StartCommand {
        StartCommand {
            data_dir: self.data.clone(),
            config_file: self.data.join("postgresql.conf"),
            options: vec![
                "--listen_addresses=".into(),
                format!("--port={}", self.port),
                "--cluster_name=c".into(),
            ],
        }
    }

    async fn start(&self) -> Postmaster {
        let started = Instant::now();
        let postmaster = launch(&self.sandbox.bin, &self.command(), &Cancellable::default()).await.unwrap();
        let pid = started.elapsed();
        let target = self.sandbox.target(&self.data, self.port);
        assert_eq!(wait_for_startup(&target, &postmaster, LIMIT, &self.cancel).await, Startup::Running);
        eprintln!("  start: pid after {pid:?}, ready after {:?}", started.elapsed());
        assert_eq!(Postmaster::find(&self.data).await.unwrap(), Some(postmaster));
        assert_eq!(target.ping().await, Ready::Running);
        postmaster
    }

    async fn stop(&self, mode: StopMode, timeout: Option<Duration>) -> (Stopped, Vec<StopEvent>) {
        let started = Instant::now();
        let target = self.sandbox.target(&self.data, self.port);
        let request = StopRequest {
            mode,
            timeout,
            safe_point: true,
            early_release: true,
            data_dir: &self.data,
            bin: &self.sandbox.bin,
            control: &self.control,
            target: &target,
            begun: || {
                BEGUN.fetch_add(1, Ordering::SeqCst);
            },
        };
        let (send, mut receive) = mpsc::unbounded_channel();
        let postmaster = Postmaster::find(&self.data).await.unwrap();
        let begun = BEGUN.load(Ordering::SeqCst);
        let stopped = stop(postmaster, &request, &send).await;
        if postmaster.is_some() {
            assert!(BEGUN.load(Ordering::SeqCst) > begun, "nobody was told that the stop has begun");
        }
        drop(send);
        let mut events = Vec::new();
        while let Some(event) = receive.recv().await {
            events.push(event);
        }
        eprintln!("  stop {mode:?}: {:?}, {events:?}", started.elapsed());
        (stopped, events)
    }

    async fn state(&self) -> ClusterState {
        self.control.read().await.unwrap().state()
    }

    fn follow(&self, leader: &Server<'_>) {
        self.sandbox.write(&self.data.join("standby.signal"), "");
        let line = format!("primary_conninfo = '{}'\n", leader.dsn());
        self.sandbox.write(&self.data.join("postgresql.auto.conf"), &line);
    }

    async fn wait_sql(&self, statement: &str, want: &str) {
        for _ in 0..500 {
            if self.sandbox.sql(&self.dsn(), statement).await.as_deref() == Ok(want) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{statement} did not become {want}");
    }
}

impl RewindLeader for Server<'_> {
    async fn is_primary(&self) -> bool {
        self.sandbox.sql(&self.dsn(), "SELECT pg_is_in_recovery()").await.as_deref() == Ok("f")
    }
    async fn ensure_checkpoint(&self) -> Result<(), String> {
        self.sandbox.sql(&self.dsn(), "CHECKPOINT").await.map(|_| ())
    }
    async fn timeline(&self) -> Option<u32> {
        let row = self.sandbox.sql(&format!("{} replication=1", self.dsn()), "IDENTIFY_SYSTEM").await.ok()?;
        row.split('|').nth(1)?.parse().ok()
    }
    async fn timeline_history(&self, timeline: u32) -> Option<String> {
        let statement = format!("TIMELINE_HISTORY {timeline}");
        let row = self.sandbox.sql(&format!("{} replication=1", self.dsn()), &statement).await.ok()?;
        row.split_once('|').map(|(_, text)| text.to_owned())
    }
}

async fn make_primary(sandbox: &Sandbox) -> Server<'_> {
    let server = Server::new(sandbox, "data0");
    let options = Value::List(vec!["data-checksums".into(), "no-sync".into()]);
    let user = Superuser { username: Some("postgres".into()), password: Some("se cret".into()) };
    initdb(&sandbox.bin, &server.cancel, &server.data, &options, &user).await.unwrap();
    let conf = server.data.join("postgresql.conf");
    let mut text = std::fs::read_to_string(&conf).unwrap();
    text += &format!(
        "\nunix_socket_directories = '{}'\nhot_standby = on\nwal_keep_size = 64MB\nshared_buffers = 16MB\n\
         fsync = off\nlogging_collector = off\nlog_destination = stderr\nlog_min_messages = fatal\n",
        sandbox.root.path().display()
    );
    sandbox.write(&conf, &text);
    sandbox.write(&server.data.join("pg_hba.conf"), "local all all trust\nlocal replication all trust\n");
    server
}

async fn copy<'a>(sandbox: &'a Sandbox, from: &Server<'_>, version: PgVersion) -> Server<'a> {
    let server = Server::new(sandbox, "data1");
    let progress = watch::Sender::new(None);
    let mut options = Value::map();
    options.set("checkpoint", "fast");
    let backup = BaseBackup {
        bin: &sandbox.bin,
        cancel: &server.cancel,
        data_dir: &server.data,
        dsn: &from.dsn(),
        env: &[],
        options: &options,
        version,
        progress: &progress,
    };
    let started = Instant::now();
    assert_eq!(backup.run().await, super::basebackup::Created::Done);
    eprintln!("  base backup: {:?}", started.elapsed());
    server
}

async fn rewind_needed(old: &Server<'_>, new: &Server<'_>) -> Option<bool> {
    let local = rewind::local_position(&old.control.read().await.unwrap());
    let version = probe::data_dir_version(&old.data).await.unwrap();
    rewind::needed(&old.sandbox.bin, &old.data, version, local, new).await
}

async fn rewind_execute(old: &Server<'_>, new: &Server<'_>, major_version: PgVersion) -> RewindAttempt {
    assert!(rewind::possible(&old.sandbox.bin, &old.control).await);
    let config_file = old.data.join("postgresql.conf");
    let request = RewindRequest {
        bin: &old.sandbox.bin,
        cancel: &old.cancel,
        control: &old.control,
        data_dir: &old.data,
        config_file: &config_file,
        major_version,
        leader_name: "new",
        dsn: &new.dsn(),
        env: &[],
        restore_command: None,
        archive_command: None,
    };
    request.execute(None, new).await
}

/// Start, stop, replica, promotion, rewind, crash recovery.
async fn whole_life(dir: &Path) {
    let sandbox = Sandbox::new(dir);
    let version = probe::binary_version(&sandbox.bin).await.unwrap();
    eprintln!("PostgreSQL {version}");
    let old = make_primary(&sandbox).await;
    let major = probe::data_dir_version(&old.data).await.unwrap();
    assert_eq!(major, version.major());
    let postmaster = old.start().await;
    let stat = proc::stat(postmaster.process.pid).unwrap();
    assert_ne!(stat.ppid, std::process::id() as i32);
    assert_eq!(old.state().await, ClusterState::InProduction);
    assert!(old.control.read().await.unwrap().allows_rewind());
    assert!(datadir::remove(&old.data).await.is_err(), "never while a server runs");
    old.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await;

    let new = copy(&sandbox, &old, version).await;
    new.follow(&old);
    new.start().await;
    old.wait_sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1").await;

    // A switchover: the old primary stops cleanly, the replica is promoted.
    let (stopped, events) = old.stop(StopMode::Fast, None).await;
    assert_eq!(stopped, Stopped::Stopped { signalled: true });
    assert!(events.iter().any(|e| matches!(e, StopEvent::ShutDown(l) if l.publish <= l.location)));
    assert_eq!(old.stop(StopMode::Fast, None).await.0, Stopped::NotRunning);
    let started = Instant::now();
    assert_eq!(promote::request(&sandbox.bin, &new.cancel, &new.data).await, promote::Asked::Yes);
    let asked = started.elapsed();
    assert!(promote::wait(&new.control, Postmaster::find(&new.data).await.unwrap(), LIMIT).await);
    assert!(started.elapsed() < Duration::from_secs(2));
    eprintln!("  promote: asked after {asked:?}, in production after {:?}", started.elapsed());
    assert!(new.is_primary().await);
    assert_eq!(rewind_needed(&old, &new).await, Some(false));

    // The old primary diverges and must be rewound.
    old.start().await;
    old.sql("INSERT INTO t VALUES (2); CHECKPOINT").await;
    assert_eq!(rewind_execute(&old, &new, major).await, RewindAttempt::Postponed);
    old.stop(StopMode::Fast, None).await;
    assert_eq!(rewind_needed(&old, &new).await, Some(true));
    new.sql("INSERT INTO t VALUES (3)").await;
    let started = Instant::now();
    assert_eq!(rewind_execute(&old, &new, major).await, RewindAttempt::Succeeded);
    eprintln!("  rewind: {:?}", started.elapsed());
    old.follow(&new);
    old.start().await;
    old.wait_sql("SELECT array_agg(a) FROM t", "{1,3}").await;

    // A crash of the postmaster: the children go too, recovery in single-user mode.
    let crashed = Postmaster::find(&new.data).await.unwrap().unwrap();
    crashed.process.signal(Signal::SIGKILL).unwrap();
    assert!(crashed.process.wait_exit_within(Some(LIMIT)).await);
    assert_eq!(Postmaster::find(&new.data).await.unwrap(), None);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let started = Instant::now();
    crash_recovery::prepare(&sandbox.bin, &new.cancel, None, &new.data.join("pg_wal")).await;
    assert!(crash_recovery::run_single_user(&sandbox.bin, &new.cancel, &new.data).await);
    eprintln!("  single-user recovery: {:?}", started.elapsed());
    assert_eq!(new.state().await, ClusterState::ShutDown);

    // A postmaster that does not react is killed.
    let frozen = Postmaster::find(&old.data).await.unwrap().unwrap();
    frozen.process.signal(Signal::SIGSTOP).unwrap();
    let (stopped, _) = old.stop(StopMode::Fast, Some(Duration::from_millis(300))).await;
    assert_eq!(stopped, Stopped::Stopped { signalled: true });
    assert!(proc::children(frozen.process.pid, true).unwrap().is_empty());

    // A start that fails is seen at once; so is a missing program.
    let mut broken = new.command();
    broken.options.push("--no_such_parameter=1".into());
    let started = Instant::now();
    if let Ok(postmaster) = launch(&sandbox.bin, &broken, &new.cancel).await {
        let target = sandbox.target(&new.data, new.port);
        assert_eq!(wait_for_startup(&target, &postmaster, LIMIT, &new.cancel).await, Startup::Failed);
    }
    eprintln!("  failed start seen after {:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(2));
    assert!(launch(&super::Binaries::new("/nonexistent"), &broken, &Cancellable::default()).await.is_err());

    // Its socket's lock file names the crashed postmaster until init has reaped that.
    while proc::stat(crashed.process.pid).is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // A stale pid file that names a foreign process does not prevent a start.
    sandbox.write(
        &new.data.join("postmaster.pid"),
        &format!("{}\n{}\n1000\n", std::process::id(), new.data.display()),
    );
    new.start().await;
    namesakes(&old, &new, major).await;
    new.stop(StopMode::Immediate, Some(LIMIT)).await;
}

/// Two servers are promoted, each without the other, and give their timelines the same number. pg_rewind sees nothing to
/// do.
async fn namesakes(old: &Server<'_>, new: &Server<'_>, major: PgVersion) {
    let promote = async |server: &Server<'_>| {
        server.start().await;
        assert_eq!(
            promote::request(&server.sandbox.bin, &server.cancel, &server.data).await,
            promote::Asked::Yes
        );
        let postmaster = Postmaster::find(&server.data).await.unwrap();
        assert!(promote::wait(&server.control, postmaster, LIMIT).await);
        server.sql("CHECKPOINT").await;
    };
    old.follow(new);
    old.start().await;
    new.wait_sql("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'", "1").await;
    old.stop(StopMode::Fast, None).await;
    new.sql("INSERT INTO t VALUES (9)").await;
    new.stop(StopMode::Fast, None).await;
    promote(old).await;
    old.stop(StopMode::Fast, None).await;
    new.follow(old);
    promote(new).await;
    assert_eq!(old.timeline().await, None);
    assert_eq!(new.timeline().await, Some(3));
    assert_eq!(rewind_needed(old, new).await, Some(true));
    assert_eq!(rewind_execute(old, new, major).await, RewindAttempt::Failed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_on_every_installed_version() {
    for (_, dir) in versions() {
        whole_life(&dir).await;
    }
}
