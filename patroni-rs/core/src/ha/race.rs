//! Who may take the leader lock (surface-ha-pg 5): a function of what was seen, and of what was heard on the way. The
//! cycle carries out what it says (`leaderless.rs`).

use std::collections::HashSet;
use std::time::Duration;

use indexmap::IndexMap;
use pyfmt::Value;

use self::votes::{Claim, Election};
use super::failsafe::member_at;
use super::held_back::{HeldBack, Reason};
use super::script::{Level, LogLine};
use super::seen::Seen;
use super::types::*;
use crate::model::Member;

mod order;
#[cfg(test)]
mod tests;
mod votes;

/// What a node makes of a lock that nobody has, and what is to be remembered of how it came to that.
#[derive(Debug)]
pub(super) struct Verdict {
    /// What it does.
    pub decision: Decision,
    /// For the log: all that was said so far, so that each verdict of a race begins with the lines of the one before.
    pub lines: Vec<LogLine>,
    /// Who has more WAL, as far as they were looked at.
    pub ahead: Vec<PeerStatus>,
    /// The candidate of an order that the lock is left to, and since when.
    pub candidate_waited_for: Option<(String, Mono)>,
}

/// What a node does about a lock that nobody has.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    /// It asks the DCS for it.
    Take,
    /// It leaves it to others, or waits for them.
    Yield(HeldBack),
    /// This comes first; then the race is judged again.
    Ask(Question),
    /// PostgreSQL does not tell what this node is to be judged by.
    NotKnown,
}

/// What is asked on the way, each at most once in a race.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Question {
    /// Which timeline this standby is on; the cluster's, to know whether it may have changed.
    OwnTimeline { cluster: u32 },
    /// How the others are; answers that decide may end the round.
    Peers { round: Round, members: Vec<Member>, decisive: Option<StopPolling> },
    /// Can somebody else be promoted? Whom an order names may be left out.
    Successors { without_candidate: bool },
    /// The order names nobody who could take it: it is removed.
    RemoveOrder,
}

/// A race asks no more than this.
pub(super) const QUESTIONS: usize = 8;

/// What the others are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// This node has given away a lock because another has led since.
    Disowned,
    /// `/failsafe` does not name this node.
    Failsafe,
    /// An order names this member.
    Candidate,
    /// `/sync` named them before the DCS went back.
    BeforeSetback,
    /// They may be fitter.
    Rivals,
}

/// The answers so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    own_timeline: Option<OwnTimeline>,
    rounds: Vec<Answers>,
    successors: Option<bool>,
    order_removed: bool,
}

#[derive(Debug, Clone, Copy)]
enum OwnTimeline {
    On(u32),
    Unknown,
}

#[derive(Debug)]
struct Answers {
    round: Round,
    peers: Vec<PeerStatus>,
    at: Mono,
}

impl Heard {
    /// The timeline of this standby; None: nobody can tell.
    pub fn own_timeline(&mut self, timeline: Option<u32>) {
        self.own_timeline = Some(timeline.map_or(OwnTimeline::Unknown, OwnTimeline::On));
    }

    /// What the others have answered, and when.
    pub fn peers(&mut self, round: Round, peers: Vec<PeerStatus>, at: Mono) {
        self.rounds.push(Answers { round, peers, at });
    }

    /// Whether somebody else can be promoted.
    pub fn successors(&mut self, there_are: bool) {
        self.successors = Some(there_are);
    }

    /// The order was removed, as far as the DCS would.
    pub fn order_removed(&mut self) {
        self.order_removed = true;
    }
}

/// May this node take the lock? Nothing in `seen` may change while its questions are answered.
pub(super) fn verdict(seen: &Seen<'_>, heard: &Heard) -> Verdict {
    let mut race = Race { seen, heard, lines: Vec::new(), ahead: Vec::new(), candidate_waited_for: None };
    let decision = race.checks().err().unwrap_or(Decision::Take);
    let Race { lines, ahead, candidate_waited_for, .. } = race;
    Verdict { decision, lines, ahead, candidate_waited_for }
}

/// A check of the race: nothing against it, or how the race ends.
type Check<T = ()> = Result<T, Decision>;

struct Race<'a> {
    seen: &'a Seen<'a>,
    heard: &'a Heard,
    lines: Vec<LogLine>,
    ahead: Vec<PeerStatus>,
    candidate_waited_for: Option<(String, Mono)>,
}

