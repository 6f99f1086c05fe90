//! The values that a command line gave.

use std::collections::HashMap;

/// One parsed value.
#[derive(Debug, Clone, PartialEq)]
pub enum Val {
    /// A flag that was given.
    Set,
    /// Text.
    Text(String),
    /// All occurrences.
    Many(Vec<String>),
    /// An integer.
    Int(i64),
    /// A double.
    Float(f64),
    /// The bytes of a file.
    Bytes(Vec<u8>),
}

/// The values by the names of the command table; what was not given is absent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(HashMap<&'static str, Val>);

impl Values {
    /// Keeps a value; an earlier one of that name is replaced.
    pub fn put(&mut self, name: &'static str, value: Val) {
        self.0.insert(name, value);
    }

    /// Was the flag given?
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Val::Set))
    }

    /// The text of an option or argument.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Val::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// All values of a repeatable option or argument.
    pub fn many(&self, name: &str) -> &[String] {
        match self.0.get(name) {
            Some(Val::Many(all)) => all,
            _ => &[],
        }
    }

    /// The integer of an option.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Val::Int(i)) => Some(*i),
            _ => None,
        }
    }

    /// The double of an option.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.0.get(name) {
            Some(Val::Float(f)) => Some(*f),
            _ => None,
        }
    }

    /// The bytes of the file an option named.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        match self.0.get(name) {
            Some(Val::Bytes(bytes)) => Some(bytes),
            _ => None,
        }
    }
}
