//! Shell completion by click's protocol: the variable `_PATRONICTL_COMPLETE` says
//! `SHELL_source` (print the script that the shell sources) or `SHELL_complete` (print
//! the completions of `COMP_WORDS` at `COMP_CWORD`) (surface-api-ctl B9).
//!
//! The scripts in `completion/` are what click 8.5.1 prints (BSD-3-Clause).

use super::error::CliError;
use super::parser;
use super::spec::{Command, Group, Kind, Opt};
use super::textwrap::shorten;

/// A shell that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Pwsh,
}

impl Shell {
    fn parse(name: &str) -> Option<Shell> {
        match name {
            "bash" => Some(Shell::Bash),
            "zsh" => Some(Shell::Zsh),
            "fish" => Some(Shell::Fish),
            "powershell" => Some(Shell::Pwsh),
            _ => None,
        }
    }

    fn source(self) -> &'static str {
        match self {
            Shell::Bash => include_str!("completion/bash.txt"),
            Shell::Zsh => include_str!("completion/zsh.txt"),
            Shell::Fish => include_str!("completion/fish.txt"),
            Shell::Pwsh => include_str!("completion/powershell.txt"),
        }
    }
}

/// One completion.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    value: String,
    /// `plain`, or `file` for "let the shell complete file names".
    kind: &'static str,
    help: Option<String>,
}

/// The script for the hidden option `--completion SHELL`, if the shell is known.
pub fn script(shell: &str) -> Option<&'static str> {
    Shell::parse(shell).map(Shell::source)
}

/// What the program prints and its exit code, when the variable is set.
///
/// # Errors
/// The variables of a completion are missing or wrong.
pub fn answer(
    group: &Group,
    instruction: &str,
    env: impl Fn(&str) -> Option<String>,
) -> Result<(String, i32), CliError> {
    let (shell, action) = instruction.split_once('_').unwrap_or((instruction, ""));
    match (Shell::parse(shell), action) {
        (Some(shell), "source") => Ok((shell.source().to_owned(), 0)),
        (Some(shell), "complete") => {
            let (args, incomplete) = words(shell, env)?;
            let items = completions(group, args, &incomplete);
            let lines: Vec<String> = items.iter().map(|item| shown(shell, item)).collect();
            Ok((format!("{}\n", lines.join("\n")), 0))
        }
        _ => Ok((String::new(), 1)),
    }
}

/// The complete words after the program's name, and the word to complete.
fn words(shell: Shell, env: impl Fn(&str) -> Option<String>) -> Result<(Vec<String>, String), CliError> {
    let variable = |name: &str| {
        env(name).ok_or_else(|| CliError::Crash(format!("KeyError: {}", pyfmt::value::str_repr(name))))
    };
    let all = split(&variable("COMP_WORDS")?);
    let current = variable("COMP_CWORD")?;
    if shell == Shell::Fish {
        let incomplete = split(&current).into_iter().next().unwrap_or_default();
        let mut args: Vec<String> = all.into_iter().skip(1).collect();
        if !incomplete.is_empty() && args.last() == Some(&incomplete) {
            args.pop();
        }
        return Ok((args, incomplete));
    }
    let index = pyfmt::int::parse_i64(&current).and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
        let quoted = pyfmt::value::str_repr(&current);
        CliError::Crash(format!("ValueError: invalid literal for int() with base 10: {quoted}"))
    })?;
    let incomplete = all.get(index).cloned().unwrap_or_default();
    Ok((all.into_iter().take(index).skip(1).collect(), incomplete))
}

/// Splits as a shell does; a quote that is left open, or a backslash at the end,
/// ends with the text.
fn split(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some('"'), '\\') => {
                let word = word.get_or_insert_default();
                match chars.next() {
                    Some(next @ ('"' | '\\')) => word.push(next),
                    Some(next) => word.extend(['\\', next]),
                    None => {}
                }
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, ' ' | '\t' | '\r' | '\n') => out.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    out
}

