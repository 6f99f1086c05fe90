//! What requests of the engine do: to the node itself here, to the DCS and its peers in `effects`.

use patroni_core::cluster_state::ClusterState;
use patroni_core::ha::{
    Answer, ControlData, Job, PgState, RecoveryChange, Request, Role, Source, StopMode, SyncNames,
};
use patroni_core::node::Cancel;
use patroni_core::sync::{names_value, NameSet};
use pyfmt::Value;

use super::effects::{now_and, Effect};
use super::planted::Planted;
use super::world::{After, Event, Postmaster, World};

impl World {
    /// Carries a request out; the answer arrives after so many milliseconds.
    pub(super) fn perform(&mut self, node: usize, request: &Request) -> Effect {
        let answer = match request {
            Request::SetRole(role) => {
                self.members[node].pg.role = *role;
                Answer::Done
            }
            Request::SetState(state) => {
                self.set_state(node, *state);
                Answer::Done
            }
            Request::Call(_) => {
                self.members[node].pg.cb_called = true;
                Answer::Done
            }
            Request::Stop { mode, .. } => return self.stop(node, *mode),
            Request::FollowReload { .. } | Request::WatchdogDisable | Request::MoveDataDirectory
                if self.fails() =>
            {
                Answer::Bool(false)
            }
            Request::CheckRecovery(_) if self.fails() => Answer::Recovery(None),
            Request::SetSyncNames(names) => return self.sync_names_asked(node, names),
            Request::Walsenders => {
                Answer::Walsenders(Some(self.receivers(node)).filter(|_| self.members[node].pg.running))
            }
            Request::StopToCheckpoint { .. } => return self.stop_to_checkpoint(node),
            Request::ProveGone => Answer::Bool(self.prove_gone(node)),
            Request::AwaitExit(wait) => {
                return now_and(wait.as_millis() as u64, Answer::Bool(!self.members[node].pg.running));
            }
            Request::StartJob(job) => Answer::Started(self.start_job(node, job)),
            Request::CancelJob { kill } => Answer::Bool(self.cancel_job(node, *kill)),
            Request::ControlData => Answer::Control(self.control_data(node)),
            Request::CheckRecovery(source) => {
                Answer::Recovery(Some(self.recovery_change(node, source.as_ref())))
            }
            Request::FollowReload { source, role } => {
                let wanted = source.as_ref().and_then(|s| self.index_of(&s.member.name));
                if self.config.planted != Planted::ForgetsSource {
                    self.members[node].pg.source = wanted;
                    self.members[node].pg.receives_anew();
                }
                self.members[node].pg.role = *role;
                Answer::Bool(true)
            }
            Request::ReplicaTimeline { .. } => {
                Answer::Timeline(self.members[node].pg.data.as_ref().map(|d| d.timeline))
            }
            Request::History(timeline) => Answer::History(self.history(node, *timeline)),
            Request::CanRewind => Answer::Bool(true),
            Request::CheckDiverged(source) => Answer::Diverged(self.diverged(node, &source.member.name)),
            Request::EnsureCheckpoint => Answer::Bool(true),
            Request::DropScheduledRestart => {
                self.members[node].scheduled = None;
                Answer::Done
            }
            Request::SyncSlots { cluster, .. } => Answer::Names(self.sync_slots(node, cluster)),
            Request::AfterPause => {
                if let Some(book) = &mut self.members[node].slots.book {
                    book.schedule();
                }
                Answer::Done
            }
            Request::WatchdogActivate => {
                let works = !self.members[node].broken_watchdog || !self.config.watchdog;
                if self.config.watchdog && works {
                    self.members[node].watchdog = Some(self.now);
                }
                Answer::Bool(works)
            }
            Request::WatchdogKeepalive => {
                if let Some(fed) = &mut self.members[node].watchdog {
                    *fed = self.now;
                }
                Answer::Done
            }
            Request::WatchdogDisable => {
                if self.config.planted != Planted::ForgetsWatchdog {
                    self.members[node].watchdog = None;
                }
                Answer::Bool(true)
            }
            Request::Courtesy(limit) => {
                let seen = self.store.get("leader").is_some() && !self.members[node].reference;
                let waited = if seen { 50 } else { limit.as_millis() as u64 };
                return now_and(waited, Answer::Done);
            }
            Request::MoveDataDirectory => {
                let pg = &mut self.members[node].pg;
                (pg.data, pg.slots) = (None, Default::default());
                Answer::Bool(true)
            }
            Request::CurrentSync { .. } => {
                // A new value is taken some time after its reload.
                return now_and(if self.rng.percent(50) { 1 } else { 120 }, Answer::Done);
            }
            // What these come to is looked at when the answer is there; the promise is the driver's.
            Request::Probe
            | Request::ReleaseSync
            | Request::ResumeReplay
            | Request::DropLease
            | Request::ExtendLease { .. } => Answer::Done,
            Request::LoadCluster
            | Request::AcquireLeader
            | Request::UpdateLeader { .. }
            | Request::TakeLeader
            | Request::DeleteLeader { .. }
            | Request::WriteStatus(_)
            | Request::TouchMember(_)
            | Request::Initialize { .. }
            | Request::CancelInitialization
            | Request::SetConfig(_)
            | Request::WriteFailover { .. }
            | Request::WriteSync { .. }
            | Request::DeleteSync { .. }
            | Request::WriteHistory(_) => return self.ask_dcs(node, request),
            Request::Peers { members, decisive } => return self.ask_peers(node, members, decisive.as_ref()),
            Request::FailsafePing { data, members } => return self.ping_peers(node, data, members),
        };
        now_and(1, answer)
    }

