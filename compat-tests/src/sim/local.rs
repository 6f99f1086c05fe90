//! What requests of the engine do: to the node itself here, to its peers in `effects`, to the DCS in `asks`.

use patroni_core::cluster_state::ClusterState;
use patroni_core::ha::{
    ask, Answer, Ask, ControlData, Job, NodeRequest, PeerRequest, PgState, RecoveryChange, Request, Role,
    ServerRequest, Source, StopMode, Stopping, SyncNames,
};
use patroni_core::node::Cancel;
use patroni_core::sync::{names_value, NameSet};
use patroni_core::PgVersion;
use pyfmt::Value;

use super::effects::{now_and, Effect};
use super::events::{After, Event, Postmaster};
use super::planted::Planted;
use super::world::World;

/// What a request comes to is looked at when the answer is there ([`World::as_of_now`]).
const LATER: Answer = Answer::Done;

impl World {
    /// Carries a request out; the answer arrives after so many milliseconds. None: it is one for the DCS.
    pub(super) fn perform(&mut self, node: usize, request: &Request) -> Option<Effect> {
        let effect = match request {
            Request::Dcs(_) => return None,
            Request::Peers(PeerRequest::Peers(asked)) => self.ask_peers(node, asked),
            Request::Peers(PeerRequest::PingFailsafe(asked)) => self.ping_peers(node, asked),
            Request::Peers(PeerRequest::ReleaseSync(_)) => now_and(1, LATER),
            Request::Server(request) => self.ask_server(node, request),
            Request::Lock(request) => now_and(1, request.noted()),
            Request::Node(request) => self.ask_node(node, request),
        };
        Some(effect)
    }

    fn ask_server(&mut self, node: usize, request: &ServerRequest) -> Effect {
        let answer = match request {
            ServerRequest::SetRole(asked) => {
                self.members[node].pg.role = asked.0;
                asked.reply(())
            }
            ServerRequest::SetState(asked) => {
                self.set_state(node, asked.0);
                asked.reply(())
            }
            ServerRequest::Call(asked) => {
                self.members[node].pg.callback_fired = true;
                asked.reply(())
            }
            ServerRequest::Stop(asked) => return self.stop(node, asked),
            ServerRequest::SetSyncNames(asked) => return self.sync_names_asked(node, asked),
            ServerRequest::Walsenders(asked) => {
                asked.reply(Some(self.receivers(node)).filter(|_| self.members[node].pg.running))
            }
            ServerRequest::StopToCheckpoint(asked) => return self.stop_to_checkpoint(node, asked),
            ServerRequest::ProveGone(asked) => asked.reply(self.prove_gone(node)),
            ServerRequest::AwaitExit(asked) => {
                let ended = asked.reply(!self.members[node].pg.running);
                return now_and(asked.0.as_millis() as u64, ended);
            }
            ServerRequest::ReadControlData(asked) => asked.reply(self.control_data(node)),
            ServerRequest::CheckRecovery(asked) => {
                let unknown = self.fails();
                asked.reply((!unknown).then(|| self.recovery_change(node, asked.0.as_ref())))
            }
            ServerRequest::FollowReload(asked) => {
                asked.reply(!self.fails() && self.follow_reload(node, asked))
            }
            ServerRequest::ReplicaTimeline(asked) => {
                asked.reply(self.members[node].pg.data.as_ref().map(|d| d.timeline))
            }
            ServerRequest::History(asked) => asked.reply(self.history(node, asked.0)),
            ServerRequest::CanRewind(asked) => asked.reply(true),
            ServerRequest::CheckDiverged(asked) => asked.reply(self.diverged(node, &asked.0.member.name)),
            ServerRequest::EnsureCheckpoint(asked) => asked.reply(true),
            ServerRequest::SyncSlots(asked) => asked.reply(self.sync_slots(node, &asked.cluster)),
            ServerRequest::AfterPause(asked) => {
                if let Some(book) = &mut self.members[node].slots.book {
                    book.schedule();
                }
                asked.reply(())
            }
            ServerRequest::QuarantineDataDir(asked) => {
                let moved = !self.fails();
                let pg = &mut self.members[node].pg;
                if moved {
                    (pg.data, pg.slots) = (None, Default::default());
                }
                asked.reply(moved)
            }
            // A new value is taken some time after its reload.
            ServerRequest::CurrentSync(_) => {
                return now_and(if self.rng.percent(50) { 1 } else { 120 }, LATER)
            }
            ServerRequest::Probe(_) => LATER,
            ServerRequest::ResumeReplay(asked) => asked.reply(()),
        };
        now_and(1, answer)
    }

