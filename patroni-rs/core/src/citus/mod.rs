//! Citus: which PostgreSQL clusters form one, and what `pg_dist_node` has to say of them (surface-ha-pg 26, surface-dcs 16).
//!
//! Group 0 is the coordinator. Its leader keeps the rows of all groups; the leaders of the others (workers) tell it when
//! they go and come, so that clients wait instead of failing. All decisions are here: [`transition`] makes the new rows of
//! one group of the old ones, [`Coordinator`] says what is to be done next. Who runs the statements is no concern of these.

mod coordinator;
mod event;
mod transition;

#[cfg(test)]
mod tests;

pub use coordinator::{Coordinator, Next, Task, Ticket, Work};
pub use event::{wanted, Event, EventKind};
pub use transition::transition;

use pyfmt::Value;

use crate::model::url::Url;
use crate::parse::parse_int;

/// The group whose leader keeps `pg_dist_node`.
pub const COORDINATOR: i64 = 0;

/// Where PostgreSQL listens unless an address says otherwise.
const DEFAULT_PORT: i64 = 5432;

/// The `citus` section, when it switches Citus on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The database that is distributed.
    pub database: String,
    /// This cluster's number.
    pub group: i64,
}

impl Section {
    /// Of a configuration: `database` has to be text, and `group` a number. Anything else is no Citus (surface-config 1.30).
    pub fn of(config: &Value) -> Option<Section> {
        let section = config.get("citus")?;
        let database = section.get("database")?.as_str()?.to_owned();
        let group = match section.get("group")? {
            // Python's booleans are numbers.
            Value::Bool(on) => i64::from(*on),
            other => parse_int(other, None)?,
        };
        Some(Section { database, group })
    }

    /// Is this the cluster of the coordinator?
    pub fn is_coordinator(&self) -> bool {
        self.group == COORDINATOR
    }
}

/// Does Citus need this logical slot? It makes them for itself while it moves or splits shards, in its own database.
pub fn owns_slot(citus_database: &str, name: &str, database: Option<&str>, plugin: &str) -> bool {
    let (prefixes, plugins) = (["citus_shard_move_slot", "citus_shard_split_slot"], ["pgoutput", "citus"]);
    let kind = prefixes.iter().zip(plugins).find_map(|(prefix, of)| Some((name.strip_prefix(prefix)?, of)));
    let Some((numbers, expected)) = kind else { return false };
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()) && !text.is_empty() && !text.starts_with('0');
    let Some(numbers) = numbers.strip_prefix('_') else { return false };
    let count = numbers.split('_').count();
    database == Some(citus_database)
        && plugin == expected
        && (2..=3).contains(&count)
        && numbers.split('_').all(number)
}

/// What a row of `pg_dist_node` is, as Patroni sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NodeRole {
    /// Takes writes.
    Primary,
    /// The primary, whose clients are made to wait: `-demoted` is appended to its name. `noderole` is still `primary`.
    Demoted,
    /// A standby.
    Secondary,
    /// Anything else.
    Other,
}

impl NodeRole {
    /// As in the column `noderole`.
    pub fn of(text: &str) -> NodeRole {
        match text {
            "primary" => NodeRole::Primary,
            "secondary" => NodeRole::Secondary,
            _ => NodeRole::Other,
        }
    }

    /// As in the column `noderole`.
    pub fn as_str(self) -> &'static str {
        match self {
            NodeRole::Primary | NodeRole::Demoted => "primary",
            NodeRole::Secondary => "secondary",
            NodeRole::Other => "unavailable",
        }
    }
}

/// A row of `pg_dist_node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `nodename`, without what pauses its clients.
    pub host: String,
    /// `nodeport`.
    pub port: i64,
    /// `noderole`.
    pub role: NodeRole,
    /// `nodeid`, where it is known. A row keeps it forever; addresses move between rows.
    pub id: Option<i64>,
}

impl Node {
    /// A node that has no row yet, as far as known.
    pub fn new(host: &str, port: i64, role: NodeRole) -> Node {
        Node { host: host.to_owned(), port, role, id: None }
    }

    /// Of a member's connection URL; None: it names no host, or no port that is one.
    pub fn of_url(url: &str, role: NodeRole) -> Option<Node> {
        let (host, port) = Url::split(url).host_port()?;
        let port = port.filter(|port| *port != 0).map_or(DEFAULT_PORT, i64::from);
        Some(Node::new(&host?, port, role))
    }

    /// The same address: what a row is unique by.
    pub fn is_at(&self, other: &Node) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }

    /// Is its row that of the group's primary?
    pub fn is_primary(&self) -> bool {
        matches!(self.role, NodeRole::Primary | NodeRole::Demoted)
    }
}

/// The rows of one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    /// Its number.
    pub number: i64,
    /// Its nodes, each address once.
    pub nodes: Vec<Node>,
    /// The row of the primary was changed in a transaction that goes on: Citus adds and removes no rows until it is over.
    pub failover: bool,
}

impl Group {
    /// A group without nodes.
    pub fn new(number: i64) -> Group {
        Group { number, ..Group::default() }
    }

    /// Adds a node unless there is one at its address.
    pub fn add(&mut self, node: Node) {
        if self.at(&node).is_none() {
            self.nodes.push(node);
        }
    }

    /// The node at that address.
    pub fn at(&self, node: &Node) -> Option<&Node> {
        self.nodes.iter().find(|own| own.is_at(node))
    }

    /// Takes the row's number over.
    pub fn set_id(&mut self, node: &Node, id: Option<i64>) {
        for own in self.nodes.iter_mut().filter(|own| own.is_at(node)) {
            own.id = id;
        }
    }

    /// The primary.
    pub fn primary(&self) -> Option<&Node> {
        self.nodes.iter().find(|node| node.is_primary())
    }

    /// The same addresses in the same roles? Numbers of rows do not count.
    pub fn is_like(&self, other: &Group) -> bool {
        let key = |group: &Group| {
            let mut keys: Vec<_> = group.nodes.iter().map(|n| (n.host.clone(), n.port, n.role)).collect();
            keys.sort();
            keys
        };
        self.number == other.number && key(self) == key(other)
    }
}
