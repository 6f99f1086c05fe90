//! Which replication slots a node should have.
