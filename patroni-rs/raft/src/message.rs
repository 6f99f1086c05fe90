//! The messages between members, as values of Python and back.
//!
//! Keys and their order are those of PySyncObj 0.3.17 `syncobj.py` (MIT, Filipp Ozinov). A message of a type that is not
//! known is ignored on both sides, which makes [`Message::Ping`] possible.

use std::sync::Arc;

use crate::entry::Entry;
use crate::pickle::Value;

/// Why a command was not carried out (PySyncObj's `FAIL_REASON`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no leader: it was not sent.
    MissingLeader,
    /// Another entry is in its place: it was not done.
    Discarded,
    /// It was sent to who is no leader: it was not done.
    NotLeader,
    /// The leader has changed before it answered: nobody knows.
    LeaderChanged,
    /// The leader refuses it.
    Denied,
    /// The answer came too late to see what became of it.
    Unknown,
}

impl Reason {
    /// The number in a message.
    pub fn code(self) -> i64 {
        match self {
            Reason::MissingLeader => 2,
            Reason::Discarded => 3,
            Reason::NotLeader => 4,
            Reason::LeaderChanged => 5,
            Reason::Denied => 6,
            Reason::Unknown => 7,
        }
    }

    fn of_code(code: i64) -> Reason {
        match code {
            // A queue that is full (1) has not taken it either.
            1 | 2 => Reason::MissingLeader,
            3 => Reason::Discarded,
            4 => Reason::NotLeader,
            5 => Reason::LeaderChanged,
            6 => Reason::Denied,
            _ => Reason::Unknown,
        }
    }

    /// Is it certain that nothing was done, and nothing will be?
    pub fn nothing_done(self) -> bool {
        !matches!(self, Reason::LeaderChanged | Reason::Unknown)
    }
}

/// A part of something that is too large for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The first.
    Start,
    /// One in the middle.
    Process,
    /// The last. (PySyncObj sends two of them where the pickle is a little longer than the command.)
    Finish,
}

/// What an `append_entries` brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Entries that follow an entry; none is a heartbeat.
    Entries {
        /// The index of the entry before them.
        prev_index: u64,
        /// Its term.
        prev_term: u64,
        /// They.
        entries: Vec<Entry>,
    },
    /// A part of the pickle of one large entry.
    Part {
        /// The index of the entry before it.
        prev_index: u64,
        /// Its term.
        prev_term: u64,
        /// Which part.
        part: Part,
        /// The bytes.
        data: Arc<[u8]>,
    },
    /// A part of a dump; None: the leader has none yet.
    Dump(Option<Chunk>),
    /// What makes no sense; the leader lives, though.
    Nothing,
}

/// A part of a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes; none in the last one.
    pub data: Arc<[u8]>,
    /// It begins with it.
    pub first: bool,
    /// It ends with it.
    pub last: bool,
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// `request_vote`
    RequestVote {
        /// The term of the election.
        term: u64,
        /// The candidate's last entry.
        last_index: u64,
        /// Its term.
        last_term: u64,
    },
    /// `response_vote`: a vote for the receiver. A refusal is not sent.
    Vote {
        /// The term of the election.
        term: u64,
    },
    /// `append_entries`
    Append {
        /// The leader's term.
        term: u64,
        /// How far the leader has committed.
        commit: u64,
        /// What it brings.
        body: Body,
    },
    /// `next_node_idx`: the answer to that.
    Next {
        /// The entry that is wanted next.
        next: u64,
        /// The leader is to begin there.
        reset: bool,
        /// All entries before it are there.
        success: bool,
    },
    /// `apply_command`: a command for the leader.
    Command {
        /// It.
        command: Arc<[u8]>,
        /// The sender's number of it; None: no answer is wanted.
        request: Option<u64>,
    },
    /// `apply_command_response`: which entry it became, or why it did not.
    Response {
        /// The sender's number of it.
        request: u64,
        /// Index and term of the entry.
        result: Result<(u64, u64), Reason>,
    },
    /// `timeout_now`: the receiver is to be elected.
    TimeoutNow {
        /// The leader's term.
        term: u64,
    },
    /// Nothing, of a type that PySyncObj does not know: it forgets a connection on which it has read nothing for 3.5 s,
    /// just when it wants to send something over it.
    Ping,
}

fn text(bytes: &[u8]) -> Value {
    Value::bytes(bytes)
}

impl Message {
    /// As it is sent.
    pub fn to_value(&self) -> Value {
        let int = |number: u64| Value::from(number);
        match self {
            Message::RequestVote { term, last_index, last_term } => Value::dict([
                ("type", Value::str("request_vote")),
                ("term", int(*term)),
                ("last_log_index", int(*last_index)),
                ("last_log_term", int(*last_term)),
            ]),
            Message::Vote { term } => {
                Value::dict([("type", Value::str("response_vote")), ("term", int(*term))])
            }
            Message::Append { term, commit, body } => append(*term, *commit, body),
            Message::Next { next, reset, success } => Value::dict([
                ("type", Value::str("next_node_idx")),
                ("next_node_idx", int(*next)),
                ("reset", Value::Bool(*reset)),
                ("success", Value::Bool(*success)),
            ]),
            Message::Command { command, request } => {
                let mut items = vec![
                    (Value::str("type"), Value::str("apply_command")),
                    (Value::str("command"), Value::Bytes(Arc::clone(command))),
                ];
                items.extend(request.map(|request| (Value::str("request_id"), int(request))));
                Value::Dict(items)
            }
            Message::Response { request, result: Ok((index, term)) } => Value::dict([
                ("type", Value::str("apply_command_response")),
                ("request_id", int(*request)),
                ("log_idx", int(*index)),
                ("log_term", int(*term)),
            ]),
            Message::Response { request, result: Err(reason) } => Value::dict([
                ("type", Value::str("apply_command_response")),
                ("request_id", int(*request)),
                ("error", Value::Int(reason.code())),
            ]),
            Message::TimeoutNow { term } => {
                Value::dict([("type", Value::str("timeout_now")), ("term", int(*term))])
            }
            Message::Ping => Value::dict([("type", Value::str("ping"))]),
        }
    }

