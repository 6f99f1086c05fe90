//! The state of synchronous replication, as one look at the server gives it.

use patroni_core::model::Lsn;
use patroni_core::sync::{Candidate, CurrentState, NameSet, NamesSeen, Observed, SyncOptions, Tracker};
use patroni_core::PgVersion;

use super::error::PgError;
use super::monitor::{Monitored, Names};
use super::pool::{Connection, Pool};

/// Writes a little WAL without waiting for anybody, so that standbys report
/// their positions (20-11).
pub async fn nudge_wal(pool: &Pool) -> Result<(), PgError> {
    let sql = "DO $$\nBEGIN\n    SET local synchronous_commit = 'off';\n    \
               PERFORM * FROM pg_catalog.txid_current();\nEND;$$";
    pool.query(Connection::Heartbeat, sql).await.map(|_| ())
}

/// Who receives WAL by streaming: `application_name`, and what is flushed.
///
/// # Errors
/// PostgreSQL's.
pub async fn walsenders(pool: &Pool, major_version: PgVersion) -> Result<Vec<(String, Lsn)>, PgError> {
    let names = Names::of(major_version);
    let flushed = names.bytes(&format!("flush_{}", names.lsn));
    let sql = format!(
        "SELECT application_name, {flushed} FROM pg_catalog.pg_stat_get_wal_senders() w, \
         pg_catalog.pg_stat_get_activity(w.pid) WHERE w.state = 'streaming'"
    );
    let rows = pool.query(Connection::Heartbeat, &sql).await?;
    rows.iter().map(|row| Ok((row.string(0), row.lsn(1)?.unwrap_or_default()))).collect()
}

/// What the server goes by as `synchronous_standby_names`, and the file that says so, where that may be seen.
///
/// # Errors
/// PostgreSQL's.
pub async fn sync_names_in_force(pool: &Pool) -> Result<(String, Option<String>), PgError> {
    let sql =
        "SELECT setting, sourcefile FROM pg_catalog.pg_settings WHERE name = 'synchronous_standby_names'";
    let rows = pool.query(Connection::Heartbeat, sql).await?;
    let row = rows.first().ok_or_else(|| PgError::Unexpected("no row".into()))?;
    Ok((row.string(0), row.text(1).map(str::to_owned)))
}

/// The state by the monitoring row `seen`. If `synchronous_standby_names` has
/// changed, WAL is nudged and `monitor` looks again; its row is then the one
/// that counts.
///
/// # Errors
/// Those of PostgreSQL.
pub async fn current_sync_state<F>(
    pool: &Pool,
    tracker: &mut Tracker,
    mut seen: Monitored,
    candidates: &[Candidate],
    listed: &NameSet,
    options: &SyncOptions,
    monitor: impl FnOnce() -> F,
) -> Result<CurrentState, PgError>
where
    F: std::future::Future<Output = Result<Monitored, PgError>>,
{
    if let NamesSeen::Changed { warning } =
        tracker.observe_value(&seen.synchronous_standby_names, seen.last_operation())
    {
        if let Some(text) = warning {
            tracing::warn!(target: "patroni.postgresql.sync", "{text}");
        }
        nudge_wal(pool).await?;
        seen = monitor().await?;
    }
    let observed = Observed {
        synchronous_commit: &seen.synchronous_commit,
        rows: &seen.replication,
        last_operation: seen.last_operation(),
    };
    Ok(tracker.current_state(candidates, listed, &observed, options))
}
