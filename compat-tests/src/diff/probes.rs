//! What both sides are asked.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::lab::process::Output;
use crate::lab::{http, Result};

use super::cli;
use super::{Probe, Side};

/// GET, HEAD and OPTIONS paths; every member is asked all of them.
const PATHS: &[&str] = &[
    "/",
    "/primary",
    "/master",
    "/leader",
    "/read-write",
    "/standby-leader",
    "/standby_leader",
    "/replica",
    "/replica?lag=0",
    "/replica?lag=16MB",
    "/replica?lag=nonsense",
    "/replica?replication_state=streaming",
    "/replica?tag_key=x",
    "/read-only",
    "/read-only-sync",
    "/read-only-quorum",
    "/sync",
    "/synchronous",
    "/async",
    "/asynchronous",
    "/async?lag=1kB",
    "/quorum",
    "/health",
    "/liveness",
    "/readiness",
    "/readiness?lag=10",
    "/readiness?mode=write",
    "/readiness?mode=apply",
    "/patroni",
    "/cluster",
    "/history",
    "/config",
    "/metrics",
    "/failsafe",
    "/nowhere",
];

/// Requests that change nothing because they are refused: method, path, body.
const REFUSED: &[(&str, &str, Option<&str>)] = &[
    ("POST", "/", None),
    ("POST", "/nowhere", Some("{}")),
    ("POST", "/switchover", Some("{}")),
    ("POST", "/switchover", Some("no json")),
    ("POST", "/switchover", Some("[]")),
    ("POST", "/switchover", Some(r#"{"leader":"node9"}"#)),
    ("POST", "/switchover", Some(r#"{"leader":"node0","candidate":"node9"}"#)),
    ("POST", "/switchover", Some(r#"{"leader":"node0","scheduled_at":"yesterday"}"#)),
    ("POST", "/switchover", Some(r#"{"leader":"node0","scheduled_at":"2020-01-01T00:00:00+00:00"}"#)),
    ("POST", "/switchover", Some(r#"{"leader":"node0","scheduled_at":"2030-01-01T00:00:00"}"#)),
    ("POST", "/failover", Some("{}")),
    ("POST", "/failover", Some(r#"{"candidate":"node9"}"#)),
    ("POST", "/restart", Some("no json")),
    ("POST", "/restart", Some(r#"{"role":"nonsense"}"#)),
    ("POST", "/restart", Some(r#"{"postgres_version":"x"}"#)),
    ("POST", "/restart", Some(r#"{"timeout":"-1"}"#)),
    ("POST", "/restart", Some(r#"{"unknown":1}"#)),
    ("POST", "/restart", Some(r#"{"role":"standby_leader"}"#)),
    ("POST", "/restart", Some(r#"{"schedule":"soon"}"#)),
    ("POST", "/sigterm", None),
    ("PATCH", "/config", Some("no json")),
    ("PATCH", "/config", None),
    ("PUT", "/config", None),
    ("PUT", "/config", Some("")),
    ("PUT", "/nowhere", Some("{}")),
    ("DELETE", "/nowhere", None),
    ("BREW", "/", None),
];

/// patronictl's commands that only look, each tried with every format that it has.
const LOOKS: &[&str] = &[
    "list batman",
    "list",
    "list batman -e",
    "list batman -e -f json",
    "list batman -f json",
    "list batman -f yaml",
    "list batman -f yml",
    "list batman -f tsv",
    "list batman -e -f tsv",
    "list nobody",
    "topology batman",
    "topology",
    "history batman",
    "history batman -f json",
    "history batman -f yaml",
    "history batman -f tsv",
    "show-config batman",
    "dsn batman",
    "dsn batman -r replica",
    "dsn batman -m node1",
    "dsn batman -m node9",
    "version",
    "version batman",
    "version batman node0",
];

/// Files of a member, relative to its folder.
const FILES: &[&str] = &[
    "pgpass",
    "callbacks",
    "data/postgresql.conf",
    "data/postgresql.base.conf",
    "data/postgresql.auto.conf",
    "data/pg_hba.conf",
    "data/pg_ident.conf",
    "data/standby.signal",
    "data/recovery.signal",
    "data/patroni.dynamic.json",
    "data/postmaster.opts",
];

fn probe(
    area: &'static str,
    name: String,
    ask: impl Fn(&Side) -> Result<String> + Send + Sync + 'static,
) -> Probe {
    Probe { area, name, ask: Box::new(ask) }
}

/// One REST request to one member.
fn rest(member: &'static str, method: &'static str, path: &'static str, body: Option<&'static str>) -> Probe {
    let name =
        format!("{method} {path} {}on {member}", body.map(|body| format!("{body} ")).unwrap_or_default());
    probe("REST", name, move |side| {
        let http::Response { head, body, .. } = side.lab.member(member)?.call(method, path, body)?;
        Ok(format!("{head}\r\n\r\n{body}"))
    })
}

/// How a program's output is compared.
pub fn shown(output: Output) -> String {
    let Output { code, stdout, stderr } = output;
    format!("exit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
}

/// A patronictl of the side's own kind.
fn ctl(line: &'static str) -> Probe {
    probe("patronictl", line.into(), move |side| {
        let words: Vec<&str> = line.split(' ').collect();
        side.lab.ctl(side.kind, &words).map(shown)
    })
}

/// All keys with their values, one line each.
fn keys(side: &Side) -> Result<String> {
    let lines = side.lab.keys()?;
    Ok(lines.iter().map(|key| format!("{} {} {}\n", key.name, key.leased, key.value)).collect())
}

/// The value of one key.
fn key(name: &'static str) -> Probe {
    probe("DCS", name.into(), move |side| {
        let found = side.lab.keys()?.into_iter().find(|key| key.name == side.lab.key(name));
        Ok(found.map_or("absent".into(), |key| format!("lease {}: {}", key.leased, key.value)))
    })
}

/// A file with its mode.
fn file(member: &'static str, path: &'static str) -> Probe {
    probe("files", format!("{path} of {member}"), move |side| {
        let file = side.lab.member(member)?.folder.join(path);
        let Ok(data) = std::fs::metadata(&file) else {
            return Ok("absent".into());
        };
        let text = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
        Ok(format!("mode {:o}\n{text}", data.permissions().mode() & 0o7777))
    })
}

/// The names in a folder with their modes.
fn listing(folder: &Path) -> Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        names.push(format!(
            "{:o} {}",
            entry.metadata()?.permissions().mode(),
            entry.file_name().to_string_lossy()
        ));
    }
    names.sort();
    Ok(names.join("\n"))
}

/// What is worth asking in every state.
pub fn of_a_state() -> Vec<Probe> {
    let mut probes = Vec::new();
    for member in ["node0", "node1"] {
        for path in PATHS {
            probes.push(rest(member, "GET", path, None));
        }
        for path in ["/primary", "/replica", "/health"] {
            probes.push(rest(member, "OPTIONS", path, None));
            probes.push(rest(member, "HEAD", path, None));
        }
        probes.extend(FILES.iter().map(|path| file(member, path)));
        probes.push(probe("files", format!("names in PGDATA of {member}"), move |side| {
            listing(&side.lab.member(member)?.data())
        }));
        probes.push(probe("SQL", format!("slots on {member}"), move |side| {
            side.lab
                .member(member)?
                .sql("SELECT slot_name, slot_type, active FROM pg_replication_slots ORDER BY 1")
        }));
        probes.push(probe("SQL", format!("settings on {member}"), move |side| {
            let member = side.lab.member(member)?;
            member.sql("SELECT name, setting, source FROM pg_settings WHERE source NOT IN ('default', 'client', 'session') ORDER BY 1")
        }));
    }
    probes.extend(LOOKS.iter().copied().map(ctl));
    let names = ["initialize", "config", "leader", "members/node0", "members/node1", "status"];
    probes.extend(names.map(key));
    probes.extend(["failover", "sync", "history", "failsafe"].map(key));
    probes.push(probe("DCS", "the names of all keys".into(), |side| {
        let names = keys(side)?;
        Ok(names.lines().filter_map(|line| line.split(' ').next()).collect::<Vec<_>>().join("\n"))
    }));
    probes
}

/// What does not depend on a state: refused requests, help, generated and broken configurations.
pub fn once(full: bool) -> Vec<Probe> {
    let mut probes: Vec<Probe> =
        REFUSED.iter().map(|(method, path, body)| rest("node0", method, path, *body)).collect();
    if full {
        probes.extend(REFUSED.iter().map(|(method, path, body)| rest("node1", method, path, *body)));
    }
    probes.extend(cli::probes(full));
    probes
}
