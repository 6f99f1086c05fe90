//! 4H: the cluster has no leader.

use super::super::super::*;
use super::super::world::{orphan, Reply, World};
use super::{row, Row};
use crate::model::Lsn;

fn loses(world: World) -> World {
    world.answer(|a| a.acquire = Reply::No).later("leader", "c")
}

fn behind(world: World) -> World {
    world.peer("c", |p| p.wal_position = Lsn::new(2000))
}

fn old_timeline(world: World) -> World {
    world.primary().key("history", r#"[[1,900,"x"]]"#)
}

pub fn rows() -> Vec<Row> {
    let standby = r#""standby_cluster":{"host":"remote"}"#;
    let nofailover = r#"{"nofailover":true}"#;
    vec![
        row("4H-02", orphan(), "promoted self to leader by acquiring session lock", "load peers(b,c) acquire load watch ssn:none job:promote slots touch"),
        row("4H-02", orphan().primary(), "acquired session lock as a leader", "load acquire load watch ssn:none slots touch"),
        row("4H-02", orphan().primary().paused(), "PAUSE: acquired session lock as a leader", "load acquire load ssn:none slots touch"),
        row(
            "4H-01",
            orphan().config(standby),
            "promoted self to a standby leader by acquiring session lock",
            "load peers(b,c) acquire load load role(standby_leader) call(on_role_change) slots touch",
        ),
        row(
            "4H-03",
            loses(orphan()),
            "following new leader after trying and failing to obtain lock",
            "load peers(b,c) acquire load slots touch",
        ),
        row(
            "4H-03",
            loses(orphan().primary()),
            "demoted self after trying and failing to obtain lock",
            "load acquire load stop(immediate) role(demoted) load job:starting after demotion(c,replica) touch",
        )
        .says("Demoting self (immediate-nolock)"),
        row(
            "4H-04",
            behind(orphan()),
            "following a different leader because i am not the healthiest node",
            "load peers(b,c) load slots touch",
        )
        .says("Wal position of c is ahead of my wal position"),
        row(
            "4H-04",
            orphan().paused(),
            "PAUSE: no action. I am (a)",
            "load load slots touch",
        ),
        row(
            "4H-04",
            orphan().tags(nofailover),
            "following a different leader because I am not allowed to promote",
            "load yield load slots touch",
        ),
        row(
            "4H-04",
            behind(orphan()).key("failover", r#"{"leader":"b","member":"c"}"#).peer("c", |_| ()),
            "following a different leader because i am not the healthiest node",
            "load peers(c) yield load slots touch",
        )
        .says("switchover: to c, i am a"),
        row(
            "4H-04",
            old_timeline(orphan()),
            "demoting self because i am not the healthiest node",
            "load load stop(immediate) role(demoted) load job:starting after demotion(nobody,replica) touch",
        )
        .says("My timeline 1 is behind last known cluster timeline 2"),
        row(
            "4H-04",
            old_timeline(orphan()).tags(nofailover),
            "demoting self because I am not allowed to become primary",
            "load yield load stop(immediate) role(demoted) load job:starting after demotion(nobody,replica) touch",
        ),
        row(
            "4H-05",
            orphan().key("failover", r#"{"leader":"b","member":"a"}"#),
            "promoted self to leader by acquiring session lock",
            "load acquire failover() load watch ssn:none job:promote slots touch",
        )
        .says("Cleaning up failover key after acquiring leader lock..."),
        row(
            "4H-05",
            orphan().paused().key("failover", r#"{"leader":"b","member":"a"}"#),
            "PAUSE: promoted self to leader by acquiring session lock",
            "load acquire failover(a) load ssn:none job:promote slots touch",
        )
        .says("Updating failover key after acquiring leader lock..."),
        // Others may have led, and been gone again, since it looked.
        row(
            "S9",
            orphan().answer(|a| a.latency = std::time::Duration::from_secs(25)),
            "not taking the leader lock because this cycle has stood still for too long",
            "load peers(b,c) touch",
        )
        .says("This cycle began 75 s ago, too long to take the leader lock"),
        row(
            "S9",
            orphan().answer(|a| a.acquire_takes = std::time::Duration::from_secs(75)),
            "not taking the leader lock because this cycle has stood still for too long",
            "load peers(b,c) acquire delete touch touch",
        )
        .says("This cycle began 75 s ago, too long to take the leader lock"),
        // A lock under which somebody writes is given up on the proof of his end alone.
        row(
            "S9",
            orphan().primary().answer(|a| a.acquire_takes = std::time::Duration::from_secs(75)),
            "not taking the leader lock because this cycle has stood still for too long",
            "load acquire stop(immediate) role(demoted) delete touch yield load job:starting after demotion(nobody,replica) touch",
        )
        .says("Demoting self (immediate)"),
        // In a pause nobody is promoted, and nobody is stopped.
        row(
            "S9",
            orphan().primary().paused().answer(|a| a.acquire_takes = std::time::Duration::from_secs(75)),
            "PAUSE: acquired session lock as a leader",
            "load acquire load ssn:none slots touch",
        ),
        row(
            "3-16",
            orphan().primary().hung(),
            "Error communicating with PostgreSQL. Will try again later",
            "load touch",
        ),
        row(
            "3-18",
            orphan().answer(|a| a.confused = true),
            "Unexpected exception raised, please report it as a BUG",
            "load touch",
        ),
        row("3-16", orphan().hung(), "Error communicating with PostgreSQL. Will try again later", "load touch"),
        row(
            "4H-01",
            orphan().config(standby).answer(|a| {
                a.recovery = Some(RecoveryChange { change: true, restart: false });
            }),
            "promoted self to a standby leader by acquiring session lock",
            "load peers(b,c) acquire load load follow(remote_member,standby_leader) slots touch",
        ),
    ]
}
