//! The HA engine.
