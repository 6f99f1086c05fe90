//! The statements, on a primary and a standby.

use std::sync::Arc;
use std::time::Duration;

use patroni_core::ha::Role;
use patroni_core::sync::{Candidate, NameSet, SyncOptions, Tracker};
use patroni_core::PgVersion;
use patroni_postgres::files::CurrentParametersQuery;
use patroni_postgres::sql::*;

use crate::server::{versions, Server};

pub async fn monitor(pool: &Pool, version: PgVersion, role: Role) -> Monitored {
    let options = MonitorOptions { major_version: version, role, with_slots: true, synchronous_mode: true };
    let rows = pool.query(Connection::Heartbeat, &monitor_statement(&options)).await.unwrap();
    parse_monitor_row(rows.first().unwrap()).unwrap()
}

pub fn pool_of(server: &Server) -> Arc<Pool> {
    let pool = Pool::new();
    pool.set_params(server.socket());
    Arc::new(pool)
}

pub async fn until<F: std::future::Future<Output = bool>>(what: &str, check: impl Fn() -> F) {
    for _ in 0..100 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never: {what}");
}

#[tokio::test]
async fn monitoring_of_a_primary_and_a_standby() {
    for (version, bin) in versions() {
        let primary = Server::primary(bin, "DateStyle = 'SQL, DMY'\nTimeZone = 'Asia/Kolkata'");
        let pool = pool_of(&primary);
        let create = "SELECT pg_create_physical_replication_slot('n2', true), pg_create_logical_replication_slot('l', 'test_decoding')";
        pool.query(Connection::Heartbeat, create).await.unwrap();
        let standby = primary.standby("n2");
        let standby_pool = pool_of(&standby);
        until("streaming", || async {
            // The receiver knows its timeline once something has come.
            nudge_wal(&pool).await.unwrap();
            let seen = monitor(&standby_pool, version, Role::Replica).await;
            seen.receiver_status.as_deref() == Some("streaming") && seen.received_timeline.is_some()
        })
        .await;

        let seen = monitor(&pool, version, Role::Primary).await;
        assert!(
            seen.is_primary()
                && seen.timeline == 1
                && seen.wal_position.is_known()
                && seen.replayed.is_none()
        );
        let slots = seen.slots.clone().unwrap();
        assert!(slots.len() == 2 && slots.contains_key("l") && slots.contains_key("n2"));
        let loaded = load_slots(&pool, version).await.unwrap();
        assert_eq!(loaded.len(), 2);
        assert_eq!(seen.replication.first().unwrap().application_name, "n2");
        assert_eq!(seen.synchronous_commit, "on");

        let seen = monitor(&standby_pool, version, Role::StandbyLeader).await;
        assert!(
            !seen.is_primary() && seen.control_timeline == Some(1) && seen.received_timeline == Some(1),
            "{seen:?}"
        );
        assert!(seen.receive_lsn().is_some() && seen.last_operation().is_known() && !seen.replay_paused);
        assert_eq!(seen.slot_name.as_deref(), Some("n2"));
        assert!(seen.conninfo.as_deref().is_some_and(|c| c.contains("user=postgres")));
        assert_eq!(seen.replication_state(version, false), Some("streaming"));
        assert!(monitor(&standby_pool, version, Role::Replica).await.control_timeline.is_none());

        let rest = |pool: Arc<Pool>| async move {
            let rows = pool.query_restapi(&status_statement(version)).await.unwrap();
            parse_status_row(rows.first().unwrap(), version, false).unwrap()
        };
        let status = rest(Arc::clone(&pool)).await;
        assert_eq!(status.timeline, 1);
        let replication = status.replication.unwrap();
        let keys: Vec<String> =
            replication.as_list().unwrap()[0].as_map().unwrap().keys().map(|k| k.py_str()).collect();
        assert_eq!(
            keys,
            ["usename", "application_name", "client_addr", "state", "sync_state", "sync_priority"]
        );
        let time = status.postmaster_start_time.unwrap();
        assert!(time.ends_with("+05:30") && time.len() == "2026-11-21 10:00:00.123456+05:30".len(), "{time}");
        let replica = rest(Arc::clone(&standby_pool)).await.replica.unwrap();
        assert!(replica.received_location.is_some() && !replica.paused);

        synchronous_state(&pool, version).await;
        settings(&primary, &pool).await;
        remote(&primary, &standby).await;
    }
}

