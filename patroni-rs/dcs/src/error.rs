//! What can go wrong with a DCS.

/// A DCS operation whose outcome is not known. A refusal (somebody else was first,
/// the lock is lost, no permission) is no error but `Ok(false)`: the HA loop treats
/// the two differently, see surface-dcs 6.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DcsError {
    /// No node of the store has given an answer in time.
    #[error("{0}")]
    Unreachable(String),
    /// There was an answer, but too late to go on safely.
    #[error("{0}")]
    Timeout(String),
    /// The store has refused to let us read.
    #[error("{0}")]
    Refused(String),
    /// User or password are wrong, found out at the start.
    #[error("{0}")]
    Auth(String),
    /// The configuration makes no client.
    #[error("{0}")]
    Config(String),
}
