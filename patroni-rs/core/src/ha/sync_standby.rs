//! Synchronous replication: the `/sync` key and `synchronous_standby_names`
//! never promise more than the other keeps (surface-ha-pg 20, 21).

use std::time::Duration;

mod plan;

use self::plan::{Assignment, Correction, Picked, PriorityPlan};
use super::ask;
use super::cycle::Cycle;
use super::request::{SyncNames, SyncNamesSet};
use super::script::{Level, Step};
use crate::model::SyncState;
use crate::quorum::{self, QuorumState, Target};
use crate::sync::{CurrentState, NameSet};

/// How long PostgreSQL gets to make newly named standbys synchronous within a cycle.
const ASSIGN_WAIT: Duration = Duration::from_secs(2);
/// How long newly named standbys of a quorum get before the next look.
const QUORUM_WAIT: Duration = Duration::from_secs(1);

/// What a standby is like that is to be promoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Prepared {
    /// Its commits will be acknowledged as `/sync` promises.
    Ready,
    /// Somebody else wrote `/sync`, so the lock may be gone as well.
    KeyChanged,
    /// They would not: another may do better.
    NamesNotSet,
    /// Nobody knows.
    NotKnown,
}

/// What forbids the promotion. A value that is overruled does so where commits must not be acknowledged alone.
fn refusal(set: SyncNamesSet, min_sync: i64) -> Option<Prepared> {
    match set {
        SyncNamesSet::InForce => None,
        SyncNamesSet::Overruled if min_sync == 0 => None,
        SyncNamesSet::Overruled | SyncNamesSet::NotWritten => Some(Prepared::NamesNotSet),
        SyncNamesSet::Unknown => Some(Prepared::NotKnown),
    }
}

