//! A cluster of ours is taken through the states of the recordings in `fixtures/recorded`, and its answers are held
//! against them (insta). Differences that `allow.tsv` names are taken for the recorded answer.
//!
//! `RECORDED=full` visits all states that were recorded, else the first [`SHORT`]; `RECORDED_PG=17` takes the recordings of another
//! PostgreSQL. The recordings are the reference's: a difference is mended in our code, not accepted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::path::Path;

use compat_tests::diff::allow::AllowList;
use compat_tests::diff::recorded::{self, Answers};
use compat_tests::diff::states::STATES;
use compat_tests::diff::{cli, probes, Probe, Side};
use compat_tests::lab::{host, Kind};
use compat_tests::normalise::Known;
use regex::Regex;

/// How many states CI visits.
const SHORT: usize = 4;

fn allow_list() -> AllowList {
    AllowList::of_the_tree().unwrap()
}

/// Holds `ours` against the snapshot `name`; for `before` see [`recorded::text`].
fn assert_snapshot(directory: &Path, name: &str, ours: &Answers, before: &Answers) -> Result<(), String> {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(directory);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let text = recorded::text(ours, before);
    let held =
        std::panic::catch_unwind(AssertUnwindSafe(|| settings.bind(|| insta::assert_snapshot!(name, text))));
    held.map_err(|_| name.to_string())
}

#[test]
fn our_answers_are_the_recorded_ones() {
    // Never write our answers beside the recordings.
    std::env::set_var("INSTA_UPDATE", "no");
    std::env::set_var("INSTA_FORCE_PASS", "0");
    let full = std::env::var("RECORDED").is_ok_and(|value| value == "full");
    let version: u32 = std::env::var("RECORDED_PG").map_or(15, |text| text.parse().expect("a version"));
    let (directory, allow) = (recorded::directory(version), allow_list());
    let mut side = Side::new(Kind::Ours, version).unwrap();
    let mut different = Vec::new();
    let recorded_states = STATES.iter().enumerate().take_while(|(number, state)| {
        directory.join(format!("{}.snap", recorded::name(*number, state.name, "files"))).exists()
    });
    let mut visited = 0;
    let mut before: BTreeMap<&str, Answers> = BTreeMap::new();
    for (number, state) in recorded_states.take(if full { STATES.len() } else { SHORT }) {
        visited += 1;
        side.enter(state).unwrap_or_else(|e| panic!("{}: {e}\n{}", state.name, side.lab.report(30)));
        let mut asked: Vec<Probe> = probes::of_a_state(state.asks, true);
        if number == 0 {
            asked.extend(cli::help(true));
        }
        asked.retain(|probe| {
            directory.join(format!("{}.snap", recorded::name(number, state.name, probe.area))).exists()
        });
        let areas = recorded::areas(&asked);
        let earlier = |area: &str| before.get(area).cloned().unwrap_or_default();
        let read = |area: &str| {
            recorded::read(version, &recorded::name(number, state.name, area), &earlier(area)).unwrap()
        };
        let wanted: BTreeMap<&str, Answers> = areas.iter().map(|area| (*area, read(area))).collect();
        let answers = recorded::met(&side, &asked, &wanted, &allow).unwrap();
        for area in areas {
            let ours = recorded::of_area(&asked, &answers, area);
            let name = recorded::name(number, state.name, area);
            different.extend(assert_snapshot(&directory, &name, &ours, &earlier(area)).err());
        }
        before.extend(wanted);
    }
    assert!(visited > 0, "no state was recorded");
    assert!(different.is_empty(), "these snapshots differ: {different:#?}");
}

/// A change that must be seen: its name, the area of answers that it is tried on, a pattern, and what the first
/// match becomes.
type Mutation = (&'static str, &'static str, &'static str, &'static str);