    fn stop(&mut self, node: usize, mode: StopMode) -> Effect {
        if self.config.planted == Planted::NoDemotion {
            return now_and(1, Answer::Bool(true));
        }
        self.hold(node);
        if !self.members[node].sees_server() && !self.prove_gone(node) {
            return now_and(1, Answer::Bool(false));
        }
        // One that stops already has been told.
        if self.members[node].pg.running && !self.members[node].pg.stopping && self.fails() {
            self.set_state(node, PgState::StopFailed);
            return now_and(1000, Answer::Bool(false));
        }
        let looks_fail = self.members[node].looks_fail;
        let pg = &mut self.members[node].pg;
        if !pg.running || self.config.planted == Planted::TakesFailureForEnd && looks_fail {
            if self.config.planted != Planted::ForgetsWatchdog {
                self.members[node].watchdog = None;
            }
            return now_and(1, Answer::Bool(true));
        }
        let immediate = mode == StopMode::Immediate;
        // Sessions end with the signal; a fast stop then takes its checkpoint.
        pg.stopping = true;
        let (slow, incarnation) = (pg.slow, pg.incarnation);
        self.set_state(node, PgState::Stopping);
        let latency = match (immediate, slow) {
            (true, _) => self.rng.between(20, 200),
            (false, false) => self.rng.between(100, 3000),
            (false, true) => self.rng.between(3000, 40_000),
        };
        // It ends, and nobody can prove it.
        (latency, Answer::Bool(!looks_fail), After::Stopped { immediate, incarnation })
    }

    /// Are operators' jobs refused?
    pub(super) fn holds(&self, node: usize) -> bool {
        let mut slot = self.members[node].slot.clone();
        slot.abandon();
        slot.order(&Job::CrashRecovery, self.clock(node)).is_err()
            && self.config.planted != Planted::RestartsDemoted
    }

    /// Until the engine has decided what follows, nobody else starts the server; a restart that has begun ends.
    fn hold(&mut self, node: usize) {
        let ends = self.members[node].slot.hold();
        if ends && self.config.planted != Planted::RestartsDemoted {
            self.members[node].slot.abandon();
            self.members[node].disable_sync = false;
        }
    }

