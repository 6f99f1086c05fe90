//! Rows that the caller reads from pg_settings for the functions here.

/// `SELECT name, setting, unit, vartype, context, sourcefile FROM
/// pg_catalog.pg_settings WHERE pg_catalog.lower(name) = ANY(...)`
/// (surface-ha-pg 17-01).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PgSetting {
    /// Name as the server spells it.
    pub name: String,
    /// Value in the base unit.
    pub setting: Option<String>,
    /// Base unit, such as `8kB`.
    pub unit: Option<String>,
    /// `bool`, `integer`, `real`, `enum` or `string`.
    pub vartype: String,
    /// `internal`, `postmaster`, `sighup`, ...
    pub context: String,
    /// The configuration file it was set in.
    pub sourcefile: Option<String>,
}

/// A parameter whose new value waits for a restart: a row of the query of
/// surface-ha-pg 17-04, and what `postgres -C` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingSetting {
    /// Name as the server spells it.
    pub name: String,
    /// `current_setting(name)`.
    pub current: Option<String>,
    /// Base unit.
    pub unit: Option<String>,
    /// Type, as in [`PgSetting`].
    pub vartype: String,
    /// The value after a restart; `None` if `postgres -C` failed.
    pub new_value: Option<String>,
}
