//! The choice of synchronous standbys from `pg_stat_replication` (20-03 to 20-05).

use indexmap::IndexMap;

use super::value::parse_names;
use super::{application_name, shown_name, NameSet, SyncNamesValue, SyncType};
use crate::model::{Cluster, Lsn};
use crate::slots::member_slot_name;
use crate::PgVersion;

/// A row of `pg_stat_replication` of a standby that streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub struct ReplicaRow {
    pub pid: i64,
    pub application_name: String,
    pub sync_state: String,
    pub write_lsn: Option<Lsn>,
    pub flush_lsn: Option<Lsn>,
    pub replay_lsn: Option<Lsn>,
    /// The replication slot that its connection holds.
    pub slot: Option<String>,
}

/// A member that may become synchronous: running, not `nosync`, not this node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Candidate {
    pub name: String,
    pub replicatefrom: Option<String>,
    pub nofailover: bool,
    pub sync_priority: i64,
}

/// What PostgreSQL says at the moment.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    /// `synchronous_commit`.
    pub synchronous_commit: &'a str,
    /// Rows of `pg_stat_replication`.
    pub rows: &'a [ReplicaRow],
    /// The own WAL position.
    pub last_operation: Lsn,
}

/// Rules in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncOptions {
    /// `synchronous_mode: quorum`.
    pub quorum_mode: bool,
    /// `synchronous_node_count`.
    pub node_count: i64,
    /// `maximum_lag_on_syncnode` in bytes; 0 and below: no limit.
    pub maximum_lag: i64,
    /// Major version of the server.
    pub major_version: PgVersion,
    /// Members hold their replication slots (`use_slots`).
    pub by_slot: bool,
}

/// The state of synchronous replication.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CurrentState {
    /// The kind of the GUC's value.
    pub sync_type: SyncType,
    /// How many must confirm by the GUC.
    pub numsync: i64,
    /// Size of [`Self::sync_confirmed`].
    pub numsync_confirmed: i64,
    /// Names in the GUC; none if it has a `*`.
    pub sync: NameSet,
    /// Of [`Self::active`], those known to be synchronous.
    pub sync_confirmed: NameSet,
    /// The best candidates; in quorum mode all suitable ones.
    pub active: NameSet,
}

/// Members of the cluster that may become synchronous standbys of `me`.
pub fn candidates(cluster: &Cluster, me: &str) -> Vec<Candidate> {
    let eligible = cluster
        .members
        .iter()
        .filter(|m| m.is_running() && !m.nosync() && m.name.to_lowercase() != me.to_lowercase());
    let candidate = |m: &crate::model::Member| Candidate {
        name: m.name.clone(),
        replicatefrom: m.replicatefrom().map(|r| r.to_owned()),
        nofailover: m.nofailover(),
        sync_priority: m.sync_priority(),
    };
    eligible.map(candidate).collect()
}

struct Replica<'a> {
    row: &'a ReplicaRow,
    lsn: Lsn,
    member: &'a Candidate,
    /// The member's name; as its connection spells it, where that is only a matter of case.
    name: &'a str,
    /// In `synchronous_standby_names`.
    listed_as: String,
}

/// Members whose name somebody else uses as `application_name`: PostgreSQL takes the confirmation of any standby of
/// that name, so none of them may count. Who does not hold the member's slot is not the member; without slots they
/// cannot be told apart, but there must not be two. (The reference takes anybody, and the last of several:
/// patroni/patroni#3545.)
pub fn impersonated<'a>(
    rows: &[ReplicaRow],
    candidates: &'a [Candidate],
    by_slot: bool,
    major_version: PgVersion,
) -> Vec<&'a str> {
    let doubtful = |candidate: &&Candidate| {
        let shown = shown_name(&candidate.name, major_version);
        let mut named = rows.iter().filter(|r| r.application_name.to_lowercase() == shown);
        match (named.next(), named.next()) {
            (Some(_), Some(_)) => true,
            (Some(row), None) => by_slot && row.slot.as_deref() != Some(&member_slot_name(&candidate.name)),
            (None, _) => false,
        }
    };
    candidates.iter().filter(doubtful).map(|c| c.name.as_str()).collect()
}

