//! Parsing of arguments by click's rules: options anywhere between the
//! arguments, `--opt=v`, `-ov`, clusters of short options, no abbreviations.

use std::collections::VecDeque;
use std::io::Read;

use pyfmt::oserror;
use pyfmt::value::str_repr;

use super::close::suggestion;
use super::error::CliError;
use super::spec::{Arg, Command, Kind, Opt};
use super::values::{Val, Values};

/// One option as it was met: which, and its raw value if it takes one.
struct Seen<'a> {
    opt: &'a Opt,
    value: Option<String>,
}

struct Scan<'a> {
    command: &'a Command,
    left: VecDeque<String>,
    positional: Vec<String>,
    seen: Vec<Seen<'a>>,
}

/// Parses the arguments of a command; all words must be used up.
///
/// # Errors
/// Usage errors, and [`CliError::Help`] when `--help` was among the options.
pub fn parse(command: &Command, words: &[String]) -> Result<Values, CliError> {
    let mut scan = Scan::new(command, words);
    scan.run(true)?;
    let words = scan.positional;
    help_first(&scan.seen)?;
    let mut values = Values::default();
    convert_options(&mut values, &scan.seen)?;
    let extra = assign_args(&mut values, command.args, words)?;
    match extra.as_slice() {
        [] => Ok(values),
        [one] => Err(CliError::Usage(format!("Got unexpected extra argument ({one})"))),
        many => Err(CliError::Usage(format!("Got unexpected extra arguments ({})", many.join(" ")))),
    }
}

/// Parses the program's own options, which end at the first word that is not
/// one; gives back the values and the words left.
///
/// # Errors
/// As [`parse`].
pub fn parse_group(root: &Command, words: &[String]) -> Result<(Values, Vec<String>), CliError> {
    let mut scan = Scan::new(root, words);
    scan.run(false)?;
    help_first(&scan.seen)?;
    let mut values = Values::default();
    convert_options(&mut values, &scan.seen)?;
    Ok((values, scan.positional))
}

/// What [`lenient`] could make of words.
pub struct Lenient<'a> {
    /// The names of the options that were given.
    pub seen: Vec<&'a str>,
    /// The words that are no options.
    pub left: Vec<String>,
    /// Whether something was wrong; what comes after it was not looked at.
    pub failed: bool,
}

/// Takes what can be taken before the first mistake, for completion.
pub fn lenient<'a>(command: &'a Command, words: &[String], interspersed: bool) -> Lenient<'a> {
    let mut scan = Scan::new(command, words);
    let failed = scan.run(interspersed).is_err();
    Lenient { seen: scan.seen.iter().map(|s| s.opt.name).collect(), left: scan.positional, failed }
}

