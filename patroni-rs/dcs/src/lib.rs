//! The distributed configuration stores that patroni-rs can use, behind one trait.
//!
//! Two floors. Above, [`Dcs`] is the contract with the HA loop (surface-dcs 6), and `keys` the Patroni layout, written
//! once. Below, [`kv::KvStore`] is what a store has to do, and [`lock::LockRenewer`] how its lock is renewed beside the
//! loop. [`open`] makes the one that a configuration names.

mod consul;
mod dcs;
mod error;
mod etcd;
mod etcd2;
mod etcd3;
mod keys;
mod kubernetes;
pub mod kv;
pub mod lock;
mod open;
mod published;
mod retry;
mod settings;
mod wake;
pub mod watch;
mod zookeeper;

pub use consul::Consul;
pub use dcs::Dcs;
pub use error::DcsError;
pub use etcd2::Etcd2;
pub use etcd3::{Etcd3, LeaseKeeper};
pub use keys::Keys;
pub use kubernetes::Kubernetes;
pub use open::{open, unavailable, AVAILABLE};
pub use patroni_core::timing::Timing;
pub use settings::Settings;
pub use zookeeper::ZooKeeper;
