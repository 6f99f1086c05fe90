//! Requests to the DCS: each is a future of the upper floor that ships, which is run from one answer of the store to
//! the next. What becomes of a request to the store on its way is decided here.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use patroni_core::ha::{ask, Answer, Ask, DcsRequest, Request};
use patroni_core::model::{Cluster, Status, SyncState};
use patroni_requests::carry_out;
use pyfmt::json;

use super::dcs::{Kind, Op, Said};
use super::events::{After, Event};
use super::floor::Asked;
use super::objects::SYNC;
use super::planted::Planted;
use super::world::World;

/// A request that is being carried out.
pub struct Task(Pin<Box<dyn Future<Output = Answer>>>);

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Task")
    }
}

impl World {
    /// The future of a request to the DCS.
    pub(super) fn task(&mut self, node: usize, request: &DcsRequest, may_spare: bool) -> Task {
        if matches!(request, DcsRequest::DeleteLeader(_)) {
            self.check_handover(node);
        }
        if let DcsRequest::LoadCluster(asked) = request {
            if let Some(cluster) = self.believed(node) {
                let answer = asked.reply(Ok(cluster));
                return Task(Box::pin(async move { answer }));
            }
        }
        let waits = self.config.planted == Planted::WaitsForOutsider;
        if waits && matches!(request, DcsRequest::AcquireLeader(_)) && self.another_is_named(node) {
            return Task(Box::pin(async { Answer::Dcs(Ok(false)) }));
        }
        let mut request = request.clone();
        if let DcsRequest::WriteSync(ask::WriteSync { standbys, quorum, .. }) = &mut request {
            let known =
                self.store.get("sync").map(|text| SyncState::from_node(None, text)).unwrap_or_default();
            let shrinks = known.voters().iter().any(|voter| !standbys.contains(voter));
            match self.config.planted {
                Planted::DropsSyncLate if shrinks => {
                    let version = self.store.version("sync");
                    return Task(Box::pin(async move { Answer::Version(version) }));
                }
                Planted::QuorumTooSmall => *quorum = (*quorum - 1).max(0),
                _ => {}
            }
        }
        let mut status = None;
        if let DcsRequest::UpdateLeader(ask::UpdateLeader { status: Some((lsn, positions)), .. }) = &request {
            status = Some(self.status_of(node, *lsn, positions.clone()));
        }
        let member = &self.members[node];
        let leader = member.seen.leader.clone();
        let upper = member.upper.clone();
        let spare = may_spare && !member.reference;
        Task(Box::pin(
            async move { carry_out(&*upper, &request, leader.as_ref(), status.as_ref(), spare).await },
        ))
    }

    /// With the planted defect: what was read last, however long ago, as long as the watch has told of nothing.
    fn believed(&self, node: usize) -> Option<Arc<Cluster>> {
        let member = &self.members[node];
        let same = *member.upper.changes().borrow() == member.told_of && member.loaded_at > 0;
        let believes = self.config.planted == Planted::BelievesTheCopy && same;
        Some(member.seen.clone()).filter(|cluster| believes && !cluster.is_unlocked())
    }

    /// Does an order name another candidate?
    fn another_is_named(&self, node: usize) -> bool {
        let order = self.store.get("failover").and_then(|text| json::loads(text).ok());
        let named = order.as_ref().and_then(|order| order.get("member")).filter(|name| name.truthy());
        named.is_some_and(|name| name.py_str() != self.members[node].me.name)
    }

