//! Crash recovery in single-user mode, so that a crashed server is cleanly shut
//! down before pg_rewind looks at it (surface-ha-pg 10-14).

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::archive;
use super::binaries::{path_text, Binaries};
use super::blocking;
use super::cancellable::{Cancellable, Invocation};
use super::postmaster::Postmaster;
use super::proc;

/// An init that is slow to reap gets this long.
const REAPED_WITHIN: Duration = Duration::from_secs(5);

/// The options of the last start, out of `postmaster.opts`: the `--name=value` ones.
pub fn parse_postmaster_opts(text: &str) -> BTreeMap<String, String> {
    let options = text.split("\" \"").filter(|o| o.starts_with("--"));
    let pairs = options.filter_map(|o| o.split_once('='));
    pairs.map(|(k, v)| (k.trim_matches('-').to_owned(), v.trim_end_matches(['"', '\n']).to_owned())).collect()
}

/// The command line of the single-user server, options sorted by name. Archiving is
/// on with a command that fails, so that no WAL is taken for archived.
pub fn command(bin: &Binaries, data_dir: &Path, mut options: BTreeMap<String, String>) -> Vec<String> {
    options.insert("archive_mode".into(), "on".into());
    options.insert("archive_command".into(), "false".into());
    let mut argv = vec![bin.text("postgres"), "--single".into(), "-D".into(), path_text(data_dir)];
    for (name, value) in options {
        argv.extend(["-c".to_owned(), format!("{name}={value}")]);
    }
    argv.push("template1".into());
    argv
}

/// Deletes the files and links in `archive_status`.
fn clean_archive_status(wal_dir: &Path) -> io::Result<()> {
    let dir = wal_dir.join("archive_status");
    for entry in fs_entries(&dir)? {
        let kind = entry.file_type()?;
        if kind.is_dir() {
            continue;
        }
        if let Err(e) = std::fs::remove_file(entry.path()) {
            tracing::error!(
                target: "patroni.postgresql.rewind", "Unable to remove {}: {e}", entry.path().display()
            );
        }
    }
    Ok(())
}

fn fs_entries(dir: &Path) -> io::Result<Vec<std::fs::DirEntry>> {
    std::fs::read_dir(dir)?.collect()
}

/// Step 1: archives what waits to be archived (`archive_command`, when archiving is
/// on), then empties `archive_status`. The caller then removes the recovery
/// configuration and runs [`run_single_user`].
pub async fn prepare(bin: &Binaries, cancel: &Cancellable, archive_command: Option<&str>, wal_dir: &Path) {
    if let Some(command) = archive_command {
        archive::archive_ready_wals(bin, cancel, command, wal_dir).await;
    }
    let dir = wal_dir.to_owned();
    if let Err(e) = blocking::run(blocking::FILE_DEADLINE, move || clean_archive_status(&dir)).await {
        let dir = wal_dir.join("archive_status");
        tracing::error!(target: "patroni.postgresql.rewind", "Unable to list {}: {e}", dir.display());
    }
}

/// Step 2: starts the server in single-user mode with no input, so that it
/// recovers and stops cleanly. `true` when it did.
pub async fn run_single_user(bin: &Binaries, cancel: &Cancellable, data_dir: &Path) -> bool {
    let dir = data_dir.to_owned();
    let read =
        move || Ok((std::fs::read_to_string(dir.join("postmaster.opts"))?, Postmaster::stale_pid(&dir)));
    let (text, stale) = blocking::run(blocking::FILE_DEADLINE, read).await.unwrap_or_else(|e| {
        tracing::error!(target: "patroni.postgresql.rewind", "Error when reading postmaster.opts: {e}");
        (String::new(), None)
    });
    let argv = command(bin, data_dir, parse_postmaster_opts(&text));
    let mut invocation = Invocation::new(argv).capture();
    if let Some(pid) = stale {
        invocation = invocation.env("PG_GRANDPARENT_PID", pid.to_string());
    }
    // Recovery of much WAL takes long: no deadline, but it can be cancelled.
    let called = cancel.call(bin, &invocation).await;
    if let Some(pid) = stale {
        wait_until_reaped(pid).await;
    }
    match called {
        Ok(done) if done.success() => true,
        Ok(done) => {
            let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
            tracing::error!(
                target: "patroni.postgresql.rewind", "Crash recovery finished with code={}", done.code
            );
            tracing::info!(target: "patroni.postgresql.rewind", " stdout={}", text(&done.stdout));
            tracing::info!(target: "patroni.postgresql.rewind", " stderr={}", text(&done.stderr));
            false
        }
        Err(e) => {
            tracing::error!(target: "patroni.postgresql.rewind", "Crash recovery could not run: {e}");
            false
        }
    }
}

/// A postmaster that was killed may still be a zombie. `postmaster.pid`, by which
/// a start is told to ignore it, is gone after the recovery; the lock file of its
/// socket is not, and would make the start fail.
async fn wait_until_reaped(pid: i32) {
    let deadline = tokio::time::Instant::now() + REAPED_WITHIN;
    while proc::stat(pid).is_some_and(|s| s.is_zombie()) && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_last_start() {
        let text = "/usr/bin/postgres \"-D\" \"/d\" \"--config-file=/d/postgresql.conf\" \"--port=5432\" \
                    \"--cluster_name=bat man\"\n";
        let options = parse_postmaster_opts(text);
        let argv = command(&Binaries::new("/b"), Path::new("/d"), options);
        assert_eq!(
            argv.join(" "),
            "/b/postgres --single -D /d -c archive_command=false -c archive_mode=on \
             -c cluster_name=bat man -c config-file=/d/postgresql.conf -c port=5432 template1"
        );
    }
}
