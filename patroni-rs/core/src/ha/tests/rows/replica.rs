//! 4I without the lock, and 8-02.

use std::time::Duration;

use crate::PgVersion;

use super::super::super::*;
use super::super::world::{replica, World, NOW};
use super::{row, Row};

const FOLLOWS: &str = "no action. I am (a), a secondary, and following a leader (b)";

fn standby(world: World) -> World {
    world.config(r#""standby_cluster":{"host":"remote"}"#)
}

fn rewind(world: World, rewind: Rewind) -> World {
    world.memory(|m| m.rewind.state = rewind)
}

fn change(world: World, restart: bool) -> World {
    world.answer(|a| a.recovery = Some(RecoveryChange { change: true, restart }))
}

pub fn rows() -> Vec<Row> {
    let mut rows = vec![
        row("4I-05", replica(), FOLLOWS, "load slots touch"),
        row(
            "4I-05",
            replica().paused(),
            "PAUSE: no action. I am (a), a secondary, and following a leader (b)",
            "load slots touch",
        ),
        row("4I-05", change(replica(), false), FOLLOWS, "load follow(b,replica) slots touch"),
        row(
            "4I-05",
            change(replica(), true),
            FOLLOWS,
            "load job:changing primary_conninfo and restarting(b,replica) touch",
        ),
        row(
            "4I-05",
            change(replica(), false).tags(r#"{"replicatefrom":"c"}"#),
            FOLLOWS,
            "load follow(c,replica) slots touch",
        ),
        row(
            "4I-05",
            change(replica(), false).tags(r#"{"replicatefrom":"gone"}"#),
            FOLLOWS,
            "load follow(b,replica) slots touch",
        ),
        row(
            "4I-05",
            change(replica(), false).tags(r#"{"nostream":true}"#),
            FOLLOWS,
            "load follow(nobody,replica) slots touch",
        ),
        // docs/safety.md, `hazards-quorum` 1355.
        row(
            "8-02",
            change(replica().paused(), true).answer(|a| a.promoted_by_hand = true),
            "PAUSE: continue to run as primary without lock",
            "load role(primary) slots touch",
        ),
        row(
            "8-02",
            change(replica().paused(), true),
            "PAUSE: no action. I am (a), a secondary, and following a leader (b)",
            "load job:changing primary_conninfo and restarting(b,replica) touch",
        ),
        row("4I-05", replica().row(|r| r.replay_paused = true), FOLLOWS, "load resume slots touch"),
        row(
            "4I-05",
            replica().row(|r| r.replay_paused = true).view(|v| v.pg.major_version = PgVersion::V13),
            FOLLOWS,
            "load slots touch",
        ),
        row(
            "8-01",
            replica().paused().row(|r| r.replay_paused = true),
            "PAUSE: no action. I am (a), a secondary, and following a leader (b)",
            "load slots touch",
        ),
        row(
            "3-16",
            replica().hung(),
            "Error communicating with PostgreSQL. Will try again later",
            "load touch",
        ),
        row(
            "4I-05",
            standby(replica()),
            "no action. I am (a), a secondary, and following a standby leader (b)",
            "load slots touch",
        ),
        row(
            "4I-06",
            replica().primary(),
            "demoting self because I do not have the lock and I was a leader",
            "load stop(immediate) role(demoted) load job:starting after demotion(b,replica) touch",
        )
        .says("Demoting self (immediate-nolock)"),
        row(
            "4I-06",
            standby(replica().primary()),
            "cannot be a real primary in a standby cluster",
            "load job:demoting to a standby cluster touch",
        ),
        row(
            "4I-07",
            replica().primary().paused(),
            "PAUSE: continue to run as primary without lock",
            "load slots touch",
        ),
        row(
            "4I-07",
            replica().primary().paused().memory(|m| m.rewind.state = Rewind::Need),
            "PAUSE: continue to run as primary without lock",
            "load slots touch",
        ),
        row(
            "4I-07",
            replica()
                .role(Role::Primary)
                .paused()
                .without("members/b")
                .leads("x")
                .tags(r#"{"nostream":true}"#),
            "PAUSE: no action. I am (a)",
            "load role(replica) slots touch",
        ),
        row(
            "4I-08",
            standby(replica()).without("members/b"),
            "continue following the old known standby leader",
            "load slots touch",
        ),
    ];
    rows.extend(rewind_rows());
    rows
}

fn rewind_rows() -> Vec<Row> {
    let unable = |w: World| w.answer(|a| a.can_rewind = false);
    let next_timeline = |w: World| {
        w.member("b", "primary", r#""timeline":2"#).memory(|m| m.own.timeline = Some(1)).row(|r| {
            r.received_timeline = Some(1);
        })
    };
    vec![
        row(
            "4",
            rewind(replica(), Rewind::Need).answer(|a| a.running = Some("restart".into())),
            "Failed to run running pg_rewind from b, restart is already in progress",
            "load job:running pg_rewind from b slots touch",
        ),
        row(
            "4I-09",
            rewind(replica(), Rewind::Need),
            "running pg_rewind from b",
            "load job:running pg_rewind from b touch",
        ),
        row(
            "4I-09",
            rewind(replica(), Rewind::Check).answer(|a| a.diverged = Some(true)),
            "running pg_rewind from b",
            "load job:running pg_rewind from b touch",
        ),
        row(
            "4I-09",
            rewind(replica(), Rewind::Check).answer(|a| a.diverged = Some(false)),
            FOLLOWS,
            "load slots touch",
        ),
        row("4I-09", rewind(replica(), Rewind::Check), FOLLOWS, "load slots touch"),
        row(
            "4I-09",
            rewind(replica(), Rewind::Failed).answer(|a| a.diverged = Some(true)),
            FOLLOWS,
            "load slots touch",
        ),
        row(
            "4I-09",
            rewind(replica(), Rewind::Failed)
                .memory(|m| m.rewind.failed_at = Some(NOW - Duration::from_secs(60)))
                .answer(|a| a.diverged = Some(true)),
            "running pg_rewind from b",
            "load job:running pg_rewind from b touch",
        ),
        row(
            "4I-09",
            unable(rewind(replica(), Rewind::Need)).me(|me| me.reinit_on_diverged = true),
            "reinitializing due to diverged timelines",
            "load job:reinitializing due to diverged timelines touch",
        ),
        row("4I-09", unable(rewind(replica(), Rewind::Need)), FOLLOWS, "load slots touch"),
        row(
            "8-02",
            rewind(replica().paused(), Rewind::Need),
            "PAUSE: running pg_rewind from b",
            "load job:running pg_rewind from b touch",
        ),
        // What nobody could answer in a pause is asked when it is over.
        row(
            "8-06",
            rewind(replica(), Rewind::Check)
                .memory(|m| m.was_paused = true)
                .answer(|a| a.diverged = Some(true)),
            "running pg_rewind from b",
            "load after_pause job:running pg_rewind from b touch",
        ),
        row(
            "8-06",
            rewind(replica(), Rewind::NotNeeded)
                .memory(|m| m.was_paused = true)
                .answer(|a| a.diverged = Some(true)),
            FOLLOWS,
            "load after_pause slots touch",
        ),
        row(
            "19-04",
            next_timeline(replica()).answer(|a| a.diverged = Some(true)),
            "running pg_rewind from b",
            "load job:running pg_rewind from b touch",
        ),
        row(
            "19-04",
            standby(replica()).answer(|a| {
                a.history = vec![pyfmt::Value::Null];
                a.diverged = Some(true);
            }),
            "running pg_rewind from remote_member",
            "load job:running pg_rewind from remote_member touch",
        ),
    ]
}
