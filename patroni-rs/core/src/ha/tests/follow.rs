//! Whom a standby follows (surface-ha-pg 14, surface-dcs 4): by its tags, the leader and the standby cluster.

use std::collections::BTreeMap;

use super::world::js;
use crate::global_config::GlobalConfig;
use crate::ha::node_to_follow;
use crate::model::{Cluster, Node};
use crate::tags::Tags;

/// Members a (the one that asks), b and c; the leader, if there is one.
fn cluster(leader: &str) -> Cluster {
    let member = |name: &str| {
        let data = format!(
            r#"{{"conn_url":"postgres://{name}:5432/postgres","api_url":"http://{name}:8008/patroni",
                "state":"running","role":"replica","restore_command":"theirs"}}"#
        );
        (format!("members/{name}"), data)
    };
    let mut keys: BTreeMap<String, String> = ["a", "b", "c"].map(member).into();
    if !leader.is_empty() {
        keys.insert("leader".into(), leader.into());
    }
    let node =
        |value: String| Node { value, version: "7".into(), modify_version: None, session: Some("s".into()) };
    Cluster::from_nodes(&keys.into_iter().map(|(key, value)| (key, node(value))).collect())
}

const STANDBY: &str =
    r#"{"standby_cluster":{"host":"h","port":"1","primary_slot_name":"s","restore_command":"ours"}}"#;
const STANDBY_PAUSED: &str = r#"{"pause":true,"standby_cluster":{"host":"h","port":1}}"#;

#[test]
fn whom_a_standby_follows() {
    // Leader, configuration, tags of a: the name, and `restore_command` as it is to be used.
    for (leader, config, tags, wanted) in [
        ("b", "{}", "{}", "b null"),
        ("", "{}", "{}", "nobody"),
        ("a", "{}", "{}", "nobody"),
        ("b", "{}", r#"{"nostream":true}"#, "nobody"),
        ("b", "{}", r#"{"replicatefrom":"c"}"#, "c null"),
        ("", "{}", r#"{"replicatefrom":"c"}"#, "c null"),
        ("b", "{}", r#"{"replicatefrom":"a"}"#, "b null"),
        ("b", "{}", r#"{"replicatefrom":"gone"}"#, "b null"),
        ("", "{}", r#"{"replicatefrom":"gone"}"#, "nobody"),
        ("b", STANDBY, "{}", r#"b "ours""#),
        ("b", STANDBY, r#"{"replicatefrom":"c"}"#, r#"c "ours""#),
        ("a", STANDBY, "{}", r#"remote_member "ours""#),
        ("", STANDBY, "{}", r#"remote_member "ours""#),
        ("", STANDBY_PAUSED, "{}", "nobody"),
        ("a", STANDBY_PAUSED, "{}", "remote_member null"),
    ] {
        let (config, tags) = (GlobalConfig::new(js(config)), Tags::from_value(&js(tags)));
        let found = node_to_follow("a", &tags, &config, &cluster(leader));
        let found = found.map_or("nobody".into(), |source| {
            assert_eq!(source.remote, source.member.name == "remote_member");
            let command = source.member.data.get("restore_command").map_or("null".into(), pyfmt::json::dumps);
            format!("{} {command}", source.member.name)
        });
        assert_eq!(found, wanted, "leader {leader:?}, {config:?}, {tags:?}");
    }
}

#[test]
fn the_server_that_a_standby_cluster_copies() {
    let source =
        node_to_follow("a", &Tags::default(), &GlobalConfig::new(js(STANDBY)), &cluster("a")).unwrap();
    let wanted = r#"{"primary_slot_name": "s", "restore_command": "ours", "no_replication_slot": false, "conn_kwargs": {"host": "h", "port": "1"}}"#;
    assert_eq!(pyfmt::json::dumps(&source.member.data), wanted);
}

/// Nobody could say whether the node has diverged: it is asked again.
#[test]
fn no_answer_is_not_no() {
    use super::super::Rewind;
    use super::world::replica;
    for (diverged, expected) in [(None, Rewind::Check), (Some(false), Rewind::NotNeeded)] {
        let world = replica().memory(|m| m.rewind.state = Rewind::Check).answer(|a| a.diverged = diverged);
        assert_eq!(world.run().memory.rewind.state, expected, "{diverged:?}");
    }
}
