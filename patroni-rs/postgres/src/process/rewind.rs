//! Finding out whether this node must be rewound (`diverged`), and rewinding it
//! (surface-ha-pg section 19). The decisions are `patroni_core::rewind`.

mod diverged;

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use patroni_core::ha::Unfinished;
use patroni_core::rewind::RewindAttempt;
use patroni_core::PgVersion;

use super::archive;
use super::binaries::{self, path_text, Binaries};
use super::blocking;
use super::cancellable::{Cancellable, Finished, Invocation};
use super::control::ControlReader;
use super::datadir;
use super::evidence;
use super::postmaster::Postmaster;
use super::unfinished;
use diverged::is_namesake;
pub use diverged::{local_position, needed, RewindLeader};

/// Can pg_rewind be used: is the program there, and does pg_control allow it (19-02)?
pub async fn possible(bin: &Binaries, control: &ControlReader) -> bool {
    let mut command = bin.tool("pg_rewind");
    command.arg("--help");
    let help = binaries::output(command, Duration::from_secs(10)).await;
    help.is_ok_and(|out| out.status.success()) && control.read().await.is_ok_and(|data| data.allows_rewind())
}

/// What a run of pg_rewind has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ran {
    Done,
    /// It failed before it wrote anything.
    InVain,
    BrokenOff,
}

/// What pg_rewind needs.
#[derive(Debug)]
pub struct RewindRequest<'a> {
    /// Programs.
    pub bin: &'a Binaries,
    /// Cancel flag of the job.
    pub cancel: &'a Cancellable,
    /// pg_control.
    pub control: &'a ControlReader,
    /// PGDATA.
    pub data_dir: &'a Path,
    /// The `postgresql.conf` in use.
    pub config_file: &'a Path,
    /// Major version.
    pub major_version: PgVersion,
    /// Name of the leader, for the log.
    pub leader_name: &'a str,
    /// Connection string of the leader, without password.
    pub dsn: &'a str,
    /// `PGPASSFILE` and whatever else the connection needs.
    pub env: &'a [(OsString, OsString)],
    /// `restore_command`, if set.
    pub restore_command: Option<&'a str>,
    /// `archive_command`, if archiving is on.
    pub archive_command: Option<&'a str>,
}

