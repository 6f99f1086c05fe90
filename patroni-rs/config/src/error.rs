//! Why a configuration cannot be used.

use pyfmt::oserror;
use pyfmt::yaml::YamlError;
use pyfmt::Value;

/// A refusal; every kind ends a program with exit status 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The reference prints exactly this text.
    #[error("{0}")]
    Refused(String),
    /// What the reference has no handler for; this is the last line of the
    /// traceback that it prints.
    #[error("{class}: {message}")]
    Exception {
        /// Name of the exception's class.
        class: &'static str,
        /// Its text.
        message: String,
    },
}

/// Result with [`ConfigError`].
pub type Result<T> = std::result::Result<T, ConfigError>;

impl ConfigError {
    pub(crate) fn refused(message: impl Into<String>) -> ConfigError {
        ConfigError::Refused(message.into())
    }

    pub(crate) fn exception(class: &'static str, message: impl Into<String>) -> ConfigError {
        ConfigError::Exception { class, message: message.into() }
    }

    /// `TypeError`.
    pub(crate) fn of_type(message: impl Into<String>) -> ConfigError {
        ConfigError::exception("TypeError", message)
    }

    /// A value has no such method.
    pub(crate) fn no_attribute(value: &Value, name: &str) -> ConfigError {
        let text = format!("'{}' object has no attribute '{name}'", qualified_name(value));
        ConfigError::exception("AttributeError", text)
    }

    /// A value that has to be a path is none.
    pub(crate) fn not_a_path(value: &Value) -> ConfigError {
        let name = value.type_name();
        ConfigError::of_type(format!("expected str, bytes or os.PathLike object, not {name}"))
    }

    /// The text of the exception alone, as `str(e)` gives it.
    pub fn message(&self) -> &str {
        match self {
            ConfigError::Refused(message) | ConfigError::Exception { message, .. } => message,
        }
    }
}

impl From<YamlError> for ConfigError {
    fn from(error: YamlError) -> ConfigError {
        ConfigError::exception(error.class(), error.to_string())
    }
}

/// The name of a value's type as exceptions give it, with the module of those
/// that are not built in.
pub(crate) fn qualified_name(value: &Value) -> String {
    match value {
        Value::Timestamp(_) => format!("datetime.{}", value.type_name()),
        other => other.type_name().to_owned(),
    }
}

/// The class that Python raises for an error of the operating system.
pub(crate) fn os_error(error: &std::io::Error, path: &str) -> ConfigError {
    ConfigError::exception(oserror::class(error), oserror::text(error, Some(path)))
}
