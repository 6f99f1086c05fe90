//! The reference's replicated dictionary (`KVStoreTTL`): what each command does to it.
//!
//! Every member has to do exactly the same with the same entry. Hence what is not known is not passed over: the member
//! stops, and says so, before its state becomes another than that of the others.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use patroni_core::ha::Mono;

use crate::entry::kind;
use crate::pickle::{self, Value};

/// The replicated functions, numbered in the order of their names.
mod function {
    pub const DELETE: i64 = 0;
    pub const EXPIRE: i64 = 1;
    pub const SET: i64 = 2;
}

/// An expiry that was proposed and has not come about is proposed again after that.
const PROPOSE_AGAIN: Duration = Duration::from_secs(2);

/// What a key holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The content.
    pub value: Arc<str>,
    /// When it was written, by the writer's wall clock: seconds since 1970.
    pub updated: f64,
    /// When the key was made, by its writer's wall clock.
    pub created: f64,
    /// When it ends, by the writer's wall clock: `updated` and the ttl.
    pub expire: Option<f64>,
    /// The entry that wrote it: its version.
    pub index: u64,
}

impl Item {
    fn to_value(&self, with_index: bool) -> Value {
        let mut items = vec![
            (Value::str("value"), Value::Str(Arc::clone(&self.value))),
            (Value::str("updated"), Value::Float(self.updated)),
            (Value::str("created"), Value::Float(self.created)),
        ];
        items.extend(self.expire.map(|expire| (Value::str("expire"), Value::Float(expire))));
        if with_index {
            items.push((Value::str("index"), self.index.into()));
        }
        Value::Dict(items)
    }

    fn of_value(value: &Value) -> Option<Item> {
        let expire = match value.get("expire") {
            Some(expire) => Some(expire.as_float()?),
            None => None,
        };
        Some(Item {
            value: match value.get("value")? {
                Value::Str(text) => Arc::clone(text),
                _ => return None,
            },
            updated: value.get("updated")?.as_float()?,
            created: value.get("created")?.as_float()?,
            expire,
            index: value.get("index").and_then(Value::as_index).unwrap_or(0),
        })
    }

    /// Was it written by the same call?
    #[allow(clippy::float_cmp)]
    pub fn same(&self, other: &Item) -> bool {
        self.created == other.created
            && self.updated == other.updated
            && self.expire == other.expire
            && self.value == other.value
    }

    /// For how long it lives without another write.
    fn ttl(&self) -> Option<Duration> {
        let ttl = self.expire? - self.updated;
        Duration::try_from_secs_f64(ttl.max(0.0)).ok()
    }
}

/// The conditions of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Is it to be there?
    pub exists: Option<bool>,
    /// The value that it is to have.
    pub value: Option<Arc<str>>,
    /// The entry that is to have written it.
    pub index: Option<u64>,
}

impl Conditions {
    fn hold(&self, old: Option<&Item>) -> bool {
        self.exists.is_none_or(|exists| exists == old.is_some())
            && self.value.as_ref().is_none_or(|value| old.is_some_and(|old| old.value == *value))
            && self.index.is_none_or(|index| old.is_some_and(|old| old.index == index))
    }

    fn to_items(&self) -> Vec<(Value, Value)> {
        let mut items = Vec::new();
        items.extend(self.exists.map(|exists| (Value::str("prevExist"), Value::Bool(exists))));
        items.extend(self.value.clone().map(|value| (Value::str("prevValue"), Value::Str(value))));
        items.extend(self.index.map(|index| (Value::str("prevIndex"), index.into())));
        items
    }

    fn of_value(value: &Value) -> Option<Conditions> {
        let Value::Dict(items) = value else { return None };
        let mut conditions = Conditions::default();
        for (key, value) in items {
            match (key.as_str()?, value) {
                ("prevExist", exists) => conditions.exists = Some(exists.truthy()),
                ("prevValue", Value::Str(text)) => conditions.value = Some(Arc::clone(text)),
                ("prevIndex", Value::None) | ("recursive", Value::Bool(_)) => {}
                ("prevIndex", index) => conditions.index = Some(index.as_index()?),
                _ => return None,
            }
        }
        Some(conditions)
    }
}

