//! Command lines by argparse's rules: prefixes of options, `--a=b`, options anywhere,
//! and its words for what is wrong.

use std::collections::HashMap;

use pyfmt::int::parse_clamped;
use pyfmt::value::str_repr;

/// What an option or a positional argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// Text.
    Text,
    /// An integer as Python's `int()` reads it.
    Integer,
    /// One of these.
    OneOf(&'static [&'static str]),
}

/// An option.
#[derive(Debug)]
pub struct Opt {
    /// All its names; the first is what its value is found under.
    pub names: &'static [&'static str],
    /// What it takes.
    pub takes: Takes,
    /// It must be given.
    pub required: bool,
}

impl Opt {
    /// An option with one name.
    pub const fn new(names: &'static [&'static str], takes: Takes, required: bool) -> Opt {
        Opt { names, takes, required }
    }

    fn shown(&self) -> String {
        self.names.join("/")
    }
}

/// A command line.
#[derive(Debug)]
pub struct Parser {
    /// The name in error messages, such as `patroni_barman recover`.
    pub program: &'static str,
    /// The whole help page; its first paragraph is the usage.
    pub help: &'static str,
    /// Its options; `-h` and `--help` are added.
    pub options: &'static [Opt],
    /// Its positional arguments: the name, and what it takes.
    pub positionals: &'static [(&'static str, Takes)],
    /// Its subcommands: the first word that is no option, and all behind it is theirs.
    pub commands: &'static [&'static str],
    /// Options of which exactly one must be given.
    pub one_of: &'static [&'static str],
}

/// What was found on a command line.
#[derive(Debug, Default)]
pub struct Parsed {
    values: HashMap<&'static str, String>,
    /// What no option or positional argument took.
    pub extras: Vec<String>,
    /// The subcommand and its own words.
    pub command: Option<(&'static str, Vec<String>)>,
}

/// The end of the program: text for standard output (code 0) or standard error.
#[derive(Debug, PartialEq, Eq)]
pub struct Exit {
    /// What to print.
    pub text: String,
    /// The exit code.
    pub code: i32,
}

impl Exit {
    /// Prints the text; gives the code.
    pub fn print(&self) -> i32 {
        use std::io::Write;
        let _ = match self.code {
            0 => std::io::stdout().write_all(self.text.as_bytes()),
            _ => std::io::stderr().write_all(self.text.as_bytes()),
        };
        self.code
    }
}

impl Parsed {
    /// The value of an option or a positional argument.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value, or this.
    pub fn text(&self, name: &str, default: &str) -> String {
        self.get(name).unwrap_or(default).to_owned()
    }

    /// The value, or this. What does not fit 64 bits becomes the nearest that does.
    pub fn integer(&self, name: &str, default: i64) -> i64 {
        self.get(name).map_or(default, |text| parse_clamped(text).unwrap_or(default))
    }
}

enum Word<'a> {
    Argument,
    Option(Option<&'a Opt>, Option<String>),
    Help,
}

impl Parser {
    fn usage(&self) -> &str {
        self.help.split("\n\n").next().unwrap_or_default()
    }

    /// The error's page: usage, program, message; exit code 2.
    pub fn error(&self, message: &str) -> Exit {
        Exit { text: format!("{}\n{}: error: {message}\n", self.usage(), self.program), code: 2 }
    }

    /// `parse_known_args`.
    ///
    /// # Errors
    /// The help page, or what is wrong.
    pub fn parse_known(&self, words: &[String]) -> Result<Parsed, Exit> {
        let mut parsed = Parsed::default();
        let mut positionals = self.positionals.iter();
        let mut given: Vec<&'static str> = Vec::new();
        let mut at = 0;
        let mut options = true;
        while let Some(word) = words.get(at) {
            at += 1;
            if options && word == "--" {
                options = false;
                continue;
            }
            let kind = if options { self.classify(word)? } else { Word::Argument };
            match kind {
                Word::Help => return Err(Exit { text: self.help.to_owned(), code: 0 }),
                Word::Option(None, _) => parsed.extras.push(word.clone()),
                Word::Option(Some(option), explicit) => {
                    self.exclude(option, &given)?;
                    given.extend(option.names.first());
                    let value = match (option.takes, explicit) {
                        (Takes::Nothing, None) => String::new(),
                        (Takes::Nothing, Some(value)) => {
                            let value = str_repr(&value);
                            let what = option.shown();
                            return Err(
                                self.error(&format!("argument {what}: ignored explicit argument {value}"))
                            );
                        }
                        (_, Some(value)) => value,
                        (_, None) => {
                            let next = words.get(at).filter(|w| *w != "--");
                            let value = match next.map(|w| self.classify(w)).transpose()? {
                                Some(Word::Argument) => next.cloned(),
                                _ => None,
                            };
                            at += 1;
                            let missing = format!("argument {}: expected one argument", option.shown());
                            value.ok_or_else(|| self.error(&missing))?
                        }
                    };
                    self.check(&option.shown(), option.takes, &value)?;
                    parsed.values.extend(option.names.first().map(|name| (*name, value)));
                }
                Word::Argument if !self.commands.is_empty() => {
                    let known = self.commands.iter().find(|c| *c == word);
                    let choices = format!("{{{}}}", self.commands.join(","));
                    let known = known.ok_or_else(|| self.bad_choice(&choices, word, self.commands))?;
                    parsed.command = Some((known, words.get(at..).unwrap_or_default().to_vec()));
                    break;
                }
                Word::Argument => match positionals.next() {
                    Some((name, takes)) => {
                        self.check(name, *takes, word)?;
                        parsed.values.insert(name, word.clone());
                    }
                    None => parsed.extras.push(word.clone()),
                },
            }
        }
        if parsed.command.is_none() {
            self.check_complete(&parsed, positionals.map(|(name, _)| *name))?;
        }
        Ok(parsed)
    }

