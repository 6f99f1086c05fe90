//! What the coordinator's leader has to do about `pg_dist_node`, and in which order.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{transition, EventKind, Group, Node, COORDINATOR};
use crate::mono::Mono;

/// What Citus is told where nobody says otherwise (surface-dcs 16).
const COOLDOWN: Duration = Duration::from_secs(10);
/// Between two tries to read the table.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Names a task to the caller that waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The rows that a group should have, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The rows.
    pub group: Group,
    /// What happened to the group.
    pub kind: EventKind,
    /// None: found by a cycle. Otherwise told by a worker: for so long a transaction is kept, also while others wait.
    pub timeout: Option<Duration>,
    /// What Citus is told.
    pub cooldown: Duration,
    /// Until when its transaction is kept.
    deadline: Option<Mono>,
    ticket: Ticket,
}

impl Task {
    /// Found by a cycle; nobody has taken it on yet.
    pub fn found(group: Group, kind: EventKind) -> Task {
        Task { group, kind, timeout: None, cooldown: COOLDOWN, deadline: None, ticket: Ticket(0) }
    }

    /// Told by a worker, whose transaction is kept for `timeout`. None: Citus is told what it is told where nobody says
    /// otherwise.
    pub fn told(group: Group, kind: EventKind, timeout: Duration, cooldown: Option<Duration>) -> Task {
        let cooldown = cooldown.unwrap_or(COOLDOWN);
        Task { timeout: Some(timeout), cooldown, ..Task::found(group, kind) }
    }

    fn wants_what(&self, other: &Task) -> bool {
        self.kind == other.kind && self.group.is_like(&other.group)
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Nothing, until something changes, or that moment.
    Wait(Option<Mono>),
    /// Read the table, and say [`Coordinator::loaded`] or [`Coordinator::failed`].
    Load,
    /// End the transaction without effect, and say [`Coordinator::rolled_back`].
    RollBack,
    /// Run statements, and say [`Coordinator::worked`] or [`Coordinator::failed`].
    Work(Work),
}

/// Statements that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    /// A transaction is to begin.
    pub begin: bool,
    /// The rows to change (see [`transition`]).
    pub steps: Vec<Node>,
    /// The transaction is to be committed.
    pub commit: bool,
    /// The group as it is then; the task that adds rows notes their numbers here.
    pub after: Group,
    /// For the updates.
    pub cooldown: Duration,
    task: Task,
}

/// What is known of `pg_dist_node`, and what is to be done to it. One of these lives as long as the daemon.
#[derive(Debug, Clone, Default)]
pub struct Coordinator {
    known: BTreeMap<i64, Group>,
    tasks: Vec<Task>,
    in_flight: Option<Task>,
    /// What is known is not to be believed.
    believed: bool,
    /// This node leads, and its cycles have said so.
    leads: bool,
    read_again: Option<Mono>,
    tickets: u64,
    served: Vec<Ticket>,
}

impl Coordinator {
    /// A cycle of the leader wants the table to say that.
    pub fn sync(&mut self, tasks: Vec<Task>, now: Mono) {
        self.leads = true;
        for task in tasks {
            self.add(task, now);
        }
    }

    /// Has a cycle of this leader been here? Before that no event counts.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// This node leads no more, or is about to stop: what is to be done is another's. True: a transaction is open.
    pub fn stand_down(&mut self) -> bool {
        self.served.extend(self.tasks.drain(..).map(|task| task.ticket));
        let open = self.in_flight.take().is_some();
        (self.leads, self.believed) = (false, false);
        self.known.clear();
        self.read_again = None;
        open
    }

    /// Others may have changed the table: a promotion, the end of a pause.
    pub fn forget(&mut self) {
        self.believed = false;
    }

