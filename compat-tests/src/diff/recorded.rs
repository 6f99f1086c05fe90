//! Recordings of what the reference answers in each state, and how ours are held against them.
//!
//! One file a state and area, in the form of insta's snapshots, in `fixtures/recorded/pg<version>`. Below insta's
//! head, each answer stands under the names of all probes that got it (`=== NAME`), a line of it after `|`, its last
//! line after `:` if no newline ends it (`:` alone is an empty answer); `=` stands for the answer that the same probe
//! got in the last state before that has the area. Backslashes and control characters are escaped, so that a carriage return
//! or a blank at a line's end can be seen, and nothing of an answer is white space that a reader may trim.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::lab::{host, Result};

use super::allow::AllowList;
use super::{Probe, Side};

/// Longer than a cycle of the test cluster's clusters: what is at rest looks the same after it.
const CYCLE: Duration = Duration::from_millis(2500);
/// How often a probe is asked at most until it answers the same twice, or as recorded.
const PATIENCE: usize = 8;

/// Answers by the probe's name, in the order of asking.
pub type Answers = Vec<(String, String)>;

/// Where the recordings of a PostgreSQL version are.
pub fn directory(version: u32) -> PathBuf {
    host::repository().join(format!("fixtures/recorded/pg{version}"))
}

/// The snapshot's name of a state's number and name, and an area; it sorts as the states do.
pub fn name(number: usize, state: &str, area: &str) -> String {
    let words: Vec<String> = state
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    format!("{number:02}-{}.{}", words.join("-"), area.to_lowercase())
}

/// The answer to `name`.
fn found<'a>(answers: &'a Answers, name: &str) -> Option<&'a str> {
    answers.iter().find(|(other, _)| other == name).map(|(_, answer)| answer.as_str())
}

/// The text of a snapshot; `before` are the answers of the same area in the last state that has it.
pub fn text(answers: &Answers, before: &Answers) -> String {
    let mut order: Vec<&str> = Vec::new();
    let mut names: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut same: Vec<&str> = Vec::new();
    for (name, answer) in answers {
        if found(before, name) == Some(answer) {
            same.push(name);
            continue;
        }
        let group = names.entry(answer).or_default();
        if group.is_empty() {
            order.push(answer);
        }
        group.push(name);
    }
    let mut text = String::new();
    for name in &same {
        let _ = writeln!(text, "=== {}", escaped(name));
    }
    if !same.is_empty() {
        text.push_str("=\n");
    }
    for answer in order {
        for name in names.get(answer).into_iter().flatten() {
            let _ = writeln!(text, "=== {}", escaped(name));
        }
        if answer.is_empty() {
            text.push_str(":\n");
        }
        for line in answer.split_inclusive('\n') {
            match line.strip_suffix('\n') {
                Some(line) => drop(writeln!(text, "|{}", escaped(line))),
                None => drop(writeln!(text, ":{}", escaped(line))),
            }
        }
    }
    text
}

/// `line` with what is hard to see made visible.
fn escaped(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let body = line.trim_end_matches(' ');
    for character in body.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            control if control.is_control() => text.extend(control.escape_default()),
            other => text.push(other),
        }
    }
    text.extend(std::iter::repeat_n("\\u{20}", line.len() - body.len()));
    text
}

/// The opposite of [`escaped`].
fn unescaped(line: &str) -> Result<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            text.push(character);
            continue;
        }
        match rest.next() {
            Some('\\') => text.push('\\'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('u') => {
                let code: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                text.push(char::from_u32(u32::from_str_radix(&code, 16)?).ok_or("no character")?);
            }
            other => return Err(format!("escape {other:?} in {line}").into()),
        }
    }
    Ok(text)
}

