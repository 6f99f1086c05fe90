//! How a cycle begins, asks and ends, and when it is skipped.

use std::time::Duration;

use super::lock::{LeaderLock, Now, Server};
use crate::ha::{
    self, ask, Answer, Ask, Finished, Job, JobResult, Level, LogLine, Memory, Mono, Progress, Request, Role,
    Transcript, View,
};
use crate::model::Cluster;

/// Time between two looks at a server that does not answer.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// More questions than any cycle has: then code and answers do not fit.
const MAX_QUESTIONS: usize = 200;

/// Which decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of the HA loop.
    Cycle,
    /// The last one: the daemon ends.
    Shutdown,
}

/// What a cycle begins with, besides its memory.
#[derive(Debug, Default)]
pub struct Start<'a> {
    /// The jobs that have ended since the last one.
    pub ended: Vec<(Job, JobResult)>,
    /// An operator's restart has begun, with this timeout: if it fails, the leader key is given up.
    pub restarting: Option<Duration>,
    /// The cluster as last read by anybody.
    pub cluster: Option<&'a Cluster>,
    /// This node's name.
    pub name: &'a str,
}

/// What the driver has to do next.
#[derive(Debug)]
pub enum Step {
    /// Look at everything ([`View`]), then [`Cycle::looked`].
    Look,
    /// [`Cycle::sends`] it, carry it out, [`Cycle::answered`].
    Ask(Question),
    /// The cycle is over without decisions; its status line.
    Skipped(String),
    /// The cycle is over, and the memory is the new one.
    Finished(Decided),
}

/// A request that nobody can carry out before the lock has heard of it.
#[derive(Debug)]
pub struct Question(Box<Request>);

/// A request of which the lock has heard, and when that was: a lease counts from then.
#[derive(Debug)]
pub struct Sent {
    request: Box<Request>,
    at: Mono,
    may_spare: bool,
}

impl Sent {
    /// What is to be carried out.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Before it goes out.
    pub fn at(&self) -> Mono {
        self.at
    }

    /// See [`LeaderLock::may_spare`].
    pub fn may_spare(&self) -> bool {
        self.may_spare
    }
}

/// The end of a cycle, which the lock has to hear of first.
#[derive(Debug)]
pub struct Decided(Box<Finished>);

impl Decided {
    /// The lock hears of it. `memory`: the new one.
    pub fn settle(self, memory: &Memory, lock: &mut LeaderLock, server: &Server) -> Finished {
        lock.cycle_settled(memory, server);
        *self.0
    }
}

#[derive(Debug)]
enum Phase {
    /// The keeper has stopped PostgreSQL, because the DCS or something on this node hung. Another node shall take over
    /// at once, if the DCS still listens.
    AfterFence(Fenced),
    Look,
    Decide(Box<View>),
    /// A server that does not answer leads.
    Hung,
}

#[derive(Debug, Clone, Copy)]
enum Fenced {
    /// Is the server gone, for certain?
    Prove,
    /// Not yet, or nobody can tell.
    Unproven,
    DeleteKey,
    TakeRole,
}

/// A cycle that runs.
#[derive(Debug)]
pub struct Cycle {
    kind: Kind,
    phase: Phase,
    transcript: Transcript,
    /// By the cluster last read before this cycle, this node has the lock.
    led: bool,
}

impl Cycle {
    /// Begins: the memory takes note of what happened between the cycles.
    pub fn begin(kind: Kind, start: Start<'_>, memory: &mut Memory, lock: &mut LeaderLock) -> Cycle {
        for (job, result) in &start.ended {
            memory.job_finished(job, result);
        }
        if let Some(timeout) = start.restarting {
            memory.start.begun();
            memory.start.within(timeout);
        }
        lock.cycle_begins(memory);
        if lock.fenced_server_is_replaced() {
            lock.fence_handled();
        }
        let phase = match kind {
            Kind::Cycle if lock.is_fenced() => Phase::AfterFence(Fenced::Prove),
            Kind::Cycle | Kind::Shutdown => Phase::Look,
        };
        let led = start.cluster.is_some_and(|cluster| cluster.leader_name() == Some(start.name));
        Cycle { kind, phase, transcript: Transcript::default(), led }
    }

    /// Which decisions are made.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What it decides on; None before it was looked.
    pub fn view(&self) -> Option<&View> {
        match &self.phase {
            Phase::Decide(view) => Some(view),
            Phase::AfterFence(_) | Phase::Look | Phase::Hung => None,
        }
    }