impl<'a> Race<'a> {
    /// The checks are in the contract's order (5.1).
    fn checks(&mut self) -> Check {
        let seen = self.seen;
        let paused = seen.m.config.is_paused();
        let nofailover = seen.me.tags.nofailover();
        let order = seen.cluster.failover.as_ref();
        self.backoff()?;
        self.silent_after_disowning()?;
        if let Some(order) = order.filter(|order| paused && !nofailover && order.scheduled_at.is_none()) {
            self.order_in_pause(order)?;
        }
        if seen.pg.state.is_starting() {
            return no(Reason::Starting);
        }
        if seen.pg.is_primary() {
            return self.primary();
        }
        if paused {
            return no(Reason::Paused);
        }
        if nofailover {
            return no(Reason::NoFailover);
        }
        self.failsafe()?;
        if let Some(order) = order {
            return self.order(order);
        }
        if !seen.watchdog_usable {
            self.warn("Watchdog device is not usable");
            return no(Reason::Watchdog);
        }
        let electorate = self.electorate()?;
        let former = seen.m.old_cluster.as_ref().and_then(|c| c.leader_name());
        self.fittest_of(electorate, true, former)
    }

    /// For ttl after it has given the lock away for want of a promotion, a standby leaves it to others.
    fn backoff(&mut self) -> Check {
        let backoff = &self.seen.m.backoff;
        let lasts =
            |since: Option<Mono>| since.is_some_and(|at| self.seen.now < at + self.seen.me.timing.ttl);
        let standby = !self.seen.pg.is_primary();
        let (reason, why) = if lasts(backoff.released_at) {
            (Reason::Backoff, "after pre_promote script failure and releasing the lock voluntarily")
        } else if standby && lasts(backoff.sync_refused_at) {
            (Reason::SyncNamesNotSet, "because synchronous_standby_names could not be set")
        } else if standby && lasts(backoff.not_promoted_at) {
            (Reason::NotPromoted, "because PostgreSQL could not be asked to promote itself")
        } else {
            return Ok(());
        };
        self.log(format!("backoff: skip leader race {why}"));
        no(reason)
    }

    /// This node has given away a lock because another has led since. That one may be on its way down or up just now,
    /// and must be heard before anybody takes what it has not: for a while every member is waited for.
    fn silent_after_disowning(&self) -> Check {
        let Seen { m, me, now, .. } = *self.seen;
        let limit = Duration::from_secs(m.config.primary_start_timeout().max(0) as u64).max(me.timing.ttl);
        if self.seen.pg.is_primary() || m.lock.disowned_at.is_none_or(|at| now >= at + limit) {
            return Ok(());
        }
        let answers = self.peers(Round::Disowned, self.seen.other_members(), None)?;
        let silent =
            names(answers.peers.iter().filter(|peer| !peer.reachable).map(|peer| peer.name.as_str()));
        match silent {
            Some(silent) => yields(Reason::OtherHasLed, Some(silent), &[]),
            None => Ok(()),
        }
    }

    /// A running primary is not asked for lag or tags: only a later timeline
    /// elsewhere says that it was replaced (5.1-04).
    fn primary(&mut self) -> Check {
        let Seen { m, cluster, pg, .. } = *self.seen;
        let foreign =
            cluster.initialize.as_deref().is_some_and(|sysid| !sysid.is_empty() && sysid != pg.sysid);
        if m.config.is_paused() && foreign {
            return no(Reason::ForeignSystem);
        }
        // In a pause only who has slept through another's time as the leader is held to its timeline: he is no server that
        // people have made a primary. (The reference takes the lock: docs/safety.md, `hazards-quorum` 1085.)
        let bar = if m.config.is_paused() { m.superseded_by } else { Some(self.seen.known_timeline()) };
        let Some(known) = bar else { return Ok(()) };
        let mine = self.row()?.timeline;
        if mine < known {
            self.warn(format!("My timeline {mine} is behind last known cluster timeline {known}"));
            return behind_timeline(mine, known);
        }
        Ok(())
    }

