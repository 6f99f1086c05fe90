//! `--generate-config`: the running PostgreSQL that the generator asks.

use std::io::{BufRead, Write as _};
use std::time::Duration;

use patroni_config::generate::{RunningInstance, ServerFacts, REQUIRED_PARAMETERS, SETTINGS_QUERY};
use patroni_core::PgVersion;
use patroni_postgres::files::parse_dsn;
use patroni_postgres::sql::{connect_like_psycopg, text_array, ConnParams, Outcome, RawRow};
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
        // As Python's getpass: the terminal of the session, whatever the standard input is.
        if std::fs::File::options().read(true).write(true).open("/dev/tty").is_ok() {
            return rpassword::prompt_password(prompt).map_err(|e| e.to_string());
        }
        let _ = write!(std::io::stderr(), "Warning: Password input may be echoed.\n{prompt}");
        let password = read_line(&mut std::io::stdin().lock())?;
        let _ = writeln!(std::io::stderr());
        Ok(password)
    }

    fn facts(&mut self, dsn: Option<&str>, password: &str) -> Result<ServerFacts, String> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
        runtime.block_on(ask(&parameters(dsn, password)))
    }
}

/// The reference's connections have `options` of their own, in place of those of the DSN or the environment. So what
/// these set is not in the generated configuration.
fn parameters(dsn: Option<&str>, password: &str) -> ConnParams {
    let mut params: ConnParams =
        dsn.and_then(parse_dsn).map(|parsed| parsed.into_iter().collect()).unwrap_or_default();
    if !password.is_empty() {
        params.set("password", password);
    }
    params.set("options", "-c search_path=pg_catalog");
    params
}

/// A line without its end; an empty text is the end of the input, in the words of Python's `EOFError`.
fn read_line(input: &mut impl BufRead) -> Result<String, String> {
    let mut line = String::new();
    match input.read_line(&mut line) {
        Ok(0) => Err(String::new()),
        Ok(_) => Ok(line.trim_end_matches(['\r', '\n']).to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

async fn ask(params: &ConnParams) -> Result<ServerFacts, String> {
    if let Some(keyword) = params.unknown() {
        return Err(format!("invalid connection option \"{keyword}\"\n"));
    }
    let mut client = connect_like_psycopg(params).await?;
    // The simple protocol takes no parameters.
    let statement = SETTINGS_QUERY.replace("$1", &text_array(REQUIRED_PARAMETERS));
    let asked = tokio::time::timeout(ANSWER, client.run(&statement)).await;
    let outcomes = asked.map_err(|_| format!("no answer within {ANSWER:?}"))?.map_err(|e| e.to_string())?;
    let Some(Outcome::Rows { rows, .. }) = outcomes.into_iter().next() else {
        return Err("the last operation didn't produce records".to_owned());
    };
    let text = |row: &RawRow, at: usize| {
        row.get(at).cloned().flatten().map(|v| String::from_utf8_lossy(&v).into_owned()).unwrap_or_default()
    };
    Ok(ServerFacts {
        version: client.setting("server_version").map(PgVersion::of_server).unwrap_or_default(),
        is_superuser: client.setting("is_superuser") == Some("on"),
        settings: rows.iter().map(|row| (text(row, 0), text(row, 1))).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_dsn_are_replaced() {
        for dsn in
            [None, Some("host=h options='-c work_mem=8MB'"), Some("postgres://h/?options=-cgeqo%3Doff")]
        {
            let params = parameters(dsn, "secret");
            assert_eq!(params.get("options"), Some("-c search_path=pg_catalog"), "{dsn:?}");
            assert_eq!((params.get("password"), params.get("host")), (Some("secret"), dsn.map(|_| "h")));
        }
    }

    #[test]
    fn a_line_of_the_input() {
        for (input, want) in [
            ("secret\nmore", Ok("secret")),
            ("secret", Ok("secret")),
            (" s \r\n", Ok(" s ")),
            ("\n", Ok("")),
            ("", Err("")),
        ] {
            let got = read_line(&mut input.as_bytes());
            assert_eq!(got.as_deref().map_err(String::as_str), want, "{input:?}");
        }
    }
}
