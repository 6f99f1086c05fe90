//! Prints the order of questions of a cycle as Graphviz (docs/cycle.dot), from `cycle` in src/ha/cycle.rs and the status
//! lines in src/ha/tests/lines.rs, and checks that what is committed is what they say.
//!
//!     CYCLE_DOT=write cargo test -p patroni-core --test diagram     # and docs/cycle.svg, where `dot` is installed

#![allow(clippy::expect_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CYCLE: &str = include_str!("../src/ha/cycle.rs");
const LINES: &str = include_str!("../src/ha/tests/lines.rs");

/// What a step asks, and the sections of docs/contract/ha-pg.md with the status lines that it ends with.
struct Step {
    name: &'static str,
    asks: &'static str,
    sections: &'static [&'static str],
}

const fn step(name: &'static str, asks: &'static str, sections: &'static [&'static str]) -> Step {
    Step { name, asks, sections }
}

/// Every method that `cycle` calls, in its order.
const STEPS: &[Step] = &[
    step("load_cluster", "read the cluster: who leads?", &[]),
    step("note_pause", "a pause, or the first cycle after one?", &[]),
    step("touch_member", "is the own member key gone?", &[]),
    step("restore_missing_keys", "the lock is ours: are /initialize or /config gone?", &[]),
    step("finish_demotion", "has a demotion stopped PostgreSQL?", &[]),
    step("long_action_in_progress", "does a job run?", &["4A"]),
    step("starting_instance", "does PostgreSQL start?", &["4B"]),
    step("post_bootstrap", "is the cluster being made?", &["4C"]),
    step("after_recovery", "has PostgreSQL been started after a failure?", &["4D"]),
    step("held_back", "not running, and nobody leads: say why not promoted", &[]),
    step("without_data_dir", "no data directory?", &["4E"]),
    step("check_system_identifier", "of another cluster?", &["4F"]),
    step("not_running", "not running: may it stay so?", &["4G"]),
    step("recover", "not running: start it as what?", &["10"]),
    step("without_leader", "nobody leads: may we?", &["4H", "6"]),
    step("with_leader", "somebody leads: we, or another?", &["4I", "6"]),
    step("scheduled_restart", "is a restart due?", &["11"]),
    step("reconcile_slots", "slots, and the first on_start", &["18"]),
];

/// How a call of `cycle` may end it.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Ends {
    Never,
    /// It has a line, or the next question is asked.
    WithALine,
    /// Where it is asked at all.
    Always,
}

/// The methods that the body of `cycle` calls, in order, and how they end it.
fn calls() -> Vec<(String, Ends)> {
    let from = CYCLE.find("    fn cycle(&mut self)").expect("cycle.rs has fn cycle");
    let body = CYCLE[from..].split("\n    }\n").next().expect("it ends");
    let mut found: Vec<(String, Ends)> = Vec::new();
    for line in body.lines().skip(1) {
        for (at, _) in line.match_indices("self.") {
            let rest = &line[at + "self.".len()..];
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if !rest[name.len()..].starts_with('(') {
                continue;
            }
            let before = line[..at].trim();
            let last = line.trim() == format!("self.{name}(line)");
            let ends = match before {
                _ if last => Ends::Always,
                "return" => Ends::Always,
                "if let Some(line) =" => Ends::WithALine,
                "let line = if" | "let line =" | "" => Ends::Never,
                other => panic!("cycle() calls {name} in a way that the diagram does not know: {other}"),
            };
            found.push((name, ends));
        }
    }
    found
}

/// Section and text of every status line.
fn lines() -> Vec<(String, String)> {
    let from = LINES.find("const LINES").expect("lines.rs has LINES");
    let table = LINES[from..].split("\n];").next().expect("it ends");
    let mut section = String::new();
    let mut found = Vec::new();
    for line in table.lines().skip(1).map(str::trim) {
        if let Some(comment) = line.strip_prefix("// ") {
            section = comment.split(',').next().unwrap_or_default().to_owned();
        } else if let Some(text) = line.strip_prefix('"').and_then(|line| line.strip_suffix("\",")) {
            found.push((section.clone(), text.to_owned()));
        }
    }
    found
}

