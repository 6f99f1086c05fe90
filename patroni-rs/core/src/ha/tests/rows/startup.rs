//! 4B, 4C, 4E, 4F: a server that starts, bootstrap, no data directory, foreign data.

use std::time::Duration;

use super::super::super::*;
use super::super::world::{leader, newcomer, orphan, replica, Reply, World, NOW, SYSID};
use super::{row, Row};

const NOT_PROVEN: &str = super::super::super::recover::NOT_PROVEN;

fn starting(seconds: u64) -> World {
    leader().hung().state(PgState::Starting).watchdog(false).view(|v| {
        v.pg.state_since = NOW - Duration::from_secs(seconds);
    })
}

/// A new cluster whose first node bootstraps here.
fn bootstrapping(result: Option<bool>) -> World {
    orphan()
        .primary()
        .key("initialize", "")
        .without("config")
        .view(|v| v.pg.callback_fired = false)
        .memory(|m| (m.bootstrap.running, m.bootstrap.result) = (true, result))
}

/// An empty data directory in a DCS that has nothing.
fn first() -> World {
    newcomer().without("leader").without("initialize")
}

fn data_dir(world: World, data_dir: DataDir) -> World {
    world.view(|v| {
        v.pg.data_dir = data_dir;
        v.pg.sysid.clear();
    })
}

fn gone(world: World) -> World {
    data_dir(world, DataDir::Inaccessible("[Errno 5] Input/output error".into()))
}

const STANDBY_METHOD: &str = r#""standby_cluster":{"host":"remote","create_replica_methods":["own"]}"#;

const HALF_REWOUND: &str = "data directory is half rewound: it must not be started, and needs to be reinitialized (patronictl reinit)";

fn half_made(world: World, work: Unfinished) -> World {
    data_dir(world, DataDir::HalfMade(work))
}

fn sysid(world: World, sysid: &str) -> World {
    world.view(|v| v.pg.sysid = sysid.into())
}

pub fn rows() -> Vec<Row> {
    let mut rows = starting_rows();
    rows.extend(bootstrap_rows());
    rows.extend(data_dir_rows());
    rows.extend(sysid_rows());
    rows
}

