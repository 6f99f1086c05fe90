//! The one statement per cycle (24-01 to 24-03).

use indexmap::IndexMap;
use patroni_core::ha::{PgStatus, Role};
use patroni_core::model::Lsn;
use patroni_core::slots::{KnownKind, KnownSlot};
use patroni_core::sync::ReplicaRow;
use patroni_core::PgVersion;
use pyfmt::{json, Value};

use super::error::PgError;
use super::rows::Row;

/// Functions were renamed in PostgreSQL 10: `xlog` to `wal`, `location` to `lsn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names {
    /// `wal` or `xlog`.
    pub wal: &'static str,
    /// `lsn` or `location`.
    pub lsn: &'static str,
    /// `_flush` where the flush position can be asked for (9.6).
    pub flush: &'static str,
}

impl Names {
    /// The names of a major version.
    pub fn of(major_version: PgVersion) -> Names {
        let (wal, lsn) =
            if major_version.at_least(PgVersion::V10) { ("wal", "lsn") } else { ("xlog", "location") };
        Names { wal, lsn, flush: if major_version.at_least(PgVersion::V9_6) { "_flush" } else { "" } }
    }

    /// A position as a number of bytes.
    pub(super) fn bytes(&self, position: &str) -> String {
        format!("pg_catalog.pg_{}_{}_diff({position}, '0/0')::bigint", self.wal, self.lsn)
    }

    /// Timeline of a primary (0 on a standby), its position, replayed, received, paused.
    pub(super) fn timeline_and_positions(&self) -> String {
        let Names { wal, lsn, flush } = self;
        let in_recovery = "pg_catalog.pg_is_in_recovery()";
        let current = self.bytes(&format!("pg_catalog.pg_current_{wal}{flush}_{lsn}()"));
        let replayed = self.bytes(&format!("pg_catalog.pg_last_{wal}_replay_{lsn}()"));
        let received = self.bytes(&format!("COALESCE(pg_catalog.pg_last_{wal}_receive_{lsn}(), '0/0')"));
        let segment = format!("pg_catalog.pg_{wal}file_name(pg_catalog.pg_current_{wal}_{lsn}())");
        format!(
            "CASE WHEN {in_recovery} THEN 0 ELSE ('x' || pg_catalog.substr({segment}, 1, 8))::bit(32)::int END, \
             CASE WHEN {in_recovery} THEN 0 ELSE {current} END, {replayed}, {received}, \
             {in_recovery} AND pg_catalog.pg_is_{wal}_replay_paused()"
        )
    }
}

/// What the statement is to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonitorOptions {
    /// Major version of the data directory.
    pub major_version: PgVersion,
    /// The role that we have set last.
    pub role: Role,
    /// Slots matter: they are retained for members, or some are permanent.
    pub with_slots: bool,
    /// Synchronous replication is asked for.
    pub synchronous_mode: bool,
}

impl MonitorOptions {
    fn reads_slots(&self) -> bool {
        self.with_slots && self.major_version.at_least(PgVersion::V11)
    }
}

/// The statement: one row of 16 columns, whatever the version.
pub fn monitor_statement(options: &MonitorOptions) -> String {
    let version = options.major_version;
    let names = Names::of(version);
    let base = names.timeline_and_positions();
    let sync = if options.synchronous_mode && matches!(options.role, Role::Primary | Role::Promoted) {
        sync_columns(&names, version)
    } else {
        "'on', '', NULL".to_owned()
    };
    if version.before(PgVersion::V9_6) {
        return format!("SELECT {base}, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, {sync}");
    }
    let leads_standbys = options.role == Role::StandbyLeader;
    let (control, from) =
        if leads_standbys { ("timeline_id", ", pg_catalog.pg_control_checkpoint()") } else { ("0", "") };
    let written =
        if version.at_least(PgVersion::V13) { names.bytes("written_lsn") } else { "NULL".to_owned() };
    let restore = if version.at_least(PgVersion::V12) {
        "pg_catalog.current_setting('restore_command')"
    } else {
        "NULL"
    };
    let slots = if options.reads_slots() {
        format!(
            "(SELECT pg_catalog.json_agg(s.*) FROM ({}) AS s)",
            super::slots::slots_statement(version, true)
        )
    } else {
        "NULL".to_owned()
    };
    format!(
        "SELECT {base}, {control}, CASE WHEN latest_end_lsn IS NULL THEN NULL ELSE received_tli END, {written}, \
         slot_name, conninfo, status, {restore}, {slots}, {sync} FROM pg_catalog.pg_stat_get_wal_receiver(){from}"
    )
}

