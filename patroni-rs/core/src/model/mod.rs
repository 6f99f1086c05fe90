//! The cluster as read from the DCS.
