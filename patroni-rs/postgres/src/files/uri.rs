//! `postgres://` addresses: libpq's reading of a connection URI, and the
//! member's `conn_url` as the reference takes it apart.

use super::conninfo::Conninfo;

/// Reads what follows `postgres://`:
/// `[user[:password]@][host[:port],...][/dbname][?name=value&...]`
/// (PostgreSQL documentation, 34.1.1.2). `None` if it is malformed.
pub(super) fn parse_uri(rest: &str) -> Option<Conninfo> {
    let mut pairs = Conninfo::new();
    let (location, query) = split_at_any(rest, "?");
    let (netloc, path) = split_at_any(location, "/");
    let hosts = match netloc.rsplit_once('@') {
        Some((login, hosts)) => {
            let (user, password) = login.split_once(':').unwrap_or((login, ""));
            put(&mut pairs, "user", user)?;
            put(&mut pairs, "password", password)?;
            hosts
        }
        None => netloc,
    };
    let (names, ports) = split_hosts(hosts)?;
    put(&mut pairs, "host", &names)?;
    put(&mut pairs, "port", &ports)?;
    put(&mut pairs, "dbname", path.get(1..).unwrap_or_default())?;
    for pair in query.get(1..).unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        match (unquote(name)?, unquote(value)?) {
            (name, value) if name == "ssl" && value == "true" => {
                pairs.insert("sslmode".to_owned(), "require".to_owned());
            }
            (name, value) => {
                pairs.insert(name, value);
            }
        }
    }
    Some(pairs)
}

/// Text before the first of `separators`, and the rest with it.
fn split_at_any<'a>(text: &'a str, separators: &str) -> (&'a str, &'a str) {
    text.split_at(text.find(|c| separators.contains(c)).unwrap_or(text.len()))
}

fn put(pairs: &mut Conninfo, name: &str, value: &str) -> Option<()> {
    if !value.is_empty() {
        pairs.insert(name.to_owned(), unquote(value)?);
    }
    Some(())
}

/// Comma-separated hosts and ports of the same number; IPv6 addresses lose
/// their brackets.
fn split_hosts(hosts: &str) -> Option<(String, String)> {
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[') {
            Some(inner) => {
                let (name, after) = inner.split_once(']')?;
                (name, after.strip_prefix(':').unwrap_or(after))
            }
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(name);
        ports.push(port);
    }
    Some((names.join(","), ports.join(",")))
}

/// Decodes `%41`; `None` if it is malformed or not UTF-8.
fn unquote(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            out.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            out.push(b);
        }
    }
    String::from_utf8(out).ok()
}

/// The parts of a member's `conn_url`.
#[derive(Debug, PartialEq)]
pub(super) struct MemberAddress {
    /// In lower case and without brackets, or absent.
    pub host: Option<String>,
    pub port: Option<u16>,
    /// May be empty.
    pub dbname: String,
}

/// Takes a `conn_url` apart as Python's `urlparse` does: nothing is decoded,
/// the host is in lower case.
pub(super) fn member_address(url: &str) -> MemberAddress {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (location, _) = split_at_any(rest, "?#");
    let (netloc, path) = split_at_any(location, "/");
    let hostport = netloc.rsplit_once('@').map_or(netloc, |(_, h)| h);
    let (host, port) = match hostport.strip_prefix('[').and_then(|h| h.split_once(']')) {
        Some((host, after)) => (host, after.strip_prefix(':').unwrap_or_default()),
        None => hostport.split_once(':').unwrap_or((hostport, "")),
    };
    MemberAddress {
        host: (!host.is_empty()).then(|| host.to_lowercase()),
        port: port.parse().ok().filter(|p| *p != 0),
        dbname: path.get(1..).unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_as_libpq_reads_them() {
        for (text, expected) in [
            (
                "u:p@h1:1,h2/db?ssl=true&application_name=a%20b",
                "user=u password=p host=h1,h2 port=1, dbname=db sslmode=require application_name=a b",
            ),
            (":5/", "port=5"),
            ("/db?host=/tmp", "dbname=db host=/tmp"),
            ("[::1]:5433/x", "host=::1 port=5433 dbname=x"),
            ("u@/db", "user=u dbname=db"),
            ("h,h2:2/", "host=h,h2 port=,2"),
            ("h?connect_timeout=5", "host=h connect_timeout=5"),
            ("h:/x", "host=h dbname=x"),
            ("u%2Fse:pa%20ss@h/db%2Fsdf", "user=u/se password=pa ss host=h dbname=db/sdf"),
        ] {
            let got = parse_uri(text).unwrap_or_default();
            let got: Vec<String> = got.iter().map(|(k, v)| format!("{k}={v}")).collect();
            assert_eq!(got.join(" "), expected);
        }
        assert_eq!(parse_uri("h/%zz"), None);
    }

    #[test]
    fn addresses_of_members() {
        let address = |host: Option<&str>, port, dbname: &str| MemberAddress {
            host: host.map(str::to_owned),
            port,
            dbname: dbname.to_owned(),
        };
        for (url, expected) in [
            ("postgres://127.0.0.1:5433/postgres", address(Some("127.0.0.1"), Some(5433), "postgres")),
            ("postgres://u:p@[FE80::1]:5433/a", address(Some("fe80::1"), Some(5433), "a")),
            ("postgresql://Host", address(Some("host"), None, "")),
            ("postgresql://a,b:5", address(Some("a,b"), Some(5), "")),
        ] {
            assert_eq!(member_address(url), expected, "{url}");
        }
    }
}
