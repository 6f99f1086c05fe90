//! Tables: what was seen, and what is said of it.

use std::time::Duration;

use pyfmt::json;

use super::gather::{implementation, Seen, Told};
use super::machine::Room;
use super::servers::{Server, Slot, State};
use super::*;
use crate::store::{global_config, tests::view};

const LEADER: &str = r#"{"state":"running","role":"primary","server_version":150018,"timeline":3,
  "xlog":{"location":1000},"dcs_last_seen":100,"patroni":{"version":"4.1.5"}}"#;
const STANDBY: &str = r#"{"state":"running","role":"replica","server_version":150018,"timeline":3,
  "replication_state":"streaming","xlog":{"received_location":990,"replayed_location":980},"dcs_last_seen":100,
  "patroni":{"version":"4.1.5"}}"#;

/// Two members, of which `a` leads; `keys` come on top.
fn seen(keys: &[(&str, &str)], members: &[(&str, &str)]) -> Seen {
    let mut all = vec![("leader", "a"), ("config", r#"{"ttl":30,"loop_wait":10,"retry_timeout":10}"#)];
    let names: Vec<String> = members.iter().map(|(name, _)| format!("members/{name}")).collect();
    all.extend(names.iter().map(|name| (name.as_str(), r#"{"api_url":"http://h/patroni"}"#)));
    all.retain(|(name, _)| !keys.iter().any(|(other, _)| name == other));
    all.extend(keys.iter().copied().filter(|(_, value)| !value.is_empty()));
    let cluster = view(&all).cluster;
    let told = |(name, text): &(&str, &str)| Told {
        name: (*name).to_owned(),
        status: json::loads(text).map_err(|_| (*text).to_owned()),
        implementation: None,
    };
    let config = global_config(&cluster);
    Seen {
        now: 101,
        cluster,
        config,
        reads: vec![Duration::from_millis(3)],
        told: members.iter().map(told).collect(),
        use_pg_rewind: true,
        servers: None,
        rooms: Vec::new(),
    }
}

/// What is not fine.
fn wrong(seen: &Seen) -> Vec<String> {
    let bad = checks::all(seen).into_iter().filter(|finding| finding.level != Level::Ok);
    bad.map(|f| format!("{} {} {}: {}", f.level.as_str(), f.check, f.member, f.text)).collect()
}

fn standby(change: impl FnOnce(&mut Value)) -> String {
    let mut status = json::loads(STANDBY).unwrap_or_default();
    change(&mut status);
    json::dumps(&status)
}

#[test]
fn nothing_is_wrong_with_a_healthy_cluster() {
    let seen = seen(&[], &[("a", LEADER), ("b", STANDBY)]);
    assert_eq!(wrong(&seen), Vec::<String>::new());
    assert_eq!(worst(&checks::all(&seen)), Level::Ok);
    // Each check says that it has looked.
    assert!(checks::all(&seen).len() >= 12);
}

#[test]
fn what_is_wrong_is_said() {
    let config = |text: &'static str| vec![("config", text)];
    let status = |key: &'static str, value: Value| {
        vec![("a", LEADER.to_owned()), ("b", standby(|s| s.set(key, value)))]
    };
    let both = || vec![("a", LEADER.to_owned()), ("b", STANDBY.to_owned())];
    let strict = r#"{"synchronous_mode":true,"synchronous_mode_strict":true}"#;
    for (keys, members, expected) in [
        (config(r#"{"pause":true}"#), both(), "warning pause"),
        (config(r#"{"ttl":20,"loop_wait":10,"retry_timeout":10}"#), both(), "warning time-outs"),
        (config(r#"{"maximum_lag_on_failover":0}"#), both(), "warning time-outs"),
        (vec![("leader", "")], both(), "error leader"),
        (vec![("leader", "c")], both(), "error leader c: holds the leader lock, and has no member key"),
        (
            vec![],
            vec![("a", "refused".into()), ("b", STANDBY.into())],
            "error leader a: holds the leader lock, and does not answer",
        ),
        (
            vec![],
            vec![("a", LEADER.into()), ("b", "refused".into())],
            "error members b: does not answer: refused",
        ),
        (vec![], status("state", "start failed".into()), "error members b: PostgreSQL is start failed"),
        (
            vec![],
            status("replication_state", "in archive recovery".into()),
            "warning replication b: in archive recovery",
        ),
        (
            vec![],
            status("timeline", Value::Int(2)),
            "error replication b: is on timeline 2, and the leader on 3",
        ),
        (vec![], vec![("a", LEADER.into())], "warning failover : there is one member"),
        (vec![], status("watchdog_failed", true.into()), "error watchdog b"),
        (config(strict), both(), "error synchronous mode : strict, and no standby"),
        (
            config(r#"{"synchronous_mode":true}"#),
            both(),
            "warning synchronous mode : no standby is synchronous",
        ),
        (
            vec![],
            status("dcs_last_seen", Value::Int(60)),
            "error store, as members see it b: has not reached the store for 41 s",
        ),
        (
            vec![],
            status("dcs_last_seen", Value::Int(160)),
            "warning store, as members see it b: its clock is 59 s ahead",
        ),
        (
            vec![],
            status("failsafe_mode_is_active", true.into()),
            "error store, as members see it b: failsafe mode",
        ),
        (vec![], status("pending_restart", true.into()), "warning pending restart b"),
        (
            vec![],
            status("server_version", Value::Int(150010)),
            "warning versions : PostgreSQL differs: 150018 (a); 150010 (b)",
        ),
    ] {
        let members: Vec<(&str, &str)> = members.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let found = wrong(&seen(&keys, &members));
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn a_slow_store() {
    for (millis, level) in [(3, Level::Ok), (999, Level::Ok), (1000, Level::Warning), (3400, Level::Error)] {
        let mut seen = seen(&[], &[("a", LEADER), ("b", STANDBY)]);
        seen.reads.push(Duration::from_millis(millis));
        assert_eq!(worst(&checks::all(&seen)), level, "{millis}");
    }
}

#[test]
fn who_could_lead() {
    let lag =
        |bytes: i64| standby(|s| s.set("xlog", Value::from_iter([("received_location", 1000 - bytes)])));
    let small = ("config", r#"{"maximum_lag_on_failover":100}"#);
    for (keys, standby, behind, why_not) in [
        (vec![], STANDBY.to_owned(), Some(10), None),
        (vec![small], lag(100), Some(100), None),
        (vec![small], lag(101), Some(101), Some("lacks 101 bytes")),
        (vec![], "refused".into(), None, Some("its REST API does not answer: refused")),
        (vec![], standby(|s| s.set("state", "stopped")), Some(10), Some("PostgreSQL is stopped")),
        (
            vec![("members/b", r#"{"tags":{"nofailover":true}}"#)],
            STANDBY.into(),
            Some(10),
            Some("tagged nofailover"),
        ),
        (vec![], standby(|s| s.set("watchdog_failed", true)), Some(10), Some("requires a watchdog")),
        (
            vec![("config", r#"{"synchronous_mode":true}"#)],
            STANDBY.into(),
            Some(10),
            Some("no synchronous standby"),
        ),
        (
            vec![
                ("config", r#"{"synchronous_mode":true}"#),
                ("sync", r#"{"leader":"a","sync_standby":"b"}"#),
            ],
            STANDBY.into(),
            Some(10),
            None,
        ),
        (vec![], standby(|s| s.set("timeline", 2)), Some(10), Some("on timeline 2, and the leader on 3")),
        (vec![], standby(|s| s.set("xlog", Value::map())), None, Some("does not say")),
    ] {
        let seen = seen(&keys, &[("a", LEADER), ("b", &standby)]);
        let found = candidates::of(&seen);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].behind, behind, "{why_not:?}");
        match why_not {
            None => assert_eq!(found[0].why_not, None),
            Some(text) => {
                let said = found[0].why_not.clone().unwrap_or_default();
                assert!(said.starts_with(text), "{said}");
            }
        }
        assert_eq!(candidates::verdict(&seen, &found, None).is_ok(), why_not.is_none());
        assert_eq!(candidates::verdict(&seen, &found, Some("b")).is_ok(), why_not.is_none());
        assert!(candidates::verdict(&seen, &found, Some("a")).is_err(), "the leader takes over from nobody");
    }
    let nobody = seen(&[("leader", "")], &[("a", LEADER), ("b", STANDBY)]);
    assert!(candidates::verdict(&nobody, &candidates::of(&nobody), None).is_err());
}

#[test]
fn the_gravest_comes_first_and_is_the_exit_code() {
    let seen = seen(&[("config", r#"{"pause":true}"#)], &[("a", LEADER), ("b", "refused")]);
    let rows = report(&checks::all(&seen)).rows;
    assert_eq!(rows[0][0].as_str(), Some("error"));
    assert_eq!(rows[rows.len() - 1][0].as_str(), Some("ok"));
    assert_eq!(ends_with(Level::Ok), Ok(()));
    assert_eq!(ends_with(Level::Warning), Err(CliError::Exit(1)));
    assert_eq!(ends_with(worst(&checks::all(&seen))), Err(CliError::Exit(2)));
}

#[test]
fn who_answers() {
    let ours =
        "# TYPE x\npatroni_build_info{implementation=\"patroni-rs\",version=\"0.1.0\",patroni=\"4.1.5\"} 1\n";
    assert_eq!(implementation(ours), "patroni-rs 0.1.0");
    assert_eq!(implementation("patroni_version 40105\n"), "Patroni in Python");
}

/// A server with which nothing is wrong.
fn server(name: &str, change: impl FnOnce(&mut Server)) -> Server {
    let settings =
        [("data_checksums", "on"), ("archive_mode", "on")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    let slot = Slot { name: "b".into(), active: true, wal_status: "reserved".into(), kept: 1 << 40 };
    let state = State { settings: settings.into(), slots: vec![slot], ..State::default() };
    let mut server =
        Server { name: name.into(), state: Ok(state), replication: Some(Ok(())), rewind: Some(Ok(true)) };
    change(&mut server);
    server
}

#[test]
fn what_is_wrong_with_servers_is_said() {
    type Change = fn(&mut State);
    let of = |server: Server| {
        let seen = Seen { servers: Some(vec![server]), ..seen(&[], &[("a", LEADER), ("b", STANDBY)]) };
        wrong(&seen)
    };
    assert_eq!(of(server("a", |_| {})), Vec::<String>::new());
    let cases: [(Change, &str); 8] = [
        (
            |s| s.slots[0] = Slot { name: "x".into(), wal_status: "lost".into(), ..Slot::default() },
            "error slots a: slot x has lost WAL",
        ),
        (|s| s.slots[0].active = false, "warning slots a: nobody reads slot b, and it keeps 1024 GB"),
        (
            |s| s.not_archived = Some("0000F".into()),
            "error archive a: archive_command failed last, for 0000F",
        ),
        (
            |s| s.bad_lines.push("pg_hba.conf:3: invalid".into()),
            "warning configuration files a: pg_hba.conf:3",
        ),
        (|s| s.settings.clear(), "error pg_rewind a: has neither data checksums nor wal_log_hints"),
        (
            |s| s.unasked.push("its slots: denied".into()),
            "warning connections a: could not ask for its slots",
        ),
        // What keeps little, or has hints instead of checksums, is fine.
        (|s| (s.slots[0].active, s.slots[0].kept) = (false, 1 << 20), ""),
        (|s| s.settings = vec![("wal_log_hints".into(), "on".into())], ""),
    ];
    for (change, expected) in cases {
        let found = of(server("a", |server| {
            if let Ok(state) = &mut server.state {
                change(state);
            }
        }));
        match expected {
            "" => assert_eq!(found, Vec::<String>::new()),
            text => assert!(found.len() == 1 && found[0].starts_with(text), "{text}: {found:?}"),
        }
    }
    let found = of(server("a", |server| server.replication = Some(Err("no entry".into()))));
    assert!(found[0]
        .starts_with("warning connections a: the replication user cannot connect from here: no entry"));
    let found = of(server("a", |server| server.state = Err("refused".into())));
    assert!(found[0].starts_with("warning connections a: the superuser cannot connect from here: refused"));
    let found = of(server("a", |server| server.rewind = Some(Ok(false))));
    assert!(found[0].starts_with("error pg_rewind a: the user for pg_rewind may not read"));
}

#[test]
fn little_room_is_said() {
    const GB: u64 = 1 << 30;
    for (free, size, has_files, expected) in [
        (50 * GB, 100 * GB, true, ""),
        (9 * GB, 100 * GB, true, "warning"),
        (GB / 2, 100 * GB, true, "error"),
        // A small disk is not full because it is small.
        (GB / 2, GB, true, ""),
        (GB / 30, GB, true, "error"),
        (50 * GB, 100 * GB, false, "error"),
    ] {
        let room = Room { what: "data", path: "/d".into(), free, size, has_files };
        let seen = Seen { rooms: vec![room], ..seen(&[], &[("a", LEADER), ("b", STANDBY)]) };
        let found = wrong(&seen);
        match expected {
            "" => assert_eq!(found, Vec::<String>::new()),
            level => assert!(found.len() == 1 && found[0].starts_with(level), "{free} of {size}: {found:?}"),
        }
    }
}
