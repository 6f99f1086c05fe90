//! Connections and statements on real servers. Versions that are not installed
//! are left out; PostgreSQL refuses root, so the servers run as `postgres`.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod connections;
mod server;
mod slots;
mod statements;
