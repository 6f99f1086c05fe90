//! The difference that `edit-config` shows: plain, or coloured through a pager
//! on a terminal (surface-api-ctl K39, K40).
//!
//! The colours and the comparison by words follow ydiff 1.4.2 (BSD-3-Clause).

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use pyfmt::side_by_side::{pairs, Pair};

use super::editor::which;
use crate::click::CliError;

const RESET: &str = "\x1b[0m";
const REVERSE: &str = "\x1b[7m";
const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const BLUE: &str = "\x1b[34m";

/// Shows what changes between two texts.
///
/// # Errors
/// On a terminal without a pager.
pub fn show(before: &str, after: &str) -> Result<(), CliError> {
    let (before, after) = (pyfmt::diff::lines(before), pyfmt::diff::lines(after));
    let lines = pyfmt::diff::unified(&before, &after);
    if crate::out::is_terminal() {
        return page(&coloured(&lines));
    }
    for line in &lines {
        crate::out::echo(line.trim_end_matches('\n'));
    }
    Ok(())
}

/// The unified diff in colours.
fn coloured(lines: &[String]) -> String {
    let mut out = String::new();
    let mut hunk: (Vec<&str>, Vec<&str>) = Default::default();
    for (index, line) in lines.iter().enumerate() {
        if index < 2 {
            paint(&mut out, YELLOW, line);
        } else if line.starts_with("@@ ") {
            flush(&mut out, &mut hunk);
            paint(&mut out, BLUE, line);
        } else if let Some(text) = line.strip_prefix('-') {
            hunk.0.push(text);
        } else if let Some(text) = line.strip_prefix('+') {
            hunk.1.push(text);
        } else {
            let text = line.strip_prefix(' ').unwrap_or(line);
            hunk.0.push(text);
            hunk.1.push(text);
        }
    }
    flush(&mut out, &mut hunk);
    out
}

fn paint(out: &mut String, colour: &str, text: &str) {
    out.push_str(&format!("{colour}{text}{RESET}"));
}

/// A hunk: lines that belong together are compared word by word.
fn flush(out: &mut String, (old, new): &mut (Vec<&str>, Vec<&str>)) {
    for pair in pairs(old, new) {
        match pair {
            Pair::Same(line) => paint(out, RESET, &format!(" {line}")),
            Pair::Removed(line) => paint(out, RED, &format!("-{line}")),
            Pair::Added(line) => paint(out, GREEN, &format!("+{line}")),
            Pair::Changed(a, b) => {
                let (a, b) = by_words(a, b);
                paint(out, RED, "-");
                paint(out, RED, &a);
                paint(out, GREEN, "+");
                paint(out, GREEN, &b);
            }
        }
    }
    old.clear();
    new.clear();
}

/// Two lines with the words in reverse colours that differ.
fn by_words(old: &str, new: &str) -> (String, String) {
    let (a, b) = (words(old), words(new));
    let (mut left, mut right) = (String::new(), String::new());
    for (same, x, y) in runs(&a, &b) {
        if same {
            left.push_str(&x);
            right.push_str(&y);
            continue;
        }
        if !x.is_empty() {
            left.push_str(&format!("{REVERSE}{RED}{x}{RESET}{RED}"));
        }
        if !y.is_empty() {
            right.push_str(&format!("{REVERSE}{GREEN}{y}{RESET}{GREEN}"));
        }
    }
    (left, right)
}

/// The runs of words that are the same in both lines, and of those that differ.
fn runs(a: &[String], b: &[String]) -> Vec<(bool, String, String)> {
    let mut out: Vec<(bool, String, String)> = Vec::new();
    let mut add = |same: bool, x: &str, y: &str| match out.last_mut() {
        Some(last) if last.0 == same => {
            last.1.push_str(x);
            last.2.push_str(y);
        }
        _ => out.push((same, x.to_owned(), y.to_owned())),
    };
    let mut at = 0;
    for change in pyfmt::diff::unified(a, b).iter().skip(2) {
        let (sign, word) = change.split_at(1);
        match sign {
            // A hunk starts here: what was left out before it is the same.
            "@" => {
                let start = hunk_start(change, a.len());
                for word in a.iter().take(start).skip(at) {
                    add(true, word, word);
                }
                at = start;
            }
            "-" => {
                add(false, word, "");
                at += 1;
            }
            "+" => add(false, "", word),
            _ => {
                add(true, word, word);
                at += 1;
            }
        }
    }
    for word in a.iter().skip(at) {
        add(true, word, word);
    }
    out
}

