//! Answers the engine's requests from a [`World`].

use std::collections::BTreeMap;

use super::super::*;
use super::world::{Answers, Reply, World};
use crate::model::Lsn;
use crate::model::Member;

/// The changing part of a world while a cycle runs.
pub struct Executor {
    pub keys: BTreeMap<String, String>,
    pub loads: usize,
    pub pg: PgView,
    /// Name of the job that runs.
    pub job: Option<String>,
}

impl Executor {
    /// As the cycle finds it.
    pub fn of(world: &World) -> Executor {
        Executor {
            keys: world.keys.clone(),
            loads: 0,
            pg: world.view.pg.clone(),
            job: world.view.job.as_ref().map(|j| j.job.name()).or(world.answers.running.clone()),
        }
    }

    pub fn answer(&mut self, world: &mut World, request: &Request) -> Answer {
        match request {
            Request::Dcs(request) => self.dcs(world, request),
            Request::Peers(request) => peers(&world.answers, request),
            Request::Server(request) => self.server(world, request),
            Request::Lock(request) => request.noted(),
            Request::Node(request) => self.node(&world.answers, request),
        }
    }

    fn server(&mut self, world: &mut World, request: &ServerRequest) -> Answer {
        if let (ServerRequest::Probe(asked), true) = (request, world.answers.promoted_by_hand) {
            let primary = world.clone().primary().view.pg.query;
            return asked.reply(Box::new(PgView { query: primary, ..self.pg.clone() }));
        }
        let a = &mut world.answers;
        match request {
            ServerRequest::Probe(asked) => asked.reply(Box::new(self.pg.clone())),
            ServerRequest::SetRole(asked) => {
                self.pg.role = asked.0;
                asked.reply(())
            }
            ServerRequest::SetState(asked) => {
                self.pg.state = asked.0;
                asked.reply(())
            }
            ServerRequest::Call(asked) => {
                self.pg.callback_fired = true;
                asked.reply(())
            }
            ServerRequest::Stop(asked) => {
                if a.stop {
                    self.pg.running = false;
                    self.pg.state = PgState::Stopped;
                    self.pg.query = Query::Unreachable;
                }
                asked.reply(a.stop)
            }
            ServerRequest::StopToCheckpoint(asked) => asked.reply(a.stopping.clone()),
            ServerRequest::AwaitExit(asked) => asked.reply(a.exits),
            ServerRequest::ProveGone(asked) => asked.reply(a.proven),
            ServerRequest::ReadControlData(asked) => asked.reply(a.control.clone()),
            ServerRequest::CheckRecovery(asked) => asked.reply(a.recovery),
            ServerRequest::FollowReload(asked) => {
                if a.reload {
                    self.pg.role = asked.role;
                }
                asked.reply(a.reload)
            }
            ServerRequest::ResumeReplay(asked) => asked.reply(()),
            ServerRequest::SetSyncNames(asked) => asked.reply(a.sync_names),
            ServerRequest::Walsenders(asked) => asked.reply(a.walsenders.clone()),
            ServerRequest::CurrentSync(asked) => asked.reply(match a.sync.len() {
                0 => None,
                1 => a.sync.first().cloned().map(Box::new),
                _ => Some(Box::new(a.sync.remove(0))),
            }),
            ServerRequest::ReplicaTimeline(_) if a.confused => Answer::Done,
            ServerRequest::ReplicaTimeline(asked) => asked.reply(a.replica_timeline),
            ServerRequest::History(asked) => asked.reply(a.history.clone()),
            ServerRequest::CanRewind(asked) => asked.reply(a.can_rewind),
            ServerRequest::CheckDiverged(asked) => asked.reply(a.diverged),
            ServerRequest::EnsureCheckpoint(asked) => asked.reply(a.checkpoint),
            ServerRequest::SyncSlots(asked) => asked.reply(a.slots.clone()),
            ServerRequest::AfterPause(asked) => asked.reply(()),
            ServerRequest::QuarantineDataDir(asked) => asked.reply(true),
        }
    }

    fn node(&mut self, a: &Answers, request: &NodeRequest) -> Answer {
        match request {
            NodeRequest::StartJob(asked) => asked.reply(self.start(&asked.0)),
            NodeRequest::CancelJob(asked) => asked.reply(a.cancel),
            NodeRequest::WatchdogActivate(asked) => asked.reply(a.watchdog),
            NodeRequest::WatchdogDisable(asked) => asked.reply(a.unwatch),
            NodeRequest::WatchdogKeepalive(asked) => asked.reply(()),
            NodeRequest::YieldRace(asked) => asked.reply(()),
            NodeRequest::DropScheduledRestart(asked) => asked.reply(()),
        }
    }

