//! The cases.

use std::sync::Arc;
use std::time::{Duration, Instant};

use patroni_core::model::{Cluster, FailoverOrder, Leader, Lsn, Status};
use patroni_dcs::lock::Renewal;
use patroni_dcs::{open, Dcs, DcsError};
use pyfmt::Value;

use super::support::soon;
pub use super::wakes::what_wakes;
use super::wakes::woken;
use super::{config, node, Server};

pub(super) const S: Duration = Duration::from_secs(1);
/// What is tried once comes about within this.
pub(super) const SOON: Duration = Duration::from_secs(20);

pub(super) fn data(state: &str) -> Value {
    Value::from_iter([("conn_url", "postgres://h/postgres"), ("state", state)])
}

pub(super) async fn cluster(dcs: &dyn Dcs) -> Arc<Cluster> {
    dcs.get_cluster().await.unwrap()
}

pub(super) async fn leader(dcs: &dyn Dcs) -> Option<Leader> {
    cluster(dcs).await.leader.clone()
}

async fn leader_name(dcs: &dyn Dcs) -> Option<String> {
    leader(dcs).await.map(|leader| leader.name().to_owned()).filter(|name| !name.is_empty())
}

/// Looks, and takes the lock by what was seen.
pub(super) async fn acquire(dcs: &dyn Dcs) -> Result<bool, DcsError> {
    let seen = dcs.get_cluster().await?.leader.clone();
    dcs.acquire_leader(seen.as_ref()).await
}

/// Is there nothing of the cluster in the store? Pods stay, whoever is a member of what.
fn is_empty<T: Server>(cluster: &Arc<Cluster>) -> bool {
    let members = if T::MEMBERS_STAY { Vec::new() } else { cluster.members.clone() };
    Cluster { members, ..(**cluster).clone() }.is_empty()
}