async fn synchronous_state(pool: &Arc<Pool>, version: PgVersion) {
    pool.query(Connection::Heartbeat, "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (n2)'")
        .await
        .unwrap();
    pool.query(Connection::Heartbeat, "SELECT pg_reload_conf()").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let candidates =
        [Candidate { name: "n2".into(), replicatefrom: None, nofailover: false, sync_priority: 1 }];
    let options = SyncOptions {
        quorum_mode: true,
        node_count: 1,
        maximum_lag: -1,
        major_version: version,
        by_slot: true,
    };
    let mut tracker = Tracker::default();
    let mut confirmed = 0;
    for _ in 0..50 {
        let seen = monitor(pool, version, Role::Primary).await;
        let again = || async { Ok(monitor(pool, version, Role::Primary).await) };
        let state =
            current_sync_state(pool, &mut tracker, seen, &candidates, &NameSet::new(), &options, again)
                .await
                .unwrap();
        assert_eq!(state.active.sorted(), ["n2"]);
        confirmed = state.numsync_confirmed;
        if confirmed == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(confirmed, 1);
    pool.query(Connection::Heartbeat, "ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    pool.query(Connection::Heartbeat, "SELECT pg_reload_conf()").await.unwrap();
}

async fn settings(server: &Server, pool: &Pool) {
    let rows =
        pg_settings(pool, &["Max_Connections".into(), "datestyle".into(), "no_such".into()]).await.unwrap();
    let names: Vec<&str> = rows.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["DateStyle", "max_connections"]);
    assert_eq!(rows[1].context, "postmaster");
    pool.query(Connection::Heartbeat, "ALTER SYSTEM SET max_connections = 77").await.unwrap();
    pool.query(Connection::Heartbeat, "SELECT pg_reload_conf()").await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let pending = pending_restart(pool, &[]).await.unwrap();
    assert_eq!(pending.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["max_connections"]);
    assert!(pending_restart(pool, &["MAX_connections".into()]).await.unwrap().is_empty());
    let query = CurrentParametersQuery {
        sourcefile: server.data.join("postgresql.auto.conf").display().to_string(),
        auto_conf: String::new(),
        recovery: Vec::new(),
        names: vec!["max_wal_senders".into()],
        exclude: vec!["port".into()],
    };
    let gucs = load_gucs(pool, &query).await.unwrap();
    assert!(gucs.iter().any(|(n, v)| n == "wal_level" && v == "logical"));
    assert!(gucs.iter().any(|(n, _)| n == "max_wal_senders") && !gucs.iter().any(|(n, _)| n == "port"));
    // Of postgresql.auto.conf only what leaves it with our next write.
    let only_recovery = CurrentParametersQuery {
        sourcefile: String::new(),
        auto_conf: query.sourcefile,
        recovery: vec!["wal_level".into()],
        names: Vec::new(),
        exclude: Vec::new(),
    };
    let gucs = load_gucs(pool, &only_recovery).await.unwrap();
    assert!(gucs.contains(&("wal_level".into(), "logical".into())));
    assert!(!gucs.iter().any(|(n, _)| n == "max_connections"));
}

async fn remote(primary: &Server, standby: &Server) {
    assert_eq!(leader_in_recovery(&primary.tcp()).await, Ok(false));
    assert_eq!(leader_in_recovery(&standby.tcp()).await, Ok(true));
    assert_eq!(leader_ran_checkpoint(&primary.tcp()).await, Ok(true));
    assert_eq!(checkpoint(&primary.tcp(), true, Some(3)).await, Ok(()));
    assert_eq!(checkpoint(&standby.tcp(), true, None).await, Err("is_in_recovery=true"));
    assert_eq!(
        checkpoint(&standby.tcp().with("port", "1"), true, None).await,
        Err("not accessible or not healthy")
    );
    standby.ctl(&["promote"]);
    assert_eq!(leader_in_recovery(&standby.tcp()).await, Ok(false));
    let mut replication = ReplicationClient::connect(&standby.socket()).await.unwrap();
    assert_eq!(replication.identify_system().await.unwrap().timeline, 2);
    let history = replication.timeline_history(2).await.unwrap();
    assert!(history.starts_with("1\t0/") && history.contains("no recovery target specified"), "{history}");
}