fn sync_columns(names: &Names, version: PgVersion) -> String {
    // Who holds a slot is known from 9.5 on.
    let slot = if version.at_least(PgVersion::V9_5) {
        "(SELECT s.slot_name FROM pg_catalog.pg_get_replication_slots() s WHERE s.active_pid = w.pid LIMIT 1)"
    } else {
        "NULL::name"
    };
    let column = |kind: &str| format!("{} AS {kind}_lsn", names.bytes(&format!("{kind}_{}", names.lsn)));
    format!(
        "pg_catalog.current_setting('synchronous_commit'), \
         pg_catalog.current_setting('synchronous_standby_names'), \
         (SELECT pg_catalog.json_agg(r.*) FROM (SELECT w.pid AS pid, application_name, sync_state, {slot} AS slot_name, {}, {}, {} \
         FROM pg_catalog.pg_stat_get_wal_senders() w, pg_catalog.pg_stat_get_activity(w.pid) \
         WHERE w.state = 'streaming') r)",
        column("write"),
        column("flush"),
        column("replay")
    )
}

/// What the statement says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Monitored {
    /// Timeline of a primary; 0 in recovery.
    pub timeline: u32,
    /// Flush position of a primary; 0 in recovery.
    pub wal_position: Lsn,
    /// Replayed, on a standby.
    pub replayed: Option<Lsn>,
    /// Received and flushed; 0 when nothing was received since the start.
    pub received: Option<Lsn>,
    /// Replay is paused.
    pub replay_paused: bool,
    /// Timeline of the last checkpoint, asked of a standby leader only.
    pub control_timeline: Option<u32>,
    /// Timeline that the WAL receiver writes, once it has got something.
    pub received_timeline: Option<u32>,
    /// Written by the WAL receiver, not flushed yet (13).
    pub written: Option<Lsn>,
    /// `primary_slot_name` in use by the WAL receiver.
    pub slot_name: Option<String>,
    /// Its connection string, without secrets.
    pub conninfo: Option<String>,
    /// `streaming`, ...
    pub receiver_status: Option<String>,
    /// `restore_command` (12).
    pub restore_command: Option<String>,
    /// Slots, if asked for.
    pub slots: Option<IndexMap<String, KnownSlot>>,
    /// `on` unless asked for.
    pub synchronous_commit: String,
    /// Empty unless asked for.
    pub synchronous_standby_names: String,
    /// Streaming standbys, if asked for.
    pub replication: Vec<ReplicaRow>,
}

impl Monitored {
    /// Not in recovery?
    pub fn is_primary(&self) -> bool {
        self.timeline != 0
    }

    /// What a standby has got, flushed or not; `None` when nothing.
    pub fn receive_lsn(&self) -> Option<Lsn> {
        self.received.max(self.written).filter(|lsn| lsn.is_known())
    }

    /// Position of a primary, or the further of received and replayed.
    pub fn last_operation(&self) -> Lsn {
        if self.is_primary() {
            return self.wal_position;
        }
        self.receive_lsn().max(self.replayed).unwrap_or_default()
    }

