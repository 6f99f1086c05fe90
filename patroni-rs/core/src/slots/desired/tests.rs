#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::super::{has_permanent_slots, maybe_filter_permanent_slots, should_enforce_hot_standby_feedback};
use super::*;
use crate::model::Leader;
use crate::PgVersion;
use pyfmt::json;

fn text(record: &Value, key: &str) -> Option<String> {
    record.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn cluster(record: &Value) -> Cluster {
    let member = |m: &Value| {
        let fields = m.as_list().unwrap();
        Member { name: fields[0].py_str(), data: fields[1].clone(), ..Default::default() }
    };
    let members: Vec<Member> = record.get("members").unwrap().as_list().unwrap().iter().map(member).collect();
    let leader = text(record, "leader").map(|name| Leader {
        member: members.iter().find(|m| m.name == name).unwrap().clone(),
        ..Default::default()
    });
    let mut cluster = Cluster { members, leader, ..Default::default() };
    let slots = record.get("slots").unwrap().as_map().unwrap();
    cluster.status.slots =
        Some(slots.iter().map(|(k, v)| (k.py_str(), Lsn::new(v.as_i64().unwrap() as u64))).collect());
    cluster.status.retain_slots =
        record.get("retain").unwrap().as_list().unwrap().iter().map(Value::py_str).collect();
    cluster
}

/// Recorded from the reference's `Cluster`, for random clusters.
#[test]
fn slots_are_the_references() {
    for row in include_str!("vectors.jsonl").lines() {
        let record = json::loads(row).unwrap();
        let cluster = cluster(&record);
        let config = GlobalConfig::new(record.get("config").unwrap().clone());
        let me = text(&record, "me").unwrap();
        let tags = cluster.get_member(&me, false).unwrap().tags();
        let role = match text(&record, "role").as_deref() {
            Some("primary") => Role::Primary,
            Some("standby_leader") => Role::StandbyLeader,
            _ => Role::Replica,
        };
        let version = record.get("version").unwrap().as_i64().unwrap();
        let major_version = PgVersion::from_num(u32::try_from(version).unwrap());
        let node = Node { name: &me, tags: &tags, role, major_version };
        let subject = node.subject();

        let (slots, log) = desired_slots(&cluster, &config, &node, &subject);
        let shown: Value = slots.iter().map(|(name, slot)| (name.as_str(), slot.shown.clone())).collect();
        assert_eq!(Some(shown.py_repr()), text(&record, "expected"), "{row}");
        let log: Vec<Value> = log.into_iter().map(|l| l.text.into()).collect();
        assert_eq!(Some(&Value::List(log)), record.get("log"), "{row}");
        let feedback = should_enforce_hot_standby_feedback(&cluster, &config, &node);
        assert_eq!(Some(feedback), record.get("hsf").and_then(Value::as_bool), "{row}");
        assert_eq!(slot_name_on_primary(&cluster, &me, &subject), text(&record, "on_primary"), "{row}");
        let permanent = has_permanent_slots(&cluster, &config, &node);
        assert_eq!(Some(permanent), record.get("has_permanent").and_then(Value::as_bool), "{row}");
        let mut known = cluster.status.slots.clone().unwrap();
        known.insert("p2".into(), Lsn::new(3));
        let published = maybe_filter_permanent_slots(&cluster, &config, &me, major_version, known);
        let published: Vec<Value> = published.into_keys().map(Value::from).collect();
        assert_eq!(Some(&Value::List(published)), record.get("published"), "{row}");
    }
}
