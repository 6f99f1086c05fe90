//! Promotion (surface-ha-pg 10-19, 10-20).

use std::path::Path;
use std::time::Duration;

use super::binaries::Binaries;
use super::cancellable::{Cancellable, Invocation};
use super::control::{ClusterState, ControlReader};

/// Time between two looks at pg_control; only its time stamp is read while it does
/// not change.
const POLL: Duration = Duration::from_millis(10);
/// `pg_ctl promote -W` only writes a file and sends a signal.
const PG_CTL_DEADLINE: Duration = Duration::from_secs(30);

/// Asks the server to promote, without waiting for it. `true` when it was asked:
/// the role is now `promoted`.
pub async fn request(bin: &Binaries, cancel: &Cancellable, data_dir: &Path) -> bool {
    let argv = vec![
        bin.text("pg_ctl"),
        "promote".into(),
        "-D".into(),
        data_dir.to_string_lossy().into_owned(),
        "-W".into(),
    ];
    let done = cancel.call(bin, &Invocation::new(argv).timeout(PG_CTL_DEADLINE)).await;
    done.is_ok_and(|d| d.success())
}

/// Waits until pg_control says `in production`, for at most `timeout` (loop_wait);
/// then the role is `primary`.
pub async fn wait(control: &ControlReader, timeout: Duration) -> bool {
    let promoted = async {
        loop {
            match control.read().await {
                Ok(data) if data.state() == ClusterState::InProduction => return,
                _ => tokio::time::sleep(POLL).await,
            }
        }
    };
    tokio::time::timeout(timeout, promoted).await.is_ok()
}
