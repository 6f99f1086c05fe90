//! The whole cluster, read in one go.

use pyfmt::{json, Value};

use super::{ClusterConfig, Failover, Leader, Member, Status, SyncState, TimelineHistory};

/// An immutable view; every compare-and-set that follows from it uses its versions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cluster {
    /// System identifier; empty while somebody bootstraps.
    pub initialize: Option<String>,
    /// `/config`.
    pub config: Option<ClusterConfig>,
    /// `/leader`.
    pub leader: Option<Leader>,
    /// `/status`.
    pub status: Status,
    /// `/members/*`.
    pub members: Vec<Member>,
    /// `/failover`.
    pub failover: Option<Failover>,
    /// `/sync`.
    pub sync: SyncState,
    /// `/history`.
    pub history: Option<TimelineHistory>,
    /// `/failsafe`.
    pub failsafe: Option<Value>,
}

/// A key as an adapter read it; `path` is below the cluster's folder.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// `leader`, `members/a`, ...
    pub path: String,
    /// Text.
    pub value: String,
    /// Compare-and-set token.
    pub version: String,
    /// Lease or session.
    pub session: Option<String>,
}

impl Cluster {
    /// Makes a cluster of its keys.
    pub fn from_nodes<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> Cluster {
        let mut cluster = Cluster::default();
        let (mut leader, mut status, mut optime) = (None, None, None);
        for node in nodes {
            let (version, value) = (node.version.as_str(), node.value.as_str());
            match node.path.as_str() {
                "initialize" => cluster.initialize = Some(node.value.clone()),
                "config" => cluster.config = Some(ClusterConfig::from_node(version, value, version)),
                "leader" => leader = Some(node),
                "status" => status = Some(Status::from_node(value)),
                "optime/leader" => optime = Some(Status::from_node(value)),
                "failover" => cluster.failover = Some(Failover::from_node(version, value)),
                "sync" => cluster.sync = SyncState::from_node(Some(version), value),
                "history" => cluster.history = Some(TimelineHistory::from_node(version, value)),
                "failsafe" => cluster.failsafe = json::loads(value).ok(),
                path => {
                    if let Some(name) = path.strip_prefix("members/").filter(|n| !n.contains('/')) {
                        cluster.members.push(Member::from_node(version, name, node.session.clone(), value));
                    }
                }
            }
        }
        cluster.status = status.or(optime).unwrap_or_default();
        cluster.leader = leader.map(|node| {
            let member = cluster.members.iter().find(|m| m.name == node.value).cloned();
            let member = member.unwrap_or_else(|| Member {
                version: String::new(),
                name: node.value.clone(),
                session: None,
                data: Value::map(),
            });
            Leader { version: node.version.clone(), session: node.session.clone(), member }
        });
        // A failover key that asks for nothing is none.
        cluster.failover = cluster.failover.filter(|f| !f.is_empty());
        cluster
    }

    /// Who holds the lock.
    pub fn leader_name(&self) -> Option<&str> {
        self.leader.as_ref().map(Leader::name).filter(|n| !n.is_empty())
    }

    /// Nobody holds the lock.
    pub fn is_unlocked(&self) -> bool {
        self.leader_name().is_none()
    }

    /// Is there such a member key?
    pub fn has_member(&self, name: &str) -> bool {
        self.members.iter().any(|m| m.name == name)
    }

    /// That member; where there is none, the leader if so wished.
    pub fn get_member(&self, name: &str, fallback_to_leader: bool) -> Option<&Member> {
        self.members
            .iter()
            .find(|m| m.name == name)
            .or_else(|| self.leader.as_ref().filter(|_| fallback_to_leader).map(|l| &l.member))
    }

    /// A running member that offers itself to be copied, chosen by `dice`; else the leader.
    pub fn get_clone_member(&self, exclude: &str, dice: usize) -> Option<&Member> {
        let leader = self.leader_name();
        let offers: Vec<&Member> = self
            .members
            .iter()
            .filter(|m| m.clonefrom() && m.is_running() && m.name != exclude && Some(m.name.as_str()) != leader)
            .collect();
        match offers.len() {
            0 => self.leader.as_ref().map(|l| &l.member),
            n => offers.get(dice % n).copied(),
        }
    }

    /// The timeline by `/history`; 0 when nobody knows.
    pub fn timeline(&self) -> u32 {
        let Some(history) = &self.history else { return 0 };
        if history.raw == "[]" {
            return 1;
        }
        let last = history.lines.last().and_then(Value::as_list).and_then(|row| row.first());
        last.and_then(Value::as_i64).and_then(|t| u32::try_from(t + 1).ok()).unwrap_or(0)
    }

    /// The oldest version among the members that tell one.
    pub fn min_version(&self) -> Option<Vec<u64>> {
        self.members.iter().filter_map(Member::patroni_version).min()
    }

    /// Nothing of it is in the DCS.
    pub fn is_empty(&self) -> bool {
        *self == Cluster::default()
    }
}
