//! Server parameters: the set that goes into postgresql.conf, and the command line (surface-ha-pg 15.2).

use std::path::Path;

use patroni_core::controlled::{Controlled, CONTROLLED};
use patroni_core::parse::{parse_int, split_host_port};
use patroni_core::PgVersion;
use pyfmt::Value;

use super::cimap::Params;
use super::FilesError;

/// Segments kept when `wal_keep_segments` is not set.
const WAL_KEEP_SEGMENTS: i64 = 8;
/// Megabytes kept when `wal_keep_size` is not set.
const WAL_KEEP_SIZE_MB: i64 = 128;
/// Connections where nobody says how many.
const MAX_CONNECTIONS: i64 = 100;
/// Megabytes in a WAL segment of the usual size.
const SEGMENT_MB: i64 = 16;

/// How `synchronous_standby_names` is set (15.2-09).
#[derive(Debug, Clone, PartialEq)]
pub enum SyncNames {
    /// Synchronous mode is off: as the user has it.
    FromConfig,
    /// Synchronous mode: Patroni's value. `None` with `strict` on a primary
    /// becomes `*`.
    Managed {
        /// The value now in force.
        current: Option<Value>,
        /// Strict mode, and this node is a primary or about to be.
        star_if_none: bool,
    },
}

/// What server parameters are computed from, besides `postgresql.parameters`.
#[derive(Debug)]
pub struct ServerFacts<'a> {
    /// Becomes `cluster_name`.
    pub scope: &'a str,
    /// `postgresql.listen`.
    pub listen: &'a str,
    /// Where relative hba_file and ident_file are.
    pub config_dir: &'a Path,
    /// Major version; not known if there is no data directory yet.
    pub major_version: PgVersion,
    /// How `synchronous_standby_names` is set.
    pub sync_names: SyncNames,
    /// With Citus: the host by which the server is reached from its own machine.
    pub citus_host: Option<&'a str>,
}

/// The parameters of the server, from the effective `postgresql.parameters`.
///
/// # Errors
/// A `listen` whose port is not a number.
pub fn server_parameters(configured: &Params, facts: &ServerFacts<'_>) -> Result<Params, FilesError> {
    let mut params = configured.clone();
    let (host, port) =
        split_host_port(facts.listen, 5432).map_err(|_| FilesError::Listen(facts.listen.to_owned()))?;
    params.set("cluster_name", facts.scope);
    params.set("listen_addresses", host);
    params.set("port", port.to_string());
    apply_sync_names(&mut params, &facts.sync_names);
    translate_wal_level(&mut params, facts.major_version);
    translate_wal_keep(&mut params, facts.major_version);
    if let Some(host) = facts.citus_host {
        adjust_for_citus(&mut params, host);
    }
    params.retain(|name, _| {
        let since = Controlled::find(name).map_or(PgVersion::V9_1, |c| c.since);
        !facts.major_version.is_known() || facts.major_version.at_least(since)
    });
    overrule_places(&mut params, facts);
    Ok(params)
}

/// What Citus needs (surface-ha-pg 26-03): it is loaded first, prepares its distributed transactions, moves shards by logical
/// replication, and reaches its own server as we do.
fn adjust_for_citus(params: &mut Params, host: &str) {
    const LIBRARIES: &str = "shared_preload_libraries";
    let others = params.get(LIBRARIES).filter(|v| !v.is_null()).map(Value::py_str).unwrap_or_default();
    let others = others.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "citus");
    let libraries: Vec<&str> = std::iter::once("citus").chain(others).collect();
    params.set(LIBRARIES, libraries.join(","));
    let number = |name: &str| params.get(name).and_then(|value| parse_int(value, None));
    // A number of the user's own stays.
    if number("max_prepared_transactions").unwrap_or(0) == 0 {
        let connections = number("max_connections").unwrap_or(MAX_CONNECTIONS);
        params.set("max_prepared_transactions", connections.saturating_mul(2));
    }
    params.set("wal_level", "logical");
    params.set("citus.local_hostname", host);
}

