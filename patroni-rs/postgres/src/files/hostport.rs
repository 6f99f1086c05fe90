//! `host:port` texts and the addresses made of them (`split_host_port` and
//! `uri` of `patroni/utils.py`).

/// The port is not a number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPort;

/// Splits `hosts:port`; hosts may be several, separated by commas, and IPv6
/// addresses lose their brackets when a port is given.
pub(super) fn split_host_port(text: &str, default_port: i64) -> Result<(String, i64), BadPort> {
    let Some((hosts, port)) = text.rsplit_once(':') else {
        return Ok((text.to_owned(), default_port));
    };
    let port = port.trim().parse().map_err(|_| BadPort)?;
    if !hosts.contains(':') {
        return Ok((hosts.to_owned(), port));
    }
    let hosts: Vec<&str> = hosts.split(',').map(|h| h.trim().trim_matches(['[', ']'])).collect();
    Ok((hosts.join(","), port))
}

/// `postgres://host:port/database`, with brackets around an IPv6 address.
pub(super) fn postgres_uri(netloc: &str, database: &str) -> Result<String, BadPort> {
    let (host, port) = split_host_port(netloc, 0)?;
    let bare_ipv6 = host.contains(':') && !host.starts_with('[') && !host.ends_with(']');
    let host = if bare_ipv6 { format!("[{host}]") } else { host };
    let port = if port == 0 { String::new() } else { format!(":{port}") };
    let slash = if database.is_empty() || database.starts_with('/') { "" } else { "/" };
    Ok(format!("postgres://{host}{port}{slash}{database}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports() {
        for (text, host, port) in [
            ("127.0.0.1", "127.0.0.1", 5432),
            ("127.0.0.1:5400", "127.0.0.1", 5400),
            ("a,b:5400", "a,b", 5400),
            ("a,[fe80::1], 0:0::0:5400", "a,fe80::1,0:0::0", 5400),
        ] {
            assert_eq!(split_host_port(text, 5432), Ok((host.to_owned(), port)), "{text}");
        }
        assert_eq!(split_host_port("a:b", 5432), Err(BadPort));
    }

    #[test]
    fn uris() {
        for (netloc, expected) in [
            ("h:5433", "postgres://h:5433/db"),
            ("[::1]:5433", "postgres://[::1]:5433/db"),
            ("h", "postgres://h/db"),
        ] {
            assert_eq!(postgres_uri(netloc, "db").as_deref(), Ok(expected));
        }
    }
}
