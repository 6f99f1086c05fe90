//! etcd that is dead, silent, or only partly there.

use super::*;
use patroni_core::model::Lsn;

fn within(began: Instant, seconds: u64) {
    assert!(began.elapsed() < Duration::from_secs(seconds), "took {:?}", began.elapsed());
}

async fn everything_fails(dcs: &Etcd3) {
    let leader = patroni_core::model::Leader::default();
    let began = Instant::now();
    assert!(matches!(dcs.get_cluster().await, Err(DcsError::Unreachable(_))));
    within(began, 8);
    assert!(dcs.cached_cluster().is_none());
    let began = Instant::now();
    assert!(matches!(dcs.update_leader(&leader, None, None).await, Err(DcsError::Unreachable(_))));
    within(began, 8);
    let began = Instant::now();
    assert!(matches!(dcs.acquire_leader(None).await, Err(DcsError::Unreachable(_))));
    within(began, 8);
    // The others are best effort.
    let began = Instant::now();
    assert_eq!(dcs.set_history("[]").await, Ok(false));
    within(began, 8);
    let began = Instant::now();
    assert_eq!(dcs.touch_member(&data("running")).await, Ok(false));
    within(began, 8);
    assert_eq!(dcs.write_sync("a", &[], 0, None).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_etcd() {
    let mut etcd = Etcd::single();
    let dcs = start_hasty("n1", &[&etcd.url]).await;
    let keeper = dcs.lease_keeper();
    let lease = dcs.lease_id().unwrap();
    assert!(dcs.get_cluster().await.is_ok());
    assert_eq!(keeper.keepalive(lease, LIMIT).await, Ok(true));
    etcd.kill();
    everything_fails(&dcs).await;
    let began = Instant::now();
    assert!(matches!(keeper.keepalive(lease, LIMIT).await, Err(DcsError::Unreachable(_))));
    within(began, 8);
    etcd.restart();
    assert!(dcs.get_cluster().await.is_ok());
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    // The watch has come back, too.
    while dcs.watch(false, Duration::from_secs(4)).await {}
    etcd.run(&["put", &key("leader"), "other"]);
    assert!(dcs.watch(false, Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_etcd() {
    let etcd = Etcd::single();
    let dcs = start_hasty("n1", &[&etcd.url]).await;
    let keeper = dcs.lease_keeper();
    let lease = dcs.lease_id().unwrap();
    assert!(dcs.get_cluster().await.is_ok());
    etcd.signal("-STOP");
    everything_fails(&dcs).await;
    let began = Instant::now();
    assert!(matches!(keeper.keepalive(lease, LIMIT).await, Err(DcsError::Unreachable(_))));
    within(began, 8);
    etcd.signal("-CONT");
    // Longer than the lease: etcd finds out first, and has all at once to do that it was asked for meanwhile.
    soon(SOON, || async { dcs.get_cluster().await.map(|_| true) }).await;
    soon(SOON, || async { dcs.touch_member(&data("running")).await }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_of_three() {
    let mut nodes = Etcd::cluster(3, &[]);
    // Only one is named; the others are learnt from it.
    let first = nodes[0].url.clone();
    let dcs = start_hasty("n1", &[&first]).await;
    // Time for a node that does not answer and for an election among the others.
    dcs.set_timing(Timing {
        ttl: Duration::from_secs(20),
        retry_timeout: Duration::from_secs(6),
        ..Timing::default()
    });
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let keeper = dcs.lease_keeper();
    for victim in 0..3 {
        nodes[victim].signal("-STOP");
        let began = Instant::now();
        let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();
        assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true), "{victim}");
        assert_eq!(keeper.keepalive(dcs.lease_id().unwrap(), LIMIT).await, Ok(true), "{victim}");
        within(began, 14);
        nodes[victim].signal("-CONT");
        std::thread::sleep(Duration::from_millis(1500));
    }
    // Without a majority there is no answer, even from a node that is alive.
    nodes[1].kill();
    nodes[2].kill();
    std::thread::sleep(Duration::from_millis(1500));
    let began = Instant::now();
    assert!(matches!(dcs.get_cluster().await, Err(DcsError::Unreachable(_))));
    within(began, 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_comes_later_than_we() {
    let mut etcd = Etcd::single();
    etcd.kill();
    let url = etcd.url.clone();
    let starting = tokio::spawn(async move { start("n1", &[&url]).await });
    tokio::time::sleep(Duration::from_millis(800)).await;
    etcd.restart();
    assert!(starting.await.unwrap().get_cluster().await.is_ok());
}

#[test]
fn the_lock_keeper_lives_in_a_thread_of_its_own() {
    let etcd = Etcd::single();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let main = runtime();
    let dcs = main.block_on(start("n1", &[&etcd.url]));
    let (lease, keeper) = (dcs.lease_id().unwrap(), dcs.lease_keeper());
    // The main runtime is not running while the keeper works.
    let renewed =
        std::thread::spawn(move || runtime().block_on(keeper.keepalive(lease, LIMIT))).join().unwrap();
    assert_eq!(renewed, Ok(true));
    drop(main);
    drop(dcs);
}

/// etcd is silent for so long that the first attempt is given up, and may carry it out
/// all the same when it wakes: the second one then finds the key in its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_no_lost_race() {
    let etcd = Etcd::single();
    let dcs = start_hasty("n1", &[&etcd.url]).await;
    let mut before = None;
    for round in 0..4 {
        assert_eq!(dcs.touch_member(&data("running")).await, Ok(true));
        assert!(dcs.get_cluster().await.is_ok());
        let standbys = ["b".to_owned()];
        let sync = dcs.write_sync("n1", &[], 0, before.as_deref()).await.unwrap().unwrap();
        // Who did not see the key must not write over it.
        assert!(dcs.write_sync("n2", &[], 0, None).await.unwrap().is_none(), "{round}");
        etcd.signal("-STOP");
        let version = sync.version.clone();
        let (acquired, written, ()) = tokio::join!(
            dcs.acquire_leader(None),
            dcs.write_sync("n1", &standbys, 0, version.as_deref()),
            async {
                tokio::time::sleep(Duration::from_millis(1300)).await;
                etcd.signal("-CONT");
            }
        );
        assert_eq!(acquired, Ok(true), "{round}");
        let version = written.unwrap().unwrap().version;
        let cluster = dcs.get_cluster().await.unwrap();
        assert_eq!(cluster.sync.version, version, "{round}");
        before = version;
        assert_eq!(dcs.delete_leader(cluster.leader.as_ref(), None).await, Ok(true), "{round}");
    }
}

/// The timings of a configuration that says nothing, which no other test has: the keeper has 3 s, and a node of three
/// would get 3.3 s of the loop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_keeper_leaves_a_silent_node() {
    let nodes = Etcd::cluster(3, &[]);
    let urls: Vec<&str> = nodes.iter().map(|node| node.url.as_str()).collect();
    let dcs = start("n1", &urls).await;
    dcs.set_timing(Timing::default());
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let (keeper, lease) = (dcs.lease_keeper(), dcs.lease_id().unwrap());
    assert_eq!(keeper.keepalive(lease, LIMIT).await, Ok(true));
    for (n, victim) in nodes.iter().enumerate() {
        victim.signal("-STOP");
        // Time for an election, should it be the leader.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let began = Instant::now();
        let first = keeper.keepalive(lease, LIMIT).await;
        within(began, 4);
        assert!(first == Ok(true) || keeper.keepalive(lease, LIMIT).await == Ok(true), "{n}: {first:?}");
        // Whatever little time there is, the next node is tried with the next call.
        let hurried = Duration::from_millis(300);
        let mut answers = Vec::new();
        for _ in 0..3 {
            answers.push(keeper.keepalive(lease, hurried).await);
        }
        assert!(answers.contains(&Ok(true)), "{n}: {answers:?}");
        victim.signal("-CONT");
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_keeper_hears_of_other_nodes() {
    let (mut old, other) = (Etcd::single(), Etcd::single());
    let dcs = start("n1", &[&old.url]).await;
    let (keeper, lease) = (dcs.lease_keeper(), dcs.lease_id().unwrap());
    assert_eq!(keeper.keepalive(lease, LIMIT).await, Ok(true));
    old.kill();
    let config = config("n1", &[&other.url]);
    dcs.reload(&config).unwrap();
    // That one knows the lease as little as any other: an answer all the same.
    assert_eq!(keeper.keepalive(lease, LIMIT).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_set_back() {
    let mut etcd = Etcd::single();
    let dcs = start("n1", &[&etcd.url]).await;
    let keeper = dcs.lease_keeper();
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    assert_eq!(dcs.set_history("[]").await, Ok(true));
    etcd.snapshot();
    // Later terms, and later revisions, than those of the snapshot.
    etcd.kill();
    etcd.restart();
    assert_eq!(dcs.set_history("[[1,2,\"later\"]]").await, Ok(true));
    for n in 0..5 {
        assert_eq!(dcs.write_status(Lsn::new(n + 100)).await, Ok(true));
    }
    assert_eq!((dcs.get_cluster().await.unwrap().timeline(), dcs.setbacks()), (2, 0));
    etcd.restore();
    let began = Instant::now();
    let cluster = dcs.get_cluster().await.unwrap();
    within(began, 4);
    assert_eq!((cluster.leader_name(), cluster.timeline(), dcs.setbacks()), (Some("n1"), 1, 1));
    // The lease is of the snapshot as well.
    let leader = cluster.leader.clone().unwrap();
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true));
    assert_eq!(keeper.keepalive(dcs.leader_lease_id().unwrap(), LIMIT).await, Ok(true));
    // The watch hears what is written at revisions that it has seen before.
    while dcs.watch(false, Duration::from_secs(3)).await {}
    etcd.run(&["put", &key("leader"), "other"]);
    assert!(dcs.watch(false, Duration::from_secs(5)).await);
    assert_eq!(dcs.setbacks(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_not_asked() {
    let etcd = Etcd::single();
    let learner = etcd.add_learner();
    learner.signal("-STOP");
    // The keeper begins with another node than the loop: with the learner, were it one of the list.
    let mut least = Duration::MAX;
    for _ in 0..3 {
        let dcs = start("n1", &[&etcd.url]).await;
        let (keeper, lease) = (dcs.lease_keeper(), dcs.lease_id().unwrap());
        let began = Instant::now();
        assert_eq!(keeper.keepalive(lease, Duration::from_secs(6)).await, Ok(true));
        least = least.min(began.elapsed());
    }
    assert!(least < Duration::from_secs(2), "{least:?}");
    learner.signal("-CONT");
}