    /// What was received; None: of a type that is not known, or not complete.
    pub fn of_value(value: &Value) -> Option<Message> {
        let index = |key: &str| value.get(key)?.as_index();
        let yes = |key: &str| value.get(key).is_some_and(Value::truthy);
        Some(match value.get("type")?.as_str()? {
            "request_vote" => Message::RequestVote {
                term: index("term")?,
                last_index: index("last_log_index")?,
                last_term: index("last_log_term")?,
            },
            "response_vote" => Message::Vote { term: index("term")? },
            "append_entries" => {
                Message::Append { term: index("term")?, commit: index("commit_index")?, body: body(value) }
            }
            "next_node_idx" => {
                Message::Next { next: index("next_node_idx")?, reset: yes("reset"), success: yes("success") }
            }
            "apply_command" => Message::Command {
                command: Arc::clone(value.get("command")?.as_bytes()?),
                request: index("request_id"),
            },
            "apply_command_response" => Message::Response {
                request: index("request_id")?,
                result: match value.get("error").and_then(Value::as_int) {
                    Some(code) => Err(Reason::of_code(code)),
                    None => Ok((index("log_idx")?, index("log_term")?)),
                },
            },
            "timeout_now" => Message::TimeoutNow { term: index("term")? },
            "ping" => Message::Ping,
            _ => return None,
        })
    }
}

fn append(term: u64, commit: u64, body: &Body) -> Value {
    let mut items = vec![(Value::str("type"), Value::str("append_entries"))];
    let mut add = |key: &str, value: Value| items.push((Value::str(key), value));
    if let Body::Part { part, data, .. } = body {
        let part = match part {
            Part::Start => "start",
            Part::Process => "process",
            Part::Finish => "finish",
        };
        add("transmission", Value::str(part));
        add("data", text(data));
    }
    add("term", term.into());
    add("commit_index", commit.into());
    match body {
        Body::Entries { prev_index, prev_term, entries } => {
            add("entries", Value::List(entries.iter().map(Entry::to_value).collect()));
            add("prevLogIdx", (*prev_index).into());
            add("prevLogTerm", (*prev_term).into());
        }
        Body::Part { prev_index, prev_term, .. } => {
            add("prevLogIdx", (*prev_index).into());
            add("prevLogTerm", (*prev_term).into());
        }
        Body::Dump(None) => add("serialized", Value::None),
        Body::Dump(Some(Chunk { data, first, last })) => {
            add("serialized", Value::Tuple(vec![text(data), Value::Bool(*first), Value::Bool(*last)]));
        }
        Body::Nothing => {}
    }
    Value::Dict(items)
}

fn body(value: &Value) -> Body {
    let read = || -> Option<Body> {
        let Some(prev) = value.get("prevLogIdx") else {
            return Some(Body::Dump(match value.get("serialized")? {
                Value::Tuple(parts) => match parts.as_slice() {
                    [Value::Bytes(data), first, last] => {
                        Some(Chunk { data: Arc::clone(data), first: first.truthy(), last: last.truthy() })
                    }
                    _ => None,
                },
                _ => None,
            }));
        };
        let (prev_index, prev_term) = (prev.as_index()?, value.get("prevLogTerm")?.as_index()?);
        let part = match value.get("transmission").and_then(Value::as_str) {
            Some("start") => Some(Part::Start),
            Some("process") => Some(Part::Process),
            Some("finish") => Some(Part::Finish),
            _ => None,
        };
        if let Some(part) = part {
            let data = Arc::clone(value.get("data")?.as_bytes()?);
            return Some(Body::Part { prev_index, prev_term, part, data });
        }
        let entries =
            value.get("entries")?.items()?.iter().map(Entry::of_value).collect::<Option<Vec<_>>>()?;
        Some(Body::Entries { prev_index, prev_term, entries })
    };
    read().unwrap_or(Body::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let entry = Entry { command: [0, 200].as_slice().into(), index: 7, term: 3 };
        let data: Arc<[u8]> = [1, 2].as_slice().into();
        let (prev_index, prev_term) = (6, 2);
        let bodies = [
            Body::Entries { prev_index, prev_term, entries: vec![entry.clone(), entry] },
            Body::Entries { prev_index, prev_term, entries: vec![] },
            Body::Part { prev_index, prev_term, part: Part::Process, data: Arc::clone(&data) },
            Body::Dump(None),
            Body::Dump(Some(Chunk { data: Arc::clone(&data), first: true, last: false })),
        ];
        let appends = bodies.into_iter().map(|body| Message::Append { term: 4, commit: 5, body });
        let others = [
            Message::RequestVote { term: 1, last_index: 2, last_term: 3 },
            Message::Vote { term: 9 },
            Message::Next { next: 70_000, reset: true, success: false },
            Message::Command { command: Arc::clone(&data), request: Some(5) },
            Message::Command { command: data, request: None },
            Message::Response { request: 5, result: Ok((8, 9)) },
            Message::Response { request: 5, result: Err(Reason::NotLeader) },
            Message::TimeoutNow { term: 2 },
            Message::Ping,
        ];
        for message in appends.chain(others) {
            let pickled = crate::pickle::dump(&message.to_value());
            let read = crate::pickle::load(&pickled).ok().and_then(|value| Message::of_value(&value));
            assert_eq!(read, Some(message));
        }
    }
}