    /// What to do next, and what to say to the log. It may take its time: the lock is not needed for it.
    pub fn step(&mut self, memory: &mut Memory, now: Mono) -> (Step, Vec<LogLine>) {
        let view = match &self.phase {
            Phase::AfterFence(Fenced::Prove) => return put(ask::ProveGone),
            Phase::AfterFence(Fenced::DeleteKey) => return put(ask::DeleteLeader { last_lsn: None }),
            // Nor does it come back as a primary without having won the lock again.
            Phase::AfterFence(Fenced::TakeRole) => return put(ask::SetRole(Role::Demoted)),
            Phase::AfterFence(Fenced::Unproven) => return (skip(memory, now), Vec::new()),
            Phase::Look => return (Step::Look, Vec::new()),
            Phase::Hung => {
                let text = "PostgreSQL does not answer, the leader lock is not renewed";
                return (skip(memory, now), vec![LogLine { level: Level::Error, text: text.into() }]);
            }
            Phase::Decide(view) => view,
        };
        let engine = match self.kind {
            Kind::Cycle => ha::run,
            Kind::Shutdown => ha::run_shutdown,
        };
        let (progress, lines) = engine(view, memory, &self.transcript);
        let mut lines = self.transcript.fresh(lines);
        let step = match progress {
            Progress::Ask(request) if self.transcript.len() < MAX_QUESTIONS => Step::Ask(Question(request)),
            Progress::Ask(request) => {
                let text = format!("Unexpected exception: no end of questions: {request:?}");
                lines.push(LogLine { level: Level::Error, text });
                Step::Skipped("Unexpected exception raised, please report it as a BUG".into())
            }
            Progress::Finished(finished) => {
                *memory = finished.memory.clone();
                Step::Finished(Decided(finished))
            }
        };
        (step, lines)
    }

    /// Everything was looked at. `silent`: a server runs and does not answer. Where the reference's loop blocks in a
    /// statement that is never answered, its lock runs out and another node takes over. We go on looking, but do not ask
    /// for the lock before the server speaks again.
    pub fn looked(&mut self, view: View, silent: bool) {
        let leads_unheard = silent && view.lease_until.is_some() && view.job.is_none();
        self.phase = match self.kind {
            Kind::Cycle if leads_unheard => Phase::Hung,
            Kind::Cycle | Kind::Shutdown => Phase::Decide(Box::new(view)),
        };
    }

    /// A request is about to go out.
    pub fn sends(&self, question: Question, now: &Now<'_>, lock: &mut LeaderLock) -> Sent {
        lock.request_sent(&question.0, now);
        let may_spare = lock.may_spare(&question.0, now.at);
        Sent { request: question.0, at: now.at, may_spare }
    }

    /// Its answer is there; a failure is one as well. `now.paused` is as of this answer.
    pub fn answered(&mut self, sent: Sent, answer: Answer, now: &Now<'_>, lock: &mut LeaderLock) {
        let Sent { request, at, may_spare } = sent;
        lock.answered((&request, &answer), at, may_spare, now);
        let Phase::AfterFence(fenced) = self.phase else {
            return self.transcript.record(*request, answer, now.at);
        };
        self.phase = match fenced {
            Fenced::Prove if ask::ProveGone.heard(&answer) != Some(&true) => {
                Phase::AfterFence(Fenced::Unproven)
            }
            Fenced::Prove if self.led => Phase::AfterFence(Fenced::DeleteKey),
            // A DCS that does not listen lets the key expire.
            Fenced::Prove | Fenced::DeleteKey => Phase::AfterFence(Fenced::TakeRole),
            Fenced::TakeRole | Fenced::Unproven => {
                lock.fence_handled();
                Phase::Look
            }
        };
    }
}

/// A question of the driver's own.
fn put(question: impl Ask) -> (Step, Vec<LogLine>) {
    (Step::Ask(Question(Box::new(question.into()))), Vec::new())
}

/// A cycle without decisions. The next look comes soon: what was only slow must not cost the lock.
fn skip(memory: &mut Memory, now: Mono) -> Step {
    memory.wake_at = Some(now + LOOK_AGAIN);
    let pause = if memory.config.is_paused() { "PAUSE: " } else { "" };
    Step::Skipped(format!("{pause}Error communicating with PostgreSQL. Will try again later"))
}

#[cfg(test)]
mod tests;
