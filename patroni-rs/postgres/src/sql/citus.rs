//! Statements of Citus' coordinator, and what a new cluster needs to be part of one (surface-dcs 16).

use std::collections::BTreeMap;
use std::time::Duration;

use patroni_core::citus::{Group, Node, NodeRole};

use super::error::PgError;
use super::params::ConnParams;
use super::quote::{identifier, literal, QUIET};
use super::rows::Row;
use super::session::Session;

/// The rows of all groups.
pub const NODES: &str = "SELECT groupid, nodename, nodeport, noderole, nodeid FROM pg_catalog.pg_dist_node";

/// For a look at the table, and for the ends of transactions.
const SHORT: Duration = Duration::from_secs(30);
/// A row is added or removed on all nodes, and what they know of the others is copied to a new one.
const LONG: Duration = Duration::from_secs(600);
/// For one statement of a new cluster.
const BOOTSTRAP: Duration = Duration::from_secs(60);
/// The database is there already.
const DUPLICATE_DATABASE: &str = "42P04";

/// The statement that makes a step of [`patroni_core::citus::transition`], and how long it may take. None: there is nothing
/// to be done, because what would have to wait is in no row.
pub fn statement(step: &Node, group: i64, cooldown: Duration) -> Option<(String, Duration)> {
    let port = step.port;
    Some(match (step.role, step.id) {
        (NodeRole::Other, _) => {
            (format!("SELECT pg_catalog.citus_remove_node({}, {port})", literal(&step.host)), LONG)
        }
        (role, Some(id)) => {
            let suffix = if role == NodeRole::Demoted { "-demoted" } else { "" };
            let host = literal(&format!("{}{suffix}", step.host));
            let milliseconds = cooldown.as_millis();
            let sql =
                format!("SELECT pg_catalog.citus_update_node({id}, {host}, {port}, true, {milliseconds})");
            // It waits for locks so long, and then ends those who hold them.
            (sql, cooldown + SHORT)
        }
        (NodeRole::Demoted, None) => return None,
        (role, None) => {
            let (host, role) = (literal(&step.host), literal(role.as_str()));
            (format!("SELECT pg_catalog.citus_add_node({host}, {port}, {group}, {role}, 'default')"), LONG)
        }
    })
}

/// How long any other statement may take.
pub fn short() -> Duration {
    SHORT
}

/// The rows of [`NODES`] by group.
///
/// # Errors
/// A row that is none.
pub fn parse_nodes(rows: &[Row]) -> Result<BTreeMap<i64, Group>, PgError> {
    let mut groups: BTreeMap<i64, Group> = BTreeMap::new();
    for row in rows {
        let number = row.parse(0)?;
        let node = Node {
            id: row.number(4)?,
            ..Node::new(&row.string(1), row.parse(2)?, NodeRole::of(row.text(3).unwrap_or_default()))
        };
        groups.entry(number).or_insert_with(|| Group::new(number)).add(node);
    }
    Ok(groups)
}

/// The daemon's connection to the database of Citus: no time-out of the server's own, because a transaction waits for the
/// switchover of another cluster.
pub fn citus_params(local: &ConnParams, database: &str) -> ConnParams {
    local
        .with("dbname", database)
        .with("application_name", "Patroni citus")
        .with("options", "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0")
        .with_safe_search_path()
}

