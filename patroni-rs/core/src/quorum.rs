//! Quorum commit arithmetic.
