//! `synchronous_standby_names` and what comes of it (surface-ha-pg 20).

use std::time::Duration;

use patroni_core::ha::SyncNames;
use patroni_core::model::Cluster;
use patroni_core::sync::{candidates, names_value, CurrentState, NameSet, SyncOptions};
use patroni_postgres::sql::current_sync_state;

use super::{Instance, SqlError};

/// Time between two looks while standbys become synchronous.
const LOOK: Duration = Duration::from_millis(50);

impl Instance {
    /// Sets the parameter, and reloads if its value is new.
    pub async fn set_sync_names(&self, names: &SyncNames) {
        let major = self.major_version();
        let quorum = self.dynamic().is_quorum_commit_mode();
        let value = match names {
            SyncNames::User(value) => value.clone(),
            SyncNames::Star => Some("*".to_owned()),
            SyncNames::Nodes { names, num } => {
                let set: NameSet = names.iter().collect();
                names_value(&set, *num, quorum && num.is_some(), major)
            }
        };
        let changed =
            self.with_config(move |c, facts| c.set_synchronous_standby_names(value.as_deref(), facts)).await;
        match changed {
            Ok(Ok(true)) if self.state() == patroni_core::ha::PgState::Running => {
                self.reload_server(false).await;
            }
            Ok(Ok(_)) => {}
            Ok(Err(e)) => tracing::error!(target: "patroni.postgresql.sync", "{e}"),
            Err(e) => tracing::error!(target: "patroni.postgresql.sync", "{e}"),
        }
    }

    /// The synchronous standbys as PostgreSQL has them. With a wait, until all
    /// that are picked are confirmed, or it is over.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn current_sync(
        &self,
        cluster: &Cluster,
        wait: Option<Duration>,
    ) -> Result<CurrentState, SqlError> {
        let deadline = tokio::time::Instant::now() + wait.unwrap_or_default();
        if wait.is_some() {
            // Whoever waits has just changed something that PostgreSQL has yet to see.
            tokio::time::sleep(LOOK).await;
        }
        loop {
            let state = self.look_at_sync(cluster).await?;
            let settled = !state.active.is_empty() && state.sync_confirmed == state.active;
            if settled || tokio::time::Instant::now() >= deadline {
                return Ok(state);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look_at_sync(&self, cluster: &Cluster) -> Result<CurrentState, SqlError> {
        let config = self.dynamic();
        let major_version = self.major_version();
        let options = SyncOptions {
            quorum_mode: config.is_quorum_commit_mode() && major_version >= 90_600,
            node_count: config.synchronous_node_count(),
            maximum_lag: config.maximum_lag_on_syncnode(),
            major_version,
        };
        let listed: NameSet = cluster.sync.voters().iter().collect();
        let seen = self.monitor(false).await?;
        let mut tracker = self.sync_tracker.lock().await;
        current_sync_state(
            self.pool(),
            &mut tracker,
            seen,
            &candidates(cluster, &self.name),
            &listed,
            &options,
            // PostgreSQL takes the new value at its next look at the signal.
            || async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                self.monitor(false).await
            },
        )
        .await
    }
}
