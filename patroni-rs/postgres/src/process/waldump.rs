//! What `pg_waldump` (before 10: `pg_xlogdump`) says about single WAL records:
//! the record before a shutdown checkpoint (surface-ha-pg 9.1-08) and the end of
//! the checkpoint record (19-10).

use std::io;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;

use super::binaries::{self, Binaries};
use super::control::ControlData;
use super::probe;
use patroni_core::cluster_state::ClusterState;
use patroni_core::model::{Lsn, ShutdownCheckpoint};
use patroni_core::PgVersion;

/// How long reading two records may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// One record, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRecord {
    /// Resource manager, such as `XLOG`.
    pub rmgr: String,
    /// Where it starts.
    pub lsn: Lsn,
    /// Where the record before it starts.
    pub prev: Lsn,
    /// Description.
    pub desc: String,
}

static RECORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(concat!(
        r"^rmgr:\s+(.+?)\s+len \(rec/tot\):\s+(?-u:\d)+/\s+(?-u:\d)+, tx:\s+(?-u:\d)+, ",
        r"lsn: ([0-9A-Fa-f]+/[0-9A-Fa-f]+), prev ([0-9A-Fa-f]+/[0-9A-Fa-f]+), .*?desc: (.+)"
    ))
    .ok()
});

/// Parses the first line of the output.
pub fn parse_record(output: &str) -> Option<WalRecord> {
    let found = RECORD.as_ref()?.captures(output)?;
    let group = |i: usize| found.get(i).map(|m| m.as_str());
    Some(WalRecord {
        rmgr: group(1)?.to_owned(),
        lsn: Lsn::parse(group(2)?)?,
        prev: Lsn::parse(group(3)?)?,
        desc: group(4)?.trim().to_owned(),
    })
}

/// Runs the program for `limit` records from `lsn`.
///
/// # Errors
/// When it cannot be run or does not answer in time.
pub async fn dump(
    bin: &Binaries,
    data_dir: &Path,
    timeline: u32,
    lsn: Lsn,
    limit: u32,
) -> io::Result<(String, String)> {
    let name =
        if probe::data_dir_version(data_dir).await.is_some_and(|version| version.before(PgVersion::V10)) {
            "pg_xlogdump"
        } else {
            "pg_waldump"
        };
    let mut command = bin.tool(name);
    binaries::c_locale(&mut command).env("PGDATA", data_dir);
    let lsn = lsn.text();
    command.args(["-t", &timeline.to_string(), "-s", &lsn, "-n", &limit.to_string()]);
    let out = binaries::output(command, DEADLINE).await.inspect_err(|e| {
        let path = bin.text(name);
        tracing::error!(
            target: "patroni.postgresql", "Failed to execute `{path} -t {timeline} -s {lsn} -n {limit}`: {e}"
        );
    })?;
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    Ok((text(&out.stdout), text(&out.stderr)))
}

async fn record_at(bin: &Binaries, data_dir: &Path, timeline: u32, lsn: Lsn) -> Option<WalRecord> {
    let (out, err) = dump(bin, data_dir, timeline, lsn, 1).await.ok()?;
    if err.is_empty() {
        parse_record(&out)
    } else {
        None
    }
}

/// Is this the description of a shutdown checkpoint?
fn is_shutdown_checkpoint(record: &WalRecord, lsn: Lsn) -> bool {
    let desc = record.desc.to_lowercase();
    record.rmgr == "XLOG" && record.lsn == lsn && desc.starts_with("checkpoint") && desc.ends_with("shutdown")
}

