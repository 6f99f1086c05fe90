//! A changed configuration reaches PostgreSQL (surface-ha-pg 17).

use std::time::Duration;

use patroni_core::ha::PgState;
use patroni_postgres::files::{ConfigHandler, PendingRestart};
use patroni_postgres::process::probe;
use patroni_postgres::sql;
use pyfmt::Value;

use super::Instance;

/// How long the server gets to take its new settings before it is asked what
/// waits for a restart.
const SETTLE: Duration = Duration::from_secs(1);

impl Instance {
    /// Takes over the effective `postgresql` section; `sighup` rewrites all files.
    ///
    /// # Errors
    /// The configuration cannot be used; the old one stays.
    pub async fn reload_config(&self, config: Value, sighup: bool) -> Result<(), String> {
        let prepared = self
            .with_config(move |c, facts| c.prepare_reload(config, facts))
            .await?
            .map_err(|e| e.to_string())?;
        let names = prepared.names();
        let rows = if names.is_empty() {
            Vec::new()
        } else {
            match sql::pg_settings(self.pool(), &names).await {
                Ok(rows) => rows,
                Err(e) => {
                    tracing::error!(target: "patroni.postgresql.config", "Exception {} when running query", e.py_repr());
                    Vec::new()
                }
            }
        };
        let outcome = self
            .with_config(move |c, facts| c.apply_reload(prepared, &rows, sighup, facts))
            .await?
            .map_err(|e| e.to_string())?;
        self.refresh_connections();
        let expected = outcome.pending_restart.clone().unwrap_or_default();
        if let Some(pending) = outcome.pending_restart {
            self.set_pending_restart(pending);
        }
        if outcome.reload {
            let asks = self.major_version() >= 90_500 && self.state() == PgState::Running;
            let loaded_before = if asks { self.config_load_time().await } else { None };
            self.reload_server(false).await;
            if asks {
                self.learn_pending_restart(&expected, loaded_before).await;
            }
        }
        Ok(())
    }

    /// When the session of the heartbeat read the configuration files.
    async fn config_load_time(&self) -> Option<String> {
        let rows = self.query("SELECT pg_catalog.pg_conf_load_time()").await.ok()?;
        rows.first().and_then(|r| r.text(0).map(str::to_owned))
    }

    /// What waits for a restart by the server's own word, as soon as it has read its
    /// files anew, after a second at the latest.
    async fn learn_pending_restart(&self, expected: &PendingRestart, loaded_before: Option<String>) {
        let deadline = tokio::time::Instant::now() + SETTLE;
        while self.config_load_time().await == loaded_before && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let skip = ConfigHandler::never_pending();
        let Ok(mut rows) = sql::pending_restart(self.pool(), &skip).await else { return };
        let config_file = self.config().postgresql_conf().to_owned();
        for row in &mut rows {
            row.new_value = probe::guc_value(&self.bin, &self.data_dir, &config_file, &row.name).await;
        }
        self.set_pending_restart(ConfigHandler::pending_after_reload(expected, &rows));
    }
}
