//! `GET /metrics` (surface-api-ctl 6).

use std::fmt::Write as _;
use std::time::Instant;

use patroni_core::build_info;
use patroni_core::ha::{PgState, Role, VERSION};
use patroni_core::PgVersion;
use pyfmt::datetime::DateTime;
use pyfmt::value::float_repr;

use crate::measured::Histogram;
use crate::snapshot::{Snapshot, WalStatus};

/// States with their names in the comment of `patroni_postgres_state`, in the
/// order of their numbers.
const STATES: [(PgState, &str); 15] = [
    (PgState::InitDb, "initdb"),
    (PgState::InitDbFailed, "initdb_failed"),
    (PgState::CustomBootstrap, "custom_bootstrap"),
    (PgState::CustomBootstrapFailed, "custom_bootstrap_failed"),
    (PgState::CreatingReplica, "creating_replica"),
    (PgState::Running, "running"),
    (PgState::Starting, "starting"),
    (PgState::BootstrapStarting, "bootstrap_starting"),
    (PgState::StartFailed, "start_failed"),
    (PgState::Restarting, "restarting"),
    (PgState::RestartFailed, "restart_failed"),
    (PgState::Stopping, "stopping"),
    (PgState::Stopped, "stopped"),
    (PgState::StopFailed, "stop_failed"),
    (PgState::Crashed, "crashed"),
];

struct Page {
    labels: String,
    text: String,
}

impl Page {
    fn metric(&mut self, kind: &str, name: &str, help: &str, value: impl std::fmt::Display) {
        self.commented(kind, name, help, "", value);
    }

    fn commented(&mut self, kind: &str, name: &str, help: &str, note: &str, value: impl std::fmt::Display) {
        let labels = &self.labels;
        // Writing to a String cannot fail.
        let _ = write!(
            self.text,
            "# HELP patroni_{name} {help}\n{note}# TYPE patroni_{name} {kind}\npatroni_{name}{labels} {value}\n"
        );
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.metric("gauge", name, help, value);
    }

    fn histogram(&mut self, name: &str, help: &str, found: &Histogram) {
        let labels = self.labels.clone();
        let inner = labels.trim_end_matches('}');
        let _ = writeln!(self.text, "# HELP patroni_{name} {help}\n# TYPE patroni_{name} histogram");
        for (bound, count) in found.cumulated() {
            let _ = writeln!(self.text, "patroni_{name}_bucket{inner},le=\"{bound}\"}} {count}");
        }
        let (count, sum) = (found.count(), found.sum().as_secs_f64());
        let _ = writeln!(self.text, "patroni_{name}_bucket{inner},le=\"+Inf\"}} {count}");
        let _ = writeln!(self.text, "patroni_{name}_sum{labels} {sum}\npatroni_{name}_count{labels} {count}");
    }

    fn flag(&mut self, name: &str, help: &str, value: bool) {
        self.gauge(name, help, u8::from(value));
    }
}

/// The page.
pub fn text(s: &Snapshot, now: Instant) -> String {
    let labels = format!("{{scope=\"{}\",name=\"{}\"}}", s.scope, s.name);
    let mut page = Page { labels, text: String::with_capacity(8192) };
    put_roles(&mut page, s, now);
    put_wal(&mut page, s);
    put_node(&mut page, s, now);
    put_build_info(&mut page, s);
    put_measured(&mut page, s, now);
    put_takeover(&mut page, s);
    put_held_back(&mut page, s);
    page.text
}

