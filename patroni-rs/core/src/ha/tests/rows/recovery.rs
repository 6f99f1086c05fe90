//! 4D, 4G, 10: PostgreSQL is down.

use std::time::Duration;

use super::super::super::*;
use super::super::world::{leader, orphan, replica, Reply, World, NOW};
use super::{row, Row};

fn crashed(control: &str) -> World {
    leader().crashed(control).state(PgState::Running)
}

fn dead_replica() -> World {
    replica().crashed("in archive recovery")
}

/// So many seconds ago.
fn gave_way(seconds: u64) -> World {
    dead_replica().memory(|m| m.start.gave_way_at = Some(NOW - Duration::from_secs(seconds)))
}

fn failed_start(world: World) -> World {
    world.down().state(PgState::StartFailed).memory(|m| m.start.recovering = true)
}

fn rewind(world: World, rewind: Rewind) -> World {
    world.memory(|m| m.rewind.state = rewind)
}

const NOT_PROVEN: &str = super::super::super::recover::NOT_PROVEN;

pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        row(
            "4D-01",
            failed_start(leader()),
            "removed leader key after trying and failing to start postgres",
            "load prove unwatch role(demoted) call(on_role_change) delete touch",
        ),
        row(
            "4D-01",
            failed_start(leader().role(Role::Replica)),
            "removed leader key after trying and failing to start postgres",
            "load prove unwatch delete touch",
        ),
        // Nobody can prove that nothing of it is left: the key stays.
        row("4D-01", failed_start(leader()).answer(|a| a.proven = false), NOT_PROVEN, "load prove touch"),
        row(
            "4G-01",
            leader().down().paused().answer(|a| a.proven = false),
            "PAUSE: not removing leader key because processes of postgres may still be running",
            "load unwatch prove touch",
        ),
        row("4D-01", failed_start(replica()), "failed to start postgres", "load touch"),
        row(
            "4D-01",
            failed_start(replica()).paused(),
            "PAUSE: failed to start postgres",
            "load state(stopped) touch",
        ),
        row(
            "4G-01",
            leader().down().paused(),
            "PAUSE: removed leader lock because postgres is not running",
            "load unwatch prove delete touch",
        )
        .says("Postgresql is not running."),
        row("4G-01", replica().down().paused(), "PAUSE: postgres is not running", "load touch"),
        row(
            "4G-01",
            rewind(replica().down().paused(), Rewind::Need),
            "PAUSE: running pg_rewind from b",
            "load load job:running pg_rewind from b touch",
        ),
        row(
            "4G-01",
            rewind(replica().down().paused(), Rewind::Success),
            "PAUSE: starting as a secondary",
            "load load job:restarting after failure(b,replica) touch",
        ),
        row(
            "4G-01",
            rewind(replica().down().paused(), Rewind::Failed),
            "PAUSE: postgres is not running",
            "load touch",
        ),
    ];
    rows.extend(primary_rows());
    rows.extend(standby_rows());
    rows
}

