//! Who may take the leader lock (surface-ha-pg 5).

use std::collections::HashSet;
use std::time::Duration;

use indexmap::IndexMap;
use pyfmt::Value;

use super::ask;
use super::cycle::Cycle;
use super::failsafe::member_at;
use super::held_back::Reason;
use super::script::Step;
use super::types::*;
use super::verdict::{Election, Race};
use crate::model::{Lsn, Member};

impl Cycle<'_> {
    /// Is this node fit to take the lock? The checks are in the contract's order (5.1).
    pub(super) fn is_healthiest(&mut self) -> Step<bool> {
        if self.backing_off() {
            self.log(
                "backoff: skip leader race after pre_promote script failure and releasing the lock voluntarily",
            );
            return self.no(Reason::Backoff);
        }
        if self.m.backoff.sync_refused_at.is_some_and(|at| self.io.now() < at + self.v.me.timing.ttl)
            && !self.pg.is_primary()
        {
            self.log("backoff: skip leader race because synchronous_standby_names could not be set");
            return self.no(Reason::SyncNamesNotSet);
        }
        if self.m.backoff.not_promoted_at.is_some_and(|at| self.io.now() < at + self.v.me.timing.ttl)
            && !self.pg.is_primary()
        {
            self.log("backoff: skip leader race because PostgreSQL could not be asked to promote itself");
            return self.no(Reason::NotPromoted);
        }
        if let Some(silent) = self.silent_after_disowning()? {
            self.held_back(Reason::OtherHasLed, Some(&silent), &[]);
            return Ok(false);
        }
        let unscheduled = self.cluster.failover.as_ref().is_some_and(|f| f.scheduled_at.is_none());
        if self.is_paused() && !self.v.me.tags.nofailover() && unscheduled {
            if let Some(answer) = self.manual_failover_without_leader()? {
                return Ok(answer);
            }
        }
        if self.pg.state.is_starting() {
            return self.no(Reason::Starting);
        }
        if self.pg.is_primary() {
            return self.primary_may_take_lock();
        }
        if self.is_paused() {
            return self.no(Reason::Paused);
        }
        if self.v.me.tags.nofailover() {
            return self.no(Reason::NoFailover);
        }
        if self.failsafe_forbids()? {
            return self.no(Reason::NotInFailsafe);
        }
        if let Some(failover) = self.cluster.failover.clone() {
            let sync_denies = failover.leader.is_some()
                && self.sync_is_active()
                && !self.cluster.sync.matches(self.name(), true);
            if sync_denies {
                return self.no(Reason::NotSynchronous);
            }
            return Ok(self.manual_failover_without_leader()?.unwrap_or(false));
        }
        if !self.v.watchdog.healthy {
            self.warn("Watchdog device is not usable");
            return self.no(Reason::Watchdog);
        }
        let electorate = match self.electorate() {
            Ok(electorate) => electorate,
            Err(reason) => return self.no(reason),
        };
        let former = self.m.old_cluster.as_ref().and_then(|c| c.leader_name().map(str::to_owned));
        self.is_healthiest_of(electorate, true, former)
    }

    /// This node has given away a lock because another has led since. That one may be on its way down or up just now,
    /// and must be heard before anybody takes what it has not: for a while every member is waited for. The silent ones.
    fn silent_after_disowning(&mut self) -> Step<Option<String>> {
        let limit = Duration::from_secs(self.m.config.primary_start_timeout().max(0) as u64)
            .max(self.v.me.timing.ttl);
        if self.pg.is_primary() || self.m.lock.disowned_at.is_none_or(|at| self.io.now() >= at + limit) {
            return Ok(None);
        }
        let members = self.other_members();
        let silent: Vec<String> =
            self.ask_peers(members)?.into_iter().filter(|p| !p.reachable).map(|p| p.name).collect();
        Ok(Some(silent.join(",")).filter(|silent| !silent.is_empty()))
    }

    /// All that can be asked.
    pub(super) fn other_members(&self) -> Vec<Member> {
        let others = self.cluster.members.iter().filter(|m| m.name != self.name() && m.api_url().is_some());
        others.cloned().collect()
    }

    fn backing_off(&self) -> bool {
        self.m.backoff.released_at.is_some_and(|at| self.io.now() < at + self.v.me.timing.ttl)
    }

    /// A running primary is not asked for lag or tags: only a later timeline
    /// elsewhere says that it was replaced (5.1-04).
    fn primary_may_take_lock(&mut self) -> Step<bool> {
        if self.is_paused() {
            let known = self.cluster.initialize.as_deref();
            if known.is_some_and(|i| !i.is_empty() && i != self.pg.sysid) {
                return self.no(Reason::ForeignSystem);
            }
        }
        // In a pause only who has slept through another's time as the leader is held to its timeline: he is no server that
        // people have made a primary. (The reference takes the lock: docs/safety.md, `hazards-quorum` 1085.)
        let bar = if self.is_paused() { self.m.superseded_by } else { Some(self.known_timeline()) };
        let Some(known) = bar else { return Ok(true) };
        let mine = self.row()?.timeline;
        if mine < known {
            self.warn(format!("My timeline {mine} is behind last known cluster timeline {known}"));
            return self.behind_timeline(mine, known);
        }
        Ok(true)
    }

    /// The members in `/failsafe`, if the failsafe mode is on and the key makes sense.
    fn failsafe_listed(&self) -> Option<&IndexMap<Value, Value>> {
        match &self.m.failsafe.members {
            Some(Value::Map(map)) if self.is_failsafe_mode() => Some(map),
            _ => None,
        }
    }

    /// A primary that goes on without the DCS asks those that `/failsafe` names for their consent, and is one of them. A
    /// node that is missing there may be meant to lead by an operator, or have more WAL than all others: it waits until
    /// each of them answers, and none is a primary. (The reference has it wait forever, but not at all for a
    /// switchover, which makes two primaries: docs/safety.md S8.)
    fn failsafe_forbids(&mut self) -> Step<bool> {
        let me = Value::from(self.name());
        let Some(listed) = self.failsafe_listed().filter(|map| !map.is_empty() && !map.contains_key(&me))
        else {
            return Ok(false);
        };
        let members = listed.iter().map(|(name, url)| member_at(&name.py_str(), url)).collect();
        let peers = self.ask_peers(members)?;
        Ok(!peers.iter().all(|peer| peer.reachable && peer.in_recovery == Some(true)))
    }

    fn behind_timeline(&mut self, mine: u32, known: u32) -> Step<bool> {
        let facts = [("timeline", mine.into()), ("known_timeline", known.into())];
        self.held_back(Reason::BehindTimeline, None, &facts);
        Ok(false)
    }

    /// Everybody who may know better; or why this node may not race at all (5.1-09, 5.1-10).
    fn electorate(&self) -> Result<Vec<Member>, Reason> {
        let mut known: IndexMap<String, Member> = IndexMap::new();
        let mut add = |m: &Member| {
            known.insert(m.name.clone(), m.clone());
        };
        if let Some(old) = &self.m.old_cluster {
            old.members.iter().for_each(&mut add);
        }
        for (name, url) in self.failsafe_listed().into_iter().flatten() {
            add(&member_at(&name.py_str(), url));
        }
        self.cluster.members.iter().for_each(&mut add);
        let sync = &self.cluster.sync;
        if !self.sync_is_active() {
            return Ok(known.into_values().collect());
        }
        // A former primary that has no vote, and was not compared with the leader that it missed, may be on a timeline of
        // its own which has the leader's number. (In the reference it races: docs/safety.md, `hazards-quorum` 2385.)
        let may_win_outside = self.is_quorum_mode() && !self.m.rewind.state.is_needed();
        if !may_win_outside && !sync.matches(self.name(), true) {
            return Err(Reason::NotSynchronous);
        }
        Ok(known.into_values().filter(|m| sync.matches(&m.name, true)).collect())
    }

    /// Is nobody in `members` fitter than this node? (5.2)
    pub(super) fn is_healthiest_of(
        &mut self,
        members: Vec<Member>,
        check_lag: bool,
        former_leader: Option<String>,
    ) -> Step<bool> {
        let known_timeline = self.known_timeline();
        let my_timeline = self.io.ask(ask::ReplicaTimeline { leader: Some(known_timeline) })?;
        if my_timeline.is_some() {
            self.m.own.on(my_timeline);
        }
        let position = self.last_operation()?;
        if check_lag && self.is_lagging(position) {
            self.log("My wal position exceeds maximum replication lag");
            let published = self.known_position();
            self.held_back(
                Reason::Lagging,
                None,
                &[("position", position.into()), ("published", published.into())],
            );
            return Ok(false);
        }
        if let Some((heard, name)) = self.heard_ahead(position) {
            self.log(format!("Wal position of {name} was ahead of my wal position since the DCS went back"));
            let facts = [("position", position.into()), ("peer_position", heard.into())];
            self.held_back(Reason::PeerAhead, Some(&name), &facts);
            return Ok(false);
        }
        let by_timeline = !self.is_standby_cluster() && self.check_timeline();
        if by_timeline {
            let Some(mine) = my_timeline else {
                self.log("Can not figure out my timeline");
                return self.no(Reason::UnknownTimeline);
            };
            if mine < known_timeline {
                self.log(format!(
                    "My timeline {mine} is behind last known cluster timeline {known_timeline}"
                ));
                return self.behind_timeline(mine, known_timeline);
            }
        }
        let voters: HashSet<String> = if self.votes_are_binding() {
            self.cluster.sync.members().iter().map(|n| n.to_lowercase()).collect()
        } else {
            HashSet::new()
        };
        let asked = members
            .into_iter()
            .filter(|m| m.name != self.name() && m.api_url().is_some())
            .filter(|m| !m.nofailover() || voters.contains(&m.name.to_lowercase()))
            .collect();
        let tolerated = self.cluster.sync.leader.clone().filter(|_| self.sync_is_active());
        let least_timeline = if by_timeline { known_timeline } else { 0 };
        let timeline = my_timeline.filter(|_| self.votes_are_binding()).unwrap_or(0);
        let decisive = LeadCriteria { position, tolerated, least_timeline, timeline };
        if let Some(names) = self.had_a_say(&decisive)? {
            self.log(format!(
                "Before the DCS went back /sync named {names}, and too few of them have been heard"
            ));
            self.held_back(Reason::OtherHasLed, Some(&names), &[]);
            return Ok(false);
        }
        let peers = self.poll(asked, Some(StopPolling::Outranked(decisive.clone())))?;
        let sync_leader = self.cluster.sync.leader.as_deref();
        let race = Race {
            name: self.name(),
            priority: self.v.me.tags.failover_priority(),
            bar: &decisive,
            former: if self.sync_is_active() { sync_leader } else { former_leader.as_deref() },
            election: self.votes_are_binding().then_some(Election {
                voters: &voters,
                quorum: self.cluster.sync.quorum,
                names_us: sync_leader == Some(self.name()),
            }),
        };
        let verdict = race.judge(&peers);
        self.io.lines.extend(verdict.lines);
        for peer in verdict.ahead {
            self.note_ahead(peer);
        }
        let wins = verdict.lost.is_none();
        self.held_back = verdict.lost.or(self.held_back.take());
        Ok(wins)
    }

    pub(super) fn ask_peers(&mut self, members: Vec<Member>) -> Step<Vec<PeerStatus>> {
        self.poll(members, None)
    }

    /// The peers' answers; a round may end before all have answered.
    pub(super) fn poll(
        &mut self,
        members: Vec<Member>,
        decisive: Option<StopPolling>,
    ) -> Step<Vec<PeerStatus>> {
        if members.is_empty() {
            return Ok(Vec::new());
        }
        self.io.ask(ask::Peers { members, decisive })
    }

    /// Further behind the last published position than `maximum_lag_on_failover`?
    pub(super) fn is_lagging(&self, position: Lsn) -> bool {
        position < self.least_position()
    }

    /// The least position that does not lag.
    pub(super) fn least_position(&self) -> Lsn {
        self.known_position().minus(self.m.config.maximum_lag_on_failover())
    }
}
