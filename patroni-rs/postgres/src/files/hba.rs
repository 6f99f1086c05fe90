//! pg_hba.conf and pg_ident.conf (surface-ha-pg 15.3-01).

use std::net::IpAddr;

use pyfmt::Value;

use super::error::FilesError;
use super::text::ConfText;

/// The lines of a setting that is a list of them, or a text (a block scalar of YAML). `None` where nothing is set.
/// What is no text in a list is left out, as the reference does, but with a warning.
///
/// # Errors
/// [`FilesError::NotLines`]: what is neither would be left out without a word, and other lines stay in force.
pub fn lines_of(setting: &str, value: Option<&Value>) -> Result<Option<Vec<String>>, FilesError> {
    let lines = match value.filter(|v| v.truthy()) {
        None => return Ok(None),
        Some(Value::Str(text)) => text.lines().map(str::to_owned).collect(),
        Some(Value::List(list)) => {
            for line in list.iter().filter(|line| line.as_str().is_none()) {
                let line = line.py_repr();
                tracing::warn!(target: "patroni.postgresql.config", "{setting}: {line} is no line, and is left out");
            }
            list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        Some(_) => return Err(FilesError::NotLines(setting.to_owned())),
    };
    Ok(Some(lines))
}

/// A file of the configured lines, as they are.
pub fn from_lines(lines: &[String]) -> Vec<u8> {
    let mut text = ConfText::new();
    lines.iter().for_each(|line| text.line(line));
    text.into_bytes()
}

/// What `bootstrap.pg_hba` appends to the pg_hba.conf that initdb made.
pub fn bootstrap_lines(lines: &[String]) -> Vec<u8> {
    format!("\n{}\n", lines.join("\n")).into_bytes()
}

/// pg_hba.conf during a custom bootstrap: the superuser's password is not
/// known yet, so local connections, over the socket and from `addresses`, are
/// trusted. Without a superuser name that is any user.
///
/// Addresses get the suffix `/32` even where they are IPv6 ones, as the
/// reference has it.
pub fn custom_bootstrap(addresses: &[IpAddr], replication_user: &str, superuser: Option<&str>) -> Vec<u8> {
    let superuser = superuser.filter(|s| !s.is_empty()).unwrap_or("all");
    let mut text = ConfText::new();
    let mut trust = |kind: &str, address: &str| {
        text.line(&format!("{kind}\treplication\t{replication_user}\t{address}\ttrust"));
        text.line(&format!("{kind}\tall\t{superuser}\t{address}\ttrust"));
    };
    trust("local", "");
    let mut seen = Vec::new();
    for address in addresses {
        if !seen.contains(&address) {
            trust("host", &format!("{address}/32"));
            seen.push(address);
        }
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_are_a_list_or_a_text() {
        let wanted = vec!["local all all peer".to_owned(), "host all all all scram-sha-256".to_owned()];
        let list: Value = Value::List(wanted.iter().map(|l| l.as_str().into()).collect());
        let block = Value::from("local all all peer\nhost all all all scram-sha-256\n");
        assert_eq!(lines_of("x", Some(&list)).unwrap(), Some(wanted.clone()));
        assert_eq!(lines_of("x", Some(&block)).unwrap(), Some(wanted));
        for nothing in [None, Some(Value::Null), Some("".into()), Some(Value::List(Vec::new()))] {
            assert_eq!(lines_of("x", nothing.as_ref()).unwrap(), None);
        }
        let mixed = Value::List(vec![Value::Null, "a".into(), Value::Int(1)]);
        assert_eq!(lines_of("x", Some(&mixed)).unwrap(), Some(vec!["a".to_owned()]));
        for wrong in [Value::Int(1), Value::Bool(true), [("a", 1)].into_iter().collect()] {
            let error = lines_of("postgresql.pg_hba", Some(&wrong)).unwrap_err();
            assert_eq!(error.to_string(), "postgresql.pg_hba must be a list of lines, or a text");
        }
    }
}
