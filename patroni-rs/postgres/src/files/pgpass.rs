//! The content of the password file (surface-ha-pg 15.3-02 to 15.3-05).

use pyfmt::Value;

use super::text::escape_with;

/// Lines `host:port:*:user:password` for connection parameters, one for each
/// of the comma-separated hosts. Absent and empty parts are `*`; with a Unix
/// socket among the hosts comes a line for `localhost`, which is what libpq
/// looks up for it. `None` without a password.
pub fn content(conninfo: &Value) -> Option<String> {
    conninfo.get("password")?;
    let part = |name: &str| match conninfo.get(name).filter(|v| v.truthy()) {
        Some(value) => escape(&value.py_str()),
        None => "*".to_owned(),
    };
    let hosts = match conninfo.get("host").filter(|v| v.truthy()) {
        Some(hosts) => hosts.py_str(),
        None => "*".to_owned(),
    };
    let mut hosts: Vec<String> =
        hosts.split(',').map(str::trim).filter(|h| !h.is_empty()).map(escape).collect();
    if hosts.iter().any(|h| h.starts_with('/')) && !hosts.iter().any(|h| h == "localhost") {
        hosts.push("localhost".to_owned());
    }
    let tail = format!("{}:*:{}:{}\n", part("port"), part("user"), part("password"));
    Some(hosts.iter().map(|host| format!("{host}:{tail}")).collect())
}

fn escape(text: &str) -> String {
    escape_with(text, |c| matches!(c, ':' | '\\').then_some('\\')).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        for (pairs, expected) in [
            (vec![("host", "a")], None),
            (
                vec![("host", "a"), ("port", "5432"), ("user", "u:x"), ("password", "p\\w")],
                Some("a:5432:*:u\\:x:p\\\\w\n"),
            ),
            (vec![("host", "a, ,b"), ("password", "")], Some("a:*:*:*:*\nb:*:*:*:*\n")),
            (vec![("host", "/tmp"), ("password", "p")], Some("/tmp:*:*:*:p\nlocalhost:*:*:*:p\n")),
            (vec![("host", "/tmp,localhost"), ("password", "p")], Some("/tmp:*:*:*:p\nlocalhost:*:*:*:p\n")),
            (vec![("password", "p")], Some("*:*:*:*:p\n")),
            (vec![("host", "::1"), ("password", "p")], Some("\\:\\:1:*:*:*:p\n")),
            (vec![("host", ","), ("password", "p")], Some("")),
        ] {
            let value: Value = pairs.into_iter().collect();
            assert_eq!(content(&value).as_deref(), expected);
        }
    }
}
