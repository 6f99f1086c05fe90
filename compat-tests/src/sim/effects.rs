//! What requests of the engine do to the simulated world.

use patroni_core::ha::{
    Answer, ControlData, DcsDown, FailsafeAnswer, FailsafePing, Job, PeerStatus, PgState, RecoveryChange,
    Request, StopMode,
};
use patroni_core::model::{failover_value, sync_state_value, Member as Peer};
use patroni_core::tags::Tags;
use pyfmt::{json, Value};

use super::node::mono;
use super::world::{After, Planted, World};

type Effect = (u64, Answer, After);

fn now_and(latency: u64, answer: Answer) -> Effect {
    (latency, answer, After::Nothing)
}

impl World {
    /// Carries a request out; the answer arrives after so many milliseconds.
    pub(super) fn perform(&mut self, node: usize, request: &Request) -> Effect {
        match request {
            Request::LoadCluster | Request::AcquireLeader | Request::UpdateLeader { .. } => {
                self.lock_request(node, request)
            }
            Request::TakeLeader
            | Request::DeleteLeader { .. }
            | Request::WriteStatus(_)
            | Request::TouchMember(_)
            | Request::Initialize { .. }
            | Request::CancelInitialization
            | Request::SetConfig(_)
            | Request::WriteFailover { .. }
            | Request::WriteSync { .. }
            | Request::DeleteSync { .. }
            | Request::WriteHistory(_) => self.plain_write(node, request),
            Request::Peers(members) => self.ask_peers(node, members),
            Request::FailsafePing { data, members } => self.ping_peers(node, data, members),
            other => self.local(node, other),
        }
    }

