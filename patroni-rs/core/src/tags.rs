//! Member tags.
