//! Quorum commit: the steps that lead from any state of
//! `synchronous_standby_names` and the `/sync` key to the wanted one
//! (surface-ha-pg 21).
//!
//! Both places say "n of set". A commit is acknowledged by the primary and any
//! `numsync` of `sync`; a promotion looks at all but `quorum` of `voters`. No
//! acknowledged commit is lost while every two such subsets meet. So what
//! makes them larger is done first, and what makes them smaller last, and each
//! intermediate state is checked.

use std::fmt;

use crate::sync::NameSet;

/// The state to start from, and where to go.
#[derive(Debug, Clone, PartialEq)]
pub struct QuorumState {
    /// The leader by the `/sync` key.
    pub leader: String,
    /// `quorum` of the `/sync` key.
    pub quorum: i64,
    /// `sync_standby` of the `/sync` key.
    pub voters: NameSet,
    /// The number in `synchronous_standby_names`.
    pub numsync: i64,
    /// The names in `synchronous_standby_names`.
    pub sync: NameSet,
    /// How many of them are known to have caught up since they were named.
    pub numsync_confirmed: i64,
    /// Standbys that stream and may be synchronous.
    pub active: NameSet,
    /// `synchronous_node_count`.
    pub sync_wanted: i64,
    /// Who leads now; not [`Self::leader`] after a failover.
    pub leader_wanted: String,
}

/// Where a transition is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// In `synchronous_standby_names`.
    Sync,
    /// In the `/sync` key.
    Quorum,
    /// Nowhere: look at PostgreSQL again soon, and resolve anew.
    Restart,
}

/// One step; the fields are the new state.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    /// Where.
    pub target: Target,
    /// The leader for the `/sync` key.
    pub leader: String,
    /// `numsync` or `quorum`.
    pub num: i64,
    /// `sync` or `voters`.
    pub names: NameSet,
}

/// A state that would lose commits, or that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuorumError {
    /// Two majorities without a common node.
    #[error("Quorum and sync not guaranteed to overlap: nodes {nodes} >= quorum {quorum} + sync {sync} + 1")]
    #[allow(missing_docs)]
    NoOverlap { nodes: usize, quorum: i64, sync: String },
    /// Neither set contains the other.
    #[error("Mismatched sets: voter only={0} sync only={1}")]
    Mismatch(String, String),
    /// The quorum is negative or as large as the set.
    #[error("Quorum {0} {1} of ({2})")]
    BadQuorum(i64, Bound, String),
    /// The number is negative or larger than the set.
    #[error("Sync {0} {1} of ({2})")]
    BadSync(i64, Bound, String),
    /// A step did not arrive where it should have; nothing can be done from here.
    #[error("quorum state {0} can not be resolved")]
    Stuck(&'static str),
}

/// Which bound a number breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Bound {
    Negative,
    NotBelowSize,
    AboveSize,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Negative => "< 0",
            Bound::NotBelowSize => ">= N",
            Bound::AboveSize => "> N",
        })
    }
}

/// What [`resolve`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolution {
    /// The state was broken in this way: to be logged as a warning.
    pub broken: Option<QuorumError>,
    /// The steps in their order, or why there is no safe way.
    pub transitions: Result<Vec<Transition>, QuorumError>,
}

/// The steps from `state` to sync = voters = active with the wanted number.
///
/// Consecutive steps at the same place are one: nobody can have seen the state
/// between them. Nothing follows [`Target::Restart`].
pub fn resolve(state: QuorumState) -> Resolution {
    let mut resolver = Resolver::new(state);
    let mut broken = None;
    let outcome = resolver.run(&mut broken);
    Resolution { broken, transitions: outcome.map(|()| merge(resolver.steps)) }
}

fn merge(steps: Vec<Transition>) -> Vec<Transition> {
    let mut merged: Vec<Transition> = Vec::with_capacity(steps.len());
    for step in steps {
        match merged.last_mut() {
            Some(last) if last.target == step.target => *last = step,
            Some(last) if last.target == Target::Restart => break,
            _ => merged.push(step),
        }
    }
    merged
}

type Outcome = Result<(), QuorumError>;

