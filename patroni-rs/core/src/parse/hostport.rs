//! `host:port` texts (surface-config 8.7).

use super::{py_strip, python_int};

/// The port is not a number; the text is that of Python's `int()`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid literal for int() with base 10: {0}")]
pub struct BadPort(String);

/// Splits `hosts:port` at the last colon. Hosts may be several, separated by
/// commas; when there is a colon among them they count as IPv6 addresses and
/// lose spaces and brackets. A bare `::1` is therefore host `:`, port 1.
///
/// # Errors
/// The port is not a number. Its range is not checked.
pub fn split_host_port(text: &str, default_port: i64) -> Result<(String, i64), BadPort> {
    let Some((hosts, port)) = text.rsplit_once(':') else {
        return Ok((text.to_owned(), default_port));
    };
    let hosts = if hosts.contains(':') {
        let each = hosts.split(',').map(|h| py_strip(h).trim_matches(['[', ']']));
        each.collect::<Vec<_>>().join(",")
    } else {
        hosts.to_owned()
    };
    let number = python_int(port).ok_or_else(|| BadPort(pyfmt::value::str_repr(port)))?;
    Ok((hosts, number))
}
