//! The statement behind `GET /patroni` (surface-api-ctl 5).

use patroni_core::model::Lsn;
use patroni_core::PgVersion;
use pyfmt::Value;

use super::error::PgError;
use super::monitor::{parse_json, replication_state, Names};
use super::rows::Row;

/// What the statement says.
#[derive(Debug, Clone, PartialEq)]
pub struct RestStatus {
    /// As Python prints a time: `2026-11-21 10:00:00.000000+00:00`.
    pub postmaster_start_time: Option<String>,
    /// 0 in recovery.
    pub timeline: u32,
    /// Flush position of a primary.
    pub wal_position: Lsn,
    /// What concerns a standby.
    pub replica: Option<ReplicaStatus>,
    /// `latest_end_lsn` of the WAL receiver, unless 0.
    pub latest_end_lsn: Option<Lsn>,
    /// `streaming`, `in archive recovery`, or nothing.
    pub replication_state: Option<&'static str>,
    /// Connected standbys: objects with `usename`, `application_name`,
    /// `client_addr`, `state`, `sync_state`, `sync_priority` in this order.
    pub replication: Option<Value>,
}

/// The part of a standby.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaStatus {
    /// Written, else received, else replayed.
    pub received_location: Option<Lsn>,
    /// Replayed.
    pub replayed_location: Option<Lsn>,
    /// When the last replayed transaction was committed, as Python prints it.
    pub replayed_timestamp: Option<String>,
    /// Replay is paused.
    pub paused: bool,
}

/// The statement: one row of 12 columns. Times come as JSON, because that does
/// not depend on `DateStyle`.
pub fn status_statement(major_version: PgVersion) -> String {
    let names = Names::of(major_version);
    let receiver = major_version.at_least(PgVersion::V9_6);
    let end = if receiver { names.bytes("wr.latest_end_lsn") } else { "NULL".to_owned() };
    let status = if receiver { "wr.status" } else { "NULL" };
    let restore = if major_version.at_least(PgVersion::V12) {
        "pg_catalog.current_setting('restore_command')"
    } else {
        "NULL"
    };
    let written = if major_version.at_least(PgVersion::V13) {
        names.bytes("wr.written_lsn")
    } else {
        "NULL".to_owned()
    };
    let from = if receiver { " FROM pg_catalog.pg_stat_get_wal_receiver() AS wr" } else { "" };
    format!(
        "SELECT pg_catalog.to_json(pg_catalog.pg_postmaster_start_time()), {}, \
         pg_catalog.to_json(pg_catalog.pg_last_xact_replay_timestamp()), {end}, {status}, {restore}, {written}, \
         (SELECT pg_catalog.array_to_json(pg_catalog.array_agg(pg_catalog.row_to_json(ri))) FROM \
         (SELECT (SELECT rolname FROM pg_catalog.pg_authid WHERE oid = usesysid) AS usename, application_name, \
         client_addr, w.state, sync_state, sync_priority FROM pg_catalog.pg_stat_get_wal_senders() w, \
         pg_catalog.pg_stat_get_activity(pid)) AS ri){from}",
        names.timeline_and_positions()
    )
}

/// Reads the row of [`status_statement`].
///
/// # Errors
/// [`PgError::Unexpected`] if it has another shape.
pub fn parse_status_row(
    row: &Row,
    major_version: PgVersion,
    configured_restore_command: bool,
) -> Result<RestStatus, PgError> {
    let timeline = row.parse(1)?;
    let nonzero = |column| row.lsn(column).map(|lsn| lsn.filter(|l| l.is_known()));
    let replayed = row.lsn(3)?;
    let received_location = nonzero(10)?.or(nonzero(4)?).or(replayed);
    let replica = (timeline == 0).then(|| ReplicaStatus {
        received_location,
        replayed_location: replayed,
        replayed_timestamp: row.text(6).map(python_time),
        paused: row.is_true(5),
    });
    let replication = row.text(11).map(parse_json).transpose()?.filter(Value::truthy);
    Ok(RestStatus {
        postmaster_start_time: row.text(0).map(python_time),
        timeline,
        wal_position: Lsn::new(row.parse(2)?),
        replica,
        latest_end_lsn: nonzero(7)?,
        replication_state: replication_state(
            major_version,
            timeline > 0,
            row.text(8),
            row.text(9),
            configured_restore_command,
        ),
        replication,
    })
}

/// `"2026-11-21T10:00:00.12+00:00"` as `2026-11-21 10:00:00.120000+00:00`:
/// Python prints six digits of a second, or none.
pub fn python_time(json_text: &str) -> String {
    let text = json_text.trim_matches('"').replacen('T', " ", 1);
    let Some((seconds, rest)) = text.split_once('.') else {
        return text;
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(digits);
    format!("{seconds}.{fraction:0<6}{zone}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_pythons() {
        for (json, python) in [
            ("\"2026-11-21T10:00:00.12+00:00\"", "2026-11-21 10:00:00.120000+00:00"),
            ("\"2026-11-21T10:00:00+05:30\"", "2026-11-21 10:00:00+05:30"),
            ("\"2026-11-21T10:00:00.123456-03:00\"", "2026-11-21 10:00:00.123456-03:00"),
        ] {
            assert_eq!(python_time(json), python);
        }
    }

    #[test]
    fn versions_differ() {
        assert!(!status_statement(PgVersion::V9_5).contains("wr."));
        assert!(status_statement(PgVersion::V9_6).contains("pg_last_xlog_replay_location"));
        assert!(status_statement(PgVersion::V13).contains("wr.written_lsn"));
    }
}
