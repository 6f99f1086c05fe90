//! Slots of a cluster of three: created, dropped, advanced, copied.

use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::Role;
use patroni_core::model::Lsn;
use patroni_core::model::{Cluster, ClusterConfig, Leader, Member};
use patroni_core::slots::{desired_slots, with_own_slot, Node};
use patroni_core::tags::Tags;
use patroni_core::PgVersion;
use patroni_postgres::sql::*;
use pyfmt::Value;

use crate::server::{versions, Server};
use crate::statements::{monitor, pool_of, until};

fn cluster(config: &str) -> (Cluster, GlobalConfig) {
    let member = |name: &str| Member { name: name.into(), data: Value::map(), ..Default::default() };
    let data = pyfmt::json::loads(config).unwrap();
    let members = vec![member("n1"), member("n2"), member("n3")];
    let leader = Some(Leader { member: member("n1"), ..Default::default() });
    let cluster_config = Some(ClusterConfig { data: data.clone(), ..Default::default() });
    (Cluster { members, leader, config: cluster_config, ..Default::default() }, GlobalConfig::new(data))
}

async fn names(pool: &Pool, version: PgVersion) -> Vec<String> {
    let mut names: Vec<String> = load_slots(pool, version).await.unwrap().into_keys().collect();
    names.sort();
    names
}

#[tokio::test]
async fn slots_follow_the_cluster() {
    let permanent = r#"{"slots":{"l":{"database":"postgres","plugin":"test_decoding"},"p":null},
        "ignore_slots":[{"name":"mine"}]}"#;
    let tags = Tags::default();
    for (version, bin) in versions() {
        let (mut cluster, config) = cluster(permanent);
        let primary = Server::primary(bin, "");
        let pool = pool_of(&primary);
        let create = "SELECT pg_create_physical_replication_slot('mine'), pg_create_physical_replication_slot('user'), \
                      pg_create_logical_replication_slot('p', 'test_decoding')";
        pool.query(Connection::Heartbeat, create).await.unwrap();
        let mut executor = SlotExecutor::new(std::sync::Arc::clone(&pool));
        let node = Node { name: "n1", tags: &tags, role: Role::Primary, major_version: version };
        let round = SlotRound {
            cluster: &cluster,
            config: &config,
            node: node.clone(),
            is_primary: true,
            replay_lsn: Lsn::ZERO,
            leader: None,
            citus_database: None,
        };
        assert!(sync_replication_slots(&mut executor, &round).await.is_empty());
        assert_eq!(names(&pool, version).await, ["l", "mine", "n2", "n3", "p"]);
        sync_replication_slots(&mut executor, &round).await;
        assert!(!executor.book.needs_reload(), "settled");

        // What the leader publishes.
        let standby = primary.standby("n2");
        // The slot on disk must not ask for WAL from before the standby.
        for _ in 0..3 {
            pool.query(Connection::Heartbeat, "CHECKPOINT").await.unwrap();
            let advance = "SELECT pg_replication_slot_advance('l', pg_current_wal_flush_lsn())";
            pool.query(Connection::Heartbeat, advance).await.unwrap();
        }
        pool.query(Connection::Heartbeat, "CHECKPOINT").await.unwrap();
        let seen = monitor(&pool, version, Role::Primary).await;
        let positions = executor.book.refresh(seen.slots.as_ref().unwrap());
        let published = with_own_slot(positions, "n1", seen.last_operation(), version);
        let mut keys: Vec<&String> = published.keys().collect();
        keys.sort();
        assert_eq!(keys, ["l", "n1", "n2", "n3", "p"]);

        // A standby copies the logical slot, and advances what it has.
        cluster.status.slots = Some(published);
        let standby_pool = pool_of(&standby);
        until("replayed", || async {
            let seen = monitor(&standby_pool, version, Role::Replica).await;
            seen.replayed.is_some_and(|at| at.is_known() && at >= seen.wal_position)
        })
        .await;
        let mut executor = SlotExecutor::new(std::sync::Arc::clone(&standby_pool));
        let node = Node { name: "n2", role: Role::Replica, ..node };
        let round = |replay_lsn| SlotRound {
            cluster: &cluster,
            config: &config,
            node: node.clone(),
            is_primary: false,
            replay_lsn,
            leader: Some(primary.tcp()),
            citus_database: None,
        };
        let copy = sync_replication_slots(&mut executor, &round(Lsn::MAX)).await;
        assert_eq!(copy, ["l"]);
        assert_eq!(names(&standby_pool, version).await, ["n1", "n3", "p"]);
        let (wanted, _) = desired_slots(&cluster, &config, &node, &node.subject());
        let copied = fetch_logical_slots(&primary.tcp(), version, &copy, &wanted).await.unwrap();
        assert_eq!(copied.len(), 1);
        standby_pool.close_all().await;
        standby.stop();
        write_slot_files(&standby.data, &copied).unwrap();
        std::process::Command::new("chown")
            .args(["-R", "postgres", standby.data.join("pg_replslot").to_str().unwrap()])
            .status()
            .unwrap();
        executor.on_copied(copy.iter().map(String::as_str));
        standby.start();
        executor.book.schedule();
        assert_eq!(names(&standby_pool, version).await, ["l", "n1", "n3", "p"]);
        assert!(executor.readiness.promotion_warning().is_some());

        // The logical slot moves on the primary, is published, and advanced here.
        pool.query(Connection::Heartbeat, "CREATE TABLE public.t (a int); INSERT INTO public.t VALUES (1)")
            .await
            .unwrap();
        pool.query(Connection::Heartbeat, "SELECT pg_logical_slot_get_changes('l', null, null)")
            .await
            .unwrap();
        let seen = monitor(&pool, version, Role::Primary).await;
        let target = match &seen.slots.as_ref().unwrap().get("l").unwrap().kind {
            patroni_core::slots::KnownKind::Logical { confirmed_flush_lsn, .. } => {
                confirmed_flush_lsn.unwrap()
            }
            other => panic!("{other:?}"),
        };
        cluster.status.slots.as_mut().unwrap().insert("l".into(), target);
        let round = |replay_lsn| SlotRound {
            cluster: &cluster,
            config: &config,
            node: node.clone(),
            is_primary: false,
            replay_lsn,
            leader: Some(primary.tcp()),
            citus_database: None,
        };
        let mut safe = false;
        for _ in 0..60 {
            let seen = monitor(&standby_pool, version, Role::Replica).await;
            executor.book.refresh(seen.slots.as_ref().unwrap());
            let copy = sync_replication_slots(&mut executor, &round(seen.replayed.unwrap_or_default())).await;
            assert!(copy.is_empty(), "{copy:?} {seen:?} {:?}", load_slots(&standby_pool, version).await);
            safe = executor.readiness.promotion_warning().is_none();
            let at = load_slots(&standby_pool, version).await.unwrap();
            let there = matches!(&at.get("l").unwrap().kind,
                patroni_core::slots::KnownKind::Logical { confirmed_flush_lsn: Some(lsn), .. } if *lsn >= target);
            if safe && there {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            pool.query(Connection::Heartbeat, "SELECT pg_log_standby_snapshot()").await.ok();
        }
        assert!(safe, "the copied slot became safe");
        executor.on_promote();
    }
}
