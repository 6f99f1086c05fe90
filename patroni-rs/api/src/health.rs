//! Health checks: which paths answer 200 (surface-api-ctl 4).

use std::time::{Duration, Instant};

use patroni_core::ha::Role;
use patroni_core::parse::parse_int;
use pyfmt::Value;

use crate::http::url::Target;
use crate::snapshot::Snapshot;

/// The three answers that all paths are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Verdicts {
    leader: bool,
    primary: bool,
    standby_leader: bool,
    replica: bool,
}

/// Kinds of path, in the order in which they are tried (R4, R5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    StandbyLeader,
    Leader,
    Primary,
    Replica,
    ReadOnly,
    Health,
    Sync,
    Quorum,
    Async,
    ReadOnlyQuorum,
    ReadOnlySync,
    Unknown,
}

/// Status code of a health check: 200 or 503.
pub fn code(target: &Target, s: &Snapshot, now: Instant) -> u16 {
    let kind = kind(&target.path);
    let yes = verdict(kind, s, verdicts(target, s, now), now);
    let tagless = matches!(kind, Kind::StandbyLeader | Kind::Leader | Kind::Primary);
    if yes && (tagless || tags_match(target, s.tags.as_value())) {
        200
    } else {
        503
    }
}

fn kind(path: &str) -> Kind {
    let path = if path == "/" { "/primary" } else { path };
    let has = |word: &str| path.contains(word);
    match path {
        _ if has("standby_leader") || has("standby-leader") => Kind::StandbyLeader,
        _ if has("leader") => Kind::Leader,
        _ if has("master") || has("primary") || has("read-write") => Kind::Primary,
        _ if has("replica") => Kind::Replica,
        _ if has("read-only") && !has("sync") && !has("quorum") => Kind::ReadOnly,
        _ if has("health") => Kind::Health,
        "/sync" | "/synchronous" => Kind::Sync,
        "/quorum" => Kind::Quorum,
        "/async" | "/asynchronous" => Kind::Async,
        "/read-only-quorum" => Kind::ReadOnlyQuorum,
        "/read-only-sync" | "/read-only-synchronous" => Kind::ReadOnlySync,
        _ => Kind::Unknown,
    }
}

/// What this node answers for each of the four roles: by the lease, the role and the lag (D2 to D8).
fn verdicts(target: &Target, s: &Snapshot, now: Instant) -> Verdicts {
    let role = s.shown(now).role;
    let replica =
        role == Role::Replica && s.is_running() && !s.tags.noloadbalance() && !is_lagging(target, s, now);
    let none = Verdicts { leader: false, primary: false, standby_leader: false, replica };
    if s.view(now).is_none() && s.config.is_paused() {
        let (primary, standby_leader) = (role == Role::Primary, role == Role::StandbyLeader);
        return Verdicts { leader: primary || standby_leader, primary, standby_leader, ..none };
    }
    match (s.is_leader(now), s.config.is_standby_cluster()) {
        (false, _) => none,
        (true, false) => Verdicts { leader: true, primary: true, ..none },
        (true, true) => Verdicts {
            leader: true,
            primary: false,
            standby_leader: matches!(role, Role::Replica | Role::StandbyLeader),
            replica: false,
        },
    }
}

/// D3. What cannot be parsed is no limit (D4).
fn is_lagging(target: &Target, s: &Snapshot, now: Instant) -> bool {
    let leader = s.leader_lsn(now);
    let limit =
        target.first("lag").and_then(|text| parse_int(&Value::from(text), Some("B"))).unwrap_or(i64::MAX);
    leader != 0 && leader > s.postgres.replayed().saturating_add(limit)
}

/// Does a path of this kind answer 200? Exact paths need a live view of the cluster (D9, D10).
fn verdict(kind: Kind, s: &Snapshot, v: Verdicts, now: Instant) -> bool {
    let writable = v.primary || v.standby_leader;
    let shown = s.shown(now);
    let by_view = match kind {
        Kind::StandbyLeader => return v.standby_leader,
        Kind::Leader => return v.leader,
        Kind::Primary => return v.primary,
        Kind::Replica => return v.replica,
        Kind::ReadOnly => return writable || v.replica,
        Kind::Health => return s.is_running(),
        Kind::Sync => shown.sync && v.replica,
        Kind::Quorum => shown.quorum && v.replica,
        Kind::Async => !shown.sync && !shown.quorum && v.replica,
        Kind::ReadOnlyQuorum => writable || shown.quorum && v.replica,
        Kind::ReadOnlySync => writable || shown.sync && v.replica,
        Kind::Unknown => false,
    };
    by_view && s.view(now).is_some()
}

/// Every `tag_<name>=<value>` must be the tag's text (D11).
fn tags_match(target: &Target, tags: &Value) -> bool {
    let mut seen: Vec<&str> = Vec::new();
    target.query.iter().all(|(key, value)| {
        let Some(name) = key.strip_prefix("tag_") else { return true };
        if seen.contains(&name) {
            return true;
        }
        seen.push(name);
        match tags.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Str(tag)) => tag == value,
            Some(other) => other.py_str().to_lowercase() == *value,
        }
    })
}

/// `GET /liveness`: is the HA loop alive (G10)?
pub fn liveness(s: &Snapshot, now: Instant) -> u16 {
    let primary = s.postgres.role == Role::Primary && s.postgres.postmaster_alive;
    if s.config.is_paused() || loop_lives(s.next_run, s.ttl, primary, now) {
        200
    } else {
        503
    }
}

/// Whether the HA loop, whose next cycle is or was `due`, is not overdue by more than the `ttl`, or twice that where
/// nobody writes.
#[must_use]
pub fn loop_lives(due: Option<Instant>, ttl: Duration, primary: bool, now: Instant) -> bool {
    let patience = ttl * if primary { 1 } else { 2 };
    due.is_some_and(|due| due + patience > now)
}

/// Why the node is not ready; None: it is (D18, G11).
pub fn unready(target: &Target, s: &Snapshot, now: Instant) -> Option<String> {
    if s.is_leader(now) {
        return None;
    }
    if s.postgres.state != patroni_core::ha::PgState::Running {
        return Some("PostgreSQL is not running".into());
    }
    if s.postgres.replication_state() != Some("streaming") {
        return Some("PostgreSQL replication state is not streaming".into());
    }
    if s.view(now).is_none() && s.postgres.latest_end_lsn() == 0 {
        return (!s.failsafe_active).then(|| "DCS is not accessible".into());
    }
    let (mode, position) = match target.first("mode") {
        Some("write") => ("write", s.postgres.received()),
        _ => ("apply", s.postgres.replayed()),
    };
    let lag = s.leader_lsn(now) - position;
    let limit = target
        .first("lag")
        .and_then(|text| parse_int(&Value::from(text), Some("B")))
        .unwrap_or_else(|| s.config.maximum_lag_on_failover());
    (lag > limit).then(|| format!("Replication {mode} lag {lag} exceeds maximum allowable {limit}"))
}