fn primary_rows() -> Vec<Row> {
    let no_wait = || crashed("in production").config(r#""primary_start_timeout":0"#);
    vec![
        row("10-10", no_wait().peer("b", |_| ()), "stopped PostgreSQL to fail over after a crash", "load state(crashed) prove update feed peers(b,c) unwatch stop(immediate) role(demoted) delete touch yield load job:starting after demotion(nobody,replica) touch")
            .says("Primary crashed. Failing over."),
        row("10-10", no_wait(), "doing crash recovery in a single user mode", "load state(crashed) prove update feed peers(b,c) unwatch job:doing crash recovery in a single user mode touch"),
        row(
            "10-12",
            crashed("in production").answer(|a| a.proven = false),
            NOT_PROVEN,
            "load state(crashed) prove touch",
        ),
        row("10-12", crashed("in production"), "starting primary after failure", "load state(crashed) prove update feed job:starting primary after failure touch").says(
            "pg_controldata:\n\n",
        ),
        // Others may have led since.
        row(
            "S14",
            crashed("shut down").went_back(1000, 1),
            "starting as readonly because i had the session lock",
            "load state(crashed) prove update feed unwatch load job:restarting after failure(nobody,replica) touch",
        ),
        row("10-12", crashed("in crash recovery"), "starting primary after failure", "load state(crashed) prove update feed job:starting primary after failure touch"),
        row("10-12", crashed("shutting down"), "starting primary after failure", "load state(crashed) prove update feed job:starting primary after failure touch"),
        row("10-12", crashed("shut down"), "starting primary after failure", "load state(crashed) prove update feed job:starting primary after failure touch"),
        row(
            "10-12",
            crashed("shut down").answer(|a| a.control.recovery_conf_exists = true),
            "starting as readonly because i had the session lock",
            "load state(crashed) prove update feed unwatch load job:restarting after failure(nobody,replica) touch",
        ),
        row(
            "10-13",
            crashed("in production").answer(|a| a.update = Reply::No),
            "doing crash recovery in a single user mode",
            "load state(crashed) prove update unwatch job:doing crash recovery in a single user mode touch",
        ),
        row(
            "10-13",
            crashed("in production").role(Role::Replica),
            "doing crash recovery in a single user mode",
            "load state(crashed) prove update feed unwatch job:doing crash recovery in a single user mode touch",
        ),
        row(
            "10-13",
            crashed("in production").role(Role::Replica).answer(|a| a.control.restored_from_backup = true),
            "starting as readonly because i had the session lock",
            "load state(crashed) prove update feed unwatch load job:restarting after failure(nobody,replica) touch",
        )
        .says(
            "Skipping single-user crash recovery because backup_label exists; PostgreSQL will handle it during \
             normal startup",
        ),
        row(
            "10-13",
            crashed("in production").role(Role::Replica).memory(|m| {
                m.start.crash_recovery_at = Some(super::super::world::NOW);
            }),
            "starting as readonly because i had the session lock",
            "load state(crashed) prove update feed unwatch load job:restarting after failure(nobody,replica) touch",
        ),
        row(
            "10-15",
            crashed("shut down").role(Role::Demoted).memory(|m| m.start.readonly = 2),
            "starting as readonly because i had the session lock",
            "load state(crashed) prove update feed unwatch load peers(b,c) job:restarting after failure(nobody,replica) touch",
        ),
        row(
            "10-15",
            crashed("shut down").role(Role::Demoted).memory(|m| m.start.readonly = 2).peer("b", |_| ()),
            "removed leader key after trying and failing to start postgres",
            "load state(crashed) prove update feed unwatch load peers(b,c) prove delete touch",
        ),
        // A node that has yielded leaves the race to the others: until one leads, or for a ttl.
        row(
            "10-15",
            gave_way(29).without("leader"),
            "not starting postgres before another member has taken over",
            "load state(crashed) touch",
        ),
        row(
            "10-15",
            gave_way(30).without("leader"),
            "starting as a secondary",
            "load state(crashed) load job:restarting after failure(nobody,replica) touch",
        ),
        row(
            "10-15",
            gave_way(1),
            "starting as a secondary",
            "load state(crashed) load job:restarting after failure(b,replica) touch",
        ),
        row(
            "10-15",
            crashed("shut down").role(Role::Demoted),
            "starting as readonly because i had the session lock",
            "load state(crashed) prove update feed unwatch load job:restarting after failure(nobody,replica) touch",
        ),
    ]
}

fn standby_rows() -> Vec<Row> {
    let standby = r#""standby_cluster":{"host":"remote"}"#;
    vec![
        row("10-17", dead_replica(), "starting as a secondary", "load state(crashed) load job:restarting after failure(b,replica) touch"),
        row("10-17", dead_replica().config(r#""synchronous_mode":true"#), "starting as a secondary", "load state(crashed) load ssn:none job:restarting after failure(b,replica) touch"),
        row(
            "10-17",
            replica().crashed("in production").answer(|a| a.can_rewind = false),
            "starting as a secondary",
            "load state(crashed) load job:restarting after failure(b,replica) touch",
        ),
        row("10-17", orphan().crashed("shut down"), "starting as a secondary", "load state(crashed) load job:restarting after failure(nobody,replica) touch"),
        row(
            "10-17",
            rewind(replica().crashed("shut down"), Rewind::Check).answer(|a| a.diverged = Some(true)),
            "running pg_rewind from b",
            "load state(crashed) load job:running pg_rewind from b touch",
        ),
        // A rewind that failed is tried again, but not at once.
        row(
            "10-17",
            rewind(replica().crashed("shut down"), Rewind::Failed).answer(|a| a.diverged = Some(true)),
            "starting as a secondary",
            "load state(crashed) load job:restarting after failure(b,replica) touch",
        ),
        row(
            "10-17",
            rewind(replica().crashed("shut down"), Rewind::Failed)
                .memory(|m| m.rewind.failed_at = Some(NOW - Duration::from_secs(60)))
                .answer(|a| a.diverged = Some(true)),
            "running pg_rewind from b",
            "load state(crashed) load job:running pg_rewind from b touch",
        ),
        row(
            "10-17",
            rewind(dead_replica(), Rewind::Check).answer(|a| a.diverged = Some(true)),
            "doing crash recovery in a single user mode",
            "load state(crashed) load job:doing crash recovery in a single user mode touch",
        ),
        row(
            "10-17",
            rewind(dead_replica(), Rewind::Need)
                .me(|me| me.reinit_on_diverged = true)
                .answer(|a| a.can_rewind = false),
            "reinitializing due to diverged timelines",
            "load state(crashed) load job:reinitializing due to diverged timelines touch",
        ),
        row(
            "19-20",
            rewind(replica().crashed("shut down"), Rewind::Success).answer(|a| a.diverged = Some(true)),
            "starting as a secondary",
            "load state(crashed) load job:restarting after failure(b,replica) touch",
        ),
        row(
            "10-17",
            crashed("shut down in recovery").role(Role::StandbyLeader).config(standby),
            "starting as a standby leader because i had the session lock",
            "load state(crashed) prove update feed unwatch load job:restarting after failure(remote_member,standby_leader) touch",
        ),
        row(
            "10-17",
            orphan().crashed("shut down in recovery").config(standby),
            "trying to follow a remote member because standby cluster is unhealthy",
            "load state(crashed) load job:restarting after failure(remote_member,replica) touch",
        ),
    ]
}
