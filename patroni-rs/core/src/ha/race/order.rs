//! What an order to switch over or fail over makes of a race (surface-ha-pg 6-09, 6-10).

use super::super::failover::not_synchronous;
use super::super::held_back::Reason;
use super::super::seen::Seen;
use super::{no, yields, Check, Decision, Question, Race, Round};
use crate::model::Failover;

impl Race<'_> {
    /// In a pause the lock goes to the candidate alone. Nothing is said: it is not there.
    pub(super) fn order_in_pause(&mut self, order: &Failover) -> Check {
        let Some(candidate) = &order.candidate else { return no(Reason::Paused) };
        if *candidate == self.seen.me.name {
            return Err(Decision::Take);
        }
        let runs = self.seen.cluster.get_member(candidate, false).is_some() || !self.seen.pg.is_primary();
        if runs {
            return yields(Reason::Candidate, Some(candidate.clone()), &[]);
        }
        let action = order.action();
        self.warn(format!("{action}: removing failover key because failover candidate is not running"));
        if self.heard.order_removed {
            return Ok(());
        }
        Err(Decision::Ask(Question::RemoveOrder))
    }

    /// Outside of a pause it decides who races with whom.
    pub(super) fn order(&mut self, order: &Failover) -> Check {
        let Seen { me, cluster, m, .. } = *self.seen;
        let sync_is_active = self.seen.sync_is_active();
        let is_synchronous = cluster.sync.matches(&me.name, true);
        if order.is_switchover() && sync_is_active && !is_synchronous {
            return no(Reason::NotSynchronous);
        }
        if let Some(candidate) = &order.candidate {
            if *candidate == me.name {
                return Ok(());
            }
            let outsider = m.config.is_synchronous_mode() && !self.seen.is_quorum_mode() && !is_synchronous;
            if outsider {
                return no(Reason::NotSynchronous);
            }
            if let Some(name) = self.candidate_may_lead(order, candidate)? {
                self.log(format!("{}: to {name}, i am {}", order.action(), me.name));
                return yields(Reason::Candidate, Some(name), &[]);
            }
        }
        if order.leader.as_deref() == Some(me.name.as_str()) {
            // The former leader takes back only what nobody else can take.
            let without_candidate = order.candidate.is_some();
            let ask = Decision::Ask(Question::Successors { without_candidate });
            let others = self.heard.successors.ok_or(ask)?;
            return if others { no(Reason::OthersCanLead) } else { Ok(()) };
        }
        let rivals = cluster
            .members
            .iter()
            .filter(|m| order.leader.as_deref() != Some(&m.name))
            .filter(|m| !sync_is_active || cluster.sync.matches(&m.name, false))
            .cloned()
            .collect();
        // Nor may a switchover cost more than any other change of leaders. (The reference does not look at the lag here.)
        self.fittest_of(rivals, order.is_switchover(), None)
    }

    /// Does everybody else leave the lock to the candidate? None: it cannot take it, which is said, or does not.
    fn candidate_may_lead(&mut self, order: &Failover, candidate: &str) -> Check<Option<String>> {
        let Seen { cluster, m, me, .. } = *self.seen;
        let action = order.action();
        let Some(member) = cluster.get_member(candidate, false).cloned() else { return Ok(None) };
        // A switchover leads to a member of /sync alone, and nobody gets into it while nobody leads. (In the reference all
        // others wait for it until somebody removes the order: docs/safety.md S16.)
        if order.is_switchover() && self.seen.sync_is_active() && !cluster.sync.matches(candidate, true) {
            self.warn(not_synchronous(action, candidate, &cluster.sync));
            return Ok(None);
        }
        let answers = self.peers(Round::Candidate, vec![member], None)?;
        let Some(peer) = answers.peers.first() else { return Ok(None) };
        let name = &peer.name;
        if let Some(why) = peer.limitation() {
            self.warn(format!("{action}: member {name} is {why}"));
            return Ok(None);
        }
        // Whatever keeps it from the lock: a cluster is not without a leader for an order's sake.
        let (now, patience) = (answers.at, me.timing.ttl);
        let since = match &m.candidate_waited_for {
            Some((waited_for, since)) if waited_for == name => *since,
            _ => now,
        };
        self.candidate_waited_for = Some((name.clone(), since));
        if now.since(since) >= patience {
            self.warn(format!(
                "{action}: member {name} has not taken the leader lock for {} s",
                patience.as_secs()
            ));
            return Ok(None);
        }
        Ok(Some(name.clone()))
    }
}