impl Cycle<'_> {
    /// The primary's step in every cycle.
    pub(super) fn process_sync_replication(&mut self) -> Step<()> {
        if self.seen().is_quorum_mode() {
            if !self.pg.is_primary() {
                return Ok(());
            }
            // After a promotion the key is written once; then replicas get a
            // moment to reconnect, or it would lose its voters (21-02b).
            let settled =
                self.m.sync.promoted_at.is_none_or(|at| self.io.now().since(at) > self.v.me.timing.loop_wait);
            if settled {
                self.process_quorum()?;
            }
            self.m.sync.looked_at(self.io.now());
            return Ok(());
        }
        if self.is_synchronous_mode() {
            return self.process_priority_sync();
        }
        self.disable_sync_replication()
    }

    fn disable_sync_replication(&mut self) -> Step<()> {
        if !self.cluster.sync.is_empty() {
            let version = self.cluster.sync.version.clone();
            let confirmed = self.io.ask(ask::DeleteSync { version })?;
            self.m.sync.written(confirmed);
            if self.m.sync.unsure {
                // The key may still be there: PostgreSQL keeps what it promises until it is gone.
                return Ok(());
            }
            self.log("Disabled synchronous replication");
        }
        // Nobody counts on the user's own value.
        self.sync_names(SyncNames::User(self.v.me.user_sync_names.clone())).map(drop)
    }

    /// The state to start from; an empty key is written first (20-01).
    fn enabled_sync(&mut self) -> Step<Option<SyncState>> {
        let sync = self.cluster.sync.clone();
        if !sync.is_empty() {
            return if self.m.sync.unsure { self.outdate_writes(&sync) } else { Ok(Some(sync)) };
        }
        let me = self.name().to_owned();
        let written = self.write_sync(&me, &NameSet::new(), 0, &sync)?;
        if written.is_some() {
            self.log("Enabled synchronous replication");
        } else {
            self.warn("Updating sync state failed");
        }
        Ok(written)
    }

    /// A write that was given up may still be on its way, and would meet the version that it compares with: the key is
    /// written as it is, under a new one, before PostgreSQL gets another value. (The reference does not, and a late
    /// write can promise what PostgreSQL does not keep any more: docs/safety.md S7.)
    fn outdate_writes(&mut self, sync: &SyncState) -> Step<Option<SyncState>> {
        let leader = sync.leader.clone().unwrap_or_default();
        let written = self.write_sync(&leader, &names_of(&sync.voters()), sync.quorum, sync)?;
        if written.is_none() {
            self.warn("Updating sync state failed");
        }
        Ok(written)
    }

    /// Compare and set; None when somebody else was first.
    fn write_sync(
        &mut self,
        leader: &str,
        names: &NameSet,
        quorum: i64,
        over: &SyncState,
    ) -> Step<Option<SyncState>> {
        let standbys = names.sorted();
        let request = ask::WriteSync {
            leader: leader.to_owned(),
            standbys: standbys.clone(),
            quorum,
            version: over.version.clone(),
        };
        let written = self.io.ask(request)?;
        self.m.sync.written(written.is_some());
        Ok(written.map(|version| SyncState {
            version: Some(version),
            leader: Some(leader.to_owned()),
            sync_standby: Some(standbys.join(",")).filter(|s| !s.is_empty()),
            quorum,
        }))
    }

    fn current_sync(&mut self, wait: Option<Duration>) -> Step<CurrentState> {
        self.io.ask(ask::CurrentSync { wait })?.map(|state| *state).ok_or(super::script::Halt::Pg)
    }

    fn set_sync_names(&mut self, names: &NameSet, num: Option<i64>) -> Step<SyncNamesSet> {
        self.sync_names(SyncNames::Nodes { names: names.sorted(), num })
    }

    /// Mode `on` (20-03 to 20-09): the key shrinks before PostgreSQL lets go of
    /// a standby, and grows after PostgreSQL holds it.
    fn process_priority_sync(&mut self) -> Step<()> {
        let Some(mut sync) = self.enabled_sync()? else { return Ok(()) };
        let me = self.name().to_owned();
        let current = self.current_sync(None)?;
        let plan = PriorityPlan::of(&me, &sync, &current, self.m.config.is_synchronous_mode_strict());
        for Correction { warning, names } in plan.corrections {
            self.warn(warning);
            let Some(written) = self.write_sync_or_warn(&me, &names, &sync)? else { return Ok(()) };
            sync = written;
        }
        let Some(Assignment { shrinks, held, picked }) = plan.assignment else { return Ok(()) };
        if let Some(from) = shrinks {
            self.log(format!(
                "Updating synchronous privilege temporarily from {} to {}",
                from.py_list(),
                held.py_list()
            ));
            let Some(written) = self.write_sync(&me, &held, 0, &sync)? else {
                self.log("Synchronous replication key updated by someone else.");
                return Ok(());
            };
            sync = written;
        }
        let (set, confirmed) = match picked {
            Picked::Nobody => {
                let star: NameSet = std::iter::once("*").collect();
                self.warn("No standbys available!");
                self.log(format!("Assigning synchronous standby status to {}", star.py_list()));
                (self.sync_names(SyncNames::Star)?, current.sync_confirmed)
            }
            Picked::These(picked) => {
                self.log(format!("Assigning synchronous standby status to {}", picked.py_list()));
                let set = self.set_sync_names(&picked, None)?;
                let mut confirmed = current.sync_confirmed;
                if set == SyncNamesSet::InForce && !picked.is_empty() && confirmed != picked {
                    confirmed = self.current_sync(Some(ASSIGN_WAIT))?.sync_confirmed;
                }
                // PostgreSQL may not have taken the new value yet, and still confirm by the old
                // one: a name that it is about to let go of must not enter the key.
                (set, confirmed.intersection(&picked))
            }
        };
        if set != SyncNamesSet::InForce {
            // The key must not grow by what PostgreSQL does not hold.
            return Ok(());
        }
        if !confirmed.is_empty() && confirmed != held {
            if self.write_sync(&me, &confirmed, 0, &sync)?.is_some() {
                self.log(format!("Synchronous standby status assigned to {}", confirmed.py_list()));
            } else {
                self.log("Synchronous replication key updated by someone else");
            }
        }
        Ok(())
    }

    fn write_sync_or_warn(&mut self, me: &str, names: &NameSet, over: &SyncState) -> Step<Option<SyncState>> {
        let written = self.write_sync(me, names, 0, over)?;
        if written.is_none() {
            self.warn("Updating sync state failed");
        }
        Ok(written)
    }

    /// Mode `quorum` (21): the resolver's steps in their order, until it has none
    /// or a cycle's time is over.
    fn process_quorum(&mut self) -> Step<()> {
        let started = self.io.now();
        let Some(mut sync) = self.enabled_sync()? else { return Ok(()) };
        let min_sync = self.m.config.min_synchronous_nodes();
        let mut wait = None;
        let mut looked_again = false;
        loop {
            let current = self.current_sync(wait)?;
            // Right after a promotion the standbys may not have connected yet: they are not gone.
            if self.m.sync.take_adopted() && current.sync.intersection(&current.active).is_empty() {
                return Ok(());
            }
            let resolution = quorum::resolve(QuorumState {
                leader: sync.leader.clone().unwrap_or_default(),
                quorum: sync.quorum,
                voters: names_of(&sync.voters()),
                numsync: current.numsync,
                sync: current.sync.clone(),
                numsync_confirmed: current.sync_confirmed.len() as i64,
                active: current.active.clone(),
                sync_wanted: self.m.config.synchronous_node_count(),
                leader_wanted: self.name().to_owned(),
            });
            if let Some(broken) = &resolution.broken {
                self.warn(broken.to_string());
            }
            let transitions = match resolution.transitions {
                Ok(transitions) => transitions,
                Err(error) => {
                    self.io.log(Level::Error, error.to_string());
                    return Ok(());
                }
            };
            let mut again = false;
            let mut tightened = false;
            for step in transitions {
                if self.io.now().since(started) >= self.v.me.timing.loop_wait {
                    return Ok(());
                }
                again = step.target == Target::Restart;
                if step.target == Target::Quorum && is_easier_to_win(&sync, &step) {
                    if tightened {
                        if looked_again {
                            return Ok(());
                        }
                        (looked_again, again) = (true, true);
                        break;
                    }
                    if !hold_everything(&current, &step) {
                        return Ok(());
                    }
                }
                tightened |= step.target == Target::Sync
                    && (step.num > current.numsync || !current.sync.is_subset(&step.names));
                match step.target {
                    Target::Quorum => {
                        self.log_quorum(&step.leader, step.num, &step.names);
                        let Some(written) = self.write_sync(&step.leader, &step.names, step.num, &sync)?
                        else {
                            self.log("Synchronous replication key updated by someone else.");
                            return Ok(());
                        };
                        sync = written;
                    }
                    // What follows counts on it: not in this cycle, if PostgreSQL goes by another value.
                    Target::Sync if self.set_quorum_names(&step.names, step.num, min_sync)? => {}
                    Target::Sync => return Ok(()),
                    Target::Restart => {}
                }
            }
            let spent = self.io.now().since(started) + QUORUM_WAIT;
            if !again || spent >= self.v.me.timing.loop_wait {
                return Ok(());
            }
            wait = Some(QUORUM_WAIT);
        }
    }

    fn set_quorum_names(&mut self, names: &NameSet, num: i64, min_sync: i64) -> Step<bool> {
        self.log(format!(
            "Setting synchronous replication to {num} of {} ({})",
            names.len(),
            names.sorted().join(", ")
        ));
        if num < min_sync {
            self.warn(format!(
                "Replication factor {} requested, but {num} synchronous standbys available. Commits will be \
                 delayed.",
                min_sync + 1
            ));
        }
        Ok(self.set_sync_names(names, Some(num.max(min_sync)))? == SyncNamesSet::InForce)
    }

    /// Before promotion (20-13, 21-02). The names come first: on a standby they have no effect yet, and what cannot be
    /// set leaves `/sync`, and with it the race, as it was. (The reference writes the key first, and takes the names for
    /// set: docs/safety.md S13.)
    pub(super) fn sync_before_promote(&mut self) -> Step<Prepared> {
        if !self.is_synchronous_mode() {
            self.disable_sync_replication()?;
            return Ok(Prepared::Ready);
        }
        let min_sync = self.m.config.min_synchronous_nodes();
        let sync = self.cluster.sync.clone();
        let me = self.name().to_owned();
        if self.seen().is_quorum_mode() {
            if !self.seen().quorum_is_active() {
                return Ok(self.names_before_promote(&NameSet::new(), min_sync)?.unwrap_or(Prepared::Ready));
            }
            let mut names = names_of(&sync.members());
            let mut num = names.len() as i64 - sync.quorum - 1;
            if names.contains(&me) {
                names.remove(&me);
            } else {
                // A node outside of the voters has won their votes.
                num += 1;
            }
            let set = self.set_sync_names(&names, Some(num))?;
            if let Some(refused) = refusal(set, min_sync) {
                return Ok(refused);
            }
            // Commits will be acknowledged by other rules than ours: the key must not promise anybody a vote.
            let (voters, quorum) =
                if set == SyncNamesSet::InForce { (names, sync.quorum) } else { (NameSet::new(), 0) };
            return Ok(if self.adopt_quorum(&sync, &voters, quorum)? {
                Prepared::Ready
            } else {
                Prepared::KeyChanged
            });
        }
        if let Some(refused) = self.names_before_promote(&NameSet::new(), min_sync)? {
            return Ok(refused);
        }
        let written = self.write_sync(&me, &NameSet::new(), 0, &sync)?.is_some();
        Ok(if written { Prepared::Ready } else { Prepared::KeyChanged })
    }

    /// Why the node must not be promoted, if the names are not as they should be.
    fn names_before_promote(&mut self, names: &NameSet, min_sync: i64) -> Step<Option<Prepared>> {
        let set = self.set_sync_names(names, Some(min_sync))?;
        Ok(refusal(set, min_sync))
    }

    /// The former leader may come back without anybody's vote while `/sync` names it: it must be out of there before
    /// commits are accepted here. (The reference does so in the first cycle after the promotion, and loses what was
    /// acknowledged before it: docs/safety.md S6.) The key is also written by whom it names already, so that a late
    /// write of somebody who wanted to be promoted in between meets another version. False: somebody else wrote it.
    fn adopt_quorum(&mut self, sync: &SyncState, voters: &NameSet, quorum: i64) -> Step<bool> {
        let me = self.name().to_owned();
        if !sync.leader_matches(&me) {
            self.log_quorum(&me, quorum, voters);
        }
        let adopted = self.write_sync(&me, voters, quorum, sync)?.is_some();
        self.m.sync.adopted(adopted);
        Ok(adopted)
    }

    fn log_quorum(&mut self, leader: &str, quorum: i64, voters: &NameSet) {
        let names = voters.sorted().join(", ");
        self.log(format!("Setting leader to {leader}, quorum to {quorum} of {} ({names})", voters.len()));
    }
}