const MUTATIONS: &[Mutation] = &[
    ("two JSON keys swapped", "REST", r#"("\w+": (?:"[^"]*"|\w+)), ("\w+": (?:"[^"]*"|\w+))"#, "$2, $1"),
    ("a space less after a colon", "REST", r#"": "#, "\":"),
    ("a space less after a comma", "REST", r#", ""#, ",\""),
    ("a number as a string", "REST", r#""(\w+)": (\d+|N)\b"#, "\"$1\": \"$2\""),
    ("a number with a fraction", "REST", r#""(\w+)": (\d+|N)\b"#, "\"$1\": $2.5"),
    ("null instead of a number", "REST", r#""(\w+)": (\d+|N)\b"#, "\"$1\": null"),
    ("another status", "REST", r"^HTTP/1.0 200", "HTTP/1.0 503"),
    ("another version of HTTP", "REST", r"^HTTP/1.0", "HTTP/1.1"),
    ("a header less", "REST", r"Content-Type: [^\r]*\r\n", ""),
    ("a header's name in small letters", "REST", "Content-Type", "content-type"),
    ("two headers swapped", "REST", r"(Server: [^\r]*\r\n)(Date: [^\r]*\r\n)", "$2$1"),
    ("a bare newline in the head", "REST", "\r\n", "\n"),
    ("a time without its zone", "REST", r"(DD\.DDDDDD)\+00:00", "$1"),
    ("a time with T", "REST", r"DDDD-DD-DD DD", "DDDD-DD-DDTDD"),
    ("a metric's type", "REST", r"# TYPE (\w+) gauge", "# TYPE $1 counter"),
    ("a table's border", "patronictl", r"--\+\n", "-+\n"),
    ("a table's corner", "patronictl", r"\+\n", "|\n"),
    ("a column's alignment", "patronictl", r"\|  (\d+) \|", "| $1  |"),
    ("a cell's blank", "patronictl", r" \|\n", "|\n"),
    ("a tab as a blank", "patronictl", "\t", " "),
    ("a newline less at the end of stdout", "patronictl", r"\n\n--- stderr", "\n--- stderr"),
    ("another exit code", "patronictl", r"^exit code 0", "exit code 1"),
    ("a capital letter", "patronictl", "Error: ", "error: "),
    ("a message on stdout", "patronictl", r"\n--- stderr\n(.+\n)$", "\n$1--- stderr\n"),
    ("the indentation of YAML", "patronictl", r"\n  (\w+:)", "\n    $1"),
    ("a longer width of a number in a table", "patronictl", r"H/HHHHHHH \|", "H/HHHHHHHH |"),
    ("a compact separator as a wide one", "DCS", r#"":"#, "\": "),
    ("two keys of a DCS value swapped", "DCS", r#"("\w+":"[^"]*"),("\w+":"[^"]*")"#, "$2,$1"),
    ("a number of a DCS value as a string", "DCS", r#"":(\d+|N)\b"#, "\":\"$1\""),
    ("a lost lease", "DCS", "lease true", "lease false"),
    ("a newline less at the end of a file", "files", r"\n\z", ""),
    ("a file's mode", "files", "^mode 600", "mode 644"),
    ("a quote in postgresql.conf", "files", "= '(.*)'", "= $1"),
    ("two settings swapped", "files", r"(?m)^(\w+ = .*\n)(\w+ = .*\n)", "$2$1"),
    ("a status line's comma", "log", ", a secondary, ", " a secondary, "),
    ("a status line's brackets", "log", r"\((node\d)\)", "$1"),
    ("two callbacks swapped", "files", r"(on_\w+ .*\n)(on_\w+ .*\n)", "$2$1"),
];

/// Feeds changed answers through normalisation and comparison, as a run of ours would.
#[test]
fn every_kind_of_change_is_seen() {
    let (allow, known) = (allow_list(), Known::default());
    let changes: Vec<(&Mutation, Regex)> = MUTATIONS.iter().map(|m| (m, Regex::new(m.2).unwrap())).collect();
    let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
    // Many probes have the same answer in many states; one of each is enough.
    let mut seen = BTreeSet::new();
    let mut files: Vec<_> =
        std::fs::read_dir(recorded::directory(15)).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut before: BTreeMap<String, Answers> = BTreeMap::new();
    for file in files {
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let area = stem.rsplit('.').next().unwrap().to_string();
        let last = before.entry(area.clone()).or_default();
        *last = recorded::parse(&std::fs::read_to_string(&file).unwrap(), last).unwrap();
        for (name, answer) in last.clone() {
            if !seen.insert((area.clone(), answer.clone())) {
                continue;
            }
            assert_eq!(known.normalise(&answer), answer, "{stem}: {name}: normalising twice changes it");
            for ((what, its_area, _, by), pattern) in &changes {
                let changed = pattern.replace(&answer, *by);
                if its_area.to_lowercase() != area || changed == answer {
                    continue;
                }
                // The order of the members in it is the one that may differ (allow.tsv).
                if name.contains("failsafe") && what.contains("swapped") {
                    continue;
                }
                let pair = [known.normalise(&changed), answer.clone()];
                assert!(
                    !allow.same(its_area, &name, &pair),
                    "{stem}: {name}: {what} is not seen:\n{changed}"
                );
                *tried.entry(what).or_default() += 1;
            }
        }
    }
    for (what, ..) in MUTATIONS {
        assert!(tried.get(what).is_some_and(|count| *count > 0), "{what} could be tried on no recording");
    }
}

/// A recording must not tell of the machine that made it.
#[test]
fn recordings_carry_no_host_paths_and_no_secrets() {
    let mut files = vec![host::repository().join("fixtures/recorded")];
    let host_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_string();
    let mut secrets = vec!["/home/", "/root", "/work/", "/opt/"];
    // A short name, or one that any machine has, proves nothing.
    if host_name.len() > 5 && host_name != "localhost" {
        secrets.push(&host_name);
    }
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        for secret in &secrets {
            assert!(!text.contains(secret), "{}: {secret}", path.display());
        }
    }
}
