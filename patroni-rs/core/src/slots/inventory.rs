//! What is known of the slots of the server, and what is to be done to them
//! (18-07 to 18-14).

use indexmap::IndexMap;
use pyfmt::Value;

use super::desired::{Desired, DesiredSlot, SlotKind};
use super::line;
use crate::ha::{Level, LogLine};
use crate::model::Lsn;

/// A slot of the server; transaction ids as PostgreSQL prints them.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownSlot {
    /// Its kind, and what counts for that kind.
    pub kind: KnownKind,
    /// From PostgreSQL 13 on: `reserved`, `lost`, ...
    pub wal_status: Option<String>,
}

/// The kind of a slot, as in `pg_replication_slots`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum KnownKind {
    Physical {
        xmin: Option<u64>,
        restart_lsn: Option<Lsn>,
    },
    Logical {
        plugin: String,
        /// Absent when read with the monitoring statement.
        database: Option<String>,
        datoid: Option<i64>,
        catalog_xmin: Option<u64>,
        confirmed_flush_lsn: Option<Lsn>,
    },
}

impl KnownSlot {
    fn is_physical(&self) -> bool {
        matches!(self.kind, KnownKind::Physical { .. })
    }

    /// Same kind, and for a logical slot the same database and plugin.
    fn serves(&self, wanted: &SlotKind) -> bool {
        match (&self.kind, wanted) {
            (KnownKind::Physical { .. }, SlotKind::Physical) => true,
            (KnownKind::Logical { plugin, database, .. }, SlotKind::Logical { database: db, plugin: p }) => {
                plugin == p && database.as_ref() == Some(db)
            }
            _ => false,
        }
    }

    /// As a mapping, for matchers and logs.
    fn shown(&self) -> Value {
        let text = |xid: &Option<u64>| xid.map(|x| x.to_string());
        let mut shown = Value::map();
        match &self.kind {
            KnownKind::Physical { xmin, restart_lsn } => {
                shown.set("type", "physical");
                shown.set("xmin", text(xmin));
                shown.set("restart_lsn", *restart_lsn);
            }
            KnownKind::Logical { plugin, database, datoid, catalog_xmin, confirmed_flush_lsn } => {
                shown.set("type", "logical");
                shown.set("plugin", plugin.as_str());
                shown.set("database", database.clone());
                shown.set("datoid", *datoid);
                shown.set("catalog_xmin", text(catalog_xmin));
                shown.set("confirmed_flush_lsn", *confirmed_flush_lsn);
            }
        }
        if let Some(status) = &self.wal_status {
            shown.set("wal_status", status.as_str());
        }
        shown
    }
}

/// Why a slot is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DropReason {
    Unknown,
    Lost,
    Changed,
    Xmin,
    NoRestartLsn,
}

/// A drop, and the line that announces it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct PlannedDrop {
    pub name: String,
    pub reason: DropReason,
    pub announce: LogLine,
}

/// What came of a drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum DropResult {
    Dropped,
    Active,
    Failed,
}

/// Something to do about a physical slot.
#[derive(Debug, Clone, PartialEq)]
pub enum PhysicalAction {
    /// It is missing.
    Create(String),
    /// Drop it; if that succeeds, and it was dropped for its xmin, create it anew.
    Drop(PlannedDrop),
    /// Move it forward.
    #[allow(missing_docs)]
    Advance { name: String, lsn: Lsn },
}

/// Slots known of the server, between looks at it.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotInventory {
    pub(super) known: IndexMap<String, KnownSlot>,
    reload: bool,
    recheck_logical: bool,
}

impl Default for SlotInventory {
    fn default() -> SlotInventory {
        SlotInventory::new()
    }
}

impl SlotInventory {
    /// A book that has to read the slots first.
    pub fn new() -> SlotInventory {
        SlotInventory { known: IndexMap::new(), reload: true, recheck_logical: true }
    }

    /// The server was started, or people may have worked on it: read the
    /// slots again, and check again whether logical ones are safe.
    pub fn schedule(&mut self) {
        (self.reload, self.recheck_logical) = (true, true);
    }

    /// Read the slots again before the next plan.
    pub fn schedule_reload(&mut self) {
        self.reload = true;
    }

    /// Must the slots be read?
    pub fn needs_reload(&self) -> bool {
        self.reload
    }

    /// The slots as the server lists them. The names of logical ones are
    /// returned if it has to be checked anew whether they are safe.
    pub fn load(&mut self, slots: IndexMap<String, KnownSlot>) -> Option<Vec<String>> {
        self.known = slots;
        self.reload = false;
        if !std::mem::take(&mut self.recheck_logical) {
            return None;
        }
        Some(self.known.iter().filter(|(_, s)| !s.is_physical()).map(|(n, _)| n.clone()).collect())
    }

