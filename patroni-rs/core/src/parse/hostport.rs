//! `host:port` texts (surface-config 8.7).

use pyfmt::int::{self, NoInteger};
use pyfmt::text::strip;

/// Is there nothing of a host, but white space or brackets? With it an address that others are told leads nowhere.
pub fn is_empty_host(host: &str) -> bool {
    host.trim().trim_matches(['[', ']']).trim().is_empty()
}

/// Splits `hosts:port` at the last colon. Hosts may be several, separated by
/// commas; when there is a colon among them they count as IPv6 addresses and
/// lose spaces and brackets. A bare `::1` is therefore host `:`, port 1.
///
/// # Errors
/// The port is not a number. Its range is not checked.
pub fn split_host_port(text: &str, default_port: i64) -> Result<(String, i64), NoInteger> {
    let Some((hosts, port)) = text.rsplit_once(':') else {
        return Ok((text.to_owned(), default_port));
    };
    let hosts = if hosts.contains(':') {
        let each = hosts.split(',').map(|h| strip(h).trim_matches(['[', ']']));
        each.collect::<Vec<_>>().join(",")
    } else {
        hosts.to_owned()
    };
    Ok((hosts, int::clamped(&int::parse(port)?)))
}
