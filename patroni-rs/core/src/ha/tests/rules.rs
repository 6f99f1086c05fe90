//! Every rule of the contract's decision sections (surface-ha-pg 3 to 8, 14, 20, 21, 23) and the test that
//! shows it: rows of the tables here, or a test or scenario elsewhere.

use std::collections::BTreeSet;

use super::rows;

enum Shown {
    /// At least one row has this number.
    Row,
    /// The rows of another number show it as well.
    With(&'static str),
    /// A file below the repository's root, and a text in it.
    In(&'static str, &'static str),
}
use Shown::{In, Row, With};

const PEERS: &str = "patroni-rs/src/shell/peers.rs";
const QUORUM: &str = "patroni-rs/core/src/quorum/tests.rs";
const PICK: &str = "patroni-rs/core/src/sync/pick/tests.rs";
const WATCHDOG: &str = "patroni-rs/src/watchdog/tests.rs";
const STANDBY: &str = "compat-tests/features/standby_cluster.feature";

/// The sections of the contract (docs/contract/ha-pg.md) that decide.
const SECTIONS: &[&str] = &[
    "3", "4A", "4B", "4C", "4D", "4E", "4F", "4G", "4H", "4I", "4J", "5.1", "5.2", "6", "7", "8", "14", "20",
    "21", "23",
];

/// The rules that are not shown by rows with their own number.
const ELSEWHERE: &[(&str, Shown)] = &[
    ("3-01", In("compat-tests/features/basic_replication.feature", "the leader with the lock\" within")),
    ("3-02", With("4I-04")),
    ("3-03", With("4J-01")),
    ("3-04", With("8-06")),
    ("3-07", With("4A-02")),
    ("3-09", With("4C-01")),
    ("3-10", With("4D-01")),
    ("3-11", With("4E-01")),
    ("3-12", With("4F-02")),
    ("3-13", With("4G-01")),
    ("3-14", With("4H-02")),
    ("3-17", With("4H-02")),
    ("3-19", In("patroni-rs/core/src/ha/tests/lines.rs", "fn pause_has_its_prefix_in_each_table")),
    ("3-20", In("patroni-rs/src/log/heartbeat.rs", "fn lock_lines_show_only_before_events")),
    // The row writes `update`, not `update+status`.
    ("4A-06", With("4A-02")),
    ("4G-02", With("10-17")),
    ("4H-06", In("patroni-rs/api/tests/health.rs", "fn states_of_a_node")),
    ("5.1-02", With("6-10")),
    // The cached view does not grow: each race builds its electorate anew (28-16).
    ("5.2-02", With("5.2-01")),
    ("5.2-03", With("5.2-05")),
    ("5.2-06", In(PEERS, "fn a_decisive_answer_ends_the_round")),
    ("5.2-07", In(PEERS, "fn positions_and_roles")),
    ("5.2-08", In(PEERS, "fn positions_and_roles")),
    ("5.2-13", With("5.2-14")),
    ("5.2-15", In("patroni-rs/core/src/tags.rs", "fn barred_and_priorities")),
    ("5.2-16", With("4H-03")),
    // Different on purpose: a decisive answer ends the round.
    ("5.2-17", In(PEERS, "fn a_decisive_answer_ends_the_round")),
    ("6-01", With("6-05")),
    ("6-02", In("compat-tests/features/pause.feature", "in pause, failover and switchover need a candidate")),
    // Different on purpose: the next cycle runs when it is due.
    ("6-04", In("patroni-rs/core/src/ha/tests/garbage.rs", "fn a_schedule_wakes_the_loop")),
    ("6-11", With("4H-04")),
    ("6-12", With("4H-05")),
    ("7-04", With("4J-01")),
    ("7-05", In("patroni-rs/api/tests/actions.rs", "fn failsafe")),
    ("7-09", With("7-08")),
    ("8-03", In("compat-tests/features/pause.feature", "PostgreSQL is stopped and started manually")),
    ("8-04", In("patroni-rs/core/src/ha/tests/shutdown.rs", "\"8-04\"")),
    ("8-05", In("fixtures/ha/recorded.json", "\\\"pause\\\":true}\"}")),
    ("14-01", In("patroni-rs/core/src/global_config.rs", "fn modes")),
    ("14-02", In(STANDBY, "a standby leader follows a remote primary")),
    ("14-03", In(STANDBY, "robin1 streams from robin0")),
    ("14-04", In(STANDBY, "a standby leader follows a remote primary")),
    ("14-05", In("patroni-rs/postgres/src/files/recovery.rs", "'target_session_attrs': 'read-write'}")),
    ("14-06", With("4I-02")),
    ("14-07", In(STANDBY, "demote-cluster and promote-cluster")),
    ("14-08", In(STANDBY, "the source changes its leader and its timeline")),
    ("20-02", In("patroni-rs/core/src/model/sync.rs", "fn ")),
    ("20-03", In(PICK, "fn choices_are_the_references")),
    ("20-04", In(PICK, "fn choices_are_the_references")),
    ("20-05", In(PICK, "fn choices_are_the_references")),
    ("20-10", In("patroni-rs/core/src/sync/value.rs", "fn values_are_written_as_the_reference_writes_them")),
    ("20-11", In("compat-tests/features/synchronous.feature", "two synchronous standbys by priority")),
    ("20-14", In("patroni-rs/core/src/ha/tests/shutdown.rs", "\"20-14\"")),
    ("20-15", In("compat-tests/features/synchronous.feature", "on, quorum, on and off")),
    ("21-03", In(QUORUM, "fn no_sequence_of_events_loses_commits")),
    ("21-04", In(QUORUM, "fn steps_of_the_contract")),
    ("21-05", In(QUORUM, "fn steps_are_the_references")),
    ("21-09", In(QUORUM, "fn a_broken_state_is_reported_and_made_safe")),
    ("21-10", In("compat-tests/features/synchronous.feature", "from on to quorum")),
    ("21-11", In(PICK, "fn choices_are_the_references")),
    ("23-01", In(WATCHDOG, "fn modes_and_timeouts")),
    ("23-02", In(WATCHDOG, "fn modes_and_timeouts")),
    ("23-03", In("compat-tests/features/watchdog.feature", "armed by who leads, closed by who does not")),
    ("23-04", In(WATCHDOG, "fn a_file_is_not_a_watchdog")),
    ("23-05", In(WATCHDOG, "fn what_the_device_is_told")),
    ("23-06", In(WATCHDOG, "fn what_the_device_is_told")),
    ("23-07", In(WATCHDOG, "fn a_required_watchdog_that_does_not_work_forbids_leading")),
    ("23-08", In("compat-tests/features/watchdog.feature", "Ctimeout=25")),
    (
        "23-09",
        In(
            "compat-tests/features/watchdog.feature",
            "a pre_promote script that refuses: the watchdog is closed",
        ),
    ),
];

/// Their rules, by the anchors of the document.
fn all_rules() -> BTreeSet<String> {
    let text = include_str!("../../../../../docs/contract/ha-pg.md");
    let anchors = text.lines().filter_map(|line| line.strip_prefix("- <a id=\"")?.split('"').next());
    let ours =
        anchors.filter(|id| id.split_once('-').is_some_and(|(section, _)| SECTIONS.contains(&section)));
    ours.map(str::to_owned).collect()
}

fn is_shown(shown: &Shown, id: &str, rows: &BTreeSet<&str>) -> bool {
    match shown {
        Row => rows.contains(id),
        With(other) => rows.contains(other),
        In(file, text) => {
            let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).contains(text)
        }
    }
}

