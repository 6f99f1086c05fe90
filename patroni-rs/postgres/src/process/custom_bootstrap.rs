//! The user's own way to make a cluster, and the script that runs in a new one
//! (surface-ha-pg 12-06, 12-08).

use std::ffi::OsString;
use std::path::Path;

use pyfmt::text::{shlex_split, SplitError};
use pyfmt::Value;

use super::binaries::{path_text, Binaries};
use super::cancellable::{show, Cancellable, Invocation};
use super::options::map_arguments;

/// Keys of the method's section that are not arguments.
const RESERVED: [&str; 6] =
    ["command", "no_params", "keep_existing_recovery_conf", "recovery_conf", "scope", "datadir"];

/// The method to use: the name in `bootstrap.method` when its section has a
/// `command`, else `None` for initdb.
pub fn method(bootstrap: &Value) -> Option<(&str, &Value)> {
    let name = bootstrap.get("method")?.as_str().filter(|m| !m.is_empty() && *m != "initdb")?;
    let section = bootstrap.get(name)?;
    section.get("command").is_some().then_some((name, section))
}

/// The command line of the method.
///
/// # Errors
/// The command cannot be split.
pub fn command(section: &Value, scope: &str, data_dir: &Path) -> Result<Vec<String>, SplitError> {
    let mut argv = shlex_split(&section.get("command").map(Value::py_str).unwrap_or_default())?;
    if !section.get("no_params").is_some_and(Value::truthy) {
        argv.push(format!("--scope={scope}"));
        argv.push(format!("--datadir={}", path_text(data_dir)));
    }
    argv.extend(map_arguments(section, &RESERVED));
    Ok(argv)
}

/// Runs the method; `true` when it ended with 0. The state after a failure is
/// `custom bootstrap failed`.
pub async fn run(
    bin: &Binaries,
    cancel: &Cancellable,
    section: &Value,
    scope: &str,
    data_dir: &Path,
) -> bool {
    let shown = section.get("command").map(Value::py_str).unwrap_or_default();
    tracing::info!(target: "patroni.postgresql.bootstrap", "Running custom bootstrap script: {shown}");
    let argv = match command(section, scope, data_dir) {
        Ok(argv) => argv,
        Err(e) => {
            tracing::error!(target: "patroni.postgresql.bootstrap", "Exception during custom bootstrap: {e}");
            return false;
        }
    };
    match cancel.call(bin, &Invocation::new(argv)).await {
        Ok(done) => done.success(),
        Err(e) => {
            tracing::error!(target: "patroni.postgresql.bootstrap", "Exception during custom bootstrap: {e}");
            false
        }
    }
}

/// The script to run in a new cluster: `post_bootstrap` wins over `post_init`.
pub fn post_bootstrap_script(bootstrap: &Value) -> Option<&str> {
    let named = |key| bootstrap.get(key).and_then(Value::as_str).filter(|c| !c.is_empty());
    named("post_bootstrap").or_else(|| named("post_init"))
}

/// Runs that script with the connection string (without password) as its last
/// argument. `env` holds `PGPASSFILE`.
pub async fn post_bootstrap(
    bin: &Binaries,
    cancel: &Cancellable,
    script: &str,
    connstring: &str,
    env: &[(OsString, OsString)],
) -> bool {
    let Ok(mut argv) = shlex_split(script) else {
        tracing::error!(target: "patroni.postgresql.bootstrap", "post_init script {script} failed");
        return false;
    };
    argv.push(connstring.to_owned());
    let invocation = Invocation::new(argv)
        .envs(env)
        .env("PGOPTIONS", "-c synchronous_commit=local -c statement_timeout=0");
    match cancel.call(bin, &invocation).await {
        Ok(done) if done.success() => true,
        Ok(done) => {
            tracing::error!(
                target: "patroni.postgresql.bootstrap",
                "post_init script {script} returned non-zero code {}", done.code
            );
            false
        }
        Err(e) => {
            tracing::error!(target: "patroni.postgresql.bootstrap", "post_init script {script} failed");
            tracing::debug!(target: "patroni.postgresql.bootstrap", "{}: {e}", show(&invocation.argv));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn section(entries: &[(&str, Value)]) -> Value {
        let mut out = Value::map();
        for (k, v) in entries {
            out.set(k, v.clone());
        }
        out
    }

    #[test]
    fn methods_and_arguments() {
        let mut bootstrap = section(&[("method", "clone".into())]);
        assert!(method(&bootstrap).is_none());
        let clone = section(&[
            ("command", "/bin/x 'a b'".into()),
            ("recovery_conf", Value::map()),
            ("backup", Value::Int(7)),
        ]);
        bootstrap.set("clone", clone.clone());
        assert_eq!(method(&bootstrap).unwrap().0, "clone");
        let argv = command(&clone, "batman", Path::new("/d")).unwrap();
        assert_eq!(argv, ["/bin/x", "a b", "--scope=batman", "--datadir=/d", "--backup=7"]);
        let bare = section(&[("command", "x".into()), ("no_params", true.into())]);
        assert_eq!(command(&bare, "batman", Path::new("/d")).unwrap(), ["x"]);
    }

    #[tokio::test]
    async fn post_bootstrap_gets_its_argument_and_environment() {
        let (bin, cancel) = (Binaries::default(), Cancellable::default());
        let script = "sh -c 'test \"$0 $PGOPTIONS $A\" = \
                      \"dbname=x -c synchronous_commit=local -c statement_timeout=0 1\"'";
        assert!(post_bootstrap(&bin, &cancel, script, "dbname=x", &[("A".into(), "1".into())]).await);
        assert!(!post_bootstrap(&bin, &cancel, "false", "dbname=x", &[]).await);
        assert!(!post_bootstrap(&bin, &cancel, "/no/such/script", "dbname=x", &[]).await);
    }
}
