//! 20, 21: synchronous and quorum mode of the primary.

use super::super::super::*;
use super::super::world::{leader, World, NOW};
use super::{row, Row};

const LEADS: &str = "no action. I am (a), the leader with the lock";
const PROMOTES: &str = "promoted self to leader because I had the session lock";

fn on(world: World) -> World {
    world.config(r#""synchronous_mode":true"#)
}

fn strict(world: World) -> World {
    world.config(r#""synchronous_mode":true,"synchronous_mode_strict":true"#)
}

fn quorum(world: World) -> World {
    world.config(r#""synchronous_mode":"quorum""#)
}

fn promotable() -> World {
    leader().role(Role::Replica).row(|r| r.is_primary = false)
}

pub fn rows() -> Vec<Row> {
    let mut rows = priority_rows();
    rows.extend(quorum_rows());
    rows.extend(promotion_rows());
    rows
}

fn priority_rows() -> Vec<Row> {
    let b: &[&str] = &["b"];
    let c: &[&str] = &["c"];
    let none: &[&str] = &[];
    vec![
        row("20-01", on(leader()).current_sync(none, 0, none, none), LEADS, "load update+status feed sync(a;;0) slots touch")
            .says("Enabled synchronous replication"),
        row("20-01", on(leader()).answer(|a| a.write_sync = false), LEADS, "load update+status feed sync(a;;0) slots touch").says("Updating sync state failed"),
        row("20-06", on(leader()).sync_key("a", "b", 0).current_sync(b, 1, b, b), LEADS, "load update+status feed slots touch"),
        row(
            "20-06",
            on(leader()).sync_key("a", "", 0).current_sync(none, 0, none, b).current_sync(b, 1, b, b),
            LEADS,
            "load update+status feed ssn:b sync(a;b;0) slots touch",
        )
        .says("Assigning synchronous standby status to ['b']")
        .says("Synchronous standby status assigned to ['b']"),
        row(
            "20-06",
            on(leader()).sync_key("a", "b", 0).current_sync(b, 1, none, c).current_sync(c, 1, c, c),
            LEADS,
            "load update+status feed sync(a;;0) ssn:c sync(a;c;0) slots touch",
        )
        .says("Updating synchronous privilege temporarily from ['b'] to []"),
        row("20-06", on(leader()).sync_key("a", "b", 0).current_sync(b, 1, none, none), LEADS, "load update+status feed sync(a;;0) ssn: slots touch"),
        row("20-07", on(leader()).sync_key("b", "a", 0).current_sync(b, 1, b, b), LEADS, "load update+status feed sync(a;;0) ssn:b sync(a;b;0) slots touch").says(
            "Inconsistent state of /sync key detected, leader = b doesn't match a, updating synchronous replication \
             key",
        ),
        row("20-07", on(leader()).sync_key("a", "b", 0).current_sync(none, 0, none, b), LEADS, "load update+status feed sync(a;;0) ssn:b slots touch").says(
            "Inconsistent state between synchronous_standby_names = [] and /sync = ['b'] key detected, updating \
             synchronous replication key...",
        ),
        row("20-08", strict(leader()).sync_key("a", "", 0).current_sync(none, 1, none, none), LEADS, "load update+status feed ssn:* slots touch")
            .says("No standbys available!")
            .says("Assigning synchronous standby status to ['*']"),
        row(
            "20-09",
            on(leader()).sync_key("a", "b", 0).current_sync(b, 1, none, c).answer(|a| a.write_sync = false),
            LEADS,
            "load update+status feed sync(a;;0) slots touch",
        )
        .says("Synchronous replication key updated by someone else."),
        row(
            "20-09",
            on(leader())
                .sync_key("a", "", 0)
                .current_sync(none, 0, none, b)
                .current_sync(b, 1, b, b)
                .answer(|a| a.write_sync = false),
            LEADS,
            "load update+status feed ssn:b sync(a;b;0) slots touch",
        )
        .says("Synchronous replication key updated by someone else"),
        row("20-12", leader().sync_key("a", "b", 0), LEADS, "load update+status feed unsync ssn:none slots touch").says("Disabled synchronous replication"),
        row("20-12", leader().me(|me| me.user_sync_names = Some("x".into())), LEADS, "load update+status feed ssn:user=x slots touch"),
        row(
            "20-01",
            on(leader()),
            "Error communicating with PostgreSQL. Will try again later",
            "load update+status feed sync(a;;0) touch",
        ),
    ]
}

fn quorum_rows() -> Vec<Row> {
    let b: &[&str] = &["b"];
    let bc: &[&str] = &["b", "c"];
    let none: &[&str] = &[];
    vec![
        row("21-06", quorum(leader()).sync_key("a", "b,c", 1).current_sync(bc, 1, bc, bc), LEADS, "load update+status feed slots touch"),
        row(
            "21-06",
            quorum(leader()).sync_key("a", "", 0).current_sync(none, 0, none, b).current_sync(b, 1, b, b),
            LEADS,
            "load update+status feed ssn:1(b) sync(a;b;0) slots touch",
        )
        .says("Setting synchronous replication to 1 of 1 (b)")
        .says("Setting leader to a, quorum to 0 of 1 (b)"),
        row("21-06", quorum(leader()).sync_key("a", "b,c", 1).current_sync(bc, 1, b, b).current_sync(b, 1, b, b), LEADS, "load update+status feed ssn:1(b) sync(a;b;0) slots touch"),
        row(
            "21-06",
            quorum(leader())
                .sync_key("a", "b,c", 1)
                .current_sync(bc, 1, b, b)
                .current_sync(b, 1, b, b)
                .answer(|a| a.write_sync = false),
            LEADS,
            "load update+status feed ssn:1(b) sync(a;b;0) slots touch",
        )
        .says("Synchronous replication key updated by someone else."),
        row(
            "21-07",
            quorum(leader())
                .config(r#""synchronous_mode":"quorum","synchronous_mode_strict":true"#)
                .sync_key("a", "b", 0)
                .current_sync(b, 1, none, none),
            LEADS,
            "load update+status feed sync(a;;0) ssn:1() slots touch",
        )
        .says("Replication factor 2 requested, but 0 synchronous standbys available. Commits will be delayed."),
        row(
            "21-02b",
            quorum(leader()).sync_key("a", "b,c", 1).memory(|m| m.sync.promoted_at = Some(NOW)),
            LEADS,
            "load update+status feed slots touch",
        ),
        row(
            "21-02b",
            quorum(leader()).sync_key("a", "b,c", 1).current_sync(bc, 1, none, none).memory(|m| m.sync.quorum_adopted = true),
            LEADS,
            "load update+status feed slots touch",
        ),
        // A write that was not confirmed may be on its way.
        row(
            "21-06",
            quorum(leader()).sync_key("a", "b,c", 1).current_sync(bc, 1, bc, bc).memory(|m| m.sync.unsure = true),
            LEADS,
            "load update+status feed sync(a;b,c;1) slots touch",
        ),
        row(
            "21-06",
            quorum(leader())
                .sync_key("a", "b,c", 1)
                .current_sync(b, 1, b, bc)
                .memory(|m| m.sync.unsure = true)
                .answer(|a| a.write_sync = false),
            LEADS,
            "load update+status feed sync(a;b,c;1) slots touch",
        )
        .says("Updating sync state failed"),
        row(
            "21-08",
            quorum(leader()).sync_key("a", "", 0).current_sync(none, 0, none, b),
            LEADS,
            "load update+status feed ssn:1(b) ssn:1(b) ssn:1(b) ssn:1(b) ssn:1(b) ssn:1(b) ssn:1(b) ssn:1(b) ssn:1(b) ssn:1(b) slots touch",
        ),
        row("21-01", quorum(leader()).answer(|a| a.write_sync = false), LEADS, "load update+status feed sync(a;;0) slots touch").says("Updating sync state failed"),
    ]
}

fn promotion_rows() -> Vec<Row> {
    const WAITS: &str = "Postponing promotion because synchronous_standby_names could not be set";
    let set = |world: World, set| world.answer(|a| a.sync_names = set);
    let voters = || quorum(promotable()).sync_key("a", "b,c", 1);
    let strict_quorum = || {
        promotable()
            .config(r#""synchronous_mode":"quorum","synchronous_mode_strict":true"#)
            .sync_key("a", "b,c", 1)
    };
    // The lease is used up by the time that /sync has been taken over.
    let slow =
        on(promotable()).sync_key("b", "a", 0).answer(|a| a.latency = std::time::Duration::from_secs(10));
    let mut unset = vec![
        row(
            "20-13",
            slow,
            "not promoting because failed to update leader lock in DCS",
            "load update+status feed ssn:0() sync(a;;0) unwatch slots touch",
        ),
        // A file that cannot be written: /sync stays as it was, and another may lead.
        row(
            "S13",
            set(voters(), SyncNamesSet::NotWritten),
            WAITS,
            "load update+status feed ssn:1(b,c) unwatch delete touch slots touch",
        )
        .says("Releasing the leader key voluntarily because synchronous_standby_names could not be set"),
        row(
            "S13",
            set(on(promotable()).sync_key("b", "a", 0), SyncNamesSet::NotWritten),
            WAITS,
            "load update+status feed ssn:0() unwatch delete touch slots touch",
        ),
        row(
            "S13",
            set(strict(promotable()).sync_key("b", "a", 0), SyncNamesSet::Overruled),
            WAITS,
            "load update+status feed ssn:1() unwatch delete touch slots touch",
        ),
        row(
            "S13",
            set(strict_quorum(), SyncNamesSet::Overruled),
            WAITS,
            "load update+status feed ssn:1(b,c) unwatch delete touch slots touch",
        ),
        // postgresql.auto.conf: promoted, and /sync promises nobody a vote.
        row(
            "S13",
            set(voters(), SyncNamesSet::Overruled),
            PROMOTES,
            "load update+status feed ssn:1(b,c) sync(a;;0) job:promote slots touch",
        ),
        row(
            "S13",
            set(voters(), SyncNamesSet::Unknown),
            "Postponing promotion because PostgreSQL does not tell its synchronous_standby_names",
            "load update+status feed ssn:1(b,c) unwatch slots touch",
        ),
        row(
            "S13",
            set(promotable(), SyncNamesSet::NotWritten),
            PROMOTES,
            "load update+status feed ssn:none job:promote slots touch",
        ),
        // In force: the key does not grow by what PostgreSQL does not hold.
        row(
            "S13",
            set(
                on(leader()).sync_key("a", "", 0).current_sync(&[], 0, &[], &["b"]).current_sync(
                    &["b"],
                    1,
                    &["b"],
                    &["b"],
                ),
                SyncNamesSet::Overruled,
            ),
            LEADS,
            "load update+status feed ssn:b slots touch",
        ),
        row(
            "S13",
            set(
                quorum(leader()).sync_key("a", "", 0).current_sync(&[], 0, &[], &["b"]).current_sync(
                    &["b"],
                    1,
                    &["b"],
                    &["b"],
                ),
                SyncNamesSet::Overruled,
            ),
            LEADS,
            "load update+status feed ssn:1(b) slots touch",
        ),
    ];
    unset.extend(vec![
        row(
            "20-13",
            on(promotable()).sync_key("b", "a", 0),
            PROMOTES,
            "load update+status feed ssn:0() sync(a;;0) job:promote slots touch",
        ),
        row(
            "20-13",
            strict(promotable()).sync_key("b", "a", 0),
            PROMOTES,
            "load update+status feed ssn:1() sync(a;;0) job:promote slots touch",
        ),
        row(
            "21-02",
            quorum(promotable()).sync_key("b", "a,c", 1),
            PROMOTES,
            "load update+status feed ssn:1(b,c) sync(a;b,c;1) job:promote slots touch",
        ),
        row(
            "21-02",
            quorum(promotable()).sync_key("b", "c", 1),
            PROMOTES,
            "load update+status feed ssn:1(b,c) sync(a;b,c;1) job:promote slots touch",
        ),
        row(
            "21-02",
            quorum(promotable()).sync_key("b", "a,c", 1).answer(|a| a.write_sync = false),
            "Postponing promotion because synchronous replication state was updated by somebody else",
            "load update+status feed ssn:1(b,c) sync(a;b,c;1) unwatch slots touch",
        ),
        row(
            "21-02",
            quorum(promotable()),
            PROMOTES,
            "load update+status feed ssn:0() job:promote slots touch",
        ),
        row(
            "20-13",
            promotable().sync_key("b", "a", 0),
            PROMOTES,
            "load update+status feed unsync ssn:none job:promote slots touch",
        ),
    ]);
    unset
}