    /// The members in `/failsafe`, if the failsafe mode is on and the key makes sense.
    fn failsafe_listed(&self) -> Option<&'a IndexMap<Value, Value>> {
        match &self.seen.m.failsafe.members {
            Some(Value::Map(map)) if self.seen.m.config.failsafe_mode() => Some(map),
            _ => None,
        }
    }

    /// A primary that goes on without the DCS asks those that `/failsafe` names for their consent, and is one of them. A
    /// node that is missing there may be meant to lead by an operator, or have more WAL than all others: it waits until
    /// each of them answers, and none is a primary. (The reference has it wait forever, but not at all for a
    /// switchover, which makes two primaries: docs/safety.md S8.)
    fn failsafe(&self) -> Check {
        let me = Value::from(self.seen.me.name.as_str());
        let Some(listed) = self.failsafe_listed().filter(|map| !map.is_empty() && !map.contains_key(&me))
        else {
            return Ok(());
        };
        let members = listed.iter().map(|(name, url)| member_at(&name.py_str(), url)).collect();
        let answers = self.peers(Round::Failsafe, members, None)?;
        if answers.peers.iter().all(|peer| peer.reachable && peer.in_recovery == Some(true)) {
            return Ok(());
        }
        no(Reason::NotInFailsafe)
    }

    /// Everybody who may know better; or why this node may not race at all (5.1-09, 5.1-10).
    fn electorate(&self) -> Check<Vec<Member>> {
        let Seen { m, cluster, me, .. } = *self.seen;
        let mut known: IndexMap<String, Member> = IndexMap::new();
        let mut add = |m: &Member| {
            known.insert(m.name.clone(), m.clone());
        };
        if let Some(old) = &m.old_cluster {
            old.members.iter().for_each(&mut add);
        }
        for (name, url) in self.failsafe_listed().into_iter().flatten() {
            add(&member_at(&name.py_str(), url));
        }
        cluster.members.iter().for_each(&mut add);
        if !self.seen.sync_is_active() {
            return Ok(known.into_values().collect());
        }
        // A former primary that has no vote, and was not compared with the leader that it missed, may be on a timeline of
        // its own which has the leader's number. (In the reference it races: docs/safety.md, `hazards-quorum` 2385.)
        let may_win_outside = self.seen.is_quorum_mode() && !m.rewind.state.is_needed();
        if !may_win_outside && !cluster.sync.matches(&me.name, true) {
            return no(Reason::NotSynchronous);
        }
        Ok(known.into_values().filter(|m| cluster.sync.matches(&m.name, true)).collect())
    }

    /// Is nobody in `members` fitter than this node? (5.2)
    fn fittest_of(&mut self, members: Vec<Member>, check_lag: bool, former: Option<&str>) -> Check {
        let Seen { m, cluster, me, .. } = *self.seen;
        let known_timeline = self.seen.known_timeline();
        let my_timeline = self.own_timeline(known_timeline)?;
        let position = self.row()?.wal_position;
        if check_lag && position < self.seen.least_position() {
            self.log("My wal position exceeds maximum replication lag");
            let published = self.seen.known_position();
            let facts = [("position", position.into()), ("published", published.into())];
            return yields(Reason::Lagging, None, &facts);
        }
        if let Some((heard, name)) = self.seen.heard_ahead(position) {
            self.log(format!("Wal position of {name} was ahead of my wal position since the DCS went back"));
            let facts = [("position", position.into()), ("peer_position", heard.into())];
            return yields(Reason::PeerAhead, Some(name), &facts);
        }
        let by_timeline = !m.config.is_standby_cluster() && m.config.check_timeline();
        if by_timeline {
            let Some(mine) = my_timeline else {
                self.log("Can not figure out my timeline");
                return no(Reason::UnknownTimeline);
            };
            if mine < known_timeline {
                self.log(format!(
                    "My timeline {mine} is behind last known cluster timeline {known_timeline}"
                ));
                return behind_timeline(mine, known_timeline);
            }
        }
        let (sync_is_active, votes_bind) = (self.seen.sync_is_active(), self.seen.votes_are_binding());
        let bar = LeadCriteria {
            position,
            tolerated: cluster.sync.leader.clone().filter(|_| sync_is_active),
            least_timeline: if by_timeline { known_timeline } else { 0 },
            timeline: my_timeline.filter(|_| votes_bind).unwrap_or(0),
        };
        self.heard_enough_since_setback(&bar)?;
        let voters: HashSet<String> = if votes_bind {
            cluster.sync.members().iter().map(|n| n.to_lowercase()).collect()
        } else {
            HashSet::new()
        };
        let asked = members
            .into_iter()
            .filter(|m| m.name != me.name && m.api_url().is_some())
            .filter(|m| !m.nofailover() || voters.contains(&m.name.to_lowercase()))
            .collect();
        let answers = self.peers(Round::Rivals, asked, Some(StopPolling::Outranked(bar.clone())))?;
        let sync_leader = cluster.sync.leader.as_deref();
        let claim = Claim {
            name: &me.name,
            priority: me.tags.failover_priority(),
            bar: &bar,
            former: if sync_is_active { sync_leader } else { former },
            election: votes_bind.then_some(Election {
                voters: &voters,
                quorum: cluster.sync.quorum,
                names_us: sync_leader == Some(me.name.as_str()),
            }),
        };
        let count = claim.judge(&answers.peers);
        self.lines.extend(count.lines);
        self.ahead.extend(count.ahead.into_iter().cloned());
        count.lost.map_or(Ok(()), |lost| Err(Decision::Yield(lost)))
    }

    /// Those that `/sync` named before the DCS went back are waited for, while synchronous replication promises that
    /// nothing is lost, as long as too few of them say that they have no more than this node. The `/sync` that came back
    /// may name it although others have had the last word since.
    fn heard_enough_since_setback(&mut self, bar: &LeadCriteria) -> Check {
        let before =
            self.seen.promised_before_setback().map(|mark| &mark.sync).filter(|sync| !sync.is_empty());
        let Some(before) = before else { return Ok(()) };
        let me = &self.seen.me.name;
        let mut votes: i64 = if before.matches(me, true) { 0 } else { -1 };
        if votes >= before.quorum {
            return Ok(());
        }
        let members =
            self.seen.other_members().into_iter().filter(|m| before.matches(&m.name, true)).collect();
        for peer in &self.peers(Round::BeforeSetback, members, None)?.peers {
            if peer.limitation().is_some() {
                continue;
            }
            if bar.is_ahead(peer) {
                self.ahead.push(peer.clone());
            } else if peer.in_recovery == Some(true) {
                votes += 1;
            }
        }
        if votes >= before.quorum {
            return Ok(());
        }
        let others = before.members().into_iter().filter(|name| !name.eq_ignore_ascii_case(me));
        let names = others.collect::<Vec<_>>().join(",");
        self.log(format!(
            "Before the DCS went back /sync named {names}, and too few of them have been heard"
        ));
        yields(Reason::OtherHasLed, Some(names), &[])
    }

    fn own_timeline(&self, cluster: u32) -> Check<Option<u32>> {
        match self.heard.own_timeline {
            Some(OwnTimeline::On(timeline)) => Ok(Some(timeline)),
            Some(OwnTimeline::Unknown) => Ok(None),
            None => Err(Decision::Ask(Question::OwnTimeline { cluster })),
        }
    }

    fn peers(&self, round: Round, members: Vec<Member>, decisive: Option<StopPolling>) -> Check<&'a Answers> {
        let heard = self.heard.rounds.iter().find(|answers| answers.round == round);
        heard.ok_or(Decision::Ask(Question::Peers { round, members, decisive }))
    }

    fn row(&self) -> Check<&'a PgStatus> {
        self.seen.pg.row().ok_or(Decision::NotKnown)
    }

    fn log(&mut self, text: impl Into<String>) {
        self.lines.push(LogLine { level: Level::Info, text: text.into() });
    }

    fn warn(&mut self, text: impl Into<String>) {
        self.lines.push(LogLine { level: Level::Warning, text: text.into() });
    }
}

/// With commas between; None: there are none.
fn names<'n>(names: impl Iterator<Item = &'n str>) -> Option<String> {
    Some(names.collect::<Vec<_>>().join(",")).filter(|names| !names.is_empty())
}

fn no<T>(reason: Reason) -> Check<T> {
    yields(reason, None, &[])
}

fn yields<T>(reason: Reason, waits_for: Option<String>, facts: &[(&'static str, Value)]) -> Check<T> {
    Err(Decision::Yield(HeldBack { reason, waits_for, facts: facts.to_vec() }))
}

fn behind_timeline(mine: u32, known: u32) -> Check {
    yields(Reason::BehindTimeline, None, &[("timeline", mine.into()), ("known_timeline", known.into())])
}
