//! The whole cluster, read in one go.

use std::collections::BTreeMap;

use pyfmt::{json, Value};

use super::{ClusterConfig, Failover, Leader, Member, Status, SyncState, TimelineHistory, Version};

/// An immutable view; every compare-and-set that follows from it uses its versions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cluster {
    /// System identifier; empty while somebody bootstraps.
    pub initialize: Option<String>,
    /// `/config`.
    pub config: Option<ClusterConfig>,
    /// `/leader`; may be there without a name in it.
    pub leader: Option<Leader>,
    /// `/status`, or `/optime/leader` when there is no `/status`.
    pub status: Status,
    /// `/members/*`.
    pub members: Vec<Member>,
    /// `/failover`; None also when the key asks for nothing.
    pub failover: Option<Failover>,
    /// `/sync`.
    pub sync: SyncState,
    /// `/history`.
    pub history: Option<TimelineHistory>,
    /// `/failsafe`: normally a mapping of names to URLs.
    pub failsafe: Option<Value>,
    /// How often the store had been seen to go back to an earlier state when this was read; no key says so.
    pub setbacks: u64,
}

/// A key as an adapter read it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Text.
    pub value: String,
    /// Compare-and-set token.
    pub version: Version,
    /// Changes with the content, if that is not what the token does.
    pub modify_version: Option<Version>,
    /// Lease or session that the key is attached to.
    pub session: Option<String>,
}

/// The keys of one cluster by their path below its directory: `leader`, `members/a`.
pub type Nodes = BTreeMap<String, Node>;

impl Cluster {
    /// Makes a cluster of its keys; unknown keys are ignored.
    pub fn from_nodes(nodes: &Nodes) -> Cluster {
        let get = |key: &str| nodes.get(key);
        let members: Vec<Member> = nodes.iter().filter_map(|(path, node)| member(path, node)).collect();
        Cluster {
            initialize: get("initialize").map(|n| n.value.clone()),
            config: get("config").map(|n| {
                ClusterConfig::from_node(
                    &n.version,
                    &n.value,
                    n.modify_version.as_ref().unwrap_or(&n.version),
                )
            }),
            leader: get("leader").map(|n| leader(n, &members)),
            status: get("status")
                .or_else(|| get("optime/leader"))
                .map(|n| Status::from_node(&n.value))
                .unwrap_or_default(),
            members,
            failover: get("failover")
                .map(|n| Failover::from_node(&n.version, &n.value))
                .filter(|failover| !failover.is_empty()),
            sync: get("sync").map(|n| SyncState::from_node(Some(&n.version), &n.value)).unwrap_or_default(),
            history: get("history").map(|n| TimelineHistory::from_node(&n.version, &n.value)),
            failsafe: get("failsafe").and_then(|n| json::loads(&n.value).ok()).filter(|v| !v.is_null()),
            setbacks: 0,
        }
    }

    /// Who holds the lock.
    pub fn leader_name(&self) -> Option<&str> {
        self.leader.as_ref().map(Leader::name).filter(|n| !n.is_empty())
    }

    /// Does nobody hold the lock?
    pub fn is_unlocked(&self) -> bool {
        self.leader_name().is_none()
    }

    /// Is there such a member key?
    pub fn has_member(&self, name: &str) -> bool {
        self.members.iter().any(|m| m.name == name)
    }

    /// That member; where there is none, the leader if so wished.
    pub fn get_member(&self, name: &str, fallback_to_leader: bool) -> Option<&Member> {
        let leader = self.leader.as_ref().filter(|_| fallback_to_leader).map(|l| &l.member);
        self.members.iter().find(|m| m.name == name).or(leader)
    }

    /// A running member other than `exclude` and the leader that offers itself to be
    /// copied, chosen by the number `random`; else the leader.
    pub fn get_clone_member(&self, exclude: &str, random: usize) -> Option<&Member> {
        let leader = self.leader.as_ref().map(|l| &l.member);
        let excluded = |name: &str| name == exclude || leader.is_some_and(|l| l.name == name);
        let offers = self.members.iter().filter(|m| m.clonefrom() && m.is_running() && !excluded(&m.name));
        let offers: Vec<&Member> = offers.collect();
        random.checked_rem(offers.len()).and_then(|n| offers.get(n).copied()).or(leader)
    }

    /// The timeline by `/history`; 0 when it cannot be told.
    pub fn timeline(&self) -> u32 {
        self.history.as_ref().map_or(0, TimelineHistory::timeline)
    }

