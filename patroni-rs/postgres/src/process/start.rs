//! Starting the postmaster (surface-ha-pg section 10).

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::binaries::{self, path_text, Binaries};
use super::blocking;
use super::cancellable::{log_not_started, show, Cancellable};
use super::pending;
use super::postmaster::Postmaster;
use super::ready::{self, PingTarget, Ready, Waited};
use super::spawn;

/// What to start.
#[derive(Debug, Clone, Default)]
pub struct StartCommand {
    /// PGDATA.
    pub data_dir: PathBuf,
    /// The `postgresql.conf` to use.
    pub config_file: PathBuf,
    /// `--name=value` options, in order (10-02).
    pub options: Vec<String>,
}

/// The environment of the postmaster (10-03): ours without `NOTIFY_SOCKET`,
/// `PATRONI_*` and `KUBERNETES_*`; `PG_MALLOC_ARENA_MAX` loses its prefix.
pub fn postmaster_env(vars: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let mut arenas = None;
    let mut env: Vec<(OsString, OsString)> = Vec::new();
    for (name, value) in vars {
        match name.to_str().unwrap_or_default() {
            "NOTIFY_SOCKET" => {}
            "PG_MALLOC_ARENA_MAX" => arenas = Some(value),
            n if n.starts_with("PATRONI_") || n.starts_with("KUBERNETES_") => {}
            _ => env.push((name, value)),
        }
    }
    if let Some(value) = arenas {
        env.retain(|(name, _)| name != "MALLOC_ARENA_MAX");
        env.push(("MALLOC_ARENA_MAX".into(), value));
    }
    env
}

/// Starts the postmaster in its own session, not as our child, so that it survives
/// us, and returns as soon as its pid is known. What is started later than anybody waits for, or after `cancel`, is
/// ended again ([`pending`]).
///
/// # Errors
/// The program cannot be executed or ended at once; logged here.
pub async fn launch(
    bin: &Binaries,
    start: &StartCommand,
    cancel: &Cancellable,
) -> std::io::Result<Postmaster> {
    let mut argv = vec![
        bin.text("postgres"),
        "-D".to_owned(),
        path_text(&start.data_dir),
        format!("--config-file={}", start.config_file.display()),
    ];
    argv.extend(start.options.iter().cloned());
    tracing::debug!(target: "patroni.postgresql.postmaster", "Starting postgres: {}", argv.join(" "));
    let mut env = postmaster_env(std::env::vars_os());
    let (bin, data_dir, command_line) = (bin.clone(), start.data_dir.clone(), argv.clone());
    let (cancel, (launch, _waits)) = (cancel.clone(), pending::begin());
    let work = move || {
        if let Some(pid) = Postmaster::stale_pid(&data_dir) {
            tracing::info!(
                target: "patroni.postgresql.postmaster",
                "Telling pg_ctl that it is safe to ignore postmaster.pid for process {pid}"
            );
            env.push(("PG_GRANDPARENT_PID".into(), pid.to_string().into()));
        }
        let mut command = bin.tool("postgres").into_std();
        command.args(argv.iter().skip(1)).env_clear().envs(env);
        binaries::with_krbsrvname(&mut command);
        launch.carry_out(|| {
            // The threads may all have been busy meanwhile.
            if cancel.is_cancelled() {
                return Err(std::io::Error::other("cancelled"));
            }
            spawn::detached(command)
        })
    };
    let process = blocking::run(blocking::FILE_DEADLINE, work).await.inspect_err(|e| {
        log_not_started("patroni.postgresql.postmaster", &command_line, &show(&command_line), e);
    })?;
    tracing::info!(target: "patroni.postgresql.postmaster", "postmaster pid={}", process.pid);
    Ok(Postmaster { process, single_user: false })
}

/// How far a start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Startup {
    /// Connections are accepted.
    Running,
    /// The postmaster ended: state `start failed`.
    Failed,
    /// The ports were not opened in time.
    NoPort,
    /// The ports are open, the server is still starting (recovery).
    StillStarting,
    /// The job was cancelled.
    Cancelled,
}

/// Waits for the ports to be opened, then for connections to be accepted; both
/// together for at most `timeout` (10-06, 10-08).
pub async fn wait_for_startup(
    target: &PingTarget,
    postmaster: &Postmaster,
    timeout: Duration,
    cancel: &Cancellable,
) -> Startup {
    let deadline = Some(Instant::now() + timeout);
    let open = ready::wait_until(target, postmaster, deadline, cancel, |r| r != Ready::NoResponse).await;
    match open {
        Waited::Answered(Ready::Running) => return Startup::Running,
        Waited::Answered(_) => {}
        Waited::Exited => {
            tracing::error!(target: "patroni.postgresql", "postmaster is not running");
            return Startup::Failed;
        }
        Waited::TimedOut => {
            tracing::warn!(target: "patroni.postgresql", "Timed out waiting for PostgreSQL to start");
            return Startup::NoPort;
        }
        Waited::Cancelled => return Startup::Cancelled,
    }
    match ready::wait_until(target, postmaster, deadline, cancel, |r| r == Ready::Running).await {
        Waited::Answered(_) => Startup::Running,
        Waited::Exited => Startup::Failed,
        Waited::TimedOut => Startup::StillStarting,
        Waited::Cancelled => Startup::Cancelled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_rules() {
        let vars = [
            ("PATH", "/bin"),
            ("NOTIFY_SOCKET", "x"),
            ("PATRONI_NAME", "a"),
            ("KUBERNETES_PORT", "1"),
            ("MALLOC_ARENA_MAX", "9"),
            ("PG_MALLOC_ARENA_MAX", "1"),
            ("LC_ALL", "C"),
        ];
        let env = postmaster_env(vars.iter().map(|(k, v)| ((*k).into(), (*v).into())));
        let names: Vec<_> = env.iter().map(|(k, v)| format!("{}={}", k.display(), v.display())).collect();
        assert_eq!(names, ["PATH=/bin", "LC_ALL=C", "MALLOC_ARENA_MAX=1"]);
    }
}
