//! Replication slots: which ones a node is to have, and what to do about those
//! it has (surface-ha-pg 18, surface-dcs 5).
//!
//! [`desired_slots`] is the goal, [`SlotInventory`] what is known of the server. The
//! inventory plans drops, creations and advances; the instance that executes them reports
//! back, because a slot that could not be dropped must be looked at again.

mod desired;
mod inventory;
mod logical;
mod names;
mod permanent;
mod publish;
mod readiness;
mod topology;

pub use desired::{desired_slots, Desired, DesiredSlot, Node, SlotKind, Subject};
pub use inventory::{
    DropReason, DropResult, KnownKind, KnownSlot, PhysicalAction, PlannedDrop, SlotInventory, Spared,
};
pub use logical::{LogicalWork, NewLogicalSlot};
pub use names::{member_slot_name, valid_slot_name};
pub use permanent::{is_logical, is_physical, permanent_physical_slots};
pub use publish::{maybe_filter_permanent_slots, with_own_slot, Retention};
pub use readiness::{Readiness, ReadinessQuery};
pub use topology::{has_permanent_slots, should_enforce_hot_standby_feedback, slot_name_on_primary};

use crate::ha::{Level, LogLine};

fn line(level: Level, text: String) -> LogLine {
    LogLine { level, text }
}
