//! An instance over a data directory of a few files, and programs that are scripts.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};

use patroni_core::ha::Unfinished;
use patroni_postgres::process::unfinished;
use tokio::sync::Notify;

use super::*;

/// Ends with the test.
struct Sleeper(Child);

impl Sleeper {
    fn start() -> Sleeper {
        Sleeper(Command::new("sleep").arg("60").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Here {
    dir: tempfile::TempDir,
}

const CONTROL: &str = "echo 'Database system identifier: 7'\necho 'Database cluster state: in production'";

impl Here {
    /// A data directory that a server of 15 could have left, and pg_controldata.
    fn new() -> Here {
        let here = Here::empty();
        here.program("pg_controldata", CONTROL);
        std::fs::create_dir_all(here.dir.path().join("data/global")).unwrap();
        std::fs::set_permissions(here.dir.path().join("data"), std::fs::Permissions::from_mode(0o700))
            .unwrap();
        for (name, text) in [("global/pg_control", "x"), ("PG_VERSION", "15\n"), ("postgresql.conf", "")] {
            here.file(name, text);
        }
        here
    }

    fn empty() -> Here {
        Here { dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join("data").join(name), text).unwrap();
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join("data").join(name)).unwrap()
    }

    /// One of PostgreSQL's programs.
    fn program(&self, name: &str, script: &str) {
        let path = self.dir.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    async fn instance(&self) -> Arc<Instance> {
        let dir = self.dir.path().display();
        let section = Value::from_iter([
            ("name", "n0".to_owned()),
            ("scope", "s".to_owned()),
            ("listen", "127.0.0.1:1".to_owned()),
            ("connect_address", "127.0.0.1:1".to_owned()),
            ("data_dir", format!("{dir}/data")),
            ("bin_dir", format!("{dir}")),
            ("pgpass", format!("{dir}/pgpass")),
        ]);
        Instance::new(section, GlobalConfig::default(), Arc::new(Notify::new())).await.unwrap()
    }
}

/// The state, and the role, of what is found when the daemon starts.
#[tokio::test]
async fn what_is_found_is_taken_over() {
    for (data, signal, readable, runs, role, state) in [
        (true, None, true, false, Role::Demoted, PgState::Stopped),
        (true, Some("standby.signal"), true, false, Role::Replica, PgState::Stopped),
        (true, Some("recovery.signal"), true, false, Role::Replica, PgState::Stopped),
        (true, Some("standby.signal"), false, false, Role::Uninitialized, PgState::Stopped),
        (true, None, false, false, Role::Uninitialized, PgState::Stopped),
        (false, None, true, false, Role::Uninitialized, PgState::Stopped),
        // Until it answers its files say what it is.
        (true, None, true, true, Role::Primary, PgState::Starting),
        (true, Some("standby.signal"), true, true, Role::Replica, PgState::Starting),
        (true, None, false, true, Role::Uninitialized, PgState::Starting),
    ] {
        let here = if data { Here::new() } else { Here::empty() };
        if let Some(signal) = signal {
            here.file(signal, "");
        }
        here.program("pg_controldata", if readable { CONTROL } else { "exit 1" });
        let pg = here.instance().await;
        let server = runs.then(Sleeper::start);
        if let Some(server) = &server {
            pg.pretend_postmaster(server.0.id());
        }
        pg.take_over().await;
        assert_eq!((pg.role(), pg.state()), (role, state), "{data} {signal:?} {readable} {runs}");
        assert_eq!(locked(&pg.due).join, runs, "what runs has to be asked for its parameters");
    }
    // What is half made would run as nothing.
    let here = Here::new();
    let pg = here.instance().await;
    unfinished::begin(&pg.data_dir, Unfinished::Bootstrap, None).await.broken_off().await;
    pg.take_over().await;
    assert_eq!(pg.role(), Role::Uninitialized);
}

/// It has ended before it answered.
#[tokio::test]
async fn a_server_that_ends_while_it_starts_has_not_started() {
    let here = Here::new();
    let pg = here.instance().await;
    for (state, came_to) in [
        (PgState::Starting, PgState::StartFailed),
        (PgState::BootstrapStarting, PgState::StartFailed),
        (PgState::Running, PgState::Running),
    ] {
        pg.set_state(state);
        pg.check_startup().await;
        assert_eq!(pg.state(), came_to, "{state:?}");
    }
    // One that goes on, or whose job waits for it, is waited for.
    pg.set_state(PgState::Starting);
    pg.starting.store(true, std::sync::atomic::Ordering::SeqCst);
    pg.check_startup().await;
    pg.starting.store(false, std::sync::atomic::Ordering::SeqCst);
    let server = Sleeper::start();
    pg.pretend_postmaster(server.0.id());
    pg.check_startup().await;
    assert_eq!(pg.state(), PgState::Starting);
}

#[tokio::test]
async fn a_start_that_comes_to_nothing_has_failed() {
    let failed = |started| (started, PgState::StartFailed);
    for (what, came_to) in [
        ("half made", failed(Started::Failed)),
        ("no pg_controldata", failed(Started::Unknown)),
        ("no postgres", failed(Started::Failed)),
        ("a postgres that ends", failed(Started::Failed)),
        ("cancelled", (Started::Failed, PgState::Starting)),
        // Nobody knows of what version it is.
        ("no version", (Started::Unknown, PgState::Starting)),
        ("runs already", (Started::Running, PgState::Starting)),
    ] {
        let here = Here::new();
        match what {
            "no pg_controldata" => here.program("pg_controldata", "exit 1"),
            "a postgres that ends" => here.program("postgres", "exit 1"),
            "no version" => here.file("PG_VERSION", "x"),
            _ => {}
        }
        let pg = here.instance().await;
        let server = (what == "runs already").then(Sleeper::start);
        match what {
            "half made" => {
                let mark = unfinished::begin(&pg.data_dir, Unfinished::Bootstrap, None).await;
                mark.broken_off().await;
            }
            "cancelled" => pg.cancel.cancel(),
            "runs already" => pg.pretend_postmaster(server.as_ref().unwrap().0.id()),
            _ => {}
        }
        let started = pg.start(Some(Duration::from_secs(20)), false, None).await;
        assert_eq!((started, pg.state()), came_to, "{what}");
        // Whoever waits for it hears of it.
        assert!(!pg.starting.load(std::sync::atomic::Ordering::SeqCst), "{what}");
    }
}

#[tokio::test]
async fn a_stop_that_fails_leaves_a_word() {
    let here = Here::new();
    let pg = here.instance().await;
    let plain = StopHow::default;
    pg.set_state(PgState::Running);
    assert!(pg.stop_plain(StopHow { quiet: true, ..plain() }).await);
    assert_eq!(pg.state(), PgState::Running, "part of a restart");
    assert!(pg.stop_plain(plain()).await);
    assert_eq!(pg.state(), PgState::Stopped);
    // A single-user server is nobody's to stop.
    let server = Sleeper::start();
    let process = Process::find(server.0.id() as i32).unwrap();
    pg.note_postmaster(Postmaster { process, single_user: true }, None);
    pg.set_state(PgState::Running);
    for quiet in [true, false] {
        assert!(!pg.stop_plain(StopHow { quiet, ..plain() }).await);
        assert_eq!(pg.state(), PgState::StopFailed);
    }
    assert_eq!(pg.restart(RestartHow::default(), || true).await, Started::Failed);
    assert_eq!(pg.state(), PgState::RestartFailed);
}

/// Without the lock's leave a primary stays down; a standby needs none.
#[tokio::test]
async fn a_restart_asks_before_it_starts_a_primary() {
    for (signal, may_write, starts) in
        [(None, false, false), (None, true, true), (Some("standby.signal"), false, true)]
    {
        let here = Here::new();
        here.program("postgres", &format!("echo >{}/started; exit 1", here.dir.path().display()));
        if let Some(signal) = signal {
            here.file(signal, "");
        }
        let pg = here.instance().await;
        std::fs::remove_file(here.dir.path().join("started")).unwrap_or_default();
        assert_eq!(pg.restart(RestartHow::default(), || may_write).await, Started::Failed);
        assert_eq!(pg.state(), PgState::RestartFailed);
        assert_eq!(here.dir.path().join("started").exists(), starts, "{signal:?} {may_write}");
    }
}

/// The lines of `bootstrap.pg_hba` are in the file before the new server starts: with initdb's own everybody is let in.
#[tokio::test]
async fn who_is_let_into_a_new_cluster() {
    let lines = || Value::from_iter([("pg_hba", Value::List(vec!["host all all 10.0.0.0/8 md5".into()]))]);
    let own = "local all all trust\n";
    for (bootstrap, made, hba) in [
        (lines(), true, format!("{own}\nhost all all 10.0.0.0/8 md5\n")),
        (Value::map(), true, format!("{own}\n\n")),
        // What cannot be used is no new cluster.
        (Value::from_iter([("pg_hba", 5)]), false, String::new()),
    ] {
        let here = Here::empty();
        let data = here.dir.path().join("data");
        here.program(
            "initdb",
            &format!(
                "mkdir -p {0}/global; echo 15 >{0}/PG_VERSION; printf '{own}' >{0}/pg_hba.conf",
                data.display()
            ),
        );
        let pg = here.instance().await;
        // No server can be started here.
        assert!(!pg.bootstrap(&bootstrap).await);
        assert_eq!(data.exists(), made);
        if made {
            assert_eq!(here.text("pg_hba.conf"), hba);
            assert_eq!(here.text("pg_hba.conf.backup"), hba, "also what a copy is repaired with");
        }
    }
}