fn put_roles(page: &mut Page, s: &Snapshot, now: Instant) {
    let shown = s.shown(now);
    let queried = s.postgres.queried.as_ref();
    let version: String = VERSION.split('.').map(|part| format!("{part:0>2}")).collect();
    let location = match queried.map(|q| &q.wal) {
        Some(WalStatus::Primary { location, .. }) => *location,
        _ => 0,
    };
    page.gauge("version", "Patroni semver without periods.", version);
    page.flag("postgres_running", "Value is 1 if Postgres is running, 0 otherwise.", s.is_running());
    page.gauge(
        "postmaster_start_time",
        "Epoch seconds since Postgres started.",
        seconds(queried.map(|q| &q.postmaster_start_time)),
    );
    page.flag("primary", "Value is 1 if this node is the leader, 0 otherwise.", shown.role == Role::Primary);
    let help = "Current location of the Postgres transaction log, 0 if this node is not the leader.";
    page.metric("counter", "xlog_location", help, location);
    let help = "Value is 1 if this node is the standby_leader, 0 otherwise.";
    page.flag("standby_leader", help, shown.role == Role::StandbyLeader);
    page.flag("replica", "Value is 1 if this node is a replica, 0 otherwise.", shown.role == Role::Replica);
    page.flag("sync_standby", "Value is 1 if this node is a sync standby, 0 otherwise.", shown.sync);
    page.flag("quorum_standby", "Value is 1 if this node is a quorum standby, 0 otherwise.", shown.quorum);
}

fn put_wal(page: &mut Page, s: &Snapshot) {
    let (timestamp, paused) = match s.postgres.queried.as_ref().map(|q| &q.wal) {
        Some(WalStatus::Replica { replayed_timestamp, paused, .. }) => (replayed_timestamp.as_ref(), *paused),
        _ => (None, false),
    };
    for (name, what, value) in [
        ("xlog_received_location", "received", s.postgres.received()),
        ("xlog_replayed_location", "replayed", s.postgres.replayed()),
    ] {
        let help = format!(
            "Current location of the {what} Postgres transaction log, 0 if this node is not a replica."
        );
        page.metric("counter", name, &help, value);
    }
    let help = "Current timestamp of the replayed Postgres transaction log, 0 if null.";
    page.gauge("xlog_replayed_timestamp", help, seconds(timestamp));
    page.flag("xlog_paused", "Value is 1 if the Postgres xlog is paused, 0 otherwise.", paused);
    // M4: only with an answer from a server that knows of WAL receivers.
    if s.postgres.queried.as_ref().is_some_and(|q| q.server_version.at_least(PgVersion::V9_6)) {
        let state = s.postgres.replication_state();
        let help = "Value is 1 if Postgres is streaming, 0 otherwise.";
        page.flag("postgres_streaming", help, state == Some("streaming"));
        let help = "Value is 1 if Postgres is replicating from archive, 0 otherwise.";
        page.flag("postgres_in_archive_recovery", help, state == Some("in archive recovery"));
    }
}

fn put_node(page: &mut Page, s: &Snapshot, now: Instant) {
    let queried = s.postgres.queried.as_ref();
    let timeline = match queried.map(|q| &q.wal) {
        Some(WalStatus::Primary { timeline, .. }) => *timeline,
        Some(WalStatus::Replica { timeline, .. }) => timeline.unwrap_or(0),
        None => 0,
    };
    let help = "Version of Postgres (if running), 0 otherwise.";
    page.gauge("postgres_server_version", help, queried.map_or(0, |q| i64::from(q.server_version.num())));
    let help = "Value is 1 if the cluster is unlocked, 0 if locked.";
    page.flag("cluster_unlocked", help, s.is_unlocked(now));
    let help = "Value is 1 if failsafe mode is active, 0 if inactive.";
    page.flag("failsafe_mode_is_active", help, s.failsafe_active);
    page.gauge("postgres_timeline", "Postgres timeline of this node (if running), 0 otherwise.", timeline);
    let help = "Epoch timestamp when DCS was last contacted successfully by Patroni.";
    page.gauge("dcs_last_seen", help, s.dcs_last_seen);
    let help = "Value is 1 if the node needs a restart, 0 otherwise.";
    page.flag("pending_restart", help, s.pending_restart_reason.truthy());
    page.flag("is_paused", "Value is 1 if auto failover is disabled, 0 otherwise.", s.config.is_paused());
    let names: Vec<String> = STATES.iter().enumerate().map(|(i, (_, name))| format!("{i}={name}")).collect();
    let number = STATES.iter().position(|(state, _)| *state == s.postgres.state);
    let known = s.state_text() != "unknown";
    let value = number.filter(|_| known).map_or(-1, |n| n as i64);
    let note = format!("# Values: {}\n", names.join(", "));
    page.commented("gauge", "postgres_state", "Numeric representation of Postgres state.", &note, value);
}

