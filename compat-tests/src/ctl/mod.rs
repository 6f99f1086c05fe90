//! The differential of patronictl: both programs run the same command line against the same keys in etcd, the
//! same members' REST APIs (played by [`fake`]) and the same PostgreSQL, with the same input, through pipes or
//! a pseudo-terminal. Compared are stdout, stderr, the exit code, the requests that members received, and the
//! keys that changed. `compat-ctl` prints what this finds.

pub mod cases;
pub mod fake;
pub mod run;
pub mod terminal;
pub mod world;

pub use cases::{Case, Input};
