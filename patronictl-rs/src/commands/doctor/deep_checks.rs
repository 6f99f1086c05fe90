//! The checks that take a connection to PostgreSQL, or the machine itself.

use super::checks::Check;
use super::gather::Seen;
use super::machine::Room;
use super::servers::{Server, State};
use super::Finding;

/// WAL that a slot may keep without a word, bytes.
const KEPT: u64 = 1 << 30;
/// Less room than this is none: PostgreSQL stops when it cannot write WAL, bytes.
const LITTLE: u64 = 1 << 30;
/// What is said where nobody could be asked.
const UNASKED: &str =
    "not looked at: this configuration has no postgresql.authentication (run it with a member's)";

/// All of them, in the order in which they are best read.
pub fn all(seen: &Seen) -> Vec<Finding> {
    let checks = [connections, rewind, slots, archive, files, disk];
    checks.iter().flat_map(|check| check(seen)).collect()
}

/// Each server that said what its state is.
fn states(servers: &[Server]) -> impl Iterator<Item = (&str, &State)> {
    servers.iter().filter_map(|server| Some((server.name.as_str(), server.state.as_ref().ok()?)))
}

fn connections(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("connections");
    let Some(servers) = &seen.servers else { return check.or(UNASKED) };
    for server in servers {
        if let Err(error) = &server.state {
            check.warn(
                &server.name,
                format!("the superuser cannot connect from here: {error}"),
                "look at pg_hba.conf there, at the password, and at the network between",
            );
        }
        if let Some(Err(error)) = &server.replication {
            check.warn(
                &server.name,
                format!("the replication user cannot connect from here: {error}"),
                "a standby here could not follow it: add it to postgresql.pg_hba, or mend the password",
            );
        }
        for what in states(std::slice::from_ref(server)).flat_map(|(_, state)| &state.unasked) {
            check.warn(&server.name, format!("could not ask for {what}"), "give the superuser the right to");
        }
    }
    check.or(format!("superuser and replication user can connect to all {} from here", servers.len()))
}

/// pg_rewind needs page images of what hint bits change, and its user rights on the server that it reads.
fn rewind(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("pg_rewind");
    if !seen.use_pg_rewind {
        return check.or("use_pg_rewind is off: a former primary that has diverged is not rewound");
    }
    let Some(servers) = &seen.servers else { return check.or(UNASKED) };
    for server in servers {
        match &server.rewind {
            Some(Ok(false)) => check.error(
                &server.name,
                "the user for pg_rewind may not read what it has to",
                "grant it pg_ls_dir, pg_stat_file and pg_read_binary_file (both), as the manual of pg_rewind says",
            ),
            Some(Err(error)) => check.warn(
                &server.name,
                format!("the user for pg_rewind cannot connect from here: {error}"),
                "look at pg_hba.conf there, at the password, and whether the role exists",
            ),
            Some(Ok(true)) | None => {}
        }
    }
    for (name, state) in states(servers) {
        if state.setting("data_checksums") != "on" && state.setting("wal_log_hints") != "on" {
            check.error(
                name,
                "has neither data checksums nor wal_log_hints: pg_rewind refuses it",
                "patronictl edit-config: wal_log_hints on; or pg_checksums --enable",
            );
        }
    }
    check.or("it could be used")
}

fn slots(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("slots");
    let Some(servers) = &seen.servers else { return check.or(UNASKED) };
    let mut number = 0;
    for (name, state) in states(servers) {
        number += state.slots.len();
        for slot in &state.slots {
            if slot.wal_status == "lost" {
                check.error(
                    name,
                    format!("slot {} has lost WAL that its consumer needs", slot.name),
                    "its consumer has to begin anew: patronictl reinit for a member",
                );
            } else if !slot.active && slot.kept >= KEPT {
                check.warn(
                    name,
                    format!("nobody reads slot {}, and it keeps {}", slot.name, size(slot.kept)),
                    "bring its consumer back, or drop it (for members: member_slots_ttl does)",
                );
            }
        }
    }
    check.or(format!("{number}, and none keeps much for nobody"))
}

fn archive(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("archive");
    let Some(servers) = &seen.servers else { return check.or(UNASKED) };
    let mut archives = 0;
    for (name, state) in states(servers) {
        archives += usize::from(!matches!(state.setting("archive_mode"), "off" | ""));
        if let Some(segment) = &state.not_archived {
            check.error(
                name,
                format!("archive_command failed last, for {segment}: WAL is kept until it succeeds"),
                "look into PostgreSQL's log there; a full disk stops the primary",
            );
        }
    }
    check.or(if archives == 0 { "archive_mode is off" } else { "no failure is the last word" })
}

fn files(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("configuration files");
    let Some(servers) = &seen.servers else { return check.or(UNASKED) };
    for (name, state) in states(servers) {
        for line in &state.bad_lines {
            check.warn(name, line, "PostgreSQL ignores what it does not take, or does not start with it");
        }
    }
    check.or("PostgreSQL takes all of their lines")
}

fn disk(seen: &Seen) -> Vec<Finding> {
    let mut check = Check::new("disk");
    let advice = "make room before PostgreSQL stops: look at slots, archive, logs";
    for room in &seen.rooms {
        let text = told(room);
        if !room.has_files || room.free < LITTLE.min(room.size / 20) {
            check.error("", text, advice);
        } else if room.free < room.size / 10 {
            check.warn("", text, advice);
        }
    }
    let said: Vec<String> = seen.rooms.iter().map(told).collect();
    check.or(match said.is_empty() {
        true => "not looked at: no data directory of this configuration is here".to_owned(),
        false => said.join("; "),
    })
}

fn told(room: &Room) -> String {
    let files = if room.has_files { "" } else { ", and no more files" };
    format!(
        "{} in {}: {} of {} free{files}",
        room.what,
        room.path.display(),
        size(room.free),
        size(room.size)
    )
}

/// As PostgreSQL's `pg_size_pretty` shows it, in whole units.
fn size(bytes: u64) -> String {
    let mut number = bytes;
    for unit in ["B", "kB", "MB", "GB"] {
        if number < 10 * 1024 {
            return format!("{number} {unit}");
        }
        number /= 1024;
    }
    format!("{number} TB")
}
