//! Statements about parameters (2-06, 17-01, 17-04).

use super::error::PgError;
use super::pool::{Connection, Pool};
use super::quote::{literal, text_array};
use super::rows::Row;
use crate::files::{CurrentParametersQuery, PendingSetting, PgSetting};

/// The rows of `names`, ignoring case; unknown names are not among them.
pub async fn pg_settings(pool: &Pool, names: &[String]) -> Result<Vec<PgSetting>, PgError> {
    let sql = format!(
        "SELECT name, setting, unit, vartype, context, sourcefile FROM pg_catalog.pg_settings  \
         WHERE pg_catalog.lower(name) = ANY({})",
        text_array(names.iter().map(|n| n.to_lowercase()))
    );
    let rows = pool.query(Connection::Heartbeat, &sql).await?;
    let setting = |row: &Row| PgSetting {
        name: row.string(0),
        setting: row.text(1).map(str::to_owned),
        unit: row.text(2).map(str::to_owned),
        vartype: row.string(3),
        context: row.string(4),
        sourcefile: row.text(5).map(str::to_owned),
    };
    Ok(rows.iter().map(setting).collect())
}

/// Parameters that wait for a restart (9.5), except for `skip`; the values they
/// will have are for the caller to find out.
pub async fn pending_restart(pool: &Pool, skip: &[String]) -> Result<Vec<PendingSetting>, PgError> {
    let sql = format!(
        "SELECT name, pg_catalog.current_setting(name), unit, vartype FROM pg_catalog.pg_settings \
         WHERE pg_catalog.lower(name) != ALL({}) AND pending_restart",
        text_array(skip.iter().map(|n| n.to_lowercase()))
    );
    let rows = pool.query(Connection::Heartbeat, &sql).await?;
    let pending = |row: &Row| PendingSetting {
        name: row.string(0),
        current: row.text(1).map(str::to_owned),
        unit: row.text(2).map(str::to_owned),
        vartype: row.string(3),
        new_value: None,
    };
    Ok(rows.iter().map(pending).collect())
}

/// Names and values, as `SHOW` prints them, of parameters from the command
/// line, the environment, or as asked for.
pub async fn load_gucs(
    pool: &Pool,
    query: &CurrentParametersQuery,
) -> Result<Vec<(String, String)>, PgError> {
    let sql = format!(
        "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
         WHERE (source IN ('command line', 'environment variable') OR sourcefile = {} \
         OR sourcefile = {} AND pg_catalog.lower(name) = ANY({}) \
         OR pg_catalog.lower(name) = ANY({})) AND pg_catalog.lower(name) != ALL({})",
        literal(&query.sourcefile),
        literal(&query.auto_conf),
        text_array(&query.recovery),
        text_array(&query.names),
        text_array(&query.exclude)
    );
    let rows = pool.query(Connection::Heartbeat, &sql).await?;
    Ok(rows.iter().map(|row| (row.string(0), row.string(1))).collect())
}