/// The candidates that stream from this node, the best first.
fn replicas<'a>(
    candidates: &'a [Candidate],
    observed: &Observed<'a>,
    by_slot: bool,
    major_version: PgVersion,
) -> Vec<Replica<'a>> {
    let doubtful = impersonated(observed.rows, candidates, by_slot, major_version);
    let members: IndexMap<String, &Candidate> =
        candidates.iter().map(|c| (c.name.to_lowercase(), c)).collect();
    // Of two members that PostgreSQL shows under one name, neither can be told from the other.
    let mut shown: IndexMap<String, Vec<&Candidate>> = IndexMap::new();
    for candidate in candidates {
        shown.entry(shown_name(&candidate.name, major_version)).or_default().push(candidate);
    }
    let known: IndexMap<String, &Candidate> = shown
        .into_iter()
        .filter_map(|(name, members)| match members[..] {
            // A name that is not shown as it is may be anybody's: the slot tells.
            [one] if by_slot || name == one.name.to_lowercase() => {
                (!doubtful.contains(&one.name.as_str())).then_some((name, one))
            }
            _ => None,
        })
        .collect();
    let column = |row: &ReplicaRow| match observed.synchronous_commit {
        "remote_apply" => row.replay_lsn,
        "remote_write" => row.write_lsn,
        _ => row.flush_lsn,
    };
    let mut streaming: IndexMap<String, (&ReplicaRow, Lsn)> = IndexMap::new();
    for row in observed.rows {
        let name = row.application_name.to_lowercase();
        if let (Some(lsn), Some(member)) = (column(row), known.get(&name)) {
            streaming.insert(member.name.to_lowercase(), (row, lsn));
        }
    }
    let mut list: Vec<Replica<'_>> = streaming
        .iter()
        .filter_map(|(name, (row, lsn))| {
            let member = *members.get(name)?;
            let as_it_is = row.application_name.to_lowercase() == *name;
            let name = if as_it_is { &row.application_name } else { &member.name };
            let listed_as = application_name(name, major_version);
            Some(Replica { row, lsn: *lsn, member, name, listed_as })
        })
        .filter(|r| !should_cascade(r.member, &members, &|name| streaming.contains_key(name)))
        .collect();
    // As text: sync, quorum, potential, async.
    list.sort_by(|a, b| key(b).cmp(&key(a)));
    list
}

fn key<'a>(replica: &Replica<'a>) -> (i64, &'a str, Lsn) {
    (replica.member.sync_priority, &replica.row.sync_state, replica.lsn)
}

/// Is this member meant to replicate from another that streams from us?
fn should_cascade(
    member: &Candidate,
    members: &IndexMap<String, &Candidate>,
    streams: &dyn Fn(&str) -> bool,
) -> bool {
    let upstream = |m: &Candidate| {
        m.replicatefrom
            .as_ref()
            .filter(|r| !r.is_empty())
            .and_then(|r| members.get(&r.to_lowercase()).copied())
    };
    let mut current = member;
    // A chain cannot be longer than there are members; a loop streams from nobody.
    for _ in 0..=members.len() {
        let Some(above) = upstream(current) else {
            return false;
        };
        if above.replicatefrom.as_ref().is_none_or(|r| r.is_empty()) {
            return streams(&above.name.to_lowercase());
        }
        current = above;
    }
    false
}

/// What is remembered between looks: from when on a standby counts as synchronous.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracker {
    value: String,
    parsed: SyncNamesValue,
    /// A standby named in the GUC is synchronous once it has reached this.
    primary_flush_lsn: Lsn,
    /// Those that have, in lower case, with the pid of their connection.
    ready: IndexMap<String, i64>,
}

/// What the present value of `synchronous_standby_names` is to a [`Tracker`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamesSeen {
    /// The known one.
    Known,
    /// Another: some WAL should be written to move the standbys, and PostgreSQL asked again.
    Changed {
        /// What is wrong with it.
        warning: Option<String>,
    },
}

impl Tracker {
    /// Takes the present value of the GUC.
    pub fn observe_value(&mut self, value: &str, last_operation: Lsn) -> NamesSeen {
        if self.value == value {
            return NamesSeen::Known;
        }
        self.value = value.to_owned();
        let (parsed, warning) = match parse_names(value) {
            Ok(parsed) => (parsed, None),
            Err(error) => (SyncNamesValue::default(), Some(error.to_string())),
        };
        let tightened = parsed.num > self.parsed.num || !self.parsed.members.is_subset(&parsed.members);
        self.parsed = parsed;
        if tightened && self.parsed.sync_type == SyncType::Quorum {
            // Commits from before may be on fewer standbys than are asked for now, or
            // only on one that has left: all have to catch up with them.
            self.ready.clear();
        }
        let members = &self.parsed.members;
        self.ready.retain(|name, _| members.contains(name));
        self.primary_flush_lsn = last_operation;
        NamesSeen::Changed { warning }
    }

