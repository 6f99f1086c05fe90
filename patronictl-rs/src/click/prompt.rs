//! Questions to the user. The texts go to stdout without a line end, the
//! answers come from stdin (surface-api-ctl B5 to B7).

use std::io::{BufRead, IsTerminal, Write};

use super::error::CliError;

/// Where questions are asked: stdin and stdout, or a script in tests.
pub trait Console {
    /// Shows `prompt` and reads one line, without its line end.
    ///
    /// # Errors
    /// [`CliError::Abort`] at the end of input.
    fn ask(&mut self, prompt: &str) -> Result<String, CliError>;
    /// Shows a line.
    fn say(&mut self, line: &str);

    /// Asks for a text that is not shown while it is typed, until there is one.
    ///
    /// # Errors
    /// [`CliError::Abort`] at the end of input.
    fn ask_secret(&mut self, text: &str) -> Result<String, CliError> {
        prompt(self, text, None)
    }
}

/// The terminal, or whatever stdin and stdout are.
pub struct Stdio;

impl Console for Stdio {
    fn ask(&mut self, prompt: &str) -> Result<String, CliError> {
        let mut out = std::io::stdout().lock();
        // A broken pipe shows at the next line that is printed.
        let _ = out.write_all(prompt.as_bytes()).and_then(|()| out.flush());
        drop(out);
        crate::signals::in_prompt(true);
        let stdin = std::io::stdin();
        let typed = stdin.is_terminal() && crate::out::is_terminal();
        let line = if typed { typed_line(&mut stdin.lock()) } else { piped_line(&mut stdin.lock()) };
        crate::signals::in_prompt(false);
        line.map(|line| String::from_utf8_lossy(&line).into_owned()).ok_or(CliError::Abort)
    }

    fn say(&mut self, line: &str) {
        crate::out::echo(line);
    }

    fn ask_secret(&mut self, text: &str) -> Result<String, CliError> {
        let mut warned = false;
        loop {
            let secret = if std::fs::File::open("/dev/tty").is_ok() {
                crate::signals::in_prompt(true);
                let typed = rpassword::prompt_password(format!("{text}: "));
                crate::signals::in_prompt(false);
                typed.map_err(|error| {
                    // A hidden answer has left the cursor behind the question; Ctrl-C moves it itself.
                    if error.kind() == std::io::ErrorKind::UnexpectedEof {
                        self.say("");
                    }
                    CliError::Abort
                })?
            } else {
                // Python's getpass warns when it cannot switch the echo off; Python shows a warning once.
                if !std::mem::replace(&mut warned, true) {
                    tracing::warn!(
                        target: "patroni.ctl",
                        "/usr/lib/python3.11/getpass.py:91: GetPassWarning: Can not control echo on the terminal.\n  \
                         passwd = fallback_getpass(prompt, stream)\n"
                    );
                }
                crate::out::stderr(&format!("Warning: Password input may be echoed.\n{text}: "));
                let typed = self.ask("");
                match typed {
                    Ok(_) => crate::out::stderr("\n"),
                    Err(_) => self.say(""),
                }
                typed?
            };
            if !secret.is_empty() {
                return Ok(secret);
            }
        }
    }
}

/// A line that a person types, as Python's `input` has it on a terminal: behind text without a line end the end of input
/// must be met once more (one Ctrl-D more), and the last byte goes, a line end or not. `None` at the end of input.
fn typed_line(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if input.read_until(b'\n', &mut line).ok()? == 0 {
            break;
        }
    }
    line.pop()?;
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Some(line)
}

/// A line of a file or pipe without its end. `None` at the end of input.
fn piped_line(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    input.read_until(b'\n', &mut line).ok().filter(|count| *count > 0)?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Some(line)
}

/// Asks for a text. Without a default, asks again until there is an answer.
///
/// # Errors
/// [`CliError::Abort`] at the end of input.
pub fn prompt(
    console: &mut (impl Console + ?Sized),
    text: &str,
    default: Option<&str>,
) -> Result<String, CliError> {
    let shown = match default {
        Some(default) => format!("{text} [{default}]: "),
        None => format!("{text}: "),
    };
    loop {
        let answer = console.ask(&shown)?;
        match default {
            _ if !answer.is_empty() => return Ok(answer),
            Some(default) => return Ok(default.to_owned()),
            None => {}
        }
    }
}

