//! Promotion (surface-ha-pg 10-19, 10-20).

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::binaries::Binaries;
use super::cancellable::{CallError, Cancellable, Invocation};
use super::control::ControlReader;
use super::postmaster::Postmaster;
use super::proc;
use patroni_core::cluster_state::ClusterState;

/// Time between two looks at pg_control; only its time stamp is read while it does
/// not change.
const POLL: Duration = Duration::from_millis(10);
/// Time between two wake-ups of the startup process.
const NUDGE: Duration = Duration::from_millis(150);
/// `pg_ctl promote -W` only writes a file and sends a signal.
const PG_CTL_DEADLINE: Duration = Duration::from_secs(30);

/// What became of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// It was asked: the role is now `promoted`.
    Yes,
    /// It was not, for certain: pg_ctl could not be started, or says so (it takes its file away where the signal
    /// fails).
    No,
    /// pg_ctl was ended in the middle.
    Unknown,
}

/// Asks the server to promote, without waiting for it.
pub async fn request(bin: &Binaries, cancel: &Cancellable, data_dir: &Path) -> Asked {
    let argv = vec![
        bin.text("pg_ctl"),
        "promote".into(),
        "-D".into(),
        data_dir.to_string_lossy().into_owned(),
        "-W".into(),
    ];
    match cancel.call(bin, &Invocation::new(argv).timeout(PG_CTL_DEADLINE)).await {
        Ok(done) if done.success() => Asked::Yes,
        Ok(done) if done.code > 0 => Asked::No,
        Err(CallError::Spawn(_) | CallError::Cancelled) => Asked::No,
        Ok(_) | Err(CallError::Lost(_) | CallError::TimedOut) => Asked::Unknown,
    }
}

/// Waits until pg_control says `in production`, for at most `timeout` (loop_wait);
/// then the role is `primary`.
pub async fn wait(control: &ControlReader, postmaster: Option<Postmaster>, timeout: Duration) -> bool {
    let promoted = async {
        loop {
            match control.read().await {
                Ok(data) if data.state() == ClusterState::InProduction => return,
                _ => tokio::time::sleep(POLL).await,
            }
        }
    };
    tokio::select! {
        () = promoted => true,
        () = nudge(postmaster) => false,
        () = tokio::time::sleep(timeout) => false,
    }
}

/// Wakes the startup process again and again.
///
/// A standby that began to stream less than `wal_retrieve_retry_interval` (5 s) ago
/// and is asked to promote before it has noticed the end of the stream uses up the
/// request's wake-up in one wait and then sleeps out the interval in the next
/// (`WaitForWALToBecomeAvailable`, seen on 15). SIGHUP makes it go on; all it does
/// besides is to read the configuration again.
async fn nudge(postmaster: Option<Postmaster>) {
    let Some(postmaster) = postmaster else { return std::future::pending().await };
    let pid = postmaster.process.pid;
    loop {
        tokio::time::sleep(NUDGE).await;
        let wake = move || {
            let children = proc::children(pid, false).unwrap_or_default().into_iter();
            let is_startup = |p: &proc::Process| p.title().is_some_and(|t| is_startup_title(&t));
            children.filter(is_startup).for_each(|p| drop(p.signal(Signal::SIGHUP)));
        };
        let _ = tokio::task::spawn_blocking(wake).await;
    }
}

/// `postgres: startup recovering ...`, with the cluster name and `process` as some
/// versions add them.
fn is_startup_title(title: &str) -> bool {
    let Some(rest) = title.strip_prefix("postgres: ") else { return false };
    let role = rest.rsplit_once(": ").map_or(rest, |(_, role)| role);
    role.split(' ').next() == Some("startup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles() {
        for startup in [
            "postgres: startup recovering 000000010000000000000003",
            "postgres: bat man: startup waiting for 000000010000000000000003",
            "postgres: startup process   recovering 000000010000000000000003",
        ] {
            assert!(is_startup_title(startup), "{startup}");
        }
        for other in ["postgres: startup: checkpointer ", "postgres: app startup [local] idle", "startup"] {
            assert!(!is_startup_title(other), "{other}");
        }
    }
}