    /// Takes the slots from the monitoring statement: refreshes those known,
    /// and returns their positions. A slot that has gone, or is another one
    /// now, makes the book read again.
    pub fn refresh(&mut self, seen: &IndexMap<String, KnownSlot>) -> IndexMap<String, Lsn> {
        let mut positions = IndexMap::new();
        for (name, fresh) in seen {
            let Some(known) = self.known.get_mut(name) else {
                continue;
            };
            match update(known, fresh) {
                Seen::Same(lsn) => positions.extend(lsn.map(|lsn| (name.clone(), lsn))),
                Seen::Another => self.reload = true,
            }
        }
        self.reload |= self.known.keys().any(|name| !seen.contains_key(name));
        positions
    }

    /// Drops of slots that nobody wants, that have lost WAL, or that are of
    /// another kind than wanted; the latter also in pause.
    /// What is `spared` is dropped neither way as long as nobody wants something else of its name.
    pub fn plan_drops(&self, wanted: &Desired, spared: &Spared<'_>, paused: bool) -> Vec<PlannedDrop> {
        let mut drops = Vec::new();
        for (name, slot) in self.known.iter().filter(|_| !paused) {
            let (reason, text) = match wanted.get(name) {
                Some(_) if slot.wal_status.as_deref() == Some("lost") => (
                    DropReason::Lost,
                    format!("Trying to drop replication slot '{name}' with wal_status=lost"),
                ),
                Some(_) => continue,
                None => (DropReason::Unknown, format!("Trying to drop unknown replication slot '{name}'")),
            };
            if !spared.has(name, slot) {
                drops.push(PlannedDrop { name: name.clone(), reason, announce: line(Level::Info, text) });
            }
        }
        for (name, want) in wanted {
            let planned = drops.iter().any(|d: &PlannedDrop| d.name == *name);
            let Some(slot) = self.known.get(name).filter(|s| !planned && !s.serves(&want.kind)) else {
                continue;
            };
            let (old, new) = (slot.shown(), &want.shown);
            let text = format!(
                "Trying to drop replication slot '{name}' because value is changing from {old} to {new}"
            );
            let announce = line(Level::Info, text);
            drops.push(PlannedDrop { name: name.clone(), reason: DropReason::Changed, announce });
        }
        drops
    }

    /// Takes note of a drop, and says how it went.
    pub fn dropped(&mut self, drop: &PlannedDrop, result: DropResult) -> Option<LogLine> {
        let name = &drop.name;
        if result == DropResult::Dropped {
            self.known.shift_remove(name);
            let text = format!("Dropped replication slot '{name}'");
            return (drop.reason != DropReason::Changed).then(|| line(Level::Info, text));
        }
        self.reload = true;
        Some(if result == DropResult::Active && drop.reason != DropReason::Changed {
            line(Level::Warning, format!("Unable to drop replication slot '{name}', slot is active"))
        } else {
            line(Level::Error, format!("Failed to drop replication slot '{name}'"))
        })
    }

    /// Creations, advances and drops of physical slots, in order.
    ///
    /// `clean_inactive`: slots that nobody uses but that hold an xmin are to
    /// go; only while there is a leader, and not on one that is not promoted yet.
    pub fn plan_physical(
        &mut self,
        wanted: &Desired,
        can_advance: bool,
        clean_inactive: bool,
    ) -> Vec<PhysicalAction> {
        let mut actions = Vec::new();
        for (name, want) in wanted.iter().filter(|(_, w)| w.kind == SlotKind::Physical) {
            let action = match self.known.get(name).map(|s| &s.kind) {
                None => {
                    self.reload = true;
                    Some(PhysicalAction::Create(name.clone()))
                }
                Some(KnownKind::Physical { xmin, restart_lsn }) if can_advance => {
                    reconcile_physical(name, want, xmin.filter(|x| *x != 0), *restart_lsn, clean_inactive)
                }
                Some(_) => None,
            };
            actions.extend(action);
        }
        actions
    }

    /// Whether a slot that was dropped for its xmin is to be created at once;
    /// the list is then read again.
    pub fn recreate_after(&mut self, drop: &PlannedDrop, result: DropResult) -> bool {
        let recreate = drop.reason == DropReason::Xmin && result == DropResult::Dropped;
        self.reload |= recreate;
        recreate
    }

    /// Ends a round: from now on only desired slots count as known, those not
    /// created yet with what little is known of them.
    pub fn settle(&mut self, wanted: &Desired) {
        let mut known = IndexMap::new();
        for (name, want) in wanted {
            let current = self.known.get(name).filter(|slot| slot.serves(&want.kind)).cloned();
            known.insert(name.clone(), current.unwrap_or_else(|| unseen(want)));
        }
        self.known = known;
    }

