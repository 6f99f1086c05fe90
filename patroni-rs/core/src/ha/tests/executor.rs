//! Answers the engine's requests from a [`World`].

use std::collections::BTreeMap;

use super::super::*;
use super::world::{Reply, World};
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
    pub fn answer(&mut self, world: &mut World, request: &Request) -> Answer {
        if let Some(answer) = self.dcs(world, request) {
            return answer;
        }
        let a = &mut world.answers;
        match request {
            Request::Peers { members, decisive } => {
                let mut heard: Vec<PeerStatus> = Vec::new();
                for member in members.iter().rev() {
                    heard.insert(0, peer(member, &a.peers));
                    if a.hurried && decisive.as_ref().is_some_and(|d| d.by(&heard)) {
                        break;
                    }
                }
                Answer::Peers(heard)
            }
            Request::FailsafePing { members, .. } => Answer::Failsafe(
                members
                    .iter()
                    .map(|m| FailsafeAnswer {
                        name: m.name.clone(),
                        accepted: a.failsafe.get(&m.name).copied().unwrap_or(false),
                        lsn: Some(2000),
                    })
                    .collect(),
            ),
            Request::Stop { .. } => {
                if a.stop {
                    self.pg.running = false;
                    self.pg.state = PgState::Stopped;
                    self.pg.query = Query::Unreachable;
                }
                Answer::Bool(a.stop)
            }
            Request::StopToCheckpoint { .. } => {
                Answer::Stopping { locations: a.stopping.0, exited: a.stopping.1 }
            }
            Request::AwaitExit(_) => Answer::Bool(a.exits),
            Request::StartJob(job) => Answer::Started(self.start(job)),
            Request::CancelJob { .. } => Answer::Bool(a.cancel),
            Request::ControlData => Answer::Control(a.control.clone()),
            Request::CheckRecovery(_) => Answer::Recovery(a.recovery),
            Request::CurrentSync { .. } => Answer::Sync(match a.sync.len() {
                0 => None,
                1 => a.sync.first().cloned().map(Box::new),
                _ => Some(Box::new(a.sync.remove(0))),
            }),
            Request::SetSyncNames(_) => Answer::SyncNames(a.sync_names),
            Request::Walsenders => Answer::Walsenders(a.walsenders.clone()),
            Request::WatchdogDisable => Answer::Bool(a.unwatch),
            Request::MoveDataDirectory => Answer::Bool(true),
            Request::FollowReload { .. } if !a.reload => Answer::Bool(false),
            Request::ReplicaTimeline { .. } if a.confused => Answer::Done,
            Request::ReplicaTimeline { .. } => Answer::Timeline(a.replica_timeline),
            Request::History(_) => Answer::History(a.history.clone()),
            Request::CanRewind => Answer::Bool(a.can_rewind),
            Request::CheckDiverged(_) => Answer::Diverged(a.diverged),
            Request::EnsureCheckpoint => Answer::Bool(a.checkpoint),
            Request::SyncSlots { .. } => Answer::Names(a.slots.clone()),
            Request::WatchdogActivate => Answer::Bool(a.watchdog),
            Request::ProveGone => Answer::Bool(a.proven),
            other => self.local(world, other),
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

    fn local(&mut self, world: &World, request: &Request) -> Answer {
        match request {
            Request::Probe if world.answers.promoted_by_hand => {
                let primary = world.clone().primary().view.pg.query;
                return Answer::Pg(Box::new(PgView { query: primary, ..self.pg.clone() }));
            }
            Request::Probe => return Answer::Pg(Box::new(self.pg.clone())),
            Request::SetRole(role) => self.pg.role = *role,
            Request::SetState(state) => self.pg.state = *state,
            Request::Call(_) => self.pg.cb_called = true,
            Request::FollowReload { role, .. } => {
                self.pg.role = *role;
                return Answer::Bool(true);
            }
            _ => {}
        }
        Answer::Done
    }

    fn dcs(&mut self, world: &World, request: &Request) -> Option<Answer> {
        let a = &world.answers;
        let down = || DcsDown("down".into());
        let reply = |r: Reply| match r {
            Reply::Yes => Ok(true),
            Reply::No => Ok(false),
            Reply::Down => Err(down()),
        };
        Some(match request {
            Request::LoadCluster => {
                self.loads += 1;
                if self.loads > 1 {
                    self.time_passes(world);
                }
                if self.loads > a.loads {
                    return Some(Answer::Cluster(Err(down())));
                }
                Answer::Cluster(Ok(world.cluster(&self.keys)))
            }
            Request::AcquireLeader => {
                match a.acquire {
                    Reply::Yes => self.set("leader", &world.view.me.name),
                    _ => self.time_passes(world),
                }
                Answer::Dcs(reply(a.acquire))
            }
            Request::UpdateLeader { .. } => Answer::Dcs(reply(a.update)),
            Request::TakeLeader => {
                self.set("leader", &world.view.me.name);
                Answer::Bool(a.take_leader)
            }
            Request::DeleteLeader { .. } => {
                if self.keys.get("leader").map(String::as_str) == Some(world.view.me.name.as_str()) {
                    self.keys.remove("leader");
                }
                Answer::Bool(true)
            }
            Request::Initialize { sysid, .. } => {
                if a.initialize {
                    self.set("initialize", sysid);
                }
                Answer::Bool(a.initialize)
            }
            Request::WriteFailover { candidate: None, .. } => {
                self.keys.remove("failover");
                Answer::Bool(true)
            }
            Request::TouchMember(_)
            | Request::SetConfig(_)
            | Request::WriteFailover { .. }
            | Request::WriteHistory(_)
            | Request::DeleteSync { .. }
            | Request::CancelInitialization => Answer::Bool(true),
            Request::WriteSync { .. } => Answer::Version(a.write_sync.then(|| "8".into())),
            _ => return None,
        })
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

fn peer(member: &Member, known: &BTreeMap<String, PeerStatus>) -> PeerStatus {
    known.get(&member.name).cloned().unwrap_or_else(|| PeerStatus {
        name: member.name.clone(),
        reachable: false,
        in_recovery: None,
        wal_position: 0,
        timeline: 0,
        watchdog_failed: false,
        tags: crate::tags::Tags::default(),
    })
}
