//! The checks. Each says at least that nothing was found.

use std::time::Duration;

use pyfmt::Value;

use super::candidates;
use super::deep_checks;
use super::gather::{Seen, Told};
use super::{Finding, Level};

/// A clock that is off by more than this is off, and not the store's answer late, seconds.
const CLOCK_TOLERANCE: i64 = 5;

/// One check's findings.
pub(super) struct Check {
    name: &'static str,
    found: Vec<Finding>,
}

impl Check {
    pub(super) fn new(name: &'static str) -> Check {
        Check { name, found: Vec::new() }
    }

    pub(super) fn warn(&mut self, member: &str, text: impl Into<String>, advice: &'static str) {
        self.add(Level::Warning, member, text.into(), advice);
    }

    pub(super) fn error(&mut self, member: &str, text: impl Into<String>, advice: &'static str) {
        self.add(Level::Error, member, text.into(), advice);
    }

    fn add(&mut self, level: Level, member: &str, text: String, advice: &'static str) {
        self.found.push(Finding { check: self.name, member: member.to_owned(), level, text, advice });
    }

    /// What is said where nothing was found.
    pub(super) fn or(mut self, fine: impl Into<String>) -> Vec<Finding> {
        if self.found.is_empty() {
            self.add(Level::Ok, "", fine.into(), "");
        }
        self.found
    }
}

/// All findings, in the order in which they are best read.
pub fn all(seen: &Seen) -> Vec<Finding> {
    let checks = [
        store,
        timeouts,
        leader,
        pause,
        members,
        replication,
        failover,
        synchronous,
        contact,
        pending_restart,
        watchdog,
        versions,
    ];
    let mut found: Vec<Finding> = checks.iter().flat_map(|check| check(seen)).collect();
    found.extend(deep_checks::all(seen));
    found
}

/// A read that takes a third of `retry_timeout` is one that counts as not answered.
fn store(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("store");
    let slowest = seen.reads.iter().max().copied().unwrap_or_default();
    let retry_timeout = Duration::from_secs(u64::try_from(seen.config.retry_timeout()).unwrap_or(0));
    let said = format!("the slowest of {} reads took {} ms", seen.reads.len(), slowest.as_millis());
    let advice = "look at the disks and the network of its servers; a leader that cannot renew its lock in time is demoted";
    if slowest >= retry_timeout / 3 {
        check.error("", format!("{said}; retry_timeout is {} s", retry_timeout.as_secs()), advice);
    } else if slowest >= retry_timeout / 10 {
        check.warn("", format!("{said}; retry_timeout is {} s", retry_timeout.as_secs()), advice);
    }
    check.or(said)
}

fn timeouts(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("time-outs");
    let config = &seen.config;
    let (ttl, loop_wait, retry_timeout) = (config.ttl(), config.loop_wait(), config.retry_timeout());
    let said = format!("ttl {ttl}, loop_wait {loop_wait}, retry_timeout {retry_timeout}");
    if loop_wait.saturating_add(retry_timeout.saturating_mul(2)) > ttl {
        check.warn(
            "",
            format!("{said}: loop_wait + 2*retry_timeout is more than ttl, and members use shorter ones"),
            "patronictl edit-config: raise ttl, or lower the others",
        );
    }
    if seen.config.maximum_lag_on_failover() == 0 {
        check.warn(
            "",
            "maximum_lag_on_failover is 0: a standby that lags by a byte does not take over",
            "patronictl edit-config",
        );
    }
    check.or(said)
}

fn leader(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("leader");
    let Some(name) = seen.cluster.leader_name() else {
        check.error(
            "",
            "nobody holds the leader lock",
            "look at the members below, and at their logs (patroni.race says why not)",
        );
        return check.found;
    };
    match seen.told.iter().find(|told| told.name == name) {
        None => check.error(name, "holds the leader lock, and has no member key", "is its daemon running?"),
        Some(Told { status: Err(error), .. }) => {
            let text = format!("holds the leader lock, and does not answer: {error}");
            check.error(name, text, "is its daemon running, and its REST API reachable from here?");
        }
        Some(told) => {
            let (state, role) = (told.text("state"), told.text("role"));
            if state != "running" {
                check.error(
                    name,
                    format!("leads, and its PostgreSQL is {state}"),
                    "look into PostgreSQL's log there",
                );
            } else if !["primary", "master", "standby_leader"].contains(&role) {
                check.warn(
                    name,
                    format!("holds the leader lock as {role}"),
                    "a promotion goes on, or does not end: look into its log",
                );
            }
        }
    }
    check.or(format!("{name} leads"))
}

fn pause(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("pause");
    if seen.config.is_paused() {
        check.warn(
            "",
            "the cluster is paused: nobody takes over when the primary is lost",
            "patronictl resume, when the maintenance is over",
        );
    }
    check.or("automatic failover is on")
}

fn members(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("members");
    for told in seen.others() {
        match &told.status {
            Err(error) => check.error(
                &told.name,
                format!("does not answer: {error}"),
                "is its daemon running, and its REST API reachable? Members that do not reach it cannot count on it",
            ),
            Ok(_) if told.text("state") != "running" => check.error(
                &told.name,
                format!("PostgreSQL is {}", told.text("state")),
                "look into the logs of Patroni and PostgreSQL there; patronictl reinit makes it anew",
            ),
            Ok(_) => {}
        }
    }
    check.or(format!("{} of {} run", seen.told.len(), seen.told.len()))
}

