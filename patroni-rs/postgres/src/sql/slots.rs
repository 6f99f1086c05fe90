//! Replication slots of the local server: carries out what
//! [`patroni_core::slots`] plans (18-09 to 18-17).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::{Level, LogLine};
use patroni_core::model::{Cluster, Lsn};
use patroni_core::slots::{
    desired_slots, slot_name_on_primary, Desired, DropResult, KnownKind, KnownSlot, NewLogicalSlot, Node,
    PhysicalAction, PlannedDrop, Readiness, ReadinessQuery, SlotInventory, Spared,
};
use patroni_core::PgVersion;

use super::advance::SlotAdvancer;
use super::error::PgError;
use super::monitor::Names;
use super::params::ConnParams;
use super::pool::{Connection, Pool, DEFAULTS};
use super::quote::{literal, text_array};
use super::rows::Row;
use super::session::Session;

/// Slots exist since 9.4.
const FIRST_VERSION: PgVersion = PgVersion::V9_4;

const QUERY_TIMEOUT: Duration = Duration::from_secs(3);

/// Writes a line to the log of the slots.
pub(super) fn log(line: &LogLine) {
    let text = &line.text;
    match line.level {
        Level::Debug => tracing::debug!(target: "patroni.postgresql.slots", "{text}"),
        Level::Info => tracing::info!(target: "patroni.postgresql.slots", "{text}"),
        Level::Warning => tracing::warn!(target: "patroni.postgresql.slots", "{text}"),
        Level::Error | Level::Critical => tracing::error!(target: "patroni.postgresql.slots", "{text}"),
    }
}

/// Columns `slot_name, type, xmin, restart_lsn, plugin, database, datoid,
/// catalog_xmin, confirmed_flush_lsn, wal_status`, null where the version has
/// none. Temporary slots and those that PostgreSQL synchronises itself are not
/// ours (18-02). The function has no database, but costs less than the view.
pub(super) fn slots_statement(major_version: PgVersion, use_function: bool) -> String {
    let names = Names::of(major_version);
    let since = |version, column: &str| {
        if major_version.at_least(version) {
            column.to_owned()
        } else {
            "NULL".to_owned()
        }
    };
    let (database, from) = if use_function {
        ("NULL", "pg_catalog.pg_get_replication_slots()")
    } else {
        ("database", "pg_catalog.pg_replication_slots")
    };
    let filters = match major_version {
        version if version.at_least(PgVersion::V17) => " WHERE NOT temporary AND NOT failover",
        version if version.at_least(PgVersion::V10) => " WHERE NOT temporary",
        _ => "",
    };
    format!(
        "SELECT slot_name, slot_type AS type, xmin, {} AS restart_lsn, plugin, {database} AS database, \
         datoid::bigint AS datoid, {} AS catalog_xmin, {} AS confirmed_flush_lsn, {} AS wal_status FROM {from}{filters}",
        names.bytes("restart_lsn"),
        since(PgVersion::V10, "catalog_xmin"),
        since(PgVersion::V10, &names.bytes("confirmed_flush_lsn")),
        since(PgVersion::V13, "wal_status"),
    )
}

/// All slots that are ours to manage.
pub async fn load_slots(
    pool: &Pool,
    major_version: PgVersion,
) -> Result<IndexMap<String, KnownSlot>, PgError> {
    let rows = pool.query(Connection::Heartbeat, &slots_statement(major_version, false)).await?;
    rows.iter().map(|row| Ok((row.string(0), known(row)?))).collect()
}

fn known(row: &Row) -> Result<KnownSlot, PgError> {
    let kind = match row.text(1) {
        Some("physical") => KnownKind::Physical { xmin: row.number(2)?, restart_lsn: row.lsn(3)? },
        _ => KnownKind::Logical {
            plugin: row.string(4),
            database: row.text(5).map(str::to_owned),
            datoid: row.number(6)?,
            catalog_xmin: row.number(7)?,
            confirmed_flush_lsn: row.lsn(8)?,
        },
    };
    Ok(KnownSlot { kind, wal_status: row.text(9).map(str::to_owned) })
}

