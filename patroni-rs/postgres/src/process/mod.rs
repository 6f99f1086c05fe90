//! Processes: postmaster, bootstrap, base backup, rewind, callbacks.