    /// `streaming`, `in archive recovery`, or nothing. Before 12 the command
    /// is not in the row: `configured_restore_command` says whether there is one.
    pub fn replication_state(
        &self,
        major_version: PgVersion,
        configured_restore_command: bool,
    ) -> Option<&'static str> {
        replication_state(
            major_version,
            self.is_primary(),
            self.receiver_status.as_deref(),
            self.restore_command.as_deref(),
            configured_restore_command,
        )
    }

    /// As the HA engine sees it; `slots` are those to be published.
    pub fn to_status(
        &self,
        slots: IndexMap<String, Lsn>,
        major_version: PgVersion,
        configured_restore_command: bool,
    ) -> PgStatus {
        let state = self.replication_state(major_version, configured_restore_command);
        PgStatus {
            is_primary: self.is_primary(),
            timeline: self.timeline,
            wal_position: self.last_operation(),
            replayed: self.replayed,
            received: self.receive_lsn(),
            replay_paused: self.replay_paused,
            control_timeline: self.control_timeline,
            received_timeline: self.received_timeline,
            replication_state: state.map(str::to_owned),
            slots,
        }
    }
}

pub(super) fn replication_state(
    major_version: PgVersion,
    is_primary: bool,
    receiver_status: Option<&str>,
    restore_command: Option<&str>,
    configured_restore_command: bool,
) -> Option<&'static str> {
    if major_version.before(PgVersion::V9_6) || is_primary {
        return None;
    }
    if receiver_status == Some("streaming") {
        return Some("streaming");
    }
    let restores = (major_version.before(PgVersion::V12) && configured_restore_command)
        || restore_command.is_some_and(|command| !command.is_empty());
    restores.then_some("in archive recovery")
}

/// Reads the row of [`monitor_statement`].
///
/// # Errors
/// [`PgError::Unexpected`] if it has another shape.
pub fn parse_monitor_row(row: &Row) -> Result<Monitored, PgError> {
    let slots = row.text(12).map(parse_json).transpose()?;
    let replication = row.text(15).map(parse_json).transpose()?;
    Ok(Monitored {
        timeline: row.parse(0)?,
        wal_position: Lsn::new(row.parse(1)?),
        replayed: row.lsn(2)?,
        received: row.lsn(3)?,
        replay_paused: row.is_true(4),
        control_timeline: row.number(5)?.filter(|t| *t != 0),
        received_timeline: row.number(6)?,
        written: row.lsn(7)?,
        slot_name: row.text(8).map(str::to_owned),
        conninfo: row.text(9).map(str::to_owned),
        receiver_status: row.text(10).map(str::to_owned),
        restore_command: row.text(11).map(str::to_owned),
        slots: slots.map(|list| items(&list).iter().filter_map(slot_of).collect()),
        synchronous_commit: row.string(13),
        synchronous_standby_names: row.string(14),
        replication: replication
            .map(|list| items(&list).iter().map(replica_of).collect())
            .unwrap_or_default(),
    })
}

pub(super) fn parse_json(text: &str) -> Result<Value, PgError> {
    json::loads(text).map_err(|_| PgError::Unexpected(format!("no JSON: {text}")))
}

fn items(list: &Value) -> &[Value] {
    list.as_list().unwrap_or_default()
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key).filter(|v| !v.is_null()).map(Value::py_str)
}

/// A number, or digits in quotes, which is how transaction ids come.
fn number<T: std::str::FromStr>(value: &Value, key: &str) -> Option<T> {
    text(value, key)?.parse().ok()
}

/// A position, in bytes.
fn lsn(value: &Value, key: &str) -> Option<Lsn> {
    number(value, key).map(Lsn::new)
}

fn slot_of(value: &Value) -> Option<(String, KnownSlot)> {
    let kind = match value.get("type").and_then(Value::as_str)? {
        "physical" => {
            KnownKind::Physical { xmin: number(value, "xmin"), restart_lsn: lsn(value, "restart_lsn") }
        }
        _ => KnownKind::Logical {
            plugin: text(value, "plugin").unwrap_or_default(),
            database: text(value, "database"),
            datoid: number(value, "datoid"),
            catalog_xmin: number(value, "catalog_xmin"),
            confirmed_flush_lsn: lsn(value, "confirmed_flush_lsn"),
        },
    };
    Some((text(value, "slot_name")?, KnownSlot { kind, wal_status: text(value, "wal_status") }))
}

