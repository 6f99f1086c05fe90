//! One entry of the log, and what kinds there are.

use std::sync::Arc;

use crate::pickle::{self, Value};

/// The byte that a command begins with (PySyncObj's `_COMMAND_TYPE`).
pub mod kind {
    /// A call of a replicated function.
    pub const REGULAR: u8 = 0;
    /// Nothing: of a new leader, and of who wants to know that a majority is there.
    pub const NO_OP: u8 = 1;
    /// A member that comes or goes.
    pub const MEMBERSHIP: u8 = 2;
    /// A new version of the functions.
    pub const VERSION: u8 = 3;
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its kind and a pickle.
    pub command: Arc<[u8]>,
    /// Its place, from 1.
    pub index: u64,
    /// The term of the leader that made it.
    pub term: u64,
}

/// A member that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// It comes.
    pub add: bool,
    /// `host:port`.
    pub address: Arc<str>,
}

impl Entry {
    /// The first entry of every log.
    pub fn first() -> Entry {
        Entry { command: no_op(), index: 1, term: 0 }
    }

    /// As messages and dumps have it.
    pub fn to_value(&self) -> Value {
        Value::Tuple(vec![Value::Bytes(Arc::clone(&self.command)), self.index.into(), self.term.into()])
    }

    /// From a message or a dump.
    pub fn of_value(value: &Value) -> Option<Entry> {
        let [command, index, term] = value.items()? else { return None };
        let command = Arc::clone(command.as_bytes()?);
        let entry = Entry { command, index: index.as_index()?, term: term.as_index()? };
        (!entry.command.is_empty()).then_some(entry)
    }

    /// The member that this entry lets come or go.
    pub fn change(&self) -> Option<Change> {
        change(&self.command)
    }
}

/// The command that does nothing.
pub fn no_op() -> Arc<[u8]> {
    [kind::NO_OP].as_slice().into()
}

/// The command that lets a member come or go.
pub fn membership(change: &Change) -> Arc<[u8]> {
    let address = Value::Str(Arc::clone(&change.address));
    let what = Value::str(if change.add { "add" } else { "rem" });
    let request = Value::List(vec![what, address, Value::Node(Arc::clone(&change.address))]);
    let mut command = vec![kind::MEMBERSHIP];
    command.extend(pickle::dump(&request));
    command.into()
}

/// What a command of that kind says; None for other kinds and for what cannot be read.
pub fn change(command: &[u8]) -> Option<Change> {
    let (kind, pickled) = command.split_first()?;
    if *kind != kind::MEMBERSHIP {
        return None;
    }
    let request = pickle::load(pickled).ok()?;
    let (what, address) = match request.items()? {
        [what, _, Value::Node(address), ..] => (what, address),
        [what, Value::Str(address)] | [what, _, Value::Str(address), ..] => (what, address),
        _ => return None,
    };
    let add = match what.as_str()? {
        "add" => true,
        "rem" => false,
        _ => return None,
    };
    is_address(address).then(|| Change { add, address: Arc::clone(address) })
}

/// `host:port`.
pub fn is_address(address: &str) -> bool {
    address_parts(address).is_some_and(|(host, _)| !host.is_empty())
}

/// The host, as it is written, and the port of `host:port`.
pub fn address_parts(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    Some((host, port.parse().ok()?))
}