/// Reads a snapshot's text, with or without insta's head. The order is that of the file.
///
/// # Errors
/// The text is not of the form that [`text`] writes after `before`.
pub fn parse(snapshot: &str, before: &Answers) -> Result<Answers> {
    let body = match snapshot.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")) {
        Some((_, body)) => body,
        None => snapshot,
    };
    let mut answers: Answers = Vec::new();
    let (mut names, mut answer): (Vec<String>, String) = (Vec::new(), String::new());
    let mut in_answer = false;
    let mut finish = |names: &mut Vec<String>, answer: &mut String, same: bool| -> Result<()> {
        for name in names.drain(..) {
            let text = match same {
                true => found(before, &name).ok_or_else(|| format!("no earlier answer to {name}"))?,
                false => answer,
            };
            answers.push((name, text.to_string()));
        }
        answer.clear();
        Ok(())
    };
    for line in body.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            if in_answer {
                finish(&mut names, &mut answer, false)?;
            }
            in_answer = false;
            names.push(unescaped(name)?);
        } else if line == "=" {
            finish(&mut names, &mut answer, true)?;
        } else if let Some(line) = line.strip_prefix('|') {
            answer.push_str(&unescaped(line)?);
            answer.push('\n');
            in_answer = true;
        } else if let Some(line) = line.strip_prefix(':') {
            answer.push_str(&unescaped(line)?);
            in_answer = true;
        } else if !line.is_empty() {
            return Err(format!("unexpected line {line}").into());
        }
    }
    finish(&mut names, &mut answer, false)?;
    Ok(answers)
}

/// Reads a recording; for `before` see [`text`].
///
/// # Errors
/// There is none, or it cannot be read.
pub fn read(version: u32, name: &str, before: &Answers) -> Result<Answers> {
    let file = directory(version).join(format!("{name}.snap"));
    let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    parse(&text, before).map_err(|e| format!("{}: {e}", file.display()).into())
}

/// Writes a recording; for `before` see [`text`].
///
/// # Errors
/// The file cannot be written.
pub fn write(version: u32, name: &str, state: &str, answers: &Answers, before: &Answers) -> Result<()> {
    let directory = directory(version);
    std::fs::create_dir_all(&directory)?;
    let head = format!(
        "---\nsource: compat-tests/tests/recorded.rs\ndescription: \"Patroni 4.1.5 on PostgreSQL {version}: {state}. Made by fixtures/record, never by hand.\"\n---\n"
    );
    Ok(std::fs::write(directory.join(format!("{name}.snap")), head + &text(answers, before))?)
}

/// The answers of one area.
pub fn of_area(probes: &[Probe], answers: &[String], area: &str) -> Answers {
    let both = probes.iter().zip(answers).filter(|(probe, _)| probe.area == area);
    both.map(|(probe, answer)| (probe.name.clone(), answer.clone())).collect()
}

/// The areas of some probes, each once.
pub fn areas(probes: &[Probe]) -> Vec<&'static str> {
    let mut areas: Vec<&'static str> = Vec::new();
    for probe in probes {
        if !areas.contains(&probe.area) {
            areas.push(probe.area);
        }
    }
    areas
}

/// Asks all until each has answered the same twice, a cycle apart.
///
/// # Errors
/// Some do not come to rest: their names and last two answers.
pub fn settled(side: &Side, probes: &[Probe]) -> Result<Vec<String>> {
    let all: Vec<usize> = (0..probes.len()).collect();
    let mut answers =
        super::each(&all, |index| probes.get(index).map_or_else(String::new, |probe| side.ask(probe)));
    let mut open = all;
    let mut unsteady = String::new();
    for _ in 0..PATIENCE {
        std::thread::sleep(CYCLE);
        let mut left = Vec::new();
        unsteady.clear();
        let again =
            super::each(&open, |index| probes.get(index).map_or_else(String::new, |probe| side.ask(probe)));
        for (index, now) in open.into_iter().zip(again) {
            let (Some(probe), Some(last)) = (probes.get(index), answers.get_mut(index)) else { continue };
            if now != *last {
                let _ = writeln!(unsteady, "{}:\n{last:?}\n{now:?}", probe.name);
                *last = now;
                left.push(index);
            }
        }
        if left.is_empty() {
            return Ok(answers);
        }
        open = left;
    }
    Err(format!("these do not come to rest:\n{unsteady}").into())
}

