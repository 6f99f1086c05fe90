//! Leases: of the member key, of the leader key, and what the lock keeper renews.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_gone_and_a_new_one() {
    let etcd = Etcd::single();
    let dcs = start("n1", &[&etcd.url]).await;
    let lease = dcs.lease_id().unwrap();
    let hex = format!("{lease:x}");
    let keeper = dcs.lease_keeper();
    assert_eq!(keeper.keepalive(lease, LIMIT).await, Ok(true));
    assert_eq!(keeper.keepalive(lease + 1, LIMIT).await, Ok(false));
    dcs.touch_member(&data("running")).await.unwrap();
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();

    // The lease is revoked behind our back and the key with it: lost, and to be raced for.
    etcd.run(&["lease", "revoke", &hex]);
    assert_eq!(etcd.value(&key("leader")), "");
    assert_eq!(keeper.keepalive(lease, LIMIT).await, Ok(false));
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(false));
    assert_eq!(etcd.value(&key("leader")), "");
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let renewed = dcs.lease_id().unwrap();
    assert_ne!(renewed, lease);
    assert_eq!(etcd.field(&key("leader"), "lease"), renewed);
    // And lost when somebody else has taken it.
    etcd.run(&["lease", "revoke", &format!("{renewed:x}")]);
    etcd.run(&["put", &key("leader"), "other"]);
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(false));
    etcd.run(&["del", &key("leader")]);

    // touch_member with a dead lease: refused, and well with the next round.
    let dead = dcs.lease_id().unwrap();
    etcd.run(&["lease", "revoke", &format!("{dead:x}")]);
    assert_eq!(dcs.touch_member(&data("running")).await, Ok(false));
    assert_eq!(dcs.touch_member(&data("running")).await, Ok(true));
    // acquire_leader helps itself.
    let dead = dcs.lease_id().unwrap();
    etcd.run(&["lease", "revoke", &format!("{dead:x}")]);
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    assert_eq!(etcd.field(&key("leader"), "lease"), dcs.lease_id().unwrap());

    // A leader key of ours on another lease, as after a restart, is moved to ours.
    let next = start("n1", &[&etcd.url]).await;
    let leader = next.get_cluster().await.unwrap().leader.clone().unwrap();
    assert_eq!(next.update_leader(&leader, None, None).await, Ok(true));
    assert_eq!(etcd.field(&key("leader"), "lease"), next.lease_id().unwrap());

    // A new TTL means a new lease, and the loop runs at once.
    let before = next.lease_id().unwrap();
    next.set_timing(Timing { ttl: Duration::from_secs(6), ..Timing::default() });
    assert!(next.watch(false, Duration::from_secs(5)).await);
    assert_eq!(next.touch_member(&data("running")).await, Ok(true));
    assert_ne!(next.lease_id(), Some(before));
    // The leader key is attached to the old one, which is what has to be renewed, until it is moved.
    assert_eq!(next.leader_lease_id(), Some(before));
    assert_eq!(etcd.field(&key("leader"), "lease"), before);
    let leader = next.get_cluster().await.unwrap().leader.clone().unwrap();
    assert_eq!(next.update_leader(&leader, None, None).await, Ok(true));
    assert_eq!(next.leader_lease_id(), next.lease_id());
    assert_eq!(etcd.field(&key("leader"), "lease"), next.lease_id().unwrap());
    assert_eq!(next.delete_leader(Some(&leader), None).await, Ok(true));
    assert_eq!(next.leader_lease_id(), None);
}

/// A request that is carried out late finds a lock that the same node has won again, and leaves it alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_of_another_life() {
    let etcd = Etcd::single();
    // The one that asks late, and the one that has gone on.
    let late = start("n1", &[&etcd.url]).await;
    let now = start("n1", &[&etcd.url]).await;
    assert_eq!(late.acquire_leader(None).await, Ok(true));
    let leader = late.get_cluster().await.unwrap().leader.clone().unwrap();
    now.get_cluster().await.unwrap();
    assert_eq!(now.delete_leader(Some(&leader), None).await, Ok(true));
    assert_eq!(now.acquire_leader(None).await, Ok(true));
    assert_eq!(late.delete_leader(Some(&leader), None).await, Ok(false));
    let moved = patroni_core::model::Leader { session: None, ..leader.clone() };
    assert_eq!(late.update_leader(&moved, None, None).await, Ok(false));
    assert_eq!(etcd.value(&key("leader")), "n1");
    assert_eq!(etcd.field(&key("leader"), "lease"), now.lease_id().unwrap());
    // Who reads it knows it.
    let leader = late.get_cluster().await.unwrap().leader.clone().unwrap();
    assert_eq!(late.update_leader(&leader, None, None).await, Ok(true));
    assert_eq!(etcd.field(&key("leader"), "lease"), late.lease_id().unwrap());
    assert_eq!(now.delete_leader(Some(&leader), None).await, Ok(true));
    assert_eq!(etcd.value(&key("leader")), "");
}

