//! What proves that patroni-rs does what it says: the deterministic simulation
//! of whole clusters, and helpers of the tests that run real ones.

pub mod sim;
