//! The race as a table: a world, what was heard so far, and the verdict.

use std::time::Duration;

use super::super::held_back::HeldBack;
use super::super::tests::world::{js, orphan, peer, replica, World, NOW};
use super::super::*;
use super::{verdict, Decision, Heard, Question, Round, Verdict, QUESTIONS};
use crate::model::{Lsn, SyncState};
use crate::tags::Tags;

const FAILSAFE: &str = r#""failsafe_mode":true"#;
const SYNC: &str = r#""synchronous_mode":true"#;
const QUORUM: &str = r#""synchronous_mode":"quorum""#;
const LATER: Mono = Mono::seconds(1001);

/// What the world's memory and DCS say, judged as it is.
fn judged(world: &World, heard: &Heard) -> Verdict {
    let cluster = world.cluster(&world.keys);
    let mut memory = world.memory.clone();
    memory.failsafe.listed(cluster.failsafe.clone());
    let seen = seen::Seen {
        me: &world.view.me,
        pg: &world.view.pg,
        m: &memory,
        cluster: &cluster,
        watchdog_usable: world.view.watchdog.healthy,
        now: NOW,
    };
    verdict(&seen, heard)
}

/// In a few words.
fn words(decision: &Decision) -> String {
    match decision {
        Decision::Take => "take".into(),
        Decision::NotKnown => "not known".into(),
        Decision::Yield(HeldBack { reason, waits_for, .. }) => match waits_for {
            Some(name) => format!("yield {} to {name}", reason.as_str()),
            None => format!("yield {}", reason.as_str()),
        },
        Decision::Ask(question) => match question {
            Question::OwnTimeline { cluster } => format!("ask timeline {cluster}"),
            Question::Peers { round, members, decisive } => {
                let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
                let early = if decisive.is_some() { "" } else { " all" };
                format!("ask {round:?}{early} {}", names.join(","))
            }
            Question::Successors { without_candidate: true } => "ask Successors but the candidate".into(),
            Question::Successors { without_candidate: false } => "ask Successors".into(),
            Question::RemoveOrder => "remove the order".into(),
        },
    }
}

fn well(name: &str) -> PeerStatus {
    peer(name, |_| ())
}

fn silent(name: &str) -> PeerStatus {
    PeerStatus::unreachable(name)
}

fn ahead(name: &str) -> PeerStatus {
    peer(name, |p| p.wal_position = Lsn::new(2000))
}

fn primary(name: &str) -> PeerStatus {
    peer(name, |p| p.in_recovery = Some(false))
}

fn heard() -> Heard {
    Heard::default()
}

impl Heard {
    fn on(mut self, timeline: Option<u32>) -> Heard {
        self.own_timeline(timeline);
        self
    }

    fn round(mut self, round: Round, peers: &[PeerStatus]) -> Heard {
        self.peers(round, peers.to_vec(), LATER);
        self
    }