/// The shutdown checkpoint of a primary; `None` unless pg_control says `shut down`.
pub async fn checkpoint_locations(
    bin: &Binaries,
    data_dir: &Path,
    control: &ControlData,
) -> Option<ShutdownCheckpoint> {
    if control.state() != ClusterState::ShutDown {
        return None;
    }
    let (timeline, checkpoint) = (control.timeline()?, control.checkpoint_lsn()?);
    let mut found = ShutdownCheckpoint { location: checkpoint, publish: checkpoint };
    let Some(record) = record_at(bin, data_dir, timeline, checkpoint).await else { return Some(found) };
    if is_shutdown_checkpoint(&record, checkpoint) {
        let before = record_at(bin, data_dir, timeline, record.prev).await;
        // Texts of versions up to 9.4 and of later ones.
        if before.is_some_and(|b| b.lsn == record.prev && matches!(b.desc.as_str(), "xlog switch" | "SWITCH"))
        {
            found.publish = record.prev;
        }
    }
    Some(found)
}

/// Reads where the checkpoint record at `lsn` ends out of the answer to a request
/// for two records: the second one does not exist, and the error says where it
/// should have begun.
pub fn parse_checkpoint_end(out: &str, err: &str, lsn: Lsn) -> Option<Lsn> {
    let (out, err) = (out.trim_end(), err.trim_end());
    if out.contains('\n') || err.contains('\n') || !out.contains(&format!(", lsn: {}, prev ", lsn.padded())) {
        return None;
    }
    // The positions are padded from 19 on.
    let (at, rest) =
        err.split_once("error in WAL record at ")?.1.split_once(": invalid record length at ")?;
    if Lsn::parse(at) != Some(lsn) {
        return None;
    }
    // From 16, before 16, up to 9.5.
    let end = [": expected at least ", ": wanted "].iter().find_map(|sign| rest.split_once(sign));
    Lsn::parse(end.map_or(rest, |(lsn, _)| lsn))
}

/// Where the checkpoint record at `lsn` ends; `None` (logged) when that cannot be
/// found out.
pub async fn checkpoint_end(bin: &Binaries, data_dir: &Path, timeline: u32, lsn: Lsn) -> Option<Lsn> {
    let (out, err) = dump(bin, data_dir, timeline, lsn, 2).await.ok()?;
    let end = parse_checkpoint_end(&out, &err, lsn);
    if end.is_none() {
        tracing::error!(target: "patroni.postgresql.rewind", "Failed to parse pg_waldump output");
        tracing::error!(target: "patroni.postgresql.rewind", " stdout={}", out.trim_end());
        tracing::error!(target: "patroni.postgresql.rewind", " stderr={}", err.trim_end());
    }
    end
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LINE: &str = "rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/0182E220, \
                        prev 0/0182E1F0, desc: CHECKPOINT_SHUTDOWN redo 0/182E220; tli 1; shutdown\n";

    #[test]
    fn records() {
        let record = parse_record(LINE).unwrap();
        assert_eq!((record.lsn, record.prev), (Lsn::new(0x182_E220), Lsn::new(0x182_E1F0)));
        assert!(is_shutdown_checkpoint(&record, Lsn::new(0x182_E220)));
        assert!(!is_shutdown_checkpoint(&record, Lsn::new(0x182_E221)));
        assert_eq!(parse_record("pg_waldump: error"), None);
    }

    #[test]
    fn end_of_the_checkpoint() {
        let lsn = Lsn::new(0x182_E220);
        for tail in [": expected at least 24, got 0", ": wanted 24, got 0", ""] {
            let err = format!(
                "pg_waldump: error: error in WAL record at 0/182E220: invalid record length at 0/182E298{tail}\n"
            );
            assert_eq!(parse_checkpoint_end(LINE, &err, lsn), Some(Lsn::new(0x182_E298)), "{tail}");
            assert_eq!(parse_checkpoint_end(LINE, &err, Lsn::new(0x182_E228)), None);
        }
        let padded =
            "pg_waldump: error: error in WAL record at 0/0182E220: invalid record length at 0/0182E298: \
                      expected at least 24, got 0\n";
        assert_eq!(parse_checkpoint_end(LINE, padded, lsn), Some(Lsn::new(0x182_E298)));
        assert_eq!(parse_checkpoint_end(LINE, "something else", lsn), None);
        assert_eq!(parse_checkpoint_end(&format!("{LINE}{LINE}"), "", lsn), None);
    }
}
