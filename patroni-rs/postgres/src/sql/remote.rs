//! Questions to other servers, and CHECKPOINT: each on a connection of its own.

use std::time::Duration;

use super::error::PgError;
use super::params::ConnParams;
use super::pool::DEFAULTS;
use super::replication::ReplicationClient;
use super::servers::Attempts;
use super::session::Session;
use super::transport::{within, Encryption, Transport};

/// Beyond the server's own `statement_timeout` of 2 s.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// A checkpoint of a large, busy server takes long, but not forever.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

async fn connect(params: &ConnParams) -> Result<Session, PgError> {
    Session::connect(&params.clone().or_defaults(&DEFAULTS).with_safe_search_path()).await
}

/// Would `pg_basebackup` find a server that lets it in? A way to log in that only libpq knows
/// (GSSAPI) is left to it to try.
///
/// # Errors
/// Nobody answers, or the server refuses.
pub async fn can_be_copied(params: &ConnParams) -> Result<(), PgError> {
    match ReplicationClient::connect(params).await {
        Ok(_) => Ok(()),
        Err(error @ PgError::Server { .. }) => Err(error),
        Err(_) => reachable(&params.clone().or_defaults(&DEFAULTS)).await,
    }
}

/// Does any of the servers take a connection?
async fn reachable(params: &ConnParams) -> Result<(), PgError> {
    let params = params.without("gssencmode");
    let (params, mut attempts) = Attempts::plan(&params).await?;
    while let Some((target, _)) = attempts.next() {
        let open = Transport::open(&params, &target, Encryption::Plain);
        match within(params.connect_timeout(), open).await {
            Ok(_) => return Ok(()),
            Err(error) => attempts.failed(error, false),
        }
    }
    Err(attempts.error())
}

/// Is that server in recovery?
pub async fn leader_in_recovery(params: &ConnParams) -> Result<bool, PgError> {
    let rows = connect(params).await?.query("SELECT pg_catalog.pg_is_in_recovery()", QUERY_TIMEOUT).await?;
    Ok(rows.first().is_none_or(|row| row.is_true(0)))
}

/// Has that primary write a record, which everybody may: a transaction that does nothing but take a number. It waits for
/// no standby, and decoding of logical changes shows nothing of it.
///
/// # Errors
/// PostgreSQL's; also where it is in recovery.
pub async fn write_something(params: &ConnParams) -> Result<(), PgError> {
    connect(params).await?.query("SELECT pg_catalog.txid_current()", QUERY_TIMEOUT).await.map(drop)
}

/// Has that primary written a checkpoint on its own timeline? Before that,
/// `pg_rewind` would take it for one of the former timeline.
pub async fn leader_ran_checkpoint(params: &ConnParams) -> Result<bool, PgError> {
    let sql = "SELECT NOT pg_catalog.pg_is_in_recovery() AND ('x' || pg_catalog.substr(\
               pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int = timeline_id \
               FROM pg_catalog.pg_control_checkpoint()";
    let rows = connect(params).await?.query(sql, QUERY_TIMEOUT).await?;
    Ok(rows.first().is_some_and(|row| row.is_true(0)))
}

/// Runs a CHECKPOINT without a statement timeout. With `only_primary`, not on
/// a server in recovery. `connect_timeout` in seconds; none: that of the system.
///
/// Returns why it did not: `is_in_recovery=true` or
/// `not accessible or not healthy`, which has been logged.
pub async fn checkpoint(
    params: &ConnParams,
    only_primary: bool,
    connect_timeout: Option<u64>,
) -> Result<(), &'static str> {
    let timeout = connect_timeout.map_or_else(String::new, |t| t.to_string());
    let params = params
        .with("connect_timeout", timeout)
        .with("options", "-c statement_timeout=0")
        .with_safe_search_path();
    match run_checkpoint(&params, only_primary).await {
        Ok(true) => Ok(()),
        Ok(false) => Err("is_in_recovery=true"),
        Err(error) => {
            tracing::error!(target: "patroni.postgresql", "Exception during CHECKPOINT: {}", error.py_repr());
            Err("not accessible or not healthy")
        }
    }
}

async fn run_checkpoint(params: &ConnParams, only_primary: bool) -> Result<bool, PgError> {
    let session = Session::connect(params).await?;
    if only_primary {
        let rows = session.query("SELECT pg_catalog.pg_is_in_recovery()", QUERY_TIMEOUT).await?;
        if rows.first().is_none_or(|row| row.is_true(0)) {
            return Ok(false);
        }
    }
    session.query("CHECKPOINT", CHECKPOINT_TIMEOUT).await.map(|_| true)
}
