//! What the members' PostgreSQL say, asked as the configuration of a member connects to them: needs its
//! `postgresql.authentication`. Everything is read, nothing is written.

use std::time::Duration;

use patroni_core::model::{Cluster, Member};
use patroni_core::PgVersion;
use patroni_postgres::sql::{ConnParams, PgError, ReplicationClient, Row, Session};
use pyfmt::Value;
use tokio::task::JoinSet;

/// How long a statement may take.
const LIMIT: Duration = Duration::from_secs(5);

/// One member, as its PostgreSQL answers from here.
#[derive(Debug, Clone)]
pub struct Server {
    /// The member.
    pub name: String,
    /// Asked as the superuser of the configuration.
    pub state: Result<State, String>,
    /// May the replication user begin to stream? None: the configuration has none.
    pub replication: Option<Result<(), String>>,
    /// May the user of pg_rewind read what it has to? None: pg_rewind is not used.
    pub rewind: Option<Result<bool, String>>,
}

/// What a server says of itself.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Settings by name.
    pub settings: Vec<(String, String)>,
    /// Lines of its files that PostgreSQL does not take, with the reason.
    pub bad_lines: Vec<String>,
    /// Its slots.
    pub slots: Vec<Slot>,
    /// The WAL segment that could not be archived, if that was the last attempt.
    pub not_archived: Option<String>,
    /// What could not be asked, and why.
    pub unasked: Vec<String>,
}

/// A replication slot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: String,
    /// Somebody streams from it.
    pub active: bool,
    /// `lost`, `unreserved`, ...; empty before PostgreSQL 13.
    pub wal_status: String,
    /// Bytes of WAL that are kept for it.
    pub kept: u64,
}