/// A call of a replicated function.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// `_set`
    Set(Arc<str>, Item, Conditions),
    /// `_delete`
    Delete(Arc<str>, Conditions),
    /// `_delete` of all that begins so.
    DeleteAll(Arc<str>),
    /// `_expire`: it goes if it is still this.
    Expire(Arc<str>, Item),
}

impl Call {
    /// The command of it, as the reference would have written it.
    pub fn command(&self) -> Arc<[u8]> {
        let text = |key: &Arc<str>| Value::Str(Arc::clone(key));
        let call = |function: i64, arguments: Vec<Value>, named: Vec<(Value, Value)>| {
            let mut call = vec![Value::Int(function), Value::Tuple(arguments)];
            if !named.is_empty() {
                call.push(Value::Dict(named));
            }
            Value::Tuple(call)
        };
        let recursive = |yes| (Value::str("recursive"), Value::Bool(yes));
        let value = match self {
            Call::Set(key, item, conditions) => {
                call(function::SET, vec![text(key), item.to_value(false)], conditions.to_items())
            }
            Call::Delete(key, conditions) => {
                let named = [vec![recursive(false)], conditions.to_items()].concat();
                call(function::DELETE, vec![text(key)], named)
            }
            Call::DeleteAll(prefix) => call(function::DELETE, vec![text(prefix)], vec![recursive(true)]),
            Call::Expire(key, item) => {
                call(function::EXPIRE, vec![text(key), item.to_value(true)], Vec::new())
            }
        };
        let mut command = vec![kind::REGULAR];
        command.extend(pickle::dump(&value));
        command.into()
    }

    /// What a command without its first byte calls; None: nothing that is known here.
    fn of_pickle(pickled: &[u8]) -> Option<Call> {
        let value = pickle::load(pickled).ok()?;
        let (function, arguments, named) = match value.items()? {
            [function, arguments] => (function, arguments, Value::Dict(Vec::new())),
            [function, arguments, named] => (function, arguments, named.clone()),
            _ => return None,
        };
        let recursive = named.get("recursive").is_some_and(Value::truthy);
        let conditions = Conditions::of_value(&named)?;
        Some(match (function.as_int()?, arguments.items()?) {
            (function::DELETE, [Value::Str(key)]) if recursive => Call::DeleteAll(Arc::clone(key)),
            (function::DELETE, [Value::Str(key)]) => Call::Delete(Arc::clone(key), conditions),
            (function::EXPIRE, [Value::Str(key), item]) => {
                Call::Expire(Arc::clone(key), Item::of_value(item)?)
            }
            (function::SET, [Value::Str(key), item]) => {
                Call::Set(Arc::clone(key), Item::of_value(item)?, conditions)
            }
            _ => return None,
        })
    }
}

/// Can a command be carried out? A leader does not let others into the log.
pub fn is_known(command: &[u8]) -> bool {
    match command.split_first() {
        Some((&kind::REGULAR, pickled)) => Call::of_pickle(pickled).is_some(),
        Some((&kind::NO_OP, [])) => true,
        Some((&kind::MEMBERSHIP, _)) => crate::entry::change(command).is_some(),
        Some((&kind::VERSION, pickled)) => pickle::load(pickled) == Ok(Value::Int(0)),
        _ => false,
    }
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq)]
pub enum Done {
    /// The key is this now.
    Set(Item),
    /// It is gone, or nothing was to be done.
    Yes,
    /// Its conditions did not hold.
    Refused,
}

/// A change of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Its full name.
    pub key: Arc<str>,
    /// The content; None: it is gone.
    pub value: Option<Arc<str>>,
    /// The entry.
    pub index: u64,
}

#[derive(Debug, Clone)]
struct Kept {
    item: Item,
    /// When this member has seen it written.
    since: Mono,
    /// When its end was proposed last.
    proposed: Option<Mono>,
}

/// The dictionary.
#[derive(Debug, Default)]
pub struct Kv {
    keys: BTreeMap<Arc<str>, Kept>,
}

