//! What both sides are asked.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::lab::process::Output;
use crate::lab::store::Key;
use crate::lab::{http, Result};

use super::allow::REST;
use super::states::Asks;
use super::{Probe, Side};

/// Paths; every member is asked all of them with each of [`METHODS`].
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

/// The methods that change nothing.
const METHODS: &[&str] = &["GET", "HEAD", "OPTIONS"];

/// Requests that change nothing because they are refused, in every state: method, path, body.
const REFUSED: &[(&str, &str, Option<&str>)] = &[
    ("POST", "/", None),
    ("POST", "/citus", Some("{}")),
    ("POST", "/mpp", Some("{}")),
    ("POST", "/failsafe", Some("no json")),
    ("DELETE", "/", None),
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

/// patronictl's commands that only look, in every state. `@0` and `@1` are the members' names, `@` the cluster's.
const LOOKS: &[&str] = &[
    "list @",
    "list",
    "list @ -e",
    "list @ -e -f json",
    "list @ -f json",
    "list @ -f yaml",
    "list @ -e -f yml",
    "list @ -f tsv",
    "list @ -e -f tsv",
    "topology @",
    "topology @ -f json",
    "history @",
    "history @ -f json",
    "history @ -f yaml",
    "history @ -f tsv",
    "show-config @",
    "dsn @",
    "dsn @ -r replica",
    "dsn @ -r standby-leader",
    "dsn @ -m @1",
    "version @",
    "version @ @0",
    "query @ -U postgres -d postgres -c VALUES(1,NULL,'x')",
    "query @ -U postgres -d postgres -r replica --format json -c SELECT(1)AS(a)",
    "query @ -U postgres -d postgres -m @0 --format pretty -c SELECT(pg_is_in_recovery())",
];

/// patronictl's commands that are refused, or end at a question that nobody answers.
const REFUSED_LOOKS: &[&str] = &[
    "list nobody",
    "list -f nonsense",
    "list nobody -f json",
    "topology nobody",
    "history nobody",
    "show-config nobody",
    "dsn nobody",
    "dsn @ -m node9",
    "dsn @ -m @0 -r replica",
    "version",
    "version nobody",
    "nonsense",
    "lst",
    "list --nonsense",
    "query @",
    "query @ -c x -r replica -m @0",
    "query @ -U postgres -d postgres -m node9 -c VALUES(1)",
    "query @ -U postgres -d postgres -c nonsense",
    "query @ -U postgres -d postgres --format yaml -c VALUES(1,2.5,true)",
    "query @ -U postgres -d postgres --format tsv --delimiter ; -c VALUES(1,2.5,true)",
    "switchover @",
    "switchover @ --leader node9 --force",
    "switchover @ --candidate node9 --force",
    "switchover @ --leader @0 --candidate @0 --force",
    "switchover @ --candidate node9 --scheduled yesterday --force",
    "failover @",
    "failover @ --force",
    "failover @ --candidate node9 --force",
    "restart @",
    "restart @ node9 --force",
    "restart @ -r nonsense --force",
    "restart @ --force --scheduled nonsense",
    "restart @ --force --scheduled 2020-01-01T00:00",
    "restart @ --force --pg-version x",
    "restart @ --force --timeout nonsense",
    "reinit @",
    "reinit @ node9 --force",
    "reload @",
    "reload @ node9 --force",
    "flush @",
    "flush @ nonsense",
    "flush @ node9 restart --force",
    "remove @",
    "remove nobody",
    "edit-config @ --force -s x",
    "edit-config @ --force --apply /nonexistent",
    "edit-config @ --force -s ttl=20",
    "edit-config @ -s postgresql.parameters.work_mem=4GB -s a.b.c=[1,2]",
    "demote-cluster @ --force",
    "demote-cluster @ --port 1",
    "pause nobody",
    "resume nobody",
    "-c /nonexistent list @",
    "-d nonsense://x list @",
    "-k list @ -f tsv",
];

/// Files of a member, relative to its directory.
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
    probe(REST, name, move |side| {
        let http::Response { head, body, .. } = side.lab.member(member)?.call(method, path, body)?;
        Ok(format!("{head}\r\n\r\n{body}"))
    })
}

