#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;

fn set(text: &str) -> NameSet {
    text.chars().filter(|c| *c != '-').map(String::from).collect()
}

fn text(set: &NameSet) -> String {
    if set.is_empty() {
        "-".into()
    } else {
        set.sorted().concat()
    }
}

/// `leader|quorum|voters|numsync|sync|confirmed|active|wanted|leader wanted`
fn state(line: &str) -> QuorumState {
    let f: Vec<&str> = line.split('|').collect();
    let n = |i: usize| f[i].parse::<i64>().unwrap();
    QuorumState {
        leader: f[0].into(),
        quorum: n(1),
        voters: set(f[2]),
        numsync: n(3),
        sync: set(f[4]),
        numsync_confirmed: n(5),
        active: set(f[6]),
        sync_wanted: n(7),
        leader_wanted: f[8].into(),
    }
}

fn show(state: &QuorumState, resolution: Resolution) -> String {
    let steps = match resolution.transitions {
        Ok(steps) if steps.is_empty() => return "none".into(),
        Ok(steps) => steps,
        Err(QuorumError::Stuck(_)) => return "!stuck".into(),
        Err(e) => return format!("!{}", e.to_string().split(' ').take(2).collect::<String>()),
    };
    let step = |t: &Transition| {
        let target = match t.target {
            Target::Sync => 'G',
            Target::Quorum => 'K',
            Target::Restart => 'R',
        };
        let leader = if t.leader == state.leader_wanted { String::new() } else { format!("@{}", t.leader) };
        format!("{target}{}{}{leader}", t.num, text(&t.names))
    };
    steps.iter().map(step).collect::<Vec<_>>().join(" ")
}

fn resolved(line: &str) -> String {
    let state = state(line);
    show(&state, resolve(state.clone()))
}

/// Recorded by running the reference's resolver on random states, sound and broken.
#[test]
fn steps_are_the_references() {
    for line in include_str!("vectors.txt").lines() {
        let (input, expected) = line.split_once(" = ").unwrap();
        assert_eq!(resolved(input), expected, "{input}");
    }
}

/// The transitions that the contract lists as vectors (surface-ha-pg 21-06).
#[test]
fn steps_of_the_contract() {
    for (input, expected) in [
        ("a|0|-|0|-|0|-|1|a", "none"),
        ("a|0|-|0|-|0|b|1|a", "G1b R0-"),
        ("a|0|-|1|b|0|b|1|a", "R0-"),
        ("a|0|-|1|b|1|b|1|a", "K0b"),
        ("a|0|-|0|-|0|bc|1|a", "G1bc R0-"),
        ("a|0|-|1|bc|1|bc|1|a", "K1bc"),
        ("a|1|bc|1|bc|2|bcd|1|a", "K2bcd G1bcd"),
        ("a|1|bc|1|bc|2|bc|2|a", "G2bc K0bc"),
        ("a|0|bc|2|bc|2|bc|1|a", "K1bc G1bc"),
        ("a|1|bc|1|bc|1|b|1|a", "G1b K0b"),
        ("a|0|bc|2|bc|1|b|2|a", "K0b G1b"),
        ("a|0|bc|2|bc|0|-|2|a", "K0- G0-"),
        ("a|1|bc|1|ac|0|-|1|b", "K1ac"),
        ("a|1|bc|1|ac|0|c|1|b", "K1ac G1c K0c"),
        ("a|0|-|0|-|0|-|1|b", "G1a@a K0a"),
    ] {
        assert_eq!(resolved(input), expected, "{input}");
    }
}

