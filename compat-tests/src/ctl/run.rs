//! One program on one case, and what came of it as text.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use regex::Regex;

use super::terminal::{self, exit_code};
use super::world::World;
use super::{Case, Input};
use crate::lab::process::{self, Output};
use crate::lab::{host, Kind, Result};

/// How long a program may take.
const LONG: Duration = Duration::from_secs(60);

/// Sets the world up as the case wants it, runs the program, and gives all there is to compare.
///
/// # Errors
/// The program cannot be run, or hangs.
pub fn run(world: &World, case: &Case, kind: Kind) -> Result<String> {
    world.set(case)?;
    let command = command(world, case, kind)?;
    let output = match &case.input {
        Input::Nothing => process::run(command, LONG)?,
        Input::Text(text) => piped(command, text)?,
        Input::Terminal(columns, steps) => terminal::run(command, *columns, steps)?,
        Input::Lines(count) => lines(command, *count)?,
        Input::For(time) => interrupted(command, *time)?,
        Input::ClosedStdout => closed(command)?,
    };
    let shown = format!(
        "exit code {}\n--- stdout\n{}\n--- stderr\n{}\n--- requests\n{}\n--- keys\n{}",
        output.code,
        output.stdout,
        output.stderr,
        world.fake.asked(),
        world.changed()?
    );
    Ok(normalised(&world.literals(&shown)))
}

fn command(world: &World, case: &Case, kind: Kind) -> Result<Command> {
    let program: PathBuf = match kind {
        Kind::Ours => host::install("patronictl", &world.lab)?,
        Kind::Reference => host::reference("patronictl"),
    };
    let mut command = process::command(&program, &world.directory, &world.bin)?;
    if let Some(config) = world.config(case)? {
        command.arg("-c").arg(config);
    }
    command.args(case.args.iter().map(|word| world.filled(word)));
    for (name, value) in &case.env {
        command.env(name, world.filled(value));
    }
    Ok(command)
}

/// What it gave; one that waits without end is killed, and the others' turn comes.
fn finished(child: Child) -> Result<Output> {
    let done = process::finish(child, LONG)?;
    Ok(Output {
        code: exit_code(done.status),
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    })
}

fn piped(mut command: Command, text: &str) -> Result<Output> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that reads nothing may be gone already.
        let _ = stdin.write_all(text.as_bytes());
    }
    finished(child)
}

/// The first lines; then Ctrl-C.
fn lines(mut command: Command, count: usize) -> Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdout = String::new();
    if let Some(pipe) = child.stdout.take() {
        let mut reader = BufReader::new(pipe);
        for _ in 0..count {
            reader.read_line(&mut stdout)?;
        }
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
        reader.read_to_string(&mut String::new())?;
    }
    Ok(Output { stdout, ..finished(child)? })
}

/// Ctrl-C after some time.
fn interrupted(mut command: Command, time: Duration) -> Result<Output> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let end = Instant::now() + time;
    while Instant::now() < end && child.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    if child.try_wait()?.is_none() {
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    }
    finished(child)
}

/// Nobody reads stdout.
fn closed(mut command: Command) -> Result<Output> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn()?;
    drop(command);
    finished(child)
}

/// What must vary: times of now, and tracebacks, of which the last line stays.
fn normalised(text: &str) -> String {
    static RULES: OnceLock<Vec<(Regex, &str)>> = OnceLock::new();
    let year = &crate::ctl::world::this_year();
    let rules = RULES.get_or_init(|| {
        let now = format!(r"\b({year})-\d\d-\d\d([ T])\d\d:\d\d");
        [
            (format!(r"{now}:\d\d([.,])(\d+)"), "Y-M-D${2}h:m:s${3}f"),
            (format!(r"{now}:\d\d"), "Y-M-D${2}h:m:s"),
            (now, "Y-M-D${2}h:m"),
            (
                r"(?:(?:Traceback \(most recent call last\):\r?\n(?:[ ][^\n]*\n|\n)*)(?:(?:[^\n]+\n)+\n(?:During handling of the above exception, another exception occurred|The above exception was the direct cause of the following exception):\r?\n\r?\n)?)+"
                    .to_owned(),
                "",
            ),
            (r"-config-[a-z0-9_]{8}\.yaml".to_owned(), "-config-X.yaml"),
        ]
        .into_iter()
        .filter_map(|(pattern, with)| Some((Regex::new(&pattern).ok()?, with)))
        .collect()
    });
    let mut text = text.to_owned();
    for (pattern, with) in rules {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_now_and_tracebacks_go() {
        let year = crate::ctl::world::this_year();
        let text = format!(
            "{year}-01-02 03:04:05,678 - ERROR - None\nTraceback (most recent call last):\n  File x\n    y\nKeyError: 1\n\n\
             During handling of the above exception, another exception occurred:\n\n\
             Traceback (most recent call last):\n  File x\nValueError: 2\n2199-01-01T00:00:00"
        );
        assert_eq!(normalised(&text), "Y-M-D h:m:s,f - ERROR - None\nValueError: 2\n2199-01-01T00:00:00");
    }
}
