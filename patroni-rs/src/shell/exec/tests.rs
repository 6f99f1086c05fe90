//! What carrying out a request leaves behind, besides its answer.
#![allow(clippy::unwrap_used)]

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use super::*;
use crate::shell::tests::parts;
use crate::watchdog::WatchdogConfig;
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

/// The timer of the watchdog runs from when it is armed until it is disarmed, and each keepalive restarts it.
#[tokio::test]
async fn the_watchdog_is_armed_fed_and_disarmed() {
    let directory = tempfile::tempdir().unwrap();
    let (shared, _) = parts(directory.path()).await;
    let path = directory.path().join("watchdog");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut told = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let section = Value::from_iter([
        ("driver", "testing".to_owned()),
        ("mode", "required".to_owned()),
        ("device", path.display().to_string()),
    ]);
    let config = WatchdogConfig::new(Some(&section), 30, 10);
    shared.with_watchdog(move |watchdog| watchdog.reload_config(config)).await.unwrap();
    let mut executor = Executor::new(shared.clone());
    for (request, runs, text) in [
        (NodeRequest::WatchdogKeepalive(ask::WatchdogKeepalive), false, ""),
        (NodeRequest::WatchdogActivate(ask::WatchdogActivate), true, "Ctimeout=25\n"),
        (NodeRequest::WatchdogKeepalive(ask::WatchdogKeepalive), true, "1"),
        (NodeRequest::WatchdogKeepalive(ask::WatchdogKeepalive), true, "1"),
        (NodeRequest::WatchdogDisable(ask::WatchdogDisable), false, "V"),
    ] {
        let answer = executor.node(&request).await;
        let mut written = Vec::new();
        // Its end is an error: there may be more to come.
        let _ = told.read_to_end(&mut written);
        assert_eq!(String::from_utf8(written).unwrap(), text, "{request:?}");
        assert_eq!(shared.watchdog_running(), runs, "{request:?}");
        if !matches!(request, NodeRequest::WatchdogKeepalive(_)) {
            assert_eq!(answer, Answer::Bool(true), "{request:?}");
        }
    }
    // What a reset of the machine must not follow on: a stop that has come to its end.
    executor.node(&NodeRequest::WatchdogActivate(ask::WatchdogActivate)).await;
    assert!(shared.watchdog_running());
    assert!(executor.stop(StopMode::Fast, None).await);
    assert!(!shared.watchdog_running());
}