pub async fn the_life_of_a_cluster<T: Server>() {
    let server = T::start();
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    assert!(is_empty::<T>(&cluster(&*a).await));
    // The bootstrap.
    assert_eq!(a.initialize(true, "").await, Ok(true));
    assert_eq!(b.initialize(true, "").await, Ok(false));
    assert_eq!(cluster(&*b).await.initialize.as_deref(), Some(""));
    assert_eq!(a.initialize(false, "7").await, Ok(true));
    assert_eq!(a.set_config(&Value::from_iter([("ttl", 30), ("loop_wait", 10)]), None).await, Ok(true));
    soon(SOON, || async { a.touch_member(&data("running")).await }).await;
    assert_eq!(a.take_leader().await, Ok(true));
    soon(SOON, || async { b.touch_member(&data("creating replica")).await }).await;

    let seen = cluster(&*b).await;
    assert_eq!((seen.leader_name(), seen.initialize.as_deref()), (Some("a"), Some("7")));
    let config = seen.config.clone().unwrap();
    assert_eq!(pyfmt::json::dumps_compact(&config.data), r#"{"ttl":30,"loop_wait":10}"#);
    let states: Vec<(&str, Option<&str>)> =
        seen.members.iter().map(|m| (m.name.as_str(), m.data.get("state").and_then(Value::as_str))).collect();
    assert_eq!(states, [("a", Some("running")), ("b", Some("creating replica"))]);

    // The leader at work.
    let held = leader(&*a).await.unwrap();
    let slots = [("a".to_owned(), Lsn::new(5)), ("b".to_owned(), Lsn::new(4))].into_iter().collect();
    let status =
        Status { last_lsn: Lsn::new(5), slots: Some(slots), retain_slots: vec!["a".into(), "b".into()] };
    let failsafe = Value::from_iter([("a", "http://h:8008/patroni")]);
    assert_eq!(a.update_leader(&held, Some(&status), Some(&failsafe)).await, Ok(true));
    assert!(a.granted() <= S * u32::try_from(server.ttl()).unwrap() && a.granted() >= S);
    assert_eq!(a.set_history(r#"[[1,2,"r"]]"#).await, Ok(true));
    assert_eq!(
        a.manual_failover(
            FailoverOrder { leader: Some("a"), candidate: Some("b"), ..Default::default() },
            None
        )
        .await,
        Ok(true)
    );
    let seen = cluster(&*b).await;
    assert_eq!((seen.status.last_lsn.bytes(), seen.timeline()), (5, 2));
    assert_eq!(
        seen.failsafe.as_ref().map(pyfmt::json::dumps_compact).unwrap(),
        r#"{"a":"http://h:8008/patroni"}"#
    );
    let failover = seen.failover.clone().unwrap();
    assert_eq!((failover.leader.as_deref(), failover.candidate.as_deref()), (Some("a"), Some("b")));

    // A switchover.
    let held = leader(&*a).await;
    assert_eq!(a.delete_leader(held.as_ref(), Some(Lsn::new(11))).await, Ok(true));
    let seen = cluster(&*b).await;
    assert_eq!((seen.leader_name(), seen.status.last_lsn.bytes()), (None, 11));
    assert_eq!(acquire(&*b).await, Ok(true));
    assert_eq!(acquire(&*a).await, Ok(false));
    // The member key of who gave the lock up is there, or comes back in his next cycle.
    a.watch(false, Duration::from_millis(1)).await;
    soon(SOON, || async { a.touch_member(&data("running")).await }).await;
    let seen = cluster(&*b).await;
    assert_eq!((seen.leader_name(), seen.members.len()), (Some("b"), 2));

    assert_eq!(b.cancel_initialization().await, Ok(true));
    assert_eq!(cluster(&*b).await.initialize, None);
    assert_eq!(b.initialize(true, "9").await, Ok(true));
    assert_eq!(a.initialize(true, "8").await, Ok(false));
    assert_eq!(cluster(&*b).await.initialize.as_deref(), Some("9"));
    assert_eq!(b.delete_cluster().await, Ok(true));
    assert!(is_empty::<T>(&cluster(&*a).await));
}

pub async fn versions_decide<T: Server>() {
    let server = T::start();
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let first = a.write_sync("a", &["B".into(), "A1".into()], 1, None).await.unwrap().unwrap();
    // Who did not see the key does not write over it.
    assert_eq!(b.write_sync("b", &[], 0, None).await.unwrap(), None);
    // The version of our own write is good for the next one, without a read.
    let second = a.write_sync("a", &[], 0, first.version.as_deref()).await.unwrap().unwrap();
    let third = a.write_sync("a", &["c".into()], 0, second.version.as_deref()).await.unwrap().unwrap();
    for old in [&first, &second] {
        assert_eq!(b.write_sync("b", &[], 0, old.version.as_deref()).await.unwrap(), None);
        assert_eq!(b.delete_sync(old.version.as_deref()).await, Ok(false));
    }
    let seen = cluster(&*b).await.sync.clone();
    assert_eq!((seen.version.as_deref(), seen.leader.as_deref()), (third.version.as_deref(), Some("a")));
    assert_eq!(b.delete_sync(third.version.as_deref()).await, Ok(true));
    let seen = cluster(&*a).await.sync.clone();
    assert_eq!(seen.leader, None);
    assert!(a.write_sync("a", &[], 0, seen.version.as_deref()).await.unwrap().is_some());

    // Also the first version of a key is one: `0` in ZooKeeper.
    let value = |n: i64| Value::from_iter([("n", n)]);
    assert_eq!(a.set_config(&value(1), None).await, Ok(true));
    let version = cluster(&*a).await.config.as_ref().unwrap().version.clone();
    assert_eq!(b.set_config(&value(2), Some(&version)).await, Ok(true));
    assert_eq!(a.set_config(&value(3), Some(&version)).await, Ok(false));
    let config = cluster(&*a).await.config.clone().unwrap();
    assert_eq!(config.data, value(2));
    assert_ne!(config.version, version);
    assert_eq!(a.set_failover(r#"{"leader":"a"}"#, None).await, Ok(true));
    let version = cluster(&*a).await.failover.as_ref().unwrap().version.clone();
    assert_eq!(b.set_failover(r#"{"leader":"b"}"#, Some(&version)).await, Ok(true));
    assert_eq!(a.manual_failover(FailoverOrder::default(), Some(&version)).await, Ok(false));
    assert_eq!(cluster(&*a).await.failover.as_ref().unwrap().leader.as_deref(), Some("b"));
}

pub async fn one_of_many_gets_the_lock<T: Server>() {
    let server = T::start();
    let mut nodes = Vec::new();
    for name in ["a", "b", "c", "d"] {
        nodes.push(node(&server, name).await);
    }
    for round in 0..5 {
        let mut views = Vec::new();
        for node in &nodes {
            views.push(leader(&**node).await);
        }
        let races = nodes.iter().zip(&views).map(|(node, seen)| node.acquire_leader(seen.as_ref()));
        let outcomes = futures_util::future::join_all(races).await;
        let won: Vec<usize> = (0..nodes.len()).filter(|n| outcomes[*n] == Ok(true)).collect();
        assert_eq!(won.len(), 1, "{round}: {outcomes:?}");
        let winner = &nodes[won[0]];
        let held = leader(&**winner).await.unwrap();
        assert_eq!(held.name(), ["a", "b", "c", "d"][won[0]]);
        soon(SOON, || async { winner.delete_leader(Some(&held), None).await }).await;
    }
    // The race for the bootstrap as well.
    let outcomes = futures_util::future::join_all(nodes.iter().map(|node| node.initialize(true, ""))).await;
    assert_eq!(outcomes.iter().filter(|o| **o == Ok(true)).count(), 1, "{outcomes:?}");
}

pub async fn a_lock_ends_and_wakes<T: Server>() {
    let server = T::start();
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    // What is granted counts from before the question (etcd 3.5 takes it to the millisecond, 3.4 is late).
    let began = Instant::now();
    assert_eq!(acquire(&*a).await, Ok(true));
    let granted = a.granted();
    assert_eq!(leader_name(&*b).await.as_deref(), Some("a"));
    while b.watch(false, S / 10).await {}
    // `a` does nothing any more, as one whose HA loop hangs.
    let limit = granted + server.grace() + 10 * S;
    loop {
        let woken = b.watch(true, 2 * S).await;
        if leader_name(&*b).await.is_none() {
            assert!(began.elapsed() >= granted, "ended after {:?}, granted {granted:?}", began.elapsed());
            // It may have ended after the wait, and before the look.
            assert!(woken || b.watch(true, 5 * S).await, "nobody was woken when the lock ended");
            break;
        }
        assert!(began.elapsed() < limit, "the lock lives on");
    }
    assert_eq!(acquire(&*b).await, Ok(true));
}

pub async fn the_keeper_keeps_the_lock<T: Server>() {
    let server = T::start();
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    let mut renewer = a.renewer().unwrap();
    let mut renew = move || {
        let answer;
        (answer, renewer) = {
            let mut renewer = std::mem::replace(&mut renewer, Box::new(Nobody));
            std::thread::spawn(move || (renewer.renew(2 * S), renewer)).join().unwrap()
        };
        answer
    };
    // Nothing is held: never a promise.
    assert!(!matches!(renew(), Renewal::Until(_)));
    assert_eq!(acquire(&*a).await, Ok(true));
    let began = Instant::now();
    let long = Duration::from_secs(server.ttl()) + server.grace();
    while began.elapsed() < long {
        match renew() {
            Renewal::Until(granted) => assert!(granted.ttl >= S),
            // A busy machine.
            Renewal::NoAnswer(_) => {}
            Renewal::Gone => panic!("gone after {:?}", began.elapsed()),
        }
        // A store that heartbeats only while the loop lives needs no more than that.
        tokio::time::sleep(S).await;
    }
    assert_eq!(leader_name(&*b).await.as_deref(), Some("a"));
    // Not ours any more: never a promise.
    let held = leader(&*a).await;
    soon(SOON, || async { a.delete_leader(held.as_ref(), None).await }).await;
    assert!(!matches!(renew(), Renewal::Until(_)));
    assert_eq!(acquire(&*b).await, Ok(true));
    assert!(!matches!(renew(), Renewal::Until(_)));
    assert_eq!(leader_name(&*b).await.as_deref(), Some("b"));
    // It has a runtime of its own, which ends in no other one.
    std::thread::spawn(move || drop(renew)).join().unwrap();
}

/// In the renewer's place while it is away in another thread.
struct Nobody;

impl patroni_dcs::lock::LockRenewer for Nobody {
    fn renew(&mut self, _: Duration) -> Renewal {
        Renewal::NoAnswer("nobody".into())
    }
}

pub async fn a_restarted_node_keeps_its_lock<T: Server>() {
    let server = T::start();
    let before = node(&server, "a").await;
    soon(SOON, || async { before.touch_member(&data("running")).await }).await;
    assert_eq!(acquire(&*before).await, Ok(true));
    // A crash: the old session is nobody's, and lives on for a while.
    std::mem::forget(before);
    let after = node(&server, "a").await;
    let held = leader(&*after).await.unwrap();
    assert_eq!(held.name(), "a");
    assert_eq!(after.update_leader(&held, None, None).await, Ok(true));
    // From here on it is attached to the new one.
    let began = Instant::now();
    let long = Duration::from_secs(server.ttl()) + server.grace();
    while began.elapsed() < long {
        after.watch(false, S / 2).await;
        soon(SOON, || async { after.touch_member(&data("running")).await }).await;
        let held = leader(&*after).await.unwrap();
        assert_eq!(after.update_leader(&held, None, None).await, Ok(true));
    }
    assert_eq!(cluster(&*after).await.members.len(), 1);
}

/// What a releaser does in the place of a daemon that has died, on stores where another process may: as a client that has
/// neither a session nor a watch.
pub async fn the_lock_of_who_has_died<T: Server>() {
    let server = T::start();
    let died = node(&server, "a").await;
    let mut config = config(&server, "a");
    config.set("patronictl", true);
    let releaser = open(&config).await.unwrap();
    soon(SOON, || async { died.touch_member(&data("running")).await }).await;
    assert_eq!(died.lock_session(), None, "it does not lead");
    soon(SOON, || acquire(&*died)).await;
    let Some(session) = died.lock_session() else {
        assert_eq!(releaser.end_session("1").await, Ok(false));
        return;
    };
    assert_eq!(leader(&*releaser).await.unwrap().session.as_ref(), Some(&session));
    // It goes with the member key, as at the end of the ttl; and is asked for once more, where the answer was lost.
    for _ in 0..2 {
        assert_eq!(releaser.end_session(&session).await, Ok(true));
        let left = cluster(&*releaser).await;
        assert_eq!((left.leader_name(), left.members.len()), (None, 0));
    }
    // A daemon that has come back has the key under a session of its own: that stays, however late the request comes.
    died.watch(false, S / 100).await;
    soon(SOON, || acquire(&*died)).await;
    let session = died.lock_session().unwrap();
    std::mem::forget(died);
    let back = node(&server, "a").await;
    let held = leader(&*back).await.unwrap();
    assert_eq!(back.update_leader(&held, None, None).await, Ok(true));
    assert_eq!(releaser.end_session(&session).await, Ok(true));
    let held = leader(&*back).await.unwrap();
    assert_eq!((held.name(), &held.session), ("a", &back.lock_session()));
    assert_eq!(back.update_leader(&held, None, None).await, Ok(true));
}

pub async fn what_is_anothers_stays<T: Server>() {
    let server = T::start();
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    assert_eq!(acquire(&*a).await, Ok(true));
    let ours = leader(&*a).await.unwrap();
    soon(SOON, || async { a.delete_leader(Some(&ours), None).await }).await;
    // A key that is gone is not made again by the node that led. (Of another session: where the session is what is renewed,
    // a view that is as old as that tells nothing.)
    let ours = Leader { session: None, ..ours };
    assert_eq!(a.update_leader(&ours, None, None).await, Ok(false));
    assert_eq!(leader_name(&*b).await, None);
    assert_eq!(acquire(&*b).await, Ok(true));
    let theirs = leader(&*b).await.unwrap();
    assert_eq!(a.update_leader(&ours, None, None).await, Ok(false));
    assert_eq!(a.update_leader(&theirs, None, None).await, Ok(false));
    assert_eq!(a.take_leader().await, Ok(false));
    assert_eq!(a.delete_leader(Some(&ours), None).await, Ok(false));
    assert_eq!(leader_name(&*b).await.as_deref(), Some("b"));
    assert_eq!(b.update_leader(&theirs, None, None).await, Ok(true));
}

pub async fn silence_is_no_refusal<T: Server>() {
    let server = T::start_alone();
    let a = node(&server, "a").await;
    soon(SOON, || async { a.touch_member(&data("running")).await }).await;
    assert_eq!(acquire(&*a).await, Ok(true));
    let held = leader(&*a).await.unwrap();
    let mut renewer = a.renewer().unwrap();
    server.freeze(true);
    let limit = 3 * S + 3 * S;
    // A stop signal reaches the threads of a server one by one: the first question may still be answered.
    let mut answers = 0;
    let began = loop {
        let began = Instant::now();
        if a.get_cluster().await.is_err() {
            break began;
        }
        answers += 1;
        assert!(answers < 3, "a server that was stopped answers");
    };
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    assert_eq!(a.cached_cluster().map(|_| ()), None);
    let began = Instant::now();
    assert!(a.update_leader(&held, None, None).await.is_err());
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    let began = Instant::now();
    assert!(acquire(&*a).await.is_err());
    assert!(began.elapsed() < limit, "{:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(a.touch_member(&data("stopped")).await, Ok(false));
    assert_eq!(a.write_sync("a", &[], 0, None).await, Ok(None));
    assert!(began.elapsed() < limit * 2, "{:?}", began.elapsed());
    let began = Instant::now();
    let answer = std::thread::spawn(move || renewer.renew(S)).join().unwrap();
    assert!(matches!(answer, Renewal::NoAnswer(_)), "{answer:?}");
    assert!(began.elapsed() < 2 * S, "{:?}", began.elapsed());
    server.freeze(false);
    let began = Instant::now();
    while a.get_cluster().await.is_err() {
        assert!(began.elapsed() < 20 * S);
    }
}

pub async fn a_restarted_store<T: Server>() {
    let mut server = T::start_alone();
    let (a, b) = (node(&server, "a").await, node(&server, "b").await);
    assert_eq!(a.set_history("[]").await, Ok(true));
    assert_eq!(acquire(&*a).await, Ok(true));
    server.restart();
    let began = Instant::now();
    let seen = loop {
        match a.get_cluster().await {
            Ok(cluster) => break cluster,
            Err(error) => assert!(began.elapsed() < 30 * S, "{error}"),
        }
    };
    assert!(seen.history.is_some());
    // Whatever became of the lock: one of the two gets it or has it, and the watch works.
    let began = Instant::now();
    loop {
        let held = leader(&*b).await;
        match held {
            Some(held) if a.update_leader(&held, None, None).await == Ok(true) => break,
            Some(_) => {}
            None if acquire(&*a).await == Ok(true) => break,
            None => {}
        }
        assert!(began.elapsed() < 30 * S);
        tokio::time::sleep(S / 4).await;
    }
    cluster(&*b).await;
    woken(&*b, "a status after the restart", async {
        soon(SOON, || async { a.write_status(Lsn::new(u64::from(std::process::id()))).await }).await;
    })
    .await;
}

pub async fn odd_values<T: Server>() {
    let server = T::start();
    let name = server.odd_name();
    let a = node(&server, name).await;
    let text = "a+b c%20&d=e;\u{fc}\u{1f600}\"\\";
    soon(SOON, || async { a.touch_member(&data(text)).await }).await;
    assert_eq!(a.set_failover(text, None).await, Ok(true));
    assert_eq!(acquire(&*a).await, Ok(true));
    let seen = cluster(&*a).await;
    assert_eq!(seen.leader_name(), Some(name));
    assert_eq!(seen.members[0].name, name);
    assert_eq!(seen.members[0].data.get("state").and_then(Value::as_str), Some(text));
    let held = seen.leader.clone().unwrap();
    assert_eq!(a.update_leader(&held, None, None).await, Ok(true));
    assert_eq!(a.delete_leader(Some(&held), None).await, Ok(true));
    let large = format!(r#"[[1,2,"{}"]]"#, "x".repeat(200_000));
    assert_eq!(a.set_history(&large).await, Ok(true));
    assert_eq!(cluster(&*a).await.timeline(), 2);
}

pub async fn patronictl<T: Server>() {
    let server = T::start();
    let a = node(&server, "a").await;
    let mut config = config(&server, "ctl");
    config.set("patronictl", true);
    let ctl = open(&config).await.unwrap();
    assert!(is_empty::<T>(&cluster(&*ctl).await));
    assert_eq!(a.set_config(&Value::from_iter([("n", 1)]), None).await, Ok(true));
    let seen = cluster(&*ctl).await;
    let version = seen.config.as_ref().unwrap().version.clone();
    assert_eq!(ctl.set_config(&Value::from_iter([("n", 2)]), Some(&version)).await, Ok(true));
    assert_eq!(ctl.set_config(&Value::from_iter([("n", 3)]), Some(&version)).await, Ok(false));
    assert_eq!(cluster(&*a).await.config.as_ref().unwrap().data, Value::from_iter([("n", 2)]));
    assert_eq!(ctl.delete_cluster().await, Ok(true));
    assert!(is_empty::<T>(&cluster(&*a).await));
}