fn dot() -> String {
    let (calls, lines) = (calls(), lines());
    let mut text = String::from(
        "// Made by patroni-rs/core/tests/diagram.rs from src/ha/cycle.rs. Boxes are questions in their order, sheets are\n\
         // the status lines that a cycle ends with; {} stands for any text.\n\
         digraph cycle {\n    node [shape=box, fontname=\"Helvetica\", fontsize=11];\n    edge [fontname=\"Helvetica\", fontsize=10];\n",
    );
    let mut sheets: Vec<&str> = Vec::new();
    let quoted = |text: &str| text.replace('"', "\\\"");
    for (at, (name, ends)) in calls.iter().enumerate() {
        let step = STEPS.iter().find(|step| step.name == name).expect("compared before");
        let _ = writeln!(text, "    {name} [label=\"{}\\n{name}\"];", quoted(step.asks));
        for section in step.sections {
            if lines.iter().any(|(of, _)| of == section) {
                let _ = writeln!(text, "    {name} -> \"{section}\";");
                sheets.push(section);
            }
        }
        if let Some((next, _)) = calls.get(at + 1) {
            let label = match ends {
                Ends::Never => String::new(),
                Ends::WithALine => " [label=\"no line\"]".to_owned(),
                Ends::Always => " [label=\"no\"]".to_owned(),
            };
            let _ = writeln!(text, "    {name} -> {next}{label};");
        }
    }
    let _ = writeln!(
        text,
        "    lost [label=\"the DCS is away, at any question\\nhandle_dcs_error\"];\n    lost -> \"4J\";"
    );
    sheets.push("4J");
    sheets.sort_unstable();
    sheets.dedup();
    for section in sheets {
        let of: Vec<String> =
            lines.iter().filter(|(s, _)| s == section).map(|(_, line)| quoted(line)).collect();
        let _ =
            writeln!(text, "    \"{section}\" [shape=note, label=\"{section}\\l{}\\l\"];", of.join("\\l"));
    }
    text.push_str("}\n");
    text
}

/// FNV-1a, of the text that a picture was drawn from.
fn checksum(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name)
}

#[test]
fn every_question_of_a_cycle_is_known_in_its_order() {
    let calls = calls();
    let called: Vec<&str> = calls.iter().map(|(name, _)| name.as_str()).collect();
    let known: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
    assert_eq!(called, known, "STEPS tells the questions of fn cycle in their order");
    let ends = |name: &str| calls.iter().find(|(call, _)| call == name).map(|(_, ends)| *ends);
    assert_eq!(ends("load_cluster"), Some(Ends::Never));
    assert_eq!(ends("starting_instance"), Some(Ends::WithALine));
    assert_eq!(ends("recover"), Some(Ends::Always));
    let lines = lines();
    for section in ["4A", "4B", "4C", "4D", "4E", "4F", "4G", "4H", "4I", "4J", "6", "10"] {
        assert!(lines.iter().any(|(of, _)| of == section), "no status line of {section}");
    }
}

#[test]
fn the_printed_diagram_is_current() {
    let (made, file, picture) = (dot(), docs("cycle.dot"), docs("cycle.svg"));
    let mark = format!("<!-- drawn from cycle.dot, {:016x} -->\n", checksum(&made));
    if std::env::var("CYCLE_DOT").is_ok_and(|how| how == "write") {
        fs::write(&file, &made).expect("docs/cycle.dot can be written");
        let drawn =
            Command::new("dot").arg("-Tsvg").arg(&file).output().expect("Graphviz's dot is installed");
        assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
        fs::write(&picture, String::from_utf8_lossy(&drawn.stdout).into_owned() + &mark)
            .expect("docs/cycle.svg can be written");
        return;
    }
    let again = "\nCYCLE_DOT=write cargo test -p patroni-core --test diagram";
    let is_current = fs::read_to_string(file).is_ok_and(|text| text == made);
    assert!(is_current, "docs/cycle.dot is of another cycle; print it anew (needs Graphviz):{again}");
    let drawn = fs::read_to_string(picture).unwrap_or_default();
    assert!(drawn.ends_with(&mark), "docs/cycle.svg is drawn from another docs/cycle.dot{again}");
}
