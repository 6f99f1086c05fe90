//! Making a replica: the methods of `create_replica_methods` in order
//! (surface-ha-pg section 13).

use std::ffi::OsString;
use std::path::Path;

use patroni_core::ha::Unfinished;
use patroni_core::PgVersion;
use pyfmt::text::{shlex_split, SplitError};
use pyfmt::Value;
use tokio::sync::watch;

use super::basebackup::BaseBackup;
pub use super::basebackup::Created;
use super::binaries::{path_text, Binaries};
use super::blocking;
use super::cancellable::{CallError, Cancellable, Invocation};
use super::datadir;
use super::options::map_arguments;
use super::progress::CopyProgress;
use super::unfinished;
use crate::sql::{self, ConnParams};

/// The member that is copied from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Connection string, without password.
    pub dsn: String,
    /// `PGPASSFILE` and whatever else the connection needs.
    pub env: Vec<(OsString, OsString)>,
    /// The same for a connection of our own.
    pub params: ConnParams,
}

/// What is to be made.
#[derive(Debug)]
pub struct CreateReplica<'a> {
    /// Programs.
    pub bin: &'a Binaries,
    /// Cancel flag of the job.
    pub cancel: &'a Cancellable,
    /// PGDATA to make.
    pub data_dir: &'a Path,
    /// Cluster name.
    pub scope: &'a str,
    /// The configured methods; empty means pg_basebackup.
    pub methods: &'a [String],
    /// Only pg_basebackup (`reinit --from-leader`).
    pub basebackup_only: bool,
    /// The section `postgresql`: it holds the options of each method by name.
    pub config: &'a Value,
    /// Where to copy from; without it only `no_leader` methods are tried.
    pub source: Option<Source>,
    /// Version of the programs, 150004.
    pub version: PgVersion,
    /// Where the progress of pg_basebackup is published.
    pub progress: &'a watch::Sender<Option<CopyProgress>>,
}

/// The methods of the section `postgresql`, under their name of today or that of before 1.5; none means pg_basebackup.
pub fn configured_methods(config: &Value) -> Vec<String> {
    let list = |key| config.get(key).and_then(Value::as_list).filter(|l| !l.is_empty());
    let found = list("create_replica_methods").or_else(|| list("create_replica_method"));
    found.unwrap_or_default().iter().map(Value::py_str).collect()
}

/// The methods that have a section in `postgresql` and can work without a member to copy from.
pub fn methods_without_source(config: &Value) -> Vec<String> {
    let sections = config.as_map().into_iter().flatten().map(|(name, _)| name.py_str());
    sections.filter(|name| works_without_source(config, name)).collect()
}

/// Can a method work without a member to copy from?
pub fn works_without_source(config: &Value, method: &str) -> bool {
    method != "basebackup" && config.at(&[method, "no_leader"]).is_some_and(Value::truthy)
}

/// The command line of a custom method. The three flags are themselves passed
/// unless `no_params` is set (TRAP 13-05).
///
/// # Errors
/// The command cannot be split.
pub fn command(
    method: &str,
    options: &Value,
    scope: &str,
    data_dir: &Path,
    dsn: &str,
) -> Result<Vec<String>, SplitError> {
    let program = options.get("command").map_or_else(|| method.to_owned(), Value::py_str);
    let mut argv = shlex_split(&program)?;
    if options.get("no_params").is_some_and(Value::truthy) {
        argv.extend(map_arguments(options, &["command", "no_params", "no_leader", "keep_data"]));
        return Ok(argv);
    }
    let mut all = if options.as_map().is_some() { options.clone() } else { Value::map() };
    all.set("scope", scope);
    all.set("role", "replica");
    all.set("datadir", path_text(data_dir));
    all.set("connstring", dsn);
    argv.extend(map_arguments(&all, &["command"]));
    Ok(argv)
}

