//! Which standbys are synchronous, which could be, and what
//! `synchronous_standby_names` is to say (surface-ha-pg 20 and 21).

mod names;
mod pick;
mod value;

pub use names::{application_name, never_synchronous, shown_name, NameSet};
pub use pick::{
    candidates, impersonated, Candidate, CurrentState, NamesSeen, Observed, ReplicaRow, SyncOptions, Tracker,
};
pub use value::{names_value, parse_names, quote_name, SyncNamesError, SyncNamesValue, SyncType};