/// How the quorum reacts to nodes that have not caught up yet.
#[derive(Clone, Copy, PartialEq)]
enum Margin {
    /// As given.
    Exact,
    /// Larger by the number of unconfirmed nodes, so that a race still finds a synchronous one.
    Unconfirmed,
}

impl Margin {
    fn unconfirmed_if(condition: bool) -> Margin {
        if condition {
            Margin::Unconfirmed
        } else {
            Margin::Exact
        }
    }
}

struct Resolver {
    s: QuorumState,
    steps: Vec<Transition>,
}

fn count(set: &NameSet) -> i64 {
    i64::try_from(set.len()).unwrap_or(i64::MAX)
}

fn one(name: &str) -> NameSet {
    [name].into_iter().collect()
}

impl Resolver {
    fn new(mut s: QuorumState) -> Resolver {
        // "3 (a, b)" can not be meant; PostgreSQL takes it for all.
        s.numsync = s.numsync.min(count(&s.sync));
        Resolver { s, steps: Vec::new() }
    }

    fn run(&mut self, broken: &mut Option<QuorumError>) -> Outcome {
        match self.adopt_leader() {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(error) => {
                *broken = Some(error);
                self.set_quorum(
                    count(&self.s.sync) - self.s.numsync,
                    self.s.sync.clone(),
                    Margin::Unconfirmed,
                )?;
            }
        }
        if self.s.leader != self.s.leader_wanted {
            return Err(QuorumError::Stuck("of the former leader"));
        }
        let alive = count(&self.s.sync.intersection(&self.s.active));
        // Not known after a restart or failover, but then the key tells how many were enough.
        if self.s.numsync_confirmed == 0 && alive > 0 {
            self.s.numsync_confirmed = alive.min(count(&self.s.voters) - self.s.quorum);
        }
        self.finish_interrupted()?;
        self.remove_gone()?;
        self.add_new()?;
        self.change_factor()
    }

    /// After a failover the old leader becomes a voter. `false`: wait for the
    /// standbys to connect before they are taken for gone.
    fn adopt_leader(&mut self) -> Result<bool, QuorumError> {
        if self.s.leader == self.s.leader_wanted {
            return self.check().map(|()| true);
        }
        let voters = self.s.voters.difference(&one(&self.s.leader_wanted)).union(&one(&self.s.leader));
        if self.s.sync.is_empty() {
            self.set_sync(count(&voters) - self.s.quorum, voters.clone())?;
        }
        self.set_quorum_and_leader(self.s.quorum, voters, self.s.leader_wanted.clone())?;
        Ok(!self.s.sync.intersection(&self.s.active).is_empty())
    }

    /// Brings voters and sync together, where an earlier run stopped between its steps.
    fn finish_interrupted(&mut self) -> Outcome {
        if self.s.sync.is_strict_subset(&self.s.voters) {
            self.settle_voters()?;
        } else if self.s.voters.is_strict_subset(&self.s.sync) {
            self.settle_sync()?;
        }
        if self.s.voters != self.s.sync {
            return Err(QuorumError::Stuck("with different sets"));
        }
        let nodes = count(&self.s.voters);
        let margin = self.s.quorum + self.s.numsync.min(self.s.numsync_confirmed) - nodes;
        if margin > 0 {
            if self.s.numsync > self.s.sync_wanted {
                return self.set_sync(self.s.sync_wanted.max(nodes - self.s.quorum), self.s.sync.clone());
            }
            return self.set_quorum(nodes - self.s.numsync, self.s.voters.clone(), Margin::Unconfirmed);
        }
        let excess = self.s.quorum + self.s.numsync - nodes;
        if self.s.numsync == self.s.sync_wanted && excess > 0 && self.s.numsync > self.s.numsync_confirmed {
            return self.set_quorum(nodes - self.s.numsync, self.s.voters.clone(), Margin::Unconfirmed);
        }
        Ok(())
    }

    /// Voters has more: dead ones leave it, living ones become synchronous.
    fn settle_voters(&mut self) -> Outcome {
        let dead = self.s.voters.difference(&self.s.sync.union(&self.s.active));
        if !dead.is_empty() {
            let all_alive = self.s.sync.is_subset(&self.s.active);
            let quorum = count(&self.s.voters) - count(&dead) - self.s.numsync;
            self.set_quorum(quorum, self.s.voters.difference(&dead), Margin::unconfirmed_if(all_alive))?;
        }
        let alive = self.s.voters.intersection(&self.s.active).difference(&self.s.sync);
        if !alive.is_empty() {
            self.set_sync(self.s.numsync, self.s.sync.union(&alive))?;
        }
        Ok(())
    }

