//! What proves that patroni-rs does what it says: the deterministic simulation
//! of whole clusters, and the test cluster that runs real ones.

pub mod chaos;
pub mod ctl;
pub mod demo;
pub mod diff;
pub mod lab;
pub mod normalise;
pub mod page;
pub mod program;
pub mod rest;
pub mod sim;