/// Where the server finds its files is what we start it with. An `hba_file` or `ident_file` of the user's own is
/// good, spelled as the server spells it: any other spelling would wait for a restart forever.
fn overrule_places(params: &mut Params, facts: &ServerFacts<'_>) {
    for name in ["data_directory", "config_file"] {
        params.remove(name);
    }
    for name in ["hba_file", "ident_file"] {
        if let Some(value) = params.get(name) {
            let path = facts.config_dir.join(value.py_str());
            params.set(name, canonical_path(&path.to_string_lossy()));
        }
    }
    if let Some(value) = params.get("external_pid_file").filter(|v| v.truthy()) {
        let path = canonical_path(&value.py_str());
        // PostgreSQL would write its second pid file over the first one, and stop.
        if Path::new(&path).file_name().is_some_and(|name| name == "postmaster.pid") {
            params.remove("external_pid_file");
        } else {
            params.set("external_pid_file", path);
        }
    }
}

/// PostgreSQL's `canonicalize_path`: without `.`, `..` where it takes back a name, doubled and trailing slashes.
fn canonical_path(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." if names.last().is_some_and(|last| *last != "..") => drop(names.pop()),
            ".." if path.starts_with('/') => {}
            name => names.push(name),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    match format!("{root}{}", names.join("/")) {
        empty if empty.is_empty() => ".".to_owned(),
        path => path,
    }
}

fn apply_sync_names(params: &mut Params, sync_names: &SyncNames) {
    const NAME: &str = "synchronous_standby_names";
    match sync_names {
        SyncNames::FromConfig => {}
        SyncNames::Managed { current: Some(value), .. } => params.set(NAME, value.clone()),
        SyncNames::Managed { current: None, star_if_none: true } => params.set(NAME, "*"),
        SyncNames::Managed { current: None, star_if_none: false } => {
            params.remove(NAME);
        }
    }
}

/// `hot_standby` and `archive` became `replica` with 9.6.
fn translate_wal_level(params: &mut Params, major_version: PgVersion) {
    let (old, new) = if major_version.at_least(PgVersion::V9_6) {
        ("hot_standby", "replica")
    } else {
        ("replica", "hot_standby")
    };
    if params.get("wal_level") == Some(&old.into()) {
        params.set("wal_level", new);
    }
}

/// `wal_keep_segments` became `wal_keep_size` with 13. One is computed from
/// the other for segments of 16 MB; nothing is when the version is not known.
fn translate_wal_keep(params: &mut Params, major_version: PgVersion) {
    if major_version.at_least(PgVersion::V13) {
        let segments = params.remove("wal_keep_segments").and_then(|v| parse_int(&v, None));
        let megabytes = segments.unwrap_or(WAL_KEEP_SEGMENTS).saturating_mul(SEGMENT_MB);
        params.set_default("wal_keep_size", format!("{megabytes}MB"));
    } else if major_version.is_known() {
        let megabytes = match params.remove("wal_keep_size") {
            Some(size) => parse_int(&size, Some("MB")).unwrap_or(0),
            None => WAL_KEEP_SIZE_MB,
        };
        params.set_default("wal_keep_segments", megabytes.saturating_add(SEGMENT_MB / 2) / SEGMENT_MB);
    }
}

