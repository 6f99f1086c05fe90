//! What requests of the engine do to the DCS and to peers.

use std::sync::Arc;

use patroni_core::ha::{
    ask, Answer, Ask, DcsDown, DcsRequest, FailsafeAnswer, FailsafePing, PeerStatus, PgState, StopPolling,
};
use patroni_core::model::{failover_value, sync_state_value, Cluster, Status, SyncState};
use patroni_core::node::failsafe;
use patroni_core::tags::Tags;
use pyfmt::json;

use super::planted::Planted;
use super::world::{After, Event, World};

pub(super) type Effect = (u64, Answer, After);

pub(super) fn now_and(latency: u64, answer: Answer) -> Effect {
    (latency, answer, After::Nothing)
}

/// A request whose failure is an error of the cycle.
fn is_strict(request: &DcsRequest) -> bool {
    match request {
        DcsRequest::LoadCluster(_) | DcsRequest::AcquireLeader(_) | DcsRequest::UpdateLeader(_) => true,
        DcsRequest::TakeLeader(_)
        | DcsRequest::DeleteLeader(_)
        | DcsRequest::WriteStatus(_)
        | DcsRequest::TouchMember(_)
        | DcsRequest::Initialize(_)
        | DcsRequest::CancelInitialization(_)
        | DcsRequest::SetConfig(_)
        | DcsRequest::WriteFailover(_)
        | DcsRequest::WriteSync(_)
        | DcsRequest::DeleteSync(_)
        | DcsRequest::WriteHistory(_) => false,
    }
}

/// The answer when nobody knows what came of it.
fn failure(request: &DcsRequest) -> Answer {
    request.unanswered(DcsDown("simulated".into()))
}

impl World {
    pub(super) fn ask_dcs(&mut self, node: usize, request: &DcsRequest) -> Effect {
        if matches!(request, DcsRequest::DeleteLeader(_)) {
            self.check_handover(node);
        }
        let retry = self.members[node].me.timing.retry_timeout.as_millis() as u64;
        let patience = if is_strict(request) { retry } else { retry / 3 };
        if !self.reaches_dcs(node) {
            return now_and(patience, failure(request));
        }
        // A request may be carried out after its sender has given up.
        let late = match request {
            DcsRequest::WriteSync(_) => self.config.late_writes,
            _ => 1,
        };
        if self.faults_on && self.rng.percent(late) && self.rng.percent(50) {
            let generation = self.members[node].generation;
            let at = self.now + patience + self.rng.between(1, self.config.late_by);
            let life = self.store.created("leader");
            self.at(at, Event::Late { node, generation, life, request: Box::new(request.clone()) });
            return now_and(patience, failure(request));
        }
        let latency = self.dcs_latency(node);
        let answer = self.store_does(node, request);
        // Or before, and the reply is lost.
        let lost = self.faults_on && self.rng.percent(1);
        if lost || latency > patience || self.members[node].deaf_to_dcs {
            return now_and(patience, failure(request));
        }
        if matches!((&answer, request), (Answer::Bool(true), DcsRequest::Initialize(ask::Initialize { sysid, .. })) if sysid.is_empty())
        {
            // The second step, which may fail alone: the next cycle asks again.
            if self.rng.percent(10) {
                return now_and(latency, Answer::Bool(false));
            }
            self.store.put("initialize", "", None);
        }
        now_and(latency, answer)
    }

    /// A request arrives that nobody waits for.
    pub(super) fn late(&mut self, node: usize, generation: u64, life: Option<u64>, request: &DcsRequest) {
        // The lock that the node has won again since is another one.
        if matches!(request, DcsRequest::DeleteLeader(_)) && self.store.created("leader") != life {
            return;
        }
        if self.members[node].generation == generation && self.reaches_dcs(node) {
            self.tell(node, format!("  late in the DCS: {}", short(request)));
            self.store_does(node, request);
        }
    }

    fn own_lease(&mut self, node: usize) -> u64 {
        let now = self.now;
        if let Some(lease) = self.members[node].lease {
            if self.store.keepalive(lease, now) {
                return lease;
            }
        }
        let ttl = self.members[node].me.timing.ttl.as_millis() as u64;
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
        let created = self.store.create("leader", &name, Some(lease));
        if created {
            // In a pause the primary that the daemon finds when it starts is the people's, whatever it lacks.
            let found = self.members[node].started_in_pause && self.members[node].pg.writable();
            if found && self.paused_since.is_some() {
                self.operator_answers_for(node);
            }
            self.retain_slots(node);
            self.members[node].leader_lease = Some(lease);
        }
        created
    }

    fn update(&mut self, node: usize) -> bool {
        let lease = self.own_lease(node);
        let name = self.members[node].me.name.clone();
        match self.store.get("leader") {
            Some(owner) if owner == name => {
                let moves = self.store.lease_of("leader") != Some(lease);
                if moves {
                    self.store.put("leader", &name, Some(lease));
                }
                // A move is sure when the key is read again, as the reply may be lost.
                self.members[node].leader_lease = Some(lease).filter(|_| !moves);
                true
            }
            _ => false,
        }
    }

