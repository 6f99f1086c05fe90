//! Recorded documents of the reference: read back into a snapshot, they must come
//! out with the same bytes.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{member, value};
use patroni_api::http::url::Target;
use patroni_api::route::{route, Route};
use patroni_api::{health, metrics, status, PostgresState, Queried, Snapshot, WalStatus};
use patroni_core::cluster_json;
use patroni_core::global_config::GlobalConfig;
use patroni_core::ha::{ask, Ask, Job, JobResult, Mono, PgState, Role};
use patroni_core::model::{Cluster, Leader, Member, Status, SyncState};
use patroni_core::node::takeover::Takeover;
use patroni_core::tags::Tags;
use patroni_core::PgVersion;
use pyfmt::datetime::{self, DateTime, Locale};
use pyfmt::{json, Value};

fn samples() -> Vec<(String, String)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/rest/samples");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let name = |p: &std::path::Path| p.file_name().unwrap().to_string_lossy().into_owned();
    files.iter().map(|p| (name(p), std::fs::read_to_string(p).unwrap())).collect()
}

/// The document at the start of a line, without what the recorder put behind it.
fn document_of(line: &str, start: &str) -> Option<String> {
    let line = line.split("<EOF").next()?.split("<rc=").next()?;
    (line.starts_with(start) && line.ends_with('}') && json::loads(line).is_ok()).then(|| line.to_owned())
}

fn time(value: Option<&Value>) -> Option<DateTime> {
    let locale = Locale { today: (1970, 1, 1), zone_names: ["UTC", "UTC"], offset_at: &|_| 0 };
    value.and_then(Value::as_str).map(|t| datetime::parse(t, &locale).unwrap())
}

