//! Checks of single values.

use std::net::Ipv6Addr;

use patroni_core::parse::{parse_bool, parse_int, split_host_port};
use pyfmt::Value;

use super::walk::Context;
use super::{files, network};

/// What the reference says when it has nothing better.
const WRONG: &str = "Wrong value";

/// A check that is more than a type.
#[derive(Debug)]
pub(super) enum Check {
    /// An integer within bounds, in a unit; `strict`: it is written as one.
    Integer {
        min: i64,
        max: i64,
        unit: Option<&'static str>,
        multiple_of: i64,
        strict: bool,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, given in lower case, in any case.
    WordAnyCase(&'static [&'static str]),
    LogFormat,
    WatchdogMode,
    SynchronousMode,
    Ipv4,
    Ipv6,
    /// An address that others reach this node under.
    ConnectAddress,
    /// `host:port` that nobody listens on yet.
    Listen,
    /// `host,host:port` that nobody listens on yet.
    ListenHosts,
    /// `host:port` that somebody listens on.
    Reachable,
    /// Such addresses, separated by commas.
    ReachableCsv,
    /// A list of such addresses.
    ReachableList,
    DataDir,
    /// The name of one of PostgreSQL's programs.
    Binary,
}

/// An integer in Python's sense, where booleans are some.
pub(super) fn is_int(value: &Value) -> bool {
    matches!(value, Value::Int(_) | Value::BigInt(_) | Value::Bool(_))
}

impl Check {
    /// The error of a value that has not the type that this check needs.
    pub(super) fn type_error(&self, value: &Value) -> Option<&'static str> {
        let (ok, error) = match self {
            Check::Integer { strict: true, .. } => (is_int(value), "is not an integer"),
            Check::ConnectAddress
            | Check::Listen
            | Check::ListenHosts
            | Check::ReachableCsv
            | Check::DataDir
            | Check::Binary => (value.as_str().is_some(), "is not a string"),
            Check::ReachableList => (value.as_list().is_some(), "is not an array"),
            _ => return None,
        };
        (!ok).then_some(error)
    }

    /// Runs the check; the error is its reason.
    pub(super) fn run(&self, value: &Value, context: &Context<'_>) -> Result<(), String> {
        let text = value.as_str().unwrap_or_default();
        let options = context.options;
        match self {
            Check::Integer { min, max, unit, multiple_of, .. } => {
                let number = parse_int(value, *unit);
                assert(number.is_some_and(|n| n >= *min && n <= *max && n % multiple_of == 0))
            }
            Check::Word(words) => assert(value.as_str().is_some_and(|v| words.contains(&v))),
            Check::WordAnyCase(words) => {
                assert(value.as_str().is_some_and(|v| words.contains(&v.to_lowercase().as_str())))
            }
            Check::LogFormat => log_format(value),
            Check::WatchdogMode => watchdog_mode(value),
            Check::SynchronousMode => {
                let quorum = value.as_str().is_some_and(|v| v.to_lowercase() == "quorum");
                let ok = quorum || parse_bool(value).is_some();
                ok.then_some(()).ok_or_else(|| "invalid value for synchronous_mode".to_owned())
            }
            Check::Ipv4 => {
                is_ipv4(text).then_some(()).ok_or_else(|| "Is not a valid ipv4 address".to_owned())
            }
            Check::Ipv6 => {
                let ok = text.parse::<Ipv6Addr>().is_ok();
                ok.then_some(()).ok_or_else(|| "Is not a valid ipv6 address".to_owned())
            }
            Check::ConnectAddress => connect_address(text),
            Check::Listen => network::free(text, false, options.ignore_listen_port),
            Check::ListenHosts => network::free(text, true, options.ignore_listen_port),
            Check::Reachable => network::reachable(value),
            Check::ReachableCsv => {
                text.split(',').try_for_each(|part| network::reachable(&pyfmt::text::strip(part).into()))
            }
            Check::ReachableList => value.as_list().into_iter().flatten().try_for_each(network::reachable),
            Check::DataDir => files::data_dir(text, context),
            Check::Binary => files::binary(text, context),
        }
    }
}

fn assert(ok: bool) -> Result<(), String> {
    ok.then_some(()).ok_or_else(|| WRONG.to_owned())
}

fn log_format(value: &Value) -> Result<(), String> {
    let is_field = |field: &Value| match field {
        Value::Str(_) => true,
        Value::Map(m) => m.len() == 1 && m.values().all(|v| v.as_str().is_some()),
        _ => false,
    };
    match value {
        Value::Str(_) => Ok(()),
        Value::List(fields) if fields.is_empty() => Err("should contain at least one item".to_owned()),
        Value::List(fields) if fields.iter().all(is_field) => Ok(()),
        Value::List(_) => Err("each item should be a string or a dictionary with string values".to_owned()),
        _ => Err("Should be a string or a list".to_owned()),
    }
}

fn watchdog_mode(value: &Value) -> Result<(), String> {
    match value {
        Value::Str(mode) => assert(["off", "automatic", "required"].contains(&mode.as_str())),
        Value::Bool(on) => assert(!on),
        _ => Err("expected type is not a string".to_owned()),
    }
}

fn connect_address(text: &str) -> Result<(), String> {
    let (host, _) = split_host_port(text, 1).map_err(|_| "contains a wrong value".to_owned())?;
    if ["127.0.0.1", "0.0.0.0", "*", "::1", "localhost"].contains(&host.as_str()) {
        return Err(r#"must not contain "127.0.0.1", "0.0.0.0", "*", "::1", "localhost""#.to_owned());
    }
    Ok(())
}

/// What inet_aton(3) takes: one to four parts in decimal, octal or hexadecimal,
/// of which the last fills the bytes that are left. White space ends the text.
fn is_ipv4(text: &str) -> bool {
    let text = text.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default();
    let parts: Vec<&str> = text.split('.').collect();
    let Some((last, leading)) = parts.split_last().filter(|_| parts.len() <= 4) else { return false };
    let free_bytes = 4 - leading.len();
    let limit = u64::MAX >> (64 - 8 * free_bytes);
    leading.iter().all(|p| c_number(p).is_some_and(|n| n <= 255))
        && c_number(last).is_some_and(|n| n <= limit)
}

fn c_number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = digits.chars().all(|c| c.is_digit(radix));
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_as_inet_aton_takes_it() {
        for (text, ok) in [
            ("127.0.0.1", true),
            ("127.1", true),
            ("0x7f.1", true),
            ("4294967295", true),
            ("4294967296", false),
            ("1.2.3.256", false),
            ("256.1", false),
            ("1.2.3.4.5", false),
            ("08.1", false),
            ("", false),
            ("a", false),
            ("1.", false),
        ] {
            assert_eq!(is_ipv4(text), ok, "{text}");
        }
    }

    #[test]
    fn addresses_of_this_node() {
        assert!(connect_address("10.0.0.1").is_ok());
        assert!(connect_address("10.0.0.1:x").is_err());
        assert!(connect_address("localhost:80").is_err());
    }
}