    fn stop_to_checkpoint(&mut self, node: usize) -> Effect {
        self.hold(node);
        if !self.members[node].sees_server() {
            return now_and(1, Answer::Stopping { locations: None, exited: true });
        }
        self.members[node].pg.stopping = true;
        self.set_state(node, PgState::Stopping);
        let crawl =
            if std::mem::take(&mut self.members[node].pg.crawls) { self.longest_ttl + 20_000 } else { 0 };
        (crawl + self.rng.between(50, 1500), Answer::Done, After::Checkpoint)
    }

    fn control_data(&self, node: usize) -> ControlData {
        let pg = &self.members[node].pg;
        let state = match &pg.data {
            Some(_) if pg.running && !pg.recovery => ClusterState::InProduction,
            Some(data) if data.dirty && !pg.recovery => ClusterState::InProduction,
            Some(_) if pg.recovery => ClusterState::InArchiveRecovery,
            _ => ClusterState::ShutDown,
        };
        ControlData { state, recovery_conf_exists: pg.recovery, ..ControlData::default() }
    }

    fn recovery_change(&self, node: usize, source: Option<&Source>) -> RecoveryChange {
        let wanted = source.and_then(|s| self.index_of(&s.member.name));
        let pg = &self.members[node].pg;
        let forgets = self.config.planted == Planted::ForgetsSource && pg.recovery;
        RecoveryChange { change: !forgets && (!pg.recovery || pg.source != wanted), restart: !pg.recovery }
    }

    fn history(&self, node: usize, timeline: u32) -> Vec<Value> {
        let own = self.members[node].pg.data.as_ref();
        let Some(data) =
            [own, self.fetched_history(node)].into_iter().flatten().find(|d| d.timeline >= timeline)
        else {
            return Vec::new();
        };
        let me = self.members[node].me.name.as_str();
        let row = |(tli, lsn, _): &(u32, u64, u64)| {
            Value::List(vec![(*tli).into(), (*lsn).into(), "simulated".into(), "t".into(), me.into()])
        };
        data.history.iter().filter(|(tli, ..)| *tli < timeline).map(row).collect()
    }

    fn diverged(&self, node: usize, source: &str) -> Option<bool> {
        let source = self.index_of(source).filter(|i| self.reaches_peer(node, *i))?;
        let theirs = self.server(source);
        if !theirs.running || theirs.recovery {
            return None;
        }
        if self.config.planted == Planted::NeverRewinds {
            return Some(false);
        }
        let mine = self.members[node].pg.data.as_ref()?;
        Some(!mine.is_prefix_of(theirs.data.as_ref()?))
    }

    fn cancel_job(&mut self, node: usize, kill: bool) -> bool {
        // Until the order has gone out.
        let committed = self.members[node].pg.role == Role::Promoted || !self.members[node].pg.recovery;
        match self.members[node].slot.cancel(kill, committed) {
            Cancel::No => return false,
            Cancel::Tell => {}
            Cancel::End => self.members[node].pg.crash(),
        }
        self.members[node].slot.abandon();
        true
    }

    /// The text for these names.
    pub(super) fn sync_value(&self, node: usize, names: &SyncNames) -> String {
        let quorum = self.members[node].dynamic.is_quorum_commit_mode();
        let value = match names {
            SyncNames::User(value) => value.clone(),
            SyncNames::Star => Some("*".to_owned()),
            SyncNames::Nodes { names, num } => {
                let set: NameSet = names.iter().collect();
                names_value(&set, *num, quorum && num.is_some(), 150_000)
            }
        };
        value.unwrap_or_default()
    }

    /// The file at once, the server a moment later.
    pub(super) fn set_sync_names(&mut self, node: usize, names: &SyncNames) {
        let value = self.sync_value(node, names);
        let pg = &mut self.members[node].pg;
        if pg.sync_file == value || (pg.recovery && self.config.planted == Planted::PromotesUnsynced) {
            return;
        }
        pg.sync_file = value;
        if pg.running && pg.state == PgState::Running {
            let incarnation = pg.incarnation;
            let late = if self.config.planted == Planted::PublishesSyncEarly { 4000 } else { 0 };
            let at = self.now + self.rng.between(5, 40) + late;
            self.at(at, Event::Postmaster { node, incarnation, what: Postmaster::Reloads });
        }
    }
}