    /// What is known of a slot.
    pub fn get(&self, name: &str) -> Option<&KnownSlot> {
        self.known.get(name)
    }
}

/// A slot of which we know that it ought to be there.
fn unseen(want: &DesiredSlot) -> KnownSlot {
    let kind = match &want.kind {
        SlotKind::Physical => KnownKind::Physical { xmin: None, restart_lsn: None },
        SlotKind::Logical { database, plugin } => KnownKind::Logical {
            plugin: plugin.clone(),
            database: Some(database.clone()),
            datoid: None,
            catalog_xmin: None,
            confirmed_flush_lsn: None,
        },
    };
    KnownSlot { kind, wal_status: None }
}

/// What a slot of a known name is.
enum Seen {
    /// The known one, and its position.
    Same(Option<Lsn>),
    /// Another slot.
    Another,
}

/// Refreshes a known slot.
fn update(known: &mut KnownSlot, fresh: &KnownSlot) -> Seen {
    let position = match (&mut known.kind, &fresh.kind) {
        (KnownKind::Physical { xmin, restart_lsn }, KnownKind::Physical { xmin: x, restart_lsn: lsn }) => {
            (*xmin, *restart_lsn) = (*x, *lsn);
            *lsn
        }
        (
            KnownKind::Logical { plugin, datoid, catalog_xmin, confirmed_flush_lsn, .. },
            KnownKind::Logical { plugin: p, datoid: oid, catalog_xmin: x, confirmed_flush_lsn: lsn, .. },
        ) if plugin == p && datoid == oid => {
            (*catalog_xmin, *confirmed_flush_lsn) = (*x, *lsn);
            *lsn
        }
        (KnownKind::Physical { .. } | KnownKind::Logical { .. }, _) => return Seen::Another,
    };
    known.wal_status = fresh.wal_status.clone();
    Seen::Same(position)
}

/// Slots that are others' to manage.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spared<'a> {
    /// `ignore_slots`.
    pub ignored: &'a [Value],
    /// On a primary of Citus, its database: Citus makes slots of its own there.
    pub citus_database: Option<&'a str>,
}

impl Spared<'_> {
    fn has(&self, name: &str, slot: &KnownSlot) -> bool {
        let citus = self.citus_database.is_some_and(|citus| match &slot.kind {
            KnownKind::Logical { plugin, database, .. } => {
                crate::citus::owns_slot(citus, name, database.as_deref(), plugin)
            }
            KnownKind::Physical { .. } => false,
        });
        citus || self.ignored.iter().any(|matcher| matches_slot(matcher, name, slot))
    }
}

/// An entry of `ignore_slots` matches if what it says is so (18-08).
fn matches_slot(matcher: &Value, name: &str, slot: &KnownSlot) -> bool {
    let shown = slot.shown();
    let named = matcher.get("name").filter(|n| !n.is_null()).is_none_or(|n| *n == Value::from(name));
    let agrees = |key: &str| {
        let given = matcher.get(key).filter(|v| v.truthy());
        given.is_none_or(|v| shown.get(key) == Some(v))
    };
    matches!(matcher, Value::Map(_)) && named && ["database", "plugin", "type"].into_iter().all(agrees)
}

/// What to do about a physical slot that is there (18-11).
fn reconcile_physical(
    name: &str,
    want: &DesiredSlot,
    xmin: Option<u64>,
    restart_lsn: Option<Lsn>,
    clean_inactive: bool,
) -> Option<PhysicalAction> {
    let drop = |reason, text| {
        let announce = line(Level::Warning, text);
        Some(PhysicalAction::Drop(PlannedDrop { name: name.to_owned(), reason, announce }))
    };
    if let Some(xmin) = xmin {
        // Nobody is there who could move the xmin on, so it would hold back vacuum forever.
        let idle = clean_inactive && want.expected_active == Some(false);
        let text = || format!("Dropping physical replication slot {name} because of its xmin value {xmin}");
        return if idle { drop(DropReason::Xmin, text()) } else { None };
    }
    if want.expected_active == Some(true) {
        return None;
    }
    let Some(restart_lsn) = restart_lsn.filter(|lsn| lsn.is_known()) else {
        let text = format!(
            "Dropping physical replication slot {name} because it has no restart_lsn. This slot was probably not \
             created by Patroni, but by an external agent."
        );
        return drop(DropReason::NoRestartLsn, text);
    };
    let lsn = want.lsn.filter(|lsn| *lsn > restart_lsn)?;
    Some(PhysicalAction::Advance { name: name.to_owned(), lsn })
}

#[cfg(test)]
mod tests;
