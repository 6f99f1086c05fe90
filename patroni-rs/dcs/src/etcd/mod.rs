//! What the adapters for etcd 2 and 3 have in common (surface-dcs 8).

mod options;
pub mod pool;
mod seen;
mod srv;
pub mod wire;

pub use options::EtcdOptions;
pub use seen::Told;
