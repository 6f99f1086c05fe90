//! What requests of the engine do to peers.

use patroni_core::ha::{ask, Answer, Ask, FailsafeAnswer, FailsafePing, PeerStatus, PgState, StopPolling};
use patroni_core::model::Lsn;
use patroni_core::node::failsafe;
use patroni_core::tags::Tags;

use super::events::After;
use super::planted::Planted;
use super::world::World;

pub(super) type Effect = (u64, Answer, After);

pub(super) fn now_and(latency: u64, answer: Answer) -> Effect {
    (latency, answer, After::Nothing)
}

impl World {
    pub(super) fn ask_peers(&mut self, node: usize, asked: &ask::Peers) -> Effect {
        let ask::Peers { members, decisive } = asked;
        let mut latency = self.rng.between(2, 20);
        let mut answers = Vec::new();
        for member in members {
            let known = self.index_of(&member.name);
            // A lock that the node has is believed: a node that is asked has nothing to say.
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
                    wal_position: if blind { Lsn::MAX } else { Lsn::new(peer.pg.lsn()) },
                    timeline: peer.pg.data.as_ref().map_or(0, |d| d.timeline),
                    watchdog_failed: false,
                    tags: Tags::published(peer.me.tags.as_value()),
                },
                None => PeerStatus::unreachable(&member.name),
            });
        }
        // Answers that decide end the round: a node that is slow is left out. They come in any order, so the
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
