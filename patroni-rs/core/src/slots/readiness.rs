//! When a copied logical slot may be used after a promotion (18-17).
//!
//! The primary must keep the catalog rows that the slot needs. It does so once
//! the `catalog_xmin` of the standby's physical slot there is set (by
//! `hot_standby_feedback`) and has passed that of the logical slot on the primary.

use indexmap::IndexMap;

use super::inventory::{KnownKind, SlotInventory};
use super::line;
use crate::ha::{Level, LogLine};

/// Copied slots that are not known to be safe; with the `catalog_xmin` that
/// the slot had on the primary when the physical one got its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readiness {
    pending: IndexMap<String, Option<u64>>,
}

/// What to ask the leader: the `catalog_xmin` of these slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessQuery {
    /// Logical ones that have not been seen there yet.
    pub logical: Vec<String>,
    /// The physical slot that we use there; `None` if we do not stream.
    pub physical: Option<String>,
}

impl Readiness {
    /// Replaces the list: the slots have been read after a start.
    pub fn restart(&mut self, names: Vec<String>) {
        self.pending = names.into_iter().map(|n| (n, None)).collect();
    }

    /// A slot has been copied.
    pub fn copied(&mut self, name: &str) {
        self.pending.insert(name.to_owned(), None);
    }

    /// A primary has no such doubts.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    /// What to ask the leader, if anything is pending and there is one.
    pub fn query(&self, has_leader: bool, physical: Option<String>) -> Option<ReadinessQuery> {
        let logical =
            self.pending.iter().filter(|(_, xmin)| xmin.is_none()).map(|(n, _)| n.clone()).collect();
        (has_leader && !self.pending.is_empty()).then_some(ReadinessQuery { logical, physical })
    }

    /// Takes the leader's answer: `catalog_xmin` by slot. `Err` ends the check
    /// for this time. `Ok(None)` means that the physical slot has none: does
    /// the standby send feedback?
    pub fn note_answer(
        &mut self,
        query: &ReadinessQuery,
        mut slots: IndexMap<String, Option<u64>>,
    ) -> Result<Option<u64>, LogLine> {
        let shown = query.physical.as_deref().unwrap_or("None");
        let found = query.physical.as_deref().and_then(|name| slots.shift_remove(name));
        let Some(physical) = found else {
            return Err(line(Level::Warning, format!("Physical slot {shown} does not exist on the primary")));
        };
        if physical.is_some() {
            self.pending.extend(slots);
        }
        Ok(physical)
    }

    /// Forgets slots that are safe, and those that are gone. `physical` is the
    /// `catalog_xmin` of our physical slot on the leader, if it was asked for.
    pub fn settle(&mut self, book: &SlotInventory, physical: Option<u64>) -> Vec<LogLine> {
        let mut log = Vec::new();
        self.pending.retain(|name, primary| {
            let here = match book.get(name).map(|s| &s.kind) {
                Some(KnownKind::Logical { catalog_xmin, .. }) => catalog_xmin.unwrap_or(0),
                Some(KnownKind::Physical { .. }) => 0,
                None => return false,
            };
            let safe = match (*primary, physical) {
                (Some(primary), Some(physical)) => primary <= physical && physical <= here,
                _ => false,
            };
            if safe {
                log.push(line(
                    Level::Info,
                    format!("Logical slot {name} is safe to be used after a failover"),
                ));
            }
            !safe
        });
        log
    }

    /// The warning of a promotion that comes too early for some slots.
    pub fn promotion_warning(&self) -> Option<LogLine> {
        let names: Vec<String> = self.pending.keys().map(|n| pyfmt::value::str_repr(n)).collect();
        let text = "Logical replication slots that might be unsafe to use after promote";
        (!names.is_empty()).then(|| line(Level::Warning, format!("{text}: {{{}}}", names.join(", "))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::inventory::KnownSlot;
    use super::*;

    fn book(xmin: u64) -> SlotInventory {
        let kind = KnownKind::Logical {
            plugin: "p".into(),
            database: Some("d".into()),
            datoid: Some(5),
            catalog_xmin: Some(xmin),
            confirmed_flush_lsn: Some(crate::model::Lsn::new(1)),
        };
        let mut book = SlotInventory::new();
        book.load([("l".to_owned(), KnownSlot { kind, wal_status: None })].into_iter().collect());
        book
    }

    fn answer(physical: Option<u64>, logical: u64) -> IndexMap<String, Option<u64>> {
        [("me".to_owned(), physical), ("l".to_owned(), Some(logical))].into_iter().collect()
    }

    #[test]
    fn a_slot_is_safe_when_the_physical_one_has_passed_it() {
        let mut readiness = Readiness::default();
        readiness.copied("l");
        readiness.copied("gone");
        let query = readiness.query(true, Some("me".into())).unwrap();
        assert_eq!(query.logical, ["l", "gone"]);
        assert_eq!(readiness.note_answer(&query, answer(None, 700)), Ok(None));
        assert_eq!(
            readiness.promotion_warning().unwrap().text,
            "Logical replication slots that might be unsafe to use after promote: {'l', 'gone'}"
        );
        assert_eq!(readiness.note_answer(&query, answer(Some(690), 700)), Ok(Some(690)));
        assert!(readiness.settle(&book(710), Some(690)).is_empty());
        // Known now, so only the physical slot is asked for.
        assert!(readiness.query(true, Some("me".into())).unwrap().logical.is_empty());
        assert_eq!(readiness.settle(&book(710), Some(705)).len(), 1);
        assert!(readiness.promotion_warning().is_none() && readiness.query(true, None).is_none());
    }

    #[test]
    fn a_missing_physical_slot_is_reported() {
        let mut readiness = Readiness::default();
        readiness.copied("l");
        assert_eq!(readiness.query(false, None), None);
        let query = readiness.query(true, Some("me".into())).unwrap();
        let error = readiness.note_answer(&query, IndexMap::new()).unwrap_err();
        assert_eq!(error.text, "Physical slot me does not exist on the primary");
    }
}