    /// Sync has more: dead ones leave it, living ones become voters.
    fn settle_sync(&mut self) -> Outcome {
        let dead = self.s.sync.difference(&self.s.active);
        let rest = self.s.sync.difference(&dead);
        // Between the two sets a common node must remain.
        let common = self.s.voters.is_empty() || !rest.intersection(&self.s.voters).is_empty();
        if !dead.is_empty() && !rest.is_empty() && common {
            self.set_sync(self.s.numsync.min(count(&rest)), rest)?;
        }
        let unlisted = self.s.sync.difference(&self.s.voters).intersection(&self.s.active);
        if !unlisted.is_empty() {
            let voters = self.s.voters.union(&unlisted);
            self.set_quorum(count(&voters) - self.s.numsync, voters, Margin::Unconfirmed)?;
        }
        let left = self.s.sync.difference(&self.s.voters);
        if !left.is_empty() {
            let rest = self.s.sync.difference(&left);
            self.set_sync(self.s.numsync.min(count(&rest)), rest)?;
        }
        Ok(())
    }

    fn remove_gone(&mut self) -> Outcome {
        let mut gone = self.s.sync.difference(&self.s.active);
        if gone.is_empty() {
            return Ok(());
        }
        if gone == self.s.sync {
            self.set_quorum(0, NameSet::new(), Margin::Exact)?;
            return self.set_sync(0, NameSet::new());
        }
        if self.s.quorum > 0 {
            // As many as the quorum can be reduced by, the last names first.
            let reducible = usize::try_from(self.s.quorum).unwrap_or_default();
            let remove: NameSet = gone.sorted().into_iter().rev().take(reducible).collect();
            let sync = self.s.sync.difference(&remove);
            self.set_sync(self.s.sync_wanted.max(self.s.numsync).min(count(&sync)), sync)?;
            let voters = self.s.voters.difference(&remove);
            gone = gone.difference(&remove);
            let margin = Margin::unconfirmed_if(gone.is_empty());
            self.set_quorum(count(&voters) - self.s.numsync, voters, margin)?;
        }
        if gone.is_empty() {
            return Ok(());
        }
        if self.s.quorum != 0 {
            return Err(QuorumError::Stuck("with gone nodes"));
        }
        let numsync = self.s.numsync - count(&gone);
        let (sync, voters) = (self.s.sync.difference(&gone), self.s.voters.difference(&gone));
        let decrease = numsync - self.s.sync_wanted.min(count(&sync));
        let quorum = if decrease != 0 { decrease.min(count(&voters) - 1) } else { 0 };
        self.set_quorum(quorum, voters, Margin::Exact)?;
        self.set_sync(numsync, sync)
    }

    fn add_new(&mut self) -> Outcome {
        let mut new = self.s.active.difference(&self.s.sync);
        if new.is_empty() {
            return Ok(());
        }
        let wanted = self.s.sync_wanted.min(count(&self.s.sync.union(&new)));
        let increase = wanted - self.s.numsync;
        if increase > 0 {
            // Without any synchronous node yet, all can come at once.
            let (add, increase) = if self.s.sync.is_empty() {
                (new.clone(), increase)
            } else {
                let first = usize::try_from(increase).unwrap_or_default();
                let add: NameSet = new.sorted().into_iter().take(first).collect();
                let number = count(&add);
                (add, number)
            };
            self.set_sync(self.s.numsync + increase, self.s.sync.union(&add))?;
            let voters = self.s.voters.union(&add);
            self.set_quorum(count(&voters) - wanted, voters, Margin::Unconfirmed)?;
            new = new.difference(&self.s.sync);
        }
        if new.is_empty() {
            return Ok(());
        }
        let voters = self.s.voters.union(&new);
        let margin = Margin::unconfirmed_if(wanted > self.s.numsync_confirmed);
        self.set_quorum(count(&voters) - wanted, voters, margin)?;
        self.set_sync(wanted, self.s.sync.union(&new))
    }