    /// The oldest version among the members that tell one.
    pub fn min_version(&self) -> Option<Vec<u64>> {
        self.members.iter().filter_map(Member::patroni_version).min()
    }

    /// Is nothing of it in the DCS?
    pub fn is_empty(&self) -> bool {
        *self == Cluster { setbacks: self.setbacks, ..Cluster::default() }
    }
}

/// Keys in directories below `members/` are no members.
fn member(path: &str, node: &Node) -> Option<Member> {
    let name = path.strip_prefix("members/").filter(|name| !name.contains('/'))?;
    Some(Member::from_node(&node.version, name, node.session.clone(), &node.value))
}

fn leader(node: &Node, members: &[Member]) -> Leader {
    let member = members.iter().find(|m| m.name == node.value).cloned();
    Leader {
        version: node.version.clone(),
        session: node.session.clone(),
        member: member.unwrap_or_else(|| Member::remote(&node.value, Value::map())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(keys: &[(&str, &str)]) -> Cluster {
        let node = |value: &str| Node { value: value.into(), version: "9".into(), ..Node::default() };
        Cluster::from_nodes(&keys.iter().map(|(path, value)| ((*path).to_owned(), node(value))).collect())
    }

    #[test]
    fn a_cluster_of_keys() {
        let c = cluster(&[
            ("initialize", ""),
            ("config", "{\"ttl\":30}"),
            ("leader", "b"),
            ("status", "garbage"),
            ("optime/leader", "5"),
            ("members/a", "{\"version\":\"2.0.2\"}"),
            ("members/b", "{\"version\":\"4.1.5\"}"),
            ("members/b/c", "{}"),
            ("failover", "{}"),
            ("sync", "{\"leader\":\"b\"}"),
            ("history", "[[3,1,\"r\"]]"),
            ("failsafe", "{\"a\":\"http://a\"}"),
            ("unknown", "x"),
        ]);
        assert_eq!(c.initialize.as_deref(), Some(""));
        assert_eq!(c.config.as_ref().map(|c| c.modify_version.as_str()), Some("9"));
        assert_eq!(c.leader_name(), Some("b"));
        assert_eq!(c.leader.as_ref().map(|l| l.version.as_str()), Some("9"));
        assert!(!c.status.last_lsn.is_known());
        assert_eq!(c.members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(c.failover, None);
        assert_eq!((c.timeline(), c.min_version()), (4, Some(vec![2, 0, 2])));
        assert!(c.has_member("a") && !c.has_member("c") && !c.is_unlocked() && !c.is_empty());
        assert_eq!(c.get_member("c", true).map(|m| m.name.as_str()), Some("b"));
        assert_eq!(c.get_member("c", false), None);
    }

    #[test]
    fn what_is_missing() {
        let c = cluster(&[("leader", "gone"), ("optime/leader", "5"), ("failsafe", "null")]);
        assert_eq!(
            (c.leader_name(), c.status.last_lsn.bytes(), c.failsafe.as_ref()),
            (Some("gone"), 5, None)
        );
        assert_eq!(c.leader.as_ref().and_then(Leader::conn_url), None);
        assert!(cluster(&[("leader", "")]).is_unlocked());
        assert!(cluster(&[]).is_empty());
        assert!(!cluster(&[("sync", "{}")]).is_empty());
        assert!(Cluster { setbacks: 1, ..Cluster::default() }.is_empty());
    }

    #[test]
    fn garbage_in_one_key_spares_the_others() {
        let c = cluster(&[("leader", "a"), ("failover", r#"{"leader":"a","scheduled_at":"garbage"}"#)]);
        assert_eq!(c.leader_name(), Some("a"));
        assert_eq!(c.failover.and_then(|f| f.scheduled_at).and_then(|s| s.valid_us()), None);
    }

    #[test]
    fn clone_sources() {
        let offer = r#"{"state":"running","conn_url":"postgres://h/","tags":{"clonefrom":true}}"#;
        let c = cluster(&[("leader", "a"), ("members/a", offer), ("members/b", offer), ("members/c", offer)]);
        let chosen = |exclude, random| c.get_clone_member(exclude, random).map(|m| m.name.as_str());
        assert_eq!(chosen("x", 0), Some("b"));
        assert_eq!(chosen("x", 3), Some("c"));
        assert_eq!(chosen("b", 7), Some("c"));
        assert_eq!(
            cluster(&[("leader", "a"), ("members/b", "{}")])
                .get_clone_member("x", 1)
                .map(|m| m.name.as_str()),
            Some("a")
        );
        assert_eq!(cluster(&[]).get_clone_member("x", 1), None);
    }
}
