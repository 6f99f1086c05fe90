//! The reference's own answers (fixtures/ha/differential.py), replayed.

use std::collections::BTreeMap;

use pyfmt::{json, Value};

use super::situation;
use super::world::Outcome;

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/ha/recorded.json");

/// Words of either side in the form in which they are compared.
fn normal(acts: Vec<String>, busy: bool) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut restart_dropped = false;
    for act in acts {
        let act = if act == "ssn:" { "ssn:none".to_owned() } else { act };
        // Dropped before the restart begins, there after it has begun.
        restart_dropped |= act == "drop_restart";
        let refused = busy && act.starts_with("job:");
        let ours_alone = act == "extend";
        if act == "drop_restart" || refused || ours_alone || out.last() == Some(&act) {
            continue;
        }
        out.push(act);
    }
    if restart_dropped {
        out.push("drop_restart".into());
    }
    out
}

fn texts(v: Option<&Value>) -> Vec<String> {
    v.and_then(Value::as_list).unwrap_or_default().iter().map(Value::py_str).collect()
}

/// Lines that the reference writes elsewhere than in its HA loop, or in a job's thread.
const ELSEWHERE: [&str; 5] = [
    "Postgresql is not running.",
    "Could not take out TTL lock",
    "Failed to bootstrap cluster",
    "Demoting self (graceful)",
    "Demoting self (demote-cluster)",
];

fn said(lines: Vec<String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.into_iter().filter(|l| !ELSEWHERE.contains(&l.as_str())).collect();
    lines.dedup();
    lines
}

#[derive(Debug, Default)]
struct Difference(Vec<String>);

impl Difference {
    fn check(&mut self, what: &str, ours: &str, theirs: &str) {
        if ours != theirs {
            self.0.push(format!("{what}:\n  ours   {ours}\n  theirs {theirs}"));
        }
    }
}

fn compare(case: &Value, outcome: &Outcome) -> Difference {
    let mut d = Difference::default();
    let s = case.get("s").unwrap();
    d.check("line", &outcome.line, case.get("line").and_then(Value::as_str).unwrap());
    let busy = s.get("job").is_some();
    let ours = normal(outcome.acts(), busy);
    let theirs = normal(texts(case.get("acts")), busy);
    d.check("acts", &ours.join(" "), &theirs.join(" "));
    let member = outcome.member().map(json::dumps_compact).unwrap_or_default();
    d.check("member", &member, case.get("member").and_then(Value::as_str).unwrap_or_default());
    let ours = said(outcome.log.iter().map(|l| l.text.clone()).collect());
    d.check("log", &ours.join(" | "), &said(texts(case.get("log"))).join(" | "));
    d
}

#[test]
fn the_reference_says_and_does_the_same() {
    let recorded = json::loads(&std::fs::read_to_string(RECORDED).unwrap()).unwrap();
    let cases = recorded.as_list().unwrap();
    let mut failed: BTreeMap<i64, String> = BTreeMap::new();
    for case in cases {
        let s = case.get("s").unwrap();
        let outcome = situation::world(s).run();
        let d = compare(case, &outcome);
        if !d.0.is_empty() {
            let id = s.get("id").and_then(Value::as_i64).unwrap();
            failed.insert(id, d.0.join("\n"));
        }
    }
    for (id, what) in failed.iter().take(40) {
        println!("--- {id}\n{what}");
    }
    assert!(failed.is_empty(), "{} of {} differ", failed.len(), cases.len());
}
