//! `doctor` and `switchover --check`: what an operator would look at, in one report. Additions to the reference's
//! commands, which its help does not show; nothing is changed by them.
//!
//! [`gather`] looks (with [`servers`] and [`machine`]), [`checks`], [`deep_checks`] and [`candidates`] are pure functions of what was seen.

mod candidates;
mod checks;
mod deep_checks;
mod gather;
mod machine;
mod servers;
#[cfg(test)]
mod tests;

use std::sync::mpsc;
use std::time::Duration;

use pyfmt::Value;

use crate::click::{CliError, Values};
use crate::context::Context;
use crate::output::{render, Format, Rows};

/// A store that has not answered by then does not answer.
const STORE_LIMIT: Duration = Duration::from_secs(30);

/// How grave a finding is; as a number the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing to do.
    Ok = 0,
    /// The cluster works, and something is not as it should be.
    Warning = 1,
    /// The cluster does not work, or will not survive the next failure.
    Error = 2,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        }
    }
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// Of this member; empty: of the cluster.
    pub member: String,
    /// How grave it is.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to do; empty: nothing.
    pub advice: &'static str,
}

/// Runs `doctor`. The exit code is that of the gravest finding.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let format = format_of(values);
    let name = context.cluster_name(values)?;
    let group = context.default_group(values);
    let findings = match bounded(format, || gather::look(context, &name, group))? {
        Ok(seen) => checks::all(&seen),
        Err(text) => vec![silent_store(text)],
    };
    print(&report(&findings), format)?;
    ends_with(worst(&findings))
}

/// Runs `switchover --check`: who could lead, who not and why, and what is behind. Exit code 0: it can be done; 2: not.
pub fn switchover(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let format = format_of(values);
    let name = context.cluster_name(values)?;
    let group = context.default_group(values);
    let seen = match bounded(format, || gather::look(context, &name, group))? {
        Ok(seen) => seen,
        Err(text) => {
            print(&report(&[silent_store(text)]), format)?;
            return ends_with(Level::Error);
        }
    };
    let found = candidates::of(&seen);
    print(&candidates::rows(&found), format)?;
    let verdict =
        candidates::verdict(&seen, &found, values.text("candidate").filter(|name| !name.is_empty()));
    if format.is_table() {
        let (Ok(text) | Err(text)) = &verdict;
        crate::out::echo(text);
    }
    ends_with(if verdict.is_ok() { Level::Ok } else { Level::Error })
}

fn format_of(values: &Values) -> Format {
    values.text("format").and_then(Format::parse).unwrap_or(Format::Pretty)
}

fn silent_store(text: String) -> Finding {
    Finding {
        check: "store",
        member: String::new(),
        level: Level::Error,
        text: format!("cannot be read: {text}"),
        advice: "without it nobody leads (failsafe_mode apart): look at its servers, the network, and the credentials",
    }
}

/// The store's client tries for as long as it takes; this program does not.
fn bounded<T>(format: Format, work: impl FnOnce() -> T) -> T {
    let (done, waits) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        if waits.recv_timeout(STORE_LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            let text = format!("no answer within {} s", STORE_LIMIT.as_secs());
            let _ = print(&report(&[silent_store(text)]), format);
            std::process::exit(Level::Error as i32);
        }
    });
    let result = work();
    drop(done);
    result
}

fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

fn ends_with(level: Level) -> Result<(), CliError> {
    match level {
        Level::Ok => Ok(()),
        level => Err(CliError::Exit(level as i32)),
    }
}

/// The gravest first, and otherwise in the order of the checks.
fn report(findings: &[Finding]) -> Rows {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let cells = |finding: &Finding| -> Vec<Value> {
        vec![
            finding.level.as_str().into(),
            finding.check.into(),
            finding.member.as_str().into(),
            finding.text.as_str().into(),
            finding.advice.into(),
        ]
    };
    Rows {
        title: String::new(),
        columns: Some(["Result", "Check", "Member", "Found", "What to do"].map(str::to_owned).into()),
        rows: sorted.into_iter().map(cells).collect(),
        right: &[],
    }
}

fn print(rows: &Rows, format: Format) -> Result<(), CliError> {
    crate::out::print(&render(rows, format, "\t")?);
    Ok(())
}