fn snapshot_of(text: &str) -> Snapshot {
    let doc = value(text);
    let mut s = common::primary();
    let str_at = |path: &[&str]| doc.at(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let has = |key: &str| doc.get(key).is_some_and(Value::truthy);
    (s.name, s.scope) = (str_at(&["patroni", "name"]), str_at(&["patroni", "scope"]));
    s.sysid = str_at(&["database_system_identifier"]);
    s.effective_tags = doc.get("tags").cloned().unwrap_or_default();
    s.tags = Tags::from_value(&s.effective_tags);
    s.pending_restart_reason = doc.get("pending_restart_reason").cloned().unwrap_or_default();
    s.scheduled_restart = doc.get("scheduled_restart").cloned().unwrap_or_default();
    s.failsafe_active = has("failsafe_mode_is_active");
    s.watchdog_failed = has("watchdog_failed");
    s.dcs_last_seen = doc.get("dcs_last_seen").and_then(Value::as_i64).unwrap();
    let role = *Role::ALL.iter().find(|r| r.as_str() == str_at(&["role"])).unwrap();
    let state = str_at(&["state"]);
    let state = PgState::ALL.iter().find(|s| s.as_str() == state).copied().unwrap_or(PgState::Running);
    let mut config = Value::map();
    if has("pause") {
        config.set("pause", true);
    }
    if role == Role::StandbyLeader {
        config.set("standby_cluster", value(r#"{"host": "x"}"#));
    }
    match (has("sync_standby"), has("quorum_standby")) {
        (true, _) => config.set("synchronous_mode", true),
        (_, true) => config.set("synchronous_mode", "quorum"),
        _ => {}
    }
    let leader = if has("cluster_unlocked") { None } else { Some("leader") };
    let mut view = common::cluster(&config, leader, vec![]);
    let sync = Value::from_iter([("leader", "leader"), ("sync_standby", &s.name)]);
    view.sync = SyncState::from_node(Some("1"), &json::dumps_compact(&sync));
    s.cluster = Some(Arc::new(view));
    s.config = GlobalConfig::new(config);
    let held = role == Role::Primary && leader.is_some();
    s.lease_until = held.then(|| Instant::now() + Duration::from_secs(60));
    s.postgres = PostgresState { state, role, postmaster_alive: true, queried: queried(&doc) };
    s
}

fn queried(doc: &Value) -> Option<Queried> {
    let xlog = doc.get("xlog")?;
    let int = |key: &str| xlog.get(key).and_then(Value::as_i64);
    let timeline = doc.get("timeline").and_then(Value::as_i64);
    let wal = match int("location") {
        Some(location) => WalStatus::Primary { timeline: timeline.unwrap(), location },
        None => WalStatus::Replica {
            timeline,
            received: int("received_location"),
            replayed: int("replayed_location"),
            replayed_timestamp: time(xlog.get("replayed_timestamp")),
            paused: xlog.get("paused").is_some_and(Value::truthy),
            latest_end_lsn: 0,
            replication_state: doc.get("replication_state").map(Value::py_str),
        },
    };
    Some(Queried {
        postmaster_start_time: time(doc.get("postmaster_start_time"))?,
        server_version: doc
            .get("server_version")
            .and_then(Value::as_i64)
            .and_then(|n| u32::try_from(n).ok())
            .map(PgVersion::from_num)?,
        wal,
        replication: doc.get("replication").cloned().unwrap_or_default(),
    })
}

#[test]
fn a_running_copy_is_shown_and_nothing_else_is_added() {
    let mut s = common::replica();
    let without = status::document(&s, Instant::now());
    s.copy_progress = [("bytes_done", 1), ("bytes_total", 2), ("bytes_per_second", 3)].into_iter().collect();
    let mut with = status::document(&s, Instant::now());
    let shown = with.remove("copy_progress").unwrap();
    assert_eq!(json::dumps(&shown), r#"{"bytes_done": 1, "bytes_total": 2, "bytes_per_second": 3}"#);
    assert_eq!(with, without);
}

#[test]
fn status_documents() {
    let mut count = 0;
    for (file, text) in samples() {
        for line in text.lines().filter_map(|line| document_of(line, "{\"state\": ")) {
            let again = json::dumps(&status::document(&snapshot_of(&line), Instant::now()));
            assert_eq!(again, line, "{file}");
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

/// `=== GET [:port]/path`, the status line, headers, a blank line, the document.
#[test]
fn health_checks() {
    let mut count = 0;
    for (file, text) in samples() {
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let Some(path) =
                line.strip_prefix("=== GET ").and_then(|rest| rest.find('/').map(|at| &rest[at..]))
            else {
                continue;
            };
            let target = Target::parse(path.trim()).unwrap();
            let block: Vec<&str> = lines.clone().take(12).take_while(|l| !l.starts_with("===")).collect();
            let code = block
                .first()
                .and_then(|l| l.strip_prefix("HTTP/1.0 "))
                .and_then(|l| l.get(..3)?.parse::<u16>().ok());
            let doc = block.iter().find_map(|l| document_of(l, "{\"state\": "));
            let (Some(code), Some(doc)) = (code, doc) else { continue };
            if route("GET", &target.path) != Some(Route::Health) {
                continue;
            }
            let snapshot = snapshot_of(&doc);
            // What the document does not tell: tags of the configuration are these, and the
            // leader's position is not in it.
            if target.first("lag").is_some() && snapshot.lease_until.is_none() {
                continue;
            }
            assert_eq!(health::code(&target, &snapshot, Instant::now()), code, "{file} {path}");
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

#[test]
fn metrics_pages() {
    let mut count = 0;
    for (file, text) in samples() {
        let Some(at) = text.find("\n# HELP patroni_version") else { continue };
        let page = text[at + 1..].split("\n\n").next().unwrap();
        let page = &page[..page.find("<EOF").unwrap_or(page.len())];
        if !page.contains("patroni_postgres_state{") {
            continue;
        }
        let before = text[..at].lines().rev().find_map(|line| document_of(line, "{\"state\": "));
        let Some(doc) = before else { continue };
        let mut snapshot = snapshot_of(&doc);
        // Time has passed between the two documents.
        let seen = page.lines().find(|l| l.starts_with("patroni_dcs_last_seen{")).unwrap();
        snapshot.dcs_last_seen = seen.rsplit(' ').next().unwrap().parse().unwrap();
        let whole = metrics::text(&snapshot, Instant::now());
        let (ours, more) = whole.split_once("# HELP patroni_build_info ").unwrap();
        // Below stands nothing that the reference has as well.
        let names = more.lines().skip(1).filter(|line| !line.starts_with('#'));
        let names: Vec<&str> = names.filter_map(|line| line.split('{').next()).collect();
        assert!(names.len() > 5 && names.iter().all(|name| !page.contains(name)), "{names:?}");
        for (a, b) in ours.lines().zip(page.lines()) {
            assert_eq!(a, b, "{file}");
        }
        assert_eq!(ours.lines().count(), page.lines().count(), "{file}");
        count += 1;
    }
    assert!(count > 2, "{count}");
}

fn lsn(text: &str) -> Option<i64> {
    let (high, low) = text.split_once('/')?;
    Some((i64::from_str_radix(high, 16).ok()? << 32) + i64::from_str_radix(low, 16).ok()?)
}

/// The member key that such an entry comes from.
fn member_of(entry: &Value) -> Member {
    let mut data = Value::map();
    for key in [
        "state",
        "api_url",
        "timeline",
        "pending_restart",
        "pending_restart_reason",
        "scheduled_restart",
        "tags",
    ] {
        if let Some(value) = entry.get(key) {
            data.set(key, value.clone());
        }
    }
    if let (Some(host), Some(port)) = (entry.get("host"), entry.get("port")) {
        data.set("conn_url", format!("postgres://{host}:{port}/postgres"));
    }
    for (key, field) in
        [("lsn", "xlog_location"), ("receive_lsn", "receive_lsn"), ("replay_lsn", "replay_lsn")]
    {
        if let Some(position) = entry.get(key).and_then(Value::as_str).and_then(lsn) {
            data.set(field, position);
        }
    }
    member(entry.get("name").unwrap().as_str().unwrap(), &json::dumps(&data))
}

fn cluster_of(doc: &Value) -> (Cluster, GlobalConfig) {
    let entries = doc.get("members").and_then(Value::as_list).unwrap();
    let names = |roles: &[&str]| -> Vec<String> {
        let with = |e: &&Value| roles.contains(&e.get("role").unwrap().as_str().unwrap());
        entries.iter().filter(with).map(|e| e.get("name").unwrap().py_str()).collect()
    };
    let mut config = Value::map();
    if doc.get("pause").is_some() {
        config.set("pause", true);
    }
    if !names(&["standby_leader"]).is_empty() {
        config.set("standby_cluster", value(r#"{"host": "x"}"#));
    }
    if !names(&["sync_standby"]).is_empty() {
        config.set("synchronous_mode", true);
    }
    if !names(&["quorum_standby"]).is_empty() {
        config.set("synchronous_mode", "quorum");
    }
    let leader = names(&["leader", "standby_leader"]).first().cloned();
    let listed = names(&["sync_standby", "quorum_standby"]).join(",").to_uppercase();
    let sync = Value::from_iter([("leader", "x".to_owned()), ("sync_standby", listed)]);
    let position =
        entries.iter().filter_map(|e| Some(lsn(e.get("lsn")?.as_str()?)? + e.get("lag")?.as_i64()?)).max();
    let cluster = Cluster {
        leader: leader.map(|name| Leader { member: member(&name, "{}"), ..Leader::default() }),
        status: Status {
            last_lsn: patroni_core::model::Lsn::new(position.unwrap_or(0) as u64),
            ..Status::default()
        },
        // The keys come in any order.
        members: entries.iter().rev().map(member_of).collect(),
        sync: SyncState::from_node(Some("1"), &json::dumps_compact(&sync)),
        ..Cluster::default()
    };
    (cluster, GlobalConfig::new(config))
}

#[test]
fn cluster_documents() {
    let mut count = 0;
    for (file, text) in samples() {
        for line in text.lines().filter_map(|line| document_of(line, "{\"members\": ")) {
            let doc = value(&line);
            let (cluster, config) = cluster_of(&doc);
            let mut again = cluster_json::document(&cluster, &config);
            for key in ["scheduled_switchover", "scope"] {
                if let Some(value) = doc.get(key) {
                    again.set(key, value.clone());
                }
            }
            assert_eq!(json::dumps(&again), line, "{file}");
            count += 1;
        }
    }
    assert!(count > 5, "{count}");
}

/// Who answers is at the end of every page.
#[test]
fn the_page_says_who_answers() {
    let page = metrics::text(&common::replica(), Instant::now());
    let line = page.lines().find(|line| line.starts_with("patroni_build_info")).unwrap();
    let start = r#"patroni_build_info{scope="demo",name="pg2",implementation="patroni-rs",version="0."#;
    assert!(line.starts_with(start), "{line}");
    assert!(line.contains(r#"",patroni="4.1.5",commit=""#) && line.ends_with(r#""} 1"#), "{line}");
}

/// The page grows by one metric at its end, and only while something holds the node back; whatever a member
/// is called, its name stays within the quotes.
#[test]
fn what_holds_a_node_back_is_one_metric_more() {
    use patroni_core::ha::{HeldBack, Reason};
    let mut snapshot = common::replica();
    let now = Instant::now();
    let before = metrics::text(&snapshot, now);
    snapshot.held_back = Some(HeldBack {
        reason: Reason::PeerAhead,
        waits_for: Some("o\\dd \"name\"\n".into()),
        facts: Vec::new(),
    });
    let page = metrics::text(&snapshot, now);
    let more = page.strip_prefix(&before).unwrap();
    let lines: Vec<&str> = more.lines().collect();
    assert!(lines[0].starts_with("# HELP patroni_not_promoted Value is 1 while"), "{more}");
    assert_eq!(lines[1], "# TYPE patroni_not_promoted gauge");
    assert_eq!(
        lines[2],
        r#"patroni_not_promoted{scope="demo",name="pg2",reason="peer_ahead",waits_for="o\\dd \"name\"\n"} 1"#
    );
    assert_eq!(lines.len(), 3);
}

/// A failover: a second until the lock was taken, two until PostgreSQL was to be promoted, three for that.
fn takeover() -> Takeover {
    let mut takeover = Takeover::default();
    let (load, acquire, promote) = (ask::LoadCluster, ask::AcquireLeader, ask::StartJob(Job::Promote));
    for (at, request, answer) in [
        (1, load.clone().into(), load.reply(Ok(Arc::default()))),
        (2, acquire.clone().into(), acquire.reply(Ok(true))),
        (4, promote.clone().into(), promote.reply(Ok(()))),
    ] {
        takeover.answered(&request, &answer, "pg1", Mono::seconds(at));
    }
    takeover.ended(&[(Job::Promote, JobResult::Done)], Mono::seconds(7));
    takeover
}

/// Ours alone: histograms with their buckets in order, how long the lock is promised, who has to consent.
#[test]
fn what_nobody_else_measures() {
    let mut snapshot = common::primary();
    let now = Instant::now();
    snapshot.lease_until = Some(now + Duration::from_millis(12_500));
    snapshot.failsafe = Some(json::loads(r#"{"pg1": "http://a", "pg2": "http://b"}"#).unwrap());
    snapshot.measured.guardian_armed = true;
    for millis in [20, 700, 40_000] {
        snapshot.measured.cycles.observe(Duration::from_millis(millis));
    }
    assert!(!metrics::text(&snapshot, now).contains("last_failover"));
    snapshot.measured.takeover = takeover();
    let page = metrics::text(&snapshot, now);
    let labels = r#"scope="demo",name="pg1""#;
    for line in [
        format!("patroni_ha_loop_duration_seconds_bucket{{{labels},le=\"0.01\"}} 0"),
        format!("patroni_ha_loop_duration_seconds_bucket{{{labels},le=\"0.025\"}} 1"),
        format!("patroni_ha_loop_duration_seconds_bucket{{{labels},le=\"1\"}} 2"),
        format!("patroni_ha_loop_duration_seconds_bucket{{{labels},le=\"+Inf\"}} 3"),
        format!("patroni_ha_loop_duration_seconds_sum{{{labels}}} 40.72"),
        format!("patroni_ha_loop_duration_seconds_count{{{labels}}} 3"),
        format!("patroni_dcs_request_duration_seconds_count{{{labels}}} 0"),
        format!("patroni_leader_lease_seconds{{{labels}}} 12.5"),
        format!("patroni_guardian_armed{{{labels}}} 1"),
        format!("patroni_failsafe_members{{{labels}}} 2"),
        format!("patroni_last_failover_seconds{{{labels},phase=\"race\"}} 1"),
        format!("patroni_last_failover_seconds{{{labels},phase=\"preparation\"}} 2"),
        format!("patroni_last_failover_seconds{{{labels},phase=\"promotion\"}} 3"),
    ] {
        assert!(page.lines().any(|found| found == line), "{line}\n{page}");
    }
}
