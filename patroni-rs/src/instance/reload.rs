//! A changed configuration reaches PostgreSQL (surface-ha-pg 17).

use std::time::Duration;

use patroni_core::ha::PgState;
use patroni_core::mutex::locked;
use patroni_core::PgVersion;
use patroni_postgres::files::{ConfigHandler, PendingRestart};
use patroni_postgres::process::probe;
use patroni_postgres::sql;
use pyfmt::Value;

use super::Instance;

/// How long the server gets to take its new settings before it is asked what
/// waits for a restart.
const SETTLE: Duration = Duration::from_secs(1);

/// What is still to be done to the configuration of a server that has not answered yet.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// It ran before us: its parameters have to be read, then compared with ours.
    pub(super) join: bool,
    /// A reload; with the flag, one that writes every file.
    reload: Option<bool>,
    /// When the server had read its files as it was last asked what waits for a restart.
    judged: Option<String>,
    /// What waits for a restart because of the last start, which the server does not know of.
    at_start: PendingRestart,
}

impl Due {
    fn put_off(&mut self, sighup: bool) {
        self.reload = Some(sighup || self.reload == Some(true));
    }
}

impl Instance {
    /// Takes over the effective `postgresql` section; `sighup` rewrites all files. A server that does not say what it
    /// has keeps everything as it is, until [`Instance::catch_up`] finds that it answers.
    ///
    /// # Errors
    /// The configuration cannot be used; the old one stays.
    pub async fn reload_config(&self, config: Value, sighup: bool) -> Result<(), String> {
        let sighup = locked(&self.due).reload.take() == Some(true) || sighup;
        let wanted = config.clone();
        let mut prepared = self
            .with_config(move |c, facts| c.prepare_reload(config, facts))
            .await?
            .map_err(|e| e.to_string())?;
        let names = prepared.names();
        let mut rows = Vec::new();
        if !names.is_empty() {
            match sql::pg_settings(self.pool(), &names).await {
                Ok(found) => rows = found,
                Err(e) => {
                    let error = e.py_repr();
                    tracing::error!(target: "patroni.postgresql.config", "Exception {error} when running query");
                    if self.postmaster().await.is_some() {
                        locked(&self.due).put_off(sighup);
                        tracing::info!(
                            target: "patroni.postgresql.config",
                            "Reload of PostgreSQL configuration is put off until PostgreSQL answers."
                        );
                        return Ok(());
                    }
                    // Nothing runs that could be compared with; the next start takes all of it.
                    prepared = self
                        .with_config(move |c, facts| {
                            let facts = patroni_postgres::files::ServerState { running: false, ..*facts };
                            c.prepare_reload(wanted, &facts)
                        })
                        .await?
                        .map_err(|e| e.to_string())?;
                }
            }
        }
        if self.state().is_starting() {
            // It may have read its files already.
            locked(&self.due).put_off(sighup);
        }
        let compared = prepared.is_compared();
        let outcome = self
            .with_config(move |c, facts| c.apply_reload(prepared, &rows, sighup, facts))
            .await?
            .map_err(|e| e.to_string())?;
        self.refresh_connections();
        let expected = outcome.pending_restart.clone().unwrap_or_default();
        if let Some(pending) = outcome.pending_restart {
            self.set_pending_restart(pending);
        }
        if compared {
            let mut due = locked(&self.due);
            due.at_start = PendingRestart::default();
            due.judged = None;
        }
        if outcome.reload {
            let asks = self.major_version().at_least(PgVersion::V9_5) && self.state() == PgState::Running;
            let loaded_before = if asks { self.config_load_time().await } else { None };
            self.reload_server(false).await;
            if asks {
                self.await_reload(loaded_before).await;
                self.learn_pending_restart(&expected).await;
            }
        }
        Ok(())
    }

    /// After each cycle: does what was put off, if the server answers now, and finds out what people have changed
    /// beside us. `section` is the effective `postgresql` section. True: the configuration in force may be another.
    pub async fn catch_up(&self, section: Value) -> bool {
        if self.state() != PgState::Running || self.is_silent() {
            return false;
        }
        let (join, reload) = {
            let due = locked(&self.due);
            (due.join, due.reload.is_some())
        };
        let taken = if join {
            self.join(section).await
        } else if reload {
            if let Err(e) = self.reload_config(section, false).await {
                tracing::error!(target: "patroni.postgresql.config", "Failed to reload the configuration: {e}");
            }
            true
        } else {
            false
        };
        self.look_for_external_changes().await;
        taken
    }

