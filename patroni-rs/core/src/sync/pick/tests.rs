#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
use super::*;

fn list(text: &str, separator: char) -> Vec<&str> {
    text.split(separator).filter(|t| !t.is_empty() && *t != "-").collect()
}

/// `name[:rupstream][:f][:ppriority]`
fn candidate(text: &str) -> Candidate {
    let mut fields = text.split(':');
    let name = fields.next().unwrap().to_owned();
    let mut candidate = Candidate { name, replicatefrom: None, nofailover: false, sync_priority: 1 };
    for field in fields {
        match field.split_at(1) {
            ("r", upstream) => candidate.replicatefrom = Some(upstream.to_owned()),
            ("p", priority) => candidate.sync_priority = priority.parse().unwrap(),
            _ => candidate.nofailover = true,
        }
    }
    candidate
}

/// `application_name:sync_state:write:flush:replay`
fn row(text: &str) -> ReplicaRow {
    let f: Vec<&str> = text.split(':').collect();
    let lsn = |text: &str| text.parse().ok().map(Lsn::new);
    ReplicaRow {
        pid: 1,
        application_name: f[0].into(),
        sync_state: f[1].into(),
        write_lsn: lsn(f[2]),
        flush_lsn: lsn(f[3]),
        replay_lsn: lsn(f[4]),
        slot: None,
    }
}

fn dotted(names: Vec<String>) -> String {
    if names.is_empty() {
        "-".into()
    } else {
        names.join(".")
    }
}

fn spelled(set: &NameSet) -> Vec<String> {
    set.iter().map(str::to_owned).collect()
}

/// Recorded from the reference's `SyncHandler.current_state()`, three looks each.
#[test]
fn choices_are_the_references() {
    let mut unproven = 0;
    for line in include_str!("vectors.txt").lines() {
        let mut parts = line.split('|');
        let head: Vec<&str> = parts.next().unwrap().split(';').collect();
        let options = SyncOptions {
            quorum_mode: head[0] == "1",
            node_count: head[1].parse().unwrap(),
            maximum_lag: head[2].parse().unwrap(),
            major_version: PgVersion::from_num(head[3].parse().unwrap()),
            by_slot: false,
        };
        let candidates: Vec<Candidate> = list(head[5], ',').into_iter().map(candidate).collect();
        let listed: NameSet = list(head[6], ',').into_iter().collect();
        let mut tracker = Tracker::default();
        let (mut known, mut tightened_at) = (SyncNamesValue::default(), None);
        for step in parts {
            let (input, expected) = step.split_once('=').unwrap();
            let f: Vec<&str> = input.split('~').collect();
            let rows: Vec<ReplicaRow> = list(f[2], ',').into_iter().map(row).collect();
            let twice = |r: &ReplicaRow| {
                let same = |o: &&ReplicaRow| o.application_name.eq_ignore_ascii_case(&r.application_name);
                rows.iter().filter(same).count() > 1
            };
            if rows.iter().any(twice) {
                // The reference takes the last of them.
                break;
            }
            let last_operation = Lsn::new(f[1].parse().unwrap());
            let observed = Observed { synchronous_commit: head[4], rows: &rows, last_operation };
            let _ = tracker.observe_value(f[0], last_operation);
            let state = tracker.current_state(&candidates, &listed, &observed, &options);
            let sync_type = format!("{:?}", state.sync_type).to_lowercase();
            let seen = format!(
                "{}/{}/{sync_type}/{}/{}",
                dotted(spelled(&state.active)),
                dotted(state.sync_confirmed.sorted()),
                state.numsync,
                dotted(spelled(&state.sync)),
            );
            let value = parse_names(f[0]).unwrap_or_default();
            if value.num > known.num || !known.members.is_subset(&value.members) {
                tightened_at = Some(last_operation);
            }
            known = value;
            // A stricter value makes us prove the standbys of a quorum anew; the reference goes on with those
            // that it knows. So what we do not confirm, and it does, has not been seen to catch up since.
            let parts = |text: &str| -> Vec<String> { text.split('/').map(str::to_owned).collect() };
            let (mut ours, mut theirs) = (parts(&seen), parts(expected));
            let (mine, more): (Vec<&str>, Vec<&str>) =
                list(&theirs[1], '.').into_iter().partition(|name| state.sync_confirmed.contains(name));
            for name in &more {
                let bar = tightened_at.filter(|_| options.quorum_mode).expect("a value that became stricter");
                let row = rows.iter().find(|r| r.application_name.eq_ignore_ascii_case(name)).expect("a row");
                let lsn = match head[4] {
                    "remote_apply" => row.replay_lsn,
                    "remote_write" => row.write_lsn,
                    _ => row.flush_lsn,
                };
                let proven = lsn >= Some(bar) && row.sync_state == "quorum";
                assert!(!proven, "{line}: {input}: {name} has caught up");
                unproven += 1;
            }
            assert_eq!(mine.len(), list(&ours[1], '.').len(), "{line}: {input}");
            (ours[1], theirs[1]) = (String::new(), String::new());
            assert_eq!(ours, theirs, "{line}: {input}");
        }
    }
    assert!(unproven > 0, "no such difference any more");
}