/// Ours alone, and always there: who answers.
fn put_build_info(page: &mut Page, s: &Snapshot) {
    let labels = format!(
        "{{scope=\"{}\",name=\"{}\",implementation=\"{}\",version=\"{}\",patroni=\"{VERSION}\",commit=\"{}\"}}",
        s.scope,
        s.name,
        build_info::IMPLEMENTATION,
        build_info::OWN_VERSION,
        label(build_info::COMMIT)
    );
    let shared = std::mem::replace(&mut page.labels, labels);
    page.gauge("build_info", "The implementation that answers, its version and that of Patroni.", 1);
    page.labels = shared;
}

/// Ours alone, and always there: what nobody else measures.
fn put_measured(page: &mut Page, s: &Snapshot, now: Instant) {
    let measured = &s.measured;
    page.histogram("ha_loop_duration_seconds", "How long cycles of the HA loop take.", &measured.cycles);
    let help = "How long requests of the HA loop to the DCS take, with their repetitions.";
    page.histogram("dcs_request_duration_seconds", help, &measured.dcs_requests);
    let left = s.lease_until.map_or(0.0, |until| until.saturating_duration_since(now).as_secs_f64());
    page.gauge(
        "leader_lease_seconds",
        "How long the leader lock is still promised to this node, 0 if it is not.",
        left,
    );
    let help = "Value is 1 if the guardian would stop Postgres should the lock not be renewed, 0 otherwise.";
    page.flag("guardian_armed", help, measured.guardian_armed);
    let members = s.failsafe.as_ref().and_then(pyfmt::Value::as_map).map_or(0, |members| members.len());
    page.gauge(
        "failsafe_members",
        "How many members have to consent in failsafe mode, 0 if it is off.",
        members,
    );
}

/// Ours alone, and only after there was one: the page is the reference's otherwise.
fn put_takeover(page: &mut Page, s: &Snapshot) {
    let Some(last) = s.measured.takeover.last() else { return };
    let help = "How long the phases of the last failover took that this node has come out of as the primary.";
    let _ = writeln!(
        page.text,
        "# HELP patroni_last_failover_seconds {help}\n# TYPE patroni_last_failover_seconds gauge"
    );
    let inner = page.labels.trim_end_matches('}').to_owned();
    for (phase, took) in
        [("race", last.race), ("preparation", last.preparation), ("promotion", last.promotion)]
    {
        let took = took.as_secs_f64();
        let _ = writeln!(page.text, "patroni_last_failover_seconds{inner},phase=\"{phase}\"}} {took}");
    }
}

/// Ours alone, and only while there is something to say: otherwise the page is the reference's.
fn put_held_back(page: &mut Page, s: &Snapshot) {
    let Some(held_back) = &s.held_back else { return };
    let waits_for = label(held_back.waits_for.as_deref().unwrap_or_default());
    page.labels = format!(
        "{{scope=\"{}\",name=\"{}\",reason=\"{}\",waits_for=\"{waits_for}\"}}",
        s.scope,
        s.name,
        held_back.reason.as_str()
    );
    let help = "Value is 1 while this node is not promoted although nobody leads, with the reason and the \
                nodes it waits for.";
    page.gauge("not_promoted", help, 1);
}

/// A label's value: member names can hold anything.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Seconds of the epoch as Python prints a float; `0` if there is no time.
fn seconds(time: Option<&DateTime>) -> String {
    time.map_or_else(|| "0".to_owned(), |t| float_repr(t.unix_microseconds() as f64 / 1e6))
}
