//! The kinds of DCS that the reference has.

/// Their sections of the configuration, in the order in which they are looked for.
pub const STORES: [&str; 7] = ["consul", "etcd", "etcd3", "exhibitor", "kubernetes", "raft", "zookeeper"];
