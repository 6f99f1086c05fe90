//! Tables: one machine, what it is told, what it does.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::journal::Meta;
use crate::message::{Body, Chunk};

const NOW: Mono = Mono::seconds(100);

fn entry(index: u64, term: u64) -> Entry {
    Entry { command: [1].as_slice().into(), index, term }
}

/// A follower of three, with these entries, in that term, connected with `b` and `c`.
fn machine(entries: Vec<Entry>, term: u64, voted: Option<&str>) -> Machine {
    let start = Start {
        own: Some("a:1".into()),
        others: ["b:1".into(), "c:1".into()].into(),
        entries,
        applied: 1,
        meta: Meta { term, voted: voted.map(Arc::from), commit: 1 },
        dump: None,
        seed: 7,
    };
    let mut machine = Machine::new(start, NOW);
    for peer in ["b:1", "c:1"] {
        assert_eq!(machine.connected(member(peer), NOW), []);
    }
    machine
}

fn member(name: &str) -> Peer {
    Peer::Member(name.into())
}

fn append(term: u64, commit: u64, prev: (u64, u64), entries: Vec<Entry>) -> Message {
    Message::Append { term, commit, body: Body::Entries { prev_index: prev.0, prev_term: prev.1, entries } }
}

fn next(next: u64, reset: bool, success: bool) -> Effect {
    Effect::Send(member("b:1"), Message::Next { next, reset, success })
}

#[test]
fn votes() {
    let log = || vec![Entry::first(), entry(2, 3), entry(3, 3)];
    for (voted, term, last_index, last_term, granted) in [
        (None, 5, 3, 3, true),
        (None, 4, 3, 3, true),
        (Some("b:1"), 4, 3, 3, true),
        (Some("c:1"), 4, 3, 3, false),
        (Some("c:1"), 5, 3, 3, true),
        (None, 3, 9, 9, false),
        (None, 5, 2, 3, false),
        (None, 5, 9, 2, false),
        (None, 5, 1, 4, true),
    ] {
        let mut machine = machine(log(), 4, voted);
        let effects =
            machine.receive(&member("b:1"), Message::RequestVote { term, last_index, last_term }, NOW);
        let vote = Effect::Send(member("b:1"), Message::Vote { term });
        assert_eq!(
            effects.contains(&vote),
            granted,
            "{voted:?} {term} {last_index} {last_term}: {effects:?}"
        );
        // What is promised is stored before it is sent.
        let stored = Effect::Vote(term, Some("b:1".into()));
        let place = |wanted: &Effect| effects.iter().rposition(|effect| effect == wanted);
        if granted && voted != Some("b:1") {
            assert!(place(&stored) < place(&vote) && place(&stored).is_some(), "{effects:?}");
        }
    }
}

#[test]
fn a_vote_is_once_in_a_term() {
    let mut machine = machine(vec![Entry::first()], 0, None);
    let ask = Message::RequestVote { term: 1, last_index: 1, last_term: 0 };
    assert_eq!(machine.receive(&member("b:1"), ask.clone(), NOW).len(), 3);
    assert_eq!(machine.receive(&member("c:1"), ask, NOW), []);
}

