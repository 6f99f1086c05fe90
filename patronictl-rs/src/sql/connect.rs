//! Connections to members, and statements on them (surface-api-ctl K5, K8).

use patroni_core::model::Member;
use patroni_postgres::sql::{connect_like_psycopg, ConnParams, Outcome, SimpleClient};

use super::kinds::Kind;
use super::load::{LoadError, Loader};
use super::object::Object;
use crate::click::CliError;

/// The rows of a statement.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<Object>>,
}

/// Who connects, from the command line.
#[derive(Default)]
pub struct Login {
    /// `-U`.
    pub username: Option<String>,
    /// What was typed after `--password`.
    pub password: Option<String>,
    /// `-d`.
    pub dbname: Option<String>,
}

/// Connects to a member; what neither the member nor the command line says
/// comes from where libpq takes it: service file, environment, password file.
///
/// # Errors
/// The text that the reference shows in place of a SQLSTATE.
pub async fn connect(member: &Member, login: &Login) -> Result<SimpleClient, String> {
    let kwargs = member.conn_kwargs(None);
    let member = kwargs.iter().filter(|(key, value)| key != "dbname" && !value.is_null());
    let mut params: ConnParams = member.map(|(key, value)| (key.clone(), value.py_str())).collect();
    let given = [("user", &login.username), ("password", &login.password), ("dbname", &login.dbname)];
    for (keyword, value) in given {
        if let Some(value) = value {
            params.set(keyword, value);
        }
    }
    params.set("fallback_application_name", "Patroni ctl");
    params.set("connect_timeout", "5");
    connect_like_psycopg(&params).await
}

/// What became of a statement.
pub enum Reply {
    /// Its rows.
    Rows(Answer),
    /// There are none: the SQLSTATE, or the text of an error without one.
    Error(String),
}

/// Runs SQL and gives back the result of its first statement.
///
/// # Errors
/// [`CliError::Crash`] for values that the reference's driver does not read.
pub async fn run(client: &mut SimpleClient, sql: &str) -> Result<Reply, CliError> {
    let outcomes = match client.run(sql).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let state = error.sqlstate().map(str::to_owned);
            return Ok(Reply::Error(state.unwrap_or_else(|| format!("consuming input failed: {error}"))));
        }
    };
    if outcomes.contains(&Outcome::Copy) {
        return Ok(Reply::Error("COPY cannot be used with this method; use copy() instead".to_owned()));
    }
    let none = |why: &str| Reply::Error(format!("the last operation didn't produce records ({why})"));
    let (columns, rows) = match outcomes.into_iter().next() {
        Some(Outcome::Rows { columns, rows }) => (columns, rows),
        Some(Outcome::Done(tag)) => return Ok(none(&format!("command status: {tag}"))),
        _ => return Ok(none("result status: EMPTY_QUERY")),
    };
    let loader = Loader::new(|name| client.setting(name));
    let kinds: Vec<Kind> = columns.iter().map(|column| Kind::of(column.kind)).collect();
    if kinds.iter().any(|kind| kind.is_zoned()) {
        loader.warn_of_zone(client.setting("TimeZone"));
    }
    let mut loaded = Vec::with_capacity(rows.len());
    for row in rows {
        let cells = row.iter().zip(&kinds).map(|(cell, kind)| match cell {
            Some(bytes) => loader.load(*kind, bytes),
            None => Ok(Object::NONE),
        });
        match cells.collect::<Result<Vec<_>, _>>() {
            Ok(cells) => loaded.push(cells),
            Err(LoadError::Data(text)) => return Ok(Reply::Error(text)),
            Err(LoadError::Crash(text)) => return Err(CliError::Crash(text)),
        }
    }
    Ok(Reply::Rows(Answer { columns: columns.into_iter().map(|column| column.name).collect(), rows: loaded }))
}
