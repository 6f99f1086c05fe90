//! `--generate-config`: the running PostgreSQL that the generator asks.

use std::time::Duration;

use patroni_config::generate::{RunningInstance, ServerFacts, REQUIRED_PARAMETERS, SETTINGS_QUERY};
use patroni_postgres::files::parse_dsn;
use patroni_postgres::sql::{text_array, ConnParams, Session};
use pyfmt::Value;

/// Longer than any answer to the three questions takes.
const ANSWER: Duration = Duration::from_secs(10);

/// The server that the command line names, or libpq's default one.
pub struct Server;

impl RunningInstance for Server {
    fn parse_dsn(&self, dsn: &str) -> Option<Value> {
        let parsed: Value = parse_dsn(dsn)?.into_iter().collect();
        Some(parsed)
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn os_user(&self) -> String {
        nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|u| u.name).unwrap_or_default()
    }

    fn ask_password(&mut self, prompt: &str) -> Result<String, String> {
        rpassword::prompt_password(prompt).map_err(|e| e.to_string())
    }

    fn facts(&mut self, dsn: Option<&str>, password: &str) -> Result<ServerFacts, String> {
        let mut params: ConnParams =
            dsn.and_then(parse_dsn).map(|parsed| parsed.into_iter().collect()).unwrap_or_default();
        if !password.is_empty() {
            params.set("password", password);
        }
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(ask(&params)).map_err(|e| e.to_string())
    }
}

async fn ask(params: &ConnParams) -> Result<ServerFacts, patroni_postgres::sql::PgError> {
    let session = Session::connect(params).await?;
    let superuser = session
        .query("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user", ANSWER)
        .await?;
    // The simple protocol takes no parameters.
    let statement = SETTINGS_QUERY.replace("$1", &text_array(REQUIRED_PARAMETERS));
    let settings = session.query(&statement, ANSWER).await?;
    Ok(ServerFacts {
        version: session.server_version(),
        is_superuser: superuser.first().is_some_and(|row| row.is_true(0)),
        settings: settings.iter().map(|row| (row.string(0), row.string(1))).collect(),
    })
}