fn replica_of(value: &Value) -> ReplicaRow {
    ReplicaRow {
        pid: number(value, "pid").unwrap_or(0),
        application_name: text(value, "application_name").unwrap_or_default(),
        sync_state: text(value, "sync_state").unwrap_or_default(),
        write_lsn: lsn(value, "write_lsn"),
        flush_lsn: lsn(value, "flush_lsn"),
        replay_lsn: lsn(value, "replay_lsn"),
        slot: text(value, "slot_name"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn options(major_version: PgVersion, role: Role) -> MonitorOptions {
        MonitorOptions { major_version, role, with_slots: true, synchronous_mode: true }
    }

    #[test]
    fn old_versions_are_asked_for_what_they_have() {
        let old = monitor_statement(&options(PgVersion::V9_5, Role::Primary));
        assert!(old.contains("pg_current_xlog_location()") && !old.contains("pg_stat_get_wal_receiver"));
        let v96 = monitor_statement(&options(PgVersion::V9_6, Role::StandbyLeader));
        assert!(v96.contains("pg_current_xlog_flush_location()") && v96.contains("pg_control_checkpoint()"));
        assert!(
            !v96.contains("written_lsn") && !v96.contains("restore_command") && !v96.contains("slot_type")
        );
        let v12 = monitor_statement(&options(PgVersion::V12, Role::Replica));
        assert!(v12.contains("restore_command") && v12.contains("slot_type") && !v12.contains("written_lsn"));
        assert!(!v12.contains("walsenders") && v12.contains("'on', '', NULL"));
        let v17 = monitor_statement(&options(PgVersion::V17, Role::Promoted));
        assert!(v17.contains("NOT failover") && v17.contains("written_lsn") && v17.contains("wal_senders"));
    }

    #[test]
    fn positions_of_a_standby() {
        let at = |bytes: Option<u64>| bytes.map(Lsn::new);
        let standby = |received, written, replayed| Monitored {
            received: at(received),
            written: at(written),
            replayed: at(replayed),
            ..Default::default()
        };
        for (seen, receive, last) in [
            (standby(Some(0), None, Some(5)), None, 5),
            (standby(Some(7), Some(9), Some(5)), Some(9), 9),
            (standby(Some(7), None, None), Some(7), 7),
            (standby(Some(0), Some(0), None), None, 0),
        ] {
            assert_eq!((seen.receive_lsn(), seen.last_operation()), (at(receive), Lsn::new(last)));
        }
    }

    #[test]
    fn rows_are_read() {
        let some = |text: &str| Some(text.to_owned());
        let slots = r#"[{"slot_name":"p","type":"physical","xmin":"745","restart_lsn":100,"wal_status":"reserved"},
            {"slot_name":"l","type":"logical","plugin":"t","datoid":5,"catalog_xmin":"700","confirmed_flush_lsn":90}]"#;
        let replicas =
            r#"[{"pid":7,"application_name":"b","sync_state":"sync","write_lsn":1,"flush_lsn":null}]"#;
        let mut columns = vec![some("3"), some("100"), None, some("0"), some("f"), some("0")];
        columns.extend([
            None,
            None,
            None,
            None,
            None,
            some(""),
            some(slots),
            some("on"),
            some("b"),
            some(replicas),
        ]);
        let row = parse_monitor_row(&Row::new(columns)).unwrap();
        assert!(row.is_primary() && row.control_timeline.is_none());
        let slots = row.slots.unwrap();
        assert_eq!(
            slots.get("p").unwrap().kind,
            KnownKind::Physical { xmin: Some(745), restart_lsn: Some(Lsn::new(100)) }
        );
        assert!(matches!(slots.get("l").unwrap().kind, KnownKind::Logical { datoid: Some(5), .. }));
        let replica = row.replication.first().unwrap();
        assert_eq!((replica.pid, replica.write_lsn, replica.flush_lsn), (7, Some(Lsn::new(1)), None));
        assert!(parse_monitor_row(&Row::new(vec![None])).is_err());
    }
}