/// Asks all until each has answered as recorded, or patience is over.
///
/// # Errors
/// A probe was not recorded.
pub fn met(
    side: &Side,
    probes: &[Probe],
    recorded: &BTreeMap<&str, Answers>,
    allow: &AllowList,
) -> Result<Vec<String>> {
    let wanted = probes.iter().map(|probe| {
        let all = recorded.get(probe.area).and_then(|all| all.iter().find(|(name, _)| *name == probe.name));
        all.map(|(_, answer)| answer).ok_or_else(|| format!("{} {} was not recorded", probe.area, probe.name))
    });
    let wanted: Vec<&String> = wanted.collect::<std::result::Result<_, String>>()?;
    let pairs: Vec<(&Probe, &String)> = probes.iter().zip(wanted).collect();
    let mut open: Vec<usize> = (0..pairs.len()).collect();
    let mut answers = vec![String::new(); pairs.len()];
    for _ in 0..PATIENCE {
        let now = super::each(&open, |index| {
            pairs.get(index).map_or_else(String::new, |(probe, _)| side.ask(probe))
        });
        let mut left = Vec::new();
        for (index, answer) in open.into_iter().zip(now) {
            let (Some((probe, wanted)), Some(kept)) = (pairs.get(index), answers.get_mut(index)) else {
                continue;
            };
            if allow.same(probe.area, &probe.name, &[answer.clone(), (*wanted).clone()]) {
                kept.clone_from(wanted);
            } else {
                *kept = answer;
                left.push(index);
            }
        }
        if left.is_empty() {
            break;
        }
        open = left;
        std::thread::sleep(super::AGAIN);
    }
    Ok(answers)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_keeps_every_byte() {
        let one = |name: &str, answer: &str| (name.to_string(), answer.to_string());
        let answers = vec![
            one("GET /", "HTTP/1.0 200 OK\r\n\r\n{\"a\": 1}"),
            one("file", "a \\ b  \n\n\tc\n"),
            one("empty", ""),
            one("newline", "\n"),
            one("HEAD \u{e9}", "=== x\n|y\n:z\u{1b}[0m \n "),
        ];
        let none = Vec::new();
        assert_eq!(parse(&text(&answers, &none), &none).unwrap(), answers);
        for line in text(&answers, &none).lines() {
            assert_eq!(line, line.trim_end());
        }
    }

    #[test]
    fn equal_answers_stand_once() {
        let one = |name: &str| (name.to_string(), "same\n".to_string());
        let none = Vec::new();
        assert_eq!(text(&vec![one("a"), one("b")], &none), "=== a\n=== b\n|same\n");
        let head = "---\nsource: x\n---\n";
        assert_eq!(parse(&format!("{head}=== a\n=== b\n|same\n"), &none).unwrap(), vec![one("a"), one("b")]);
    }

    #[test]
    fn an_answer_of_the_state_before_stands_there() {
        let one = |name: &str, answer: &str| (name.to_string(), answer.to_string());
        let before = vec![one("a", "1\n"), one("b", "2\n"), one("c", "=")];
        let now = vec![one("a", "1\n"), one("c", "="), one("b", "3\n"), one("d", "=")];
        let text = text(&now, &before);
        assert_eq!(text, "=== a\n=== c\n=\n=== b\n|3\n=== d\n:=\n");
        assert_eq!(parse(&text, &before).unwrap(), now);
        assert!(parse(&text, &Vec::new()).is_err());
    }

    #[test]
    fn names_sort_as_the_states() {
        assert_eq!(name(3, "paused, the DCS is down", "REST"), "03-paused-the-dcs-is-down.rest");
    }
}