fn help_first(seen: &[Seen<'_>]) -> Result<(), CliError> {
    if seen.iter().any(|s| s.opt.name == "help") {
        return Err(CliError::Help);
    }
    Ok(())
}

impl<'a> Scan<'a> {
    fn new(command: &'a Command, words: &[String]) -> Scan<'a> {
        Scan { command, left: words.iter().cloned().collect(), positional: Vec::new(), seen: Vec::new() }
    }

    fn run(&mut self, interspersed: bool) -> Result<(), CliError> {
        while let Some(word) = self.left.pop_front() {
            if word == "--" {
                break;
            }
            if word.len() > 1 && word.starts_with('-') {
                self.option(&word)?;
            } else {
                self.positional.push(word);
                if !interspersed {
                    break;
                }
            }
        }
        self.positional.extend(self.left.drain(..));
        Ok(())
    }

    fn find(&self, decl: &str) -> Option<&'a Opt> {
        self.command.all_options().find(|o| o.decls.contains(&decl))
    }

    fn option(&mut self, word: &str) -> Result<(), CliError> {
        let (name, explicit) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if name.starts_with("--") {
            return match self.find(name) {
                Some(opt) => self.long(opt, name, explicit),
                None => {
                    let known = self.command.shown_options().flat_map(|o| o.decls.iter().copied());
                    let hint = suggestion(name, known.filter(|d| d.starts_with("--")));
                    Err(CliError::Usage(format!("No such option {}.{hint}", str_repr(name))))
                }
            };
        }
        self.shorts(word)
    }

    fn long(&mut self, opt: &'a Opt, name: &str, explicit: Option<&str>) -> Result<(), CliError> {
        if opt.kind == Kind::Flag {
            if explicit.is_some() {
                let name = str_repr(name);
                return Err(CliError::BareUsage(format!("Option {name} does not take a value.")));
            }
            self.seen.push(Seen { opt, value: None });
            return Ok(());
        }
        let value = match explicit {
            Some(value) => value.to_owned(),
            None => self.next_value(name)?,
        };
        self.seen.push(Seen { opt, value: Some(value) });
        Ok(())
    }

    /// `-ef tsv`, `-ftsv`: flags, then at most one option whose value is the
    /// rest of the word or the next word.
    fn shorts(&mut self, word: &str) -> Result<(), CliError> {
        let mut letters = word.chars().skip(1);
        while let Some(letter) = letters.next() {
            let name = format!("-{letter}");
            let Some(opt) = self.find(&name) else {
                return Err(CliError::Usage(format!("No such option {}.", str_repr(&name))));
            };
            if opt.kind == Kind::Flag {
                self.seen.push(Seen { opt, value: None });
                continue;
            }
            let attached: String = letters.collect();
            let value = if attached.is_empty() { self.next_value(&name)? } else { attached };
            self.seen.push(Seen { opt, value: Some(value) });
            return Ok(());
        }
        Ok(())
    }

    fn next_value(&mut self, name: &str) -> Result<String, CliError> {
        let missing = || CliError::BareUsage(format!("Option {} requires an argument.", str_repr(name)));
        self.left.pop_front().ok_or_else(missing)
    }
}

/// Converts the options in the order of their first occurrence; of several
/// occurrences the last one counts.
fn convert_options(values: &mut Values, seen: &[Seen<'_>]) -> Result<(), CliError> {
    let mut done: Vec<&str> = Vec::new();
    for first in seen {
        let opt = first.opt;
        if done.contains(&opt.name) {
            continue;
        }
        done.push(opt.name);
        let all = seen.iter().filter(|s| s.opt.name == opt.name);
        let all: Vec<String> = all.filter_map(|s| s.value.clone()).collect();
        let value = match all.last() {
            None => Val::Set,
            Some(_) if opt.multiple => Val::Many(all),
            Some(last) => convert(opt, last)?,
        };
        values.put(opt.name, value);
    }
    Ok(())
}

fn convert(opt: &Opt, text: &str) -> Result<Val, CliError> {
    let fail = |what: String| CliError::Usage(format!("Invalid value for {}: {what}", opt.hint()));
    match opt.kind {
        Kind::Flag => Ok(Val::Set),
        Kind::Text => Ok(Val::Text(text.to_owned())),
        Kind::Int => pyfmt::int::parse_i64(text)
            .map(Val::Int)
            .ok_or_else(|| fail(format!("{} is not a valid integer.", str_repr(text)))),
        Kind::Float => py_float(text)
            .map(Val::Float)
            .ok_or_else(|| fail(format!("{} is not a valid float.", str_repr(text)))),
        Kind::Choice(words) if words.contains(&text) => Ok(Val::Text(text.to_owned())),
        Kind::Choice(words) => Err(fail(not_one_of(text, words))),
        Kind::File => read_file(text)
            .map(Val::Bytes)
            .map_err(|e| fail(format!("{}: {}", str_repr(text), oserror::sentence(&e)))),
    }
}

fn not_one_of(text: &str, words: &[&str]) -> String {
    let list: Vec<String> = words.iter().map(|w| str_repr(w)).collect();
    format!("{} is not one of {}.", str_repr(text), list.join(", "))
}

fn read_file(path: &str) -> std::io::Result<Vec<u8>> {
    if path != "-" {
        return std::fs::read(path);
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Python's `float(text)`.
pub fn py_float(text: &str) -> Option<f64> {
    strip_underscores(text.trim())?.parse().ok()
}

fn strip_underscores(text: &str) -> Option<String> {
    let misplaced = text.starts_with('_') || text.ends_with('_') || text.contains("__");
    let after_sign = text.starts_with("+_") || text.starts_with("-_");
    if misplaced || after_sign {
        return None;
    }
    Some(text.replace('_', ""))
}

/// Hands the words out to the arguments: fixed ones from both ends, the rest
/// to the one that takes many. Gives back the words that nobody took.
fn assign_args(values: &mut Values, args: &[Arg], words: Vec<String>) -> Result<Vec<String>, CliError> {
    let mut words: VecDeque<String> = words.into();
    let after = args.iter().rev().take_while(|a| !a.many).count();
    let wildcard = args.iter().position(|a| a.many);
    for arg in args.iter().take(wildcard.unwrap_or(args.len())) {
        put_arg(values, arg, words.pop_front())?;
    }
    let Some(arg) = wildcard.and_then(|i| args.get(i)) else {
        return Ok(words.into());
    };
    let mut tail: Vec<Option<String>> = (0..after).map(|_| words.pop_back()).collect();
    tail.reverse();
    values.put(arg.name, Val::Many(words.into()));
    for (arg, word) in args.iter().skip(args.len() - after).zip(tail) {
        put_arg(values, arg, word)?;
    }
    Ok(Vec::new())
}

fn put_arg(values: &mut Values, arg: &Arg, word: Option<String>) -> Result<(), CliError> {
    let Some(word) = word else {
        if !arg.required {
            return Ok(());
        }
        let mut text = format!("Missing argument '{}'.", arg.metavar());
        if !arg.choices.is_empty() {
            text.push_str(&format!(" Choose from:\n\t{}", arg.choices.join(",\n\t")));
        }
        return Err(CliError::Usage(text));
    };
    if !arg.choices.is_empty() && !arg.choices.contains(&word.as_str()) {
        let what = not_one_of(&word, arg.choices);
        return Err(CliError::Usage(format!("Invalid value for '{}': {what}", arg.metavar())));
    }
    values.put(arg.name, Val::Text(word));
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::commands::table;

    fn run(line: &str) -> Result<Values, CliError> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let command = table::GROUP.find(&words[0]).unwrap();
        parse(command, &words[1..])
    }

    fn text(line: &str) -> String {
        run(line).unwrap_err().to_string()
    }

    #[test]
    fn options_anywhere_and_clustered() {
        let v = run("list a -ef tsv b -w 1_0.5").unwrap();
        assert_eq!(v.many("cluster_names"), ["a", "b"]);
        assert!(v.flag("extended"));
        assert_eq!(v.text("format"), Some("tsv"));
        assert_eq!(v.float("watch"), Some(10.5));
        let v = run("list -ftsv --group=+01 -- -x").unwrap();
        assert_eq!((v.text("format"), v.int("group")), (Some("tsv"), Some(1)));
        assert_eq!(v.many("cluster_names"), ["-x"]);
        let v = run("edit-config -s a=1 --set b=2 -p c=3").unwrap();
        assert_eq!((v.many("set"), v.many("pg")), (&["a=1".into(), "b=2".into()][..], &["c=3".into()][..]));
    }

    #[test]
    fn flush_takes_its_target_from_the_end() {
        let v = run("flush demo a b restart").unwrap();
        assert_eq!(v.text("cluster_name"), Some("demo"));
        assert_eq!(v.many("member_names"), ["a", "b"]);
        assert_eq!(v.text("target"), Some("restart"));
        assert_eq!(
            text("flush demo"),
            "Missing argument '{restart|switchover}'. Choose from:\n\trestart,\n\tswitchover"
        );
        assert_eq!(
            text("flush demo foo"),
            "Invalid value for '{restart|switchover}': 'foo' is not one of 'restart', 'switchover'."
        );
    }

    #[test]
    fn error_texts() {
        for (line, expected) in [
            ("list --form json", "No such option '--form'. Did you mean '--format'?"),
            ("list -x", "No such option '-x'."),
            ("list --format", "Option '--format' requires an argument."),
            ("list --extended=1", "Option '--extended' does not take a value."),
            ("list -w abc", "Invalid value for '-w' / '--watch': 'abc' is not a valid float."),
            ("list --group x", "Invalid value for '--group': 'x' is not a valid integer."),
            ("reload", "Missing argument 'CLUSTER_NAME'."),
            ("history demo extra", "Got unexpected extra argument (extra)"),
            ("history demo x y", "Got unexpected extra arguments (x y)"),
            (
                "query -f /nonexistent/x",
                "Invalid value for '--file' / '-f': '/nonexistent/x': No such file or directory",
            ),
        ] {
            assert_eq!(text(line), expected, "{line}");
        }
        assert_eq!(run("list --help extra").unwrap_err(), CliError::Help);
    }
}
