//! `synchronous_standby_names` and what comes of it (surface-ha-pg 20).

use std::time::Duration;

use patroni_core::ha::{PgState, SyncNames, SyncNamesSet, Walsender};
use patroni_core::model::Cluster;
use patroni_core::mutex::locked;
use patroni_core::sync::{candidates, impersonated, names_value, CurrentState, NameSet, SyncOptions};
use patroni_core::PgVersion;
use patroni_postgres::sql::{current_sync_state, sync_names_in_force, walsenders};

use super::{Instance, SqlError};

/// Time between two looks while standbys become synchronous.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long the server may take to go by a new value after it was told.
const TAKEN_WITHIN: Duration = Duration::from_secs(2);

impl Instance {
    /// Sets the parameter, reloads if its value is new, and looks whether the server goes by it where somebody counts on
    /// that: not with the user's own value.
    pub async fn set_sync_names(&self, names: &SyncNames) -> SyncNamesSet {
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
        let meant = value.clone().unwrap_or_default();
        let written =
            self.with_config(move |c, facts| c.set_synchronous_standby_names(value.as_deref(), facts)).await;
        let changed = match written.and_then(|w| w.map_err(|e| e.to_string())) {
            Ok(changed) => changed,
            Err(e) => {
                tracing::error!(
                    target: "patroni.postgresql.sync", "Can not set synchronous_standby_names to '{meant}': {e}"
                );
                return SyncNamesSet::NotWritten;
            }
        };
        if self.state() != PgState::Running {
            return SyncNamesSet::InForce;
        }
        let told = changed && self.reload_server(false).await;
        if matches!(names, SyncNames::User(_)) {
            return SyncNamesSet::InForce;
        }
        self.sync_names_taken(&meant, told).await
    }

    /// Does the server go by the value that was written? It takes it at its next look at the signal.
    async fn sync_names_taken(&self, meant: &str, mut told: bool) -> SyncNamesSet {
        let deadline = tokio::time::Instant::now() + TAKEN_WITHIN;
        loop {
            let (shown, file) = match sync_names_in_force(self.pool()).await {
                Ok(shown) => shown,
                Err(e) => {
                    tracing::error!(
                        target: "patroni.postgresql.sync", "Can not ask for synchronous_standby_names: {e}"
                    );
                    return SyncNamesSet::Unknown;
                }
            };
            if shown == meant {
                locked(&self.overruled).clear();
                return SyncNamesSet::InForce;
            }
            if !told {
                // Of a file that was written before.
                told = self.reload_server(true).await;
            }
            if tokio::time::Instant::now() >= deadline {
                self.say_overruled(meant, &shown, file.as_deref());
                return SyncNamesSet::Overruled;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Once for each pair of values.
    fn say_overruled(&self, meant: &str, shown: &str, file: Option<&str>) {
        let pair = format!("{meant}\0{shown}");
        let mut known = locked(&self.overruled);
        if *known != pair {
            let whence = file.map(|file| format!(" from {file}")).unwrap_or_default();
            tracing::error!(
                target: "patroni.postgresql.sync",
                "synchronous_standby_names is '{shown}'{whence} and not '{meant}': something counts more than what was \
                 written to postgresql.conf, look into postgresql.auto.conf (ALTER SYSTEM RESET \
                 synchronous_standby_names) and the command line"
            );
            *known = pair;
        }
    }

    /// Why commits may wait although a standby of that name streams. When it is news.
    fn tell_impersonated(&self, names: &[&str]) {
        let names = names.join(", ");
        let mut known = locked(&self.impersonated);
        if *known != names && !names.is_empty() {
            tracing::warn!(
                target: "patroni.postgresql.sync",
                "{names} can not be synchronous: somebody else streams under that name, or without the replication slot \
                 of the member, and would confirm commits in its stead; commits may wait, give the stranger another \
                 application_name"
            );
        }
        *known = names;
    }

    /// Who receives WAL from this server by streaming; None when it does not say.
    pub async fn walsenders(&self) -> Option<Vec<Walsender>> {
        match walsenders(self.pool(), self.major_version()).await {
            Ok(rows) => Some(rows.into_iter().map(|(name, flushed)| Walsender { name, flushed }).collect()),
            Err(e) => {
                tracing::warn!(target: "patroni.postgresql.sync", "Can not ask who receives WAL: {e}");
                None
            }
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
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        loop {
            let state = self.look_at_sync(cluster).await?;
            let settled = !state.active.is_empty() && state.sync_confirmed == state.active;
            if settled || tokio::time::Instant::now() >= deadline {
                return Ok(state);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn look_at_sync(&self, cluster: &Cluster) -> Result<CurrentState, SqlError> {
        let config = self.dynamic();
        let major_version = self.major_version();
        let options = SyncOptions {
            quorum_mode: config.is_quorum_commit_mode() && major_version.at_least(PgVersion::V9_6),
            node_count: config.synchronous_node_count(),
            maximum_lag: config.maximum_lag_on_syncnode(),
            major_version,
            by_slot: config.use_slots() && major_version.at_least(PgVersion::V9_5),
        };
        let listed: NameSet = cluster.sync.voters().iter().collect();
        let seen = self.monitor(false).await?;
        let candidates = candidates(cluster, &self.name);
        let posed_as = impersonated(&seen.replication, &candidates, options.by_slot, major_version);
        self.tell_impersonated(&posed_as);
        let mut tracker = self.sync_tracker.lock().await;
        current_sync_state(
            self.pool(),
            &mut tracker,
            seen,
            &candidates,
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
