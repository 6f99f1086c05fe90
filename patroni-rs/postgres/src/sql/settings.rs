//! Statements about parameters (2-06, 17-01, 17-04).

use super::error::PgError;
use super::pool::{Connection, Pool};
use super::quote::{literal, text_array};

/// A row of `pg_settings`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct SettingRow {
    pub name: String,
    /// In the unit, without it.
    pub setting: Option<String>,
    /// `8kB`, `ms`, ...
    pub unit: Option<String>,
    /// `bool`, `enum`, `integer`, `real`, `string`
    pub vartype: String,
    /// `postmaster`, `sighup`, `internal`, ...
    pub context: String,
    pub sourcefile: Option<String>,
}

/// A parameter that a restart would change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PendingRow {
    pub name: String,
    /// With its unit.
    pub value: Option<String>,
    pub unit: Option<String>,
    pub vartype: String,
}

/// Which parameters to take over from a server that is running already.
#[derive(Debug, Clone, Copy)]
pub struct GucQuery<'a> {
    /// Those that stand in this file.
    pub sourcefile: &'a str,
    /// Those named here, in lower case.
    pub names: &'a [String],
    /// But none of these.
    pub exclude: &'a [String],
}

/// The rows of `names`, ignoring case; unknown names are not among them.
pub async fn pg_settings(pool: &Pool, names: &[String]) -> Result<Vec<SettingRow>, PgError> {
    let sql = format!(
        "SELECT name, setting, unit, vartype, context, sourcefile FROM pg_catalog.pg_settings  \
         WHERE pg_catalog.lower(name) = ANY({})",
        text_array(names.iter().map(|n| n.to_lowercase()))
    );
    let rows = pool.query(Connection::Heartbeat, &sql).await?;
    let setting = |row: &super::rows::Row| SettingRow {
        name: row.string(0),
        setting: row.text(1).map(str::to_owned),
        unit: row.text(2).map(str::to_owned),
        vartype: row.string(3),
        context: row.string(4),
        sourcefile: row.text(5).map(str::to_owned),
    };
    Ok(rows.iter().map(setting).collect())
}

/// Parameters that wait for a restart (9.5), except for `skip`.
pub async fn pending_restart(pool: &Pool, skip: &[String]) -> Result<Vec<PendingRow>, PgError> {
    let sql = format!(
        "SELECT name, pg_catalog.current_setting(name), unit, vartype FROM pg_catalog.pg_settings \
         WHERE pg_catalog.lower(name) != ALL({}) AND pending_restart",
        text_array(skip.iter().map(|n| n.to_lowercase()))
    );
    let rows = pool.query(Connection::Heartbeat, &sql).await?;
    let pending = |row: &super::rows::Row| PendingRow {
        name: row.string(0),
        value: row.text(1).map(str::to_owned),
        unit: row.text(2).map(str::to_owned),
        vartype: row.string(3),
    };
    Ok(rows.iter().map(pending).collect())
}

/// Names and values, as `SHOW` prints them, of parameters from the command
/// line, the environment, or as asked for.
pub async fn load_gucs(pool: &Pool, query: &GucQuery<'_>) -> Result<Vec<(String, String)>, PgError> {
    let sql = format!(
        "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings \
         WHERE (source IN ('command line', 'environment variable') OR sourcefile = {} \
         OR pg_catalog.lower(name) = ANY({})) AND pg_catalog.lower(name) != ALL({})",
        literal(query.sourcefile),
        text_array(query.names),
        text_array(query.exclude)
    );
    let rows = pool.query(Connection::Heartbeat, &sql).await?;
    Ok(rows.iter().map(|row| (row.string(0), row.string(1))).collect())
}
