//! `-d/--dcs-url`: `[scheme://]host[:port][/namespace]` (surface-api-ctl C7, C15).

use pyfmt::Value;

use crate::click::CliError;

/// The schemes and their default ports, in the order in which a bare port is
/// looked up.
pub const SCHEMES: [(&str, u16); 5] =
    [("zookeeper", 2181), ("exhibitor", 8181), ("consul", 8500), ("etcd", 2379), ("etcd3", 2379)];

/// The configuration that a URL stands for: one DCS section, and `namespace`
/// when the URL has a path.
///
/// # Errors
/// An unknown scheme, or a port that is no port.
pub fn parse(url: &str) -> Result<Value, CliError> {
    let url = if url.contains("//") { url.to_owned() } else { format!("//{url}") };
    let (scheme, rest) = split_scheme(&url);
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let path = tail.split(['?', '#']).next().unwrap_or_default().trim();
    let (host, port) = host_and_port(authority)?;
    let (scheme, default_port) = find_scheme(&scheme, port)?;
    let port = port.unwrap_or(default_port);
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    let mut config = Value::map();
    config.set(scheme, section(scheme, &host, port));
    if !path.is_empty() && path != "/" {
        config.set("namespace", path);
    }
    Ok(config)
}

fn split_scheme(url: &str) -> (String, &str) {
    match url.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_lowercase(), rest),
        _ => (String::new(), url),
    }
}

fn is_scheme(text: &str) -> bool {
    let valid = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(valid)
}

fn find_scheme(scheme: &str, port: Option<u16>) -> Result<(&'static str, u16), CliError> {
    let etcd = ("etcd", 2379);
    if scheme.is_empty() {
        return Ok(SCHEMES.into_iter().find(|(_, p)| Some(*p) == port).unwrap_or(etcd));
    }
    let known = SCHEMES.into_iter().find(|(name, _)| *name == scheme);
    known.ok_or_else(|| CliError::msg(format!("Unknown dcs scheme: {scheme}")))
}

/// Host in lower case without its brackets, and the port unless it is 0.
fn host_and_port(authority: &str) -> Result<(String, Option<u16>), CliError> {
    let address = authority.rsplit_once('@').map_or(authority, |(_, a)| a);
    if address.contains('[') != address.contains(']') {
        return Err(CliError::Crash("ValueError: Invalid IPv6 URL".into()));
    }
    let (host, port) = match address.strip_prefix('[').and_then(|a| a.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or_default()),
        None => address.split_once(':').unwrap_or((address, "")),
    };
    if port.is_empty() {
        return Ok((host.to_lowercase(), None));
    }
    if !port.chars().all(|c| c.is_ascii_digit()) {
        let quoted = pyfmt::value::str_repr(port);
        return Err(CliError::Crash(format!(
            "ValueError: Port could not be cast to integer value as {quoted}"
        )));
    }
    let number: u16 =
        port.parse().map_err(|_| CliError::Crash("ValueError: Port out of range 0-65535".into()))?;
    Ok((host.to_lowercase(), Some(number).filter(|n| *n != 0)))
}

fn section(scheme: &str, host: &str, port: u16) -> Value {
    let address = format!("{host}:{port}");
    match scheme {
        "zookeeper" => [("hosts", Value::List(vec![address.into()]))].into_iter().collect(),
        "exhibitor" => [("hosts", Value::List(vec![host.into()])), ("port", Value::Int(i64::from(port)))]
            .into_iter()
            .collect(),
        _ => [("host", address)].into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn grammar() {
        for (url, json) in [
            ("", r#"{"etcd": {"host": "localhost:2379"}}"#),
            ("localhost", r#"{"etcd": {"host": "localhost:2379"}}"#),
            ("host:8500", r#"{"consul": {"host": "host:8500"}}"#),
            ("host:2181", r#"{"zookeeper": {"hosts": ["host:2181"]}}"#),
            ("host:8181", r#"{"exhibitor": {"hosts": ["host"], "port": 8181}}"#),
            ("host:1234", r#"{"etcd": {"host": "host:1234"}}"#),
            ("etcd3://h/ns/", r#"{"etcd3": {"host": "h:2379"}, "namespace": "/ns/"}"#),
            ("ETCD3://H/", r#"{"etcd3": {"host": "h:2379"}}"#),
            ("etcd://u:p@h:1", r#"{"etcd": {"host": "h:1"}}"#),
            ("[::1]:2379", r#"{"etcd": {"host": "::1:2379"}}"#),
            ("etcd://:2399", r#"{"etcd": {"host": "localhost:2399"}}"#),
        ] {
            assert_eq!(pyfmt::json::dumps(&parse(url).unwrap()), json, "{url}");
        }
    }

    #[test]
    fn errors() {
        for (url, text) in [
            ("zk://h", "Unknown dcs scheme: zk"),
            ("kubernetes://", "Unknown dcs scheme: kubernetes"),
            ("127.0.0.1:99999", "ValueError: Port out of range 0-65535"),
            ("h:x", "ValueError: Port could not be cast to integer value as 'x'"),
        ] {
            assert_eq!(parse(url).unwrap_err().to_string(), text);
        }
    }
}