#[test]
fn entries_of_a_leader() {
    let log = || vec![Entry::first(), entry(2, 1), entry(3, 1)];
    type Case = (Message, Vec<Effect>);
    let cases: [Case; 8] = [
        (append(2, 1, (3, 1), vec![entry(4, 2)]), vec![Effect::Append(entry(4, 2)), next(5, false, true)]),
        (append(2, 1, (3, 1), vec![]), vec![next(4, false, true)]),
        // Known already: nothing is taken away, and no more is confirmed than was compared.
        (append(2, 1, (1, 0), vec![entry(2, 1)]), vec![next(3, false, true)]),
        (
            append(2, 1, (2, 1), vec![entry(3, 2)]),
            vec![Effect::Cut(3), Effect::Append(entry(3, 2)), next(4, false, true)],
        ),
        (append(2, 1, (7, 2), vec![entry(8, 2)]), vec![next(4, true, false)]),
        (append(2, 1, (3, 2), vec![entry(4, 2)]), vec![next(3, true, false)]),
        // A gap in itself is no message of a leader.
        (append(2, 1, (3, 1), vec![entry(5, 2)]), vec![]),
        // A heartbeat confirms nothing of what follows the entry that it names.
        (
            append(2, 3, (2, 1), vec![]),
            vec![next(3, false, true), Effect::Commit(2), Effect::Apply(entry(2, 1), vec![])],
        ),
    ];
    for (message, want) in cases {
        let mut machine = machine(log(), 2, None);
        assert_eq!(machine.receive(&member("b:1"), message.clone(), NOW), want, "{message:?}");
    }
    // An older term is ignored, a newer one is stored.
    let mut machine = machine(log(), 2, None);
    assert_eq!(machine.receive(&member("b:1"), append(1, 3, (3, 1), vec![]), NOW), []);
    let effects = machine.receive(&member("b:1"), append(4, 1, (3, 1), vec![]), NOW);
    assert_eq!(effects, [Effect::Vote(4, None), next(4, false, true)]);
}

#[test]
fn what_is_committed_is_not_taken_away() {
    let mut machine = machine(vec![Entry::first(), entry(2, 1), entry(3, 1)], 2, None);
    machine.receive(&member("b:1"), append(2, 3, (3, 1), vec![]), NOW);
    assert_eq!(
        machine.receive(&member("c:1"), append(5, 1, (1, 0), vec![entry(2, 5)]), NOW),
        [Effect::Vote(5, None)]
    );
    assert_eq!(machine.numbers().last, 3);
}

/// Elected by `b`, with one entry of its own term.
fn leader() -> Machine {
    let mut machine = machine(vec![Entry::first()], 0, None);
    let late = NOW + Duration::from_secs(2);
    let effects = machine.tick(late);
    assert_eq!(effects.first(), Some(&Effect::Vote(1, Some("a:1".into()))));
    let effects = machine.receive(&member("b:1"), Message::Vote { term: 1 }, late);
    assert_eq!(effects.first(), Some(&Effect::Append(entry(2, 1))));
    assert!(machine.is_leader());
    machine
}

#[test]
fn a_leader_commits_what_a_majority_has() {
    let mut machine = leader();
    let late = NOW + Duration::from_secs(2);
    let ok = |next| Message::Next { next, reset: false, success: true };
    assert_eq!(machine.receive(&member("b:1"), ok(2), late).len(), 0);
    let effects = machine.receive(&member("b:1"), ok(3), late);
    assert_eq!(effects[..2], [Effect::Commit(2), Effect::Apply(entry(2, 1), vec![])]);
    assert!(machine.is_ready());
    let effects = machine.propose(crate::entry::no_op(), Origin::Here(5), late);
    assert_eq!(effects.first(), Some(&Effect::Append(entry(3, 1))));
    // More than we have is of another time.
    assert_eq!(machine.receive(&member("c:1"), ok(9), late), []);
    let effects = machine.receive(&member("c:1"), ok(4), late);
    assert!(effects.contains(&Effect::Apply(entry(3, 1), vec![5])), "{effects:?}");
}

#[test]
fn who_leads_without_a_majority_stops() {
    let mut machine = leader();
    let later = |ms| NOW + Duration::from_secs(2) + Duration::from_millis(ms);
    machine.receive(&member("b:1"), Message::Next { next: 3, reset: false, success: true }, later(1000));
    machine.tick(later(4400));
    assert!(machine.is_leader());
    machine.tick(later(4600));
    assert!(!machine.is_leader() && machine.leader().is_none());
    assert_eq!(
        machine.propose(crate::entry::no_op(), Origin::Here(1), later(4600)),
        [Effect::Fail(1, Reason::MissingLeader)]
    );
}

#[test]
fn who_cannot_win_does_not_stand() {
    let mut machine = machine(vec![Entry::first()], 3, None);
    for peer in ["b:1", "c:1"] {
        machine.disconnected(&member(peer), NOW);
    }
    assert_eq!(machine.tick(NOW + Duration::from_secs(5)), []);
    assert_eq!(machine.numbers().term, 3);
}