/// The index in the old text at which `@@ -START,COUNT ...` starts; an empty
/// range names the line before it.
fn hunk_start(header: &str, length: usize) -> usize {
    let range = header.split(' ').nth(1).unwrap_or_default().trim_start_matches('-');
    let (start, count) = range.split_once(',').unwrap_or((range, "1"));
    let start: usize = start.parse().unwrap_or(length);
    if count == "0" {
        start
    } else {
        start.saturating_sub(1)
    }
}

/// `[A-Z]{2,}|[A-Z][a-z]+|[a-z]{2,}|[A-Za-z0-9]+|\s|.`, by hand.
fn words(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(first) = chars.get(at) {
        let run = |from: usize, is: fn(&char) -> bool| chars.iter().skip(from).take_while(|c| is(c)).count();
        let upper = run(at, char::is_ascii_uppercase);
        let lower = run(at, char::is_ascii_lowercase);
        let after_capital = run(at + 1, char::is_ascii_lowercase);
        let length = if upper >= 2 {
            upper
        } else if upper == 1 && after_capital >= 1 {
            1 + after_capital
        } else if lower >= 2 {
            lower
        } else if first.is_ascii_alphanumeric() {
            run(at, char::is_ascii_alphanumeric)
        } else {
            1
        };
        out.push(chars.iter().skip(at).take(length).collect());
        at += length.max(1);
    }
    out
}

/// Only the base name of `PAGER` is used, and without its options.
fn pager(variable: Option<&str>) -> Option<String> {
    let known = |name: &&str| which(name).is_some();
    let found = variable.into_iter().chain(["less", "more"]).find(known)?;
    Path::new(found).file_name().map(|n| n.to_string_lossy().into_owned())
}

fn page(text: &str) -> Result<(), CliError> {
    let variable = std::env::var("PAGER").ok();
    let Some(pager) = pager(variable.as_deref()) else {
        return Err(CliError::msg(
            "No pager could be found. Either set PAGER environment variable with your pager or \
             install either \"less\" or \"more\" in the host.",
        ));
    };
    let mut command = Command::new(&pager);
    if pager == "less" && !std::env::var("LESS").is_ok_and(|v| !v.is_empty()) {
        command.args(["-FRSX", "--shift 1"]);
    }
    let crash = |e: std::io::Error| CliError::Crash(format!("OSError: {e}: '{pager}'"));
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(crash)?;
    if let Some(mut input) = child.stdin.take() {
        // A pager that is left early does not want the rest.
        let _ = input.write_all(text.as_bytes());
    }
    child.wait().map_err(crash)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_word() {
        let lines = ["--- \n", "+++ \n", "@@ -1,2 +1,2 @@\n", " a: 1\n", "-ttl: 30\n", "+ttl: 31\n"];
        let lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        assert_eq!(
            coloured(&lines),
            "\x1b[33m--- \n\x1b[0m\x1b[33m+++ \n\x1b[0m\x1b[34m@@ -1,2 +1,2 @@\n\x1b[0m\x1b[0m a: 1\n\x1b[0m\
             \x1b[31m-\x1b[0m\x1b[31mttl: \x1b[7m\x1b[31m30\x1b[0m\x1b[31m\n\x1b[0m\
             \x1b[32m+\x1b[0m\x1b[32mttl: \x1b[7m\x1b[32m31\x1b[0m\x1b[32m\n\x1b[0m"
        );
    }

    #[test]
    fn splits_into_words() {
        assert_eq!(words("maxWALSize: 1GB\n"), ["max", "WALS", "ize", ":", " ", "1GB", "\n"]);
    }
}
