//! The cases: command lines with their circumstances.

mod cluster;
mod edit;
mod general;
mod leader;
mod look;
mod members;
mod prompts;
mod query;

use std::time::Duration;

use super::fake::Reply;
use super::terminal::Step;

/// What the program's input and output are.
#[derive(Debug, Clone)]
pub enum Input {
    /// Pipes, and an empty stdin.
    Nothing,
    /// Pipes, and this text in stdin.
    Text(String),
    /// A terminal of that many columns, and somebody who types.
    Terminal(u16, Vec<Step>),
    /// The first lines, then Ctrl-C.
    Lines(usize),
    /// Ctrl-C after that time.
    For(Duration),
    /// Nobody reads stdout.
    ClosedStdout,
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// For a person and for `--only`.
    pub name: String,
    /// The words after the program's name and `-c FILE`.
    pub args: Vec<String>,
    /// Variables added to the small environment of the test cluster.
    pub env: Vec<(String, String)>,
    /// The input.
    pub input: Input,
    /// What members answer before the usual.
    pub replies: Vec<Reply>,
    /// Keys that are different from the world's; `None` for absent.
    pub keys: Vec<(String, Option<String>)>,
    /// Files in the working directory; those called `*.sh`, or that begin with `#!`, may be run.
    pub files: Vec<(String, String)>,
    /// The configuration after its DCS section (`NODCS` leaves that out); `None` for no `-c` at all.
    pub config: Option<String>,
}

/// A case of that command line: words apart by blanks, blanks kept between single quotes.
pub fn case(line: &str) -> Case {
    Case {
        name: line.replace('\n', "\\n"),
        args: words(line),
        env: Vec::new(),
        input: Input::Nothing,
        replies: Vec::new(),
        keys: Vec::new(),
        files: Vec::new(),
        config: Some(String::new()),
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split(' ').filter(|word| !word.is_empty()).map(str::to_owned));
        }
    }
    words
}

impl Case {
    /// With a remark in the name.
    pub fn called(mut self, remark: &str) -> Case {
        self.name = format!("{} ({remark})", self.name);
        self
    }

    /// With this text in stdin.
    pub fn stdin(mut self, text: &str) -> Case {
        self.name = format!("{} <<< {text:?}", self.name);
        self.input = Input::Text(text.into());
        self
    }

    /// On a terminal: pairs of what is waited for and what is then typed.
    pub fn tty(self, steps: &[(&str, &str)]) -> Case {
        self.tty_of(80, steps)
    }

    /// On a terminal of that many columns.
    pub fn tty_of(mut self, columns: u16, steps: &[(&str, &str)]) -> Case {
        let typed: Vec<&str> = steps.iter().map(|(_, keys)| *keys).collect();
        self.name = format!("{} (terminal of {columns}, {typed:?})", self.name);
        let steps = steps.iter().map(|(wait, keys)| ((*wait).to_owned(), (*keys).to_owned()));
        self.input = Input::Terminal(columns, steps.collect());
        self
    }

    /// The first lines, then Ctrl-C.
    pub fn lines(mut self, count: usize) -> Case {
        self.input = Input::Lines(count);
        self.called(&format!("first {count} lines"))
    }

    /// With a variable.
    pub fn env(mut self, name: &str, value: &str) -> Case {
        self.name = format!("{name}={value} {}", self.name);
        self.env.push((name.into(), value.into()));
        self
    }

    /// With a member's answer.
    pub fn reply(self, method: &'static str, path: &'static str, status: u16, body: &str) -> Case {
        self.reply_of(Reply { method, path, status, body: body.into(), ..Reply::default() })
    }

    /// With a member's answer.
    pub fn reply_of(mut self, reply: Reply) -> Case {
        self.name = format!(
            "{} [{} {}]",
            self.name,
            reply.status,
            reply.body.chars().take(30).collect::<String>().replace('\n', "\\n")
        );
        self.replies.push(reply);
        self
    }

    /// With a key.
    pub fn key(mut self, key: &str, value: &str) -> Case {
        self.name = format!("{} {{{key}={value}}}", self.name);
        self.keys.push((key.into(), Some(value.into())));
        self
    }

    /// Without a key.
    pub fn without(mut self, key: &str) -> Case {
        self.name = format!("{} {{no {key}}}", self.name);
        self.keys.push((key.into(), None));
        self
    }

    /// With a file.
    pub fn file(mut self, name: &str, text: &str) -> Case {
        self.files.push((name.into(), text.into()));
        self
    }

    /// With these lines in the configuration.
    pub fn config(mut self, text: &str) -> Case {
        self.name = format!("{} <{}>", self.name, text.trim().replace('\n', "; "));
        self.config = Some(text.into());
        self
    }

    /// Without `-c`.
    pub fn no_config(mut self) -> Case {
        self.config = None;
        self.called("no -c")
    }
}

/// All cases; those of `query` need PostgreSQL.
pub fn all() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(general::cases());
    cases.extend(look::cases());
    cases.extend(members::cases());
    cases.extend(leader::cases());
    cases.extend(cluster::cases());
    cases.extend(prompts::cases());
    cases.extend(edit::cases());
    cases.extend(query::cases());
    cases
}
