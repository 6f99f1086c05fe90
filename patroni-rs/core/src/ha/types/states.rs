//! States, roles and modes, with the words for them.

/// The state of PostgreSQL as published (surface-ha-pg 1-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum PgState {
    InitDb,
    InitDbFailed,
    CustomBootstrap,
    CustomBootstrapFailed,
    CreatingReplica,
    Running,
    Starting,
    BootstrapStarting,
    StartFailed,
    Restarting,
    RestartFailed,
    Stopping,
    Stopped,
    StopFailed,
    Crashed,
}

impl PgState {
    /// All of them.
    pub const ALL: [PgState; 15] = [
        PgState::InitDb,
        PgState::InitDbFailed,
        PgState::CustomBootstrap,
        PgState::CustomBootstrapFailed,
        PgState::CreatingReplica,
        PgState::Running,
        PgState::Starting,
        PgState::BootstrapStarting,
        PgState::StartFailed,
        PgState::Restarting,
        PgState::RestartFailed,
        PgState::Stopping,
        PgState::Stopped,
        PgState::StopFailed,
        PgState::Crashed,
    ];

    /// The text in member keys and REST answers.
    pub fn as_str(self) -> &'static str {
        match self {
            PgState::InitDb => "initializing new cluster",
            PgState::InitDbFailed => "initdb failed",
            PgState::CustomBootstrap => "running custom bootstrap script",
            PgState::CustomBootstrapFailed => "custom bootstrap failed",
            PgState::CreatingReplica => "creating replica",
            PgState::Running => "running",
            PgState::Starting => "starting",
            PgState::BootstrapStarting => "starting after custom bootstrap",
            PgState::StartFailed => "start failed",
            PgState::Restarting => "restarting",
            PgState::RestartFailed => "restart failed",
            PgState::Stopping => "stopping",
            PgState::Stopped => "stopped",
            PgState::StopFailed => "stop failed",
            PgState::Crashed => "crashed",
        }
    }

    /// Does no server run, as far as is known?
    pub fn is_over(self) -> bool {
        matches!(self, PgState::StartFailed | PgState::RestartFailed | PgState::Stopped | PgState::Crashed)
    }

    /// Is the server on its way up?
    pub fn is_starting(self) -> bool {
        matches!(self, PgState::Starting | PgState::BootstrapStarting)
    }
}

/// The role of this node as published (surface-ha-pg 1-02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Role {
    Primary,
    StandbyLeader,
    Replica,
    Demoted,
    Uninitialized,
    Promoted,
}

impl Role {
    /// All of them.
    pub const ALL: [Role; 6] = [
        Role::Primary,
        Role::StandbyLeader,
        Role::Replica,
        Role::Demoted,
        Role::Uninitialized,
        Role::Promoted,
    ];

    /// The text in member keys and REST answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::StandbyLeader => "standby_leader",
            Role::Replica => "replica",
            Role::Demoted => "demoted",
            Role::Uninitialized => "uninitialized",
            Role::Promoted => "promoted",
        }
    }
}

/// Scripts that the user attaches to events (surface-ha-pg 22-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Callback {
    OnStart,
    OnStop,
    OnRestart,
    OnReload,
    OnRoleChange,
}

impl Callback {
    /// The first argument of the script.
    pub fn as_str(self) -> &'static str {
        match self {
            Callback::OnStart => "on_start",
            Callback::OnStop => "on_stop",
            Callback::OnRestart => "on_restart",
            Callback::OnReload => "on_reload",
            Callback::OnRoleChange => "on_role_change",
        }
    }
}

/// How the postmaster is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopMode {
    /// The clients are disconnected, and a checkpoint is written (SIGINT).
    Fast,
    /// Abort without a checkpoint (SIGQUIT).
    Immediate,
}

/// Ways to stop being a primary (surface-ha-pg 9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DemoteMode {
    /// Fast stop behind a checkpoint; the key is released when a candidate has it all.
    Graceful,
    /// Immediate stop; the key is released.
    Immediate,
    /// Immediate stop; the key is not ours to touch.
    ImmediateNolock,
    /// Fast stop; the DCS cannot be reached.
    Offline,
    /// A primary becomes the leader of a standby cluster.
    Cluster,
}

impl DemoteMode {
    /// The word in the log line `Demoting self (%s)`.
    pub fn as_str(self) -> &'static str {
        match self {
            DemoteMode::Graceful => "graceful",
            DemoteMode::Immediate => "immediate",
            DemoteMode::ImmediateNolock => "immediate-nolock",
            DemoteMode::Offline => "offline",
            DemoteMode::Cluster => "demote-cluster",
        }
    }
}
