//! Commands that only read: `history`, `show-config`, `dsn`, `version`
//! (surface-api-ctl K1, K2, K9 to K11).

use patroni_core::PgVersion;
use pyfmt::Value;

use super::select::{any_member, members_of, Role};
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::output::{render, yaml, Format, Rows};
use crate::rest::Reply;

const HISTORY: [&str; 5] = ["TL", "LSN", "Reason", "Timestamp", "New Leader"];

/// Runs `history`.
pub fn history(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let view = context.default_view(values)?;
    let lines = view.cluster.history.map(|h| h.lines).unwrap_or_default();
    let format = values.text("format").and_then(Format::parse).unwrap_or(Format::Pretty);
    crate::out::print(&render(&history_rows(&lines), format, "\t")?);
    Ok(())
}

fn history_rows(lines: &[Value]) -> Rows {
    let row = |line: &Value| {
        let mut cells = line.as_list().unwrap_or_default().to_vec();
        while cells.len() < HISTORY.len() {
            cells.push("".into());
        }
        cells
    };
    Rows {
        title: String::new(),
        columns: Some(HISTORY.iter().map(|s| (*s).to_owned()).collect()),
        rows: lines.iter().map(row).collect(),
        right: &["TL", "LSN"],
    }
}

/// Runs `show-config`: nothing at all when there is no configuration.
pub fn config(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let view = context.default_view(values)?;
    if let Some(config) = view.cluster.config {
        crate::out::echo(&yaml(&config.data, false));
    }
    Ok(())
}

/// Runs `dsn`.
pub fn dsn(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let group = values.int("group");
    let view = context.store_of(values, group)?.view()?;
    let role = values.text("role").map(Role::parse);
    let all = context.is_citus() && group.is_none();
    let Some(member) = any_member(&view, all, role, values.text("member"))? else {
        return Err(CliError::msg("Can not find a suitable member"));
    };
    let kwargs = member.conn_kwargs(None);
    if kwargs.is_empty() {
        return Err(CliError::Crash("KeyError: 'host'".into()));
    }
    let value = |key: &str| {
        kwargs.iter().find(|(k, _)| k == key).map_or_else(|| "None".to_owned(), |(_, v)| v.py_str())
    };
    crate::out::echo(&format!("host={} port={}", value("host"), value("port")));
    Ok(())
}

/// Runs `version`.
pub fn version(context: &mut Context, values: &Values) -> Result<(), CliError> {
    crate::out::echo(&format!("patronictl version {}", crate::VERSION));
    let Some(name) = values.text("cluster_name").filter(|n| !n.is_empty()) else {
        return Ok(());
    };
    crate::out::echo("");
    let group = values.int("group");
    let view = context.store(name, group)?.view()?;
    let wanted = values.many("member_names");
    let all = context.is_citus() && group.is_none();
    for member in members_of(&view, all, Role::Any) {
        if member.api_url().is_none() || !(wanted.is_empty() || wanted.contains(&member.name)) {
            continue;
        }
        let answer = context.call(member, "GET", None, None).map_err(|e| e.to_string());
        let text = answer.and_then(|reply| version_text(&reply));
        let text = text.unwrap_or_else(|error| format!("failed to get version: {error}"));
        crate::out::echo(&format!("{}: {text}", member.name));
    }
    Ok(())
}

fn version_text(reply: &Reply) -> Result<String, String> {
    let data = pyfmt::json::loads(&reply.text()).map_err(|e| e.to_string())?;
    // What is no mapping, or no number, is told as Python tells it.
    let no_get = |value: &Value| format!("'{}' object has no attribute 'get'", value.type_name());
    let mapping = |value: &Value| value.as_map().map(drop).ok_or_else(|| no_get(value));
    mapping(&data)?;
    data.get("patroni").map_or(Ok(()), mapping)?;
    let version = data.at(&["patroni", "version"]).map_or_else(|| "None".into(), Value::py_str);
    let server = match data.get("server_version").filter(|v| v.truthy()) {
        None => String::new(),
        Some(server) => {
            let number = server.as_i64().ok_or_else(|| {
                let kind = server.type_name();
                format!("'<' not supported between instances of '{kind}' and 'int'")
            })?;
            format!(" PostgreSQL {}", PgVersion::from_num(u32::try_from(number).unwrap_or(0)))
        }
    };
    Ok(format!("Patroni {version}{server}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions() {
        let reply = |body: &str| Reply { status: 200, body: body.as_bytes().to_vec() };
        let both = reply(r#"{"server_version": 170002, "patroni": {"version": "4.1.5"}}"#);
        assert_eq!(version_text(&both).unwrap(), "Patroni 4.1.5 PostgreSQL 17.2");
        assert_eq!(version_text(&reply("{}")).unwrap(), "Patroni None");
        assert!(version_text(&reply("<")).is_err());
    }

    #[test]
    fn short_history_lines_are_padded() {
        let lines =
            vec![Value::List(vec![1.into(), 25_690_304.into(), "no recovery target specified".into()])];
        assert_eq!(
            render(&history_rows(&lines), Format::Tsv, "\t").unwrap(),
            "TL\tLSN\tReason\tTimestamp\tNew Leader\n1\t25690304\tno recovery target specified\t\t\n"
        );
    }
}
