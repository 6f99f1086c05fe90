//! Logical slots: created on the primary, copied to and advanced on replicas
//! (18-13, 18-14).

use indexmap::IndexMap;

use super::desired::{Desired, SlotKind};
use super::inventory::{KnownKind, SlotInventory};
use crate::model::Lsn;

/// A logical slot to be created on the primary.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct NewLogicalSlot {
    pub name: String,
    pub plugin: String,
}

/// Work on the logical slots of a replica.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogicalWork {
    /// Positions to advance to, by database and slot.
    pub advance: IndexMap<String, IndexMap<String, Lsn>>,
    /// Slots to copy from the primary.
    pub copy: Vec<String>,
}

impl SlotInventory {
    /// Logical slots that the primary lacks, by database, since creating one
    /// takes a connection to its database.
    pub fn plan_logical_primary(&mut self, wanted: &Desired) -> IndexMap<String, Vec<NewLogicalSlot>> {
        let mut missing: IndexMap<String, Vec<NewLogicalSlot>> = IndexMap::new();
        for (name, want) in wanted {
            let SlotKind::Logical { database, plugin } = &want.kind else {
                continue;
            };
            // Without an oid it is one that we only wished for.
            let exists = matches!(
                self.known.get(name).map(|s| &s.kind),
                Some(KnownKind::Logical { datoid: Some(oid), .. }) if *oid != 0
            );
            if !exists {
                let slot = NewLogicalSlot { name: name.clone(), plugin: plugin.clone() };
                missing.entry(database.clone()).or_default().push(slot);
                self.schedule_reload();
            }
        }
        missing
    }

    /// Which logical slots of a replica lag behind the published position, as
    /// far as it has replayed, and which it lacks. Those to be copied leave
    /// `wanted`: they are not there yet.
    pub fn plan_logical_replica(&self, wanted: &mut Desired, replay_lsn: Lsn) -> LogicalWork {
        let mut work = LogicalWork::default();
        for (name, want) in wanted.iter() {
            let (SlotKind::Logical { database, plugin }, Some(lsn)) = (&want.kind, want.lsn) else {
                continue;
            };
            match self.known.get(name).map(|s| &s.kind) {
                None => work.copy.push(name.clone()),
                Some(KnownKind::Logical { plugin: p, database: db, confirmed_flush_lsn, .. })
                    if p == plugin && db.as_ref() == Some(database) =>
                {
                    let target = lsn.min(replay_lsn);
                    if confirmed_flush_lsn.unwrap_or_default() < target {
                        work.advance.entry(database.clone()).or_default().insert(name.clone(), target);
                    }
                }
                Some(_) => {}
            }
        }
        for name in &work.copy {
            wanted.shift_remove(name);
        }
        work
    }
}
