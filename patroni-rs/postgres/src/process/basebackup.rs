//! The built-in way to make a replica: `pg_basebackup` (surface-ha-pg 13-03).

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use patroni_core::ha::Unfinished;
use patroni_core::PgVersion;
use pyfmt::Value;
use tokio::sync::watch;

use super::binaries::{self, path_text, Binaries};
use super::cancellable::{show, CallError, Cancellable, Finished, Invocation};
use super::datadir;
use super::options::user_options;
use super::progress::{self, CopyProgress};
use super::unfinished;

/// Options that the user may not set.
const FORBIDDEN: [&str; 11] = [
    "pgdata",
    "format",
    "wal-method",
    "xlog-method",
    "gzip",
    "version",
    "dbname",
    "host",
    "port",
    "username",
    "password",
];
/// Tries before giving up.
const TRIES: u32 = 2;
/// Time between two tries.
const BACK_OFF: Duration = Duration::from_secs(5);

/// How the making of a replica ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The data directory is complete.
    Done,
    /// It is not, and what is in it is of no use.
    Failed,
    /// It is not, but what is in the data directory stays: no method has begun, or the last one
    /// asked to keep it (`keep_data`).
    Kept,
}

/// What to copy from where.
#[derive(Debug)]
pub struct BaseBackup<'a> {
    /// Programs.
    pub bin: &'a Binaries,
    /// Cancel flag of the job.
    pub cancel: &'a Cancellable,
    /// PGDATA to make.
    pub data_dir: &'a Path,
    /// Connection string of the source, without password.
    pub dsn: &'a str,
    /// `PGPASSFILE` and whatever else the connection needs.
    pub env: &'a [(OsString, OsString)],
    /// The section `postgresql.basebackup`: null, a list or a map.
    pub options: &'a Value,
    /// Version of the programs, 150004.
    pub version: PgVersion,
    /// Where progress is published; `None` when no copy runs.
    pub progress: &'a watch::Sender<Option<CopyProgress>>,
}

/// The options that may be used; complaints are logged.
fn allowed_options(options: &Value, version: PgVersion) -> Vec<String> {
    let mut forbidden = FORBIDDEN.to_vec();
    if version.before(PgVersion::V15) {
        forbidden.push("compress");
    }
    let none = Value::map();
    let user = user_options("basebackup", if options.is_null() { &none } else { options }, &forbidden);
    for error in &user.errors {
        tracing::error!(target: "patroni.postgresql.bootstrap", "{error}");
    }
    let server_side = |option: &String| {
        let ok = !option.starts_with("--compress=") || option.starts_with("--compress=server");
        if !ok {
            tracing::error!(
                target: "patroni.postgresql.bootstrap",
                "compress option for basebackup must use server-side compression (e.g., server-gzip, server-zstd). \
                 Client-side compression is not allowed."
            );
        }
        ok
    };
    user.options.into_iter().filter(server_side).collect()
}

impl BaseBackup<'_> {
    /// The command line. `--progress` is ours, unless the user asked for it.
    fn argv(&self) -> Vec<String> {
        let mut argv = vec![
            self.bin.text("pg_basebackup"),
            format!("--pgdata={}", path_text(self.data_dir)),
            "-X".into(),
            "stream".into(),
            format!("--dbname={}", self.dsn),
        ];
        argv.extend(allowed_options(self.options, self.version));
        if !argv.iter().any(|a| a == "--progress") {
            argv.push("--progress".into());
        }
        argv
    }

    async fn once(&self, invocation: &Invocation) -> Result<Finished, CallError> {
        if self.cancel.is_cancelled() {
            return Err(CallError::Cancelled);
        }
        let mut command = invocation.prepare(self.bin)?;
        command.stderr(Stdio::piped());
        let mut child = self.cancel.spawn(command, false).await?;
        let follower =
            child.stderr.take().map(|pipe| tokio::spawn(progress::follow(pipe, self.progress.clone())));
        let done = self.cancel.finish(child, invocation).await;
        if let Some(task) = follower {
            // A walreceiver child that lost its parent may keep the pipe open.
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
            self.progress.send_replace(None);
        }
        done
    }

    /// Empties the data directory when something is in it.
    async fn clear(&self) -> std::io::Result<()> {
        let dir = self.data_dir.to_owned();
        let empty =
            super::blocking::run(super::blocking::FILE_DEADLINE, move || datadir::is_empty(&dir)).await?;
        if empty {
            return Ok(());
        }
        datadir::remove(self.data_dir).await
    }

    /// Can the program be run at all? Asked before anything is removed.
    async fn program_works(&self) -> std::io::Result<()> {
        let mut command = self.bin.tool("pg_basebackup");
        command.arg("--version");
        binaries::output(command, Duration::from_secs(10)).await.map(|_| ())
    }

    /// Makes the copy, twice if need be. A data directory that is not empty is
    /// removed before each try and after the last failure.
    pub async fn run(&self) -> Created {
        let mut ended = Created::Kept;
        let log_error = |e: &dyn std::fmt::Display| {
            tracing::error!(
                target: "patroni.postgresql.bootstrap", "Error when fetching backup with pg_basebackup: {e}"
            );
        };
        if let Err(e) = self.program_works().await {
            log_error(&e);
            return ended;
        }
        let invocation = Invocation::new(self.argv()).envs(self.env);
        for attempt in 1..=TRIES {
            if self.cancel.is_cancelled() {
                return ended;
            }
            ended = Created::Failed;
            if let Err(e) = self.clear().await {
                log_error(&e);
                return ended;
            }
            tracing::debug!(target: "patroni.postgresql.bootstrap", "calling: {}", show(&invocation.argv));
            let mark = unfinished::begin(self.data_dir, Unfinished::Copy, None).await;
            let ran = self.once(&invocation).await;
            if ran.as_ref().is_ok_and(Finished::success) {
                mark.done().await;
                return Created::Done;
            }
            mark.broken_off().await;
            match ran {
                Ok(done) => tracing::error!(
                    target: "patroni.postgresql.bootstrap",
                    "Error when fetching backup: pg_basebackup exited with code={}", done.code
                ),
                Err(e) => log_error(&e),
            }
            if attempt < TRIES {
                tracing::warn!(target: "patroni.postgresql.bootstrap", "Trying again in 5 seconds");
                self.cancel.sleep(BACK_OFF).await;
            }
        }
        if let Err(e) = self.clear().await {
            log_error(&e);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let list = |items: &[&str]| Value::List(items.iter().map(|i| Value::from(*i)).collect());
        assert_eq!(allowed_options(&list(&["verbose", "gzip", "dbname"]), PgVersion::V15), ["--verbose"]);
        let mut map = Value::map();
        map.set("max-rate", "100M");
        map.set("compress", "server-zstd");
        assert_eq!(allowed_options(&map, PgVersion::V15), ["--max-rate=100M", "--compress=server-zstd"]);
        assert_eq!(allowed_options(&map, PgVersion::V14), ["--max-rate=100M"]);
        map.set("compress", "gzip");
        assert_eq!(allowed_options(&map, PgVersion::V17), ["--max-rate=100M"]);
        assert!(allowed_options(&Value::Null, PgVersion::V15).is_empty());
    }
}
