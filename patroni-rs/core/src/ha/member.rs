//! The own member key (surface-dcs 2.1, surface-ha-pg 25-10).

use pyfmt::Value;

use super::ask;
use super::cycle::Cycle;
use super::memory::Rewind;
use super::script::{Halt, Step};
use super::types::*;

/// What this program is to the other members. They gate features on it, so it is the reference's.
pub const VERSION: &str = "4.1.5";

impl Cycle<'_> {
    /// Publishes what this node is right now; a failure is not an error of the cycle.
    pub(super) fn touch_member(&mut self) -> Step<()> {
        self.look_again()?;
        let timeline = self.published_timeline()?;
        let data = self.member_data(timeline);
        self.io.ask(ask::TouchMember(data))?;
        Ok(())
    }

    /// PostgreSQL as it is now, if it answers.
    pub(super) fn look_again(&mut self) -> Step<()> {
        match self.io.ask(ask::Probe) {
            Ok(pg) => self.pg = *pg,
            Err(Halt::Pg) => {}
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Job and state that allow positions to be published.
    fn publishes_positions(&self) -> bool {
        matches!(self.job, None | Some(Job::Promote))
            && matches!(self.pg.state, PgState::Running | PgState::Restarting | PgState::Starting)
            && self.pg.row().is_some()
    }

    fn published_timeline(&mut self) -> Step<Option<u32>> {
        if !self.publishes_positions() {
            return Ok(None);
        }
        let Some(row) = self.pg.row() else { return Ok(None) };
        if row.is_primary {
            return Ok(Some(row.timeline).filter(|t| *t > 0));
        }
        let received = row.received_timeline.filter(|t| *t > 0);
        let timeline = match (received, self.pg.role) {
            (Some(timeline), _) => Some(timeline),
            (None, Role::StandbyLeader) => match row.control_timeline.filter(|t| *t > 0) {
                Some(timeline) => Some(timeline),
                // The statement did not ask for it yet: the role is new.
                None => self.timeline_in_control_file()?,
            },
            (None, _) => {
                let leader = self.cluster.leader.as_ref().and_then(|l| l.timeline());
                self.io.ask(ask::ReplicaTimeline { leader })?
            }
        };
        if timeline.is_some() {
            self.m.own.on(timeline);
        }
        Ok(timeline)
    }

    fn timeline_in_control_file(&mut self) -> Step<Option<u32>> {
        let control = self.io.ask(ask::ReadControlData)?;
        let line = control.lines.iter().find(|(name, _)| name == "Latest checkpoint's TimeLineID");
        Ok(line.and_then(|(_, value)| value.trim().parse().ok()))
    }

    fn member_data(&mut self, timeline: Option<u32>) -> Value {
        let me = self.v.me.clone();
        let mut data = Value::map();
        data.set("conn_url", me.conn_url.as_str());
        data.set("api_url", me.api_url.as_str());
        data.set("state", self.pg.state.as_str());
        data.set("role", self.pg.role.as_str());
        data.set("version", VERSION);
        if let Some(url) = &me.proxy_url {
            data.set("proxy_url", url.as_str());
        }
        if self.is_leader() && self.m.rewind.state != Rewind::Checkpoint {
            data.set("checkpoint_after_promote", false);
        }
        let tags = effective_tags(&me, self.v.disable_sync);
        if tags.truthy() {
            data.set("tags", tags);
        }
        if self.pg.pending_restart_reason.truthy() {
            data.set("pending_restart", true);
            data.set("pending_restart_reason", self.pg.pending_restart_reason.clone());
        }
        if self.publishes_positions() {
            self.add_positions(&mut data, timeline);
        }
        if let Some(restart) = self.scheduled_restart {
            data.set("scheduled_restart", restart.data.clone());
        }
        if self.is_paused() {
            data.set("pause", true);
        }
        data
    }

    fn add_positions(&mut self, data: &mut Value, timeline: Option<u32>) {
        let Some(row) = self.pg.row() else { return };
        data.set("xlog_location", row.wal_position);
        if !row.is_primary {
            for (key, lsn) in [("replay_lsn", row.replayed), ("receive_lsn", row.received)] {
                if let Some(lsn) = lsn.filter(|lsn| lsn.is_known()) {
                    data.set(key, lsn);
                }
            }
            if let Some(state) = &row.replication_state {
                data.set("replication_state", state.as_str());
            }
        }
        if let Some(timeline) = timeline {
            data.set("timeline", timeline);
        }
        self.m.own.at(row.wal_position);
    }
}

/// The configured tags, and those that keep us from being a synchronous standby
/// while we restart or stop (surface-ha-pg 20-14).
pub fn effective_tags(me: &LocalMember, disable_sync: bool) -> Value {
    let mut tags = me.tags.as_value().clone();
    if disable_sync {
        tags.set("nosync", true);
        tags.set("sync_priority", 0);
    }
    tags
}
