//! Manual failover and switchover (surface-ha-pg 6).

use std::time::Duration;

use super::ask;
use super::cycle::Cycle;
use super::request::Walsender;
use super::schedule::Due;
use super::script::Step;
use super::types::*;
use crate::model::{Lsn, Member, SyncState};
use crate::sync::shown_name;

/// How long a switchover waits for a candidate that streams: `wal_retrieve_retry_interval` is 5 s by default, and
/// whoever asked by REST waits for 10 s at least.
const STREAM_PATIENCE: Duration = Duration::from_secs(8);
/// Time between two looks.
const STREAM_LOOK: Duration = Duration::from_secs(1);
/// A standby that streams is near if it is not further behind than a WAL segment, or `maximum_lag_on_failover`. The
/// shutdown waits until it has everything.
const NEAR: u64 = 16 << 20;

/// Does WAL flow to somebody who may take over?
enum Fed {
    Yes,
    NotYet,
    No,
}

impl Cycle<'_> {
    pub(super) fn failover_candidate(&self) -> Option<&str> {
        self.cluster.failover.as_ref().and_then(|f| f.candidate.as_deref())
    }

    /// The word for the action in logs and status lines (6-01).
    pub(super) fn failover_action(&self) -> &'static str {
        self.cluster.failover.as_ref().map_or("failover", |order| order.action())
    }

    pub(super) fn clear_failover(&mut self) -> Step<()> {
        let version = self.cluster.failover.as_ref().map(|f| f.version.clone());
        self.io.ask(ask::WriteFailover { candidate: None, scheduled_at: None, version })?;
        Ok(())
    }

    /// The leader's side: step down if that is asked for and possible.
    pub(super) fn manual_failover_as_leader(&mut self) -> Step<Option<String>> {
        let Some(failover) = self.cluster.failover.clone() else {
            self.m.switchover_waits = None;
            return Ok(None);
        };
        if self.is_paused() && !self.pg.is_primary() {
            return Ok(None);
        }
        let action = self.failover_action();
        let bare = action.trim_start_matches("manual ");
        if let Some(at) = &failover.scheduled_at {
            let mut text = at.iso_text();
            if at.at.is_some() && !at.has_offset() {
                text = text.replacen('T', " ", 1);
            }
            match self.is_due(bare, at.valid_us(), &text) {
                Due::Now => {}
                Due::Later => return Ok(None),
                Due::Never => {
                    self.clear_failover()?;
                    return Ok(None);
                }
            }
        }
        let me = self.name();
        let for_me = failover.leader.as_deref().is_none_or(|leader| leader == me);
        if !for_me {
            let leader = failover.leader.as_deref().unwrap_or_default();
            self.warn(format!("{action}: leader name does not match: {leader} != {me}"));
        } else if failover.candidate.as_deref() == Some(me) {
            self.warn(format!("{action}: I am already the leader, no need to {bare}"));
        } else if failover.candidate.is_none() && self.is_paused() {
            let title = title_case(action);
            self.warn(format!("{title} is possible only to a specific candidate in a paused state"));
        } else {
            let fed = if self.failover_possible(None, false)? { self.is_fed()? } else { Fed::No };
            return match fed {
                Fed::Yes => {
                    let name = format!("{action}: demote");
                    let refused = self.start_demotion(DemoteMode::Graceful, &name)?;
                    Ok(Some(refused.unwrap_or_else(|| format!("{action}: demoting myself"))))
                }
                Fed::NotYet => Ok(None),
                Fed::No => self.refuse_failover().map(|()| None),
            };
        }
        self.log("Cleaning up failover key");
        self.clear_failover()?;
        Ok(None)
    }

    /// An order to switch over or fail over that cannot be carried out.
    pub(super) fn refuse_failover(&mut self) -> Step<()> {
        let action = self.failover_action();
        let bare = action.trim_start_matches("manual ");
        self.m.switchover_waits = None;
        self.warn(format!("{action}: no healthy members found, {bare} is not possible"));
        self.log("Cleaning up failover key");
        self.clear_failover()
    }

    /// Is it a switchover, and not a failover, which may cost commits?
    pub(super) fn is_switchover(&self) -> bool {
        self.cluster.failover.as_ref().is_some_and(|order| order.is_switchover())
    }

    /// May this primary be stopped for the order? For a switchover only when some candidate streams from it and is near:
    /// the shutdown waits for who streams, and for nobody else. After a restart of the server they take
    /// `wal_retrieve_retry_interval` to come back, so they are waited for.
    /// (The reference goes by positions that may be ten seconds old, and loses what was acknowledged since:
    /// docs/safety.md S12.)
    fn is_fed(&mut self) -> Step<Fed> {
        if !self.is_switchover() || self.is_standby_cluster() {
            return Ok(Fed::Yes);
        }
        if !self.pg.is_primary() {
            // A primary that was demoted for want of the DCS, and is back in time: what it has acknowledged may be nowhere
            // else. It leads first. (The reference gives the lock away: docs/safety.md S12.)
            return Ok(Fed::NotYet);
        }
        // A server that cannot be asked feeds nobody that we know of.
        let position = self.pg.row().map_or(Lsn::ZERO, |row| row.wal_position);
        let streaming = self.io.ask(ask::Walsenders)?.filter(|_| position.is_known()).unwrap_or_default();
        let near = u64::try_from(self.m.config.maximum_lag_on_failover()).unwrap_or(0).max(NEAR);
        let major_version = self.pg.major_version;
        let streams = |name: &str| {
            let shown = shown_name(name, major_version);
            let same = |w: &&Walsender| w.name.to_lowercase() == shown;
            streaming.iter().filter(same).any(|w| position.ahead_of(w.flushed) <= near)
        };
        let candidates = self.failover_candidates(false);
        if candidates.iter().any(|m| self.is_fed_by(m, &streams)) {
            self.m.switchover_waits = None;
            return Ok(Fed::Yes);
        }
        let names = candidates.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
        let action = self.failover_action();
        let now = self.io.now();
        let since = *self.m.switchover_waits.get_or_insert(now);
        if now.since(since) >= STREAM_PATIENCE {
            self.warn(format!("{action}: no candidate receives WAL from this node, or is near: {names}"));
            return Ok(Fed::No);
        }
        if since == now {
            self.log(format!("{action}: waiting for a candidate to receive WAL from this node: {names}"));
        }
        self.m.wake_at = Some(now + STREAM_LOOK);
        Ok(Fed::NotYet)
    }

    /// Does the WAL of this node flow to that member: directly, by way of the replica that it is to follow, or
    /// (`nostream`) as it is meant to, from the archive?
    fn is_fed_by(&self, member: &Member, streams: &dyn Fn(&str) -> bool) -> bool {
        let mut current = member;
        // A chain cannot be longer than there are members.
        for _ in 0..=self.cluster.members.len() {
            if current.nostream() || streams(&current.name) {
                return true;
            }
            let above = current.replicatefrom().and_then(|name| self.cluster.get_member(name, false));
            match above.filter(|above| above.name != self.name()) {
                Some(above) => current = above,
                None => return false,
            }
        }
        false
    }

    /// Is there somebody to hand over to? With `shutdown_lsn` only who has all of it (6-07, 6-08).
    pub(super) fn failover_possible(
        &mut self,
        shutdown_lsn: Option<Lsn>,
        without_candidate: bool,
    ) -> Step<bool> {
        let candidates = self.failover_candidates(without_candidate);
        let action = self.failover_action();
        if candidates.is_empty() {
            match self.failover_candidate().map(str::to_owned) {
                Some(candidate) if self.is_synchronous_mode() => {
                    self.warn(not_synchronous(action, &candidate, &self.cluster.sync));
                }
                _ => self.warn(format!("{action}: candidates list is empty")),
            }
        }
        let least = shutdown_lsn.unwrap_or_else(|| self.seen().least_position());
        let fit = CandidateCriteria {
            least,
            timeline: self.check_timeline().then(|| self.seen().known_timeline()),
        };
        let named = self.failover_candidate().is_some() && !without_candidate;
        let quorum = self.cluster.sync.quorum;
        let votes = self.seen().votes_are_binding() && !named;
        // The one that takes over, and with quorum commit so many others that one of them has everything.
        let needed = if votes { quorum.saturating_add(1).max(1) } else { 1 };
        let number = usize::try_from(needed).unwrap_or(usize::MAX);
        let mut good: i64 = -1;
        for peer in self.poll(candidates, Some(StopPolling::EnoughCandidates { fit: fit.clone(), number }))? {
            match fit.objection(&peer) {
                Some(line) => self.log(line),
                None => good += 1,
            }
        }
        if votes && good < quorum {
            self.log(format!("Quorum requirement {quorum} can not be reached"));
            return Ok(false);
        }
        Ok(good >= 0)
    }

    /// Who could be promoted in this node's place, before anybody is asked.
    pub(super) fn failover_candidates(&self, without_candidate: bool) -> Vec<Member> {
        let failover = self.cluster.failover.as_ref();
        let named = self.failover_candidate();
        // A failover without a leader may go to an asynchronous node; a switchover may not.
        let any_node = failover.is_some_and(|f| f.leader.is_none());
        let sync_is_active = self.seen().sync_is_active();
        let eligible = |m: &&Member| {
            let sync_ok = !sync_is_active || self.cluster.sync.matches(&m.name, false) || any_node;
            let wanted = match named {
                Some(name) if without_candidate => m.name != name,
                Some(name) => m.name == name,
                None => true,
            };
            sync_ok && wanted && m.name != self.name() && !m.nofailover() && m.api_url().is_some()
        };
        self.cluster.members.iter().filter(eligible).cloned().collect()
    }
}

/// For the log: the candidate is nobody whom `/sync` lets lead.
pub(super) fn not_synchronous(action: &str, candidate: &str, sync: &SyncState) -> String {
    let (title, standbys) = (title_case(action), sync.sync_standby.as_deref().unwrap_or("None"));
    format!("{title} candidate={candidate} does not match with sync_standbys={standbys}")
}

/// Python's `str.title()` on the few words that we have.
fn title_case(text: &str) -> String {
    let word = |w: &str| {
        let mut chars = w.chars();
        chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}
