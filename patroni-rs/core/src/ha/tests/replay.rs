//! The reference's own answers (fixtures/ha/differential.py), replayed.

use std::collections::BTreeMap;

use pyfmt::{json, Value};

use super::outcome::Outcome;
use super::situation;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/ha/recorded.json");

const TRACES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/ha/traces.json");

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq)]
struct Side {
    line: String,
    acts: Vec<String>,
    member: String,
    log: Vec<String>,
}

impl Side {
    fn ours(outcome: &Outcome) -> Side {
        Side {
            line: if outcome.exit.is_some() { String::new() } else { outcome.line.clone() },
            acts: outcome.acts(),
            member: outcome.member().map(json::dumps_compact).unwrap_or_default(),
            log: outcome.log.iter().map(|l| l.text.clone()).collect(),
        }
    }

    fn theirs(case: &Value) -> Side {
        let text = |key: &str| case.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let texts = |key: &str| -> Vec<String> {
            case.get(key).and_then(Value::as_list).unwrap_or_default().iter().map(Value::py_str).collect()
        };
        Side { line: text("line"), acts: texts("acts"), member: text("member"), log: texts("log") }
    }

    fn drop_act(&mut self, unwanted: impl Fn(&str) -> bool) {
        self.acts.retain(|act| !unwanted(act));
    }
}

/// A deliberate difference: what it is, and how the two sides are made alike.
struct Allowed {
    why: &'static str,
    level: fn(ours: &mut Side, theirs: &mut Side, situation: &Value),
}

