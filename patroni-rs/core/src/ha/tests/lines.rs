//! Every status line of the contract has a row that yields it, and every row's line is one of them.

use super::rows;

/// `{}` stands for any text. `started as a secondary` (Raft) is not here: we have no Raft.
const LINES: &[&str] = &[
    // 3-16, 3-18
    "Error communicating with PostgreSQL. Will try again later",
    "Unexpected exception raised, please report it as a BUG",
    // 4
    "Failed to run {}, {} is already in progress",
    // 4A
    "terminated crash recovery because of startup timeout",
    "updated leader lock during {}",
    "lost leader before promote",
    "lost leader lock during {}",
    "{} in progress",
    // 4B
    "stopped PostgreSQL while starting up because leader key was lost",
    "stopped PostgreSQL because of startup timeout",
    "primary start has timed out, but continuing to wait because failover is not possible",
    "PostgreSQL is still starting up, {} seconds until timeout",
    // 4C
    "waiting for end of recovery after bootstrap",
    "running post_bootstrap",
    "initialized a new cluster",
    // 4D
    "removed leader key after trying and failing to start postgres",
    "failed to start postgres",
    // Ours: an old view takes no lock (docs/safety.md S9).
    "not taking the leader lock because this cycle has stood still for too long",
    // Ours: a lock goes on proof (docs/safety.md).
    "not removing leader key because processes of postgres may still be running",
    "not bootstrapping because processes of postgres may still be running",
    // 4E
    "released leader key voluntarily as data dir empty and currently leader",
    "released leader key voluntarily as data dir not accessible and currently leader",
    "data directory is not accessible: {}",
    "running with empty data directory",
    "trying to bootstrap a new cluster",
    "trying to bootstrap a new standby leader",
    "failed to acquire initialize lock",
    "trying to bootstrap from leader '{}'",
    "trying to bootstrap from replica '{}'",
    "trying to bootstrap (without leader)",
    "waiting for leader to bootstrap",
    "waiting for standby_leader to bootstrap",
    // Of what is half made, which the reference does not know.
    "released leader key voluntarily as data dir half made and currently leader",
    "data directory is half made, by a {} that was broken off",
    "data directory is half rewound: it must not be started, and needs to be reinitialized (patronictl reinit)",
    "put aside what a bootstrap that was broken off has left",
    // 4F
    "data dir for the cluster is not empty, but system ID is invalid; consider doing reinitialize",
    "released leader key voluntarily due to the system ID mismatch",
    // 4G
    "removed leader lock because postgres is not running",
    "postgres is not running",
    // 4H
    "promoted self to a standby leader by acquiring session lock",
    "acquired session lock as a leader",
    "promoted self to leader by acquiring session lock",
    "following new leader after trying and failing to obtain lock",
    "demoted self after trying and failing to obtain lock",
    "following a different leader because i am not the healthiest node",
    "following a different leader because I am not allowed to promote",
    "demoting self because i am not the healthiest node",
    "demoting self because I am not allowed to become primary",
    // 4I
    "waiting to become primary after promote...",
    "removed leader lock because postgres is not running as primary",
    "no action. I am ({}), the standby leader with the lock",
    "promoted self to a standby leader because i had the session lock",
    "cannot be a real primary in standby cluster",
    "no action. I am ({}), the leader with the lock",
    "promoted self to leader because I had the session lock",
    "continue to run as primary after failing to update leader lock in DCS",
    "demoted self because failed to update leader lock in DCS",
    "not promoting because failed to update leader lock in DCS",
    "no action. I am ({}), a secondary, and following a leader ({})",
    "no action. I am ({}), a secondary, and following a standby leader ({})",
    "demoting self because I do not have the lock and I was a leader",
    "cannot be a real primary in a standby cluster",
    "continue to run as primary without lock",
    "no action. I am ({})",
    "continue following the old known standby leader",
    "running pg_rewind from {}",
    "reinitializing due to diverged timelines",
    "doing crash recovery in a single user mode",
    "Demoting self because watchdog could not be activated",
    "Not promoting self because watchdog could not be activated",
    "Promotion cancelled because the pre-promote script failed",
    "Postponing promotion because synchronous replication state was updated by somebody else",
    "restart initiated",
    "Copying logical slots {} from the primary",
    // 4J
    "continue to run as a leader because failsafe mode is enabled and all members are accessible",
    "demoted self because DCS is not accessible and I was a leader",
    "DCS is not accessible",
    // 6
    "switchover: demoting myself",
    "manual failover: demoting myself",
    // 10
    "stopped PostgreSQL to fail over after a crash",
    "starting primary after failure",
    "starting as readonly because i had the session lock",
    "starting as a secondary",
    "starting as a standby leader because i had the session lock",
    "trying to follow a remote member because standby cluster is unhealthy",
    // Ours: docs/compatibility.md, a server that dies of its promotions.
    "not starting postgres before another member has taken over",
    // Of ours alone (docs/safety.md S11 to S13).
    "Postponing promotion because PostgreSQL does not tell its synchronous_standby_names",
    "Postponing promotion because synchronous_standby_names could not be set",
    "not promoting before {} answered because I did not win the leader key",
    "released leader key because I did not win it and somebody else has led since",
    "released leader key again because nobody has confirmed that it was",
    "Promotion cancelled because PostgreSQL could not be asked to promote itself",
    "switchover: starting primary again because nobody has all of its WAL",
];