    fn change_factor(&mut self) -> Outcome {
        let increase = self.s.sync_wanted.min(count(&self.s.sync)) - self.s.numsync;
        let (sync, voters) = (self.s.sync.clone(), self.s.voters.clone());
        if increase > 0 {
            self.set_sync(self.s.numsync + increase, sync)?;
            return self.set_quorum(count(&voters) - self.s.numsync, voters, Margin::Unconfirmed);
        }
        if increase == 0 {
            return Ok(());
        }
        if self.s.quorum - increase < count(&voters) {
            let margin = Margin::unconfirmed_if(self.s.sync_wanted > self.s.numsync_confirmed);
            self.set_quorum(count(&voters) - self.s.numsync - increase, voters, margin)?;
        }
        self.set_sync(self.s.numsync + increase, sync)
    }

    fn set_quorum_and_leader(&mut self, quorum: i64, voters: NameSet, leader: String) -> Outcome {
        check_quorum(quorum, &voters)?;
        self.s.leader = leader;
        self.put_quorum(quorum, voters)
    }

    fn set_quorum(&mut self, mut quorum: i64, mut voters: NameSet, margin: Margin) -> Outcome {
        check_quorum(quorum, &voters)?;
        if self.s.numsync_confirmed == 0 && self.s.voters.is_empty() {
            // Nobody is known to have caught up: nobody may be asked for a vote yet.
            (quorum, voters) = (0, NameSet::new());
        } else if margin == Margin::Unconfirmed {
            quorum += (self.s.numsync - self.s.numsync_confirmed).max(0);
        }
        if (quorum, &voters) == (self.s.quorum, &self.s.voters) {
            if !voters.is_empty() {
                return Ok(());
            }
            self.push(Target::Restart, quorum, voters.clone());
        }
        self.put_quorum(quorum, voters)
    }

    fn put_quorum(&mut self, quorum: i64, voters: NameSet) -> Outcome {
        self.s.quorum = quorum;
        self.s.voters = voters.clone();
        self.check()?;
        self.push(Target::Quorum, quorum, voters);
        Ok(())
    }

    fn set_sync(&mut self, numsync: i64, sync: NameSet) -> Outcome {
        let bound = if numsync < 0 {
            Some(Bound::Negative)
        } else {
            (numsync > count(&sync)).then_some(Bound::AboveSize)
        };
        if let Some(bound) = bound {
            return Err(QuorumError::BadSync(numsync, bound, sync.to_string()));
        }
        self.s.numsync = numsync;
        self.s.sync = sync.clone();
        self.check()?;
        self.push(Target::Sync, numsync, sync);
        Ok(())
    }

    fn push(&mut self, target: Target, num: i64, names: NameSet) {
        self.steps.push(Transition { target, leader: self.s.leader.clone(), num, names });
    }

    fn check(&self) -> Outcome {
        check_invariants(&self.s)
    }
}

fn check_quorum(quorum: i64, voters: &NameSet) -> Outcome {
    let bound = if quorum < 0 {
        Some(Bound::Negative)
    } else {
        (quorum > 0 && quorum >= count(voters)).then_some(Bound::NotBelowSize)
    };
    bound.map_or(Ok(()), |b| Err(QuorumError::BadQuorum(quorum, b, voters.to_string())))
}

/// Whether each set that may acknowledge a commit meets each set that may
/// promote a leader (surface-ha-pg 21-03). The leaders belong to their sets.
pub fn check_invariants(s: &QuorumState) -> Result<(), QuorumError> {
    let voters = s.voters.union(&one(&s.leader));
    let sync = s.sync.union(&one(&s.leader_wanted));
    let nodes = voters.union(&sync).len();
    if !s.voters.is_empty() && i64::try_from(nodes).unwrap_or(i64::MAX) > s.quorum + s.numsync + 1 {
        return Err(QuorumError::NoOverlap { nodes, quorum: s.quorum, sync: s.sync.to_string() });
    }
    if !voters.is_subset(&sync) && !sync.is_subset(&voters) {
        return Err(QuorumError::Mismatch(
            voters.difference(&sync).to_string(),
            sync.difference(&voters).to_string(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