fn replication(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("replication");
    let led = seen.leader().and_then(|leader| leader.number("timeline"));
    let mut standbys = 0;
    for told in seen.others() {
        if told.text("state") != "running" {
            continue;
        }
        standbys += 1;
        let (state, own) = (told.text("replication_state"), told.number("timeline"));
        if state != "streaming" {
            let state = if state.is_empty() { "does not replicate" } else { state };
            check.warn(
                &told.name,
                state,
                "look into PostgreSQL's log there: pg_hba.conf, the password, WAL that is gone",
            );
        }
        if let (Some(own), Some(led)) = (own, led) {
            if own != led {
                check.error(
                    &told.name,
                    format!("is on timeline {own}, and the leader on {led}"),
                    "it diverged or has not followed yet: use_pg_rewind, or patronictl reinit",
                );
            }
        }
    }
    check.or(format!("{standbys} standbys stream"))
}

fn failover(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("failover");
    let found = candidates::of(seen);
    let able = found.iter().filter(|candidate| candidate.why_not.is_none()).count();
    if able == 0 {
        let why = found.iter().map(|candidate| {
            format!("{}: {}", candidate.name, candidate.why_not.as_deref().unwrap_or_default())
        });
        let why: Vec<String> = why.collect();
        match why.is_empty() {
            true => check.warn("", "there is one member: nobody can take over", "add a replica"),
            false => {
                check.error("", format!("nobody could take over ({})", why.join("; ")), "mend one of them")
            }
        }
    }
    check.or(format!("{able} of {} other members could take over", found.len()))
}

fn synchronous(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("synchronous mode");
    let (config, sync) = (&seen.config, &seen.cluster.sync);
    if !config.is_synchronous_mode() {
        return check.or("off: the last commits may be lost in a failover");
    }
    let standbys: Vec<String> =
        sync.members().into_iter().filter(|name| !sync.leader_matches(name)).collect();
    if standbys.is_empty() {
        if config.is_synchronous_mode_strict() {
            check.error(
                "",
                "strict, and no standby is synchronous: commits wait",
                "bring a standby up that is not tagged nosync",
            );
        } else {
            check.warn(
                "",
                "no standby is synchronous: commits are as without the mode, and nobody can take over",
                "bring a standby up that is not tagged nosync",
            );
        }
    }
    check.or(format!("{} are synchronous", standbys.join(", ")))
}

/// When each member has reached the store last, by its clock.
fn contact(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("store, as members see it");
    for told in &seen.told {
        if told.flag("failsafe_mode_is_active") {
            check.error(
                &told.name,
                "failsafe mode is active: it does not reach the store",
                "look at the network between them",
            );
        }
        let Some(at) = told.number("dcs_last_seen").filter(|at| *at > 0) else { continue };
        let ago = seen.now.saturating_sub(at);
        if ago > seen.config.ttl() {
            check.error(
                &told.name,
                format!("has not reached the store for {ago} s, or its clock is behind"),
                "look at the network between them, and at its clock",
            );
        } else if ago < -CLOCK_TOLERANCE {
            check.warn(
                &told.name,
                format!("its clock is {} s ahead of this machine's", -ago),
                "run NTP on all of them: logs and schedules go by it (the lock does not)",
            );
        }
    }
    check.or("all members reach it")
}

fn pending_restart(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("pending restart");
    for told in seen.told.iter().filter(|told| told.flag("pending_restart")) {
        let reasons = told.at(&["pending_restart_reason"]).and_then(Value::as_map);
        let names: Vec<String> =
            reasons.iter().flat_map(|map| map.iter()).map(|(name, _)| name.py_str()).collect();
        check.warn(
            &told.name,
            format!("parameters wait for a restart: {}", names.join(", ")),
            "patronictl restart CLUSTER MEMBER, or --pending for all",
        );
    }
    check.or("none")
}

fn watchdog(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("watchdog");
    for told in seen.told.iter().filter(|told| told.flag("watchdog_failed")) {
        check.error(
            &told.name,
            "requires a watchdog that cannot be used: it will not lead",
            "load its module, and give the user rights on the device",
        );
    }
    check.or("nobody lacks one")
}

fn versions(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("versions");
    let distinct = |of: &dyn Fn(&Told) -> Option<String>| {
        let mut found: Vec<(String, Vec<&str>)> = Vec::new();
        for told in &seen.told {
            let Some(value) = of(told) else { continue };
            match found.iter_mut().find(|(known, _)| *known == value) {
                Some((_, who)) => who.push(&told.name),
                None => found.push((value, vec![&told.name])),
            }
        }
        found
    };
    let shown = |found: &[(String, Vec<&str>)]| {
        found
            .iter()
            .map(|(value, who)| format!("{value} ({})", who.join(", ")))
            .collect::<Vec<_>>()
            .join("; ")
    };
    let servers = distinct(&|told| told.number("server_version").map(|n| n.to_string()));
    if servers.len() > 1 {
        check.warn(
            "",
            format!("PostgreSQL differs: {}", shown(&servers)),
            "bring all to the same minor release, standbys first",
        );
    }
    let patroni =
        distinct(&|told| told.at(&["patroni", "version"]).and_then(Value::as_str).map(str::to_owned));
    if patroni.len() > 1 {
        check.warn("", format!("Patroni differs: {}", shown(&patroni)), "bring all to the same release");
    }
    let programs = distinct(&|told| told.implementation.clone());
    check.or(shown(&programs))
}
