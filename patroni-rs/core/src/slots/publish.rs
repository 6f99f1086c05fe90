//! What the leader publishes in `/status`: positions of slots, and the slots
//! of absent members that are to be kept (18-04, 18-20).

use std::time::Duration;

use indexmap::IndexMap;
use pyfmt::Value;

use super::desired::{permanent_for, Node, Subject};
use super::line;
use super::names::member_slot_name;
use super::permanent::{is_logical, is_physical, permanent_physical_slots};
use crate::global_config::GlobalConfig;
use crate::ha::{Level, LogLine, Mono, Role};
use crate::model::{Cluster, Lsn};
use crate::tags::Tags;
use crate::PgVersion;

/// The slots known of this server, and its own name at its own position: the
/// others have a slot for the leader. Nothing before PostgreSQL 11.
pub fn with_own_slot(
    mut slots: IndexMap<String, Lsn>,
    name: &str,
    last_operation: Lsn,
    major_version: PgVersion,
) -> IndexMap<String, Lsn> {
    if major_version.before(PgVersion::V11) {
        return IndexMap::new();
    }
    slots.insert(member_slot_name(name), last_operation);
    slots
}

/// Of these slots, those to be published: all of them while member slots are
/// retained, else permanent ones only.
pub fn maybe_filter_permanent_slots(
    cluster: &Cluster,
    config: &GlobalConfig,
    name: &str,
    major_version: PgVersion,
    slots: IndexMap<String, Lsn>,
) -> IndexMap<String, Lsn> {
    if config.member_slots_ttl() > 0 {
        return slots;
    }
    let no_tags = Tags::default();
    let node = Node { name, tags: &no_tags, role: Role::Replica, major_version };
    let subject = Subject { name: String::new(), ..node.subject() };
    let permanent = permanent_for(cluster, config, &node, &subject);
    let members: Vec<String> = cluster.members.iter().map(|m| member_slot_name(&m.name)).collect();
    let is_permanent = |name: &String| {
        let value = permanent.get(&Value::from(name.as_str()));
        value.is_some_and(|v| is_physical(v) || (is_logical(v) && !members.contains(name)))
    };
    slots.into_iter().filter(|(name, _)| is_permanent(name)).collect()
}

/// The leader's memory of member slots: when each was last in use by a member.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retention {
    seen: IndexMap<String, Mono>,
}

impl Retention {
    /// Starts anew with those that the former leader published, each with the
    /// full time before it. To be called when the leader lock is acquired.
    pub fn restart(&mut self, retain_slots: &[String], now: Mono) {
        self.seen = retain_slots.iter().map(|name| (name.clone(), now)).collect();
    }

    /// The sorted value of `retain_slots`, `None` if there are none, when
    /// `slots` are published. Expired ones are forgotten with a line for the
    /// log of `patroni.dcs`.
    pub fn build(
        &mut self,
        cluster: &Cluster,
        config: &GlobalConfig,
        me: &str,
        slots: &IndexMap<String, Lsn>,
        now: Mono,
    ) -> (Option<Vec<String>>, Vec<LogLine>) {
        if !slots.is_empty() {
            let members = streaming_members(cluster, me);
            let permanent = permanent_physical_slots(cluster, config);
            let kept = slots
                .keys()
                .filter(|s| members.contains(s) && !permanent.contains_key(&Value::from(s.as_str())));
            for name in kept {
                self.seen.insert(name.clone(), now);
            }
        }
        let ttl = config.member_slots_ttl();
        let time = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        let mut log = Vec::new();
        self.seen.retain(|name, seen| {
            let expired = *seen + time <= now;
            if expired {
                let text = format!(
                    "Replication slot '{name}' for absent cluster member is expired after {ttl} sec."
                );
                log.push(line(Level::Info, text));
            }
            !expired
        });
        let mut names: Vec<String> = self.seen.keys().cloned().collect();
        names.sort();
        ((!names.is_empty()).then_some(names), log)
    }
}

/// Slots of members that stream. The own one is added unless the last member
/// of the list is this node: the reference looks no further, so that a leader
/// with `nostream` that is not last appears in `retain_slots` (surface-dcs 5).
fn streaming_members(cluster: &Cluster, me: &str) -> Vec<String> {
    let streaming = cluster.members.iter().filter(|m| !m.nostream());
    let mut slots: Vec<String> = streaming.map(|m| member_slot_name(&m.name)).collect();
    if cluster.members.last().is_none_or(|m| m.name != me) {
        slots.push(member_slot_name(me));
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, nostream: bool) -> crate::model::Member {
        let tags: Value = [("nostream", nostream)].into_iter().collect();
        let data = [("tags", tags)].into_iter().collect();
        crate::model::Member { name: name.into(), data, ..Default::default() }
    }

    fn slots(names: &[&str]) -> IndexMap<String, Lsn> {
        names.iter().map(|n| ((*n).to_owned(), Lsn::new(7))).collect()
    }

    #[test]
    fn absent_members_are_retained_for_the_ttl() {
        let config = GlobalConfig::new([("member_slots_ttl", "1min")].into_iter().collect());
        let mut cluster = Cluster {
            members: vec![member("a", false), member("B", false), member("c", true)],
            ..Default::default()
        };
        let mut retention = Retention::default();
        let at = Mono::seconds;
        retention.restart(&["old".into()], at(0));
        let (names, log) = retention.build(&cluster, &config, "a", &slots(&["a", "b", "c", "user"]), at(10));
        assert_eq!(names, Some(vec!["a".into(), "b".into(), "old".into()]));
        assert!(log.is_empty());
        cluster.members.truncate(1);
        let (names, log) = retention.build(&cluster, &config, "a", &slots(&["a", "b"]), at(60));
        assert_eq!(names, Some(vec!["a".into(), "b".into()]));
        let text = "Replication slot 'old' for absent cluster member is expired after 60 sec.";
        assert_eq!(log, vec![line(Level::Info, text.into())]);
        let (names, _) = retention.build(&cluster, &config, "a", &slots(&[]), at(200));
        assert_eq!(names, None);
    }

    #[test]
    fn without_retention_only_permanent_slots_are_published() {
        let permanent: Value = [("p", Value::Null), ("a", Value::map())].into_iter().collect();
        let config = [("member_slots_ttl", Value::from(0)), ("slots", permanent)].into_iter().collect();
        let config = GlobalConfig::new(config);
        let cluster = Cluster { members: vec![member("a", false)], ..Default::default() };
        let all = with_own_slot(slots(&["p", "x"]), "a", Lsn::new(9), PgVersion::V15);
        let published = maybe_filter_permanent_slots(&cluster, &config, "a", PgVersion::V15, all.clone());
        assert_eq!(published.keys().collect::<Vec<_>>(), ["p", "a"]);
        let retaining = GlobalConfig::new(Value::map());
        assert_eq!(maybe_filter_permanent_slots(&cluster, &retaining, "a", PgVersion::V15, all.clone()), all);
        assert!(with_own_slot(slots(&["p"]), "a", Lsn::new(9), PgVersion::V10).is_empty());
    }
}
