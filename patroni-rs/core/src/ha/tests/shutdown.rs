//! 9.3: the end of the daemon.

use super::super::*;
use super::outcome::Outcome;
use super::world::{leader, replica, stopped_at, World};

fn stops(world: World, checkpoint: u64, exited: bool) -> Outcome {
    world.answer(|a| a.stopping = Stopping { checkpoint: Some(stopped_at(checkpoint)), exited }).shut_down()
}

#[test]
fn shutdowns() {
    let peers = || leader().peer("b", |_| ());
    let on = r#""synchronous_mode":true"#;
    let cases: Vec<(&str, Outcome, &str)> = vec![
        // The key goes while the postmaster still lives, when a candidate has it all.
        ("9.3-02", stops(peers(), 1000, false), "stop(checkpoint) peers(b,c) delete(990) stop(fast) touch"),
        (
            "9.3-02",
            stops(peers(), 1001, false),
            "stop(checkpoint) peers(b,c) await_exit peers(b,c) await_exit peers(b,c) await_exit peers(b,c) \
             await_exit peers(b,c) optime(991) stop(fast) delete(991) touch",
        ),
        // The postmaster's exit ends the questions.
        (
            "9.3-02",
            stops(peers().answer(|a| a.exits = true), 1001, false),
            "stop(checkpoint) peers(b,c) await_exit optime(991) stop(fast) delete(991) touch",
        ),
        // Nobody is there: it is said once.
        (
            "9.3-02",
            stops(leader().without("members/b").without("members/c"), 1000, false),
            "stop(checkpoint) optime(990) stop(fast) delete(990) touch",
        ),
        ("9.3-02", stops(peers(), 1000, true), "stop(checkpoint) stop(fast) delete(990) touch"),
        ("9.3-02", leader().shut_down(), "stop(checkpoint) stop(fast) delete touch"),
        // One that was to be promoted, and was not: its watchdog ends nothing but a stop that takes long.
        (
            "9.3-02",
            leader().role(Role::Replica).row(|r| r.is_primary = false).shut_down(),
            "unwatch stop(checkpoint) stop(fast) delete touch",
        ),
        ("9.3-01", replica().shut_down(), "stop(fast) touch"),
        ("9.3-01", replica().config(on).shut_down(), "release_sync stop(fast) touch"),
        ("20-14", replica().config(on).tags(r#"{"nosync":true}"#).shut_down(), "stop(fast) touch"),
        ("20-14", leader().config(on).shut_down(), "stop(checkpoint) stop(fast) delete touch"),
        ("8-04", leader().paused().shut_down(), "unwatch"),
        ("8-04", replica().paused().shut_down(), ""),
        // Without the lock's promise the pause is looked at again: it lasts, or is over.
        ("8-04", leader().paused().view(|v| v.lease_until = None).shut_down(), "load unwatch"),
        ("8-04", forgotten_pause().shut_down(), "load stop(fast) touch"),
        ("9.3-04", replica().memory(|m| m.bootstrap.join_aborted = true).shut_down(), ""),
        ("9.3-03", leader().answer(|a| a.stop = false).shut_down(), "stop(checkpoint) stop(fast)"),
    ];
    for (id, outcome, acts) in cases {
        assert_eq!(outcome.acts().join(" "), acts, "{id}");
        assert_eq!(outcome.exit, Some(0), "{id}");
    }
}

/// The primary of a daemon that slept: the pause is over, and another node leads.
fn forgotten_pause() -> World {
    let asleep = leader().paused().memory.config;
    leader().leads("b").view(|v| v.lease_until = None).memory(|m| m.config = asleep)
}

#[test]
fn what_it_says() {
    let failed = leader().answer(|a| a.stop = false).shut_down();
    assert!(failed.logged("PostgreSQL shutdown failed, leader key not removed. Leaving watchdog running."));
    let failed = leader().watchdog(false).answer(|a| a.stop = false).shut_down();
    assert!(failed.logged("PostgreSQL shutdown failed, leader key not removed."));
    let paused = leader().paused().shut_down();
    assert!(paused.logged("Leader key is not deleted and Postgresql is not stopped due paused state"));
}

#[test]
fn the_member_key_says_stopped_and_keeps_the_role() {
    let outcome = stops(leader().peer("b", |_| ()), 1000, false);
    let text = |key: &str| outcome.member().unwrap().get(key).unwrap().py_str();
    assert_eq!((text("state"), text("role")), ("stopped".into(), "primary".into()));
}

/// A demotion whose stop has failed leaves the lock where the primary is.
#[test]
fn a_failed_demotion_is_forgotten() {
    let job = Job::Demote { name: "switchover: demote".into(), mode: DemoteMode::Graceful, timeout: None };
    let mut memory = Memory::new(crate::global_config::GlobalConfig::default());
    let demotion = Demotion {
        planned: false,
        mode: DemoteMode::Graceful,
        action: "switchover: demote".into(),
        released: false,
        stopped: None,
        heirs_asked: None,
    };
    memory.demotion = Some(demotion.clone());
    memory.job_finished(&job, &JobResult::Failed);
    assert_eq!(memory.demotion, None);
    memory.demotion = Some(demotion);
    memory.job_finished(&job, &JobResult::Stopped(None));
    assert_eq!(memory.demotion.unwrap().stopped, Some(Stopped { checkpoint: None }));
    let stuck = leader().watchdog(false).answer(|a| (a.watchdog, a.stop) = (false, false)).run();
    assert!(!stuck.acts().iter().any(|a| a.starts_with("delete")), "{:?}", stuck.acts());
}

/// A write of `/sync` that nobody confirmed may be carried out yet: the next cycle writes the key anew before anything else.
#[test]
fn an_unconfirmed_write_of_sync_is_remembered() {
    let world = || {
        leader().config(r#""synchronous_mode":true"#).sync_key("a", "b", 0).current_sync(
            &["b"],
            1,
            &[],
            &["c"],
        )
    };
    assert!(world().answer(|a| a.write_sync = false).run().memory.sync.unsure);
    assert!(!world().current_sync(&["c"], 1, &["c"], &["c"]).run().memory.sync.unsure);
    let unsure = world().memory(|m| m.sync.unsure = true).answer(|a| a.write_sync = false).run();
    assert!(unsure.memory.sync.unsure, "{:?}", unsure.acts());
    assert!(!unsure.acts().iter().any(|a| a.starts_with("ssn:")), "{:?}", unsure.acts());
}
