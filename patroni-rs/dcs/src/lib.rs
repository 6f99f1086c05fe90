//! The distributed configuration stores that patroni-rs can use, behind one trait.
//!
//! Two floors. Above, [`Dcs`] is the contract with the HA loop (surface-dcs 6), and `keys` the Patroni layout, written
//! once. Below, [`kv::KvStore`] is what a store has to do, and [`lock::LockRenewer`] how its lock is renewed beside the
//! loop. [`open`] makes the one that a configuration names.

#[cfg(feature = "stores")]
mod address;
#[cfg(feature = "stores")]
mod ask;
#[cfg(feature = "stores")]
mod consul;
mod dcs;
mod error;
#[cfg(feature = "stores")]
mod etcd;
#[cfg(feature = "stores")]
mod etcd2;
#[cfg(feature = "stores")]
mod etcd3;
pub mod grant;
mod keys;
pub mod kubernetes;
pub mod kv;
pub mod lock;
#[cfg(feature = "stores")]
mod open;
mod published;
#[cfg(feature = "stores")]
mod raft;
#[cfg(feature = "stores")]
mod retry;
mod settings;
pub mod skew;
mod wake;
pub mod watch;
#[cfg(feature = "stores")]
mod zookeeper;

#[cfg(feature = "stores")]
pub use consul::Consul;
pub use dcs::Dcs;
pub use error::DcsError;
#[cfg(feature = "stores")]
pub use etcd2::Etcd2;
#[cfg(feature = "stores")]
pub use etcd3::{Etcd3, LeaseKeeper};
pub use keys::Keys;
#[cfg(feature = "stores")]
pub use kubernetes::Kubernetes;
#[cfg(feature = "stores")]
pub use open::{open, unavailable, AVAILABLE};
pub use patroni_core::timing::Timing;
#[cfg(feature = "stores")]
pub use raft::{member_config as raft_member, Raft};
pub use settings::Settings;
#[cfg(feature = "stores")]
pub use zookeeper::ZooKeeper;
