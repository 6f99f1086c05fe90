//! How a pure function can ask questions: it is run again from the start with
//! the answers so far, and stops at the first question that has none.
//!
//! A cycle is a function of (view, memory, answers). It reads like ordinary
//! code, has no effects of its own, may be cut off between any two requests,
//! and any run can be replayed from its recorded answers.

use super::ask::{Ask, Request};
use super::request::{Answer, DcsDown};
use super::types::Mono;

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

/// A line for the log; `patroni.ha` unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Severity.
    pub level: Level,
    /// Text.
    pub text: String,
}

/// Why a cycle stopped before its end.
#[derive(Debug, Clone, PartialEq)]
pub enum Halt {
    /// It needs this answer.
    Ask(Box<Request>),
    /// The DCS cannot be reached.
    Dcs(DcsDown),
    /// PostgreSQL cannot be asked.
    Pg,
    /// It has stood still for too long to take the lock by what it saw.
    Stale,
    /// The process must end with this code; the reason has been logged.
    Exit(i32),
    /// Code and answers do not fit each other.
    Bug(String),
}

/// A step of a cycle.
pub type Step<T> = Result<T, Halt>;

/// The answers so far, and what the log has already got.
#[derive(Debug, Default)]
pub struct Transcript {
    entries: Vec<(Request, Answer, Mono)>,
    logged: usize,
}

impl Transcript {
    /// Records what came of a request, and when.
    pub fn record(&mut self, request: Request, answer: Answer, at: Mono) {
        self.entries.push((request, answer, at));
    }

    /// How many requests have been answered.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Nothing asked yet?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All requests so far, for tests and traces.
    pub fn requests(&self) -> impl Iterator<Item = &Request> {
        self.entries.iter().map(|(r, _, _)| r)
    }

    /// Of the lines that this run produced, those that the log has not got yet.
    pub fn fresh(&mut self, lines: Vec<LogLine>) -> Vec<LogLine> {
        let skip = self.logged.min(lines.len());
        self.logged = self.logged.max(lines.len());
        lines.into_iter().skip(skip).collect()
    }
}

/// One run over a transcript.
pub struct Script<'a> {
    transcript: &'a Transcript,
    next: usize,
    now: Mono,
    asked: Mono,
    /// Every line of this run, those of earlier runs included.
    pub lines: Vec<LogLine>,
}

impl<'a> Script<'a> {
    /// Starts from the first answer.
    pub fn new(transcript: &'a Transcript, now: Mono) -> Script<'a> {
        Script { transcript, next: 0, now, asked: now, lines: Vec::new() }
    }

    /// The time of the last answer.
    pub fn now(&self) -> Mono {
        self.now
    }

    /// The time when the last question was asked.
    pub fn asked(&self) -> Mono {
        self.asked
    }

    /// Asks; the first question without an answer ends the run.
    ///
    /// # Errors
    /// [`Halt::Ask`] when the answer is not there yet, [`Halt::Pg`] when PostgreSQL was away, [`Halt::Bug`] where what was
    /// recorded is another question, or no answer to this one.
    pub fn ask<Q: Ask + Clone>(&mut self, question: Q) -> Step<Q::Answer> {
        let request: Request = question.clone().into();
        let Some((asked, answer, at)) = self.transcript.entries.get(self.next) else {
            return Err(Halt::Ask(Box::new(request)));
        };
        if *asked != request {
            return Err(Halt::Bug(format!("replay asks {request:?}, recorded was {asked:?}")));
        }
        self.next += 1;
        self.asked = self.now;
        self.now = *at;
        match question.heard(answer) {
            Some(heard) => Ok(heard.clone()),
            None if *answer == Answer::PgDown => Err(Halt::Pg),
            None => Err(Halt::Bug(format!("unexpected answer {answer:?}"))),
        }
    }

    /// Says something to the log.
    pub fn log(&mut self, level: Level, text: impl Into<String>) {
        self.lines.push(LogLine { level, text: text.into() });
    }
}
