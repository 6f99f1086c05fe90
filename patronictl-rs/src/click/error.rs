//! What can end a command line before or while it runs.

use super::help;
use super::spec::{Command, Group};

/// The reason a command ends early, and how it is told to the user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CliError {
    /// `Error: MSG` on stderr, exit code 1.
    #[error("{0}")]
    Message(String),
    /// A usage error with the usage lines before it, exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A usage error that click prints without the usage lines, exit code 2.
    #[error("{0}")]
    BareUsage(String),
    /// The help page was asked for: stdout, exit code 0.
    #[error("help")]
    Help,
    /// No arguments at all: the help page on stderr, exit code 2.
    #[error("no arguments")]
    NoArguments,
    /// End of input or Ctrl-C at a prompt: `Aborted!`, exit code 1.
    #[error("Aborted!")]
    Abort,
    /// What the reference dies of with a traceback: only the last line of it
    /// is printed to stderr, exit code 1.
    #[error("{0}")]
    Crash(String),
    /// Everything has been said; the exit code tells the outcome.
    #[error("exit code {0}")]
    Exit(i32),
}

impl CliError {
    /// An application error.
    pub fn msg(text: impl Into<String>) -> CliError {
        CliError::Message(text.into())
    }

    /// The text for stdout, the text for stderr, and the exit code.
    pub fn report(&self, group: &Group, command: Option<&Command>, width: usize) -> (String, String, i32) {
        match self {
            CliError::Help => (format!("{}\n", help::page(group, command, width)), String::new(), 0),
            CliError::NoArguments => (String::new(), format!("{}\n", help::page(group, command, width)), 2),
            CliError::Message(text) => (String::new(), format!("Error: {text}\n"), 1),
            CliError::BareUsage(text) => (String::new(), format!("Error: {text}\n"), 2),
            CliError::Usage(text) => {
                let usage = help::usage(group, command, width);
                let path = help::command_path(group, command);
                (String::new(), format!("{usage}Try '{path} --help' for help.\n\nError: {text}\n"), 2)
            }
            CliError::Abort => (String::new(), "Aborted!\n".into(), 1),
            CliError::Crash(text) => (String::new(), format!("{text}\n"), 1),
            CliError::Exit(code) => (String::new(), String::new(), *code),
        }
    }
}
