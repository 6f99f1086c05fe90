//! What carrying out a request leaves behind, besides its answer.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::shell::tests::parts;
use patroni_core::ha::{Job, JobResult};
use patroni_core::model::ClusterConfig;
use pyfmt::Value;

fn restart() -> Job {
    Job::Restart { timeout: Duration::from_secs(1), release_sync: false }
}

#[tokio::test]
async fn who_stops_the_server_holds_operators_off() {
    for request in [
        ServerRequest::Stop(ask::Stop { mode: StopMode::Fast, timeout: None }),
        ServerRequest::StopToCheckpoint(ask::StopToCheckpoint { timeout: None }),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let (shared, _) = parts(directory.path()).await;
        Executor::new(shared.clone()).server(&request, None).await;
        assert_eq!(
            shared.jobs.order(shared.clone(), restart()).err().as_deref(),
            Some("demote"),
            "{request:?}"
        );
    }
}

#[tokio::test]
async fn what_was_read_is_what_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let mut executor = Executor::new(shared.clone());
    let config = ClusterConfig {
        data: Value::from_iter([("pause", true)]),
        modify_version: "5".into(),
        ..ClusterConfig::default()
    };
    let cluster = Arc::new(Cluster { config: Some(config), ..Cluster::default() });
    let read = DcsRequest::LoadCluster(ask::LoadCluster);
    executor.heard(&read, &Answer::Cluster(Ok(cluster.clone())), mono_now());
    assert!(shared.instance.dynamic().is_paused());
    assert!(Arc::ptr_eq(&executor.cluster, &cluster));
    // Whoever has ordered a restart waits until the member key tells of it.
    for there in [true, false] {
        let mut member = Value::map();
        if there {
            member.set("scheduled_restart", Value::map());
        }
        let written = DcsRequest::TouchMember(ask::TouchMember(member));
        executor.heard(&written, &Answer::Bool(true), mono_now());
        assert_eq!(*shared.restart_published.borrow(), there);
    }
}

#[tokio::test]
async fn a_promotion_is_cancelled_as_long_as_its_order_has_not_gone_out() {
    for (sent, cancelled) in [(false, true), (true, false)] {
        let directory = tempfile::tempdir().unwrap();
        let (shared, _) = parts(directory.path()).await;
        let running = shared.jobs.pretend(&Job::Promote);
        shared.instance.committed.store(sent, Ordering::SeqCst);
        assert_eq!(Executor::new(shared.clone()).cancel_job(true).await, cancelled);
        assert_eq!(shared.instance.cancel.is_cancelled(), cancelled);
        shared.jobs.pretend_end(JobResult::Cancelled, running);
    }
}

#[test]
fn how_long_clients_may_stay_in_a_stop() {
    for (seconds, patience) in [(0, STOP_PATIENCE), (-1, STOP_PATIENCE), (5, Duration::from_secs(5))] {
        let config = GlobalConfig::new(Value::from_iter([("primary_stop_timeout", seconds)]));
        assert_eq!(stop_patience(&config), patience, "{seconds}");
    }
}