/// How to reach the leader, for the readiness of logical slots: its address
/// with the credentials for `pg_rewind`, and our database.
pub type ReadinessSource = ConnParams;

/// What one round works on.
#[derive(Debug)]
pub struct SlotRound<'a> {
    /// The view of the cycle.
    pub cluster: &'a Cluster,
    /// The dynamic configuration in force.
    pub config: &'a GlobalConfig,
    /// This node.
    pub node: Node<'a>,
    /// Not in recovery, by the monitoring statement.
    pub is_primary: bool,
    /// Replayed, on a standby.
    pub replay_lsn: Lsn,
    /// The leader, if there is one and it is not us.
    pub leader: Option<ReadinessSource>,
    /// The database of Citus, where it is on.
    pub citus_database: Option<&'a str>,
}

/// Names of logical slots to copy from the primary.
pub type SlotOutcome = Vec<String>;

/// What is known of the slots of the local server, and the means to change them.
#[derive(Debug)]
pub struct SlotExecutor {
    pool: Arc<Pool>,
    advancer: SlotAdvancer,
    /// The slots; the daemon refreshes it with each monitoring row.
    pub book: SlotInventory,
    /// Copied logical slots that may not be safe yet.
    pub readiness: Readiness,
    /// Logical slots that could not be made, and what was said of it.
    complaints: HashMap<String, String>,
}

/// One round, of [`SlotExecutor`]. Errors are logged; the cycle goes on (18-21).
pub async fn sync_replication_slots(executor: &mut SlotExecutor, round: &SlotRound<'_>) -> SlotOutcome {
    if round.node.major_version.before(FIRST_VERSION) || round.cluster.config.is_none() {
        return Vec::new();
    }
    match executor.run(round).await {
        Ok(copy) => copy,
        Err(error) => {
            let error = error.py_repr();
            tracing::error!(target: "patroni.postgresql.slots", "Exception when changing replication slots: {error}");
            executor.book.schedule_reload();
            Vec::new()
        }
    }
}

impl SlotExecutor {
    /// Knows nothing yet.
    pub fn new(pool: Arc<Pool>) -> SlotExecutor {
        let advancer = SlotAdvancer::new(Arc::clone(&pool));
        SlotExecutor {
            pool,
            advancer,
            book: SlotInventory::new(),
            readiness: Readiness::default(),
            complaints: HashMap::new(),
        }
    }

    /// Before a promotion: stop advancing, and warn of slots that are not safe.
    pub fn on_promote(&mut self) {
        self.advancer.clean();
        if let Some(warning) = self.readiness.promotion_warning() {
            log(&warning);
        }
    }