#[test]
fn a_changed_value_is_noticed_once() {
    let mut tracker = Tracker::default();
    assert_eq!(tracker.observe_value("", Lsn::new(1)), NamesSeen::Known);
    assert_eq!(tracker.observe_value("a", Lsn::new(1)), NamesSeen::Changed { warning: None });
    assert_eq!(tracker.observe_value("a", Lsn::new(2)), NamesSeen::Known);
    let NamesSeen::Changed { warning: Some(warning) } = tracker.observe_value("a,", Lsn::new(2)) else {
        panic!()
    };
    assert!(warning.starts_with("Unparsable"));
}

/// A standby of outside that calls itself as a member does (patroni/patroni#3545).
#[test]
fn nobody_confirms_in_a_members_name() {
    let candidates = [candidate("node-1"), candidate("node2")];
    let holds = |text: &str, slot: &str| ReplicaRow {
        slot: Some(slot.into()).filter(|s: &String| !s.is_empty()),
        ..row(text)
    };
    let (own, other) = ("node-1:quorum:9:9:9", "node2:quorum:9:9:9");
    let cases = [
        (true, vec![holds(own, "node_1"), holds(other, "node2")], vec!["node-1", "node2"]),
        (true, vec![holds("NODE-1:quorum:9:9:9", "node_1")], vec!["NODE-1"]),
        // Alone, without a slot or with another; beside the member.
        (true, vec![holds(own, ""), holds(other, "node2")], vec!["node2"]),
        (true, vec![holds(own, "barman")], vec![]),
        (true, vec![holds(own, "node_1"), holds(own, "")], vec![]),
        (true, vec![holds(own, "node_1"), holds("Node-1:async:9:9:9", "x")], vec![]),
        // Where slots are not used there must not be two.
        (false, vec![holds(own, "")], vec!["node-1"]),
        (false, vec![holds(own, ""), holds(own, "")], vec![]),
    ];
    for quorum_mode in [true, false] {
        for (by_slot, rows, expected) in &cases {
            let options = SyncOptions {
                quorum_mode,
                node_count: 2,
                maximum_lag: -1,
                major_version: PgVersion::V15,
                by_slot: *by_slot,
            };
            let observed = Observed { synchronous_commit: "on", rows, last_operation: Lsn::new(9) };
            let mut tracker = Tracker::default();
            let _ = tracker.observe_value("ANY 1 (\"node-1\",node2)", Lsn::new(9));
            let state = tracker.current_state(&candidates, &NameSet::new(), &observed, &options);
            assert_eq!(state.active.sorted(), *expected, "{rows:?}");
            assert!(state.sync_confirmed.is_subset(&state.active), "{rows:?}");
        }
    }
}

/// A name that application_name does not carry as it is.
#[test]
fn members_are_known_by_what_postgresql_makes_of_their_names() {
    let long = "n".repeat(70);
    let candidates =
        [candidate("knoten-\u{e4}"), candidate(&long), candidate("x-\u{f6}"), candidate("X-\u{fc}")];
    for (version, shown) in [(PgVersion::V15, "knoten-??"), (PgVersion::V17, "knoten-\\xc3\\xa4")] {
        let slots = [0, 1, 2].map(|i| crate::slots::member_slot_name(&candidates[i].name));
        let rows: Vec<ReplicaRow> = [shown, &long[..63], "x-??"]
            .into_iter()
            .zip(slots)
            .map(|(name, slot)| ReplicaRow {
                application_name: name.into(),
                slot: Some(slot),
                ..row("-:quorum:9:9:9")
            })
            .collect();
        let mut options = SyncOptions {
            quorum_mode: true,
            node_count: 2,
            maximum_lag: -1,
            major_version: version,
            by_slot: true,
        };
        let observed = Observed { synchronous_commit: "on", rows: &rows, last_operation: Lsn::new(9) };
        let mut tracker = Tracker::default();
        let names: NameSet = candidates[..2].iter().map(|c| &c.name).collect();
        let value = super::super::names_value(&names, Some(1), true, version).unwrap();
        assert_eq!(value, format!("ANY 1 (\"{shown}\",{})", &long[..63]));
        let _ = tracker.observe_value(&value, Lsn::new(9));
        let state = tracker.current_state(&candidates, &NameSet::new(), &observed, &options);
        // Two that are shown as one in 15; another than both later.
        assert_eq!(
            (&state.active, &state.sync_confirmed, &state.sync),
            (&names, &names, &names),
            "{version}"
        );
        // Without slots nobody can tell whose name it is.
        options.by_slot = false;
        let state = tracker.current_state(&candidates, &NameSet::new(), &observed, &options);
        assert!(state.active.is_empty(), "{state:?}");
    }
}