impl RewindRequest<'_> {
    /// Is the configuration outside of the data directory (as on Debian)?
    fn config_elsewhere(&self) -> bool {
        self.config_file.parent() != Some(self.data_dir)
    }

    /// Can pg_rewind itself run `restore_command`? From 13 on with postgresql.conf in
    /// the data directory, from 15 on anywhere.
    fn rewind_restores(&self) -> bool {
        self.restore_command.is_some()
            && (self.major_version.at_least(PgVersion::V15)
                || (self.major_version.at_least(PgVersion::V13) && !self.config_elsewhere()))
    }

    /// The command line (19-14).
    fn argv(&self) -> Vec<String> {
        let mut argv = vec![self.bin.text("pg_rewind")];
        if self.rewind_restores() {
            argv.push("--restore-target-wal".into());
            if self.config_elsewhere() {
                argv.push(format!("--config-file={}", self.config_file.display()));
            }
        }
        argv.extend(["-D".into(), path_text(self.data_dir), "--source-server".into(), self.dsn.into()]);
        argv
    }

    async fn once(&self, invocation: &Invocation) -> Option<Finished> {
        let done = self.cancel.call(self.bin, invocation).await.ok();
        let code = done.as_ref().map_or("None".to_owned(), |d| d.code.to_string());
        tracing::info!(target: "patroni.postgresql.rewind", "pg_rewind exit code={code}");
        let done = done?;
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        tracing::info!(target: "patroni.postgresql.rewind", " stdout={}", text(&done.stdout));
        tracing::info!(target: "patroni.postgresql.rewind", " stderr={}", text(&done.stderr));
        Some(done)
    }

    /// Fetches the segment that a failed run asked for; `false` ends the tries.
    async fn fetch_missing(&self, done: &Finished, fetched: &mut Vec<String>) -> bool {
        let Some(command) = self.restore_command.filter(|_| !self.rewind_restores()) else { return false };
        let find = |b: &[u8]| archive::missing_wal(&String::from_utf8_lossy(b), self.major_version);
        let Some(file) = find(&done.stderr).or_else(|| find(&done.stdout)) else { return false };
        // A restore_command that reports success without a file would loop forever.
        if fetched.contains(&file) {
            return false;
        }
        let wal_dir = archive::wal_dir(self.data_dir, self.major_version);
        let ok = archive::fetch_wal(self.bin, self.cancel, command, &wal_dir, &file).await;
        if !ok {
            tracing::info!(
                target: "patroni.postgresql.rewind", "Failed to fetch WAL segment {file} required for pg_rewind"
            );
        }
        fetched.push(file);
        ok
    }

    /// Runs pg_rewind. A mark beside the data tells that it has not ended; it stays when pg_rewind fails after it has
    /// begun to write.
    async fn marked(&self) -> Ran {
        let control = self.control.read().await.ok();
        let mark = unfinished::begin(self.data_dir, Unfinished::Rewind, control.as_deref()).await;
        let before = self.footprint().await;
        if self.pg_rewind().await {
            mark.done().await;
            return Ran::Done;
        }
        if before.is_some() && before == self.footprint().await {
            mark.never_began().await;
            return Ran::InVain;
        }
        mark.broken_off().await;
        tracing::error!(
            target: "patroni.postgresql.rewind",
            "pg_rewind was broken off half way: the data directory needs to be reinitialized"
        );
        Ran::BrokenOff
    }

    /// What pg_rewind changes first: in the order of their names it makes the files that only the source has and
    /// truncates those that are no relations, so the directories of the databases and their maps come before everything
    /// else that counts. None: they cannot be read.
    async fn footprint(&self) -> Option<Vec<(PathBuf, i64, i64)>> {
        let dir = self.data_dir.to_owned();
        let look = move || {
            let mut paths = vec![dir.join("global"), dir.join("global/pg_filenode.map"), dir.join("base")];
            for entry in std::fs::read_dir(dir.join("base"))? {
                let path = entry?.path();
                paths.extend([path.join("pg_filenode.map"), path]);
            }
            paths.sort();
            let times = |path: PathBuf| match std::fs::symlink_metadata(&path) {
                Ok(meta) => Ok(Some((path, meta.ctime(), meta.ctime_nsec()))),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            };
            paths.into_iter().filter_map(|path| times(path).transpose()).collect()
        };
        blocking::run(blocking::FILE_DEADLINE, look).await.ok()
    }

    /// Runs pg_rewind until it succeeds or no missing WAL can be fetched.
    pub async fn pg_rewind(&self) -> bool {
        tracing::info!(target: "patroni.postgresql.rewind", "running pg_rewind from {}", self.dsn);
        let invocation = Invocation::new(self.argv())
            .envs(self.env)
            .env("LANG", "C")
            .env("LC_ALL", "C")
            .env("PGOPTIONS", "-c statement_timeout=0")
            .capture();
        let mut fetched = Vec::new();
        loop {
            let Some(done) = self.once(&invocation).await else { return false };
            if done.success() {
                return true;
            }
            if !self.fetch_missing(&done, &mut fetched).await {
                return false;
            }
        }
    }

    /// Waits for the leader to be usable; `false`: not now.
    async fn leader_ready(&self, checkpoint_after_promote: Option<bool>, leader: &impl RewindLeader) -> bool {
        match checkpoint_after_promote {
            None => match leader.ensure_checkpoint().await {
                Ok(()) => true,
                Err(reason) => {
                    tracing::warn!(
                        target: "patroni.postgresql.rewind", "Can not use {} for rewind: {reason}", self.leader_name
                    );
                    false
                }
            },
            Some(false) => {
                tracing::info!(
                    target: "patroni.postgresql.rewind", "Waiting for checkpoint on {} before rewind", self.leader_name
                );
                false
            }
            Some(true) => leader.is_primary().await,
        }
    }

    /// Rewinds a stopped node (19-13 to 19-18). `checkpoint_after_promote` is what the
    /// leader's member key says; `None` for remote members and old versions.
    pub async fn execute(
        &self,
        checkpoint_after_promote: Option<bool>,
        leader: &impl RewindLeader,
    ) -> RewindAttempt {
        let unused = matches!(Postmaster::find(self.data_dir).await, Ok(None))
            && evidence::ensure_unused(self.data_dir).await.is_ok();
        if !unused {
            tracing::warn!(
                target: "patroni.postgresql.rewind", "Can not run pg_rewind because postgres is still running"
            );
            return RewindAttempt::Postponed;
        }
        if let Some(command) = self.archive_command {
            let wal_dir = archive::wal_dir(self.data_dir, self.major_version);
            archive::archive_ready_wals(self.bin, self.cancel, command, &wal_dir).await;
        }
        if !self.leader_ready(checkpoint_after_promote, leader).await {
            return RewindAttempt::Postponed;
        }
        if self.is_in_vain(leader).await {
            return RewindAttempt::Failed;
        }
        let ran = self.marked().await;
        if ran == Ran::Done {
            self.clean_replslot().await;
            return RewindAttempt::Succeeded;
        }
        let healthy = leader.is_primary().await;
        if healthy {
            tracing::error!(
                target: "patroni.postgresql.rewind", "Failed to rewind from healthy primary: {}", self.leader_name
            );
        } else {
            tracing::warn!(
                target: "patroni.postgresql.rewind",
                "Failed to rewind because primary {} become unreachable", self.leader_name
            );
        }
        match ran {
            Ran::BrokenOff => RewindAttempt::BrokenOff,
            _ if healthy => RewindAttempt::Failed,
            _ => RewindAttempt::LeaderLost { still_possible: possible(self.bin, self.control).await },
        }
    }

    /// Would pg_rewind take the leader's timeline for ours?
    async fn is_in_vain(&self, leader: &impl RewindLeader) -> bool {
        let control = self.control.read().await.ok();
        let Some(local) = control.and_then(|control| local_position(&control)) else { return false };
        let Some(primary) = leader.timeline().await.filter(|primary| *primary == local.timeline) else {
            return false;
        };
        is_namesake(self.data_dir, self.major_version, local.timeline, primary, leader).await
    }

    /// Before 11 pg_rewind copies the leader's slots along: they are removed (19-17).
    async fn clean_replslot(&self) {
        if self.major_version.at_least(PgVersion::V11) {
            return;
        }
        let dir = self.data_dir.join("pg_replslot");
        let shown = dir.display().to_string();
        let work = move || {
            for entry in std::fs::read_dir(&dir)? {
                std::fs::remove_dir_all(entry?.path())?;
            }
            std::fs::File::open(&dir)?.sync_all()
        };
        if let Err(e) = blocking::run(blocking::FILE_DEADLINE, work).await {
            tracing::warn!(target: "patroni.postgresql.rewind", "Unable to clean {shown}: {e}");
        }
    }
}

