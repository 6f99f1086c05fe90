//! Has this data directory diverged, and pg_rewind (surface-ha-pg 19).

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use patroni_core::ha::{JobResult, PgState, Source};
use patroni_core::model::ShutdownCheckpoint;
use patroni_core::mutex::locked;
use patroni_core::rewind::{LocalPosition, RewindAttempt};
use patroni_core::PgVersion;
use patroni_postgres::files::{format_dsn, member_conn_kwargs, ConfigHandler};
use patroni_postgres::process::rewind::{self, RewindLeader, RewindRequest};
use patroni_postgres::process::{archive, crash_recovery, waldump};
use patroni_postgres::sql::{self, ConnParams, ReplicationClient};
use pyfmt::Value;

use super::{Instance, StopHow};

/// How long "pg_rewind is there and may be used" is believed.
const POSSIBLE_FOR: Duration = Duration::from_secs(10);

/// The server to become alike, reached with the credentials for rewind and replication.
struct Leader {
    sql: ConnParams,
    replication: ConnParams,
    superuser: bool,
}

impl RewindLeader for Leader {
    async fn is_primary(&self) -> bool {
        match sql::leader_in_recovery(&self.sql).await {
            Ok(false) => true,
            Ok(true) => {
                tracing::info!(
                    target: "patroni.postgresql.rewind",
                    "Leader is still in_recovery and therefore can't be used for rewind"
                );
                false
            }
            Err(e) => {
                tracing::error!(target: "patroni.postgresql.rewind", "Exception when working with leader: {e}");
                false
            }
        }
    }

    async fn ensure_checkpoint(&self) -> Result<(), String> {
        if self.superuser {
            return sql::checkpoint(&self.sql, true, Some(3)).await.map_err(str::to_owned);
        }
        match sql::leader_ran_checkpoint(&self.sql).await {
            Ok(true) => Ok(()),
            Ok(false) => Err("leader has not run a checkpoint yet".into()),
            Err(_) => Err("not accessible or not healthy".into()),
        }
    }

    async fn timeline(&self) -> Option<u32> {
        let timeline = super::timeline_of(&self.replication).await;
        if timeline.is_none() {
            tracing::error!(
                target: "patroni.postgresql.rewind",
                "Exception when working with primary via replication connection"
            );
        }
        timeline
    }

    async fn timeline_history(&self, timeline: u32) -> Option<String> {
        let mut client = ReplicationClient::connect(&self.replication).await.ok()?;
        client.timeline_history(timeline).await.ok()
    }
}

impl Instance {
    fn leader_access(&self, source: &Source) -> Leader {
        let config = self.config();
        let rewind = config.rewind_credentials();
        let mut sql = rewind_kwargs(source, &config);
        if self.major_version().at_least(PgVersion::V10) {
            sql.set("target_session_attrs", "read-write");
        }
        let replication = member_conn_kwargs(&source.member.data, config.replication());
        Leader {
            sql: ConnParams::from_value(&sql),
            replication: ConnParams::from_value(&replication),
            superuser: rewind == config.superuser(),
        }
    }

    /// `use_pg_rewind`, the program, and a control file that allows it (19-02).
    pub async fn can_rewind(&self) -> bool {
        if !self.setting("use_pg_rewind").is_some_and(|v| v.truthy()) {
            return false;
        }
        let known = *locked(&self.rewind_possible);
        if let Some((at, possible)) = known.filter(|(at, _)| at.elapsed() < POSSIBLE_FOR) {
            let _ = at;
            return possible;
        }
        let possible = rewind::possible(&self.bin, &self.control).await;
        *locked(&self.rewind_possible) = Some((Instant::now(), possible));
        possible
    }

    /// Where this node is: by the server, or by the control file.
    async fn local_position(&self) -> Option<LocalPosition> {
        if self.state() == PgState::Running && self.postmaster().await.is_some() {
            let row = self.monitor(false).await.ok()?;
            let timeline = self.replica_timeline().await?;
            return Some(LocalPosition {
                in_recovery: true,
                timeline,
                lsn: row.replayed.unwrap_or_default(),
            });
        }
        rewind::local_position(&*self.control.read().await.ok()?)
    }

    /// Must this node be rewound to follow `source`? None when nobody can say now.
    pub async fn diverged(&self, source: &Source) -> Option<bool> {
        // A leader that is not yet a primary has no say (19-07).
        if !source.remote && !matches!(source.member.role(), "primary" | "master" | "") {
            return None;
        }
        let leader = self.leader_access(source);
        let (version, local) = (self.major_version(), self.local_position().await);
        rewind::needed(&self.bin, &self.data_dir, version, local, &leader).await
    }

    /// Stops, rewinds, and cleans up after a failure as configured.
    pub async fn rewind(&self, source: &Source) -> JobResult {
        if !self.stop_plain(StopHow::default()).await {
            tracing::warn!(
                target: "patroni.postgresql.rewind", "Can not run pg_rewind because postgres is still running"
            );
            return JobResult::Unknown;
        }
        let leader = self.leader_access(source);
        let (kwargs, config_file) = {
            let config = self.config();
            (rewind_kwargs(source, &config), config.postgresql_conf().to_owned())
        };
        let env = self.passfile_env(kwargs.clone()).await;
        let mut shown = kwargs;
        shown.remove("password");
        let dsn = format_dsn(&shown, self.major_version());
        let restore = self.config().restore_command().map(Value::py_str);
        let archive = self.archive_command().await;
        let request = RewindRequest {
            bin: &self.bin,
            cancel: &self.cancel,
            control: &self.control,
            data_dir: &self.data_dir,
            config_file: &config_file,
            major_version: self.major_version(),
            leader_name: &source.member.name,
            dsn: &dsn,
            env: &env,
            restore_command: restore.as_deref(),
            archive_command: archive.as_deref(),
        };
        let checkpoint = checkpoint_of(source);
        *locked(&self.rewind_possible) = None;
        let _at_work = self.at_work().await;
        match request.execute(checkpoint, &leader).await {
            RewindAttempt::Succeeded => {
                self.prompt_leader(source).await;
                JobResult::Done
            }
            RewindAttempt::Postponed => JobResult::Unknown,
            RewindAttempt::LeaderLost { still_possible: true } => JobResult::Unknown,
            // The mark tells the cycles, which begin anew when there is somebody to copy.
            RewindAttempt::BrokenOff => JobResult::Failed,
            RewindAttempt::LeaderLost { .. } | RewindAttempt::Failed => self.after_failed_rewind().await,
        }
    }

