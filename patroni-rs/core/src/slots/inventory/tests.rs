#![allow(clippy::unwrap_used)]
use super::*;
use crate::global_config::GlobalConfig;
use crate::ha::Role;
use crate::model::{Cluster, Member};
use crate::slots::{desired_slots, Node};
use crate::tags::Tags;
use crate::PgVersion;

fn physical(xmin: Option<u64>, restart_lsn: Option<u64>, wal_status: &str) -> KnownSlot {
    let restart_lsn = restart_lsn.map(Lsn::new);
    KnownSlot { kind: KnownKind::Physical { xmin, restart_lsn }, wal_status: Some(wal_status.into()) }
}

fn spared(ignored: &[Value]) -> Spared<'_> {
    Spared { ignored, ..Spared::default() }
}

fn logical(database: &str, lsn: u64) -> KnownSlot {
    let kind = KnownKind::Logical {
        plugin: "t".into(),
        database: Some(database.into()),
        datoid: Some(5),
        catalog_xmin: Some(700),
        confirmed_flush_lsn: Some(Lsn::new(lsn)),
    };
    KnownSlot { kind, wal_status: None }
}

fn book(slots: &[(&str, KnownSlot)]) -> SlotInventory {
    let mut book = SlotInventory::new();
    book.load(slots.iter().map(|(n, s)| ((*n).to_owned(), s.clone())).collect());
    book
}

/// A cluster of a, b, c, of which c replicates from b; permanent slots p (physical) and l (logical).
fn wanted(me: &str, role: Role) -> Desired {
    let member = |name: &str, tags: Value| {
        let data = [("tags", tags), ("xlog_location", Value::from(150))].into_iter().collect();
        Member { name: name.into(), data, ..Default::default() }
    };
    let from_b = [("replicatefrom", "b")].into_iter().collect();
    let members = vec![member("a", Value::map()), member("b", Value::map()), member("c", from_b)];
    let mut cluster = Cluster { members, ..Default::default() };
    cluster.status.slots =
        Some([("p".to_owned(), Lsn::new(120)), ("l".to_owned(), Lsn::new(130))].into_iter().collect());
    let l: Value = [("database", "d"), ("plugin", "t")].into_iter().collect();
    let slots: Value = [("p", Value::Null), ("l", l)].into_iter().collect();
    let config = GlobalConfig::new([("slots", slots)].into_iter().collect());
    let tags = Tags::default();
    let node = Node { name: me, tags: &tags, role, major_version: PgVersion::V15 };
    desired_slots(&cluster, &config, &node, &node.subject()).0
}

fn texts(drops: &[PlannedDrop]) -> Vec<&str> {
    drops.iter().map(|d| d.announce.text.as_str()).collect()
}

#[test]
fn unwanted_lost_and_changed_slots_are_dropped() {
    let book = book(&[
        ("user", logical("d", 1)),
        ("mine", physical(None, Some(1), "reserved")),
        ("b", physical(None, Some(1), "lost")),
        ("l", logical("other", 1)),
        ("p", logical("d", 1)),
    ]);
    let wanted = wanted("a", Role::Primary);
    let ignored: Vec<Value> = vec![
        [("name", "mine"), ("type", "physical")].into_iter().collect(),
        [("name", "user"), ("plugin", "x")].into_iter().collect(),
    ];
    let changed = [
        "Trying to drop replication slot 'p' because value is changing from {'type': 'logical', 'plugin': 't', \
         'database': 'd', 'datoid': 5, 'catalog_xmin': '700', 'confirmed_flush_lsn': 1} to {'type': 'physical', \
         'expected_active': True}",
        "Trying to drop replication slot 'l' because value is changing from {'type': 'logical', 'plugin': 't', \
         'database': 'other', 'datoid': 5, 'catalog_xmin': '700', 'confirmed_flush_lsn': 1} to {'database': 'd', \
         'plugin': 't', 'lsn': 130, 'type': 'logical'}",
    ];
    let changed =
        changed.map(|t| t.replace("'type': 'physical', 'exp", "'lsn': 120, 'type': 'physical', 'exp"));
    let gone = [
        "Trying to drop unknown replication slot 'user'",
        "Trying to drop replication slot 'b' with wal_status=lost",
    ];
    let drops = book.plan_drops(&wanted, &spared(&ignored), false);
    assert_eq!(texts(&drops), [gone[0], gone[1], &changed[0], &changed[1]]);
    assert_eq!(texts(&book.plan_drops(&wanted, &spared(&ignored), true)), changed);
    assert_eq!(texts(&book.plan_drops(&Desired::new(), &spared(&[Value::map()]), false)), [""; 0]);
}

#[test]
fn slots_that_citus_makes_for_itself_stay() {
    let name = "citus_shard_move_slot_1_10";
    let mut slot = logical("dist", 1);
    if let KnownKind::Logical { plugin, .. } = &mut slot.kind {
        *plugin = "pgoutput".into();
    }
    let book = book(&[(name, slot), ("user", logical("dist", 1))]);
    let dropped = |citus_database| {
        let spared = Spared { citus_database, ..Spared::default() };
        texts(&book.plan_drops(&Desired::new(), &spared, false)).len()
    };
    assert_eq!((dropped(Some("dist")), dropped(Some("other")), dropped(None)), (1, 2, 2));
}

