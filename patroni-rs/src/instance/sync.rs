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

/// A server that is to go by a value of `synchronous_standby_names` that was written.
trait TakesNames {
    /// Has it read its files. `quiet`: of a value that is not new.
    async fn reload(&mut self, quiet: bool) -> bool;
    /// The value that it goes by, and the file that says so.
    async fn in_force(&mut self) -> Result<(String, Option<String>), SqlError>;
    /// The value that was written last.
    fn written(&self) -> String;
    /// Writes another one.
    async fn write(&mut self, value: String) -> Result<(), SqlError>;
}

struct Server<'a>(&'a Instance);

impl TakesNames for Server<'_> {
    async fn reload(&mut self, quiet: bool) -> bool {
        self.0.reload_server(quiet).await
    }

    async fn in_force(&mut self) -> Result<(String, Option<String>), SqlError> {
        sync_names_in_force(self.0.pool()).await
    }

    fn written(&self) -> String {
        self.0.config().synchronous_standby_names()
    }

    async fn write(&mut self, value: String) -> Result<(), SqlError> {
        let value = Some(value).filter(|value| !value.is_empty());
        let failed = |e| SqlError::Unexpected(format!("Can not write synchronous_standby_names: {e}"));
        self.0.write_sync_names(value).await.map(drop).map_err(failed)
    }
}

/// What came of a value that was written.
#[derive(Debug)]
enum Taken {
    /// The server goes by it, or it is the user's own and nobody counts on it.
    InForce,
    /// It goes by another one.
    Not { shown: String, file: Option<String> },
    /// It could not be asked.
    Unknown(SqlError),
}