    /// A standby that may serve queries only when it has replayed what no record reaches waits until the leader writes: it
    /// is made to write something. (In the reference such a node stays `starting` as long as the leader is idle.)
    pub async fn prompt_leader(&self, source: &Source) {
        if self.prompting.swap(true, Ordering::SeqCst) {
            return;
        }
        let least = self.control.read().await.ok().and_then(|c| c.min_recovery_lsn());
        if least.is_some_and(patroni_core::rewind::is_behind_page_header) {
            match sql::write_something(&self.leader_access(source).sql).await {
                Ok(()) => tracing::info!(
                    target: "patroni.postgresql.rewind",
                    "Had {} write a record, for a consistent state to be reached", source.member.name
                ),
                Err(e) => tracing::warn!(
                    target: "patroni.postgresql.rewind",
                    "Could not have {} write a record: {e}; until it writes, PostgreSQL stays starting",
                    source.member.name
                ),
            }
        }
        self.prompting.store(false, Ordering::SeqCst);
    }

    async fn after_failed_rewind(&self) -> JobResult {
        let flag = |key: &str| self.setting(key).is_some_and(|v| v.truthy());
        let removed = rewind::remove_after_failure(
            &self.data_dir,
            flag("remove_data_directory_on_rewind_failure"),
            flag("remove_data_directory_on_diverged_timelines"),
        )
        .await;
        if removed {
            JobResult::Cancelled
        } else {
            JobResult::Failed
        }
    }

    /// `archive_command`, when archiving is on.
    pub async fn archive_command(&self) -> Option<String> {
        let config_file = self.config().postgresql_conf().to_owned();
        archive::archive_command(&self.bin, &self.data_dir, &config_file).await
    }

    /// The segment with the shutdown checkpoint goes to the archive.
    pub async fn archive_last_wal(&self, command: &str) {
        let Ok(control) = self.control.read().await else { return };
        let wal_dir = archive::wal_dir(&self.data_dir, self.major_version());
        archive::archive_shutdown_checkpoint(&self.bin, &self.cancel, command, &wal_dir, &control).await;
    }

    /// The shutdown checkpoint and the position to publish, of a stopped primary.
    pub async fn shutdown_checkpoint(&self) -> Option<ShutdownCheckpoint> {
        let control = self.control.read().await.ok()?;
        waldump::checkpoint_locations(&self.bin, &self.data_dir, &control).await
    }

    /// Single-user recovery (10-14).
    pub async fn crash_recovery(&self) {
        if !self.is_proven_gone().await {
            tracing::error!(
                target: "patroni.postgresql.rewind",
                "Can not run crash recovery because processes of PostgreSQL are left, or nobody can tell"
            );
            return;
        }
        let _at_work = self.at_work().await;
        let archive = self.archive_command().await;
        let wal_dir = archive::wal_dir(&self.data_dir, self.major_version());
        crash_recovery::prepare(&self.bin, &self.cancel, archive.as_deref(), &wal_dir).await;
        let _ = self.with_config(|c, _| c.remove_recovery_conf()).await;
        crash_recovery::run_single_user(&self.bin, &self.cancel, &self.data_dir).await;
    }
}

/// How to reach `source` for pg_rewind; a remote server seldom names a database.
fn rewind_kwargs(source: &Source, config: &ConfigHandler) -> Value {
    let mut kwargs = member_conn_kwargs(&source.member.data, config.rewind_credentials());
    if !kwargs.get("dbname").is_some_and(Value::truthy) {
        kwargs.set("dbname", config.setup().database.as_str());
    }
    kwargs
}

/// What the leader's member key says of its checkpoint after promotion; a remote server has none.
fn checkpoint_of(source: &Source) -> Option<bool> {
    if source.remote {
        return None;
    }
    let leader = patroni_core::model::Leader { member: source.member.clone(), ..Default::default() };
    leader.checkpoint_after_promote()
}

#[cfg(test)]
mod tests {
    use super::*;
    use patroni_core::model::Member;

    #[test]
    fn what_a_member_says_of_its_checkpoint() {
        let source = |role: &str, pending: bool, remote: bool| {
            let mut data = Value::map();
            data.set("version", "4.1.5");
            data.set("role", role);
            if pending {
                data.set("checkpoint_after_promote", false);
            }
            let member = Member { version: String::new(), name: "n2".into(), session: None, data };
            Source { member, remote }
        };
        for (role, pending, remote, expected) in [
            ("primary", false, false, Some(true)),
            ("primary", true, false, Some(false)),
            ("replica", false, false, Some(false)),
            ("primary", false, true, None),
        ] {
            assert_eq!(checkpoint_of(&source(role, pending, remote)), expected, "{role} {pending} {remote}");
        }
    }
}
