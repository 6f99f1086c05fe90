//! To become a standby of somebody, or the primary (surface-ha-pg 10-19, 15.5).

use std::sync::atomic::Ordering;
use std::time::Duration;

use patroni_core::ha::{Callback, JobResult, RecoveryChange, Role, Source};
use patroni_core::mutex::locked;
use patroni_core::node::MayPromote;
use patroni_postgres::files::{SettingsRead, Upstream, WalReceiver};
use patroni_postgres::process::hooks::{self, PrePromote};
use patroni_postgres::process::promote::{self, Asked};
use pyfmt::Value;

use super::start::Started;
use super::{Instance, RestartHow};

/// How [`Instance::follow`] makes the server take its new settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// Start it, or restart it.
    Restart(Option<Duration>),
    /// Reload it.
    Reload,
}

fn upstream(source: &Source) -> Upstream<'_> {
    Upstream { name: &source.member.name, data: &source.member.data, remote: source.remote }
}

impl Instance {
    /// Writes the recovery settings for `source` and applies them.
    pub async fn follow(&self, source: Option<Source>, role: Role, apply: Apply) -> Started {
        if !self.learn_major_version().await {
            return Started::Unknown;
        }
        let written = self
            .with_config(move |config, facts| {
                let params = config.build_recovery_params(source.as_ref().map(upstream), facts);
                config.write_recovery_conf(params, facts)
            })
            .await;
        if let Err(e) = written.and_then(|w| w.map_err(|e| e.to_string())) {
            tracing::error!(target: "patroni.postgresql", "Can not write the recovery configuration: {e}");
            return Started::Unknown;
        }
        // A server that ran before in another role only has on_role_change fired.
        let change_role = {
            let local_state = locked(&self.local_state);
            let standby = |r: Role| matches!(r, Role::StandbyLeader | Role::Replica);
            let between_standbys = standby(local_state.role) && standby(role) && local_state.role != role;
            local_state.callback_fired
                && (matches!(local_state.role, Role::Primary | Role::Demoted) || between_standbys)
        };
        if change_role {
            self.suppress_pending_callback();
        }
        let started = if self.postmaster().await.is_none() {
            let timeout = match apply {
                Apply::Restart(timeout) => timeout,
                Apply::Reload => None,
            };
            self.start(timeout, change_role, Some(role)).await
        } else if apply == Apply::Reload {
            self.reload_into(role, change_role).await
        } else {
            self.restart(RestartHow { quiet: change_role, role: Some(role), ..RestartHow::default() }, || {
                true
            })
            .await
        };
        if change_role {
            self.call(Callback::OnRoleChange);
        }
        started
    }

    async fn reload_into(&self, role: Role, change_role: bool) -> Started {
        let written = self.with_config(|c, facts| c.write_postgresql_conf(None, facts)).await;
        if let Err(e) = written.and_then(|w| w.map_err(|e| e.to_string())) {
            tracing::error!(target: "patroni.postgresql", "Can not write postgresql.conf: {e}");
            return Started::Failed;
        }
        if !self.reload_server(change_role).await {
            return Started::Failed;
        }
        if change_role {
            self.set_role(role);
        }
        Started::Running
    }

    /// SIGHUP to the postmaster.
    pub async fn reload_server(&self, quiet: bool) -> bool {
        let Some(server) = self.postmaster().await else { return false };
        if server.process.signal(nix::sys::signal::Signal::SIGHUP).is_err() {
            return false;
        }
        if !quiet {
            self.call(Callback::OnReload);
        }
        true
    }

    /// Would following `source` need new settings? (15.5)
    /// None: it could not be found out.
    pub async fn check_recovery(&self, source: Option<Source>) -> Option<RecoveryChange> {
        let start_time = self.postmaster().await.and_then(|p| p.process.create_time());
        let names = self
            .with_config(move |c, facts| c.recovery_settings_to_read(start_time, facts))
            .await
            .map_err(
                |e| tracing::error!(target: "patroni.postgresql", "Can not read the recovery settings: {e}"),
            )
            .ok()?;
        let read = match names {
            None => SettingsRead::NotRead,
            Some(names) => match self.pg_settings(&names).await {
                Ok(rows) => SettingsRead::Rows(rows),
                Err(e) => {
                    let error = e.py_repr();
                    tracing::error!(target: "patroni.postgresql.config", "Exception {error} when running query");
                    SettingsRead::Failed
                }
            },
        };
        let receiver = self.wal_receiver().await;
        let verdict = self
            .with_config(move |c, facts| {
                let source = source.as_ref().map(upstream);
                c.check_recovery_conf(source, read, start_time, &receiver, facts)
            })
            .await;
        let verdict = verdict
            .map_err(|e| tracing::error!(target: "patroni.postgresql", "Can not compare the recovery settings: {e}"))
            .ok()?;
        Some(RecoveryChange { change: verdict.change, restart: verdict.restart })
    }

    async fn wal_receiver(&self) -> WalReceiver {
        let status = self.last_status().await;
        WalReceiver {
            conninfo: status.as_ref().and_then(|s| s.conninfo.clone()),
            slot_name: status.as_ref().and_then(|s| s.slot_name.clone()),
        }
    }

    /// Promotion. After `committed` is set it cannot be cancelled any more.
    /// Once it is certain that it is tried, `before` is waited for. `may_write` is asked last: may what the order brings
    /// write, and is the fence armed for it?
    pub async fn promote(
        &self,
        loop_wait: Duration,
        before: impl std::future::Future<Output = ()>,
        may_write: impl FnOnce() -> Option<MayPromote>,
    ) -> JobResult {
        if matches!(self.role(), Role::Promoted | Role::Primary) {
            return JobResult::Done;
        }
        let script = self.setting("pre_promote").filter(Value::truthy).map(|v| v.py_str());
        match hooks::pre_promote(&self.bin, &self.cancel, script.as_deref()).await {
            PrePromote::Proceed => {}
            PrePromote::Refused => return JobResult::PrePromoteFailed,
            PrePromote::Cancelled => return JobResult::Cancelled,
        }
        self.committed.store(true, Ordering::SeqCst);
        if self.cancel.is_cancelled() {
            tracing::info!(target: "patroni.postgresql", "PostgreSQL promote cancelled.");
            return JobResult::Cancelled;
        }
        before.await;
        self.slots_before_promote().await;
        // The script may have outlived the lock; a pause would keep the fence away from what follows.
        let Some(_armed) = may_write() else {
            self.committed.store(false, Ordering::SeqCst);
            tracing::info!(target: "patroni.postgresql", "PostgreSQL promote cancelled.");
            return JobResult::Cancelled;
        };
        match promote::request(&self.bin, &self.cancel, &self.data_dir).await {
            Asked::Yes => {}
            Asked::No => return JobResult::NotPromoted,
            Asked::Unknown => return JobResult::Failed,
        }
        self.set_role(Role::Promoted);
        self.call(Callback::OnRoleChange);
        self.wake.notify_one();
        if promote::wait(&self.control, self.known_postmaster(), loop_wait).await {
            self.set_role(Role::Primary);
        }
        JobResult::Done
    }
}