#[test]
fn every_rule_has_a_test_and_every_row_a_rule() {
    let rows: Vec<rows::Row> = rows::all();
    let ids: BTreeSet<&str> = rows.iter().map(|row| row.id).collect();
    let rules = all_rules();
    let empty: Vec<&&str> = SECTIONS.iter().filter(|s| !rules.contains(&format!("{s}-01"))).collect();
    assert!(empty.is_empty(), "the contract has no section {empty:?}");
    let missing: Vec<&String> = rules
        .iter()
        .filter(|id| {
            let elsewhere = ELSEWHERE.iter().find(|(known, _)| known == id).map(|(_, shown)| shown);
            !is_shown(elsewhere.unwrap_or(&Row), id, &ids)
        })
        .collect();
    assert!(missing.is_empty(), "no test shows {missing:?}");
    for (id, _) in ELSEWHERE {
        assert!(rules.contains(*id), "no rule {id}");
        assert!(!ids.contains(id), "{id} has rows of its own");
    }
    // Sections that are other modules' have rows where the engine takes part.
    // The head of section 4 has no number.
    // Those with an S are ours alone (docs/safety.md).
    let others = [
        "S9", "S11", "S12", "S13", "S14", "S15", "S16", "4", "9.1-", "9.2-", "9.3-", "10-", "11-", "12-",
        "13-", "17-", "18-", "19-", "22-", "24-", "28-",
    ];
    for id in ids {
        assert!(
            rules.contains(id) || others.iter().any(|o| id == *o || (o.ends_with('-') && id.starts_with(o))),
            "no rule {id}"
        );
    }
}
