//! 4A: a job runs; 9.1: the steps of a demotion.

use std::time::Duration;

use super::super::super::*;
use super::super::situation::job;
use super::super::world::{leader, orphan, replica, stopped_at, Reply, World, NOW};
use super::{row, Row};
use crate::model::Lsn;
use crate::model::ShutdownCheckpoint;

fn crash_recovery(seconds: u64) -> World {
    leader()
        .crashed("in production")
        .state(PgState::Crashed)
        .watchdog(false)
        .job(Job::CrashRecovery)
        .memory(|m| m.start.crash_recovery_at = Some(NOW - Duration::from_secs(seconds)))
        .peer("b", |_| ())
}

/// A switchover whose stop has come so far.
fn demoting(mode: DemoteMode, shutdown_checkpoint: Option<ShutdownCheckpoint>) -> World {
    let action =
        if mode == DemoteMode::Cluster { "demoting to a standby cluster" } else { "switchover: demote" };
    leader()
        .job(Job::Demote { name: action.into(), mode, timeout: None })
        .view(|v| v.job.as_mut().unwrap().shutdown_checkpoint = shutdown_checkpoint)
        .memory(|m| {
            m.demotion = Some(Demotion {
                mode,
                action: action.into(),
                planned: false,
                released: false,
                stopped: None,
                heirs_asked: None,
            });
        })
}

/// Its stop is over.
fn demoted(mode: DemoteMode) -> World {
    let mut world = demoting(mode, None).down().watchdog(false);
    world.view.job = None;
    world.memory(|m| {
        m.demotion.as_mut().unwrap().stopped = Some(Stopped { checkpoint: Some(stopped_at(2000)) })
    })
}

