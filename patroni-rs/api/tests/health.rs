//! The matrix of health checks (surface-api-ctl D13, D16, D18 to D20).
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;
use std::time::Instant;

use patroni_api::http::url::Target;
use patroni_api::{health, Snapshot, WalStatus};
use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::{PgState, Role};
use patroni_core::model::{Cluster, SyncState};
use patroni_core::tags::Tags;
use pyfmt::Value;

fn with_config(mut s: Snapshot, config: &str) -> Snapshot {
    let config = common::value(config);
    let mut view: Cluster = (**s.cluster.as_ref().unwrap()).clone();
    view.sync = SyncState::from_node(Some("1"), r#"{"leader":"pg1","sync_standby":"PG2"}"#);
    s.cluster = Some(Arc::new(view));
    s.config = GlobalConfig::new(config);
    s
}

fn with_tags(mut s: Snapshot, tags: &str) -> Snapshot {
    s.tags = Tags::published(&common::value(tags));
    s
}

fn without_view(mut s: Snapshot) -> Snapshot {
    s.cluster = None;
    s
}

fn stopped(mut s: Snapshot) -> Snapshot {
    s.postgres.state = PgState::Stopped;
    s.postgres.queried = None;
    s
}

fn standby_leader() -> Snapshot {
    let mut s = with_config(common::replica(), r#"{"standby_cluster": {"host": "x"}}"#);
    s.lease_until = common::primary().lease_until;
    s.postgres.role = Role::StandbyLeader;
    s
}

fn positions(mut s: Snapshot, leader: u64, got: i64, done: i64) -> Snapshot {
    let mut view = s.cluster.as_deref().cloned().unwrap();
    view.status.last_lsn = patroni_core::model::Lsn::new(leader);
    s.cluster = Some(Arc::new(view));
    if let Some(WalStatus::Replica { received, replayed, latest_end_lsn, .. }) =
        s.postgres.queried.as_mut().map(|q| &mut q.wal)
    {
        (*received, *replayed, *latest_end_lsn) = (Some(got), Some(done), 0);
    }
    s
}

fn yes(path: &str, s: &Snapshot) -> bool {
    let target = Target::parse(path).unwrap();
    let code = match target.path.as_str() {
        "/readiness" => return health::unready(&target, s, Instant::now()).is_none(),
        "/liveness" => health::liveness(s, Instant::now()),
        _ => health::code(&target, s, Instant::now()),
    };
    code == 200
}

fn check(columns: &[Snapshot], rows: &[(&str, &str)]) {
    for (paths, expected) in rows {
        for path in paths.split(' ') {
            let found: String = columns.iter().map(|s| if yes(path, s) { 'y' } else { '.' }).collect();
            assert_eq!(found, *expected, "{path}");
        }
    }
}

#[test]
fn states_of_a_node() {
    let sync = r#"{"synchronous_mode": true}"#;
    let columns = [
        common::primary(),
        common::replica(),
        with_config(common::replica(), sync),
        with_config(common::replica(), r#"{"synchronous_mode": "quorum"}"#),
        standby_leader(),
        with_config(common::replica(), r#"{"standby_cluster": {"host": "x"}}"#),
        with_tags(common::replica(), r#"{"noloadbalance": true}"#),
        stopped(common::replica()),
        // A primary with the lease whose PostgreSQL restarts (D7).
        stopped(common::primary()),
    ];
    check(
        &columns,
        &[
            ("/ /primary /master /read-write /a/primary", "y.......y"),
            ("/leader /x-leader-y", "y...y...y"),
            ("/standby-leader /standby_leader", "....y...."),
            ("/replica /x-replica-y", ".yyy.y..."),
            ("/read-only", "yyyyyy..y"),
            ("/read-only-sync /read-only-synchronous", "y.y.y...y"),
            ("/read-only-quorum", "y..yy...y"),
            ("/sync /synchronous", "..y......"),
            ("/quorum", "...y....."),
            ("/async /asynchronous", ".y...y..."),
            ("/health /unhealthy-thing", "yyyyyyy.."),
            ("/readiness", "yyyyyyy.y"),
            ("/liveness", "yyyyyyyyy"),
            ("/PRIMARY /sync/ /read-only-async /nonexistent /config", "........."),
        ],
    );
}

#[test]
fn without_the_dcs() {
    let mut kept = without_view(common::primary());
    kept.failsafe_active = true;
    let mut demoted = without_view(common::replica());
    if let Some(WalStatus::Replica { replication_state, .. }) =
        demoted.postgres.queried.as_mut().map(|q| &mut q.wal)
    {
        *replication_state = None;
    }
    // D17: in pause the lease does not matter.
    let mut paused = with_config(common::primary(), r#"{"pause": true}"#);
    paused.lease_until = None;
    let columns = [kept, without_view(common::replica()), demoted, without_view(paused)];
    check(
        &columns,
        &[
            ("/ /primary /leader", "y..y"),
            ("/replica", ".yy."),
            ("/read-only", "yyyy"),
            ("/read-only-sync /read-only-quorum /sync /quorum /async", "...."),
            ("/health /liveness", "yyyy"),
            ("/readiness", "yy.."),
        ],
    );
}

/// D19: 3 201 480 bytes behind in replay, 0 in write.
#[test]
fn lag() {
    let s = [positions(common::replica(), 100_000_000, 100_000_000, 100_000_000 - 3_201_480)];
    let good = "/replica /replica?lag=1mb /replica?lag=1m /replica?lag=foo /replica?lag=5foo /replica?lag= \
                /replica?lag=4e6 /replica?lag=0x3D0900 /replica?lag=3.1MB /replica?lag=.5GB /replica?lag=16%20MB \
                /replica?lag=+16MB /health?lag=0 /readiness?lag=100MB /readiness?lag=0&mode=write \
                /readiness?lag=3201480 /replica?lag=3201480";
    let bad = "/replica?lag=0 /replica?lag=1MB /replica?lag=100kB /replica?lag=3000000 /replica?lag=010 \
               /replica?lag=-1 /replica?lag=1&lag=100MB /async?lag=0 /read-only?lag=0 /readiness /readiness?lag=foo \
               /readiness?lag=0&mode=WRITE /readiness?lag=3201479 /replica?lag=3201479";
    for (paths, expected) in [(good, "y"), (bad, ".")] {
        for path in paths.split_whitespace() {
            check(&s, &[(path, expected)]);
        }
    }
    // TRAP: no limit is no overflow, and -1 is behind even when in step.
    check(
        &[positions(common::replica(), u64::MAX, i64::MAX, i64::MAX)],
        &[("/replica", "y"), ("/replica?lag=-1", ".")],
    );
}

#[test]
fn tags() {
    let tags = r#"{"region": "eu-1", "weight": 5, "flag": true, "clonefrom": true, "noloadbalance": false}"#;
    let columns = [with_tags(common::replica(), tags), with_tags(common::primary(), tags)];
    check(
        &columns,
        &[
            ("/replica?tag_region=eu-1 /replica?tag_region=eu%2D1 /replica?tag_flag=true /replica?tag_weight=5", "y."),
            ("/replica?tag_region=eu-1&tag_region=us /replica?tag_region= /replica?tag_nope= /replica?region=us", "y."),
            ("/replica?tag_region=EU-1 /replica?tag_flag=True /replica?tag_flag=1 /replica?tag_weight=05", ".."),
            ("/replica?tag_noloadbalance=false /replica?tag_region=us&tag_region=eu-1 /replica?tag_=x", ".."),
            ("/read-only?tag_region=eu-1 /health?tag_region=eu-1", "yy"),
            ("/read-only?tag_x=1 /health?tag_x=1", ".."),
            ("/primary?tag_x=1 /leader?tag_x=1", ".y"),
        ],
    );
}

#[test]
fn an_expired_lease_or_view_counts_for_nothing() {
    let now = Instant::now();
    let mut s = common::primary();
    s.lease_until = Some(now);
    assert!(!yes("/primary", &s));
    let mut s = common::replica();
    s.cluster_valid_until = Some(now);
    assert!(!yes("/async", &s) && yes("/replica", &s));
    let mut s = common::replica();
    s.next_run = now.checked_sub(s.ttl * 2);
    assert!(!yes("/liveness", &s));
    s.config = GlobalConfig::new(Value::from_iter([("pause", true)]));
    assert!(yes("/liveness", &s));
}