    fn put_status(&mut self, lsn: u64) {
        self.store.put("status", &format!(r#"{{"optime":{lsn}}}"#), None);
    }

    /// What the DCS does with a request.
    fn store_does(&mut self, node: usize, request: &DcsRequest) -> Answer {
        let name = self.members[node].me.name.clone();
        match request {
            DcsRequest::LoadCluster(asked) => asked.reply(Ok(self.seen_cluster())),
            DcsRequest::AcquireLeader(asked) => asked.reply(Ok(self.acquire(node))),
            DcsRequest::UpdateLeader(asked) => {
                let ok = self.update(node);
                if let (true, Some((lsn, positions))) = (ok, &asked.status) {
                    let text = self.status_of(node, *lsn, positions.clone());
                    self.store.put("status", &text, None);
                }
                if let (true, Some(failsafe)) = (ok, &asked.failsafe) {
                    self.store.put("failsafe", &json::dumps_compact(failsafe), None);
                }
                asked.reply(Ok(ok))
            }
            DcsRequest::TakeLeader(asked) => {
                let lease = self.own_lease(node);
                let free = self.store.get("leader").is_none_or(|holder| holder == name);
                if free {
                    self.store.put("leader", &name, Some(lease));
                }
                self.members[node].leader_lease = Some(lease).filter(|_| free);
                asked.reply(free)
            }
            DcsRequest::DeleteLeader(asked) => {
                if let Some(lsn) = asked.last_lsn {
                    self.put_status(lsn);
                }
                asked.reply(self.store.delete_if_value("leader", &name))
            }
            DcsRequest::WriteStatus(asked) => {
                self.put_status(asked.0);
                asked.reply(())
            }
            DcsRequest::TouchMember(asked) => {
                let lease = self.own_lease(node);
                self.store.put(&format!("members/{name}"), &json::dumps_compact(&asked.0), Some(lease));
                asked.reply(true)
            }
            DcsRequest::Initialize(asked) => asked.reply(self.initialize(node, asked)),
            DcsRequest::CancelInitialization(asked) => asked.reply(self.store.delete_if("initialize", None)),
            DcsRequest::SetConfig(asked) => {
                self.store.put("config", &json::dumps_compact(&asked.0), None);
                asked.reply(true)
            }
            DcsRequest::WriteFailover(asked) => {
                let text = failover_value(None, asked.candidate.as_deref(), asked.scheduled_at.as_deref());
                asked.reply(self.store.put_if("failover", &text, asked.version.as_deref()).is_some())
            }
            DcsRequest::WriteSync(asked) => {
                let ask::WriteSync { leader, standbys, quorum, version } = asked;
                asked.reply(self.write_sync(node, leader, standbys, *quorum, version.as_deref()))
            }
            DcsRequest::DeleteSync(asked) => {
                asked.reply(self.store.delete_if("sync", asked.version.as_deref()))
            }
            DcsRequest::WriteHistory(asked) => {
                self.store.put("history", &asked.0, None);
                asked.reply(true)
            }
        }
    }

    /// A claim, under the lease; the system identifier of a cluster that is there, free of it.
    fn initialize(&mut self, node: usize, asked: &ask::Initialize) -> bool {
        if !asked.create_new {
            self.store.put("initialize", &asked.sysid, None);
            return true;
        }
        if !asked.sysid.is_empty() {
            return self.store.create("initialize", &asked.sysid, None);
        }
        let lease = self.own_lease(node);
        self.store.create("initialize", "", Some(lease))
            || (self.store.get("initialize") == Some("") && self.store.lease_of("initialize") == Some(lease))
    }

    fn write_sync(
        &mut self,
        node: usize,
        leader: &str,
        standbys: &[String],
        quorum: i64,
        version: Option<&str>,
    ) -> Option<String> {
        let known = self.store.get("sync").map(|text| SyncState::from_node(None, text)).unwrap_or_default();
        let shrinks = known.voters().iter().any(|v| !standbys.contains(v));
        let mut quorum = quorum;
        match self.config.planted {
            Planted::DropsSyncLate if shrinks => return self.store.version("sync"),
            Planted::QuorumTooSmall => quorum = (quorum - 1).max(0),
            _ => {}
        }
        let text = sync_state_value(leader, standbys, quorum);
        let unconditional = self.config.planted == Planted::StaleSyncToken || self.members[node].reference;
        let written = match version {
            // The key was not there. The reference writes it without a condition.
            None if !unconditional => {
                self.store.create("sync", &text, None).then(|| self.store.version("sync")).flatten()
            }
            _ => self.store.put_if(
                "sync",
                &text,
                version.filter(|_| self.config.planted != Planted::StaleSyncToken),
            ),
        };
        if written.is_some() {
            self.tell_all(format!("/sync: {text}"));
            self.check_sync_promise();
        }
        written
    }

    /// The cluster as the engine sees it: as it is, but for planted defects.
    fn seen_cluster(&mut self) -> Arc<Cluster> {
        let cluster = self.store.cluster();
        let mut seen = (*cluster).clone();
        match self.config.planted {
            Planted::RacesOutsideSync if cluster.is_unlocked() => {
                seen.sync = SyncState::empty(seen.sync.version.clone());
            }
            Planted::ActsInPause => {
                if let Some(config) = &mut seen.config {
                    config.data.remove("pause");
                }
            }
            Planted::ForgetsStandbyCluster => {
                if let Some(config) = &mut seen.config {
                    config.data.remove("standby_cluster");
                }
            }
            Planted::IgnoresTimeline => seen.history = None,
            Planted::IgnoresLag => seen.status = Status::default(),
            Planted::ForgetsPosition => seen.setbacks = 0,
            _ => return cluster,
        }
        Arc::new(seen)
    }

    pub(super) fn ask_peers(&mut self, node: usize, asked: &ask::Peers) -> Effect {
        let ask::Peers { members, decisive } = asked;
        let mut latency = self.rng.between(2, 20);
        let mut answers = Vec::new();
        for member in members {
            let known = self.index_of(&member.name);
            // A lock that the node has is believed: whoever is asked has nothing to say.
            let believes = self.config.planted == Planted::BelievesInheritedLock
                && matches!(decisive, Some(StopPolling::Outranked(_)))
                && self.store.get("leader") == Some(self.members[node].me.name.as_str());
            let reached = known.filter(|i| self.reaches_peer(node, *i) && self.members[*i].alive);
            if reached.is_none() {
                latency = 2000;
            }
            // A server that is stopping takes no connections, so there is no position to tell.
            let peer = reached
                .map(|i| &self.members[i])
                .filter(|m| m.pg.running && !m.pg.opening && m.pg.data.is_some() && !m.silent())
                .filter(|m| m.pg.state != PgState::Stopping);
            let forgets = self.config.planted == Planted::ForgetsConsent;
            let blind = self.config.planted == Planted::SwitchesUnfed
                && matches!(decisive, Some(StopPolling::EnoughCandidates { .. }));
            answers.push(match peer {
                _ if believes => PeerStatus {
                    reachable: true,
                    in_recovery: Some(true),
                    ..PeerStatus::unreachable(&member.name)
                },
                Some(peer) => PeerStatus {
                    name: member.name.clone(),
                    reachable: true,
                    in_recovery: Some(peer.pg.recovery || forgets),
                    wal_position: if blind { u64::MAX } else { peer.pg.lsn() },
                    timeline: peer.pg.data.as_ref().map_or(0, |d| d.timeline),
                    watchdog_failed: false,
                    tags: Tags::published(peer.me.tags.as_value()),
                },
                None => PeerStatus::unreachable(&member.name),
            });
        }
        // Answers that decide end the round: whoever is slow is left out. They come in any order, so the
        // first that are enough are drawn.
        if let Some(decisive) = decisive.as_ref().filter(|d| d.by(&answers)) {
            latency = latency.min(20);
            for at in (0..answers.len()).rev() {
                let others = answers.iter().enumerate().filter(|(other, _)| *other != at);
                if decisive.by(others.map(|(_, peer)| peer)) && self.rng.percent(50) {
                    answers.remove(at);
                }
            }
        }
        now_and(latency, asked.reply(answers))
    }

    pub(super) fn ping_peers(&mut self, node: usize, asked: &ask::PingFailsafe) -> Effect {
        let ask::PingFailsafe { data, members } = asked;
        let mut latency = self.rng.between(2, 20);
        let mut answers = Vec::new();
        for member in members {
            let peer = self.index_of(&member.name);
            let told = peer.filter(|i| self.packet_passes(node, *i) && self.members[*i].alive);
            let mut accepted = self.config.planted == Planted::FailsafeAlone;
            if let Some(peer) = told {
                let at = self.clock(peer);
                let peer_lock = self.members[peer].lock.until(at);
                let pg = &self.members[peer].pg;
                let leads = failsafe::leads(pg.state, pg.role, peer_lock);
                if !leads && self.config.planted != Planted::ForgetsConsent {
                    self.members[peer].failsafe_ping = Some(FailsafePing { data: data.clone(), at });
                }
                let answered = self.packet_passes(peer, node);
                accepted = if answered { !leads } else { accepted };
            }
            if !told.is_some_and(|peer| self.packet_passes(peer, node)) {
                latency = 2000;
            }
            answers.push(FailsafeAnswer { name: member.name.clone(), accepted, lsn: None });
        }
        now_and(latency, asked.reply(answers))
    }
}

/// The name of a request.
fn short(request: &DcsRequest) -> String {
    let text = format!("{request:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}
