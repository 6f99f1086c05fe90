//! What is known of the server, and of the addresses at which it is asked.

use std::os::unix::fs::PermissionsExt;

use patroni_core::ha::JobResult;

use super::*;

/// Ends with the test.
struct Sleeper(std::process::Child);

impl Sleeper {
    fn start() -> Sleeper {
        Sleeper(std::process::Command::new("sleep").arg("60").spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn port(shared: &Shared) -> Option<String> {
    shared.instance.pool().params().get("port").map(str::to_owned)
}

/// A server that others have started is asked, and published, at the port that its files tell, until it is started anew.
#[tokio::test]
async fn a_server_is_asked_where_it_listens() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    assert_eq!(port(&shared).as_deref(), Some("1"));
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let server = Sleeper::start();
    let pid = server.0.id();
    shared.instance.pretend_postmaster(pid);
    let found = shared.instance.known_postmaster().unwrap();
    let files = |pid: u32, port: &str| {
        std::fs::write(
            data.join("postmaster.pid"),
            format!("{pid}\n{}\n1\n{port}\n/tmp\n127.0.0.1\n", data.display()),
        )
        .unwrap();
    };
    // Not told yet; another server's file.
    shared.instance.learn_addresses(found).await;
    files(1, "5999");
    shared.instance.learn_addresses(found).await;
    files(pid, "0");
    shared.instance.learn_addresses(found).await;
    assert_eq!(port(&shared).as_deref(), Some("1"));
    assert_eq!(shared.me_now().conn_url, "postgres://127.0.0.1:1/postgres");
    // What makes a data directory runs servers of its own.
    files(pid, "5999");
    shared.instance.set_state(PgState::CustomBootstrap);
    shared.instance.learn_addresses(found).await;
    assert_eq!(port(&shared).as_deref(), Some("1"));
    shared.instance.set_state(PgState::Running);
    shared.instance.learn_addresses(found).await;
    assert_eq!(port(&shared).as_deref(), Some("5999"));
    assert_eq!(shared.me_now().conn_url, "postgres://127.0.0.1:5999/postgres");
}

/// What the one before has said of itself says nothing of the next one.
#[tokio::test]
async fn another_server_is_not_known_to_write() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let (first, second) = (Sleeper::start(), Sleeper::start());
    shared.instance.pretend_postmaster(first.0.id());
    shared.instance.pretend_that_it_writes();
    shared.instance.pretend_postmaster(first.0.id());
    assert!(shared.instance.says_it_writes() && shared.server().writes);
    shared.instance.pretend_postmaster(second.0.id());
    assert!(!shared.instance.says_it_writes());
    // Nor one that is proven to have ended.
    shared.instance.pretend_that_it_writes();
    drop(second);
    assert!(shared.instance.is_proven_gone().await);
    assert!(!shared.instance.says_it_writes() && shared.instance.known_postmaster().is_none());
}

/// From the last moment at which it can be called back a promotion counts as one that may write; it is not asked for
/// without the lock's leave.
#[tokio::test]
async fn a_promotion_asks_last_whether_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let asked = directory.path().join("asked");
    let pg_ctl = directory.path().join("pg_ctl");
    std::fs::write(&pg_ctl, format!("#!/bin/sh\necho \"$1\" >>{}\n", asked.display())).unwrap();
    std::fs::set_permissions(&pg_ctl, std::fs::Permissions::from_mode(0o755)).unwrap();
    let pg = shared.instance.clone();
    pg.set_role(Role::Replica);
    let soon = Duration::from_millis(50);
    let past_recall = || pg.committed.load(Ordering::SeqCst);
    // No lock.
    let told = AtomicBool::new(false);
    let before = async { told.store(past_recall(), Ordering::SeqCst) };
    let refused = || {
        assert!(past_recall() && told.load(Ordering::SeqCst));
        None
    };
    assert_eq!(pg.promote(soon, before, refused).await, JobResult::Cancelled);
    assert!(!past_recall() && !asked.exists() && pg.role() == Role::Replica);
    // Called back.
    pg.cancel.cancel();
    assert_eq!(pg.promote(soon, async {}, || panic!("it is called back")).await, JobResult::Cancelled);
    pg.cancel.reset();
    assert!(!asked.exists());
    won(&shared);
    let leave = || shared.lease.with(|lock| lock.will_promote(mono_now(), false, &shared.server()));
    assert_eq!(pg.promote(soon, async {}, leave).await, JobResult::Done);
    assert_eq!(std::fs::read_to_string(&asked).unwrap(), "promote\n");
    assert_eq!(pg.role(), Role::Promoted);
    // Once.
    assert_eq!(pg.promote(soon, async {}, || panic!("it is one already")).await, JobResult::Done);
}

/// Somebody leads without the store, and has asked for our consent: the REST API tells of it as of our own.
#[tokio::test]
async fn a_leader_without_the_store_is_told_of() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let active = || async { ApiBackend::new(shared.clone()).snapshot(false).await.failsafe_active };
    assert!(!active().await);
    let backend = ApiBackend::new(shared.clone());
    assert!(matches!(
        backend.failsafe(Value::from_iter([("name", "n1")])).await,
        Ok(FailsafeReply::Accepted(_))
    ));
    assert!(active().await);
    *locked(&shared.failsafe_ping) = None;
    assert!(!active().await);
    *locked(&shared.failsafe_since) = Some(mono_now());
    assert!(active().await);
}

/// Whoever asks for a reload by the REST API.
#[tokio::test]
async fn a_reload_is_noted_for_the_loop() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let backend = ApiBackend::new(shared.clone());
    assert!(!shared.reload_wanted.load(Ordering::SeqCst));
    backend.reload();
    assert!(shared.reload_wanted.load(Ordering::SeqCst));
    wakes(&shared).await;
}
