//! Connections and the statements that run on them.