/// The stop of a switchover is over, and so much has `b`.
fn handed_over(position: u64) -> World {
    demoted(DemoteMode::Graceful)
        .memory(|m| m.demotion.as_mut().unwrap().planned = true)
        .key("failover", r#"{"leader":"a"}"#)
        .peer("b", move |p| p.wal_position = Lsn::new(position))
        .peer("c", |_| ())
}

/// Asked whether it has it, since so many milliseconds.
fn asked(world: World, since: u64) -> World {
    world.memory(|m| m.demotion.as_mut().unwrap().heirs_asked = Some(NOW - Duration::from_millis(since)))
}

/// Nobody has the shutdown checkpoint of a planned switchover: the leader takes it back.
fn taken_back_rows() -> Vec<Row> {
    const BACK: &str = "switchover: starting primary again because nobody has all of its WAL";
    const GIVES: &str = "load peers(b,c) call(on_stop) role(demoted) delete(1990) touch yield load job:switchover: demote(nobody,replica) touch";
    const TAKES: &str = "load peers(b,c) update call(on_stop) role(demoted) failover() job:starting primary after failure touch";
    vec![
        row("S12", handed_over(2000), "switchover: demote in progress", GIVES),
        // What it tells of itself may be a moment old.
        row("S12", handed_over(1999), "switchover: demote in progress", "load peers(b,c) update touch"),
        row("S12", asked(handed_over(1999), 1999), "switchover: demote in progress", "load peers(b,c) update touch"),
        row("S12", asked(handed_over(1999), 2000), BACK, TAKES)
            .says("switchover: no healthy members found, switchover is not possible")
            .says("Cleaning up failover key"),
        // Somebody has started it again meanwhile.
        row(
            "S12",
            asked(handed_over(1999), 2000).primary().state(PgState::Running).view(|v| v.pg.running = true).without("failover"),
            "Error communicating with PostgreSQL. Will try again later",
            "load update watch ssn:none touch",
        ),
        // The lock is somebody else's, or cannot be renewed.
        row(
            "S12",
            handed_over(1999).leads("b"),
            "switchover: demote in progress",
            "load call(on_stop) role(demoted) delete(1990) touch yield load job:switchover: demote(b,replica) touch",
        ),
        row("S12", handed_over(1999).answer(|a| a.update = Reply::No), "switchover: demote in progress", "load peers(b,c) update call(on_stop) role(demoted) delete(1990) touch yield load job:switchover: demote(nobody,replica) touch"),
        // A failover may cost commits.
        row(
            "S12",
            handed_over(1999).memory(|m| m.demotion.as_mut().unwrap().planned = false),
            "switchover: demote in progress",
            "load call(on_stop) role(demoted) delete(1990) touch yield load job:switchover: demote(nobody,replica) touch",
        ),
    ]
}

pub fn rows() -> Vec<Row> {
    let mut rows = taken_back_rows();
    rows.extend(job_rows());
    rows
}

fn job_rows() -> Vec<Row> {
    let lost = |name| leader().job(job(name)).leads("b");
    vec![
        row("4A-01", crash_recovery(400), "terminated crash recovery because of startup timeout", "load update peers(b,c) kill stop(immediate) role(demoted) delete touch yield load job:starting after demotion(nobody,replica) touch")
            .says("Demoting self because crash recovery is taking too long")
            .says("Demoting self (immediate)")
            .says("Leader key released"),
        row(
            "4A-01",
            crash_recovery(400).peer("b", |p| p.reachable = false),
            "updated leader lock during doing crash recovery in a single user mode",
            "load update peers(b,c) touch",
        ),
        row(
            "4A-02",
            crash_recovery(10),
            "updated leader lock during doing crash recovery in a single user mode",
            "load update touch",
        ),
        row("4A-02", leader().job(job("restart")), "updated leader lock during restart", "load update feed touch"),
        row("4A-02", leader().job(job("restart")).paused(), "PAUSE: updated leader lock during restart", "load unwatch update touch"),
        row("4A-03", replica().job(job("promote")), "lost leader before promote", "load cancel touch"),
        row("4A-03", replica().job(job("promote")).paused(), "PAUSE: promote in progress", "load touch"),
        row(
            "4A-03",
            replica().job(job("promote")).answer(|a| a.cancel = false).role(Role::Promoted),
            "promote in progress",
            "load cancel touch",
        ),
        row("4A-04", lost("restart"), "lost leader lock during restart", "load kill stop(immediate) role(demoted) load job:starting after demotion(b,replica) touch")
            .says("Demoting primary during restart")
            .says("Demoting self (immediate-nolock)"),
        row("4A-04", lost("starting primary after failure"), "lost leader lock during starting primary after failure", "load kill stop(immediate) role(demoted) load job:starting after demotion(b,replica) touch"),
        row("4A-04", lost("copy_logical_slots"), "lost leader lock during copy_logical_slots", "load stop(immediate) role(demoted) load job:starting after demotion(b,replica) touch"),
        row(
            "4A-04",
            leader().job(job("restart")).answer(|a| a.update = Reply::No),
            "lost leader lock during restart",
            "load update kill stop(immediate) role(demoted) load job:starting after demotion(nobody,replica) touch",
        ),
        row("4A-04", lost("restart").paused(), "PAUSE: restart in progress", "load unwatch touch"),
        row(
            "4A-04",
            demoting(DemoteMode::Graceful, None).leads("b"),
            "lost leader lock during switchover: demote",
            "load stop(immediate) role(demoted) load job:starting after demotion(b,replica) touch",
        ),
        row("4A-05", replica().job(job("reinitialize")), "reinitialize in progress", "load touch"),
        row("4A-05", orphan().job(job("restarting after failure")), "restarting after failure in progress", "load touch")
            .says("not healthy enough for leader race"),
        row("4A-05", replica().job(job("bootstrap")).memory(|m| m.bootstrap.running = true), "bootstrap in progress", "load touch"),
        row(
            "9.1-07",
            demoting(DemoteMode::Graceful, Some(stopped_at(1000))).peer("b", |_| ()),
            "switchover: demote in progress",
            "load peers(b,c) role(demoted) delete(990) touch touch",
        )
        .says("Leader key released"),
        row(
            "9.1-07",
            demoting(DemoteMode::Graceful, Some(stopped_at(1001))).peer("b", |_| ()),
            "updated leader lock during switchover: demote",
            "load peers(b,c) update feed touch",
        )
        .says("Member b exceeds maximum replication lag"),
        row(
            "9.1-08",
            demoting(DemoteMode::Cluster, Some(stopped_at(1000))).peer("b", |_| ()),
            "demoting to a standby cluster in progress",
            "load peers(b,c) role(demoted) delete(1000) touch touch",
        ),
        row("9.1-10", demoted(DemoteMode::Graceful), "switchover: demote in progress", "load call(on_stop) role(demoted) delete(1990) touch yield load job:switchover: demote(nobody,replica) touch")
            .says("Leader key released"),
        row(
            "9.1-10",
            demoted(DemoteMode::Graceful).memory(|m| m.demotion.as_mut().unwrap().released = true).leads("b"),
            "switchover: demote in progress",
            "load call(on_stop) role(demoted) yield load job:switchover: demote(b,replica) touch",
        ),
        row(
            "9.1-10",
            demoted(DemoteMode::Graceful)
                .memory(|m| m.rewind.state = Rewind::Need)
                .later("leader", "b")
                .later("members/b", r#"{"conn_url":"postgres://b/","role":"primary"}"#),
            "switchover: demote in progress",
            "load call(on_stop) role(demoted) delete(1990) touch yield load touch",
        ),
        row(
            "9.1-05",
            demoted(DemoteMode::Cluster).config(r#""standby_cluster":{"host":"remote"}"#),
            "demoting to a standby cluster in progress",
            "load call(on_stop) role(demoted) update load job:demoting to a standby cluster(remote_member,standby_leader) touch",
        ),
    ]
}