#[test]
fn a_drop_that_fails_makes_the_book_read_again() {
    let mut book = book(&[("user", physical(None, Some(1), "reserved"))]);
    let drop = book.plan_drops(&Desired::new(), &Spared::default(), false).pop().unwrap();
    let say = |line: Option<LogLine>| line.unwrap().text;
    assert_eq!(
        say(book.dropped(&drop, DropResult::Active)),
        "Unable to drop replication slot 'user', slot is active"
    );
    assert!(book.needs_reload() && book.get("user").is_some());
    assert_eq!(say(book.dropped(&drop, DropResult::Failed)), "Failed to drop replication slot 'user'");
    assert_eq!(say(book.dropped(&drop, DropResult::Dropped)), "Dropped replication slot 'user'");
    assert!(book.get("user").is_none());
}

#[test]
fn physical_slots_are_created_advanced_and_cleaned() {
    let wanted = wanted("a", Role::Primary);
    let plan = |slots: &[(&str, KnownSlot)], clean| {
        let mut book = book(slots);
        let actions = book.plan_physical(&wanted, true, clean);
        let show = |a: &PhysicalAction| match a {
            PhysicalAction::Create(name) => format!("create {name}"),
            PhysicalAction::Drop(d) => format!("drop {} {:?}", d.name, d.reason),
            PhysicalAction::Advance { name, lsn } => format!("advance {name} {}", lsn.bytes()),
        };
        (actions.iter().map(show).collect::<Vec<_>>().join(", "), book.needs_reload())
    };
    let at = |lsn| physical(None, Some(lsn), "reserved");
    let base = [("b", at(100)), ("p", at(100))];
    let with = |c: KnownSlot| [base.as_slice(), &[("c", c)]].concat();
    for (slots, clean, expected) in [
        (vec![], true, ("create b, create c, create p", true)),
        // b and p are expected to be active, so they are left alone.
        (with(at(100)), true, ("advance c 150", false)),
        (with(at(150)), true, ("", false)),
        (with(physical(Some(700), Some(100), "reserved")), true, ("drop c Xmin", false)),
        (with(physical(Some(700), Some(100), "reserved")), false, ("", false)),
        (with(physical(None, None, "reserved")), true, ("drop c NoRestartLsn", false)),
        (with(logical("d", 1)), true, ("", false)),
    ] {
        assert_eq!(plan(&slots, clean), (expected.0.to_owned(), expected.1), "{slots:?}");
    }
}

#[test]
fn logical_slots_are_created_on_the_primary_copied_and_advanced_on_replicas() {
    let mut wanted_primary = wanted("a", Role::Primary);
    let mut without = book(&[]);
    let missing = without.plan_logical_primary(&wanted_primary);
    assert_eq!(missing.get("d").map(|l| l.len()), Some(1));
    assert!(book(&[("l", logical("d", 1))]).plan_logical_primary(&wanted_primary).is_empty());
    without.settle(&wanted_primary);
    assert!(!without.plan_logical_primary(&wanted_primary).is_empty(), "a wish is no slot");
    wanted_primary.shift_remove("l");

    for (slots, replay, expected) in [
        (vec![], 200, (None, vec!["l"])),
        (vec![("l", logical("d", 100))], 200, (Some(130), vec![])),
        (vec![("l", logical("d", 100))], 125, (Some(125), vec![])),
        (vec![("l", logical("d", 130))], 200, (None, vec![])),
        (vec![("l", logical("other", 1))], 200, (None, vec![])),
    ] {
        let mut wanted = wanted("b", Role::Replica);
        let work = book(&slots).plan_logical_replica(&mut wanted, Lsn::new(replay));
        let advance = work.advance.get("d").and_then(|d| d.get("l")).map(|lsn| lsn.bytes());
        assert_eq!((advance, work.copy.iter().map(String::as_str).collect()), expected);
        assert_eq!(wanted.contains_key("l"), work.copy.is_empty());
    }
}

#[test]
fn monitoring_refreshes_the_book() {
    let mut book = book(&[("b", physical(None, Some(1), "reserved")), ("l", logical("d", 1))]);
    let mut seen: IndexMap<String, KnownSlot> = IndexMap::new();
    seen.insert("l".into(), logical("d", 9));
    seen.insert("b".into(), physical(Some(3), Some(8), "extended"));
    seen.insert("new".into(), physical(None, Some(8), "reserved"));
    let positions: Vec<(String, Lsn)> = book.refresh(&seen).into_iter().collect();
    assert_eq!(positions, [("l".to_owned(), Lsn::new(9)), ("b".to_owned(), Lsn::new(8))]);
    assert!(!book.needs_reload());
    assert_eq!(book.get("b"), Some(&physical(Some(3), Some(8), "extended")));
    seen.shift_remove("l");
    book.refresh(&seen);
    assert!(book.needs_reload());
}