    /// Slot files have been written to a stopped server (18-15).
    pub fn on_copied<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) {
        self.advancer.clean();
        for name in names {
            self.readiness.copied(name);
        }
    }

    async fn run(&mut self, round: &SlotRound<'_>) -> Result<SlotOutcome, PgError> {
        let version = round.node.major_version;
        if self.book.needs_reload() {
            if let Some(names) = self.book.load(load_slots(&self.pool, version).await?) {
                self.readiness.restart(names);
            }
        }
        let (mut wanted, lines) =
            desired_slots(round.cluster, round.config, &round.node, &round.node.subject());
        lines.iter().for_each(log);
        let ignored = round.config.ignore_slots_matchers();
        let citus_database = round.citus_database.filter(|_| round.is_primary);
        let spared = Spared { ignored, citus_database };
        for drop in self.book.plan_drops(&wanted, &spared, round.config.is_paused()) {
            self.drop_or_complain(&drop).await?;
        }
        self.reconcile_physical(round, &wanted).await?;
        let copy = if round.is_primary {
            self.readiness.clear();
            self.create_logical(&mut wanted).await;
            Vec::new()
        } else {
            self.check_readiness(round).await;
            self.reconcile_logical(&mut wanted, round.replay_lsn)
        };
        self.book.settle(&wanted);
        Ok(copy)
    }

    async fn drop_slot(&mut self, drop: &PlannedDrop) -> Result<DropResult, PgError> {
        log(&drop.announce);
        let sql = format!(
            "WITH slots AS (SELECT slot_name, active FROM pg_catalog.pg_replication_slots WHERE slot_name = {}), \
             dropped AS (SELECT pg_catalog.pg_drop_replication_slot(slot_name), true AS dropped FROM slots \
             WHERE not active) SELECT active, COALESCE(dropped, false) FROM slots FULL OUTER JOIN dropped ON true",
            literal(&drop.name)
        );
        let rows = self.pool.query(Connection::Heartbeat, &sql).await?;
        let result = match rows.first().map(|row| (row.is_true(0), row.is_true(1))) {
            Some((_, true)) => DropResult::Dropped,
            Some((true, false)) => DropResult::Active,
            _ => DropResult::Failed,
        };
        if let Some(line) = self.book.dropped(drop, result) {
            log(&line);
        }
        Ok(result)
    }

    /// A slot that cannot be dropped stands in the way of no other; a server that does not answer does.
    async fn drop_or_complain(&mut self, drop: &PlannedDrop) -> Result<Option<DropResult>, PgError> {
        match self.drop_slot(drop).await {
            Ok(result) => Ok(Some(result)),
            Err(error @ PgError::Server { .. }) => {
                let error = error.py_repr();
                tracing::error!(
                    target: "patroni.postgresql.slots",
                    "Failed to drop replication slot '{}': {error}", drop.name
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn reconcile_physical(&mut self, round: &SlotRound<'_>, wanted: &Desired) -> Result<(), PgError> {
        let version = round.node.major_version;
        // Without a leader, or while we are one that is not promoted yet,
        // standbys are between two primaries and their feedback still counts.
        let leader = round.cluster.leader_name();
        let clean = leader.is_some_and(|leader| leader != round.node.name || round.is_primary);
        for action in self.book.plan_physical(wanted, round.node.can_advance_slots(), clean) {
            match action {
                PhysicalAction::Create(name) => self.create_physical(&name, version).await,
                PhysicalAction::Advance { name, lsn } => self.advance_physical(&name, lsn).await,
                PhysicalAction::Drop(drop) => {
                    let Some(result) = self.drop_or_complain(&drop).await? else { continue };
                    if self.book.recreate_after(&drop, result) {
                        self.create_physical(&drop.name, version).await;
                    }
                }
            }
        }
        Ok(())
    }

    async fn create_physical(&self, name: &str, version: PgVersion) {
        let reserve = if version.at_least(PgVersion::V9_6) { ", true" } else { "" };
        let quoted = literal(name);
        let sql = format!(
            "SELECT pg_catalog.pg_create_physical_replication_slot({quoted}{reserve}) WHERE NOT EXISTS \
             (SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' AND slot_name = {quoted})"
        );
        if let Err(error) = self.pool.query(Connection::Heartbeat, &sql).await {
            let error = error.py_repr();
            tracing::error!(
                target: "patroni.postgresql.slots",
                "Failed to create physical replication slot '{name}': {error}"
            );
        }
    }

    async fn advance_physical(&self, name: &str, lsn: Lsn) {
        if let Err(error) = self.pool.query(Connection::Heartbeat, &advance_statement(name, lsn)).await {
            let error = error.py_repr();
            tracing::error!(
                target: "patroni.postgresql.slots",
                "Error while advancing replication slot {name} to position '{}': {error}",
                lsn.text()
            );
        }
    }

    /// Creates logical slots of a primary; those that cannot be leave `wanted`.
    async fn create_logical(&mut self, wanted: &mut Desired) {
        self.complaints.retain(|name, _| wanted.contains_key(name));
        for (database, slots) in self.book.plan_logical_primary(wanted) {
            let params = self.pool.params().with("dbname", database).with_safe_search_path();
            // One database or slot that cannot be had stands in the way of no other.
            let session = match Session::connect(&params).await {
                Ok(session) => session,
                Err(error) => {
                    for slot in slots {
                        self.complain(&slot, &error);
                        wanted.shift_remove(&slot.name);
                    }
                    continue;
                }
            };
            for slot in slots {
                let NewLogicalSlot { name, plugin } = &slot;
                let (quoted, output) = (literal(name), literal(plugin));
                let sql = format!(
                    "SELECT pg_catalog.pg_create_logical_replication_slot({quoted}, {output}) WHERE NOT EXISTS \
                     (SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical' AND \
                     slot_name = {quoted})"
                );
                match session.query(&sql, QUERY_TIMEOUT).await {
                    Ok(_) => drop(self.complaints.remove(name)),
                    Err(error) => {
                        self.complain(&slot, &error);
                        wanted.shift_remove(name);
                    }
                }
            }
        }
    }

    /// Says why a slot is not made, once for each reason.
    fn complain(&mut self, slot: &NewLogicalSlot, error: &PgError) {
        let NewLogicalSlot { name, plugin } = slot;
        let error = error.py_repr();
        let line = format!("Failed to create logical replication slot '{name}' plugin='{plugin}': {error}");
        if self.complaints.get(name) != Some(&line) {
            tracing::error!(target: "patroni.postgresql.slots", "{line}");
            self.complaints.insert(name.clone(), line);
        }
    }

    fn reconcile_logical(&mut self, wanted: &mut Desired, replay_lsn: Lsn) -> SlotOutcome {
        let mut work = self.book.plan_logical_replica(wanted, replay_lsn);
        let report = self.advancer.schedule(work.advance);
        if report.failed {
            self.book.schedule_reload();
        }
        work.copy.extend(report.copy);
        work.copy
    }

    /// Asks the leader whether copied slots have become safe.
    async fn check_readiness(&mut self, round: &SlotRound<'_>) {
        let physical = || slot_name_on_primary(round.cluster, round.node.name, &round.node.subject());
        let asked = match &round.leader {
            Some(leader) => self.readiness.query(true, physical()).map(|query| (leader, query)),
            None => None,
        };
        let mut physical_xmin = None;
        if let Some((leader, query)) = asked {
            let answer = match ask_leader(leader, &query).await {
                Ok(slots) => self.readiness.note_answer(&query, slots),
                Err(error) => {
                    let (slot, error) = (query.physical.as_deref().unwrap_or("None"), error.py_repr());
                    tracing::error!(
                        target: "patroni.postgresql.slots",
                        "Failed to check {slot} physical slot on the primary: {error}"
                    );
                    return;
                }
            };
            match answer {
                Ok(Some(xmin)) => physical_xmin = Some(xmin),
                Ok(None) => return self.check_feedback().await,
                Err(line) => return log(&line),
            }
        }
        self.readiness.settle(&self.book, physical_xmin).iter().for_each(log);
    }

    /// The physical slot has no xmin: is the standby told to send any?
    async fn check_feedback(&self) {
        let sql = "SELECT pg_catalog.current_setting('hot_standby_feedback')::boolean";
        match self.pool.query(Connection::Heartbeat, sql).await {
            Ok(rows) if rows.first().is_some_and(|row| row.is_true(0)) => {}
            Ok(_) => tracing::error!(
                target: "patroni.postgresql.slots",
                "Logical slot failover requires \"hot_standby_feedback\". Please check postgresql.auto.conf"
            ),
            Err(error) => {
                let error = error.py_repr();
                tracing::error!(
                    target: "patroni.postgresql.slots",
                    "Failed to check the hot_standby_feedback setting: {error}"
                );
            }
        }
    }
}

async fn ask_leader(
    leader: &ConnParams,
    query: &ReadinessQuery,
) -> Result<IndexMap<String, Option<u64>>, PgError> {
    let session = Session::connect(&leader.clone().or_defaults(&DEFAULTS).with_safe_search_path()).await?;
    let sql = format!(
        "SELECT slot_name, catalog_xmin FROM pg_catalog.pg_get_replication_slots() \
         WHERE NOT pg_catalog.pg_is_in_recovery() AND slot_name = ANY({})",
        text_array(query.logical.iter().chain(&query.physical))
    );
    let rows = session.query(&sql, QUERY_TIMEOUT).await?;
    rows.iter().map(|row| Ok((row.string(0), row.number(1)?))).collect()
}

/// `SELECT pg_replication_slot_advance(...)`
pub(super) fn advance_statement(name: &str, lsn: Lsn) -> String {
    format!("SELECT pg_catalog.pg_replication_slot_advance({}, '{}')", literal(name), lsn.text())
}
