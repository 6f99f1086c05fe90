//! The slot of the one long job, as tasks.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;
use std::time::Instant;

use patroni_core::ha::{DemoteMode, Job, JobResult};
use patroni_core::model::ShutdownCheckpoint;
use tokio::sync::watch;

use super::*;
use crate::shell::jobs::pace;

fn restart() -> Job {
    Job::Restart { timeout: Duration::from_secs(1), release_sync: false }
}

/// Has nothing to do.
fn idle() -> Job {
    Job::CopySlots { slots: Vec::new() }
}

/// Before the engine stops PostgreSQL, a restart that an operator has just begun ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_the_end_of_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let ended = shared.jobs.pretend(&restart());
    let running = tokio::spawn({
        let shared = shared.clone();
        async move {
            let cancelled =
                tokio::time::timeout(Duration::from_secs(5), shared.instance.cancel.cancelled()).await;
            shared.jobs.pretend_end(JobResult::Cancelled, ended);
            cancelled.is_ok()
        }
    });
    shared.jobs.hold(&shared).await;
    assert!(running.is_finished() || shared.jobs.view().is_none(), "the restart goes on");
    assert!(shared.jobs.order(shared.clone(), restart()).is_err(), "and no other begins");
    assert!(running.await.unwrap(), "it is told to end");
}

/// What was said to the job before does not count, and its end is news for the loop.
#[tokio::test]
async fn a_job_begins_afresh_and_its_end_wakes_the_loop() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    shared.instance.cancel.cancel();
    shared.instance.committed.store(true, Ordering::SeqCst);
    let told = shared.jobs.start(shared.clone(), idle()).unwrap();
    assert!(!shared.instance.cancel.is_cancelled() && !shared.instance.committed.load(Ordering::SeqCst));
    assert_eq!(told.await.unwrap(), JobResult::Done);
    wakes(&shared).await;
    assert_eq!(shared.jobs.take_finished().0, vec![(idle(), JobResult::Done)]);
}

/// An order to cancel stands as long as its job runs, and concerns no other one.
#[tokio::test]
async fn an_order_to_cancel_ends_with_its_job() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let (jobs, cancel) = (&shared.jobs, &shared.instance.cancel);
    let running = jobs.pretend(&restart());
    jobs.cancel_and_wait(&shared, Duration::from_millis(20)).await;
    assert!(cancel.is_cancelled(), "it outlives its limit, and starts nothing any more");
    tokio::join!(jobs.cancel_and_wait(&shared, Duration::from_secs(5)), async {
        jobs.pretend_end(JobResult::Cancelled, running);
    });
    assert!(!cancel.is_cancelled());
}

/// Somebody waits for the end of the job, and its slot is not free yet.
#[tokio::test]
async fn who_replaces_a_job_waits_for_its_slot() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    drop(shared.jobs.pretend(&restart()));
    let replaced = shared.jobs.order_instead(shared.clone(), idle(), Duration::from_secs(10));
    let ends = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        shared.jobs.pretend_end(JobResult::Cancelled, watch::Sender::new(()));
    };
    let (replaced, ()) = tokio::join!(replaced, ends);
    assert_eq!(replaced.unwrap().await.unwrap(), JobResult::Done);
}

/// The end of a job wakes the loop, which tries again: not in a circle without a pause.
#[tokio::test]
async fn a_job_that_fails_at_once_takes_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    for (job, result, waits) in [
        (Job::Promote, JobResult::Failed, true),
        (Job::Promote, JobResult::NotPromoted, true),
        (Job::Promote, JobResult::Done, false),
        (restart(), JobResult::Failed, false),
    ] {
        let begun = Instant::now();
        pace(&shared, &job, &result, begun).await;
        assert_eq!(begun.elapsed() >= Duration::from_millis(900), waits, "{job:?} {result:?}");
    }
}

/// The cycles hear of the shutdown checkpoint while the postmaster still lives: the key can be given away by then.
#[tokio::test]
async fn a_demotion_tells_of_its_checkpoint_before_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let script = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    std::fs::create_dir_all(directory.path().join("data/global")).unwrap();
    std::fs::write(directory.path().join("data/global/pg_control"), "x").unwrap();
    script(
        "pg_controldata",
        "echo 'Database cluster state: shut down'; echo 'Latest checkpoint location: 0/3000028'; \
         echo \"Latest checkpoint's TimeLineID: 1\"",
    );
    script("pg_waldump", "exit 1");
    // It hears of the stop, and takes its time.
    let mut server = std::process::Command::new("sh")
        .args(["-c", "trap '' INT; echo up; while :; do sleep 0.1; done"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut up = [0; 3];
    server.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
    shared.instance.pretend_postmaster(server.id());
    let job = Job::Demote { mode: DemoteMode::Graceful, name: "demote".into(), timeout: None };
    let ended = shared.jobs.start(shared.clone(), job).unwrap();
    wakes(&shared).await;
    let found = ShutdownCheckpoint { location: Lsn::new(0x300_0028), publish: Lsn::new(0x300_0028) };
    assert_eq!(shared.jobs.view().unwrap().shutdown_checkpoint, Some(found));
    assert!(server.try_wait().unwrap().is_none());
    // What was told holds, whatever can be read at the end.
    script("pg_controldata", "exit 1");
    std::fs::write(directory.path().join("data/global/pg_control"), "y").unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(ended.await.unwrap(), JobResult::Stopped(Some(found)));
}
