//! What the adapters for etcd 2 and 3 have in common (surface-dcs 8).

mod options;
mod srv;

pub use options::EtcdOptions;