    /// The state, for the value last observed. `listed` are the standbys in the `/sync` key.
    pub fn current_state(
        &mut self,
        candidates: &[Candidate],
        listed: &NameSet,
        observed: &Observed<'_>,
        options: &SyncOptions,
    ) -> CurrentState {
        let mut replicas = replicas(candidates, observed, options.by_slot, options.major_version);
        for replica in &replicas {
            self.note_readiness(replica, listed, options);
        }
        let max_lsn = match replicas.as_slice() {
            [] | [_] => observed.last_operation,
            several => several.iter().map(|r| r.lsn).max().unwrap_or_default(),
        };
        replicas.sort_by_key(|r| r.member.nofailover);
        let in_time = |r: &&Replica<'_>| {
            let lag = i64::try_from(max_lsn.ahead_of(r.lsn)).unwrap_or(i64::MAX);
            options.maximum_lag <= 0 || lag <= options.maximum_lag
        };
        let (active, sync_confirmed) = self.pick(replicas.iter().filter(in_time), options);
        CurrentState {
            sync_type: self.parsed.sync_type,
            numsync: self.parsed.num,
            numsync_confirmed: i64::try_from(sync_confirmed.len()).unwrap_or(i64::MAX),
            sync: if self.parsed.has_star { NameSet::new() } else { self.listed(candidates, options) },
            sync_confirmed,
            active,
        }
    }

    /// The names in the GUC, as those of members where they are some.
    fn listed(&self, candidates: &[Candidate], options: &SyncOptions) -> NameSet {
        let member = |name: &str| {
            let named = |c: &&Candidate| {
                let listed_as = application_name(&c.name, options.major_version);
                listed_as.eq_ignore_ascii_case(name) && listed_as != c.name
            };
            let mut members = candidates.iter().filter(named);
            let found = members.next().filter(|_| members.next().is_none());
            found.map_or_else(|| name.to_owned(), |c| c.name.clone())
        };
        self.parsed.members.iter().map(member).collect()
    }

    fn note_readiness(&mut self, replica: &Replica<'_>, listed: &NameSet, options: &SyncOptions) {
        let name = replica.listed_as.as_str();
        if self.is_ready(name) || !self.parsed.members.contains(name) {
            return;
        }
        let caught_up = replica.lsn >= self.primary_flush_lsn;
        let state = replica.row.sync_state.as_str();
        let ready = if options.quorum_mode {
            let counts = if options.major_version.at_least(PgVersion::V10) {
                state == "quorum"
            } else {
                matches!(state, "quorum" | "sync" | "potential")
            };
            caught_up && counts
        } else {
            listed.contains(replica.name) || (state == "sync" && caught_up)
        };
        if ready {
            self.ready.insert(name.to_lowercase(), replica.row.pid);
        }
    }

    fn is_ready(&self, name: &str) -> bool {
        self.ready.contains_key(&name.to_lowercase())
    }

    /// Active and confirmed ones.
    fn pick<'a>(
        &self,
        replicas: impl Iterator<Item = &'a Replica<'a>>,
        options: &SyncOptions,
    ) -> (NameSet, NameSet) {
        let node_count = if options.major_version.at_least(PgVersion::V9_6) { options.node_count } else { 1 };
        let enough = |active: &NameSet| i64::try_from(active.len()).unwrap_or(i64::MAX) >= node_count;
        let (mut active, mut confirmed) = (NameSet::new(), NameSet::new());
        for replica in replicas {
            let name = replica.name;
            if options.quorum_mode {
                // A node that cannot be promoted may be ahead of all that can: only if we need the number.
                if replica.member.nofailover && enough(&active) {
                    continue;
                }
                if self.is_ready(&replica.listed_as) {
                    confirmed.insert(name);
                }
                active.insert(name);
                continue;
            }
            active.insert(name);
            if replica.row.sync_state == "sync" && self.is_ready(&replica.listed_as) {
                confirmed.insert(name);
            }
            if enough(&active) {
                break;
            }
        }
        (active, confirmed)
    }
}

#[cfg(test)]
mod tests;
