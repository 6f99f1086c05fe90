//! Typed view of the dynamic configuration.
