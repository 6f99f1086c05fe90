//! The states that PostgreSQL's control file knows.

/// `Database cluster state`. Source: PostgreSQL's `pg_controldata.c`, `dbState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClusterState {
    /// `starting up`
    StartingUp,
    /// `shut down`
    ShutDown,
    /// `shut down in recovery`
    ShutDownInRecovery,
    /// `shutting down`
    ShuttingDown,
    /// `in crash recovery`
    InCrashRecovery,
    /// `in archive recovery`
    InArchiveRecovery,
    /// `in production`
    InProduction,
    /// Any other text, or none.
    #[default]
    Unknown,
}

impl ClusterState {
    /// The name of its line in the output of `pg_controldata`.
    pub const LINE: &'static str = "Database cluster state";

    /// The state that `pg_controldata` tells with this text.
    pub fn parse(text: &str) -> ClusterState {
        match text {
            "starting up" => ClusterState::StartingUp,
            "shut down" => ClusterState::ShutDown,
            "shut down in recovery" => ClusterState::ShutDownInRecovery,
            "shutting down" => ClusterState::ShuttingDown,
            "in crash recovery" => ClusterState::InCrashRecovery,
            "in archive recovery" => ClusterState::InArchiveRecovery,
            "in production" => ClusterState::InProduction,
            _ => ClusterState::Unknown,
        }
    }

    /// It was accepting writes, or about to end doing so, and nobody has recovered it since.
    pub fn crashed_as_primary(self) -> bool {
        use ClusterState::{InCrashRecovery, InProduction, ShuttingDown};
        matches!(self, InProduction | InCrashRecovery | ShuttingDown)
    }
}
