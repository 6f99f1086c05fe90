//! Connections to members, and statements on them (surface-api-ctl K5, K8).

use std::path::Path;
use std::time::Duration;

use patroni_core::model::Member;
use patroni_postgres::sql::password_in_file;
use pyfmt::Value;
use tokio_postgres::config::SslMode;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};

use super::command_tag;
use super::values::from_text;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
/// comes from the environment, as in libpq.
///
/// # Errors
/// The text that the reference shows in place of a SQLSTATE.
pub async fn connect(member: &Member, login: &Login) -> Result<Client, String> {
    let kwargs = member.conn_kwargs(None);
    let text = |key: &str| kwargs.iter().find(|(k, _)| k == key).map(|(_, v)| v.py_str());
    let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    let host = text("host").or_else(|| env("PGHOST")).unwrap_or_else(|| "localhost".into());
    let port = text("port").or_else(|| env("PGPORT")).and_then(|p| p.parse().ok()).unwrap_or(5432);
    let user = login.username.clone().or_else(|| env("PGUSER")).or_else(system_user);
    let mut config = Config::new();
    config.host(&host).port(port).connect_timeout(CONNECT_TIMEOUT).application_name("Patroni ctl");
    config.user(user.clone().unwrap_or_default());
    let dbname = login.dbname.clone().or_else(|| env("PGDATABASE")).or_else(|| user.clone());
    let mut password = login.password.clone().or_else(|| env("PGPASSWORD"));
    if password.is_none() {
        let home = || env("HOME").map(|home| format!("{home}/.pgpass"));
        if let Some(file) = env("PGPASSFILE").or_else(home) {
            let target = [&*port.to_string(), dbname.as_deref().unwrap_or(""), user.as_deref().unwrap_or("")];
            password = password_in_file(Path::new(&file), &[&host], target).await;
        }
    }
    if let Some(dbname) = dbname {
        config.dbname(dbname);
    }
    if let Some(password) = password {
        config.password(password);
    }
    if let Some(options) = env("PGOPTIONS") {
        config.options(options);
    }
    let tls = tls(&mut config, env("PGSSLMODE").as_deref(), env("PGSSLROOTCERT").as_deref())?;
    let failed = |text: String| {
        format!("connection failed: connection to server at \"{host}\", port {port} failed: {text}")
    };
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, config.connect(tls));
    let (client, connection) = match connecting.await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => return Err(failed(connect_error(&error))),
        Err(_) => return Err(failed("timeout expired".into())),
    };
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(target: "patroni.ctl", "{error}");
        }
    });
    Ok(client)
}

fn system_user() -> Option<String> {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name)
}

/// TLS by libpq's rule: unless told otherwise it is tried but nothing is verified.
fn tls(
    config: &mut Config,
    mode: Option<&str>,
    root: Option<&str>,
) -> Result<postgres_openssl::MakeTlsConnector, String> {
    use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};
    let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(|e| e.to_string())?;
    let verify = matches!(mode, Some("verify-ca" | "verify-full"));
    if verify {
        if let Some(root) = root {
            builder.set_ca_file(root).map_err(|e| e.to_string())?;
        }
    } else {
        builder.set_verify(SslVerifyMode::NONE);
    }
    config.ssl_mode(match mode {
        Some("disable") => SslMode::Disable,
        Some("require" | "verify-ca" | "verify-full") => SslMode::Require,
        _ => SslMode::Prefer,
    });
    let mut connector = postgres_openssl::MakeTlsConnector::new(builder.build());
    if mode != Some("verify-full") {
        connector.set_callback(|ssl, _| {
            ssl.set_verify_hostname(false);
            Ok(())
        });
    }
    Ok(connector)
}

/// libpq's words for a connection that failed.
fn connect_error(error: &Error) -> String {
    if let Some(refusal) = error.as_db_error() {
        return format!("{}:  {}", refusal.severity(), refusal.message());
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    match text.split_once(" (os error ") {
        Some((reason, _)) => {
            format!("{reason}\n\tIs the server running on that host and accepting TCP/IP connections?")
        }
        None if text.contains("password missing") => "fe_sendauth: no password supplied".into(),
        None => text,
    }
}

/// Runs SQL and gives back the result of its first statement.
///
/// # Errors
/// The SQLSTATE, or the text of an error without one, such as that there is no result.
pub async fn run(client: &Client, sql: &str) -> Result<Answer, String> {
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
