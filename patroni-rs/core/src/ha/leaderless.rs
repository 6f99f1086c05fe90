//! The cluster has no leader (surface-ha-pg 4H).

use std::time::Duration;

use super::ask;
use super::cycle::Cycle;
use super::held_back::Reason;
use super::race::{self, Decision, Heard, Question};
use super::script::{Halt, Step};
use super::seen::Seen;
use super::types::DemoteMode;

/// How long a node that must not win gives others to take the lock (surface-ha-pg 6-11).
pub(super) const RACE_BACKOFF: Duration = Duration::from_secs(2);

impl Cycle<'_> {
    /// A cycle without a leader.
    pub(super) fn without_leader(&mut self) -> Step<String> {
        if !self.may_take_lock()? {
            return self.lose_race();
        }
        self.still_fresh()?;
        if !self.acquire_lock()? {
            let line = self.follow(
                "demoted self after trying and failing to obtain lock",
                "following new leader after trying and failing to obtain lock",
                true,
            )?;
            let winner = self.cluster.leader_name().map(str::to_owned);
            self.held_back(Reason::LostRace, winner.as_deref(), &[]);
            return Ok(line);
        }
        let writes = self.pg.is_primary();
        // In a pause nobody else is promoted, so that a primary may have the lock.
        let fresh = if writes && self.is_paused() { Ok(()) } else { self.still_fresh() };
        if let Err(stale) = fresh {
            // A demotion gives the lock up on the proof that nothing writes any more.
            if writes {
                self.demote(DemoteMode::Immediate)?;
            } else {
                self.release_leader_key(None)?;
            }
            return Err(stale);
        }
        self.clear_failover_after_win()?;
        self.load_cluster()?;
        if self.is_standby_cluster() {
            return self
                .follow_remote("promoted self to a standby leader by acquiring session lock".to_owned());
        }
        self.enforce_primary(
            "acquired session lock as a leader".into(),
            "promoted self to leader by acquiring session lock",
        )
    }

    /// Asks what the race wants to know until it has a verdict, and remembers what that is to leave.
    fn may_take_lock(&mut self) -> Step<bool> {
        let begun = self.io.now();
        let (mut heard, mut said) = (Heard::default(), 0);
        for _ in 0..=race::QUESTIONS {
            let verdict = race::verdict(&Seen { now: begun, ..self.seen() }, &heard);
            let lines = verdict.lines.len();
            self.io.lines.extend(verdict.lines.into_iter().skip(said));
            said = lines;
            let decided = match verdict.decision {
                Decision::Ask(question) => {
                    self.ask_for_race(question, &mut heard)?;
                    continue;
                }
                Decision::Take => Ok(true),
                Decision::Yield(held_back) => {
                    self.held_back = Some(held_back);
                    Ok(false)
                }
                Decision::NotKnown => Err(Halt::Pg),
            };
            // Not before: all of a race is judged by the same memory.
            verdict.ahead.iter().for_each(|peer| self.note_ahead(peer));
            if verdict.candidate_waited_for.is_some() {
                self.m.candidate_waited_for = verdict.candidate_waited_for;
            }
            return decided;
        }
        Err(Halt::Bug("the leader race asks without end".into()))
    }

    fn ask_for_race(&mut self, question: Question, heard: &mut Heard) -> Step<()> {
        match question {
            Question::OwnTimeline { cluster } => {
                let timeline = self.io.ask(ask::ReplicaTimeline { leader: Some(cluster) })?;
                if timeline.is_some() {
                    self.m.own.on(timeline);
                }
                heard.own_timeline(timeline);
            }
            Question::Peers { round, members, decisive } => {
                let peers = self.poll(members, decisive)?;
                heard.peers(round, peers, self.io.now());
            }
            Question::Successors { without_candidate } => {
                heard.successors(self.failover_possible(None, without_candidate)?);
            }
            Question::RemoveOrder => {
                self.clear_failover()?;
                heard.order_removed();
            }
        }
        Ok(())
    }

    /// A cycle that has stood still (a frozen process, a hung disk) must not take the lock by what it saw before: others
    /// may have led, and been gone again, in between. (The reference does: docs/safety.md S9.)
    fn still_fresh(&mut self) -> Step<()> {
        let age = self.io.now().since(self.v.now);
        if age <= self.v.me.timing.allowance() {
            return Ok(());
        }
        self.warn(format!("This cycle began {} s ago, too long to take the leader lock", age.as_secs()));
        Err(Halt::Stale)
    }

    fn acquire_lock(&mut self) -> Step<bool> {
        let won = self.io.ask(ask::AcquireLeader)??;
        if won {
            self.m.lock.acquired();
            self.lease_held();
        } else {
            self.drop_lease()?;
        }
        Ok(won)
    }

    /// In pause a leader and a candidate in the key mean that the candidate is
    /// still to take over (surface-ha-pg 4H-05).
    fn clear_failover_after_win(&mut self) -> Step<()> {
        let Some(failover) = self.cluster.failover.clone() else { return Ok(()) };
        let keep = self.is_paused() && failover.leader.is_some() && failover.candidate.is_some();
        let request = if keep {
            self.log("Updating failover key after acquiring leader lock...");
            ask::WriteFailover {
                candidate: failover.candidate.clone(),
                scheduled_at: failover.scheduled_at.as_ref().map(|s| s.text.clone()),
                version: Some(failover.version.clone()),
            }
        } else {
            self.log("Cleaning up failover key after acquiring leader lock...");
            ask::WriteFailover { candidate: None, scheduled_at: None, version: None }
        };
        self.io.ask(request)?;
        Ok(())
    }

    fn lose_race(&mut self) -> Step<String> {
        let nofailover = self.v.me.tags.nofailover();
        // A manual failover need not choose the node that is furthest ahead, and
        // a nofailover node may be ahead of the node that wins.
        if self.failover_candidate().is_some() || (nofailover && !self.is_paused()) {
            self.arm_rewind_check()?;
            self.io.ask(ask::YieldRace(RACE_BACKOFF))?;
        }
        if nofailover {
            return self.follow(
                "demoting self because I am not allowed to become primary",
                "following a different leader because I am not allowed to promote",
                true,
            );
        }
        self.follow(
            "demoting self because i am not the healthiest node",
            "following a different leader because i am not the healthiest node",
            true,
        )
    }
}
