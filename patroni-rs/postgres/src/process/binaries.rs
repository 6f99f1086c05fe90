//! Where the PostgreSQL programs are and how a process for one is prepared.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;

use indexmap::IndexMap;
use patroni_core::mutex::locked;
use tokio::process::Command;

/// `postgresql.krbsrvname`: part of the environment of every child, as of the whole process in the reference.
static KRBSRVNAME: Mutex<Option<String>> = Mutex::new(None);

/// Takes the Kerberos service name that libpq finds in every child from now on.
pub fn set_krbsrvname(name: Option<&str>) {
    *locked(&KRBSRVNAME) = name.map(str::to_owned);
}

/// Adds it to a command's environment.
pub(super) fn with_krbsrvname(command: &mut std::process::Command) {
    if let Some(name) = &*locked(&KRBSRVNAME) {
        command.env("PGKRBSRVNAME", name);
    }
}

/// `postgresql.bin_dir` and `postgresql.bin_name`.
#[derive(Debug, Clone, Default)]
pub struct Binaries {
    /// The directory of the programs; empty means a search through `PATH`.
    pub dir: PathBuf,
    /// Names given by the user for some programs (`bin_name`).
    pub names: IndexMap<String, String>,
    /// Tests run as root: the user and group that PostgreSQL runs as.
    #[cfg(test)]
    pub run_as: Option<(u32, u32)>,
}

impl Binaries {
    /// Programs in `dir` under their usual names.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Binaries { dir: dir.into(), ..Default::default() }
    }

    /// The path of a program, by its usual name such as `pg_ctl`.
    pub fn path(&self, name: &str) -> PathBuf {
        let file = self.names.get(name).map_or(name, String::as_str);
        self.dir.join(file)
    }

    /// The same path as text, for command lines that are logged.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// A command for an arbitrary program, with the daemon's environment and no
    /// standard input.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        with_krbsrvname(command.as_std_mut());
        #[cfg(test)]
        if let Some((uid, gid)) = self.run_as {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// A command for one of the PostgreSQL programs.
    pub fn tool(&self, name: &str) -> Command {
        self.command(self.path(name))
    }
}

/// Runs a short tool to its end with captured output. The process is killed
/// when the deadline passes or the future is dropped.
///
/// # Errors
/// The error of `spawn`, or `TimedOut` after `timeout`.
pub async fn output(mut command: Command, timeout: Duration) -> std::io::Result<std::process::Output> {
    command.kill_on_drop(true);
    match tokio::time::timeout(timeout, command.output()).await {
        Ok(result) => result,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// The environment for tools whose output is parsed: untranslated messages.
pub fn c_locale(command: &mut Command) -> &mut Command {
    command.env("LANG", "C").env("LC_ALL", "C")
}

/// `path` as text, for arguments and log lines.
pub fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn every_child_has_the_kerberos_service_name() {
        let seen = || async {
            let mut command = Binaries::default().command("sh");
            command.args(["-c", "echo $PGKRBSRVNAME"]);
            String::from_utf8(output(command, Duration::from_secs(10)).await.unwrap().stdout).unwrap()
        };
        set_krbsrvname(Some("pg"));
        assert_eq!(seen().await, "pg\n");
        set_krbsrvname(None);
        assert_eq!(seen().await, std::env::var("PGKRBSRVNAME").unwrap_or_default() + "\n");
    }
}
