//! What a scenario carries from step to step.

use std::collections::HashMap;
use std::time::Duration;

use compat_tests::lab::fifo::Fifo;
use compat_tests::lab::process::Output;
use compat_tests::lab::writer::{Record, Writer};
use compat_tests::lab::{Cluster, Kind, Options, Result};
use cucumber::gherkin::Step;
use nix::unistd::Pid;
use pyfmt::Value;

/// One step's text and what belongs to it.
#[derive(Debug)]
pub struct Call {
    /// The sentence.
    pub text: String,
    /// What the step's pattern captured.
    pub args: Vec<String>,
    /// The block of text under the step.
    pub doc: String,
    /// The rows of the table under the step.
    pub table: Vec<Vec<String>>,
}

impl Call {
    /// From what Gherkin's parser gives.
    pub fn new(step: &Step) -> Call {
        let table = step.table.as_ref().map(|table| table.rows.clone()).unwrap_or_default();
        Call {
            text: step.value.clone(),
            args: Vec::new(),
            doc: step.docstring.clone().unwrap_or_default(),
            table,
        }
    }

    /// The capture `index`, empty when its group did not take part.
    pub fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }

    /// The capture `index` as a number of seconds.
    pub fn seconds(&self, index: usize) -> Duration {
        Duration::from_secs(self.arg(index).parse().unwrap_or(0))
    }
}

/// A scenario's state.
#[derive(Debug, Default)]
pub struct State {
    /// The test cluster, once a member was made.
    pub cluster: Option<Cluster>,
    /// How it will be made.
    pub options: Options,
    /// The last patronictl's output.
    pub output: Output,
    /// Exit codes of daemons, by member.
    pub exits: HashMap<String, i32>,
    /// The postmasters that were remembered, by member.
    pub postmasters: HashMap<String, Option<Pid>>,
    /// The writer, while it runs.
    pub writer: Option<Writer>,
    /// What it recorded.
    pub record: Record,
    /// The clients that never wait.
    pub talkers: Vec<Option<std::process::Child>>,
    /// A receiver of outside.
    pub stranger: Option<std::process::Child>,
    /// The pipes that stand for watchdog devices, by member.
    pub watchdogs: HashMap<String, Fifo>,
    /// A name remembered between steps.
    pub remembered: String,
    /// Ports of the clients that were started, by name.
    pub ports: HashMap<String, u16>,
}

impl State {
    /// The test cluster, made now if there is none.
    pub fn lab(&mut self) -> Result<&mut Cluster> {
        if self.cluster.is_none() {
            self.cluster = Some(Cluster::new(self.options.clone())?);
        }
        self.cluster.as_mut().ok_or_else(|| "no test cluster".into())
    }

    /// The test cluster, if there is one.
    pub fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().ok_or_else(|| "no cluster yet".into())
    }

    /// `the leader` or a member's name, as a member's name.
    pub fn name(&self, text: &str) -> Result<String> {
        if text == "the leader" {
            return Ok(self.cluster()?.leader()?.ok_or("no leader key")?);
        }
        Ok(text.into())
    }

    /// The last patronictl, for a failure's message.
    pub fn seen(&self) -> String {
        let Output { code, stdout, stderr } = &self.output;
        if stdout.is_empty() && stderr.is_empty() {
            return String::new();
        }
        format!("the last patronictl, exit code {code}:\n{stdout}{stderr}")
    }
}

/// The fleet of `FLEET`.
pub fn fleet() -> String {
    std::env::var("FLEET").unwrap_or_else(|_| "ours".into())
}

/// What member number `index` runs.
pub fn kind_of(index: usize) -> Kind {
    let even = index.is_multiple_of(2);
    match fleet().as_str() {
        "reference" => Kind::Reference,
        "alternating" if !even => Kind::Reference,
        "alternating2" if even => Kind::Reference,
        _ => Kind::Ours,
    }
}

/// The kind that a scenario names; the reference's fleet has no other, and so checks the scenario itself.
pub fn named(text: &str) -> Result<Kind> {
    match text {
        _ if fleet() == "reference" => Ok(Kind::Reference),
        "ours" | "our" => Ok(Kind::Ours),
        "reference" => Ok(Kind::Reference),
        // A patronictl that is not named is of the fleet's first member's kind.
        "" => Ok(kind_of(0)),
        other => Err(format!("no such kind: {other}").into()),
    }
}

/// YAML under a step.
pub fn yaml(text: &str) -> Result<Value> {
    Ok(pyfmt::yaml::load(text)?)
}