    fn start(&mut self, job: &Job) -> Result<(), String> {
        match &self.job {
            Some(running) => Err(running.clone()),
            None => {
                self.job = Some(job.name());
                Ok(())
            }
        }
    }

    fn dcs(&mut self, world: &World, request: &DcsRequest) -> Answer {
        let a = &world.answers;
        let reply = |r: Reply| match r {
            Reply::Yes => Ok(true),
            Reply::No => Ok(false),
            Reply::Down => Err(DcsDown("down".into())),
        };
        match request {
            DcsRequest::LoadCluster(asked) => {
                self.loads += 1;
                if self.loads > 1 {
                    self.time_passes(world);
                }
                let down = self.loads > a.loads;
                asked.reply(if down { Err(DcsDown("down".into())) } else { Ok(world.cluster(&self.keys)) })
            }
            DcsRequest::AcquireLeader(asked) => {
                match a.acquire {
                    Reply::Yes => self.set("leader", &world.view.me.name),
                    Reply::No | Reply::Down => self.time_passes(world),
                }
                asked.reply(reply(a.acquire))
            }
            DcsRequest::UpdateLeader(asked) => asked.reply(reply(a.update)),
            DcsRequest::TakeLeader(asked) => {
                self.set("leader", &world.view.me.name);
                asked.reply(a.take_leader)
            }
            DcsRequest::DeleteLeader(asked) => {
                if self.keys.get("leader").map(String::as_str) == Some(world.view.me.name.as_str()) {
                    self.keys.remove("leader");
                }
                asked.reply(true)
            }
            DcsRequest::WriteStatus(asked) => asked.reply(()),
            DcsRequest::Initialize(asked) => {
                if a.initialize {
                    self.set("initialize", &asked.sysid);
                }
                asked.reply(a.initialize)
            }
            DcsRequest::WriteFailover(asked) => {
                if asked.candidate.is_none() {
                    self.keys.remove("failover");
                }
                asked.reply(true)
            }
            DcsRequest::TouchMember(asked) => asked.reply(true),
            DcsRequest::SetConfig(asked) => asked.reply(true),
            DcsRequest::WriteHistory(asked) => asked.reply(true),
            DcsRequest::DeleteSync(asked) => asked.reply(true),
            DcsRequest::CancelInitialization(asked) => asked.reply(true),
            DcsRequest::WriteSync(asked) => asked.reply(a.write_sync.then(|| "8".into())),
        }
    }

    fn time_passes(&mut self, world: &World) {
        for (path, value) in &world.later {
            match value {
                Some(value) => self.set(path, value),
                None => {
                    self.keys.remove(path);
                }
            }
        }
    }

    fn set(&mut self, path: &str, value: &str) {
        self.keys.insert(path.into(), value.into());
    }
}

fn peers(a: &Answers, request: &PeerRequest) -> Answer {
    match request {
        PeerRequest::Peers(asked) => {
            let mut heard: Vec<PeerStatus> = Vec::new();
            for member in asked.members.iter().rev() {
                heard.insert(0, peer(member, &a.peers));
                if a.hurried && asked.decisive.as_ref().is_some_and(|d| d.by(&heard)) {
                    break;
                }
            }
            asked.reply(heard)
        }
        PeerRequest::PingFailsafe(asked) => {
            let answer = |m: &Member| FailsafeAnswer {
                name: m.name.clone(),
                accepted: a.failsafe.get(&m.name).copied().unwrap_or(false),
                lsn: Some(Lsn::new(2000)),
            };
            asked.reply(asked.members.iter().map(answer).collect())
        }
        PeerRequest::ReleaseSync(asked) => asked.reply(()),
    }
}

fn peer(member: &Member, known: &BTreeMap<String, PeerStatus>) -> PeerStatus {
    known.get(&member.name).cloned().unwrap_or_else(|| PeerStatus {
        name: member.name.clone(),
        reachable: false,
        in_recovery: None,
        wal_position: Lsn::ZERO,
        timeline: 0,
        watchdog_failed: false,
        tags: crate::tags::Tags::default(),
    })
}
