#![allow(clippy::unwrap_used, clippy::expect_used, clippy::needless_range_loop, missing_docs)]
//! The etcd 3 adapter against real etcd processes.

mod failures;
mod leases;
mod lost;
mod recorded;
mod reference;
mod secured;
mod server;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use patroni_core::model::{FailoverOrder, Lsn, Status, SyncState};
use patroni_dcs::{open, Dcs, DcsError, Etcd3, Settings, Timing};
use pyfmt::{json, Value};
use server::Etcd;
use support::soon;

/// What is tried once, which a machine that does something else may fail, comes about within this.
const SOON: Duration = Duration::from_secs(30);

/// How long the lock keeper may take.
const LIMIT: Duration = Duration::from_secs(3);

/// A configuration of node `name` with these etcd URLs, with time for a machine that does something else as well:
/// within the ttl a test looks at dozens of keys, each with a process of its own.
fn config(name: &str, urls: &[&str]) -> Value {
    configured(name, urls, r#"{"scope":"batman","ttl":30,"loop_wait":1,"retry_timeout":9,"etcd3":{}}"#)
}

/// For tests that wait for a lease to end, or for requests to fail.
fn hasty(name: &str, urls: &[&str]) -> Value {
    configured(name, urls, r#"{"scope":"batman","ttl":5,"loop_wait":1,"retry_timeout":3,"etcd3":{}}"#)
}

fn configured(name: &str, urls: &[&str], text: &str) -> Value {
    let mut config = json::loads(text).unwrap();
    config.set("name", name);
    let hosts: Vec<Value> = urls.iter().map(|u| Value::from(u.trim_start_matches("http://"))).collect();
    config.set("etcd3", Value::from_iter([("hosts", Value::from(hosts))]));
    config
}

async fn start(name: &str, urls: &[&str]) -> Etcd3 {
    start_as(config(name, urls)).await
}

async fn start_hasty(name: &str, urls: &[&str]) -> Etcd3 {
    start_as(hasty(name, urls)).await
}

async fn start_as(config: Value) -> Etcd3 {
    let section = config.get("etcd3").unwrap();
    let settings = Settings::from_config(&config, section).unwrap();
    let started = tokio::time::timeout(Duration::from_secs(30), Etcd3::start(settings, section)).await;
    started.expect("etcd is there").unwrap()
}

fn data(state: &str) -> Value {
    Value::from_iter([("conn_url", "postgres://h/postgres"), ("state", state)])
}

fn key(name: &str) -> String {
    format!("/service/batman/{name}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_keys_of_a_cluster() {
    let etcd = Etcd::single();
    let dcs = start("n1", &[&etcd.url]).await;
    let lease = dcs.lease_id().unwrap();
    assert!(dcs.get_cluster().await.unwrap().is_empty());

    assert_eq!(dcs.initialize(true, "").await, Ok(true));
    assert_eq!(dcs.initialize(true, "").await, Ok(false));
    assert_eq!(dcs.initialize(false, "7").await, Ok(true));
    assert_eq!(etcd.value(&key("initialize")), "7");
    assert_eq!(dcs.set_config(&Value::from_iter([("ttl", 30), ("loop_wait", 10)]), None).await, Ok(true));
    assert_eq!(etcd.value(&key("config")), r#"{"ttl":30,"loop_wait":10}"#);
    assert_eq!(dcs.touch_member(&data("r\u{fc}n")).await, Ok(true));
    assert_eq!(etcd.value(&key("members/n1")), r#"{"conn_url":"postgres://h/postgres","state":"r\u00fcn"}"#);
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    assert_eq!(dcs.acquire_leader(None).await, Ok(false));
    assert_eq!(etcd.value(&key("leader")), "n1");
    for name in ["leader", "members/n1"] {
        assert_eq!(etcd.field(&key(name), "lease"), lease, "{name}");
    }

    let cluster = dcs.get_cluster().await.unwrap();
    assert_eq!((cluster.leader_name(), cluster.initialize.as_deref()), (Some("n1"), Some("7")));
    let leader = cluster.leader.clone().unwrap();
    assert_eq!(leader.session, Some(lease.to_string()));
    // Nothing new to say about the member: not written again.
    let written = etcd.field(&key("members/n1"), "mod_revision");
    assert_eq!(dcs.touch_member(&data("r\u{fc}n")).await, Ok(true));
    assert_eq!(etcd.field(&key("members/n1"), "mod_revision"), written);

    let slots = [("n1".to_owned(), Lsn::new(5)), ("n2".to_owned(), Lsn::new(4))].into_iter().collect();
    let status =
        Status { last_lsn: Lsn::new(5), slots: Some(slots), retain_slots: vec!["n1".into(), "n2".into()] };
    let failsafe = Value::from_iter([("n1", "http://h:8008/patroni")]);
    assert_eq!(dcs.update_leader(&leader, Some(&status), Some(&failsafe)).await, Ok(true));
    let text = r#"{"optime":5,"slots":{"n1":5,"n2":4},"retain_slots":["n1","n2"]}"#;
    assert_eq!(etcd.value(&key("status")), text);
    assert_eq!(etcd.value(&key("failsafe")), r#"{"n1":"http://h:8008/patroni"}"#);
    let written = etcd.field(&key("status"), "mod_revision");
    assert_eq!(dcs.update_leader(&leader, Some(&status), Some(&failsafe)).await, Ok(true));
    assert_eq!(etcd.field(&key("status"), "mod_revision"), written);
    assert_eq!(dcs.write_status(Lsn::new(9)).await, Ok(true));
    assert_eq!(etcd.value(&key("status")), text.replace("5,\"slots", "9,\"slots"));

    let order = FailoverOrder {
        leader: Some("n1"),
        scheduled_at: Some("2030-01-01T00:00:00+00:00"),
        ..Default::default()
    };
    assert_eq!(dcs.manual_failover(order, None).await, Ok(true));
    assert_eq!(etcd.value(&key("failover")), r#"{"leader":"n1","scheduled_at":"2030-01-01T00:00:00+00:00"}"#);
    assert_eq!(dcs.manual_failover(FailoverOrder::default(), None).await, Ok(true));
    assert_eq!(etcd.value(&key("failover")), "{}");
    assert_eq!(dcs.set_history(r#"[[1,2,"r"]]"#).await, Ok(true));
    for name in ["status", "failsafe", "failover", "history", "config", "initialize"] {
        assert_eq!(etcd.field(&key(name), "lease"), 0, "{name}");
    }
    let cluster = dcs.get_cluster().await.unwrap();
    assert_eq!(
        (cluster.timeline(), cluster.status.last_lsn.bytes(), cluster.failover.as_ref()),
        (2, 9, None)
    );

    assert_eq!(dcs.delete_leader(Some(&leader), Some(Lsn::new(11))).await, Ok(true));
    assert_eq!(dcs.delete_leader(Some(&leader), None).await, Ok(false));
    assert!(etcd.value(&key("status")).starts_with(r#"{"optime":11,"slots":{"n1":5"#));
    assert_eq!(dcs.cancel_initialization().await, Ok(true));
    assert_eq!(dcs.delete_cluster().await, Ok(true));
    assert!(dcs.get_cluster().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_whose_answer_was_lost() {
    let etcd = Etcd::single();
    let (dcs, other) = (start("n1", &[&etcd.url]).await, start("n2", &[&etcd.url]).await);
    // What is left of a claim when the answer to its first step is lost: the key, under our lease.
    let lease = format!("--lease={:x}", dcs.lease_id().unwrap());
    etcd.run(&["put", &lease, &key("initialize"), ""]);
    assert_eq!(other.initialize(true, "").await, Ok(false));
    assert_eq!(dcs.initialize(true, "").await, Ok(true));
    assert_eq!((etcd.value(&key("initialize")).as_str(), etcd.field(&key("initialize"), "lease")), ("", 0));
    // From here on nobody's, as the reference's.
    assert_eq!(other.initialize(true, "").await, Ok(false));
    assert_eq!(dcs.initialize(true, "").await, Ok(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_decide() {
    let etcd = Etcd::single();
    let (a, b) = (start("a", &[&etcd.url]).await, start("b", &[&etcd.url]).await);
    let first = a.write_sync("a", &["B".into(), "A1".into()], 1, None).await.unwrap().unwrap();
    assert_eq!(etcd.value(&key("sync")), r#"{"leader":"a","quorum":1,"sync_standby":"A1,B"}"#);
    let seen = b.get_cluster().await.unwrap().sync.clone();
    assert_eq!(seen, first);
    let second = a.write_sync("a", &[], 0, first.version.as_deref()).await.unwrap().unwrap();
    assert_eq!(etcd.value(&key("sync")), r#"{"leader":"a","quorum":0,"sync_standby":null}"#);
    assert_eq!(b.write_sync("b", &[], 0, seen.version.as_deref()).await, Ok(None));
    assert_eq!(b.delete_sync(seen.version.as_deref()).await, Ok(false));
    let third = a.write_sync("a", &["b".into()], 0, second.version.as_deref()).await.unwrap().unwrap();
    assert_eq!(b.delete_sync(third.version.as_deref()).await, Ok(true));
    assert_eq!(a.get_cluster().await.unwrap().sync, SyncState::default());

    assert_eq!(a.set_config(&Value::map(), None).await, Ok(true));
    let version = b.get_cluster().await.unwrap().config.clone().unwrap().version;
    assert_eq!(b.set_config(&Value::from_iter([("ttl", 20)]), Some(&version)).await, Ok(true));
    assert_eq!(a.set_config(&Value::map(), Some(&version)).await, Ok(false));
    assert_eq!(a.set_config(&Value::map(), Some("nonsense")).await, Ok(false));
    assert_eq!(etcd.value(&key("config")), r#"{"ttl":20}"#);

    assert_eq!(a.acquire_leader(None).await, Ok(true));
    assert_eq!(b.acquire_leader(None).await, Ok(false));
    let leader = b.get_cluster().await.unwrap().leader.clone().unwrap();
    assert_eq!(leader.name(), "a");
    assert_eq!(b.update_leader(&leader, None, None).await, Ok(false));
    assert_eq!(b.delete_leader(Some(&leader), None).await, Ok(false));
    // Not over another's: such a request may be carried out late.
    assert_eq!(b.take_leader().await, Ok(false));
    assert_eq!((etcd.value(&key("leader")).as_str(), b.leader_lease_id()), ("a", None));
    assert_eq!(a.take_leader().await, Ok(true));
    assert_eq!(a.delete_leader(Some(&leader), None).await, Ok(true));
    assert_eq!(b.take_leader().await, Ok(true));
    assert_eq!((etcd.value(&key("leader")).as_str(), b.leader_lease_id()), ("b", b.lease_id()));
    assert_eq!(etcd.field(&key("leader"), "lease"), b.lease_id().unwrap());
    assert_eq!(a.update_leader(&Default::default(), None, None).await, Ok(false));
}

/// More than gRPC reads unless it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values() {
    let etcd = Etcd::single();
    let dcs = start("n1", &[&etcd.url]).await;
    let mut ctl = config("n1", &[&etcd.url]);
    ctl.set("patronictl", true);
    let ctl = open(&ctl).await.unwrap();
    let large = "x".repeat(1_200_000);
    let text = format!(r#"[[1,2,"{large}"]]"#);
    assert_eq!(dcs.set_history(&text).await, Ok(true));
    assert_eq!(dcs.set_failover(&large, None).await, Ok(true));
    let value = Value::from_iter([("x", large.as_str())]);
    assert_eq!(dcs.set_config(&value, None).await, Ok(true));
    assert_eq!(dcs.write_failsafe(&value).await, Ok(true));
    for cluster in [dcs.get_cluster().await, ctl.get_cluster().await] {
        assert_eq!(cluster.map(|c| (c.timeline(), c.failsafe.is_some())), Ok((2, true)));
    }
    // The watch as well, also one that has to hear of all of it at once.
    while dcs.watch(false, Duration::from_secs(2)).await {}
    etcd.run(&["put", &key("leader"), "other"]);
    assert!(dcs.watch(false, Duration::from_secs(5)).await);
    // What etcd does not take is named.
    assert_eq!(dcs.set_history(&"x".repeat(2_000_000)).await, Ok(false));
}

/// How long a watch of at most 3 seconds lasts while `change` is made.
async fn woken(dcs: &Etcd3, following: bool, change: impl Fn() + Send + 'static) -> bool {
    let changing = tokio::task::spawn_blocking(move || {
        std::thread::sleep(Duration::from_millis(200));
        change();
    });
    let woken = dcs.watch(following, Duration::from_millis(1500)).await;
    changing.await.unwrap();
    woken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_wakes_the_loop() {
    let etcd = std::sync::Arc::new(Etcd::single());
    let dcs = start("b", &[&etcd.url]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let put = |name: &'static str, value: &'static str| {
        let etcd = std::sync::Arc::clone(&etcd);
        move || {
            etcd.run(&["put", &key(name), value]);
        }
    };
    for (name, value, wakes) in [
        ("config", "{}", false),
        ("config", "{\"ttl\":1}", true),
        ("leader", "a", true),
        ("status", "{\"optime\":1}", true),
        ("sync", "{}", false),
        ("failover", "{\"leader\":\"a\"}", false),
        ("members/a", "{}", false),
    ] {
        assert_eq!(woken(&dcs, true, put(name, value)).await, wakes, "{name}");
    }
    // What has passed while nobody watched ends the next watch at once.
    put("leader", "c")();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(dcs.watch(false, Duration::from_secs(5)).await);
    dcs.wake();
    assert!(dcs.watch(false, Duration::from_secs(5)).await);
    // A compaction under the watch does not end it, nor make it blind.
    let revision = etcd.field(&key("leader"), "mod_revision").to_string();
    etcd.run(&["compact", &revision]);
    assert!(woken(&dcs, true, put("leader", "d")).await);
    assert_eq!(dcs.get_cluster().await.unwrap().leader_name(), Some("d"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_reference_writes() {
    let etcd = Etcd::single();
    let dcs = start("b", &[&etcd.url]).await;
    etcd.run(&["put", &key("members/a"), r#"{"conn_url":"postgres://h:5432/postgres","api_url":"http://h:8008/patroni","state":"running","role":"master","version":"2.0.2","xlog_location":67108864,"timeline":1}"#]);
    etcd.run(&["put", &key("optime/leader"), "67108864"]);
    etcd.run(&["put", &key("leader"), "a"]);
    etcd.run(&["put", &key("failover"), "a:b"]);
    etcd.run(&["put", &key("sync"), r#"{"leader": "a", "sync_standby": "b"}"#]);
    let cluster = dcs.get_cluster().await.unwrap();
    assert_eq!(cluster.status.last_lsn.bytes(), 67_108_864);
    assert_eq!(cluster.leader.as_ref().and_then(|l| l.timeline()), Some(1));
    assert_eq!(cluster.failover.as_ref().and_then(|f| f.candidate.as_deref()), Some("b"));
    assert!(cluster.sync.matches("B", false));
    // Garbage in one key does not hide the others.
    etcd.run(&["put", &key("failover"), r#"{"leader":"a","scheduled_at":"garbage"}"#]);
    assert_eq!(dcs.get_cluster().await.unwrap().leader_name(), Some("a"));
    // A member that does not know /status still gets its key.
    assert_eq!(dcs.write_status(Lsn::new(67_108_900)).await, Ok(true));
    assert_eq!(etcd.value(&key("optime/leader")), "67108900");
    assert_eq!(etcd.value(&key("status")), r#"{"optime":67108900}"#);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_by_configuration() {
    let etcd = Etcd::single();
    let dcs = open(&config("n", &[&etcd.url])).await.unwrap();
    assert!(dcs.get_cluster().await.unwrap().is_empty());
    assert!(dcs.renewer().is_some());
    let error = open(&Value::map()).await.err().unwrap().to_string();
    let known =
        "Can not find suitable configuration of distributed configuration store\nAvailable implementations: ";
    assert!(error.starts_with(known), "{error}");
    // The first by name, as in the reference.
    let mut two = config("n", &[&etcd.url]);
    two.set("raft", Value::map());
    assert!(open(&two).await.is_ok());
    for (key, value) in
        [("0/leader", "c"), ("2/leader", "w"), ("02/leader", "x"), ("leader", "y"), ("2x/leader", "z")]
    {
        etcd.run(&["put", &self::key(key), value]);
    }
    let groups = dcs.get_groups().await.unwrap();
    let leaders: Vec<_> = groups.iter().map(|(group, c)| (*group, c.leader_name().unwrap())).collect();
    assert_eq!(leaders, [(0, "c"), (2, "w")]);
    let mut ctl = config("n", &[&etcd.url]);
    ctl.set("patronictl", true);
    assert_eq!(start_as(ctl.clone()).await.lease_id(), None);
    let ctl = open(&ctl).await.unwrap();
    assert!(ctl.get_cluster().await.is_ok());
}

/// What was read stands until the watch tells of a change, whatever key it is, or ends; and so does a lock that was
/// confirmed. A cycle in which nothing happens asks for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_watch_would_have_told_is_not_asked_again() {
    let mut etcd = Etcd::single();
    let long = configured(
        "n1",
        &[&etcd.url],
        r#"{"scope":"batman","ttl":600,"loop_wait":1,"retry_timeout":9,"etcd3":{}}"#,
    );
    let dcs = start_as(long).await;
    dcs.touch_member(&data("running")).await.unwrap();
    soon(SOON, || dcs.acquire_leader(None)).await;
    // Reads until what was read stands: the watch is open, and has told of what was written before.
    let read = || async { dcs.get_cluster().await.map(|_| dcs.unchanged_cluster().is_some()) };
    soon(SOON, read).await;
    let cluster = dcs.get_cluster().await.unwrap();
    soon(SOON, read).await;
    assert_eq!(dcs.unchanged_cluster().unwrap().leader_name(), Some("n1"));
    let calls = || etcd.calls();
    let (before, leader) = (calls(), cluster.leader.clone().unwrap());
    for _ in 0..20 {
        assert!(dcs.unchanged_cluster().is_some());
        assert_eq!(dcs.touch_member(&data("running")).await, Ok(true));
        assert_eq!(dcs.keep_leader(&leader, None, None).await, Ok(true));
        dcs.cycle_over();
    }
    assert_eq!(calls() - before, 0);
    // Somebody else writes, also what wakes nobody; the other one here is the test's own client.
    for key in [key("members/n2"), key("sync"), key("leader")] {
        soon(SOON, read).await;
        etcd.run(&["put", &key, "{}"]);
        soon(SOON, || async { Ok(dcs.unchanged_cluster().is_none()) }).await;
        etcd.run(&["del", &key]);
        if key.ends_with("leader") {
            assert_eq!(dcs.get_cluster().await.map(|_| dcs.unchanged_cluster()), Ok(None), "nobody leads");
            soon(SOON, || dcs.acquire_leader(None)).await;
        }
    }
    // We do.
    soon(SOON, read).await;
    assert_eq!(dcs.set_history("[]").await, Ok(true));
    assert!(dcs.unchanged_cluster().is_none());
    // The store goes, and comes back.
    soon(SOON, read).await;
    etcd.kill();
    soon(SOON, || async { Ok(dcs.unchanged_cluster().is_none()) }).await;
    etcd.restart();
    soon(SOON, read).await;
}