/// What a new cluster of a Citus group needs: its database, the extension, how nodes reach each other (`authinfo`, as a
/// connection string of a password or a certificate), and in the coordinator's its own address.
///
/// # Errors
/// The server refuses something other than to make a database that is there.
pub async fn bootstrap_citus(
    local: &ConnParams,
    database: &str,
    authinfo: Option<&str>,
    coordinator: Option<&Node>,
) -> Result<(), PgError> {
    // As the reference: what is made here has to be there for a synchronous standby only when one is.
    let params = local.with("options", "-c synchronous_commit=local -c statement_timeout=0");
    if local.get("dbname") != Some(database) {
        let session = Session::connect(&params).await?;
        let made = session.query(&format!("CREATE DATABASE {}", identifier(database)), BOOTSTRAP).await;
        match made {
            Err(error) if error.sqlstate() == Some(DUPLICATE_DATABASE) => {
                tracing::debug!(target: "patroni.postgresql.mpp.citus", "Exception when creating database: {error}");
            }
            other => drop(other?),
        }
    }
    let session = Session::connect(&params.with("dbname", database)).await?;
    session.query("CREATE EXTENSION IF NOT EXISTS citus", BOOTSTRAP).await?;
    if let Some(authinfo) = authinfo {
        for (setting, value) in QUIET {
            session.query(&format!("SET {setting} TO {value}"), BOOTSTRAP).await?;
        }
        let authinfo = literal(authinfo);
        let sql = format!(
            "INSERT INTO pg_catalog.pg_dist_authinfo VALUES(0, pg_catalog.current_user(), {authinfo})"
        );
        session.query(&sql, BOOTSTRAP).await?;
    }
    if let Some(node) = coordinator {
        let (host, port) = (literal(&node.host), node.port);
        let sql =
            format!("SELECT pg_catalog.citus_set_coordinator_host({host}, {port}, 'primary', 'default')");
        session.query(&sql, BOOTSTRAP).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_the_references() {
        let node = |role, id| Node { id, ..Node::new("10.0.0.1", 5432, role) };
        let ten = Duration::from_secs(10);
        for (role, id, expected) in [
            (
                NodeRole::Primary,
                None,
                Some("SELECT pg_catalog.citus_add_node('10.0.0.1', 5432, 2, 'primary', 'default')"),
            ),
            (
                NodeRole::Secondary,
                None,
                Some("SELECT pg_catalog.citus_add_node('10.0.0.1', 5432, 2, 'secondary', 'default')"),
            ),
            (
                NodeRole::Demoted,
                Some(7),
                Some("SELECT pg_catalog.citus_update_node(7, '10.0.0.1-demoted', 5432, true, 10000)"),
            ),
            (
                NodeRole::Secondary,
                Some(7),
                Some("SELECT pg_catalog.citus_update_node(7, '10.0.0.1', 5432, true, 10000)"),
            ),
            (NodeRole::Other, None, Some("SELECT pg_catalog.citus_remove_node('10.0.0.1', 5432)")),
            (NodeRole::Demoted, None, None),
        ] {
            let found = statement(&node(role, id), 2, ten);
            assert_eq!(found.as_ref().map(|(sql, _)| sql.as_str()), expected);
            assert!(found.is_none_or(|(_, limit)| limit > ten));
        }
        let quoted = Node { id: Some(1), ..Node::new("a'b", 1, NodeRole::Primary) };
        let sql = statement(&quoted, 0, ten).map(|(sql, _)| sql);
        assert_eq!(sql.as_deref(), Some("SELECT pg_catalog.citus_update_node(1, 'a''b', 1, true, 10000)"));
    }

    #[test]
    fn rows_by_group() {
        let row = |columns: [&str; 5]| Row::new(columns.iter().map(|c| Some((*c).to_owned())).collect());
        let rows = [row(["0", "c", "1", "primary", "1"]), row(["1", "a-demoted", "2", "primary", "4"])];
        let groups = parse_nodes(&rows);
        let found: Vec<_> = groups
            .iter()
            .flatten()
            .flat_map(|(n, g)| g.nodes.iter().map(move |x| (*n, x.host.clone(), x.role, x.id)))
            .collect();
        assert_eq!(
            found,
            [
                (0, "c".into(), NodeRole::Primary, Some(1)),
                (1, "a-demoted".into(), NodeRole::Primary, Some(4))
            ]
        );
        assert!(parse_nodes(&[Row::default()]).is_err());
    }
}