/// Asks for an integer until it is one.
///
/// # Errors
/// [`CliError::Abort`] at the end of input.
pub fn prompt_int(console: &mut impl Console, text: &str) -> Result<i64, CliError> {
    loop {
        let answer = prompt(console, text, None)?;
        match pyfmt::int::parse_i64(&answer) {
            Some(number) => return Ok(number),
            None => {
                let quoted = pyfmt::value::str_repr(&answer);
                console.say(&format!("Error: {quoted} is not a valid integer."));
            }
        }
    }
}

/// Asks a yes/no question; an empty answer means no.
///
/// # Errors
/// [`CliError::Abort`] at the end of input.
pub fn confirm(console: &mut impl Console, text: &str) -> Result<bool, CliError> {
    loop {
        let answer = console.ask(&format!("{text} [y/N]: "))?.to_lowercase();
        match answer.trim() {
            "y" | "yes" => return Ok(true),
            "" | "n" | "no" => return Ok(false),
            _ => console.say("Error: invalid input"),
        }
    }
}

/// Answers from a script, for tests; everything shown is kept.
#[cfg(test)]
#[derive(Default)]
pub struct Script {
    /// What is left to answer.
    pub answers: std::collections::VecDeque<String>,
    /// What was shown.
    pub shown: String,
}

#[cfg(test)]
impl Script {
    /// A script with these answers.
    pub fn new(answers: &[&str]) -> Script {
        Script { answers: answers.iter().map(|s| (*s).to_owned()).collect(), shown: String::new() }
    }
}

#[cfg(test)]
impl Console for Script {
    fn ask(&mut self, prompt: &str) -> Result<String, CliError> {
        self.shown.push_str(prompt);
        self.answers.pop_front().ok_or(CliError::Abort)
    }

    fn say(&mut self, line: &str) {
        self.shown.push_str(line);
        self.shown.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of one read(2) each; nothing at Ctrl-D, after which a terminal may give more.
    struct Reads(std::collections::VecDeque<&'static str>);

    impl std::io::Read for Reads {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let next = self.0.pop_front().unwrap_or_default().as_bytes();
            buffer[..next.len()].copy_from_slice(next);
            Ok(next.len())
        }
    }

    #[test]
    fn lines_as_python_reads_them() {
        // What the reads give; the line of a terminal, and of a pipe.
        for (reads, typed, piped) in [
            (&["yes\n"][..], Some("yes"), Some("yes")),
            (&["\n"], Some(""), Some("")),
            (&["y\r\n"], Some("y"), Some("y\r")),
            (&[], None, None),
            // x, three times Ctrl-D: no answer is the default.
            (&["x", "", ""], Some(""), Some("x")),
            (&["yy", "", ""], Some("y"), Some("yy")),
            // One Ctrl-D shows what was typed to the program, which waits for the rest.
            (&["de", "mo\n"], Some("demo"), Some("demo")),
            (&["de", "", "mo\n"], Some("demo"), Some("de")),
        ] {
            let input = || std::io::BufReader::new(Reads(reads.iter().copied().collect()));
            let text = |line: Option<Vec<u8>>| line.map(|line| String::from_utf8_lossy(&line).into_owned());
            assert_eq!(text(typed_line(&mut input())).as_deref(), typed, "{reads:?} typed");
            assert_eq!(text(piped_line(&mut input())).as_deref(), piped, "{reads:?} piped");
        }
    }

    #[test]
    fn asks_again() {
        let mut script = Script::new(&["maybe", " Y "]);
        assert_eq!(confirm(&mut script, "Sure?"), Ok(true));
        assert_eq!(script.shown, "Sure? [y/N]: Error: invalid input\nSure? [y/N]: ");
        let mut script = Script::new(&["x", "", "3"]);
        assert_eq!(prompt_int(&mut script, "Citus group"), Ok(3));
        let mut script = Script::new(&[""]);
        assert_eq!(prompt(&mut script, "Candidate ['a']", Some("")), Ok(String::new()));
        assert_eq!(script.shown, "Candidate ['a'] []: ");
        assert_eq!(prompt(&mut script, "x", None), Err(CliError::Abort));
    }
}
