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
    ReplicaRow {
        pid: 1,
        application_name: f[0].into(),
        sync_state: f[1].into(),
        write_lsn: f[2].parse().ok(),
        flush_lsn: f[3].parse().ok(),
        replay_lsn: f[4].parse().ok(),
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
            major_version: head[3].parse().unwrap(),
        };
        let candidates: Vec<Candidate> = list(head[5], ',').into_iter().map(candidate).collect();
        let listed: NameSet = list(head[6], ',').into_iter().collect();
        let mut tracker = Tracker::default();
        let (mut known, mut tightened_at) = (SyncNamesValue::default(), None);
        for step in parts {
            let (input, expected) = step.split_once('=').unwrap();
            let f: Vec<&str> = input.split('~').collect();
            let rows: Vec<ReplicaRow> = list(f[2], ',').into_iter().map(row).collect();
            let last_operation = f[1].parse().unwrap();
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
    assert_eq!(tracker.observe_value("", 1), None);
    assert_eq!(tracker.observe_value("a", 1), Some(None));
    assert_eq!(tracker.observe_value("a", 2), None);
    assert!(tracker.observe_value("a,", 2).unwrap().unwrap().starts_with("Unparsable"));
}
