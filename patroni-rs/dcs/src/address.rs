//! Addresses of a store as people write them. What cannot be one is refused by name: the store would be waited for
//! without end. And a word that is not understood never means a connection without TLS.

use std::net::Ipv6Addr;

use pyfmt::value::str_repr;
use pyfmt::Value;

use crate::DcsError;

/// `http` or `https`, written in any case.
///
/// # Errors
/// Any other word; `place` says where it stands.
pub(crate) fn scheme(word: &str, place: &str) -> Result<String, String> {
    let lower = word.to_ascii_lowercase();
    match lower.as_str() {
        "http" | "https" => Ok(lower),
        _ => Err(format!("expected http or https in {place}, but got {}", str_repr(word))),
    }
}

/// `host`, `host:port`, `[v6]:port`, `[v6]`, of the section of that name; no URL.
///
/// # Errors
/// The port is no number, or the host cannot be one.
pub(crate) fn host_port(text: &str, default_port: u16, section: &str) -> Result<(String, u16), DcsError> {
    let (host, port) = match text.rsplit_once(':') {
        // Of a URL without a port this is no port either.
        Some((_, rest)) if rest.starts_with("//") => (text, default_port),
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| bad_port(text, section))?)
        }
        _ => (text, default_port),
    };
    let host = host.trim().trim_matches(['[', ']']);
    if is_host(host) {
        return Ok((host.to_owned(), port));
    }
    let got = str_repr(text);
    Err(DcsError::Config(format!("expected <HOST>:<PORT> in the {section} section of config, but got {got}")))
}

/// That the section of that name has a port that is none.
pub(crate) fn bad_port(text: &str, section: &str) -> DcsError {
    DcsError::Config(format!("invalid port in the {section} section of config: {text}"))
}

/// May that be the name or the address of a host? Brackets are gone already.
pub(crate) fn is_host(host: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/@?#[]".contains(c);
    let without_zone = host.split_once('%').map_or(host, |(address, _)| address);
    !host.is_empty()
        && !host.contains(odd)
        && (!host.contains(':') || without_zone.parse::<Ipv6Addr>().is_ok())
}

/// The hosts of a list, or of text with commas; and a line for each item that is none and has to be passed over.
pub(crate) fn hosts(value: Option<&Value>, place: &str) -> (Vec<String>, Vec<String>) {
    let items: Vec<Value> = match value {
        Some(Value::Str(text)) => text.split(',').map(Value::from).collect(),
        Some(Value::List(list)) => list.clone(),
        _ => Vec::new(),
    };
    let (mut usable, mut passed_over) = (Vec::new(), Vec::new());
    for item in &items {
        match item.as_str().map(str::trim).filter(|text| !text.is_empty()) {
            Some(text) => usable.push(text.to_owned()),
            None => passed_over.push(format!("{place}: {} is no host, and is not used", item.py_repr())),
        }
    }
    (usable, passed_over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes() {
        for (word, want) in [
            ("http", Some("http")),
            ("HTTPS", Some("https")),
            ("Https", Some("https")),
            ("HTTP", Some("http")),
        ] {
            assert_eq!(scheme(word, "x").ok().as_deref(), want);
        }
        for word in ["ftp", "5", "", " https", "https:", "True"] {
            let want = format!("expected http or https in x, but got '{word}'");
            assert_eq!(scheme(word, "x"), Err(want));
        }
    }

    #[test]
    fn names_and_addresses_of_hosts() {
        for host in ["h", "a.b-c_d.example", "127.0.0.1", "::1", "fe80::1%eth0"] {
            assert!(is_host(host), "{host}");
        }
        for none in ["", " ", "a b", "http://h", "127.0.0.1:2379", "[::1]", "u@h", "h/", "a:b"] {
            assert!(!is_host(none), "{none}");
        }
    }
}