    /// Joins a server that was running before us: what it has is read, and what we want of it is compared, written
    /// and reloaded (surface-ha-pg 2-03 to 2-06). The reference leaves a standby of 12 or newer as it is.
    /// False: it has to be tried again.
    pub(super) async fn join(&self, section: Value) -> bool {
        let Ok(row) = self.monitor(false).await else { return false };
        if !self.load_gucs(row.is_primary()).await {
            return false;
        }
        locked(&self.due).join = false;
        let rewritten = self
            .with_config(|c, facts| {
                let hba = c.replace_pg_hba(facts)?;
                Ok::<_, patroni_postgres::files::FilesError>(c.replace_pg_ident()? || hba)
            })
            .await
            .and_then(|written| written.map_err(|e| e.to_string()));
        let failed = |e: &String| {
            tracing::error!(target: "patroni.postgresql.config", "Failed to reload the configuration: {e}");
        };
        let rewritten = rewritten.inspect_err(failed).unwrap_or(false);
        let _ = self.reload_config(section, rewritten).await.inspect_err(failed);
        true
    }

    /// Takes note of what waits for a restart because of a start.
    pub(super) fn note_start(&self, pending: PendingRestart) {
        let mut due = locked(&self.due);
        *due = Due { at_start: pending, reload: due.reload.take(), ..Due::default() };
    }

    /// When the session of the heartbeat read the configuration files.
    async fn config_load_time(&self) -> Option<String> {
        let rows = self.query("SELECT pg_catalog.pg_conf_load_time()").await.ok()?;
        rows.first().and_then(|r| r.text(0).map(str::to_owned))
    }

    /// The server has read its files anew, or a second is over.
    async fn await_reload(&self, loaded_before: Option<String>) {
        let deadline = tokio::time::Instant::now() + SETTLE;
        while self.config_load_time().await == loaded_before && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// ALTER SYSTEM and pg_reload_conf() may leave something that waits for a restart, or take it back.
    async fn look_for_external_changes(&self) {
        if self.major_version().before(PgVersion::V9_5) || self.state() != PgState::Running {
            return;
        }
        let Some(loaded) = self.config_load_time().await else { return };
        if locked(&self.due).judged.as_ref() != Some(&loaded) {
            let known = locked(&self.local_state).pending_restart.clone();
            self.learn_pending_restart(&known).await;
        }
    }

    /// What waits for a restart by the server's own word.
    async fn learn_pending_restart(&self, expected: &PendingRestart) {
        let loaded = self.config_load_time().await;
        let skip = ConfigHandler::never_pending();
        let mut rows = match sql::pending_restart(self.pool(), &skip).await {
            Ok(rows) => rows,
            // Asked again after the next cycle.
            Err(e) => {
                let error = e.py_repr();
                tracing::warn!(target: "patroni.postgresql.config", "Exception {error} when running query");
                return;
            }
        };
        let config_file = self.config().postgresql_conf().to_owned();
        for row in &mut rows {
            row.new_value = probe::guc_value(&self.bin, &self.data_dir, &config_file, &row.name).await;
        }
        let mut pending = ConfigHandler::pending_after_reload(expected, &rows);
        let mut due = locked(&self.due);
        for (name, diff) in &due.at_start.0 {
            pending.0.entry(name.clone()).or_insert_with(|| diff.clone());
        }
        due.judged = loaded;
        drop(due);
        self.set_pending_restart(pending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reload that writes every file is not forgotten over one that does not.
    #[test]
    fn what_is_put_off() {
        for (asked, want) in [
            (&[][..], None),
            (&[false], Some(false)),
            (&[true], Some(true)),
            (&[true, false], Some(true)),
            (&[false, true], Some(true)),
            (&[false, false], Some(false)),
        ] {
            let mut due = Due::default();
            asked.iter().for_each(|sighup| due.put_off(*sighup));
            assert_eq!(due.reload, want, "{asked:?}");
        }
    }
}
