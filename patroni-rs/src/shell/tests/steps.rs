//! What a cycle sees, and what it leaves behind.

use patroni_core::ha::JobView;

use super::*;

/// What has no result yet counts as running, also where its end falls into the look at PostgreSQL.
#[tokio::test]
async fn what_ends_during_the_look_runs_as_far_as_this_cycle_knows() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let memory = Memory::new(GlobalConfig::default());
    let job = JobView { job: Job::Promote, started_at: mono_now(), shutdown_checkpoint: None };
    let seen = tick::view(&shared, &memory, Some(job)).await;
    assert_eq!((seen.job.map(|view| view.job), seen.lease_until), (Some(Job::Promote), None));
    won(&shared);
    let seen = tick::view(&shared, &memory, None).await;
    assert!(seen.job.is_none() && seen.lease_until.is_some());
}

/// The end of a cycle is when an operator's job may begin again, and its configuration is in force.
#[tokio::test]
async fn what_a_cycle_leaves_behind() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let restart = Job::Restart { timeout: Duration::from_secs(1), release_sync: false };
    let mut memory = Memory::new(GlobalConfig::new(Value::from_iter([("pause", true)])));
    shared.jobs.hold(&shared).await;
    *locked(&shared.restarting) = Some(Duration::from_secs(7));
    tick::cycle(&shared, &mut memory).await;
    assert!(shared.instance.dynamic().is_paused());
    assert_eq!(memory.start.timeout, Some(Duration::from_secs(7)));
    assert_eq!(*locked(&shared.restarting), None);
    assert!(shared.jobs.order(shared.clone(), restart).is_ok());
}