fn starting_rows() -> Vec<Row> {
    vec![
        row(
            "4B-01",
            replica().hung().state(PgState::Starting),
            "no action. I am (a), a secondary, and following a leader (b)",
            "load touch",
        )
        .says("Still starting up as a standby."),
        row(
            "4B-02",
            starting(1).answer(|a| a.update = Reply::No),
            "stopped PostgreSQL while starting up because leader key was lost",
            "load update stop(immediate) role(demoted) load job:starting after demotion(nobody,replica) touch",
        )
        .says("Lost lock while starting up. Demoting self."),
        row("4B-03", starting(400).peer("b", |_| ()), "stopped PostgreSQL because of startup timeout", "load update peers(b,c) stop(immediate) role(demoted) delete touch yield load job:starting after demotion(nobody,replica) touch")
            .says("Demoting self because primary startup is taking too long"),
        row(
            "4B-04",
            starting(400),
            "primary start has timed out, but continuing to wait because failover is not possible",
            "load update peers(b,c) touch",
        ),
        row("4B-05", starting(60), "PostgreSQL is still starting up, 240 seconds until timeout", "load update touch"),
        row(
            "4B-05",
            starting(60).memory(|m| m.start.timeout = Some(Duration::from_secs(1000))),
            "PostgreSQL is still starting up, 940 seconds until timeout",
            "load update touch",
        ),
        row(
            "4B-05",
            starting(60).memory(|m| m.start.timeout = Some(Duration::ZERO)),
            "PostgreSQL is still starting up, 240 seconds until timeout",
            "load update touch",
        ),
        row(
            "4B-05",
            starting(20)
                .config(r#""primary_start_timeout":0"#)
                .peer("b", |_| ())
                .memory(|m| m.start.timeout = Some(Duration::ZERO)),
            "PostgreSQL is still starting up, 40 seconds until timeout",
            "load update touch",
        ),
        row(
            "4B-05",
            starting(60).peer("b", |_| ()).key("failover", r#"{"member":"b"}"#),
            "manual failover: demoting myself",
            "load update peers(b) job:manual failover: demote touch",
        ),
        row(
            "4B-05",
            starting(60).peer("b", |_| ()).key("failover", r#"{"leader":"a","member":"b"}"#),
            "PostgreSQL is still starting up, 240 seconds until timeout",
            "load update peers(b) touch",
        )
        .says("switchover: waiting for a candidate to receive WAL from this node: b"),
        row(
            "3-08",
            leader().state(PgState::Starting).paused(),
            "PAUSE: no action. I am (a), the leader with the lock",
            "load unwatch state(running) update+status ssn:none slots touch",
        ),
    ]
}

fn bootstrap_rows() -> Vec<Row> {
    vec![
        row("4C-01", bootstrapping(Some(false)), "", "load uninitialize stop(immediate) move touch")
            .exits(1)
            .says("removing initialize key after failed attempt to bootstrap the cluster")
            .says("Failed to bootstrap cluster"),
        row("4C-01", bootstrapping(None).down(), "", "load uninitialize stop(immediate) move touch").exits(1),
        row(
            "4C-02",
            bootstrapping(None).row(|r| r.is_primary = false),
            "waiting for end of recovery after bootstrap",
            "load touch",
        ),
        row(
            "4C-03",
            bootstrapping(None).role(Role::Replica),
            "running post_bootstrap",
            "load role(primary) job:post_bootstrap touch",
        ),
        row(
            "4C-04",
            bootstrapping(Some(true)),
            "initialized a new cluster",
            "load watch initialize(7000000000000000001) config take call(on_start) load touch",
        ),
        row(
            "4C-04",
            bootstrapping(Some(true)).config(r#""synchronous_mode":true,"synchronous_mode_strict":true"#),
            "initialized a new cluster",
            "load watch initialize(7000000000000000001) config take ssn:* call(on_start) load touch",
        ),
        row(
            "4C-04",
            bootstrapping(Some(true)).config(r#""synchronous_mode":true"#),
            "initialized a new cluster",
            "load watch initialize(7000000000000000001) config take ssn:none call(on_start) load touch",
        ),
        row(
            "4C-04",
            bootstrapping(Some(true)).answer(|a| a.watchdog = false),
            "",
            "load watch uninitialize stop(immediate) move touch",
        )
        .exits(1)
        .says("Cancelling bootstrap because watchdog activation failed"),
        // Ours: the cluster was made by somebody else meanwhile.
        row(
            "4C-04",
            bootstrapping(Some(true)).key("initialize", "7999999999999999999"),
            "",
            "load stop(immediate) move touch",
        )
        .exits(1)
        .says(
            "system ID mismatch, node a belongs to a different cluster: 7999999999999999999 != 7000000000000000001",
        ),
    ]
}

fn data_dir_rows() -> Vec<Row> {
    let empty_leader = || data_dir(leader(), DataDir::Empty);
    let standby = r#""standby_cluster":{"host":"remote"}"#;
    vec![
        row(
            "4E-01",
            empty_leader(),
            "released leader key voluntarily as data dir empty and currently leader",
            "load role(uninitialized) stop(immediate) unwatch delete touch touch",
        ),
        row(
            "4E-01",
            gone(leader()),
            "released leader key voluntarily as data dir not accessible and currently leader",
            "load role(uninitialized) stop(immediate) unwatch delete touch touch",
        ),
        row(
            "4E-01",
            empty_leader().paused(),
            "PAUSE: released leader key voluntarily as data dir empty and currently leader",
            "load unwatch role(uninitialized) stop(immediate) delete touch touch",
        ),
        row(
            "4E-01",
            empty_leader().answer(|a| a.stop = false),
            NOT_PROVEN,
            "load role(uninitialized) stop(immediate) touch",
        ),
        row(
            "4E-04",
            first().answer(|a| a.stop = false),
            "not bootstrapping because processes of postgres may still be running",
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-02",
            gone(newcomer()),
            "data directory is not accessible: [Errno 5] Input/output error",
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-02",
            half_made(leader(), Unfinished::Rewind),
            "released leader key voluntarily as data dir half made and currently leader",
            "load role(uninitialized) stop(immediate) unwatch delete touch touch",
        ),
        row(
            "4E-02",
            half_made(newcomer(), Unfinished::Rewind),
            HALF_REWOUND,
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-02",
            half_made(newcomer(), Unfinished::Rewind).me(|me| me.reinit_on_failed_rewind = true),
            "trying to bootstrap from leader 'b'",
            "load touch stop(immediate) job:bootstrap from leader 'b' touch",
        ),
        row(
            "4E-02",
            half_made(newcomer(), Unfinished::Rewind).me(|me| me.reinit_on_diverged = true),
            "trying to bootstrap from leader 'b'",
            "load touch stop(immediate) job:bootstrap from leader 'b' touch",
        ),
        row(
            "4E-02",
            half_made(orphan().down(), Unfinished::Rewind).me(|me| me.reinit_on_failed_rewind = true),
            HALF_REWOUND,
            "load role(uninitialized) stop(immediate) touch",
        ),
        row(
            "4E-02",
            half_made(newcomer().paused(), Unfinished::Rewind).me(|me| me.reinit_on_failed_rewind = true),
            "PAUSE: data directory is half made, by a rewind that was broken off",
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-02",
            half_made(newcomer(), Unfinished::Copy),
            "trying to bootstrap from leader 'b'",
            "load touch stop(immediate) job:bootstrap from leader 'b' touch",
        ),
        row(
            "4E-02",
            half_made(first(), Unfinished::Copy),
            "waiting for leader to bootstrap",
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-02",
            half_made(first().config(standby), Unfinished::Copy),
            "trying to bootstrap a new standby leader",
            "load touch stop(immediate) initialize(new:) job:bootstrap_standby_leader touch",
        ),
        row(
            "4E-02",
            half_made(first(), Unfinished::Bootstrap),
            "put aside what a bootstrap that was broken off has left",
            "load touch stop(immediate) move touch",
        ),
        row(
            "4E-03",
            newcomer().paused(),
            "PAUSE: running with empty data directory",
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-04",
            first(),
            "trying to bootstrap a new cluster",
            "load touch stop(immediate) initialize(new:) job:bootstrap touch",
        ),
        row(
            "4E-04",
            first().config(standby),
            "trying to bootstrap a new standby leader",
            "load touch stop(immediate) initialize(new:) job:bootstrap_standby_leader touch",
        ),
        row(
            "4E-04",
            first().answer(|a| a.initialize = false),
            "failed to acquire initialize lock",
            "load touch stop(immediate) initialize(new:) touch",
        ),
        row(
            "4E-04",
            first().tags(r#"{"nofailover":true}"#),
            "waiting for leader to bootstrap",
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-04",
            first().me(|me| me.can_bootstrap = false),
            "waiting for leader to bootstrap",
            "load touch stop(immediate) touch",
        ),
        // Ours: a claim whose answer was lost is asked for again, and nobody else's is.
        row(
            "4E-04",
            first().key("initialize", "").memory(|m| m.bootstrap.claim_unclear = true),
            "trying to bootstrap a new cluster",
            "load touch stop(immediate) initialize(new:) job:bootstrap touch",
        ),
        row(
            "4E-04",
            first()
                .key("initialize", "")
                .memory(|m| m.bootstrap.claim_unclear = true)
                .answer(|a| a.initialize = false),
            "waiting for leader to bootstrap",
            "load touch stop(immediate) initialize(new:) touch",
        ),
        row(
            "4E-05",
            newcomer(),
            "trying to bootstrap from leader 'b'",
            "load touch stop(immediate) job:bootstrap from leader 'b' touch",
        ),
        row(
            "4E-05",
            newcomer().member("c", "replica", r#""tags":{"clonefrom":true}"#),
            "trying to bootstrap from replica 'c'",
            "load touch stop(immediate) job:bootstrap from replica 'c' touch",
        ),
        row(
            "4E-06",
            newcomer().without("leader").me(|me| me.has_no_leader_method = true),
            "trying to bootstrap (without leader)",
            "load touch stop(immediate) job:bootstrap (without leader) touch",
        ),
        row(
            "4E-06",
            newcomer().without("leader").config(standby).me(|me| {
                me.has_no_leader_method = true;
                me.no_leader_methods = vec!["own".into()];
            }),
            "waiting for standby_leader to bootstrap",
            "load touch stop(immediate) touch",
        ),
        // The standby cluster's list decides, whatever stands in `postgresql`.
        row(
            "4E-06",
            newcomer()
                .without("leader")
                .config(STANDBY_METHOD)
                .me(|me| me.no_leader_methods = vec!["own".into()]),
            "trying to bootstrap (without leader)",
            "load touch stop(immediate) job:bootstrap (without leader) touch",
        ),
        row(
            "4E-06",
            newcomer().without("leader").config(STANDBY_METHOD).me(|me| {
                me.has_no_leader_method = true;
                me.no_leader_methods = vec!["another".into()];
            }),
            "waiting for standby_leader to bootstrap",
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-08",
            newcomer().without("leader").key("initialize", "").me(|me| me.has_no_leader_method = true),
            "waiting for leader to bootstrap",
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-07",
            newcomer().without("leader"),
            "waiting for leader to bootstrap",
            "load touch stop(immediate) touch",
        ),
        row(
            "4E-07",
            newcomer().without("leader").config(standby),
            "waiting for standby_leader to bootstrap",
            "load touch stop(immediate) touch",
        ),
    ]
}

fn sysid_rows() -> Vec<Row> {
    let invalid =
        "data dir for the cluster is not empty, but system ID is invalid; consider doing reinitialize";
    let other = "7000000000000000002";
    let uninitialized = || orphan().without("initialize").view(|v| v.pg.callback_fired = false);
    vec![
        row("4F-01", sysid(replica(), "123"), invalid, "load touch").says(
            "The control file of the data directory can not be used: no system identifier in it; PostgreSQL is running \
             in it",
        ),
        // The lock of a server that does not run is not kept from others, whichever node keeps its lease alive.
        row("4F-01", sysid(leader().down(), "").view(|v| v.pg.sysid_problem = "x".into()), invalid, "load prove delete touch touch")
            .says("The control file of the data directory can not be used: x; PostgreSQL is not running")
            .says("Leader key released"),
        row("4F-01", sysid(leader(), "").watchdog(false), invalid, "load touch"),
        row("4F-01", sysid(replica().watchdog(true), "123"), invalid, "load unwatch touch"),
        row(
            "4F-01",
            sysid(replica().primary(), "123"),
            invalid,
            "load stop(immediate) role(demoted) load job:starting after demotion(b,replica) touch",
        )
        .says("Demoting self (immediate-nolock)"),
        row("4F-01", sysid(leader(), "123"), invalid, "load touch"),
        row("4F-02", sysid(replica(), other), "", "load touch").exits(1).says(
            "system ID mismatch, node a belongs to a different cluster: 7000000000000000001 != \
             7000000000000000002",
        ),
        row(
            "4F-02",
            sysid(leader(), other).paused(),
            "PAUSE: released leader key voluntarily due to the system ID mismatch",
            "load unwatch delete touch touch",
        )
        .says(
            "system ID has changed while in paused mode. Patroni will exit when resuming unless system ID is \
             reset: 7000000000000000001 != 7000000000000000002",
        ),
        row(
            "4F-02",
            sysid(replica(), other).paused(),
            "PAUSE: no action. I am (a), a secondary, and following a leader (b)",
            "load slots touch",
        ),
        row("4F-03", uninitialized(), "", "load touch")
            .exits(1)
            .says("No initialize key in DCS and PostgreSQL is running as replica, aborting start")
            .says("Please first start Patroni on the node running as primary"),
        row("4F-03", uninitialized().primary(), "acquired session lock as a leader", "load initialize(new:7000000000000000001) acquire load watch ssn:none slots call(on_start) touch"),
        row(
            "4F-03",
            uninitialized().primary().key("initialize", "garbage"),
            "acquired session lock as a leader",
            "load initialize(7000000000000000001) acquire load watch ssn:none slots call(on_start) touch",
        ),
        row(
            "3-06",
            leader().without("initialize").without("config"),
            "no action. I am (a), the leader with the lock",
            "load initialize(new:7000000000000000001) config load update+status feed ssn:none slots touch",
        ),
        row(
            "3-06",
            leader().key("initialize", "").key("config", "garbage"),
            "no action. I am (a), the leader with the lock",
            "load initialize(7000000000000000001) config load update+status feed ssn:none slots touch",
        ),
        row(
            "3-05",
            leader().without("members/a").key("initialize", SYSID),
            "no action. I am (a), the leader with the lock",
            "load touch update+status feed ssn:none slots touch",
        ),
    ]
}