impl Kv {
    /// Carries a command out. `changes` gets what has changed.
    ///
    /// # Errors
    /// It is not known: this member must not go on.
    pub fn apply(
        &mut self,
        command: &[u8],
        index: u64,
        now: Mono,
        changes: &mut Vec<Change>,
    ) -> Result<Done, String> {
        if !is_known(command) {
            return Err(format!("entry {index} is a command that is not known here"));
        }
        let call = match command.split_first() {
            Some((&kind::REGULAR, pickled)) => Call::of_pickle(pickled),
            _ => None,
        };
        let Some(call) = call else { return Ok(Done::Yes) };
        let mut gone = |keys: &mut BTreeMap<Arc<str>, Kept>, key: &Arc<str>| {
            // The reference raises KeyError for one that is not there, at this entry forever.
            if keys.remove(key).is_none() {
                return Done::Refused;
            }
            changes.push(Change { key: Arc::clone(key), value: None, index });
            Done::Yes
        };
        Ok(match call {
            Call::Set(key, mut item, conditions) => {
                let old = self.keys.get(&key).map(|kept| &kept.item);
                if !conditions.hold(old) {
                    return Ok(Done::Refused);
                }
                #[allow(clippy::float_cmp)]
                if old.is_some_and(|old| old.created != item.created) {
                    item.created = item.updated;
                }
                item.index = index;
                changes.push(Change { key: Arc::clone(&key), value: Some(Arc::clone(&item.value)), index });
                self.keys.insert(key, Kept { item: item.clone(), since: now, proposed: None });
                Done::Set(item)
            }
            Call::Delete(key, conditions) => {
                if !conditions.hold(self.get(&key)) {
                    return Ok(Done::Refused);
                }
                gone(&mut self.keys, &key)
            }
            Call::DeleteAll(prefix) => {
                let names: Vec<_> = self.below(&prefix).map(|(key, _)| Arc::clone(key)).collect();
                for key in names {
                    gone(&mut self.keys, &key);
                }
                Done::Yes
            }
            Call::Expire(key, item) => match self.get(&key) {
                Some(current) if current.same(&item) => gone(&mut self.keys, &key),
                _ => Done::Yes,
            },
        })
    }

    /// One key.
    pub fn get(&self, key: &str) -> Option<&Item> {
        self.keys.get(key).map(|kept| &kept.item)
    }

    /// All keys whose names begin so.
    pub fn below<'k>(&'k self, prefix: &'k str) -> impl Iterator<Item = (&'k Arc<str>, &'k Item)> {
        let from = self.keys.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.take_while(move |(key, _)| key.starts_with(prefix)).map(|(key, kept)| (key, &kept.item))
    }

    /// What a leader is to propose the end of: what nobody has written for its ttl, by **this member's** clock since it
    /// has seen it written. The reference compares the writer's wall clock with its own, so that a lock ends too early
    /// where clocks differ or jump. A holder counts from before its request, which is earlier.
    pub fn due(&mut self, now: Mono) -> Vec<Call> {
        let mut due = Vec::new();
        for (key, kept) in &mut self.keys {
            let ended = kept.item.ttl().is_some_and(|ttl| now.since(kept.since) >= ttl);
            if ended && kept.proposed.is_none_or(|at| now.since(at) >= PROPOSE_AGAIN) {
                kept.proposed = Some(now);
                due.push(Call::Expire(Arc::clone(key), kept.item.clone()));
            }
        }
        due
    }

    /// The key whose writer's wall clock is ahead of ours most, as far as what it has written shows, and by how many
    /// seconds at least. `ours` tells which keys are our own.
    pub fn ahead(&self, now: Mono, wall: f64, ours: impl Fn(&str) -> bool) -> Option<(&str, f64)> {
        let seen = self.keys.iter().filter(|(key, kept)| kept.item.expire.is_some() && !ours(key));
        let ahead = seen
            .map(|(key, kept)| (&**key, kept.item.updated - (wall - now.since(kept.since).as_secs_f64())));
        ahead.filter(|(_, seconds)| seconds.is_finite() && *seconds > 0.0).max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// As a dump has it.
    pub fn to_value(&self) -> Value {
        let items =
            self.keys.iter().map(|(key, kept)| (Value::Str(Arc::clone(key)), kept.item.to_value(true)));
        Value::Dict(items.collect())
    }

    /// From a dump; None: there is something in it that is not known here.
    pub fn of_value(value: &Value, now: Mono) -> Option<Kv> {
        let Value::Dict(items) = value else { return None };
        let mut keys = BTreeMap::new();
        for (key, item) in items {
            let Value::Str(key) = key else { return None };
            keys.insert(Arc::clone(key), Kept { item: Item::of_value(item)?, since: now, proposed: None });
        }
        Some(Kv { keys })
    }
}

#[cfg(test)]
#[path = "kv_tests.rs"]
mod tests;
