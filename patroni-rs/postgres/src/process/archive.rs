//! Running `archive_command` and `restore_command` ourselves, for WAL that the
//! server can no longer archive or fetch (surface-ha-pg 19-13, 19-15, 19-16).

use std::io;
use std::path::{Path, PathBuf};

use patroni_core::PgVersion;
use pyfmt::text::shlex_split;

use super::binaries::Binaries;
use super::blocking;
use super::cancellable::{Cancellable, Invocation};
use super::control::ControlData;
use super::probe;

/// The WAL directory of a data directory: `pg_wal`, before 10 `pg_xlog`.
pub fn wal_dir(data_dir: &Path, major_version: PgVersion) -> PathBuf {
    data_dir.join(if major_version.before(PgVersion::V10) { "pg_xlog" } else { "pg_wal" })
}

/// Fills the placeholders `%p %f %r %%` of a command; `%r` is always the first
/// segment of timeline 1, so that nothing is removed by it.
pub fn expand_command(template: &str, wal_dir: &Path, file: &str) -> String {
    let mut out = String::new();
    let mut chars = template.chars().peekable();
    while let Some(c) = chars.next() {
        let value = match chars.peek() {
            Some('p') if c == '%' => wal_dir.join(file).to_string_lossy().into_owned(),
            Some('f') if c == '%' => file.to_owned(),
            Some('r') if c == '%' => "000000010000000000000001".to_owned(),
            Some('%') if c == '%' => "%".to_owned(),
            _ => {
                out.push(c);
                continue;
            }
        };
        out.push_str(&value);
        chars.next();
    }
    out
}

/// `archive_command` when archiving is on.
pub async fn archive_command(bin: &Binaries, data_dir: &Path, config_file: &Path) -> Option<String> {
    let mode = probe::guc_value(bin, data_dir, config_file, "archive_mode").await?;
    let command = probe::guc_value(bin, data_dir, config_file, "archive_command").await?;
    (matches!(mode.as_str(), "on" | "always") && !command.is_empty()).then_some(command)
}

/// Is this the name of a `.ready` file for a segment? Returns the segment.
fn ready_segment(name: &str) -> Option<&str> {
    let segment = name.strip_suffix(".ready")?;
    let base = segment.strip_suffix(".partial").unwrap_or(segment);
    let hex = base.len() == 24 && base.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    hex.then_some(segment)
}

