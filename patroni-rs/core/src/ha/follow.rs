//! Following the right node: whom, and what has to happen first.

use std::time::Duration;

use pyfmt::Value;

use super::ask;
use super::cycle::Cycle;
use super::memory::Rewind;
use super::script::Step;
use super::types::*;
use crate::cluster_state::ClusterState;
use crate::global_config::GlobalConfig;
use crate::model::{Cluster, Member, NO_REPLICATION_SLOT, STANDBY_SOURCE_KEYS};
use crate::tags::Tags;
use crate::PgVersion;

/// How long a failed rewind is not tried again.
const REWIND_RETRY: Duration = Duration::from_secs(60);

/// Whom the node `me` has to follow in `cluster`; nobody is an answer.
pub fn node_to_follow(me: &str, tags: &Tags, config: &GlobalConfig, cluster: &Cluster) -> Option<Source> {
    if tags.nostream() {
        return None;
    }
    let standby_cluster = config.is_standby_cluster();
    let lock_is_mine = cluster.leader_name() == Some(me);
    if standby_cluster && (lock_is_mine || (cluster.is_unlocked() && !config.is_paused())) {
        return Some(remote_source(config, None));
    }
    let member = match tags.replicatefrom().filter(|from| *from != me) {
        Some(from) => cluster.get_member(from, true),
        None => cluster.leader.as_ref().filter(|l| !l.name().is_empty()).map(|l| &l.member),
    };
    let mut member = member.filter(|m| m.name != me)?.clone();
    for key in ["restore_command", "archive_cleanup_command"] {
        member.data.remove(key);
        if standby_cluster {
            if let Some(value) = config.standby_cluster().get(key).filter(|v| v.truthy()) {
                member.data.set(key, value.clone());
            }
        }
    }
    Some(Source { member, remote: false })
}

/// The server that a standby cluster copies, or a member seen as that (for cascading copies inside the standby
/// cluster; surface-ha-pg 14-02 to 14-04).
pub(super) fn remote_source(config: &GlobalConfig, via: Option<&Member>) -> Source {
    let config = config.standby_cluster();
    let mut data = Value::map();
    for key in STANDBY_SOURCE_KEYS {
        if let Some(value) = config.get(key) {
            data.set(key, value.clone());
        }
    }
    data.set(NO_REPLICATION_SLOT, config.get("primary_slot_name").is_none());
    let conn: Value = match via {
        Some(member) => member.conn_kwargs(None).into_iter().map(|(k, v)| (Value::from(k), v)).collect(),
        None => ["host", "port"].iter().filter_map(|k| config.get(k).map(|v| (*k, v.clone()))).collect(),
    };
    if conn.truthy() {
        data.set("conn_kwargs", conn);
    }
    let name = via.map_or_else(|| "remote_member".to_owned(), |m| m.name.clone());
    Source { member: Member { version: String::new(), name, session: None, data }, remote: true }
}

