//! The helper programs that configurations name in `callbacks`, `create_replica_methods`
//! and custom bootstrap methods (surface-config 13).

pub mod args;
pub mod aws;
pub mod barman;
pub mod http;
pub mod log;
pub mod wale;