    fn ask_node(&mut self, node: usize, request: &NodeRequest) -> Effect {
        let answer = match request {
            NodeRequest::StartJob(asked) => asked.reply(self.start_job(node, &asked.0)),
            NodeRequest::CancelJob(asked) => asked.reply(self.cancel_job(node, asked.kill)),
            NodeRequest::DropScheduledRestart(asked) => {
                self.members[node].scheduled = None;
                asked.reply(())
            }
            NodeRequest::WatchdogActivate(asked) => {
                let works = !self.members[node].broken_watchdog || !self.config.watchdog;
                if self.config.watchdog && works {
                    self.members[node].watchdog = Some(self.now);
                }
                asked.reply(works)
            }
            NodeRequest::WatchdogKeepalive(asked) => {
                if let Some(fed) = &mut self.members[node].watchdog {
                    *fed = self.now;
                }
                asked.reply(())
            }
            NodeRequest::WatchdogDisable(asked) => {
                let disarmed = !self.fails();
                if disarmed && self.config.planted != Planted::ForgetsWatchdog {
                    self.members[node].watchdog = None;
                }
                asked.reply(disarmed)
            }
            NodeRequest::YieldRace(asked) => {
                let seen = self.store.get("leader").is_some() && !self.members[node].reference;
                let waited = if seen { 50 } else { asked.0.as_millis() as u64 };
                return now_and(waited, asked.reply(()));
            }
        };
        now_and(1, answer)
    }

    fn follow_reload(&mut self, node: usize, asked: &ask::FollowReload) -> bool {
        let wanted = asked.source.as_ref().and_then(|s| self.index_of(&s.member.name));
        if self.config.planted != Planted::ForgetsSource {
            self.members[node].pg.source = wanted;
            self.members[node].pg.receives_anew();
        }
        self.members[node].pg.role = asked.role;
        true
    }

    fn stop(&mut self, node: usize, asked: &ask::Stop) -> Effect {
        if self.config.planted == Planted::NoDemotion {
            return now_and(1, asked.reply(true));
        }
        self.hold(node);
        if !self.members[node].sees_server() && !self.prove_gone(node) {
            return now_and(1, asked.reply(false));
        }
        // One that stops already has been told.
        if self.members[node].pg.running && !self.members[node].pg.stopping && self.fails() {
            self.set_state(node, PgState::StopFailed);
            return now_and(1000, asked.reply(false));
        }
        let looks_fail = self.members[node].looks_fail;
        let pg = &mut self.members[node].pg;
        if !pg.running || self.config.planted == Planted::TakesFailureForEnd && looks_fail {
            if self.config.planted != Planted::ForgetsWatchdog {
                self.members[node].watchdog = None;
            }
            return now_and(1, asked.reply(true));
        }
        let immediate = asked.mode == StopMode::Immediate;
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
        (latency, asked.reply(!looks_fail), After::Stopped { immediate, incarnation })
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

    fn stop_to_checkpoint(&mut self, node: usize, asked: &ask::StopToCheckpoint) -> Effect {
        self.hold(node);
        if !self.members[node].sees_server() {
            return now_and(1, asked.reply(Stopping { checkpoint: None, exited: true }));
        }
        self.members[node].pg.stopping = true;
        self.set_state(node, PgState::Stopping);
        let crawl =
            if std::mem::take(&mut self.members[node].pg.crawls) { self.longest_ttl + 20_000 } else { 0 };
        (crawl + self.rng.between(50, 1500), LATER, After::Checkpoint)
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
        let (mine, theirs) = (self.members[node].pg.data.as_ref()?, theirs.data.as_ref()?);
        // Of two timelines of one number the history files are compared, and nothing else tells them apart.
        Some(!mine.is_prefix_of(theirs) && !mine.looks_like(theirs))
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
                names_value(&set, *num, quorum && num.is_some(), PgVersion::V15)
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
            let late = match self.config.planted {
                Planted::PublishesSyncEarly => 4000,
                // A server that is told, and does not look at its files for a while: for long enough that it matters.
                Planted::LeavesUntakenNames if self.faults_on && self.rng.percent(60) => {
                    self.rng.between(2000, 40_000)
                }
                _ if self.config.unseen && self.faults_on && self.rng.percent(10) => {
                    self.rng.between(2000, 8000)
                }
                _ => 0,
            };
            let at = self.now + self.rng.between(5, 40) + late;
            self.at(at, Event::Postmaster { node, incarnation, what: Postmaster::Reloads });
        }
    }
}
