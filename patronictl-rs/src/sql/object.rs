//! Python objects that a driver makes of PostgreSQL's values, as far as printing goes: `str`, `repr`, JSON, YAML.

use pyfmt::Value;

use crate::click::CliError;

/// An object.
#[derive(Debug, Clone)]
pub enum Object {
    /// Of the kinds that JSON and YAML documents are made of.
    Plain(Value),
    /// A list.
    List(Vec<Object>),
    /// A tuple.
    Tuple(Vec<Object>),
    /// Of a class of its own.
    Other {
        /// The class.
        class: &'static str,
        /// `str()`.
        text: String,
        /// `repr()`.
        repr: String,
    },
}

impl Object {
    /// `None`.
    pub const NONE: Object = Object::Plain(Value::Null);

    /// An object whose `repr()` is that of a call with its text: `Decimal('1')`.
    pub fn called(class: &'static str, text: String) -> Object {
        let repr = format!("{class}({})", pyfmt::value::str_repr(&text));
        Object::Other { class, text, repr }
    }

    /// Python's `bool(object)`, for what may come of a boolean column.
    pub fn truthy(&self) -> bool {
        matches!(self, Object::Plain(value) if value.truthy())
    }

    /// Python's `str(object)`.
    pub fn text(&self) -> String {
        match self {
            Object::Plain(value) => value.py_str(),
            Object::Other { text, .. } => text.clone(),
            nested => nested.repr(),
        }
    }

    /// Python's `repr(object)`.
    pub fn repr(&self) -> String {
        let all = |items: &[Object]| items.iter().map(Object::repr).collect::<Vec<_>>().join(", ");
        match self {
            Object::Plain(value) => value.py_repr(),
            Object::Other { repr, .. } => repr.clone(),
            Object::List(items) => format!("[{}]", all(items)),
            Object::Tuple(items) if items.len() == 1 => format!("({},)", all(items)),
            Object::Tuple(items) => format!("({})", all(items)),
        }
    }

    /// What `json.dumps` makes of it.
    ///
    /// # Errors
    /// [`CliError::Crash`] for objects that JSON does not know.
    pub fn json(&self) -> Result<Value, CliError> {
        match self {
            Object::Plain(value) => {
                crate::output::check_json(value)?;
                Ok(value.clone())
            }
            Object::List(items) | Object::Tuple(items) => {
                items.iter().map(Object::json).collect::<Result<_, _>>().map(Value::List)
            }
            Object::Other { class, .. } => {
                Err(CliError::Crash(format!("TypeError: Object of type {class} is not JSON serializable")))
            }
        }
    }

    /// What `yaml.safe_dump` makes of it.
    ///
    /// # Errors
    /// [`CliError::Crash`] for objects that it cannot represent.
    pub fn yaml(&self) -> Result<Value, CliError> {
        match self {
            Object::Plain(value) => Ok(value.clone()),
            Object::List(items) | Object::Tuple(items) => {
                items.iter().map(Object::yaml).collect::<Result<_, _>>().map(Value::List)
            }
            Object::Other { class: "date" | "datetime", text, .. } => Ok(Value::Timestamp(text.clone())),
            Object::Other { repr, .. } => Err(CliError::Crash(format!(
                "yaml.representer.RepresenterError: ('cannot represent an object', {repr})"
            ))),
        }
    }
}

impl From<Value> for Object {
    fn from(value: Value) -> Object {
        Object::Plain(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn printing() {
        let half = Object::called("Decimal", "0.5".into());
        let list = Object::List(vec![half.clone(), Object::NONE, Object::Plain("a".into())]);
        assert_eq!(half.text(), "0.5");
        assert_eq!(list.text(), "[Decimal('0.5'), None, 'a']");
        assert_eq!(Object::Tuple(vec![half.clone()]).text(), "(Decimal('0.5'),)");
        let crash = |text: &str| CliError::Crash(text.into());
        let json = crash("TypeError: Object of type Decimal is not JSON serializable");
        assert_eq!(list.json().unwrap_err(), json);
        let yaml = crash("yaml.representer.RepresenterError: ('cannot represent an object', Decimal('0.5'))");
        assert_eq!(list.yaml().unwrap_err(), yaml);
    }
}
