//! Files written for PostgreSQL, and the values that go into them
//! (surface-ha-pg 15 to 17).
//!
//! The modules are pure functions from configuration, version and facts to
//! bytes and decisions; [`ConfigHandler`] holds them together for one instance
//! and writes. What has to be asked from the server comes in as arguments.

mod addresses;
mod cimap;
mod conninfo;
mod error;
mod guc;
mod guc_files;
mod handler;
mod hba;
mod parameters;
pub mod perm;
mod pg_settings;
mod pgpass;
mod postgresql_conf;
mod recovery;
mod recovery_check;
mod reload;
mod text;
mod uri;
pub mod write;

pub(crate) use addresses::DEFAULT_SOCKET_DIRS;
pub use addresses::{Addresses, Listening};
pub use cimap::Params;
pub use conninfo::{format_dsn, member_conn_kwargs, parse_conninfo, parse_dsn, Conninfo};
pub use error::FilesError;
pub use guc::{AvailableGucs, GucTable, Transformed};
pub use handler::{
    data_dir, effective_version, ConfigHandler, CurrentParametersQuery, InstanceSetup, PreparedReload,
    ReloadOutcome, ServerState, SettingsRead,
};
pub use hba::lines_of;
pub use parameters::command_line;
pub use pg_settings::{PendingSetting, PgSetting};
pub use recovery::Upstream;
pub use recovery_check::{Verdict, WalReceiver};
pub use reload::{ParamDiff, PendingRestart};