    /// Those whose tasks are over since this was asked last, however they ended.
    pub fn take_served(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.served)
    }

    fn find(&self, group: i64) -> Option<usize> {
        self.tasks.iter().position(|task| task.group.number == group)
    }

    /// Takes a task on, or not, because there is nothing to be done (surface-dcs 16).
    pub fn add(&mut self, mut task: Task, now: Mono) -> Option<Ticket> {
        let number = task.group.number;
        let queued = self.find(number);
        let flying = self.in_flight.as_ref().filter(|flying| flying.group.number == number);
        if task.timeout.is_none() {
            // What a worker told is newer than what its keys say.
            let told = |other: &Task| other.timeout.is_some();
            let waits = flying.filter(|f| told(f)).and_then(|f| f.deadline).is_some_and(|end| end > now);
            if queued.and_then(|at| self.tasks.get(at)).is_some_and(told) || waits {
                return None;
            }
        }
        self.tickets += 1;
        task.ticket = Ticket(self.tickets);
        let ticket = Some(task.ticket);
        if let Some(other) = queued.and_then(|at| self.tasks.get_mut(at)) {
            if task.wants_what(other) {
                return Some(other.ticket);
            }
            self.served.push(other.ticket);
            *other = task;
            return ticket;
        }
        if !self.believed || flying.is_some() || !self.is_so(&task) {
            self.tasks.push(task);
            return ticket;
        }
        None
    }

    /// Does the table say that already?
    fn is_so(&self, task: &Task) -> bool {
        let known = self.known.get(&task.group.number);
        task.kind == EventKind::AfterPromote && known.is_some_and(|known| known.is_like(&task.group))
    }

    /// In this order: a transaction that goes on holds up all other groups until it ends; the coordinator's own address
    /// is what the others need; then the task that was asked for first.
    pub fn next(&mut self, now: Mono) -> Next {
        if !self.leads {
            return Next::Wait(None);
        }
        if !self.believed {
            return match self.read_again.filter(|at| *at > now) {
                _ if self.in_flight.is_some() => Next::RollBack,
                None => Next::Load,
                later => Next::Wait(later),
            };
        }
        if let Some(flying) = &self.in_flight {
            let at = self.find(flying.group.number);
            return match at.and_then(|at| self.tasks.get(at)) {
                Some(task) => Next::Work(self.work(task.clone(), now)),
                // Nobody is hurt by one that is too old but those who wait.
                None if self.tasks.is_empty() => Next::Wait(None),
                None => match flying.deadline.filter(|end| *end > now) {
                    None => Next::RollBack,
                    end => Next::Wait(end),
                },
            };
        }
        loop {
            let at = self.find(COORDINATOR).unwrap_or(0);
            match self.tasks.get(at).cloned() {
                None => return Next::Wait(None),
                Some(task) if self.is_so(&task) => {
                    self.tasks.remove(at);
                    self.served.push(task.ticket);
                }
                Some(task) => return Next::Work(self.work(task, now)),
            }
        }
    }

    fn work(&self, mut task: Task, now: Mono) -> Work {
        let number = task.group.number;
        let flying = self.in_flight.as_ref().map(|flying| &flying.group);
        let nothing = Group::new(number);
        let old = flying.or_else(|| self.known.get(&number)).unwrap_or(&nothing);
        let (steps, after) = transition(old, task.group.clone());
        let last = task.kind == EventKind::AfterPromote;
        let (begin, commit) = match (last, flying.is_some()) {
            (true, true) => (false, true),
            (true, false) => (steps.len() > 1, steps.len() > 1),
            (false, open) => (!open, false),
        };
        if !last {
            task.deadline = task.timeout.filter(|t| !t.is_zero()).map(|timeout| now + timeout);
        }
        Work { begin, steps, commit, after, cooldown: task.cooldown, task }
    }

    /// The table was read.
    pub fn loaded(&mut self, groups: BTreeMap<i64, Group>) {
        (self.known, self.believed, self.read_again) = (groups, true, None);
    }

    /// Statements were run, and succeeded. False: this node leads no more, and a transaction that they have begun is
    /// nobody's.
    pub fn worked(&mut self, work: Work) -> bool {
        let Work { mut after, mut task, .. } = work;
        self.end(&task);
        if !self.leads {
            return false;
        }
        if task.kind == EventKind::AfterPromote {
            after.failover = false;
            self.known.insert(after.number, after);
            self.in_flight = None;
        } else {
            task.group = after;
            self.in_flight = Some(task);
        }
        true
    }

    fn end(&mut self, task: &Task) {
        self.tasks.retain(|other| other.ticket != task.ticket);
        self.served.push(task.ticket);
    }

    /// A statement failed, or nobody knows what became of it: whatever transaction there was is over, and the table is
    /// read anew. None: it was the reading.
    pub fn failed(&mut self, work: Option<&Work>, now: Mono) {
        match work {
            Some(work) => self.end(&work.task),
            None => self.read_again = Some(now + READ_AGAIN),
        }
        (self.in_flight, self.believed) = (None, false);
    }

    /// The transaction was ended without effect: the table says what it said before.
    pub fn rolled_back(&mut self) {
        self.in_flight = None;
    }

    /// What is in the transaction that goes on.
    pub fn in_flight(&self) -> Option<&Group> {
        self.in_flight.as_ref().map(|task| &task.group)
    }
}
