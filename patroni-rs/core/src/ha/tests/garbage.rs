//! Nonsense in the DCS: no panic, no exception, no healthy primary demoted, and
//! all is well again when it is repaired.

use pyfmt::Value;

use super::world::{js, leader, newcomer, orphan, replica, World};

/// Xorshift; a seed is a case that can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn of<'a>(&mut self, things: &[&'a str]) -> &'a str {
        things[self.roll(things.len())]
    }
}

const TEXTS: &[&str] = &[
    "",
    " ",
    "{",
    "{}",
    "[]",
    "[[]]",
    "[[null]]",
    "[[4294967295,1,\"r\"]]",
    "[[-1],[\"x\"],5]",
    "null",
    "true",
    "-1",
    "18446744073709551616",
    "1e999",
    "NaN",
    "\"s\"",
    "postgres://[::1",
    "postgres://u:p@:99999/x?application_name=",
    ":::",
    "a:",
    "\u{0}\u{ffff}",
    "ünïcode 🦀",
    "{\"a\":{\"b\":[{}]}}",
];

const VALUES: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "1",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "99999999999999999999999999",
    "1.5",
    "1e308",
    "-1e308",
    "\"\"",
    "\"x\"",
    "\"9999-12-31T23:59:59+14:00\"",
    "\"0001-01-01T00:00:00-14:00\"",
    "\"2026-13-45\"",
    "\"on\"",
    "\"quorum\"",
    "\"running\"",
    "\"a,,b, ,\"",
    "\"日本\"",
    "[]",
    "[null]",
    "{}",
    "{\"x\":[]}",
];

const FIELDS: &[(&str, &[&str])] = &[
    (
        "config",
        &[
            "pause",
            "ttl",
            "loop_wait",
            "retry_timeout",
            "synchronous_mode",
            "synchronous_mode_strict",
            "synchronous_node_count",
            "failsafe_mode",
            "check_timeline",
            "maximum_lag_on_failover",
            "primary_start_timeout",
            "primary_stop_timeout",
            "max_timelines_history",
            "standby_cluster",
            "postgresql",
            "slots",
        ],
    ),
    ("failover", &["leader", "member", "scheduled_at"]),
    ("sync", &["leader", "quorum", "sync_standby"]),
    ("status", &["optime", "slots", "retain_slots"]),
    ("failsafe", &["a", "b", "", "日本"]),
    (
        "members/b",
        &[
            "conn_url",
            "api_url",
            "state",
            "role",
            "version",
            "timeline",
            "xlog_location",
            "tags",
            "receive_lsn",
        ],
    ),
    ("members/a", &["conn_url", "state", "role", "timeline", "tags"]),
    ("members/o'dd \"näme\"", &["conn_url", "api_url", "tags"]),
];

const OTHERS: &[&str] = &["initialize", "history", "optime/leader", "members/x/y", "unknown"];

/// Some garbage in some key.
fn spoil(world: World, dice: &mut Dice) -> World {
    let text = dice.of(TEXTS);
    if dice.roll(4) == 0 {
        return world.key(dice.of(OTHERS), text);
    }
    let (key, fields) = FIELDS[dice.roll(FIELDS.len())];
    if dice.roll(3) == 0 {
        return world.key(key, text);
    }
    let mut value = world.keys.get(key).map_or_else(Value::map, |text| {
        pyfmt::json::loads(text).ok().filter(|v| v.as_map().is_some()).unwrap_or_else(Value::map)
    });
    for _ in 0..=dice.roll(3) {
        value.set(dice.of(fields), js(dice.of(VALUES)));
    }
    let text = pyfmt::json::dumps_compact(&value);
    world.key(key, &text)
}

fn spoiled(world: World, seed: u64) -> World {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..=dice.roll(4)).fold(world, |world, _| spoil(world, &mut dice))
}

#[test]
fn no_garbage_makes_it_panic() {
    let worlds: [fn() -> World; 7] = [
        leader,
        replica,
        orphan,
        newcomer,
        || orphan().primary(),
        || replica().crashed("in production"),
        || leader().row(|r| r.is_primary = false).role(super::super::Role::Replica),
    ];
    for seed in 1..800 {
        for world in &worlds {
            let world = spoiled(world(), seed).peer("b", |_| ());
            let outcome = world.run();
            assert!(!outcome.line.contains("BUG"), "seed {seed}: {:?}", outcome.log);
        }
    }
}

/// The contract demands a demotion, if the garbage happens to mean a standby
/// cluster, and an end, if it happens to be another cluster's identifier.
#[test]
fn a_healthy_primary_with_the_lock_stays_one() {
    for seed in 1..3000 {
        let healthy = leader();
        let world = spoiled(healthy.clone(), seed);
        let cluster = world.cluster(&world.keys);
        if super::super::sysid_valid(cluster.initialize.as_deref())
            && cluster.initialize != healthy.cluster(&healthy.keys).initialize
            || world.memory.config.updated_from(&cluster).is_standby_cluster()
        {
            continue;
        }
        let keys = world.keys.clone();
        let outcome = world.run();
        let acts = outcome.acts();
        let gives_up = |act: &String| {
            ["stop", "delete", "role(demoted)", "job:demot", "job:switch", "job:manual"]
                .iter()
                .any(|bad| act.starts_with(bad))
        };
        assert!(!acts.iter().any(gives_up), "seed {seed}: {} {acts:?} {keys:?}", outcome.line);
        assert!(acts.iter().any(|a| a.starts_with("update")), "seed {seed}: {} {acts:?}", outcome.line);
        assert_eq!(outcome.exit, None, "seed {seed}");
        let repaired = healthy.memory(|m| *m = outcome.memory).run();
        assert_eq!(repaired.line, "no action. I am (a), the leader with the lock", "seed {seed}: {keys:?}");
    }
}

#[test]
fn a_megabyte_in_each_key() {
    let huge = "x".repeat(1 << 20);
    let nested = format!("{}{}", "[".repeat(1 << 16), "]".repeat(1 << 16));
    for text in [huge.clone(), format!("\"{huge}\""), format!("{{\"leader\":\"{huge}\"}}"), nested] {
        for key in FIELDS.iter().map(|(key, _)| *key).chain(OTHERS.iter().copied()) {
            let outcome = leader().key(key, &text).run();
            assert!(outcome.acts().iter().any(|a| a.starts_with("update")), "{key}: {}", outcome.line);
        }
    }
}

/// Every value of every duration and count that a configuration can hold.
#[test]
fn absurd_numbers_in_the_configuration() {
    let (_, fields) = FIELDS[0];
    for field in fields {
        for value in VALUES {
            for world in [leader(), orphan(), replica(), leader().crashed("in production"), leader().hung()] {
                let state = world.view.pg.state;
                let world = world.config(&format!("\"{field}\":{value}"));
                let started = world.clone().state(super::super::PgState::Starting);
                assert!(!world.state(state).run().line.contains("BUG"), "{field} {value}");
                assert!(!started.run().line.contains("BUG"), "{field} {value}");
            }
        }
    }
}

/// A schedule within the next cycle is no reason to sleep: the next cycle comes then.
#[test]
fn a_schedule_wakes_the_loop() {
    let soon = r#"{"leader":"a","member":"b","scheduled_at":"2026-01-01T00:00:05+00:00"}"#;
    let outcome = leader().key("failover", soon).run();
    let wake = outcome.memory.wake_at.unwrap().since(super::world::NOW);
    assert_eq!(wake.as_secs(), 5);
}