/// After a failed rewind (19-19): removes the data directory when one of the two
/// settings says so. `true` when it was removed; the state is then `Initial`.
pub async fn remove_after_failure(data_dir: &Path, on_failure: bool, on_divergence: bool) -> bool {
    let name = match (on_failure, on_divergence) {
        (true, _) => "remove_data_directory_on_rewind_failure",
        (false, true) => "remove_data_directory_on_diverged_timelines",
        (false, false) => return false,
    };
    tracing::warn!(target: "patroni.postgresql.rewind", "{name} is set. removing...");
    datadir::remove(data_dir).await.is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Told {
        primary: bool,
        checkpoint: Result<(), String>,
    }

    impl RewindLeader for Told {
        async fn is_primary(&self) -> bool {
            self.primary
        }
        async fn ensure_checkpoint(&self) -> Result<(), String> {
            self.checkpoint.clone()
        }
        async fn timeline(&self) -> Option<u32> {
            None
        }
        async fn timeline_history(&self, _: u32) -> Option<String> {
            None
        }
    }

    /// pg_rewind goes by the source's control file, which names the new timeline only after a checkpoint; and a source
    /// that is no primary (any more) has nothing to say.
    #[tokio::test]
    async fn a_source_is_ready_when_it_is_a_primary_with_a_checkpoint() {
        let (bin, cancel) = (Binaries::new("/bin"), Cancellable::default());
        let control = ControlReader::new(bin.clone(), "/data");
        let request = RewindRequest {
            bin: &bin,
            cancel: &cancel,
            control: &control,
            data_dir: Path::new("/data"),
            config_file: Path::new("/data/postgresql.conf"),
            major_version: PgVersion::V15,
            leader_name: "n2",
            dsn: "host=h",
            env: &[],
            restore_command: None,
            archive_command: None,
        };
        for (published, primary, checkpoint, ready) in [
            // Its member key says that the checkpoint is there.
            (Some(true), true, Err("not asked"), true),
            (Some(true), false, Ok(()), false),
            (Some(false), true, Ok(()), false),
            // It does not say: a remote server, or an old version.
            (None, true, Ok(()), true),
            (None, true, Err("no CHECKPOINT"), false),
            (None, false, Err("in recovery"), false),
        ] {
            let leader = Told { primary, checkpoint: checkpoint.map_err(str::to_owned) };
            let found = request.leader_ready(published, &leader).await;
            assert_eq!(found, ready, "{published:?} {primary} {:?}", leader.checkpoint);
        }
    }

    /// A server with a statement_timeout would end the copy of a large file.
    #[tokio::test]
    async fn no_statement_timeout_ends_pg_rewind() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("pg_rewind");
        std::fs::write(&program, "#!/bin/sh\nprintf '%s' \"$PGOPTIONS\" > \"$2/options\"\n").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let (bin, cancel) = (Binaries::new(dir.path()), Cancellable::default());
        let control = ControlReader::new(bin.clone(), dir.path());
        let request = RewindRequest {
            bin: &bin,
            cancel: &cancel,
            control: &control,
            data_dir: dir.path(),
            config_file: &dir.path().join("postgresql.conf"),
            major_version: PgVersion::V15,
            leader_name: "n2",
            dsn: "host=h",
            env: &[],
            restore_command: None,
            archive_command: None,
        };
        assert!(request.pg_rewind().await);
        let options = std::fs::read_to_string(dir.path().join("options")).unwrap();
        assert_eq!(options, "-c statement_timeout=0");
    }

    /// Who fetches WAL that the target has recycled: pg_rewind, where it can find restore_command, or we.
    #[test]
    fn restore_command_and_files_elsewhere() {
        let (bin, cancel) = (Binaries::new("/bin"), Cancellable::default());
        let control = ControlReader::new(bin.clone(), "/data");
        let inside = ["--restore-target-wal"].as_slice();
        let elsewhere = ["--restore-target-wal", "--config-file=/etc/pg/postgresql.conf"].as_slice();
        for (version, config_file, restores, want) in [
            (PgVersion::V12, "/data/postgresql.conf", true, [].as_slice()),
            (PgVersion::V13, "/data/postgresql.conf", true, inside),
            (PgVersion::V13, "/etc/pg/postgresql.conf", true, &[]),
            (PgVersion::V14, "/etc/pg/postgresql.conf", true, &[]),
            (PgVersion::V15, "/data/postgresql.conf", true, inside),
            (PgVersion::V15, "/etc/pg/postgresql.conf", true, elsewhere),
            (PgVersion::V18, "/etc/pg/postgresql.conf", true, elsewhere),
            (PgVersion::V18, "/etc/pg/postgresql.conf", false, &[]),
        ] {
            let request = RewindRequest {
                bin: &bin,
                cancel: &cancel,
                control: &control,
                data_dir: Path::new("/data"),
                config_file: Path::new(config_file),
                major_version: version,
                leader_name: "n2",
                dsn: "host=h",
                env: &[],
                restore_command: restores.then_some("cp /archive/%f %p"),
                archive_command: None,
            };
            let head = ["/bin/pg_rewind"].as_slice();
            let tail = ["-D", "/data", "--source-server", "host=h"].as_slice();
            assert_eq!(request.argv(), [head, want, tail].concat(), "{version} {config_file}");
        }
    }
}