    /// Runs the request as far as it gets without another answer of the store.
    pub(super) fn run_task(&mut self, node: usize) {
        let member = &mut self.members[node];
        member.tell_time(self.now);
        let Some(running) = member.cycle.as_mut() else { return };
        let ticket = running.ticket;
        let Some(task) = running.task.as_mut() else { return };
        match task.0.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => {
                running.task = None;
                self.check_lock_answer(node, &answer);
                let answer = self.seen_as(answer);
                if let (Answer::Dcs(Ok(true)), true) = (&answer, self.asks_for_lock(node)) {
                    self.retain_slots(node);
                }
                let now = self.now;
                self.at(now, Event::Answer { node, ticket, answer: Box::new(answer), after: After::Nothing });
            }
            Poll::Pending => {
                while let Some(asked) = self.members[node].upper.store().take_asked() {
                    let id = asked.id;
                    let (after, said) = self.fate(node, asked);
                    let at = self.now + after;
                    self.at(at, Event::Said { node, ticket, id, said: said.map(Box::new) });
                }
            }
        }
    }

    fn asks_for_lock(&self, node: usize) -> bool {
        let running = self.members[node].cycle.as_ref();
        running.is_some_and(|running| {
            matches!(running.sent.request(), Request::Dcs(DcsRequest::AcquireLeader(_)))
        })
    }

    /// An answer of the store, or the end of the wait for it.
    pub(super) fn said(&mut self, node: usize, ticket: u64, id: u64, said: Option<Said>) {
        if self.members[node].cycle.as_ref().is_some_and(|running| running.ticket == ticket) {
            let setbacks = self.store.setbacks();
            self.members[node].upper.store().answer(id, said, setbacks);
            self.run_task(node);
        }
    }

    /// What becomes of a request to the store: after so long there is an answer, or the client waits no longer.
    pub(super) fn fate(&mut self, node: usize, asked: Asked) -> (u64, Option<Said>) {
        let Asked { op, patience, .. } = asked;
        let patience = patience.as_millis() as u64 * 1000 / self.members[node].rate + 1;
        if matches!(op, Op::Pause(_)) {
            return (patience, Some(Said::Done(0)));
        }
        if !self.reaches_dcs(node) {
            return (patience, None);
        }
        // It may be carried out after its sender has given up.
        let late = match &op {
            Op::Put { key, .. } if key == "sync" && self.config.late_writes > 1 => self.config.late_writes,
            Op::Write(patch) if patch.name == SYNC && self.config.late_writes > 1 => self.config.late_writes,
            _ if self.config.lossy => 4,
            _ => 1,
        };
        if self.faults_on && self.rng.percent(late) && self.rng.percent(50) {
            let generation = self.members[node].generation;
            let at = self.now + patience + self.rng.between(1, self.config.late_by);
            self.at(at, Event::Late { node, generation, op: Box::new(op) });
            return (patience, None);
        }
        let latency = self.dcs_latency(node);
        let said = self.store_does(node, &op);
        // Or before, and the answer is lost.
        let lost = self.faults_on && self.rng.percent(if self.config.lossy { 6 } else { 1 });
        if lost || latency > patience || self.members[node].deaf_to_dcs {
            return (patience, None);
        }
        (latency, Some(said))
    }

    /// A request arrives that nobody waits for.
    pub(super) fn late(&mut self, node: usize, generation: u64, op: &Op) {
        if self.members[node].generation == generation && self.reaches_dcs(node) {
            let said = self.store_does(node, op);
            self.tell(
                node,
                format!(
                    "  late in the DCS: {}: {}",
                    short(op),
                    if matches!(said, Said::Done(_) | Said::Object(Some(_))) { "done" } else { "refused" }
                ),
            );
        }
    }

    fn store_does(&mut self, node: usize, op: &Op) -> Said {
        let leaderless = self.store.get("leader").is_none();
        let leads = self.store.get("leader") == Some(self.members[node].me.name.as_str());
        let said = self.store.carry_out(op, self.now);
        if let (Op::Put { key, value, .. }, Said::Done(_)) = (op, &said) {
            if key == "sync" {
                self.tell_all(format!("/sync: {value}"));
                self.check_sync_promise();
            }
            if key == "leader" && leaderless {
                self.takes_found_primary(node);
            }
        }
        if let (Op::Write(patch), Said::Object(Some(_))) = (op, &said) {
            if patch.name == SYNC {
                self.tell_all(format!("/sync: {}", self.store.get("sync").unwrap_or_default()));
                self.check_sync_promise();
            }
            if !leads && self.store.get("leader") == Some(self.members[node].me.name.as_str()) {
                self.takes_found_primary(node);
            }
        }
        said
    }

    /// In a pause the primary that the daemon finds when it starts is the people's, whatever it lacks.
    fn takes_found_primary(&mut self, node: usize) {
        let found = self.members[node].started_in_pause && self.members[node].pg.writable();
        if found && self.paused_since.is_some() {
            self.operator_answers_for(node);
        }
    }

    /// What a node is told of the lock is true of some moment since it asked.
    fn check_lock_answer(&mut self, node: usize, answer: &Answer) {
        let member = &self.members[node];
        let Some(running) = member.cycle.as_ref().filter(|_| self.restored_at.is_none()) else { return };
        let now_ours = self.store.get("leader") == Some(member.me.name.as_str());
        // Where an older answer of the store stands for this one, since then.
        let trust = if running.sent.may_spare() { member.me.timing.trust().as_millis() as u64 } else { 0 };
        let since = running.asked.saturating_sub(trust * 11 / 10);
        let had = now_ours || self.last_leader == member.me.name || member.had_lock_at >= since;
        let lacked = !now_ours || member.lacked_lock_at >= member.loaded_at;
        let Request::Dcs(request) = running.sent.request() else { return };
        if let Answer::Cluster(Ok(cluster)) = answer {
            // Elsewhere a view may be old for other reasons, and a lock in an object ends by each member's own clock.
            let tells_all = self.config.store == Kind::Etcd3;
            let old = cluster.leader_name().unwrap_or_default() != self.last_leader && !now_ours;
            if tells_all && old && self.leader_since < since {
                let ms = running.asked - self.leader_since;
                self.fail(12, format!("n{node} goes by a leader that is none any more since {ms} ms"));
            }
            return;
        }
        let granted = matches!(
            (request, answer),
            (DcsRequest::AcquireLeader(_) | DcsRequest::UpdateLeader(_), Answer::Dcs(Ok(true)))
                | (DcsRequest::TakeLeader(_), Answer::Bool(true))
        );
        let refused = matches!(
            (request, answer),
            (DcsRequest::UpdateLeader(_) | DcsRequest::AcquireLeader(_), Answer::Dcs(Ok(false)))
        );
        let what = if granted && !had {
            "is told that it has the lock, and had it at no time since it asked"
        } else if refused && !lacked && member.seen.leader.is_some() {
            "is told that it does not have the lock, and had it all the time"
        } else {
            return;
        };
        self.fail(12, format!("n{node} {what}"));
    }

    /// What the keeper has renewed is what the leader key is attached to.
    pub(super) fn check_renewal(&mut self, node: usize, session: Option<u64>) {
        let ours = self.store.get("leader") == Some(self.members[node].me.name.as_str());
        let hangs = self.store.session_of("leader");
        if ours && session.is_some() && hangs != session && self.restored_at.is_none() {
            self.fail(
                12,
                format!("n{node} renews session {session:?}, and the leader key is attached to {hangs:?}"),
            );
        }
    }

    /// The cluster as the engine sees it: as it is, but for planted defects.
    fn seen_as(&self, answer: Answer) -> Answer {
        let Answer::Cluster(Ok(cluster)) = answer else { return answer };
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
            _ => return Answer::Cluster(Ok(cluster)),
        }
        Answer::Cluster(Ok(Arc::<Cluster>::new(seen)))
    }
}

fn short(op: &Op) -> String {
    match op {
        Op::Put { key, .. } => format!("put {key}"),
        Op::Delete { key, .. } => format!("delete {key}"),
        Op::Write(patch) => format!("write {}", patch.name),
        other => format!("{other:?}"),
    }
}
