//! The distributed configuration stores that patroni-rs can use, behind one trait.
//!
//! [`Dcs`] is the contract with the HA loop (surface-dcs 6), [`AnyDcs`] the store
//! that a configuration names.

mod any;
mod dcs;
mod error;
mod etcd;
mod etcd3;
pub mod kv;
pub mod lock;
mod published;
mod retry;
mod settings;
mod wake;
pub mod watch;

pub use any::{AnyDcs, AVAILABLE};
pub use dcs::Dcs;
pub use error::DcsError;
pub use etcd3::{Etcd3, LeaseKeeper};
pub use settings::{Settings, Timing};
