//! Everything patroni-rs does to a PostgreSQL instance: the files it writes,
//! the processes it starts and signals, and the statements it runs.

pub mod files;
pub mod process;
pub mod sql;