/// How a program's output is compared.
pub fn shown(output: Output) -> String {
    let Output { code, stdout, stderr } = output;
    format!("exit code {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
}

/// A patronictl of the side's own kind; for the placeholders see [`LOOKS`].
fn ctl(line: &str, asks: Asks) -> Probe {
    let [first, second] = asks.members;
    let line = line.replace("@0", first).replace("@1", second).replace('@', asks.scope);
    probe("patronictl", line.clone(), move |side| {
        let words: Vec<&str> = line.split(' ').collect();
        side.ctl(&words, None).map(shown)
    })
}

/// All keys of a cluster.
fn keys(side: &Side, scope: &str) -> Result<Vec<Key>> {
    side.lab.store.prefix(&format!("/service/{scope}/"))
}

/// The value of one key.
fn key(name: String, scope: &'static str) -> Probe {
    probe("DCS", name.clone(), move |side| {
        let full = format!("/service/{scope}/{name}");
        let found = keys(side, scope)?.into_iter().find(|key| key.name == full);
        Ok(found.map_or("absent".into(), |key| format!("lease {}: {}", key.leased, key.value)))
    })
}

/// A file with its mode.
fn file(member: &'static str, path: &'static str) -> Probe {
    probe("files", format!("{path} of {member}"), move |side| {
        let file = side.lab.member(member)?.directory.join(path);
        let Ok(data) = std::fs::metadata(&file) else {
            return Ok("absent".into());
        };
        let text = String::from_utf8_lossy(&std::fs::read(&file)?).into_owned();
        Ok(format!("mode {:o}\n{text}", data.permissions().mode() & 0o7777))
    })
}

/// The names in a directory with their modes.
fn listing(directory: &Path) -> Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
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

/// The last line of a daemon's log that says what it did in a cycle.
fn status_line(member: &'static str) -> Probe {
    probe("log", format!("the last status line of {member}"), move |side| {
        let text = side.lab.member(member)?.log_text();
        let lines = text.lines().filter_map(|line| line.get(DATED..)?.strip_prefix("INFO: "));
        let mut lines = lines.filter(|line| !ASIDE.iter().any(|aside| line.starts_with(aside)));
        Ok(lines.next_back().unwrap_or_default().to_string())
    })
}

/// How long `2026-11-21 11:26:51,612 ` is.
const DATED: usize = 24;
/// Lines of a cycle that come before its status line, or beside it.
const ASIDE: &[&str] = &[
    "Lock owner",
    "Got response",
    "Local timeline",
    "primary_timeline",
    "primary: history",
    "Reaped",
    "establishing a new",
    "received ",
    "Reconnection allowed",
    "closed patroni",
];

/// What is worth asking in every state.
pub fn of_a_state(asks: Asks, full: bool) -> Vec<Probe> {
    let mut probes = Vec::new();
    for member in asks.members {
        for path in PATHS {
            let methods = if full { METHODS } else { &METHODS[..1] };
            probes.extend(methods.iter().map(|method| rest(member, method, path, None)));
        }
        if asks.dcs {
            probes.extend(REFUSED.iter().map(|(method, path, body)| rest(member, method, path, *body)));
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
        probes.push(status_line(member));
    }
    probes.push(probe("patronictl", "the commands that led here".into(), |side| Ok(side.said.join("\n"))));
    if !asks.dcs {
        return probes;
    }
    probes.extend(LOOKS.iter().map(|line| ctl(line, asks)));
    if asks.refused {
        let every = if full { 1 } else { 6 };
        probes.extend(REFUSED_LOOKS.iter().step_by(every).map(|line| ctl(line, asks)));
    }
    let names = ["initialize", "config", "leader", "status", "failover", "sync", "history", "failsafe"];
    probes.extend(names.map(|name| key(name.into(), asks.scope)));
    probes.extend(asks.members.map(|name| key(format!("members/{name}"), asks.scope)));
    probes.push(probe("DCS", "the names of all keys".into(), move |side| {
        let names: Vec<String> = keys(side, asks.scope)?.into_iter().map(|key| key.name).collect();
        Ok(names.join("\n"))
    }));
    probes
}
