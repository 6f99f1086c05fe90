//! Switchover, failover and failsafe as a dialogue with the DCS (surface-api-ctl 8).
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;

use common::{cluster, member, value, Fake};
use patroni_api::actions::act;
use patroni_api::http::response::Response;
use patroni_api::route::Action;
use patroni_core::model::{Cluster, Failover, SyncState};

fn run(fake: &Arc<Fake>, action: Action, body: &str) -> String {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    match runtime.block_on(act(&**fake, action, value(body))) {
        Response::Full(full) => {
            let headers: String = full.headers.iter().map(|(k, v)| format!(" [{k}: {v}]")).collect();
            format!("{}{headers} {}", full.code, full.body)
        }
        Response::Drop(reason) => format!("drop {reason}"),
        other => format!("{}", other.code().unwrap()),
    }
}

/// Three members; the lock is held by `leader`; `key`: a request is pending.
fn view(config: &str, leader: &str, key: bool) -> Cluster {
    let url = r#"{"api_url": "http://127.0.0.1:1/patroni"}"#;
    let members = ["pg1", "pg2", "pg3"].map(|name| member(name, url)).into();
    let mut view = cluster(&value(config), Some(leader).filter(|l| !l.is_empty()), members);
    view.sync = SyncState::from_node(Some("1"), r#"{"leader":"pg1","sync_standby":"pg2"}"#);
    view.failover = key.then(|| Failover::from_node("7", r#"{"leader":"pg1"}"#));
    view
}

#[test]
fn ends() {
    let (plain, now, done, gone) =
        (view("{}", "pg1", false), view("{}", "pg1", true), view("{}", "pg2", false), view("{}", "", true));
    for (action, body, views, expected) in [
        (
            Action::Switchover,
            r#"{"leader": "pg1", "candidate": "pg2"}"#,
            vec![&plain, &now, &gone, &done],
            "200 Successfully switched over to \"pg2\"",
        ),
        (
            Action::Switchover,
            r#"{"leader": "pg1"}"#,
            vec![&plain, &done],
            "200 Successfully switched over to \"pg2\"",
        ),
        (
            Action::Failover,
            r#"{"member": "pg3"}"#,
            vec![&plain, &now, &done],
            "200 Failed over to \"pg2\" instead of \"pg3\"",
        ),
        (
            Action::Failover,
            r#"{"candidate": "pg2", "leader": "pg1"}"#,
            vec![&plain, &done],
            "200 Successfully switched over to \"pg2\"",
        ),
        (Action::Failover, r#"{"candidate": "pg2"}"#, vec![&plain, &plain], "503 Failover failed"),
        (Action::Switchover, r#"{"leader": "pg1"}"#, vec![&plain, &gone], "503 Switchover status unknown"),
    ] {
        let fake = Fake::scripted(common::primary(), views.into_iter().cloned().collect());
        fake.good(&["pg2", "pg3"]);
        assert_eq!(run(&fake, action, body), expected, "{body}");
    }
}

/// The answer comes with the change; the reference looks once a second.
#[test]
fn a_change_is_answered_at_once() {
    let (plain, now, done) = (view("{}", "pg1", false), view("{}", "pg1", true), view("{}", "pg2", false));
    let fake = Fake::scripted(common::primary(), vec![plain, now, done]);
    fake.good(&["pg2"]);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let began = tokio::time::Instant::now();
        let body = value(r#"{"leader": "pg1", "candidate": "pg2"}"#);
        let work = act(&*fake, Action::Switchover, body);
        let changes = async {
            for _ in 0..2 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                fake.tell();
            }
        };
        let (answer, ()) = tokio::join!(work, changes);
        assert_eq!(answer.code(), Some(200));
        assert_eq!(began.elapsed().as_millis(), 40);
    });
}

#[test]
fn refusals() {
    let sync = r#"{"synchronous_mode": true}"#;
    let quorum = r#"{"synchronous_mode": "quorum"}"#;
    let bad = "412 switchover is not possible: no good candidates have been found";
    for (config, body, good, expected) in [
        ("{}", r#"{"leader": "pg2"}"#, "pg3", "412 leader name does not match"),
        ("{}", r#"{"leader": "pg1"}"#, "pg1", bad),
        ("{}", r#"{"leader": "pg1", "candidate": "pg2"}"#, "pg3", bad),
        ("{}", r#"{"leader": "pg1", "candidate": "x"}"#, "pg3", "412 candidate does not exists"),
        (
            sync,
            r#"{"leader": "pg1", "candidate": "pg3"}"#,
            "pg3",
            "412 candidate name does not match with sync_standby",
        ),
        (sync, r#"{"leader": "pg1"}"#, "pg3", bad),
        (quorum, r#"{"leader": "pg1", "candidate": "pg3"}"#, "pg2", bad),
    ] {
        let fake = Fake::scripted(common::primary(), vec![view(config, "pg1", false)]);
        fake.good(&[good]);
        assert_eq!(run(&fake, Action::Switchover, body), expected, "{config} {body}");
        assert!(fake.written().is_empty());
    }
    let fake = Fake::scripted(common::primary(), vec![view(sync, "pg1", false)]);
    fake.good(&["pg3"]);
    assert_eq!(run(&fake, Action::Failover, r#"{"candidate": "pg3"}"#), "503 Failover failed");
}

#[test]
fn key_texts() {
    let at = r#""scheduled_at": "Jan 1 2030 10am +02:00""#;
    for (body, expected) in [
        (
            format!(r#"{{"leader": "a\u00e9", "candidate": "b", {at}}}"#),
            r#"{"leader":"a\u00e9","member":"b","scheduled_at":"2030-01-01T10:00:00+02:00"}"#,
        ),
        (format!(r#"{{"leader": 5, {at}}}"#), r#"{"leader":5,"scheduled_at":"2030-01-01T10:00:00+02:00"}"#),
    ] {
        let fake = Fake::scripted(common::primary(), vec![view("{}", "pg1", false)]);
        assert_eq!(run(&fake, Action::Switchover, &body), "202 Switchover scheduled");
        assert_eq!(fake.written(), [expected]);
    }
}

#[test]
fn failsafe() {
    let full = r#"{"name": "a", "conn_url": "b", "api_url": "c"}"#;
    for (snapshot, body, expected) in [
        (common::primary(), r#"{"name": "x"}"#, "500 Running as a leader"),
        (common::replica(), r#"{"name": "x"}"#, "drop KeyError: 'conn_url'"),
        (common::replica(), full, "200 [lsn: 42] Accepted"),
    ] {
        assert_eq!(run(&Fake::new(snapshot), Action::Failsafe, body), expected);
    }
}

#[test]
fn configuration_texts() {
    let fake = Fake::new(common::primary());
    run(&fake, Action::PatchConfig, r#"{"x": {"y": [1, "\u00e9"]}, "ttl": "30"}"#);
    run(&fake, Action::PatchConfig, r#"{"ttl": "30"}"#);
    run(&fake, Action::PutConfig, r#"{"ttl": 20}"#);
    let first = r#"{"ttl":30,"loop_wait":10,"retry_timeout":10,"x":{"y":[1,"\u00e9"]}}"#;
    assert_eq!(fake.written(), [first, r#"{"ttl":20}"#]);
    let mut none = common::primary();
    none.cluster = Some(Arc::new(Cluster { config: None, ..view("{}", "pg1", false) }));
    assert_eq!(run(&Fake::new(none), Action::PatchConfig, r#"{"a": 1}"#), "503");
}

#[test]
fn what_no_node_could_use_is_not_stored() {
    for (action, body, expected) in [
        (
            Action::PatchConfig,
            r#"{"ttl": "abc"}"#,
            "400 Invalid configuration: ttl is 'abc', not a number of seconds",
        ),
        (
            Action::PatchConfig,
            r#"{"postgresql": {"parameters": "x"}}"#,
            "400 Invalid configuration: postgresql.parameters is 'x', not a mapping",
        ),
        (
            Action::PutConfig,
            r#"{"ttl": null}"#,
            "400 Invalid configuration: ttl is None, not a number of seconds",
        ),
        (Action::PutConfig, "[]", "400 Invalid configuration: the configuration is [], not a mapping"),
    ] {
        let fake = Fake::new(common::primary());
        assert_eq!(run(&fake, action, body), expected, "{body}");
        assert!(fake.written().is_empty(), "{body}");
    }
    // A key that is taken out has its default.
    let fake = Fake::new(common::primary());
    assert!(run(&fake, Action::PatchConfig, r#"{"ttl": null}"#).starts_with("200 "));
    assert_eq!(fake.written().len(), 1);
}