#[test]
fn a_broken_state_is_reported_and_made_safe() {
    let broken = state("a|0|bcd|1|bcd|1|bcd|1|a");
    let resolution = resolve(broken.clone());
    assert_eq!(
        resolution.broken.as_ref().unwrap().to_string(),
        "Quorum and sync not guaranteed to overlap: nodes 4 >= quorum 0 + sync {'b', 'c', 'd'} + 1"
    );
    assert_eq!(show(&broken, resolution), "K2bcd");
    let resolution = resolve(state("a|0|b|1|c|1|bc|1|a"));
    assert_eq!(
        resolution.broken.unwrap().to_string(),
        "Quorum and sync not guaranteed to overlap: nodes 3 >= quorum 0 + sync {'c'} + 1"
    );
    let mismatch = check_invariants(&state("a|1|b|1|c|1|bc|1|a")).unwrap_err();
    assert_eq!(mismatch.to_string(), "Mismatched sets: voter only={'b'} sync only={'c'}");
}

/// A small generator of numbers, so that a failure can be repeated.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
    fn subset(&mut self, without: &str) -> NameSet {
        let names = ["a", "b", "c", "d", "e"];
        names.into_iter().filter(|n| *n != without && self.below(2) == 0).collect()
    }
}

/// The life of a cluster: nodes come and go, leaders fail, the number changes,
/// and work stops between any two steps. The invariant must hold after each
/// step, and once nothing changes the wanted state is reached.
///
/// Some states have no safe way on until nodes or the wanted number change (the
/// reference fails the cycle there too): interrupted `a|0|c|3|bcd|1|be|3|a`, or
/// a node and a larger number at once, `d|2|abc|1|abc|3|abce|3|d`.
#[test]
fn no_sequence_of_events_loses_commits() {
    for seed in 0..400 {
        let mut rng = Rng(seed);
        let mut s = state("a|0|-|0|-|0|-|1|a");
        for round in 0..25 {
            let settle = round >= 20;
            if settle {
                s.sync_wanted = 1;
                s.active = ["a", "b", "c", "d", "e"].into_iter().filter(|n| *n != s.leader_wanted).collect();
            } else {
                disturb(&mut rng, &mut s);
            }
            s.numsync_confirmed = i64::try_from(s.sync.intersection(&s.active).len()).unwrap();
            let steps = match resolve(s.clone()).transitions {
                Err(_) if !settle => continue,
                steps => steps.unwrap_or_else(|e| panic!("seed {seed}: {e}: {s:?}")),
            };
            let done = if settle { steps.len() } else { usize::try_from(rng.below(4)).unwrap() };
            for step in steps.into_iter().take(done) {
                s.leader = step.leader;
                match step.target {
                    Target::Sync => (s.numsync, s.sync) = (step.num, step.names),
                    Target::Quorum => (s.quorum, s.voters) = (step.num, step.names),
                    Target::Restart => break,
                }
                check_invariants(&s).unwrap_or_else(|e| panic!("seed {seed}: {e}: {s:?}"));
            }
        }
        let active = i64::try_from(s.active.len()).unwrap();
        let numsync = s.sync_wanted.min(active);
        assert_eq!((&s.sync, &s.voters), (&s.active, &s.active), "seed {seed}");
        assert_eq!((s.numsync, s.quorum), (numsync, active - numsync), "seed {seed}");
    }
}

fn disturb(rng: &mut Rng, s: &mut QuorumState) {
    match rng.below(4) {
        0 => s.sync_wanted = 1 + i64::try_from(rng.below(3)).unwrap(),
        1 if s.leader == s.leader_wanted => fail_over(rng, s),
        _ => s.active = rng.subset(&s.leader_wanted),
    }
}

/// A voter takes over, with the GUC that is derived from the key before promotion (21-02).
fn fail_over(rng: &mut Rng, s: &mut QuorumState) {
    let voters = s.voters.sorted();
    // The old leader is dead, so that many of the other voters must answer.
    if voters.is_empty() || s.quorum >= i64::try_from(voters.len()).unwrap() {
        return;
    }
    let next = voters[usize::try_from(rng.below(voters.len() as u64)).unwrap()].clone();
    let mut members = s.voters.clone();
    members.insert(&s.leader);
    s.numsync = i64::try_from(members.len()).unwrap() - s.quorum - 1;
    members.remove(&next);
    s.sync = members;
    s.active = rng.subset(&next);
    s.leader_wanted = next;
}
