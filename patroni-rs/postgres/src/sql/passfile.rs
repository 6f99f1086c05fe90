//! Passwords from a password file (PostgreSQL documentation 34.16).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::params::{ConnParams, Target};

/// The password for a server: the one given, or that of the first line in the
/// password file that matches.
pub(super) async fn password_for(params: &ConnParams, target: &Target) -> Option<String> {
    if let Some(password) = params.given("password") {
        return Some(password.to_owned());
    }
    let path = path_for(params)?;
    let (host, port) = match target {
        // Whatever the directory, a socket is looked up as this host, too.
        Target::Unix(path) => {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            (
                params.given("host").unwrap_or("localhost"),
                name.rsplit('.').next().unwrap_or_default().to_owned(),
            )
        }
        Target::Tcp { host, port, .. } => (host.as_str(), port.to_string()),
    };
    let hosts: &[&str] = if matches!(target, Target::Unix(_)) { &[host, "localhost"] } else { &[host] };
    let (dbname, user) = (params.dbname().unwrap_or_default(), params.given("user").unwrap_or_default());
    password_in_file(&path, hosts, [&port, dbname, user]).await
}

/// The password file.
pub(super) fn path_for(params: &ConnParams) -> Option<PathBuf> {
    match params.given("passfile") {
        Some(path) => Some(PathBuf::from(path)),
        None => Some(PathBuf::from(std::env::var_os("HOME")?).join(".pgpass")),
    }
}

/// The password of the first line of a password file that matches one of `hosts`, and the port, database and user.
/// A file that others may read is not used, and a warning says so (as libpq does).
async fn password_in_file(path: &Path, hosts: &[&str], port_dbname_user: [&str; 3]) -> Option<String> {
    let meta = tokio::fs::metadata(path).await.ok()?;
    if meta.permissions().mode() & 0o077 != 0 {
        let path = path.display();
        tracing::warn!(
            target: "patroni.postgresql.connection",
            "password file \"{path}\" has group or world access; permissions should be u=rw (0600) or less"
        );
        return None;
    }
    let content = tokio::fs::read_to_string(path).await.ok()?;
    content.lines().find_map(|line| lookup(line, hosts, port_dbname_user))
}

fn lookup(line: &str, hosts: &[&str], rest: [&str; 3]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let fields = split(line);
    let [host, port, dbname, user, password] = fields.as_slice() else {
        return None;
    };
    let fits = |field: &Field, value: &str| field.raw == "*" || field.text == value;
    let matches = hosts.iter().any(|h| fits(host, h))
        && [port, dbname, user].into_iter().zip(rest).all(|(field, value)| fits(field, value));
    (matches && !password.text.is_empty()).then(|| password.text.clone())
}

#[derive(Default)]
struct Field {
    /// As written: an escaped star is no wildcard.
    raw: String,
    text: String,
}

fn split(line: &str) -> Vec<Field> {
    let mut fields = vec![Field::default()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        // The password may contain colons as they are.
        if c == ':' && fields.len() < 5 {
            fields.push(Field::default());
            continue;
        }
        let Some(field) = fields.last_mut() else {
            continue;
        };
        field.raw.push(c);
        let c = if c == '\\' { chars.next().inspect(|e| field.raw.push(*e)) } else { Some(c) };
        field.text.extend(c);
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_matched() {
        let rest = ["5432", "postgres", "u"];
        for (line, expected) in [
            ("h:5432:postgres:u:secret", Some("secret")),
            ("*:*:*:u:a\\:b\\\\", Some("a:b\\")),
            ("*:*:*:u:a:b", Some("a:b")),
            ("h:5433:*:u:x", None),
            ("#h:*:*:u:x", None),
            ("\\*:*:*:u:x", None),
            ("localhost:*:*:*:x", Some("x")),
            ("h:*:*:*", None),
        ] {
            assert_eq!(lookup(line, &["h", "localhost"], rest).as_deref(), expected, "{line}");
        }
    }
}
