//! Replication slots while the DCS is away.

use std::sync::Arc;
use std::time::Duration;

use super::super::*;
use super::world::{js, leader, replica, World, NOW};
use crate::model::Cluster;

/// A world that has seen its cluster once, and sees no DCS now.
fn cut_off(world: World) -> World {
    let mut world = world
        .config(r#""failsafe_mode":true"#)
        .key("failsafe", r#"{"a":"http://a/","b":"http://b/","c":"http://c/"}"#)
        .key("status", r#"{"optime":1000,"slots":{"decode":5}}"#)
        .member("c", "replica", r#""xlog_location":900,"tags":{"replicatefrom":"b"}"#)
        .answer(|a| {
            a.loads = 0;
            a.failsafe = ["b", "c"].map(|name| (name.to_owned(), true)).into();
        });
    let known = world.cluster(&world.keys);
    world.memory.failsafe.members = known.failsafe.clone();
    world.memory.cluster = Some(known);
    world
}

fn pinged(world: World, age: u64) -> World {
    let data =
        js(r#"{"name":"b","conn_url":"postgres://b/","api_url":"http://b/","slots":{"decode":7,"c":950}}"#);
    world.view(|v| v.failsafe_ping = Some(FailsafePing { data, at: NOW - Duration::from_secs(age) }))
}

/// The position of the slot `decode`, and that of the member `c`, which follows another replica.
fn positions(world: World) -> (Option<u64>, Option<i64>) {
    let outcome = world.run();
    let cluster: &Arc<Cluster> = outcome
        .requests
        .iter()
        .find_map(|request| match request {
            Request::Server(ServerRequest::SyncSlots(ask::SyncSlots { cluster, dcs_failed: true })) => {
                Some(cluster)
            }
            _ => None,
        })
        .unwrap_or_else(|| panic!("{:?}", outcome.acts()));
    let slot = cluster.status.slots.as_ref().and_then(|slots| slots.get("decode").map(|lsn| lsn.bytes()));
    let member = cluster.get_member("c", false).and_then(|m| m.data.get("xlog_location")?.as_i64());
    (slot, member)
}

/// 7-06: by the primary's last request, unless it is too old; on the primary by the answers.
#[test]
fn slots_go_by_what_the_failsafe_tells() {
    assert_eq!(positions(cut_off(replica())), (Some(5), Some(900)));
    assert_eq!(positions(pinged(cut_off(replica()), 5)), (Some(7), Some(950)));
    assert_eq!(positions(pinged(cut_off(replica()), 31)), (Some(5), Some(900)));
    assert_eq!(positions(cut_off(leader())), (Some(5), Some(2000)));
}

/// A peer counts from when it heard: so does the primary, from before the first was asked.
#[test]
fn consent_counts_from_the_question() {
    let second = Duration::from_secs(1);
    let outcome = cut_off(leader()).answer(|a| a.latency = second).run();
    let asked = outcome
        .requests
        .iter()
        .position(|r| matches!(r, Request::Peers(PeerRequest::PingFailsafe(ask::PingFailsafe { .. }))));
    let sent = outcome.requests.iter().find_map(|r| match r {
        Request::Lock(LockRequest::ExtendLease(ask::ExtendLease { sent })) => Some(*sent),
        _ => None,
    });
    assert_eq!(sent, asked.map(|before| NOW + second * before as u32));
}

/// The DCS may be lost before it is read again: who has just been listed is asked as well.
#[test]
fn members_that_were_just_listed_are_asked() {
    let world = leader().config(r#""failsafe_mode":true"#).key("failsafe", r#"{"a":"http://a/"}"#);
    let listed = world.run().memory.failsafe.members.unwrap();
    let names: Vec<String> = listed.as_map().unwrap().keys().map(pyfmt::Value::py_str).collect();
    assert_eq!(names, ["a", "b", "c"]);
}