    /// What must be given is there. For a command line with a subcommand this is asked
    /// after the subcommand's own words were read.
    ///
    /// # Errors
    /// What is missing.
    pub fn check_complete(
        &self,
        parsed: &Parsed,
        positionals: impl Iterator<Item = &'static str>,
    ) -> Result<(), Exit> {
        let options = self.options.iter().filter(|o| o.required);
        let missing = options.filter(|o| o.names.first().is_some_and(|n| !parsed.values.contains_key(n)));
        let mut missing: Vec<String> = missing.map(Opt::shown).collect();
        // Positional arguments are declared before the options here, as in the reference.
        let mut all: Vec<String> = positionals.map(str::to_owned).collect();
        all.append(&mut missing);
        if !all.is_empty() {
            return Err(self.error(&format!("the following arguments are required: {}", all.join(", "))));
        }
        if !self.one_of.is_empty() && !self.one_of.iter().any(|name| parsed.values.contains_key(name)) {
            return Err(self.error(&format!("one of the arguments {} is required", self.one_of.join(" "))));
        }
        Ok(())
    }

    fn exclude(&self, option: &Opt, given: &[&'static str]) -> Result<(), Exit> {
        let Some(name) = option.names.first().filter(|name| self.one_of.contains(name)) else {
            return Ok(());
        };
        match given.iter().find(|other| self.one_of.contains(other) && *other != name) {
            Some(other) => {
                Err(self.error(&format!("argument {}: not allowed with argument {other}", option.shown())))
            }
            None => Ok(()),
        }
    }

    fn classify(&self, word: &str) -> Result<Word<'_>, Exit> {
        if !word.starts_with('-') || word == "-" {
            return Ok(Word::Argument);
        }
        if word == "--help" || word.starts_with("-h") {
            return Ok(Word::Help);
        }
        let named = |name: &str| self.options.iter().find(|o| o.names.contains(&name));
        if let Some(option) = named(word) {
            return Ok(Word::Option(Some(option), None));
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        if let Some(option) = named(name) {
            return Ok(Word::Option(Some(option), value));
        }
        let is_help = name.starts_with("--") && "--help".starts_with(name);
        let names = self.options.iter().flat_map(|o| o.names.iter().map(move |n| (o, *n)));
        let found: Vec<(&Opt, &str)> = names.filter(|(_, n)| n.starts_with(name)).collect();
        match (found.as_slice(), is_help) {
            ([], true) => return Ok(Word::Help),
            ([(option, _)], false) => return Ok(Word::Option(Some(option), value)),
            ([], false) => {}
            _ => {
                let mut names: Vec<&str> = if is_help { vec!["--help"] } else { Vec::new() };
                names.extend(found.iter().map(|(_, n)| *n));
                let text = format!("ambiguous option: {word} could match {}", names.join(", "));
                return Err(self.error(&text));
            }
        }
        let digits = word.trim_start_matches('-');
        let is_number = word.len() == digits.len() + 1
            && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
            && digits.chars().filter(|c| *c == '.').count() <= 1
            && digits.ends_with(|c: char| c.is_ascii_digit());
        Ok(if is_number || word.contains(' ') { Word::Argument } else { Word::Option(None, None) })
    }

    fn check(&self, name: &str, takes: Takes, value: &str) -> Result<(), Exit> {
        match takes {
            Takes::Integer if parse_clamped(value).is_none() => {
                Err(self.error(&format!("argument {name}: invalid int value: {}", str_repr(value))))
            }
            Takes::OneOf(choices) if !choices.contains(&value) => Err(self.bad_choice(name, value, choices)),
            _ => Ok(()),
        }
    }

    fn bad_choice(&self, name: &str, value: &str, choices: &[&str]) -> Exit {
        let choices: Vec<String> = choices.iter().map(|c| str_repr(c)).collect();
        let value = str_repr(value);
        self.error(&format!("argument {name}: invalid choice: {value} (choose from {})", choices.join(", ")))
    }
}
