//! A member of a PySyncObj 0.3.17 cluster: what the reference's `raft` store consists of.
//!
//! [`pickle`], [`fernet`] and [`wire`] are what goes over the wire, [`journal`] and [`dump`] what is on the disk,
//! [`machine`] the Raft protocol without clock and sockets, [`kv`] the replicated dictionary, and `node` puts them together.

pub mod clock;
pub mod dump;
pub mod entry;
pub mod fernet;
pub mod journal;
pub mod kv;
pub mod machine;
pub mod message;
pub mod node;
pub mod pickle;
pub mod wire;
