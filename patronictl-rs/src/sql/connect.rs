//! Connections to members, and statements on them (surface-api-ctl K5, K8).

use patroni_core::model::Member;
use patroni_postgres::sql::{ConnParams, PgError, Session};
use pyfmt::Value;
use tokio_postgres::types::Type;
use tokio_postgres::{Error, SimpleQueryMessage};

use super::command_tag;
use super::values::from_text;

/// The rows of a statement.
pub struct Answer {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// Their types.
    pub kinds: Vec<Type>,
    /// The rows.
    pub rows: Vec<Vec<Value>>,
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
pub async fn connect(member: &Member, login: &Login) -> Result<Session, String> {
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
    Session::connect(&params).await.map_err(|error| match error {
        PgError::Config(text) => text,
        error => format!("connection failed: {}", connect_error(&params, &error)),
    })
}

/// libpq's words for a connection that failed.
fn connect_error(params: &ConnParams, error: &PgError) -> String {
    let PgError::Server { .. } = error else { return error.to_string() };
    let at = |keyword| params.get(keyword).unwrap_or_default();
    format!("connection to server at \"{}\", port {} failed: FATAL:  {error}", at("host"), at("port"))
}

/// Runs SQL and gives back the result of its first statement.
///
/// # Errors
/// The SQLSTATE, or the text of an error without one, such as that there is no result.
pub async fn run(session: &Session, sql: &str) -> Result<Answer, String> {
    let client = session.client();
    let code = |error: Error| match error.code() {
        Some(state) => state.code().to_owned(),
        None if command_tag::is_copy(sql) => {
            "COPY cannot be used with this method; use copy() instead".to_owned()
        }
        None => error.to_string(),
    };
    // The text protocol does not tell types, so the statement is described
    // first; several statements at once cannot be, and keep text.
    let kinds: Vec<Type> = match client.prepare(sql).await {
        Ok(statement) => statement.columns().iter().map(|c| c.type_().clone()).collect(),
        Err(error) if is_multi(&error) => Vec::new(),
        Err(error) => return Err(code(error)),
    };
    let messages = client.simple_query(sql).await.map_err(code)?;
    first_result(messages, &kinds).map_err(|rows| {
        format!("the last operation didn't produce records ({})", command_tag::outcome(sql, rows))
    })
}

/// The first result, or the number of rows that its statement affected.
fn first_result(messages: Vec<SimpleQueryMessage>, kinds: &[Type]) -> Result<Answer, u64> {
    let mut answer: Option<Answer> = None;
    for message in messages {
        match (message, &mut answer) {
            (SimpleQueryMessage::RowDescription(columns), None) => {
                let columns = columns.iter().map(|c| c.name().to_owned()).collect();
                answer = Some(Answer { columns, kinds: kinds.to_vec(), rows: Vec::new() });
            }
            (SimpleQueryMessage::Row(row), Some(answer)) => {
                let kind = |i: usize| kinds.get(i).unwrap_or(&Type::TEXT);
                let cell = |i: usize| from_text(row.try_get(i).ok().flatten(), kind(i));
                answer.rows.push((0..row.len()).map(cell).collect());
            }
            (SimpleQueryMessage::CommandComplete(_), Some(_)) => break,
            (SimpleQueryMessage::CommandComplete(rows), None) => return Err(rows),
            _ => {}
        }
    }
    answer.ok_or(0)
}

fn is_multi(error: &Error) -> bool {
    error.as_db_error().is_some_and(|e| e.message().starts_with("cannot insert multiple commands"))
}