#[test]
fn commands_of_a_follower() {
    let mut machine = machine(vec![Entry::first()], 1, None);
    let command = crate::entry::no_op();
    assert_eq!(
        machine.propose(command.clone(), Origin::Here(1), NOW),
        [Effect::Fail(1, Reason::MissingLeader)]
    );
    machine.receive(&member("b:1"), append(1, 1, (1, 0), vec![]), NOW);
    let sent = |token| {
        Effect::Send(member("b:1"), Message::Command { command: crate::entry::no_op(), request: Some(token) })
    };
    for token in 2..6 {
        assert_eq!(machine.propose(command.clone(), Origin::Here(token), NOW), [sent(token)]);
    }
    let answer = |request, result| Message::Response { request, result };
    assert_eq!(machine.receive(&member("b:1"), answer(2, Ok((2, 1))), NOW), []);
    assert_eq!(
        machine.receive(&member("b:1"), answer(3, Err(Reason::NotLeader)), NOW),
        [Effect::Fail(3, Reason::NotLeader)]
    );
    // Applied before the answer came: what it was is not known.
    assert_eq!(
        machine.receive(&member("b:1"), answer(4, Ok((1, 0))), NOW),
        [Effect::Fail(4, Reason::Unknown)]
    );
    // Another entry in its place.
    let effects = machine.receive(&member("c:1"), append(2, 2, (1, 0), vec![entry(2, 2)]), NOW);
    assert!(effects.contains(&Effect::Fail(5, Reason::LeaderChanged)), "{effects:?}");
    assert!(effects.contains(&Effect::Fail(2, Reason::Discarded)), "{effects:?}");
}

#[test]
fn a_dump_is_taken_and_given() {
    let dump = Dump {
        data: crate::pickle::Value::Dict(Vec::new()),
        last: entry(9, 2),
        prev: entry(8, 2),
        members: ["a:1".into(), "b:1".into(), "d:1".into()].into(),
    };
    let bytes = dump.encode();
    let mut machine = machine(vec![Entry::first(), entry(2, 1)], 2, None);
    let chunk = |data: &[u8], first, last| {
        let body = Body::Dump(Some(Chunk { data: data.into(), first, last }));
        Message::Append { term: 2, commit: 9, body }
    };
    let (one, two) = bytes.split_at(10);
    assert_eq!(machine.receive(&member("b:1"), chunk(two, false, false), NOW), []);
    assert_eq!(machine.receive(&member("b:1"), chunk(one, true, false), NOW), []);
    assert_eq!(machine.receive(&member("b:1"), chunk(two, false, false), NOW), []);
    let effects = machine.receive(&member("b:1"), chunk(&[], false, true), NOW);
    let installed =
        Effect::Install(Box::new(dump.clone()), bytes.clone().into(), vec![entry(8, 2), entry(9, 2)]);
    assert_eq!(effects.first(), Some(&installed));
    assert_eq!(effects.last(), Some(&next(10, true, true)));
    assert_eq!(machine.others().iter().map(|o| &**o).collect::<Vec<_>>(), ["b:1", "d:1"]);
    assert_eq!((machine.numbers().applied, machine.numbers().commit), (9, 9));
    // Once more: there is nothing new in it.
    machine.receive(&member("b:1"), chunk(&bytes, true, false), NOW);
    assert_eq!(machine.receive(&member("b:1"), chunk(&[], false, true), NOW), [next(10, true, true)]);
}

#[test]
fn poison_does_not_come_into_the_log() {
    let mut machine = leader();
    let bad: Arc<[u8]> = [0, b'c', b'o', b's', b'\n'].as_slice().into();
    let effects = machine.propose(bad, Origin::There(member("c:1"), Some(4)), NOW + Duration::from_secs(2));
    let denied = Message::Response { request: 4, result: Err(Reason::Denied) };
    assert_eq!(effects, [Effect::Send(member("c:1"), denied)]);
}
