//! What mode `on` has to do, by what was seen (surface-ha-pg 20-03 to 20-09). (Mode `quorum` has `crate::quorum`.)

use super::names_of;
use crate::model::SyncState;
use crate::sync::{CurrentState, NameSet};

/// Steps in their order; one that fails ends them.
#[derive(Debug, PartialEq)]
pub(super) struct PriorityPlan {
    /// `/sync` does not say what is so.
    pub corrections: Vec<Correction>,
    /// Then; None: everything is as it should be.
    pub assignment: Option<Assignment>,
}

/// `/sync` is to name these standbys of this leader.
#[derive(Debug, PartialEq)]
pub(super) struct Correction {
    /// What was wrong.
    pub warning: String,
    pub names: NameSet,
}

/// Others are to be synchronous.
#[derive(Debug, PartialEq)]
pub(super) struct Assignment {
    /// The key has to lose names before PostgreSQL does: those that it has now.
    pub shrinks: Option<NameSet>,
    /// Those in the key that PostgreSQL holds.
    pub held: NameSet,
    /// For `synchronous_standby_names`.
    pub picked: Picked,
}

#[derive(Debug, PartialEq)]
pub(super) enum Picked {
    These(NameSet),
    /// Strict mode and no standby: commits wait for any.
    Nobody,
}

impl PriorityPlan {
    /// `me`: who leads. `key`: as it is, not empty.
    pub fn of(me: &str, key: &SyncState, current: &CurrentState, strict: bool) -> PriorityPlan {
        let (picked, confirmed) = (&current.active, &current.sync_confirmed);
        let mut voters = names_of(&key.voters());
        let mut corrections = Vec::new();
        if key.leader.as_deref() != Some(me) {
            let leader = key.leader.as_deref().unwrap_or_default();
            let warning = format!(
                "Inconsistent state of /sync key detected, leader = {leader} doesn't match {me}, updating \
                 synchronous replication key"
            );
            voters = NameSet::new();
            corrections.push(Correction { warning, names: voters.clone() });
        }
        if *picked == voters && voters != *confirmed {
            let warning = format!(
                "Inconsistent state between synchronous_standby_names = {} and /sync = {} key detected, updating \
                 synchronous replication key...",
                confirmed.py_list(),
                voters.py_list()
            );
            voters = confirmed.clone();
            corrections.push(Correction { warning, names: voters.clone() });
        }
        if *picked == voters && voters == current.sync && current.numsync == picked.len() as i64 {
            return PriorityPlan { corrections, assignment: None };
        }
        let held = voters.intersection(confirmed);
        let shrinks = (held != voters).then_some(voters);
        let picked = if strict && picked.is_empty() { Picked::Nobody } else { Picked::These(picked.clone()) };
        PriorityPlan { corrections, assignment: Some(Assignment { shrinks, held, picked }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> NameSet {
        names.split(',').filter(|name| !name.is_empty()).collect()
    }

    fn key(leader: &str, standbys: &str) -> SyncState {
        SyncState {
            version: Some("1".into()),
            leader: Some(leader.into()),
            sync_standby: Some(standbys.to_owned()).filter(|names| !names.is_empty()),
            quorum: 0,
        }
    }

    /// Names in `synchronous_standby_names`, those that PostgreSQL confirms, and those that should be.
    fn seen(sync: &str, confirmed: &str, active: &str) -> CurrentState {
        CurrentState {
            sync: set(sync),
            numsync: set(sync).len() as i64,
            sync_confirmed: set(confirmed),
            active: set(active),
            ..CurrentState::default()
        }
    }

    #[test]
    fn the_key_shrinks_first_and_grows_last() {
        let these = |names| Picked::These(set(names));
        for (leader, standbys, current, strict, corrects, assigns) in [
            // Nothing to do.
            ("a", "b", seen("b", "b", "b"), false, vec![], None),
            ("a", "", seen("", "", ""), false, vec![], None),
            // Another standby: held until the key has let it go.
            ("a", "b", seen("b", "b", "c"), false, vec![], Some((None, "b", these("c")))),
            ("a", "b,c", seen("b,c", "b", "b"), false, vec![], Some((Some("b,c"), "b", these("b")))),
            ("a", "b", seen("b", "", "c"), false, vec![], Some((Some("b"), "", these("c")))),
            // The first one.
            ("a", "", seen("", "", "b"), false, vec![], Some((None, "", these("b")))),
            // Nobody is there.
            ("a", "b", seen("b", "", ""), false, vec![], Some((Some("b"), "", these("")))),
            ("a", "b", seen("b", "", ""), true, vec![], Some((Some("b"), "", Picked::Nobody))),
            // The key of the leader before, with whom this one has nothing to do.
            ("x", "a", seen("", "", "b"), false, vec![""], Some((None, "", these("b")))),
            // What PostgreSQL confirms counts more than the key.
            ("a", "b", seen("b", "", "b"), false, vec![""], Some((None, "", these("b")))),
        ] {
            let plan = PriorityPlan::of("a", &key(leader, standbys), &current, strict);
            let corrected: Vec<&NameSet> = plan.corrections.iter().map(|c| &c.names).collect();
            let expected: Vec<NameSet> = corrects.iter().map(|names| set(names)).collect();
            assert_eq!(corrected, expected.iter().collect::<Vec<_>>(), "{leader} {standbys} {current:?}");
            let wanted = assigns.map(|(shrinks, held, picked): (Option<&str>, &str, Picked)| Assignment {
                shrinks: shrinks.map(set),
                held: set(held),
                picked,
            });
            assert_eq!(plan.assignment, wanted, "{leader} {standbys} {current:?}");
        }
    }
}