fn completions(group: &Group, mut args: Vec<String>, incomplete: &str) -> Vec<Item> {
    let root = parser::lenient(&group.root, &args, false);
    let named = root.left.split_first().and_then(|(name, rest)| Some((group.find(name)?, rest)));
    let (command, parsed) = match named {
        Some((command, rest)) => (Some(command), parser::lenient(command, rest, true)),
        None => (None, root),
    };
    let spec = command.unwrap_or(&group.root);
    let is_option = |word: &str| word.starts_with('-');
    // Shells differ in what they do with `--option=value`.
    let mut incomplete = incomplete;
    if incomplete == "=" {
        incomplete = "";
    } else if let Some((name, value)) = incomplete.split_once('=').filter(|_| is_option(incomplete)) {
        args.push(name.to_owned());
        incomplete = value;
    }
    let by_command = || of_command(group, command, &parsed.seen, incomplete);
    if !args.iter().any(|word| word == "--") && is_option(incomplete) {
        return by_command();
    }
    let last = args.last().filter(|word| is_option(word));
    let waiting =
        |opt: &&Opt| opt.kind != Kind::Flag && last.is_some_and(|w| opt.decls.contains(&w.as_str()));
    if let Some(opt) = spec.all_options().find(waiting) {
        return of_option(opt, incomplete);
    }
    let given = if parsed.failed { 0 } else { parsed.left.len() };
    if spec.args.iter().enumerate().any(|(index, arg)| arg.many || index >= given) {
        // Names of clusters and members are not known here.
        return Vec::new();
    }
    by_command()
}

fn of_option(opt: &Opt, incomplete: &str) -> Vec<Item> {
    let plain = |value: &str| Item { value: value.to_owned(), kind: "plain", help: None };
    match opt.kind {
        Kind::Choice(words) => words.iter().filter(|w| w.starts_with(incomplete)).map(|w| plain(w)).collect(),
        Kind::File => vec![Item { kind: "file", ..plain(incomplete) }],
        _ => Vec::new(),
    }
}

/// The names of commands, and the options that may still be given.
fn of_command(group: &Group, command: Option<&Command>, seen: &[&str], incomplete: &str) -> Vec<Item> {
    let item = |value: &str, help: String| Item { value: value.to_owned(), kind: "plain", help: Some(help) };
    let mut items = Vec::new();
    if command.is_none() {
        let fitting = group.commands.iter().filter(|c| c.name.starts_with(incomplete));
        items.extend(fitting.map(|c| item(c.name, shorten(c.help, 45))));
    }
    if incomplete.starts_with(|c: char| !c.is_alphanumeric()) {
        let spec = command.unwrap_or(&group.root);
        for opt in spec.shown_options().filter(|o| o.multiple || !seen.contains(&o.name)) {
            let fitting = opt.decls.iter().filter(|d| d.starts_with(incomplete));
            items.extend(fitting.map(|d| item(d, opt.help.to_owned())));
        }
    }
    items
}

fn shown(shell: Shell, item: &Item) -> String {
    let Item { value, kind, help } = item;
    let help = help.as_deref().filter(|h| !h.is_empty());
    match (shell, help) {
        (Shell::Bash, _) | (Shell::Fish, None) => format!("{kind},{value}"),
        (Shell::Fish, Some(help)) => format!("{kind},{value}\t{help}"),
        (Shell::Zsh, Some(help)) => format!("{kind}\n{}\n{help}", value.replace(':', "\\:")),
        (_, help) => format!("{kind}\n{value}\n{}", help.unwrap_or("_")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::commands::table::GROUP;

    fn bash(words: &str) -> Vec<String> {
        let count = (words.split(' ').count() - 1).to_string();
        let env = |name: &str| Some(if name == "COMP_WORDS" { words.to_owned() } else { count.clone() });
        let (text, code) = answer(&GROUP, "bash_complete", env).unwrap();
        assert_eq!(code, 0);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn completes() {
        assert_eq!(
            bash("patronictl re"),
            ["plain,reinit", "plain,reload", "plain,remove", "plain,restart", "plain,resume"]
        );
        assert_eq!(bash("patronictl list -f js"), ["plain,json"]);
        assert_eq!(bash("patronictl list --format=t"), ["plain,tsv"]);
        assert_eq!(bash("patronictl -k --in"), [""]);
        assert_eq!(bash("patronictl query -f x"), ["file,x"]);
        assert_eq!(bash("patronictl list demo"), [""]);
        assert_eq!(bash("patronictl edit-config -s a=1 --s"), ["plain,--set"]);
    }

    #[test]
    fn words_of_a_shell() {
        assert_eq!(split("a 'b c' \"d\\\"e\" f\\ g"), ["a", "b c", "d\"e", "f g"]);
        assert_eq!(split("a 'b c"), ["a", "b c"]);
        assert_eq!(split("a \\"), ["a", ""]);
        assert_eq!(script("fish").map(str::is_empty), Some(false));
        assert_eq!(script("tcsh"), None);
    }
}