/// Has the server read a value that is new (`changed`), and looks whether it goes by it, where that is not the user's
/// own. It takes it at its next look at the signal.
async fn take_in(server: &mut impl TakesNames, meant: &str, changed: bool, user: bool) -> Taken {
    let mut told = changed && server.reload(false).await;
    if user {
        return Taken::InForce;
    }
    let deadline = tokio::time::Instant::now() + TAKEN_WITHIN;
    loop {
        let (shown, file) = match server.in_force().await {
            Ok(shown) => shown,
            Err(e) => return Taken::Unknown(e),
        };
        if shown == meant {
            return Taken::InForce;
        }
        if !told {
            // Of a file that was written before.
            told = server.reload(true).await;
        }
        if tokio::time::Instant::now() >= deadline {
            return Taken::Not { shown, file };
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// What the server goes by (`shown`) is what its file says, before anybody decides by it: a value that was written and
/// not taken would be taken with any later reload or restart, when `/sync` promises by the one that is in force now
/// (docs/safety.md S17). True: something was written, and what was seen before is old.
async fn settle(server: &mut impl TakesNames, mut shown: String) -> Result<bool, SqlError> {
    let deadline = tokio::time::Instant::now() + TAKEN_WITHIN;
    let mut wrote = false;
    loop {
        let written = server.written();
        if written == shown {
            return Ok(wrote);
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(SqlError::Unexpected("synchronous_standby_names does not stay as it is".into()));
        }
        tracing::warn!(
            target: "patroni.postgresql.sync",
            "synchronous_standby_names is '{shown}', and was written as '{written}': it is written as it is"
        );
        server.write(shown).await?;
        wrote = true;
        // It may have taken the other one in this moment.
        server.reload(true).await;
        tokio::time::sleep(POLL_INTERVAL).await;
        shown = server.in_force().await?.0;
    }
}

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
        let changed = match self.write_sync_names(value).await {
            Ok(changed) => changed,
            Err(e) => {
                tracing::error!(
                    target: "patroni.postgresql.sync", "Can not set synchronous_standby_names to '{meant}': {e}"
                );
                return SyncNamesSet::NotWritten;
            }
        };
        // A server that does not run takes it with its start.
        if self.state() != PgState::Running && self.postmaster().await.is_none() {
            return SyncNamesSet::InForce;
        }
        let user = matches!(names, SyncNames::User(_));
        match take_in(&mut Server(self), &meant, changed, user).await {
            Taken::InForce => {
                if !user {
                    locked(&self.overruled).clear();
                }
                SyncNamesSet::InForce
            }
            Taken::Unknown(e) => {
                tracing::error!(
                    target: "patroni.postgresql.sync", "Can not ask for synchronous_standby_names: {e}"
                );
                SyncNamesSet::Unknown
            }
            Taken::Not { shown, file } => {
                self.say_overruled(&meant, &shown, file.as_deref());
                SyncNamesSet::Overruled
            }
        }
    }

    /// Writes the value; tells whether it is a new one.
    async fn write_sync_names(&self, value: Option<String>) -> Result<bool, String> {
        let written = self
            .with_config(move |c, facts| c.set_synchronous_standby_names(value.as_deref(), facts))
            .await?;
        written.map_err(|e| e.to_string())
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
            // A caller that waits has just changed something that PostgreSQL has yet to see.
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
        let mut seen = self.monitor(false).await?;
        if settle(&mut Server(self), seen.synchronous_standby_names.clone()).await? {
            seen = self.monitor(false).await?;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes by `written` once it was told to read its files so often.
    struct Fake {
        shows: &'static str,
        written: &'static str,
        takes_after: usize,
        answers: bool,
        /// Each time it was told: quietly?
        told: Vec<bool>,
    }

    impl TakesNames for Fake {
        async fn reload(&mut self, quiet: bool) -> bool {
            self.told.push(quiet);
            true
        }

        async fn in_force(&mut self) -> Result<(String, Option<String>), SqlError> {
            if !self.answers {
                return Err(SqlError::Unexpected("away".into()));
            }
            let taken = self.takes_after > 0 && self.told.len() >= self.takes_after;
            Ok((if taken { self.written } else { self.shows }.to_owned(), Some("a file".into())))
        }

        fn written(&self) -> String {
            self.written.to_owned()
        }

        async fn write(&mut self, value: String) -> Result<(), SqlError> {
            if self.shows == "a full disk" {
                return Err(SqlError::Unexpected("no space left".into()));
            }
            self.written = if value == "a" { "a" } else { "b" };
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_value_that_was_not_taken_does_not_stay_in_the_file() {
        let server =
            |shows, written, takes_after| Fake { shows, written, takes_after, answers: true, told: vec![] };
        for (mut fake, came_to, written, told) in [
            (server("a", "a", 0), "Ok(false)", "a", 0),
            // Told of `b`, and goes by `a`: nothing may make it `b` any more.
            (server("a", "b", 0), "Ok(true)", "a", 1),
            // It cannot be written: nobody decides.
            (server("a full disk", "b", 0), "Err", "b", 0),
            (Fake { answers: false, ..server("a", "b", 0) }, "Err", "a", 1),
        ] {
            let shown = fake.shows;
            let result = format!("{:?}", settle(&mut fake, shown.to_owned()).await);
            assert!(result.starts_with(came_to), "{shown}: {result}");
            assert_eq!((fake.written, fake.told.len()), (written, told), "{shown}");
        }
    }

    #[tokio::test]
    async fn a_new_value_is_read_by_the_server() {
        let server =
            |shows, takes_after| Fake { shows, written: "a", takes_after, answers: true, told: vec![] };
        for (mut fake, changed, user, came_to, told) in [
            // A new value: the server is told, and goes by it.
            (server("", 1), true, false, "InForce", vec![false]),
            // Of the user: it is told, and nobody looks.
            (server("", 1), true, true, "InForce", vec![false]),
            (server("", 0), false, true, "InForce", vec![]),
            // Nothing new, and in force.
            (server("a", 0), false, false, "InForce", vec![]),
            // Written before, and the server was not told then.
            (server("", 1), false, false, "InForce", vec![true]),
            // Something counts more.
            (server("b", 0), true, false, "Not { shown: \"b\", file: Some(\"a file\") }", vec![false]),
            (Fake { answers: false, ..server("", 1) }, true, false, "Unknown", vec![false]),
        ] {
            let shown = fake.shows;
            let taken = format!("{:?}", take_in(&mut fake, "a", changed, user).await);
            assert!(taken.starts_with(came_to), "{shown} {changed} {user}: {taken}");
            assert_eq!(fake.told, told, "{shown} {changed} {user}");
        }
    }
}