    /// On timeline 1, and this of the others.
    fn rivals(self, peers: &[PeerStatus]) -> Heard {
        self.on(Some(1)).round(Round::Rivals, peers)
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Each of these races ends, or goes on, so.
fn check(rows: Vec<(World, Heard, &str)>) {
    for (n, (world, heard, expected)) in rows.into_iter().enumerate() {
        let verdict = judged(&world, &heard);
        let said: Vec<&str> = verdict.lines.iter().map(|l| l.text.as_str()).collect();
        assert_eq!(words(&verdict.decision), expected, "row {n}: {said:?}");
    }
}

#[test]
fn who_leaves_it_to_others_before_anybody_is_asked() {
    let since = |ago: u64| Some(NOW - seconds(ago));
    let ask = "ask timeline 0";
    let history = r#"[[1,900,"x"]]"#;
    check(vec![
        (orphan(), heard(), ask),
        (orphan().memory(|m| m.backoff.released_at = since(29)), heard(), "yield pre_promote_backoff"),
        (orphan().memory(|m| m.backoff.released_at = since(30)), heard(), ask),
        (
            orphan().memory(|m| m.backoff.sync_refused_at = since(29)),
            heard(),
            "yield synchronous_standby_names_not_set",
        ),
        (orphan().memory(|m| m.backoff.sync_refused_at = since(30)), heard(), ask),
        (orphan().memory(|m| m.backoff.not_promoted_at = since(29)), heard(), "yield promotion_failed"),
        (orphan().memory(|m| m.backoff.not_promoted_at = since(30)), heard(), ask),
        // Of a primary only what pre_promote has refused.
        (
            orphan().primary().memory(|m| m.backoff.released_at = since(1)),
            heard(),
            "yield pre_promote_backoff",
        ),
        (orphan().primary().memory(|m| m.backoff.sync_refused_at = since(1)), heard(), "take"),
        (orphan().primary().memory(|m| m.backoff.not_promoted_at = since(1)), heard(), "take"),
        (orphan().state(PgState::Starting), heard(), "yield postgres_starting"),
        (orphan().primary().state(PgState::Starting), heard(), "yield postgres_starting"),
        (orphan().paused(), heard(), "yield paused"),
        (orphan().tags(r#"{"nofailover":true}"#), heard(), "yield nofailover"),
        (orphan().paused().tags(r#"{"nofailover":true}"#), heard(), "yield paused"),
        (orphan().view(|v| v.watchdog.healthy = false), heard(), "yield watchdog_unusable"),
        (orphan().config(SYNC).sync_key("b", "c", 0), heard(), "yield not_synchronous"),
        (orphan().config(SYNC).sync_key("b", "A", 0), heard(), ask),
        (orphan().config(SYNC).sync_key("A", "c", 0), heard(), ask),
        (orphan().config(SYNC), heard(), ask),
        (orphan().config(QUORUM).sync_key("b", "c", 0), heard(), ask),
        (
            orphan().config(QUORUM).sync_key("b", "c", 0).memory(|m| m.rewind.check_due()),
            heard(),
            "yield not_synchronous",
        ),
        // A primary is held to the cluster's timeline, in a pause only where another has led since it did.
        (orphan().primary(), heard(), "take"),
        (orphan().primary().tags(r#"{"nofailover":true}"#), heard(), "take"),
        (orphan().primary().key("history", history), heard(), "yield timeline_behind"),
        (orphan().primary().key("history", history).row(|r| r.timeline = 2), heard(), "take"),
        (orphan().primary().paused().key("history", history), heard(), "take"),
        (orphan().primary().paused().memory(|m| m.superseded_by = Some(2)), heard(), "yield timeline_behind"),
        (orphan().primary().paused().memory(|m| m.superseded_by = Some(1)), heard(), "take"),
        (
            orphan().primary().paused().key("initialize", "7000000000000000009"),
            heard(),
            "yield foreign_system_identifier",
        ),
        (orphan().primary().key("initialize", "7000000000000000009"), heard(), "take"),
        (orphan().primary().paused().key("initialize", ""), heard(), "take"),
        (orphan().primary().hung(), heard(), "not known"),
        (orphan().primary().paused().hung(), heard(), "take"),
        (orphan().hung(), heard().on(Some(1)), "not known"),
    ]);
}

/// Another has led since this node gave the lock away: nobody may be silent, for primary_start_timeout or ttl.
#[test]
fn all_are_heard_after_a_lock_was_given_away() {
    let disowned = |ago| orphan().memory(|m| m.lock.disowned(NOW - seconds(ago)));
    let round = |peers: &[PeerStatus]| heard().round(Round::Disowned, peers);
    let short = |ago| disowned(ago).config(r#""primary_start_timeout":0"#);
    check(vec![
        (disowned(1), heard(), "ask Disowned all b,c"),
        (disowned(1).without("members/c"), heard(), "ask Disowned all b"),
        (disowned(1), round(&[silent("b"), silent("c")]), "yield other_has_led to b,c"),
        (disowned(1), round(&[well("b"), silent("c")]), "yield other_has_led to c"),
        (disowned(1), round(&[primary("b"), ahead("c")]), "ask timeline 0"),
        (disowned(299), heard(), "ask Disowned all b,c"),
        (disowned(300), heard(), "ask timeline 0"),
        (short(29), heard(), "ask Disowned all b,c"),
        (short(30), heard(), "ask timeline 0"),
        (disowned(1).primary(), heard(), "take"),
    ]);
}

/// `/failsafe` does not name this node: those that it names are heard first.
#[test]
fn who_may_go_on_by_failsafe_is_heard_first() {
    let world = |key: &str| orphan().config(FAILSAFE).key("failsafe", key);
    let others = || world(r#"{"b":"http://b/","d":"http://d/"}"#);
    let round = |peers: &[PeerStatus]| heard().round(Round::Failsafe, peers);
    check(vec![
        (others(), heard(), "ask Failsafe all b,d"),
        (others().key("failover", r#"{"leader":"b"}"#), heard(), "ask Failsafe all b,d"),
        (others(), round(&[well("b"), well("d")]), "ask timeline 0"),
        (others(), round(&[well("b"), silent("d")]), "yield not_in_failsafe_key"),
        (others(), round(&[primary("b"), well("d")]), "yield not_in_failsafe_key"),
        (others(), round(&[peer("b", |p| p.in_recovery = None), well("d")]), "yield not_in_failsafe_key"),
        (others().config(r#""ttl":30"#), heard(), "ask timeline 0"),
        (others().primary(), heard(), "take"),
        (world(r#"{"a":"http://a/"}"#), heard(), "ask timeline 0"),
        (world("{}"), heard(), "ask timeline 0"),
        (world("[5]"), heard(), "ask timeline 0"),
        // Who is in it and no member any more may know better.
        (world(r#"{"a":"http://a/","d":"http://d/"}"#), heard().on(Some(1)), "ask Rivals b,c,d"),
    ]);
}

#[test]
fn position_and_timeline_come_before_the_others() {
    let checked = |key: &str| orphan().config(r#""check_timeline":true"#).key("history", key);
    let second = || checked(r#"[[1,900,"x"]]"#);
    let rivals = "ask Rivals b,c";
    check(vec![
        (orphan(), heard().on(Some(1)), rivals),
        (orphan(), heard().on(None), rivals),
        (orphan().key("status", r#"{"optime":1049577}"#), heard().on(Some(1)), "yield lagging"),
        (orphan().key("status", r#"{"optime":1049576}"#), heard().on(Some(1)), rivals),
        (second(), heard(), "ask timeline 2"),
        (second(), heard().on(None), "yield timeline_unknown"),
        (second(), heard().on(Some(1)), "yield timeline_behind"),
        (second(), heard().on(Some(2)), rivals),
        (second().config(r#""check_timeline":false"#), heard().on(Some(1)), rivals),
        (
            second().config(r#""check_timeline":true,"standby_cluster":{"host":"x"}"#),
            heard().on(Some(1)),
            rivals,
        ),
        // Who may not be promoted is asked only where it has a vote.
        (
            orphan().member("c", "replica", r#""tags":{"nofailover":true}"#),
            heard().on(Some(1)),
            "ask Rivals b",
        ),
        (
            orphan().config(QUORUM).sync_key("b", "a,C", 1).member(
                "c",
                "replica",
                r#""tags":{"nofailover":true}"#,
            ),
            heard().on(Some(1)),
            rivals,
        ),
        (orphan().config(SYNC).sync_key("b", "a", 0), heard().on(Some(1)), "ask Rivals b"),
        // Members of before, when there was a leader.
        (orphan().without("members/c"), heard().on(Some(1)), rivals),
    ]);
}

#[test]
fn the_others_answers_decide() {
    let preferred = |name: &str| peer(name, |p| p.tags = Tags::from_value(&js(r#"{"failover_priority":2}"#)));
    let sync = || orphan().config(SYNC).sync_key("b", "a", 0);
    let quorum = |names: &str, needed| orphan().config(QUORUM).sync_key("b", names, needed);
    let old = |name: &str, position| peer(name, |p| (p.timeline, p.wal_position) = (1, Lsn::new(position)));
    let second = || orphan().config(r#""check_timeline":true"#).key("history", r#"[[1,900,"x"]]"#);
    let on_second = |peers: &[PeerStatus]| heard().on(Some(2)).round(Round::Rivals, peers);
    check(vec![
        (orphan(), heard().rivals(&[]), "take"),
        (orphan(), heard().rivals(&[well("b"), well("c")]), "take"),
        (orphan(), heard().rivals(&[silent("b"), ahead("c")]), "yield peer_ahead to c"),
        (orphan(), heard().rivals(&[primary("b"), ahead("c")]), "yield primary_alive to b"),
        (orphan(), heard().rivals(&[preferred("c")]), "yield peer_preferred to c"),
        // The leader that was is preferred to nobody: by the last cluster with one, or by `/sync`.
        (orphan(), heard().rivals(&[preferred("b")]), "take"),
        (sync(), heard().rivals(&[preferred("b")]), "take"),
        (sync().sync_key("c", "a", 0), heard().rivals(&[preferred("b")]), "yield peer_preferred to b"),
        // It may be ahead, by the leave of `/sync`.
        (sync(), heard().rivals(&[ahead("b")]), "take"),
        (sync().config(r#""ttl":30"#), heard().rivals(&[ahead("b")]), "yield peer_ahead to b"),
        // Who is on an older timeline refuses to lead, however far it is.
        (second(), on_second(&[old("c", 2000)]), "take"),
        (orphan(), on_second(&[old("c", 2000)]), "yield peer_ahead to c"),
        (quorum("a,c", 1), on_second(&[old("c", 2000)]), "take"),
        (quorum("a,c", 1), heard().rivals(&[peer("c", |p| p.timeline = 2)]), "yield peer_ahead to c"),
        // Votes.
        (quorum("a,c", 1), heard().rivals(&[silent("b"), well("c")]), "take"),
        (quorum("a,c", 1), heard().rivals(&[silent("b"), silent("c")]), "yield no_quorum to b,c"),
        (quorum("a,c", 2), heard().rivals(&[silent("b"), well("c")]), "yield no_quorum to b"),
        (quorum("c", 1), heard().rivals(&[silent("b"), well("c")]), "yield no_quorum to b"),
        (quorum("a,c", 1).sync_key("a", "c", 1), heard().rivals(&[silent("c")]), "take"),
        // They count as well where the mode has been changed since.
        (quorum("a,c", 1).config(SYNC), heard().rivals(&[silent("c")]), "yield no_quorum to c"),
        (quorum("a,c", 0).config(SYNC), heard().rivals(&[silent("c")]), "take"),
    ]);
}

/// The DCS went back: the race goes by what it told before.
#[test]
fn what_was_told_before_a_setback_counts() {
    let sync = |text: &str| SyncState::from_node(None, text);
    let mark = |text: &str| HighWater {
        timeline: 2,
        position: Lsn::new(1_049_577),
        heard: None,
        sync: sync(text),
        told: replica().cluster(&replica().keys),
    };
    let world = |mark: HighWater| orphan().memory(|m| m.high_water = Some(mark));
    let low = |text: &str| HighWater { timeline: 1, position: Lsn::new(1), ..mark(text) };
    let beyond = |position| HighWater { heard: Some((Lsn::new(position), "b".into())), ..low("") };
    let on = |mark| world(mark).config(SYNC).sync_key("a", "b,c", 0);
    let others = r#"{"leader":"b","sync_standby":"c","quorum":0}"#;
    let both = r#"{"leader":"b","sync_standby":"a,c","quorum":1}"#;
    let on_first = || heard().on(Some(1));
    let round = |peers: &[PeerStatus]| on_first().round(Round::BeforeSetback, peers);
    check(vec![
        (world(mark("")), heard(), "ask timeline 2"),
        (world(mark("")), on_first(), "yield lagging"),
        (world(low("")), on_first(), "ask Rivals b,c"),
        (on(beyond(1001)), on_first(), "yield peer_ahead to b"),
        (on(beyond(1000)), on_first(), "ask Rivals b,c"),
        (world(beyond(1001)), on_first(), "ask Rivals b,c"),
        (on(low(others)), on_first(), "ask BeforeSetback all b,c"),
        (world(low(others)), on_first(), "ask Rivals b,c"),
        (on(low(others)), round(&[silent("b"), silent("c")]), "yield other_has_led to b,c"),
        (on(low(others)), round(&[silent("b"), well("c")]), "ask Rivals b,c"),
        (on(low(others)), round(&[ahead("b"), well("c")]), "ask Rivals b,c"),
        (on(low(others)), round(&[silent("b"), primary("c")]), "yield other_has_led to b,c"),
        (on(low(both)), round(&[silent("b"), silent("c")]), "yield other_has_led to b,c"),
        (on(low(both)), round(&[well("b"), silent("c")]), "ask Rivals b,c"),
        (on(low(r#"{"leader":"b","sync_standby":"a","quorum":0}"#)), on_first(), "ask Rivals b,c"),
    ]);
    // Who is ahead is remembered, also where that does not decide.
    let verdict = judged(&on(low(others)), &round(&[ahead("b"), well("c")]));
    assert_eq!(verdict.ahead.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["b"]);
    let both = round(&[ahead("b"), well("c")]).round(Round::Rivals, &[ahead("c")]);
    let verdict = judged(&on(low(others)), &both);
    assert_eq!(verdict.ahead.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn an_order_says_who_races() {
    let order = |text: &str| orphan().key("failover", text);
    let (to_b, to_c) = (r#"{"member":"b"}"#, r#"{"leader":"b","member":"c"}"#);
    let of_a = r#"{"leader":"a","member":"c"}"#;
    let round = |peer: PeerStatus| heard().round(Round::Candidate, &[peer]);
    let late = |world: World, name: &str, ago: u64| {
        world.memory(|m| m.candidate_waited_for = Some((name.into(), LATER - seconds(ago))))
    };
    check(vec![
        (order(r#"{"member":"a"}"#), heard(), "take"),
        (order(r#"{"leader":"b","member":"a"}"#).key("status", "9999999999"), heard(), "take"),
        (order(to_b), heard(), "ask Candidate all b"),
        (order(to_b), round(well("b")), "yield other_candidate to b"),
        // It cannot take it, or does not within ttl: all others race.
        (order(to_b), round(silent("b")), "ask timeline 0"),
        (order(to_b), round(peer("b", |p| p.watchdog_failed = true)), "ask timeline 0"),
        (late(order(to_b), "b", 29), round(well("b")), "yield other_candidate to b"),
        (late(order(to_b), "b", 30), round(well("b")), "ask timeline 0"),
        (late(order(to_b), "c", 30), round(well("b")), "yield other_candidate to b"),
        (order(r#"{"member":"x"}"#), heard(), "ask timeline 0"),
        (order(r#"{"member":"x"}"#), heard().on(Some(1)), "ask Rivals b,c"),
        // A switchover: without the leader that gives up; with the lag looked at.
        (order(to_c), round(silent("c")).on(Some(1)), "ask Rivals c"),
        (order(to_c).key("status", r#"{"optime":1049577}"#), round(silent("c")).on(Some(1)), "yield lagging"),
        (
            order(to_b).key("status", r#"{"optime":1049577}"#),
            round(silent("b")).on(Some(1)),
            "ask Rivals b,c",
        ),
        (order(r#"{"leader":"b"}"#), heard().on(Some(1)), "ask Rivals c"),
        // The leader that gives up takes back what nobody else can take.
        (order(r#"{"leader":"a"}"#), heard(), "ask Successors"),
        (order(of_a), round(silent("c")), "ask Successors but the candidate"),
        (order(of_a), Heard { successors: Some(true), ..round(silent("c")) }, "yield others_can_lead"),
        (order(of_a), Heard { successors: Some(false), ..round(silent("c")) }, "take"),
        // Synchronous replication: only who is in `/sync` races, and only such a one is waited for.
        (order(to_c).config(SYNC).sync_key("b", "c", 0), heard(), "yield not_synchronous"),
        (order(r#"{"leader":"b"}"#).config(SYNC).sync_key("b", "c", 0), heard(), "yield not_synchronous"),
        (order(r#"{"leader":"b"}"#).config(QUORUM).sync_key("b", "c", 0), heard(), "yield not_synchronous"),
        (
            order(r#"{"leader":"b","member":"a"}"#).config(SYNC).sync_key("b", "c", 0),
            heard(),
            "yield not_synchronous",
        ),
        (order(r#"{"member":"a"}"#).config(SYNC).sync_key("b", "c", 0), heard(), "take"),
        (order(to_b).config(SYNC).sync_key("b", "c", 0), heard(), "yield not_synchronous"),
        (order(to_b).config(QUORUM).sync_key("b", "c", 0), heard(), "ask Candidate all b"),
        (order(to_c).config(SYNC).sync_key("b", "a", 0), heard().on(Some(1)), "ask Rivals "),
        (order(to_c).config(SYNC).sync_key("b", "a,c", 0), heard(), "ask Candidate all c"),
        (order(to_b).config(SYNC), heard(), "yield not_synchronous"),
        // Not before its time in a pause, and in none it does not matter when.
        (order(r#"{"member":"a","scheduled_at":"2036-01-01T00:00:00+00:00"}"#), heard(), "take"),
    ]);
    let waits = judged(&order(to_b), &round(well("b"))).candidate_waited_for;
    assert_eq!(waits, Some(("b".to_owned(), LATER)));
    let waits = judged(&late(order(to_b), "b", 30), &round(well("b"))).candidate_waited_for;
    assert_eq!(waits, Some(("b".to_owned(), LATER - seconds(30))));
    assert_eq!(judged(&order(to_b), &round(silent("b"))).candidate_waited_for, None);
}

#[test]
fn in_a_pause_the_lock_goes_to_the_candidate() {
    let order = |text: &str| orphan().paused().key("failover", text);
    let away = || order(r#"{"member":"x"}"#).primary();
    check(vec![
        (order(r#"{"leader":"b"}"#), heard(), "yield paused"),
        (order(r#"{"leader":"b"}"#).primary(), heard(), "yield paused"),
        (order(r#"{"member":"a"}"#), heard(), "take"),
        (order(r#"{"member":"b"}"#), heard(), "yield other_candidate to b"),
        (order(r#"{"member":"b"}"#).primary(), heard(), "yield other_candidate to b"),
        (order(r#"{"member":"x"}"#), heard(), "yield other_candidate to x"),
        (away(), heard(), "remove the order"),
        (away(), Heard { order_removed: true, ..heard() }, "take"),
        (
            away().key("initialize", "1"),
            Heard { order_removed: true, ..heard() },
            "yield foreign_system_identifier",
        ),
        (away().tags(r#"{"nofailover":true}"#), heard(), "take"),
        (order(r#"{"member":"a","scheduled_at":"2036-01-01T00:00:00+00:00"}"#), heard(), "yield paused"),
    ]);
}

/// Whatever is asked, each verdict says first what the one before has said, and no race asks for more than it may.
#[test]
fn a_race_goes_on_where_it_was() {
    let mark = HighWater {
        timeline: 1,
        position: Lsn::new(1),
        heard: None,
        sync: SyncState::from_node(None, r#"{"leader":"b","sync_standby":"c","quorum":0}"#),
        told: replica().cluster(&replica().keys),
    };
    let world = orphan()
        .config(r#""failsafe_mode":true,"synchronous_mode":true"#)
        .key("failsafe", r#"{"b":"http://b/"}"#)
        .key("failover", r#"{"member":"c"}"#)
        .sync_key("a", "b,c", 0)
        .memory(|m| {
            m.lock.disowned(NOW);
            m.high_water = Some(mark);
        });
    let (mut heard, mut asked, mut said) = (Heard::default(), Vec::new(), Vec::new());
    let decision = loop {
        assert!(asked.len() <= QUESTIONS);
        let verdict = judged(&world, &heard);
        assert!(verdict.lines.starts_with(&said), "{said:?} {:?}", verdict.lines);
        said = verdict.lines;
        let Decision::Ask(question) = &verdict.decision else { break verdict.decision };
        asked.push(words(&verdict.decision));
        match question {
            Question::OwnTimeline { .. } => heard.own_timeline(Some(1)),
            Question::Peers { round, members, .. } => {
                let unfit = *round == Round::Candidate;
                let answer = |name: &str| peer(name, |p| p.watchdog_failed = unfit);
                heard.peers(*round, members.iter().map(|m| answer(&m.name)).collect(), LATER);
            }
            Question::Successors { .. } => heard.successors(false),
            Question::RemoveOrder => heard.order_removed(),
        }
    };
    assert_eq!(decision, Decision::Take);
    let rounds = [
        "ask Disowned all b,c",
        "ask Failsafe all b",
        "ask Candidate all c",
        "ask timeline 1",
        "ask BeforeSetback all b,c",
        "ask Rivals b,c",
    ];
    assert_eq!(asked, rounds);
    assert_eq!(
        said.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(),
        ["manual failover: member c is not watchdog capable"]
    );
}
