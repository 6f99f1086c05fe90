//! Questions to the user. The texts go to stdout without a line end, the
//! answers come from stdin (surface-api-ctl B5 to B7).

use std::io::{BufRead, Write};

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
        let line = read_line(&mut std::io::stdin().lock());
        crate::signals::in_prompt(false);
        let mut line = line.filter(|line| !line.is_empty()).ok_or(CliError::Abort)?;
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
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

/// A line with its end. Behind text without one the end of input must be met once more, as in Python: on a terminal
/// that is one Ctrl-D more.
fn read_line(input: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        if input.read_until(b'\n', &mut line).ok()? == 0 {
            break;
        }
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