/// What the lock keeper renews is what the key is attached to, and nothing while that is not known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_leader_key_is_attached_to() {
    let etcd = Etcd::single();
    let dcs = start("n1", &[&etcd.url]).await;
    let lease = dcs.lease_id().unwrap();
    // The key was moved to our lease, and the answer was lost.
    etcd.run(&["put", &format!("--lease={lease:x}"), &key("leader"), "n1"]);
    assert_eq!(dcs.leader_lease_id(), None);
    let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true));
    assert_eq!(dcs.leader_lease_id(), Some(lease));
    // Being moved, and no answer comes: it is attached to the old lease, or on the new one.
    dcs.set_timing(Timing {
        ttl: Duration::from_secs(6),
        retry_timeout: Duration::from_secs(3),
        ..Timing::default()
    });
    assert_eq!(dcs.touch_member(&data("running")).await, Ok(true));
    assert_eq!((dcs.leader_lease_id(), dcs.lease_id() != Some(lease)), (Some(lease), true));
    let frozen = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        etcd.signal("-STOP");
    };
    // The lease is renewed and the key is not, or neither: by luck. What is known afterwards is right.
    let (updated, ()) = tokio::join!(dcs.update_leader(&leader, None, None), frozen);
    etcd.signal("-CONT");
    let known = dcs.leader_lease_id();
    assert!(if updated == Ok(true) {
        known == dcs.lease_id()
    } else {
        known.is_none() || known == Some(lease)
    });

    // Refused while it is moved: not ours.
    etcd.run(&["put", &key("leader"), "n2"]);
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(false));
    assert_eq!(dcs.leader_lease_id(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_has_a_lease_that_is_no_older_than_the_question() {
    let etcd = Etcd::single();
    let dcs = start("n1", &[&etcd.url]).await;
    let timing = Timing { ttl: Duration::from_secs(20), ..Timing::default() };
    dcs.set_timing(timing);
    assert_eq!(dcs.touch_member(&data("running")).await, Ok(true));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(etcd.seconds_left(dcs.lease_id().unwrap()) < 19);
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    assert!(etcd.seconds_left(dcs.lease_id().unwrap()) >= 19);
    let leader = dcs.get_cluster().await.unwrap().leader.clone();
    assert_eq!(dcs.delete_leader(leader.as_ref(), None).await, Ok(true));
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(etcd.seconds_left(dcs.lease_id().unwrap()) < 19);
    assert_eq!(dcs.take_leader().await, Ok(true));
    assert!(etcd.seconds_left(dcs.lease_id().unwrap()) >= 19);
}

/// The member key of a node whose cycles do not ask for the lock does not keep the lock alive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_nobody_asks_for_runs_out() {
    let etcd = Etcd::single();
    let dcs = start_hasty("n1", &[&etcd.url]).await;
    assert_eq!(dcs.touch_member(&data("running")).await, Ok(true));
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let lease = dcs.lease_id().unwrap();
    let began = Instant::now();
    while dcs.get_cluster().await.unwrap().leader.is_some() {
        assert!(began.elapsed() < Duration::from_secs(15), "the leader key lives on");
        dcs.watch(false, Duration::from_millis(1)).await;
        dcs.let_leader_run_out();
        assert_eq!(dcs.touch_member(&data("running")).await, Ok(true));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_ne!(dcs.lease_id(), Some(lease));
    assert!(dcs.get_cluster().await.unwrap().has_member("n1"));
    // Who asks again in time keeps it.
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();
    dcs.let_leader_run_out();
    assert_eq!(dcs.touch_member(&data("running")).await, Ok(true));
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true));
    assert_eq!(etcd.field(&key("leader"), "lease"), dcs.lease_id().unwrap());
    assert_eq!(dcs.leader_lease_id(), dcs.lease_id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unrenewed_lease_expires_and_wakes_the_others() {
    let etcd = Etcd::single();
    let (leader, follower) = (start_hasty("a", &[&etcd.url]).await, start_hasty("b", &[&etcd.url]).await);
    leader.touch_member(&data("running")).await.unwrap();
    assert_eq!(leader.acquire_leader(None).await, Ok(true));
    while follower.watch(true, Duration::from_millis(500)).await {}
    let began = Instant::now();
    assert!(follower.watch(true, Duration::from_secs(30)).await);
    assert!(began.elapsed() > Duration::from_secs(1));
    let cluster = follower.get_cluster().await.unwrap();
    assert!(cluster.is_unlocked() && cluster.members.is_empty(), "{cluster:?}");
    assert_eq!(follower.acquire_leader(None).await, Ok(true));
}