/// Each must be seen in some recording, or it has no place here.
const ALLOWED: &[Allowed] = &[
    Allowed {
        why: "lines of other loggers, and of the thread that demotes",
        level: |ours, theirs, _| {
            for side in [ours, theirs] {
                side.log.retain(|line| {
                    let elsewhere = matches!(
                        line.as_str(),
                        "Postgresql is not running."
                            | "Could not take out TTL lock"
                            | "Failed to bootstrap cluster"
                            | "Demoting self (graceful)"
                            | "Demoting self (demote-cluster)"
                    );
                    let of_quorum =
                        line.starts_with("Quorum and sync") || line.starts_with("Mismatched sets");
                    !elsewhere && !of_quorum
                });
                side.log.dedup();
            }
        },
    },
    Allowed {
        why: "one request sets synchronous_standby_names where the reference sets it twice",
        level: |ours, theirs, _| {
            for side in [ours, theirs] {
                side.acts.iter_mut().filter(|a| *a == "ssn:").for_each(|a| *a = "ssn:none".into());
                side.acts.dedup();
            }
        },
    },
    Allowed {
        why: "a due restart is forgotten before it begins, so that it cannot be begun twice",
        level: |ours, theirs, _| {
            for side in [ours, theirs] {
                let before = side.acts.len();
                side.drop_act(|a| a == "drop_restart");
                if side.acts.len() < before {
                    side.acts.push("drop_restart".into());
                }
            }
        },
    },
    Allowed {
        why: "a lock under which PostgreSQL ran goes on proof that nothing of it is left, and the watchdog with it",
        level: |ours, _, _| ours.drop_act(|a| a == "prove"),
    },
    Allowed {
        why: "the lease of the failsafe is told to the keeper",
        level: |ours, _, _| ours.drop_act(|a| a == "extend"),
    },
    Allowed {
        why: "what follows a demotion waits for the job that runs; the reference races with it",
        level: |ours, theirs, s| {
            let follows = |a: &str| a.starts_with("job:starting after demotion(");
            if s.get("job").is_some() && !theirs.acts.iter().any(|a| a.starts_with("job:")) {
                ours.drop_act(follows);
            }
        },
    },
    Allowed {
        why: "the watchdog is closed on an aborted promotion (surface-ha-pg 23-09)",
        level: |ours, theirs, _| {
            let refused = theirs.log.iter().any(|l| l.contains("pre-promote script failed"));
            let put_off = theirs.line.starts_with("Postponing promotion")
                || theirs.line.starts_with("not promoting because failed to update leader lock");
            if refused || put_off || theirs.line == "lost leader before promote" {
                ours.drop_act(|a| a == "unwatch");
            }
        },
    },
    Allowed {
        why: "an unreadable own system identifier is not written: an empty /initialize keeps others out",
        level: |_, theirs, s| {
            let sysid = s.at(&["pg", "sysid"]).and_then(Value::as_str);
            let leads = s.at(&["keys", "leader"]).and_then(Value::as_str) == Some("a");
            if leads && !super::super::sysid_valid(sysid) {
                theirs.drop_act(|a| a.starts_with("initialize(") && !a.starts_with("initialize(new:7"));
            }
        },
    },
    Allowed {
        why: "a vote leaves /sync only when the others were seen to hold what it alone may have confirmed",
        level: |ours, theirs, s| {
            // Their last write of /sync, after their last change of the value: ours is left out, or follows
            // what the second look confirms.
            let value = theirs.log.iter().rposition(|l| l.starts_with("Setting synchronous replication"));
            let key = theirs.log.iter().rposition(|l| l.starts_with("Setting leader"));
            let (Some(value), Some(key)) = (value, key) else { return };
            let Some(write) = theirs.acts.iter().rposition(|a| a.starts_with("sync(")) else { return };
            if key < value || ours.acts == theirs.acts {
                return;
            }
            let mut without = theirs.clone();
            without.acts.remove(write);
            without.log.remove(key);
            if ours.acts == without.acts {
                *theirs = without;
                return;
            }
            let looks = s.at(&["ans", "sync"]).and_then(Value::as_list).unwrap_or_default();
            let confirmed = looks.get(1).and_then(Value::as_list).and_then(|look| look.get(2));
            let confirmed = confirmed.and_then(Value::as_list).unwrap_or_default();
            let names: Vec<String> = confirmed.iter().map(Value::py_str).collect();
            if ours.acts.get(write) == Some(&format!("sync(a;{};0)", names.join(","))) {
                ours.acts.remove(write);
                ours.log.remove(key);
                *theirs = without;
            }
        },
    },
    Allowed {
        why: "the votes that /sync asks for count also after the mode was changed from quorum to on",
        level: |ours, theirs, _| {
            let of_votes =
                |l: &String| l.starts_with("Got quorum vote from") || l.starts_with("Quorum requirement");
            if ours.log.iter().any(of_votes) && !theirs.log.iter().any(of_votes) {
                ours.log.retain(|l| !of_votes(l));
            }
        },
    },
    Allowed {
        why: "a DCS that is away does not end a bootstrap: the initialize key keeps others out",
        level: |ours, theirs, s| {
            let bootstrapping = s.at(&["mem", "bootstrapping"]).is_some_and(Value::truthy);
            if bootstrapping && ours.line.ends_with("DCS is not accessible") {
                theirs.clone_from(ours);
            }
        },
    },
    Allowed {
        why: "rewind state changes when promotion or demotion is decided, not in its thread",
        level: |ours, theirs, _| {
            let begun = |a: &String| a == "job:promote" || a.starts_with("job:") && a.contains("demot");
            if theirs.acts.iter().any(begun) {
                ours.member = ours.member.replace(",\"checkpoint_after_promote\":false", "");
                theirs.member = theirs.member.replace(",\"checkpoint_after_promote\":false", "");
            }
        },
    },
    Allowed {
        why: "before a promotion the names come before /sync: what can not be set leaves the key as it was (S13)",
        level: |ours, theirs, _| {
            let is = |acts: &[String], at: usize, what: &str| acts.get(at).is_some_and(|a| a.starts_with(what));
            let end = |acts: &[String]| acts.iter().position(|a| a == "job:promote").unwrap_or(acts.len());
            let at = |acts: &[String], what: &str| acts.iter().position(|a| a.starts_with(what));
            let (Some(value), Some(write)) = (at(&ours.acts, "ssn:"), at(&theirs.acts, "sync(")) else { return };
            if !is(&ours.acts, value + 1, "sync(") || value != write {
                return;
            }
            if is(&theirs.acts, write + 1, "ssn:") && write + 2 == end(&theirs.acts) {
                theirs.acts.swap(write, write + 1);
            } else if ours.line.starts_with("Postponing promotion") {
                ours.acts.remove(value);
            }
        },
    },
    Allowed {
        why: "the log tells which of the situations \"system ID is invalid\" is",
        level: |ours, _, _| ours.log.retain(|l| !l.starts_with("The control file of the data directory")),
    },
    Allowed {
        why: "nothing is stopped for a switchover while nobody is known to receive WAL (S12)",
        level: |ours, theirs, _| {
            let waits = ours.log.iter().any(|l| l.starts_with("switchover: waiting for a candidate"));
            if waits && theirs.line.ends_with("switchover: demoting myself") {
                ours.clone_from(theirs);
            }
        },
    },
    Allowed {
        why: "a standby that holds the lock leads before it is switched over (S12)",
        level: |ours, theirs, s| {
            let primary = s.at(&["pg", "primary"]).is_some_and(Value::truthy);
            if !primary && theirs.line.ends_with("switchover: demoting myself") {
                ours.clone_from(theirs);
            }
        },
    },
    Allowed {
        why: "in quorum mode /sync names the new leader before the promotion (S6)",
        level: |ours, theirs, s| {
            let promotes = |side: &Side| side.acts.iter().position(|a| a == "job:promote");
            let begins =
                |acts: &[String], at: usize, what: &str| acts.get(at).is_some_and(|a| a.starts_with(what));
            let quorum =
                s.at(&["keys", "config"]).and_then(Value::as_str).unwrap_or_default().contains("\"quorum\"");
            if ours.line.starts_with("Postponing promotion") && promotes(theirs).is_some() && quorum {
                theirs.clone_from(ours);
            }
            let Some(at) = promotes(ours).filter(|at| *at > 1) else { return };
            let (value, write) = (at - 2, at - 1);
            let same = promotes(theirs) == Some(at - 1);
            if same
                && begins(&ours.acts, write, "sync(a;") | begins(&ours.acts, write, "sync(node")
                && begins(&ours.acts, value, "ssn:")
            {
                ours.acts.remove(write);
                ours.log.retain(|l| !l.starts_with("Setting leader to "));
            }
        },
    },
    Allowed {
        why: "nobody waits for a switchover's candidate that is not in /sync, and so cannot lead",
        level: |ours, theirs, _| {
            let void = ours.log.iter().any(|l| l.starts_with("Switchover candidate="));
            if void && theirs.log.iter().any(|l| l.starts_with("switchover: to ")) {
                theirs.clone_from(ours);
            }
        },
    },
    Allowed {
        why: "a watchdog that a promotion left armed is closed also while the DCS is away",
        level: |ours, theirs, _| {
            if ours.line.ends_with("DCS is not accessible") && !theirs.acts.iter().any(|a| a == "unwatch") {
                ours.acts.retain(|a| a != "unwatch");
            }
        },
    },
];