/// Is `line` what `template` says?
fn fits(template: &str, line: &str) -> bool {
    let Some((head, rest)) = template.split_once("{}") else { return template == line };
    line.strip_prefix(head).is_some_and(|tail| {
        let starts = tail.char_indices().map(|(at, c)| at + c.len_utf8());
        starts.filter_map(|at| tail.get(at..)).any(|tail| fits(rest, tail))
    })
}

/// The line's own template: the one with the most text of its own. So `no action. I am (a), a secondary,
/// and following a leader (b)` is no `no action. I am ({})`.
fn template_of(line: &str) -> Option<&'static str> {
    let fitting = LINES.iter().copied().filter(|template| fits(template, line));
    fitting.max_by_key(|template| template.len() - 2 * template.matches("{}").count())
}

#[test]
fn a_line_has_one_template() {
    let cases = [
        ("no action. I am (a)", Some("no action. I am ({})")),
        (
            "no action. I am (a), a secondary, and following a leader (b)",
            Some("no action. I am ({}), a secondary, and following a leader ({})"),
        ),
        ("restart in progress", Some("{} in progress")),
        (
            "Failed to run promote, restart is already in progress",
            Some("Failed to run {}, {} is already in progress"),
        ),
        ("no action. I am (a), the leader", None),
        ("something else", None),
    ];
    for (line, template) in cases {
        assert_eq!(template_of(line), template, "{line}");
    }
}

#[test]
fn every_line_has_a_row_and_every_row_a_line() {
    let mut unused: Vec<&str> = LINES.to_vec();
    for row in rows::all() {
        // The process ends without a line.
        if row.line.is_empty() {
            continue;
        }
        let line = row.line.strip_prefix("PAUSE: ").unwrap_or(row.line);
        let known = template_of(line);
        assert!(known.is_some(), "{}: not a line of the contract: {line}", row.id);
        unused.retain(|template| Some(*template) != known);
    }
    assert!(unused.is_empty(), "no row yields: {unused:#?}");
}

#[test]
fn pause_has_its_prefix_in_each_table() {
    let paused = rows::all().into_iter().filter(|row| row.line.starts_with("PAUSE: "));
    let tables: std::collections::BTreeSet<&str> =
        paused.map(|row| row.id.split('-').next().unwrap()).collect();
    for table in ["4A", "4D", "4E", "4F", "4G", "4H", "4I", "4J", "6"] {
        assert!(tables.contains(table), "{table}");
    }
}