impl Cycle<'_> {
    /// As the free function, for this node.
    pub(super) fn node_to_follow(&self, cluster: &Cluster) -> Option<Source> {
        node_to_follow(self.name(), &self.v.me.tags, &self.m.config, cluster)
    }

    /// As the free function, by the configuration in force.
    pub(super) fn remote_source(&self, via: Option<&Member>) -> Source {
        remote_source(&self.m.config, via)
    }

    pub(super) fn follow_remote(&mut self, line: String) -> Step<String> {
        self.follow("cannot be a real primary in standby cluster", line, true)
    }

    /// Makes this node a standby of the right node; `demote_line` when it was a primary.
    pub(super) fn follow(
        &mut self,
        demote_line: &str,
        line: impl Into<String>,
        refresh: bool,
    ) -> Step<String> {
        if refresh {
            self.load_cluster()?;
        }
        let is_primary = self.pg.is_primary();
        let cluster = self.cluster.clone();
        let source = self.node_to_follow(&cluster);
        if self.is_paused() {
            if let Some(line) = self.follow_in_pause(is_primary, source.is_some())? {
                return Ok(line);
            }
        } else if is_primary {
            if self.is_standby_cluster() {
                self.start_demotion(DemoteMode::Cluster, "demoting to a standby cluster")?;
            } else {
                self.demote(DemoteMode::ImmediateNolock)?;
            }
            return Ok(demote_line.into());
        }
        if !self.has_lock_quietly() {
            self.watchdog_off_standby()?;
        }
        if let Some(line) = self.rewind_before_follow()? {
            return Ok(line);
        }
        self.resume_paused_replay()?;
        let remote = source.as_ref().is_some_and(|s| s.remote);
        let role = if remote && self.has_lock_quietly() { Role::StandbyLeader } else { Role::Replica };
        let reachable = source.as_ref().is_some_and(|s| s.member.conn_url().is_some());
        if self.is_standby_cluster() && role == Role::Replica && !reachable {
            return Ok("continue following the old known standby leader".into());
        }
        let change = self.recovery_change(source.clone())?;
        if change.change && change.restart && self.promoted_meanwhile()? {
            return Ok("continue to run as primary without lock".into());
        }
        if change.change {
            self.apply_recovery_change(source, role, change.restart)?;
        } else if let Some(line) = self.settle_as(role)? {
            return Ok(line);
        }
        Ok(line.into())
    }

    /// PostgreSQL 14+ pauses replay when a parameter of the primary is too high for
    /// it; on older ones only people do.
    fn resume_paused_replay(&mut self) -> Step<()> {
        let looks = !self.is_paused()
            && self.pg.major_version.at_least(PgVersion::V14)
            && !self.pg.state.is_starting();
        if looks && self.row()?.replay_paused {
            self.io.ask(ask::ResumeReplay)?;
        }
        Ok(())
    }

    /// In pause a primary stays one, and a replica moves only to a known leader
    /// (surface-ha-pg 8-02).
    fn follow_in_pause(&mut self, is_primary: bool, has_source: bool) -> Step<Option<String>> {
        // A running primary is one whatever a check that was due before says: somebody has promoted it manually. (The
        // reference restarts it as a standby then: docs/safety.md, `hazards` 419.)
        let rewind_due = !is_primary && self.m.rewind.state.is_needed() && self.rewind_allowed()?;
        if rewind_due && !self.cluster.is_unlocked() {
            return Ok(None);
        }
        if is_primary {
            self.set_role(Role::Primary)?;
            return Ok(Some("continue to run as primary without lock".into()));
        }
        if self.pg.role != Role::StandbyLeader {
            self.set_role(Role::Replica)?;
        }
        Ok((!has_source).then(|| format!("no action. I am ({})", self.name())))
    }

    /// In a pause: has somebody promoted PostgreSQL manually since the cycle looked at it? A restart would make it a
    /// standby again. (The reference does not look again: docs/safety.md, `hazards-quorum` 1355.)
    fn promoted_meanwhile(&mut self) -> Step<bool> {
        if !self.is_paused() || !self.pg.running {
            return Ok(false);
        }
        self.look_again()?;
        let primary = self.pg.is_primary();
        if primary {
            self.set_role(Role::Primary)?;
        }
        Ok(primary)
    }

    fn rewind_before_follow(&mut self) -> Step<Option<String>> {
        if self.is_standby_cluster() {
            let timeline = self.cluster.leader.as_ref().and_then(|l| l.timeline()).filter(|t| *t > 0);
            if let Some(next) = timeline.and_then(|t| t.checked_add(1)) {
                let next = self.io.ask(ask::History(next))?;
                if !next.is_empty() {
                    self.arm_rewind_check()?;
                }
            }
        }
        self.rewind_or_reinitialize()
    }

    fn apply_recovery_change(&mut self, source: Option<Source>, role: Role, restart: bool) -> Step<()> {
        if restart {
            self.start_job(Job::Follow {
                name: "changing primary_conninfo and restarting".into(),
                source,
                role,
                timeout: None,
            })?;
        } else {
            if !self.io.ask(ask::FollowReload { source, role })? {
                // The settings in force are the old ones, and the next cycle sees that.
                self.warn("The recovery settings could not be changed");
                return self.arm_rewind_check();
            }
            self.pg.role = role;
        }
        self.arm_rewind_check()
    }

    /// Nothing to write: take the role, and look whether the leader went to another timeline without us: a later one, or,
    /// where nothing is received, an earlier one, which the reference sees only after a restart.
    fn settle_as(&mut self, role: Role) -> Step<Option<String>> {
        if role == Role::StandbyLeader && self.pg.role != role {
            self.set_role(role)?;
            self.call(Callback::OnRoleChange)?;
        }
        let leader = self.cluster.leader.as_ref().and_then(|l| l.timeline());
        let apart = match self.m.own.timeline.zip(leader) {
            // A leader that was promoted just now may not have published its timeline: who receives from it is not apart.
            Some((mine, leader)) if mine > leader => {
                self.pg.row().is_some_and(|row| !row.is_primary && row.received_timeline.unwrap_or(0) == 0)
            }
            Some((mine, leader)) => mine < leader,
            None => false,
        };
        if self.forgive_failed_rewind() || apart {
            self.arm_rewind_check()?;
            return self.rewind_or_reinitialize();
        }
        Ok(None)
    }

    // ---- rewind ----

    /// After a while a rewind that failed (a full disk) may be tried again: true in the cycle in which it may. The
    /// reference does not, and its node runs on beside the cluster until it is restarted.
    pub(super) fn forgive_failed_rewind(&mut self) -> bool {
        if self.m.rewind.state != Rewind::Failed || self.is_paused() {
            self.m.rewind.retried();
            return false;
        }
        let now = self.io.now();
        let since = self.m.rewind.failed_since(now);
        if now.since(since) < REWIND_RETRY {
            return false;
        }
        self.m.rewind.retried();
        self.m.rewind.forget();
        true
    }

    fn can_rewind(&mut self) -> Step<bool> {
        self.io.ask(ask::CanRewind)
    }

    pub(super) fn rewind_allowed(&mut self) -> Step<bool> {
        Ok(self.v.me.reinit_on_diverged || self.can_rewind()?)
    }

    pub(super) fn arm_rewind_check(&mut self) -> Step<()> {
        if !matches!(self.m.rewind.state, Rewind::Need | Rewind::Check) && self.rewind_allowed()? {
            self.m.rewind.check_due();
        }
        Ok(())
    }

    /// Must this node be rewound to follow `source`, and can it be asked?
    pub(super) fn diverged(&mut self, source: Option<&Source>) -> Step<bool> {
        let Some(source) = source.filter(|s| s.member.conn_url().is_some()) else { return Ok(false) };
        if self.m.rewind.state == Rewind::Check && source.member.name != self.name() {
            if let Some(diverged) = self.io.ask(ask::CheckDiverged(source.clone()))? {
                self.m.rewind.found(diverged);
            }
        }
        Ok(self.m.rewind.state == Rewind::Need)
    }

    fn rewind_source(&self) -> Option<Source> {
        if self.is_standby_cluster() {
            return Some(self.remote_source(None));
        }
        self.cluster.leader.as_ref().map(|l| Source { member: l.member.clone(), remote: false })
    }

    /// The line of the action that makes a diverged node fit again, if one is due.
    pub(super) fn rewind_or_reinitialize(&mut self) -> Step<Option<String>> {
        let source = self.rewind_source();
        if !self.diverged(source.as_ref())? {
            return Ok(None);
        }
        let Some(source) = source else { return Ok(None) };
        if self.can_rewind()? {
            // It needs a server that was shut down cleanly.
            if !self.pg.running && self.control_data()?.state == ClusterState::InArchiveRecovery {
                if let Some(line) = self.crash_recovery()? {
                    return Ok(Some(line));
                }
            }
            let job = Job::Rewind { source };
            let line = job.name();
            return Ok(Some(self.start_job(job)?.unwrap_or(line)));
        }
        if self.v.me.reinit_on_diverged && !self.is_standby_cluster() {
            let (source, what) = self.clone_source(false);
            let job = Job::ReinitializeDiverged { source, what };
            let line = job.name();
            return Ok(Some(self.start_job(job)?.unwrap_or(line)));
        }
        Ok(None)
    }

    pub(super) fn control_data(&mut self) -> Step<ControlData> {
        self.io.ask(ask::ReadControlData)
    }
}