/// Arguments of the postmaster, `--name=value`, in the order of
/// [`CONTROLLED`]. The WAL to keep may be changed at run time and is not among
/// them.
pub fn command_line(params: &Params) -> Vec<String> {
    let passed = CONTROLLED.iter().filter(|c| !c.keeps_wal());
    passed.filter_map(|c| Some(format!("--{}={}", c.name, params.get(c.name)?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect()
    }

    fn compute(pairs: &[(&str, &str)], major_version: PgVersion, sync_names: SyncNames) -> Params {
        let facts = ServerFacts {
            scope: "demo",
            listen: "127.0.0.1,::1:5433",
            config_dir: Path::new("/etc/pg"),
            major_version,
            sync_names,
            citus_host: None,
        };
        server_parameters(&params(pairs), &facts).unwrap()
    }

    #[test]
    fn names_and_values_follow_the_version() {
        let pairs = [
            ("wal_level", "hot_standby"),
            ("hba_file", "x/hba"),
            ("ident_file", "/a"),
            ("Cluster_Name", "no"),
        ];
        let text =
            |p: &Params| p.sorted().iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        assert_eq!(
            text(&compute(&pairs, PgVersion::V15, SyncNames::FromConfig)),
            "cluster_name=demo hba_file=/etc/pg/x/hba ident_file=/a listen_addresses=127.0.0.1,::1 port=5433 \
             wal_keep_size=128MB wal_level=replica"
        );
        assert_eq!(
            text(&compute(&pairs, PgVersion::V9_4, SyncNames::FromConfig)),
            "hba_file=/etc/pg/x/hba ident_file=/a listen_addresses=127.0.0.1,::1 port=5433 wal_keep_segments=8 \
             wal_level=hot_standby"
        );
    }

    #[test]
    fn what_citus_needs() {
        for (pairs, expected) in [
            (
                &[("max_connections", "60"), ("max_prepared_transactions", "0"), ("wal_level", "replica")][..],
                "citus.local_hostname=/run max_connections=60 max_prepared_transactions=120 \
                 shared_preload_libraries=citus wal_level=logical",
            ),
            (
                &[
                    ("max_prepared_transactions", "7"),
                    ("shared_preload_libraries", " pg_stat_statements, citus,,x"),
                ][..],
                "citus.local_hostname=/run max_prepared_transactions=7 \
                 shared_preload_libraries=citus,pg_stat_statements,x wal_level=logical",
            ),
            (
                &[][..],
                "citus.local_hostname=/run max_prepared_transactions=200 shared_preload_libraries=citus \
                 wal_level=logical",
            ),
        ] {
            let mut found = params(pairs);
            adjust_for_citus(&mut found, "/run");
            let text: Vec<String> = found.sorted().iter().map(|(k, v)| format!("{k}={v}")).collect();
            assert_eq!(text.join(" "), expected);
        }
    }

    #[test]
    fn places_are_ours() {
        let pairs = [
            ("data_directory", "/else"),
            ("Config_File", "/else/x.conf"),
            ("hba_file", "./sub//../pg_hba.conf"),
            ("ident_file", "/a/./b/"),
            ("external_pid_file", "/run//x.pid"),
        ];
        let found = compute(&pairs, PgVersion::V15, SyncNames::FromConfig);
        let get = |name: &str| found.get(name).map(Value::py_str);
        assert_eq!(get("data_directory"), None);
        assert_eq!(get("config_file"), None);
        assert_eq!(get("hba_file").as_deref(), Some("/etc/pg/pg_hba.conf"));
        assert_eq!(get("ident_file").as_deref(), Some("/a/b"));
        assert_eq!(get("external_pid_file").as_deref(), Some("/run/x.pid"));
        let own =
            compute(&[("external_pid_file", "./postmaster.pid")], PgVersion::V15, SyncNames::FromConfig);
        assert_eq!(own.get("external_pid_file"), None);
    }

    #[test]
    fn paths_as_postgresql_writes_them() {
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("/a/../../b/.", "/b"),
            ("../a/..", ".."),
            ("a/..", "."),
            ("//", "/"),
            ("x/./y//", "x/y"),
        ] {
            assert_eq!(canonical_path(path), expected, "{path}");
        }
    }

    #[test]
    fn wal_to_keep_is_translated() {
        let get = |pairs: &[(&str, &str)], version, name: &str| {
            compute(pairs, version, SyncNames::FromConfig).get(name).map(Value::py_str)
        };
        assert_eq!(
            get(&[("wal_keep_segments", "10")], PgVersion::V13, "wal_keep_size").as_deref(),
            Some("160MB")
        );
        assert_eq!(
            get(&[("wal_keep_size", "1GB")], PgVersion::V12, "wal_keep_segments").as_deref(),
            Some("64")
        );
        assert_eq!(
            get(&[("wal_keep_size", "24MB")], PgVersion::V12, "wal_keep_segments").as_deref(),
            Some("2")
        );
        assert_eq!(get(&[("wal_keep_segments", "10")], PgVersion::UNKNOWN, "wal_keep_size"), None);
    }

    #[test]
    fn synchronous_names() {
        let user = [("synchronous_standby_names", "user")];
        let managed = |current: Option<&str>, star_if_none| {
            let current = current.map(Value::from);
            let p = compute(&user, PgVersion::V15, SyncNames::Managed { current, star_if_none });
            p.get("synchronous_standby_names").map(Value::py_str)
        };
        assert_eq!(managed(None, false), None);
        assert_eq!(managed(None, true).as_deref(), Some("*"));
        assert_eq!(managed(Some("n1"), true).as_deref(), Some("n1"));
    }
}