impl CreateReplica<'_> {
    fn methods(&self) -> Vec<&str> {
        let mut methods: Vec<&str> = self.methods.iter().map(String::as_str).collect();
        if methods.is_empty() || self.basebackup_only {
            methods = vec!["basebackup"];
        }
        if self.source.is_none() {
            methods.retain(|m| works_without_source(self.config, m));
        }
        methods
    }

    async fn is_empty(&self) -> std::io::Result<bool> {
        let dir = self.data_dir.to_owned();
        blocking::run(blocking::FILE_DEADLINE, move || datadir::is_empty(&dir)).await
    }

    /// Removes what is in the data directory, unless the method says `keep_data`.
    /// The flag holds with `no_params` too, where the reference forgets it and
    /// deletes the directory after a failure (TRAP 13-06).
    async fn clear(&self, keep_data: bool) -> std::io::Result<()> {
        if keep_data || self.is_empty().await? {
            return Ok(());
        }
        datadir::remove(self.data_dir).await
    }

    async fn custom(&self, method: &str, options: &Value) -> Created {
        let keep_data = options.get("keep_data").is_some_and(Value::truthy);
        if keep_data && !self.is_empty().await.unwrap_or(false) {
            tracing::info!(target: "patroni.postgresql.bootstrap", "Leaving data directory uncleaned");
        }
        let (dsn, env) = self.source.as_ref().map_or(("", &[][..]), |s| (s.dsn.as_str(), s.env.as_slice()));
        let run = async {
            self.clear(keep_data).await.map_err(|e| e.to_string())?;
            let argv = command(method, options, self.scope, self.data_dir, dsn).map_err(|e| e.to_string())?;
            let mark = unfinished::begin(self.data_dir, Unfinished::Copy, None).await;
            let done = self.cancel.call(self.bin, &Invocation::new(argv).envs(env)).await;
            match &done {
                Ok(done) if done.success() => mark.done().await,
                Err(CallError::Spawn(_) | CallError::Cancelled) => mark.never_began().await,
                _ => mark.broken_off().await,
            }
            done.map(|d| d.code).map_err(|e| e.to_string())
        };
        match run.await {
            Ok(0) => return Created::Done,
            Ok(code) => {
                let shown = options.get("command").map_or_else(|| method.to_owned(), Value::py_str);
                tracing::error!(
                    target: "patroni.postgresql.bootstrap",
                    "Error creating replica using method {method}: {shown} exited with code={code}"
                );
            }
            Err(e) => tracing::error!(
                target: "patroni.postgresql.bootstrap", "Error creating replica using method {method}: {e}"
            ),
        }
        if let Err(e) = self.clear(keep_data).await {
            tracing::error!(target: "patroni.postgresql.bootstrap", "Could not clean up after {method}: {e}");
        }
        if keep_data {
            Created::Kept
        } else {
            Created::Failed
        }
    }

    /// A copy replaces what is there, which may be the last copy of something: it is let go only
    /// for a source that answers.
    async fn may_replace(&self, source: &Source) -> Result<(), String> {
        if self.is_empty().await.map_err(|e| e.to_string())? {
            return Ok(());
        }
        sql::can_be_copied(&source.params)
            .await
            .map_err(|e| format!("{e}; the data directory {} is left as it is", self.data_dir.display()))
    }

    async fn basebackup(&self, source: &Source, options: &Value) -> Created {
        if let Err(e) = self.may_replace(source).await {
            tracing::error!(
                target: "patroni.postgresql.bootstrap", "Error when fetching backup with pg_basebackup: {e}"
            );
            return Created::Kept;
        }
        let backup = BaseBackup {
            bin: self.bin,
            cancel: self.cancel,
            data_dir: self.data_dir,
            dsn: &source.dsn,
            env: &source.env,
            options,
            version: self.version,
            progress: self.progress,
        };
        backup.run().await
    }

    /// Tries the methods in order until one succeeds. When the data directory is complete the
    /// caller restores the configuration files and follows.
    pub async fn run(&self) -> Created {
        let mut ended = Created::Kept;
        for method in self.methods() {
            if self.cancel.is_cancelled() {
                break;
            }
            let options = self.config.get(method).filter(|o| o.truthy()).unwrap_or(&Value::Null);
            let created = match (&self.source, method) {
                (Some(source), "basebackup") => self.basebackup(source, options).await,
                _ => self.custom(method, options).await,
            };
            match created {
                Created::Done => {
                    tracing::info!(
                        target: "patroni.postgresql.bootstrap", "replica has been created using {method}"
                    );
                    return Created::Done;
                }
                other => ended = other,
            }
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(options: &[(&str, Value)]) -> Value {
        let mut method = Value::map();
        for (k, v) in options {
            method.set(k, v.clone());
        }
        let mut out = Value::map();
        out.set("copy", method);
        out
    }

    #[test]
    fn arguments_of_custom_methods() {
        let all = config(&[("command", "cp.sh -x".into()), ("no_leader", 1.into()), ("a", "b".into())]);
        let argv = command("copy", all.get("copy").unwrap(), "s", Path::new("/d"), "host=x").unwrap();
        assert_eq!(
            argv,
            [
                "cp.sh",
                "-x",
                "--no_leader=1",
                "--a=b",
                "--scope=s",
                "--role=replica",
                "--datadir=/d",
                "--connstring=host=x"
            ]
        );
        let bare = config(&[("no_params", true.into()), ("keep_data", true.into()), ("a", "b".into())]);
        let argv = command("copy", bare.get("copy").unwrap(), "s", Path::new("/d"), "").unwrap();
        assert_eq!(argv, ["copy", "--a=b"]);
        assert!(works_without_source(&all, "copy") && !works_without_source(&bare, "copy"));
    }

    #[test]
    fn methods_under_both_names() {
        let list = |names: &[&str]| Value::List(names.iter().map(|n| Value::from(*n)).collect());
        let mut all = config(&[("no_leader", true.into())]);
        assert_eq!(methods_without_source(&all), ["copy"]);
        assert!(configured_methods(&all).is_empty());
        all.set("create_replica_method", list(&["old"]));
        assert_eq!(configured_methods(&all), ["old"]);
        all.set("create_replica_methods", list(&[]));
        assert_eq!(configured_methods(&all), ["old"]);
        all.set("create_replica_methods", list(&["new"]));
        assert_eq!(configured_methods(&all), ["new"]);
    }

    #[tokio::test]
    async fn data_is_kept_or_removed_as_asked() {
        let progress = watch::Sender::new(None);
        let (bin, cancel) = (Binaries::default(), Cancellable::default());
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let run = async |options: &[(&str, Value)]| {
            std::fs::create_dir_all(&data).unwrap();
            std::fs::write(data.join("PG_VERSION"), "15").unwrap();
            let create = CreateReplica {
                bin: &bin,
                cancel: &cancel,
                data_dir: &data,
                scope: "s",
                methods: &["copy".to_owned()],
                basebackup_only: false,
                config: &config(options),
                source: None,
                version: PgVersion::V15,
                progress: &progress,
            };
            (create.run().await, data.exists())
        };
        let keep = ("keep_data", Value::Bool(true));
        let alone = ("no_leader", Value::Bool(true));
        let fails = ("command", Value::from("false"));
        // With no source and no `no_leader`, nothing is tried or touched.
        assert_eq!(run(std::slice::from_ref(&fails)).await, (Created::Kept, true));
        assert_eq!(run(&[alone.clone(), fails.clone(), keep.clone()]).await, (Created::Kept, true));
        let bare = ("no_params", Value::Bool(true));
        assert_eq!(run(&[alone.clone(), fails.clone(), keep, bare]).await, (Created::Kept, true));
        assert_eq!(run(&[alone.clone(), fails]).await, (Created::Failed, false));
        assert_eq!(run(&[alone, ("command", Value::from("true"))]).await, (Created::Done, false));
    }
}