/// Differences that only real runs show.
const IN_TRACES: &[Allowed] = &[
    Allowed {
        why: "the last moments before a schedule are not slept through: the next cycle comes when it is due",
        level: |ours, theirs, s| {
            let scheduled = s.get("restart").is_some() || s.at(&["keys", "failover"]).is_some();
            let acted = ["restart initiated", "switchover: demoting myself"].contains(&theirs.line.as_str());
            if scheduled && acted && ours.line.starts_with("no action. ") {
                theirs.clone_from(ours);
            }
        },
    },
    Allowed {
        why: "a vote leaves /sync only when the others were seen to hold what it alone may have confirmed",
        level: |ours, theirs, _| {
            // The write that follows the change of the value is the one that weakens.
            let value = theirs.acts.iter().rposition(|a| a.starts_with("ssn:"));
            let next = value.filter(|at| theirs.acts.get(at + 1).is_some_and(|a| a.starts_with("sync(")));
            if let Some(at) = next {
                let mut without = theirs.acts.clone();
                without.remove(at + 1);
                if without == ours.acts {
                    theirs.acts = without;
                }
            }
        },
    },
];

fn difference(ours: &Side, theirs: &Side) -> String {
    let pairs = [
        (ours.line.clone(), theirs.line.clone()),
        (ours.acts.join(" "), theirs.acts.join(" ")),
        (ours.member.clone(), theirs.member.clone()),
        (ours.log.join(" | "), theirs.log.join(" | ")),
    ];
    let differing = pairs.iter().filter(|(ours, theirs)| ours != theirs);
    differing.map(|(ours, theirs)| format!("  ours   {ours}\n  theirs {theirs}\n")).collect()
}

/// Replays a file; of the deliberate differences each must be met, unless it is for another file.
fn replay(path: &str, with_log: bool, more: &[Allowed]) {
    let recorded = json::loads(&std::fs::read_to_string(path).unwrap()).unwrap();
    let cases = recorded.as_list().unwrap();
    let mut failed: BTreeMap<i64, String> = BTreeMap::new();
    let allowed: Vec<&Allowed> = ALLOWED.iter().chain(more).collect();
    let mut used = vec![0; allowed.len()];
    for case in cases {
        let s = case.get("s").unwrap();
        let outcome = situation::world(s).run();
        let (mut ours, mut theirs) = (Side::ours(&outcome), Side::theirs(case));
        if !with_log {
            ours.log.clear();
        }
        for (allowed, used) in allowed.iter().zip(&mut used) {
            let before = (ours.clone(), theirs.clone());
            (allowed.level)(&mut ours, &mut theirs, s);
            *used += usize::from(before != (ours.clone(), theirs.clone()));
        }
        let difference = difference(&ours, &theirs);
        if !difference.is_empty() {
            failed.insert(s.get("id").and_then(Value::as_i64).unwrap(), difference);
        }
    }
    for (id, what) in failed.iter().take(40) {
        println!("--- {id}\n{what}");
    }
    assert!(failed.is_empty(), "{} of {} differ", failed.len(), cases.len());
    let unmet = if with_log { &used[..] } else { &used[ALLOWED.len()..] };
    let names = if with_log { &allowed[..] } else { &allowed[ALLOWED.len()..] };
    for (allowed, used) in names.iter().zip(unmet) {
        assert!(*used > 0, "no such difference any more: {}", allowed.why);
    }
}

#[test]
fn the_reference_says_and_does_the_same() {
    replay(RECORDED, true, &[]);
}

/// Cycles of real clusters of the reference (fixtures/ha/trace.py).
#[test]
fn real_runs_of_the_reference_are_repeated() {
    replay(TRACES, false, IN_TRACES);
}