impl State {
    /// A setting's value; empty if it was not told.
    pub fn setting(&self, name: &str) -> &str {
        self.settings.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Asks all members at once. None: this configuration does not say how to connect.
pub async fn look(cluster: &Cluster, postgresql: &Value, use_pg_rewind: bool) -> Option<Vec<Server>> {
    let user = |name: &str| postgresql.at(&["authentication", name]).filter(|user| user.truthy()).cloned();
    let (superuser, replication) = (user("superuser")?, user("replication"));
    let rewind = use_pg_rewind.then(|| user("rewind").unwrap_or_else(|| superuser.clone()));
    let mut asked = JoinSet::new();
    for (at, member) in cluster.members.iter().enumerate() {
        let login = |auth: &Value| params(member, auth);
        // A member that publishes no address has none for anybody.
        let (superuser, replication, rewind) =
            (login(&superuser), replication.as_ref().and_then(login), rewind.as_ref().and_then(login));
        let name = member.name.clone();
        asked.spawn(async move { (at, ask(name, superuser, replication, rewind).await) });
    }
    let mut servers = asked.join_all().await;
    servers.sort_by_key(|(at, _)| *at);
    Some(servers.into_iter().map(|(_, server)| server).collect())
}

/// As Patroni connects to that member; None without an address in its key.
fn params(member: &Member, auth: &Value) -> Option<ConnParams> {
    let kwargs = member.conn_kwargs(Some(auth));
    let given = kwargs.iter().filter(|(_, value)| !value.is_null());
    let mut params: ConnParams = given.map(|(key, value)| (key.clone(), value.py_str())).collect();
    if params.get("dbname").is_none_or(str::is_empty) {
        params.set("dbname", "postgres");
    }
    params.get("host")?;
    params.set("connect_timeout", "5");
    params.set("fallback_application_name", "patronictl doctor");
    Some(params)
}

async fn ask(
    name: String,
    superuser: Option<ConnParams>,
    replication: Option<ConnParams>,
    rewind: Option<ConnParams>,
) -> Server {
    let Some(superuser) = superuser else {
        let state = Err("its key has no conn_url".to_owned());
        return Server { name, state, replication: None, rewind: None };
    };
    let state = state(&superuser).await.map_err(one_line);
    let replication = match replication {
        Some(params) => Some(streams(&params).await.map_err(one_line)),
        None => None,
    };
    let rewind = match rewind {
        Some(params) => Some(may_rewind(&params).await.map_err(one_line)),
        None => None,
    };
    Server { name, state, replication, rewind }
}

#[allow(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn one_line(error: PgError) -> String {
    error.to_string().replace('\n', " ")
}

async fn open(params: &ConnParams) -> Result<Session, PgError> {
    Session::connect(&params.clone().with_safe_search_path()).await
}

async fn streams(params: &ConnParams) -> Result<(), PgError> {
    let mut client = ReplicationClient::connect(params).await?;
    tokio::time::timeout(LIMIT, client.identify_system()).await.map_err(|_| PgError::Timeout(LIMIT))??;
    Ok(())
}

/// The four functions that pg_rewind calls on its source since PostgreSQL 11; before, only a superuser may.
async fn may_rewind(params: &ConnParams) -> Result<bool, PgError> {
    let sql = "SELECT rolsuper OR (pg_catalog.current_setting('server_version_num')::int >= 110000 AND (
         SELECT pg_catalog.count(*) = 4 FROM pg_catalog.pg_proc p
          WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid::regprocedure::text IN
                ('pg_ls_dir(text,boolean,boolean)', 'pg_stat_file(text,boolean)',
                 'pg_read_binary_file(text)', 'pg_read_binary_file(text,bigint,bigint,boolean)')
            AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')))
         FROM pg_catalog.pg_roles WHERE rolname = current_user";
    let rows = open(params).await?.query(sql, LIMIT).await?;
    Ok(rows.first().is_some_and(|row| row.is_true(0)))
}

async fn state(params: &ConnParams) -> Result<State, PgError> {
    let session = open(params).await?;
    let mut state = State::default();
    let rows = session
        .query(
            "SELECT name, setting FROM pg_catalog.pg_settings WHERE name IN ('archive_mode', 'data_checksums',
             'wal_log_hints', 'full_page_writes', 'max_wal_senders', 'max_replication_slots')",
            LIMIT,
        )
        .await?;
    state.settings = rows.iter().map(|row| (row.string(0), row.string(1))).collect();
    let version = session.server_version();
    let mut ask = async |what: &'static str, sql: String| match session.query(&sql, LIMIT).await {
        Ok(rows) => rows,
        Err(error) => {
            state.unasked.push(format!("{what}: {}", one_line(error)));
            Vec::new()
        }
    };
    let bad_lines = ask("its configuration files", bad_lines(version)).await;
    let slots = ask("its slots", slots(version)).await;
    let archiver = ask(
        "its archiver",
        "SELECT last_failed_wal FROM pg_catalog.pg_stat_archiver WHERE last_failed_time IS NOT NULL
            AND last_failed_time > COALESCE(last_archived_time, '-infinity')"
            .to_owned(),
    )
    .await;
    state.bad_lines = bad_lines.iter().map(|row| row.string(0)).collect();
    state.slots = slots.iter().map(slot).collect();
    state.not_archived = archiver.first().map(|row| row.string(0));
    Ok(state)
}

/// Lines that PostgreSQL does not take now. `pg_hba_file_rules` is there since 10.
fn bad_lines(version: PgVersion) -> String {
    let line = "SELECT 'postgresql.conf: ' || COALESCE(name || ': ', '') || error
         || COALESCE(' (' || sourcefile || ':' || sourceline || ')', '')
         FROM pg_catalog.pg_file_settings WHERE error IS NOT NULL AND error <> 'setting could not be applied'";
    if version.before(PgVersion::V10) {
        return line.to_owned();
    }
    format!(
        "{line} UNION ALL SELECT 'pg_hba.conf:' || line_number || ': ' || error FROM pg_catalog.pg_hba_file_rules
         WHERE error IS NOT NULL"
    )
}

/// Slots tell whether their WAL is still there since 13.
fn slots(version: PgVersion) -> String {
    if version.before(PgVersion::V10) {
        return "SELECT slot_name, active, '', pg_catalog.pg_xlog_location_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
             THEN pg_catalog.pg_last_xlog_replay_location() ELSE pg_catalog.pg_current_xlog_location() END, restart_lsn)
             FROM pg_catalog.pg_replication_slots"
            .to_owned();
    }
    let status = if version.before(PgVersion::V13) { "''" } else { "wal_status" };
    format!(
        "SELECT slot_name, active, {status}, pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery()
         THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn)
         FROM pg_catalog.pg_replication_slots"
    )
}

fn slot(row: &Row) -> Slot {
    Slot {
        name: row.string(0),
        active: row.is_true(1),
        wal_status: row.string(2),
        kept: row.text(3).and_then(|kept| kept.parse().ok()).unwrap_or(0),
    }
}