/// Does this write let somebody win who could not win before? Fewer votes do so,
/// a voter that leaves, and one that comes without a vote more to win.
fn is_easier_to_win(sync: &SyncState, step: &quorum::Transition) -> bool {
    let mut voters = names_of(&sync.voters());
    let same_leader = sync.leader_matches(&step.leader);
    voters.remove(&step.leader);
    let needed = |voters: &NameSet, quorum: i64| voters.len() as i64 - quorum;
    same_leader
        && (step.num < sync.quorum
            || !voters.is_subset(&step.names)
            || needed(&step.names, step.num) > needed(&voters, sync.quorum))
}

/// Can nobody win by this step's quorum without what was acknowledged so far?
/// Commits from before PostgreSQL became stricter may be on fewer nodes than it
/// asks for now, so enough of the voters must have caught up since. The reference
/// writes the key at once, and loses such a commit when the primary dies before
/// they have it.
fn hold_everything(current: &CurrentState, step: &quorum::Transition) -> bool {
    let caught_up = current.sync_confirmed.intersection(&step.names).len() as i64;
    caught_up >= step.names.len() as i64 - step.num
}

fn names_of<S: AsRef<str>>(names: &[S]) -> NameSet {
    names.iter().map(AsRef::as_ref).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that is needed, and one less.
    #[test]
    fn who_may_win_holds_everything() {
        for (confirmed, names, quorum, expected) in [
            (&["b"][..], &["b", "c"][..], 1, true),
            (&[][..], &["b", "c"][..], 1, false),
            (&["b", "c"][..], &["b", "c"][..], 0, true),
            (&["b", "d"][..], &["b", "c"][..], 0, false),
            (&[][..], &[][..], 0, true),
        ] {
            let current =
                CurrentState { sync_confirmed: confirmed.iter().collect(), ..CurrentState::default() };
            let step = quorum::Transition {
                target: Target::Quorum,
                leader: "a".into(),
                num: quorum,
                names: names.iter().collect(),
            };
            assert_eq!(hold_everything(&current, &step), expected, "{confirmed:?} of {names:?}, {quorum}");
        }
    }
}