    /// Requests whose failure is an error of the cycle.
    fn lock_request(&mut self, node: usize, request: &Request) -> Effect {
        let down = DcsDown("simulated".into());
        let error = |request: &Request| match request {
            Request::LoadCluster => Answer::Cluster(Err(down.clone())),
            _ => Answer::Dcs(Err(down.clone())),
        };
        if !self.reaches_dcs(node) {
            return now_and(self.config.retry_timeout, error(request));
        }
        // A reply may be lost although the request was carried out.
        let lost = self.faults_on && self.rng.percent(1);
        let answer = match request {
            Request::LoadCluster => Answer::Cluster(Ok(std::sync::Arc::new(self.store.cluster()))),
            Request::AcquireLeader => Answer::Dcs(Ok(self.acquire(node))),
            Request::UpdateLeader { status, failsafe } => {
                let ok = self.update(node);
                if let (true, Some((lsn, _))) = (ok, status) {
                    self.store.put("status", &format!(r#"{{"optime":{lsn}}}"#), None);
                }
                if let (true, Some(failsafe)) = (ok, failsafe) {
                    self.store.put("failsafe", &json::dumps_compact(failsafe), None);
                }
                Answer::Dcs(Ok(ok))
            }
            _ => Answer::Dcs(Ok(false)),
        };
        if lost {
            return now_and(self.config.retry_timeout, error(request));
        }
        // The promise counts from when the request was sent.
        let sent = mono(self.now);
        match (&answer, request) {
            (Answer::Dcs(Ok(true)), _) => self.members[node].keeper.lease_confirmed(sent),
            (Answer::Dcs(Ok(false)), Request::UpdateLeader { .. }) => {
                self.members[node].keeper.lease_dropped()
            }
            _ => {}
        }
        (self.rng.between(1, 20), answer, After::Nothing)
    }

    fn own_lease(&mut self, node: usize) -> u64 {
        let (now, ttl) = (self.now, self.config.ttl);
        if let Some(lease) = self.members[node].lease {
            if self.store.keepalive(lease, now, ttl) {
                return lease;
            }
        }
        let lease = self.store.grant(now, ttl);
        self.members[node].lease = Some(lease);
        lease
    }

    fn acquire(&mut self, node: usize) -> bool {
        let lease = self.own_lease(node);
        let name = self.members[node].me.name.clone();
        if self.config.planted == Planted::TakesLockBlindly {
            self.store.put("leader", &name, Some(lease));
            return true;
        }
        self.store.create("leader", &name, Some(lease))
    }

    fn update(&mut self, node: usize) -> bool {
        let lease = self.own_lease(node);
        let name = self.members[node].me.name.clone();
        match self.store.get("leader") {
            Some(owner) if owner == name => {
                if self.store.lease_of("leader") != Some(lease) {
                    self.store.put("leader", &name, Some(lease));
                }
                true
            }
            Some(_) => false,
            None => self.store.create("leader", &name, Some(lease)),
        }
    }

    /// Requests whose failure is only a no.
    fn plain_write(&mut self, node: usize, request: &Request) -> Effect {
        if matches!(request, Request::DeleteLeader { .. }) {
            self.members[node].keeper.lease_dropped();
        }
        if !self.reaches_dcs(node) {
            let answer = match request {
                Request::WriteSync { .. } => Answer::Version(None),
                Request::WriteStatus(_) => Answer::Done,
                _ => Answer::Bool(false),
            };
            return now_and(self.config.retry_timeout / 3, answer);
        }
        let name = self.members[node].me.name.clone();
        let latency = self.rng.between(1, 20);
        let done = match request {
            Request::TakeLeader => {
                let lease = self.own_lease(node);
                self.store.put("leader", &name, Some(lease));
                self.members[node].keeper.lease_confirmed(mono(self.now));
                true
            }
            Request::DeleteLeader { last_lsn } => {
                if let Some(lsn) = last_lsn {
                    self.store.put("status", &format!(r#"{{"optime":{lsn}}}"#), None);
                }
                self.store.delete_if_value("leader", &name)
            }
            Request::WriteStatus(lsn) => {
                self.store.put("status", &format!(r#"{{"optime":{lsn}}}"#), None);
                return now_and(latency, Answer::Done);
            }
            Request::TouchMember(data) => {
                let lease = self.own_lease(node);
                self.store.put(&format!("members/{name}"), &json::dumps_compact(data), Some(lease));
                true
            }
            Request::Initialize { create_new: true, sysid } => self.store.create("initialize", sysid, None),
            Request::Initialize { sysid, .. } => {
                self.store.put("initialize", sysid, None);
                true
            }
            Request::CancelInitialization => self.store.delete_if("initialize", None),
            Request::SetConfig(config) => {
                self.store.put("config", &json::dumps_compact(config), None);
                true
            }
            Request::WriteFailover { candidate, scheduled_at, version } => {
                let text = failover_value(None, candidate.as_deref(), scheduled_at.as_deref());
                self.store.put_if("failover", &text, version.as_deref()).is_some()
            }
            Request::WriteSync { leader, standbys, quorum, version } => {
                let text = sync_state_value(leader, standbys, *quorum);
                let version = self.store.put_if("sync", &text, version.as_deref());
                return now_and(latency, Answer::Version(version));
            }
            Request::DeleteSync { version } => self.store.delete_if("sync", version.as_deref()),
            Request::WriteHistory(text) => {
                self.store.put("history", text, None);
                true
            }
            _ => false,
        };
        now_and(latency, Answer::Bool(done))
    }

    fn ask_peers(&mut self, node: usize, members: &[Peer]) -> Effect {
        let mut latency = self.rng.between(2, 20);
        let mut answers = Vec::new();
        for member in members {
            let known = self.index_of(&member.name);
            let reached = known.filter(|i| self.reaches_peer(node, *i));
            let peer = reached.map(|i| &self.members[i].pg).filter(|pg| pg.running && pg.data.is_some());
            if reached.is_none() {
                latency = 2000;
            }
            answers.push(match peer {
                Some(pg) => PeerStatus {
                    name: member.name.clone(),
                    reachable: true,
                    in_recovery: Some(pg.recovery),
                    wal_position: pg.lsn(),
                    timeline: pg.data.as_ref().map_or(0, |d| d.timeline),
                    watchdog_failed: false,
                    tags: Tags::default(),
                },
                None => PeerStatus {
                    name: member.name.clone(),
                    reachable: false,
                    in_recovery: None,
                    wal_position: 0,
                    timeline: 0,
                    watchdog_failed: false,
                    tags: Tags::default(),
                },
            });
        }
        now_and(latency, Answer::Peers(answers))
    }

    fn ping_peers(&mut self, node: usize, data: &Value, members: &[Peer]) -> Effect {
        let mut latency = self.rng.between(2, 20);
        let mut answers = Vec::new();
        for member in members {
            let reached = self.index_of(&member.name).filter(|i| self.reaches_peer(node, *i));
            let accepted = match reached {
                Some(peer) if !self.members[peer].pg.writable() => {
                    self.members[peer].failsafe_ping =
                        Some(FailsafePing { data: data.clone(), at: mono(self.now) });
                    true
                }
                Some(_) => false,
                None => {
                    latency = 2000;
                    false
                }
            };
            answers.push(FailsafeAnswer { name: member.name.clone(), accepted, lsn: None });
        }
        now_and(latency, Answer::Failsafe(answers))
    }

    /// Requests that concern this node alone.
    fn local(&mut self, node: usize, request: &Request) -> Effect {
        let answer = match request {
            Request::Probe => Answer::Pg(Box::new(self.members[node].pg_view(self.now))),
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
            Request::StopToCheckpoint { .. } => Answer::Stopping { locations: None, exited: true },
            Request::StartJob(job) => Answer::Started(self.start_job(node, job)),
            Request::CancelJob { kill } => Answer::Bool(self.cancel_job(node, *kill)),
            Request::ControlData => Answer::Control(self.control_data(node)),
            Request::CheckRecovery(source) => {
                let wanted = source.as_ref().and_then(|s| self.index_of(&s.member.name));
                let pg = &self.members[node].pg;
                Answer::Recovery(RecoveryChange {
                    change: !pg.recovery || pg.source != wanted,
                    restart: !pg.recovery,
                })
            }
            Request::FollowReload { source, role } => {
                let wanted = source.as_ref().and_then(|s| self.index_of(&s.member.name));
                self.members[node].pg.source = wanted;
                self.members[node].pg.role = *role;
                Answer::Done
            }
            Request::CurrentSync { .. } => Answer::Sync(Some(Default::default())),
            Request::ReplicaTimeline { .. } => {
                Answer::Timeline(self.members[node].pg.data.as_ref().map(|d| d.timeline))
            }
            Request::History(timeline) => Answer::History(self.history(node, *timeline)),
            Request::CanRewind => Answer::Bool(true),
            Request::CheckDiverged(source) => Answer::Diverged(self.diverged(node, &source.member.name)),
            Request::EnsureCheckpoint | Request::WatchdogActivate => Answer::Bool(true),
            Request::SyncSlots { .. } => Answer::Names(Vec::new()),
            Request::ExtendLease => {
                self.members[node].keeper.lease_confirmed(mono(self.now));
                Answer::Done
            }
            Request::DropLease => {
                self.members[node].keeper.lease_dropped();
                Answer::Done
            }
            Request::Courtesy(limit) => {
                let waited = if self.store.get("leader").is_some() { 50 } else { limit.as_millis() as u64 };
                return now_and(waited, Answer::Done);
            }
            Request::MoveDataDirectory => {
                self.members[node].pg.data = None;
                Answer::Done
            }
            _ => Answer::Done,
        };
        now_and(1, answer)
    }

    fn stop(&mut self, node: usize, mode: StopMode) -> Effect {
        if self.config.planted == Planted::NoDemotion {
            return now_and(1, Answer::Bool(true));
        }
        if !self.members[node].pg.running {
            return now_and(1, Answer::Bool(true));
        }
        let immediate = mode == StopMode::Immediate;
        // Sessions end with the signal; a fast stop then takes its checkpoint.
        self.members[node].pg.stopping = true;
        self.set_state(node, PgState::Stopping);
        let latency = if immediate { self.rng.between(20, 200) } else { self.rng.between(100, 3000) };
        (latency, Answer::Bool(true), After::Stopped { immediate })
    }

    fn control_data(&self, node: usize) -> ControlData {
        let pg = &self.members[node].pg;
        let state = match &pg.data {
            Some(_) if pg.running && !pg.recovery => "in production",
            Some(data) if data.dirty && !pg.recovery => "in production",
            Some(_) if pg.recovery => "in archive recovery",
            _ => "shut down",
        };
        ControlData { state: state.into(), recovery_conf_exists: pg.recovery, ..ControlData::default() }
    }

    fn history(&self, node: usize, timeline: u32) -> Vec<Value> {
        let Some(data) = self.members[node].pg.data.as_ref().filter(|d| d.timeline >= timeline) else {
            return Vec::new();
        };
        let me = self.members[node].me.name.as_str();
        let row = |(tli, lsn): &(u32, u64)| {
            Value::List(vec![(*tli).into(), (*lsn).into(), "simulated".into(), "t".into(), me.into()])
        };
        data.history.iter().filter(|(tli, _)| *tli < timeline).map(row).collect()
    }

    fn diverged(&self, node: usize, source: &str) -> Option<bool> {
        let source = self.index_of(source).filter(|i| self.reaches_peer(node, *i))?;
        let theirs = &self.members[source].pg;
        if !theirs.running || theirs.recovery {
            return None;
        }
        let mine = self.members[node].pg.data.as_ref()?;
        Some(!mine.is_prefix_of(theirs.data.as_ref()?))
    }

    fn cancel_job(&mut self, node: usize, kill: bool) -> bool {
        if self.is_job(node, |job| *job == Job::Promote) && self.members[node].pg.recovery {
            self.members[node].job = None;
            return true;
        }
        if kill && self.is_job(node, |job| matches!(job, Job::Restart { .. } | Job::StartPrimary { .. })) {
            self.members[node].job = None;
            self.members[node].pg.crash();
            return true;
        }
        false
    }
}