/// Segments that wait to be archived and are still there, in order.
fn ready_segments(wal_dir: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(wal_dir.join("archive_status"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        found.extend(ready_segment(&name).filter(|s| wal_dir.join(s).is_file()).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

/// Archives every segment marked `.ready` while the server is down, and marks it
/// `.done`. Failures are logged; the rest is still tried.
pub async fn archive_ready_wals(bin: &Binaries, cancel: &Cancellable, command: &str, wal_dir: &Path) {
    let dir = wal_dir.to_owned();
    let segments = match blocking::run(blocking::FILE_DEADLINE, move || ready_segments(&dir)).await {
        Ok(segments) => segments,
        Err(e) => {
            let status = wal_dir.join("archive_status");
            tracing::error!(target: "patroni.postgresql.rewind", "Unable to list {}: {e}", status.display());
            return;
        }
    };
    for segment in segments {
        let line = expand_command(command, wal_dir, &segment);
        tracing::info!(target: "patroni.postgresql.rewind", "Trying to archive {segment}: {line}");
        let done = cancel.call(bin, &Invocation::shell(line)).await;
        if !done.is_ok_and(|d| d.success()) {
            tracing::info!(target: "patroni.postgresql.rewind", "Failed to archive WAL segment {segment}");
            continue;
        }
        let status = wal_dir.join("archive_status");
        let (from, to) = (status.join(format!("{segment}.ready")), status.join(format!("{segment}.done")));
        let shown = format!("{} to {}", from.display(), to.display());
        if let Err(e) = blocking::run(blocking::FILE_DEADLINE, move || std::fs::rename(from, to)).await {
            tracing::error!(target: "patroni.postgresql.rewind", "Unable to rename {shown}: {e}");
        }
    }
}

/// Archives the segment with the shutdown checkpoint (demotion of a whole cluster,
/// surface-ha-pg 9.1-09).
pub async fn archive_shutdown_checkpoint(
    bin: &Binaries,
    cancel: &Cancellable,
    command: &str,
    wal_dir: &Path,
    control: &ControlData,
) {
    let Some(file) = control.redo_wal_file() else {
        tracing::error!(
            target: "patroni.postgresql.rewind", "Cannot extract latest checkpoint's WAL file name"
        );
        return;
    };
    let line = expand_command(command, wal_dir, file);
    let done = cancel.call(bin, &Invocation::shell(line)).await;
    if !done.is_ok_and(|d| d.success()) {
        tracing::error!(
            target: "patroni.postgresql.rewind", "Failed to archive WAL file with the shutdown checkpoint"
        );
    }
}

/// Fetches a segment with `restore_command` (without a shell).
pub async fn fetch_wal(
    bin: &Binaries,
    cancel: &Cancellable,
    command: &str,
    wal_dir: &Path,
    file: &str,
) -> bool {
    let line = expand_command(command, wal_dir, file);
    tracing::info!(target: "patroni.postgresql.rewind", "Trying to fetch the missing wal: {line}");
    let Ok(argv) = shlex_split(&line) else { return false };
    cancel.call(bin, &Invocation::new(argv)).await.is_ok_and(|d| d.success())
}

/// The segment that pg_rewind could not open, out of its output.
pub fn missing_wal(output: &str, major_version: PgVersion) -> Option<String> {
    let dir_end = if major_version.before(PgVersion::V10) { "/pg_xlog" } else { "/pg_wal" };
    output.lines().find_map(|line| {
        let path = line.split_once("could not open file \"")?.1.split_once("\": ")?.0;
        let (dir, file) = path.rsplit_once('/')?;
        (dir.ends_with(dir_end) && file.len() == 24).then(|| file.to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn placeholders() {
        let wal = Path::new("/d/pg_wal");
        let file = "000000020000000000000003";
        let cases = [
            ("cp %p /a/%f", "cp /d/pg_wal/000000020000000000000003 /a/000000020000000000000003"),
            ("x %r %% %x %", "x 000000010000000000000001 % %x %"),
            ("%%p", "%p"),
        ];
        for (template, want) in cases {
            assert_eq!(expand_command(template, wal, file), want);
        }
    }

    #[test]
    fn missing_segments() {
        let text =
            "x\ncould not open file \"/d/pg_wal/0000000A00006AA100000068\": No such file or directory\n";
        assert_eq!(missing_wal(text, PgVersion::V12).unwrap(), "0000000A00006AA100000068");
        assert_eq!(missing_wal(text, PgVersion::V9_6), None);
        assert_eq!(missing_wal("could not open file \"/d/global/1262\": No", PgVersion::V12), None);
    }

    #[tokio::test]
    async fn ready_wal_is_archived_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let status = dir.path().join("archive_status");
        std::fs::create_dir(&status).unwrap();
        let names =
            ["000000010000000000000002", "000000010000000000000001", "000000010000000000000003.partial"];
        for name in names {
            std::fs::write(dir.path().join(name), "wal").unwrap();
            std::fs::write(status.join(format!("{name}.ready")), "").unwrap();
        }
        std::fs::write(status.join("000000010000000000000009.ready"), "").unwrap();
        std::fs::write(status.join("00000002.history.ready"), "").unwrap();
        let log = dir.path().join("log");
        let command = format!("echo %f >> {}; test %f != 000000010000000000000002", log.display());
        archive_ready_wals(&Binaries::default(), &Cancellable::default(), &command, dir.path()).await;
        let order = std::fs::read_to_string(log).unwrap();
        assert_eq!(order.lines().collect::<Vec<_>>(), [names[1], names[0], names[2]]);
        assert!(status.join("000000010000000000000001.done").exists());
        assert!(status.join("000000010000000000000002.ready").exists());
    }
}
