//! The leader lock, as this node holds it: what was promised to it, and how the fence is armed.
//!
//! The only part of the driver that the lock keeper's thread shares with the HA loop. Every method is short and waits
//! for nobody. Who changes it tells the guardian [`LeaderLock::promise`] before he lets go of it, so that the guardian
//! hears of changes in their order.
//!
//! The fence is armed wherever a loop that hangs from then on would leave a server that writes: with the question for
//! the lock, between two questions, when a server comes to be known, with the order to promote, and at a cycle's end.

use std::time::Duration;

use crate::ha::guardian::Held;
use crate::ha::keeper::{Arm, Keeper, Next, Writer};
use crate::ha::{ask, Answer, Ask, DcsRequest, LockRequest, Memory, Mono, Request, Role};
use crate::timing::Timing;

/// A renewal takes no longer than this; in doubt, where only a quick answer helps, than the second one.
const RENEWAL_LIMITS: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(1));
/// Nor is one tried with less time than this.
const LEAST_LIMIT: Duration = Duration::from_millis(200);
/// Where nothing renews the lease beside the cycles.
const NOBODY_RENEWS: Duration = Duration::from_secs(3600);

/// What is known of the server here, as far as the fence is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server {
    /// A number that no other postmaster has; 0: none is known.
    pub number: u64,
    /// The role in which it is believed to run.
    pub role: Role,
    /// The order to promote it has gone out, and nobody knows yet what came of it.
    pub promoting: bool,
    /// It has said that it is a primary, when it was asked last.
    pub writes: bool,
    /// It is being stopped, and no client can write any more.
    pub quiet: bool,
}

impl Server {
    /// PostgreSQL is stopped before the lease ends only where it may be writing: not on a standby, and not in pause.
    fn arm(&self, paused: bool, bootstrapping: bool) -> Arm {
        let writer = Writer { role: self.role, promoting: self.promoting, says_primary: self.writes };
        match Arm::of(writer, paused || bootstrapping) {
            Arm::Off => Arm::Off,
            _ if self.quiet => Arm::Reads,
            arm => arm,
        }
    }
}

/// What the driver knows when it sends a request, or has its answer.
#[derive(Debug, Clone, Copy)]
pub struct Now<'a> {
    /// When this is.
    pub at: Mono,
    /// This node's name.
    pub name: &'a str,
    /// The newest dynamic configuration is that of a pause.
    pub paused: bool,
    /// The durations in force.
    pub timing: Timing,
    /// What the store grants a lock, however long the ttl is.
    pub granted: Duration,
    /// The server here.
    pub server: Server,
}

/// What a renewal beside the cycles came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// The lease lives on, for so long from when the request was sent.
    Until(Duration),
    /// The DCS has said that it is gone.
    Gone,
    /// Nobody answered in time.
    Unanswered,
}

/// The lock is held, and the fence armed for what a promotion brings: nobody else can say so.
#[derive(Debug)]
pub struct MayPromote(());

/// What a request means for the promise of the lock.
#[derive(Debug, Clone, Copy)]
enum Meaning<'a> {
    /// The keys are read, with the name of who holds it.
    Reads(&'a ask::LoadCluster),
    /// It is asked for.
    Asks(&'a ask::AcquireLeader),
    /// It is prolonged.
    Renews(&'a ask::UpdateLeader),
    /// It is taken without a condition: the bootstrap is over.
    Takes(&'a ask::TakeLeader),
    /// It is given up.
    GivesUp,
    /// It holds by consent of all peers, from then on.
    HasConsent(Mono),
    /// It is lost.
    Loses,
    Nothing,
}

impl Meaning<'_> {
    /// A request of the DCS that is new has to say what it means, and so has a group of requests.
    fn of(request: &Request) -> Meaning<'_> {
        match request {
            Request::Dcs(request) => Meaning::of_dcs(request),
            Request::Lock(LockRequest::ExtendLease(ask::ExtendLease { sent })) => Meaning::HasConsent(*sent),
            Request::Lock(LockRequest::DropLease(_)) => Meaning::Loses,
            Request::Peers(_) | Request::Server(_) | Request::Node(_) => Meaning::Nothing,
        }
    }

    fn of_dcs(request: &DcsRequest) -> Meaning<'_> {
        match request {
            DcsRequest::LoadCluster(asked) => Meaning::Reads(asked),
            DcsRequest::AcquireLeader(asked) => Meaning::Asks(asked),
            DcsRequest::UpdateLeader(asked) => Meaning::Renews(asked),
            DcsRequest::TakeLeader(asked) => Meaning::Takes(asked),
            DcsRequest::DeleteLeader(_) => Meaning::GivesUp,
            DcsRequest::WriteStatus(_)
            | DcsRequest::TouchMember(_)
            | DcsRequest::Initialize(_)
            | DcsRequest::CancelInitialization(_)
            | DcsRequest::SetConfig(_)
            | DcsRequest::WriteFailover(_)
            | DcsRequest::WriteSync(_)
            | DcsRequest::DeleteSync(_)
            | DcsRequest::WriteHistory(_) => Meaning::Nothing,
        }
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub struct LeaderLock {
    keeper: Keeper,
    /// What keeps the fence away, as far as the cycle that runs knows: a pause, a cluster that is being made.
    paused: bool,
    bootstrapping: bool,
    /// The cycle that runs has asked for the lock, and holds it.
    asked: bool,
    /// It has asked, and got no answer.
    unanswered: bool,
    /// The keeper has begun to stop this server, by its number, and nobody acted upon it yet.
    fenced: Option<u64>,
}

impl LeaderLock {
    /// Nothing held. `timing`: as in force in the DCS client; `paused`: of the dynamic configuration first read.
    pub fn new(timing: Timing, paused: bool) -> LeaderLock {
        LeaderLock {
            keeper: Keeper::new(timing),
            paused,
            bootstrapping: false,
            asked: false,
            unanswered: false,
            fenced: None,
        }
    }

    // ---- the HA loop ----

    /// A cycle begins with this memory. It may stand still before its own end, which takes note of more.
    pub fn cycle_begins(&mut self, memory: &Memory) {
        (self.paused, self.bootstrapping) = (memory.config.is_paused(), memory.bootstrap.running);
    }

    /// A request is about to go out, now.
    pub fn request_sent(&mut self, request: &Request, now: &Now<'_>) {
        // A shorter ttl holds for what is promised already: this request may bring a lease of that length.
        self.keeper.set_timing(now.timing, now.at);
        match Meaning::of(request) {
            Meaning::Asks(_) => self.will_ask(now),
            Meaning::Takes(_) => {
                // The bootstrap is over, and what was promised before it.
                self.bootstrapping = false;
                self.keeper.lease_released();
                self.will_ask(now);
            }
            Meaning::GivesUp => self.keeper.lease_released(),
            Meaning::HasConsent(sent) => {
                self.confirmed(sent, now);
                self.keeper.lease_consented(sent);
            }
            Meaning::Loses => self.keeper.lease_dropped(),
            Meaning::Renews(_) | Meaning::Reads(_) | Meaning::Nothing => {}
        }
    }

    /// The lock is about to be asked for: a hung loop would not hear the answer. It ends a pause that is over.
    fn will_ask(&mut self, now: &Now<'_>) {
        self.paused &= now.paused;
        // First: what was promised before concerns no server that is news here, and this does.
        self.arm(&now.server);
        self.keeper.store_grants(now.granted, now.at);
        self.keeper.lease_asked(now.at);
    }

    /// May this request be answered by what the store has told before, and its watch would have told since? Whoever
    /// carries it out decides whether it is. Not where the loop has to look what became of the lock.
    pub fn may_spare(&self, request: &Request, now: Mono) -> bool {
        match Meaning::of(request) {
            Meaning::Reads(_) => !self.keeper.wants_look(),
            Meaning::Renews(_) => self.keeper.still_stands(now),
            Meaning::Asks(_)
            | Meaning::Takes(_)
            | Meaning::GivesUp
            | Meaning::HasConsent(_)
            | Meaning::Loses
            | Meaning::Nothing => false,
        }
    }

    /// The answer to a request that was sent at `sent` is there: the lease counts from then. `spared`: the store may not
    /// have been asked. What is known now is as of
    /// this answer.
    pub fn answered(
        &mut self,
        (request, answer): (&Request, &Answer),
        sent: Mono,
        spared: bool,
        now: &Now<'_>,
    ) {
        // An answer to another question tells nothing, nor does one that says that it was not done.
        match Meaning::of(request) {
            Meaning::Reads(asked) => {
                if let Some(Ok(cluster)) = asked.heard(answer) {
                    if !spared {
                        self.keeper.cluster_read(sent);
                    }
                    let held =
                        cluster.leader_name() == Some(now.name) && self.keeper.may_start_writing(now.at);
                    self.paused &= now.paused || !held;
                }
            }
            Meaning::Asks(asked) => {
                if let Some(Ok(true)) = asked.heard(answer) {
                    self.confirmed(sent, now);
                }
            }
            Meaning::Takes(asked) => {
                if asked.heard(answer) == Some(&true) {
                    self.confirmed(sent, now);
                }
            }
            Meaning::Renews(asked) => match asked.heard(answer) {
                // The promise stands as it was; the keeper may have heard meanwhile that it does not.
                Some(Ok(true)) if spared => {
                    let held = self.keeper.lease_until().is_some() && !self.keeper.wants_look();
                    (self.asked, self.unanswered) = (held, !held);
                }
                Some(Ok(true)) => self.confirmed(sent, now),
                Some(Ok(false)) => self.keeper.lease_dropped(),
                Some(Err(_)) => self.unanswered = true,
                None => {}
            },
            Meaning::GivesUp | Meaning::HasConsent(_) | Meaning::Loses | Meaning::Nothing => {}
        }
        self.arm(&now.server);
    }

    fn confirmed(&mut self, sent: Mono, now: &Now<'_>) {
        self.asked = true;
        self.keeper.store_grants(now.granted, now.at);
        self.keeper.lease_confirmed(sent);
    }

    /// A cycle has come to its decisions, and this is the new memory.
    pub fn cycle_settled(&mut self, memory: &Memory, server: &Server) {
        self.cycle_begins(memory);
        self.arm(server);
    }

    /// A cycle has ended. Only one that wanted the lock permits its renewal: where the cycles end without asking for it
    /// (PGDATA unreadable, say), it must run out. Was it asked for?
    pub fn cycle_ended(&mut self, now: Mono) -> bool {
        let unanswered = std::mem::take(&mut self.unanswered);
        let asked = std::mem::take(&mut self.asked);
        if asked {
            self.keeper.cycle_ended(now);
        }
        asked || unanswered
    }

    /// The daemon ends: no cycle does, and its stop makes progress.
    pub fn stop_goes_on(&mut self, now: Mono) {
        self.keeper.stop_goes_on(now);
    }

    /// The consequences of the keeper's stop have been drawn.
    pub fn fence_handled(&mut self) {
        self.keeper.lease_released();
        self.fenced = None;
    }

    /// Has another server taken the place of the one that the keeper stopped, and is not to write? A server is started only
    /// where the one before is proven gone, so there is nothing left to wait for. The lease may run out while a demotion
    /// is about to start a standby.
    pub fn fenced_server_is_replaced(&self) -> bool {
        let (_, server) = self.keeper.last_armed();
        self.fenced.is_some_and(|fenced| server != 0 && server != fenced) && !self.keeper.is_armed()
    }

    /// May this server be writing under the lease?
    fn arm(&mut self, server: &Server) {
        self.keeper.arm(server.arm(self.paused, self.bootstrapping), server.number);
    }

    // ---- jobs, and what finds a server ----

    /// Another server is known, of a fork or of one that ran before: to be told at once. A loop that waits for the DCS, or
    /// a job that waits for the start, would come to it late. `paused`: of the newest dynamic configuration.
    pub fn server_known(&mut self, paused: bool, server: &Server) {
        self.keeper.arm(server.arm(self.paused && paused, self.bootstrapping), server.number);
    }

    /// The server is about to be told to become a primary. May it? If so, the fence is armed for it. `paused`: of the
    /// newest dynamic configuration.
    pub fn will_promote(&mut self, now: Mono, paused: bool, server: &Server) -> Option<MayPromote> {
        if !self.keeper.may_start_writing(now) {
            return None;
        }
        let promoting = Server { promoting: true, ..*server };
        self.keeper.arm(promoting.arm(self.paused && paused, false), server.number);
        Some(MayPromote(()))
    }

    /// May a restart bring a primary up again? Under the lock, in a pause, or where a cluster is made, which has no lock
    /// yet. Asked when the server has stopped: that may take longer than the lease.
    pub fn may_restart_primary(&self, now: Mono, paused: bool, bootstrapping: bool) -> bool {
        self.keeper.may_start_writing(now) || paused || bootstrapping
    }

    // ---- the lock keeper's thread ----

    /// What the keeper has to do now.
    pub fn next(&mut self, now: Mono) -> Next {
        let next = self.keeper.next(now);
        if next == Next::Fence {
            self.fenced = Some(self.keeper.last_armed().1);
        }
        next
    }

    /// When the keeper has something to do, as of now; a moment beyond all time: never. For the same state it comes no
    /// nearer as time goes on, so that whoever sleeps until then need be woken only where a change makes it sooner.
    pub fn acts_at(&self, now: Mono) -> Mono {
        match self.keeper.clone().next(now) {
            Next::Renew | Next::Fence => now,
            Next::WaitUntil(at) => at,
            Next::Idle => Mono::at(Duration::MAX),
        }
    }

    /// How long a renewal that is sent now may take.
    pub fn renewal_limit(&self, now: Mono) -> Duration {
        let left = self
            .keeper
            .lease_until()
            .map_or(Duration::from_secs(1), |until| until.since(now + self.keeper.fence_margin()));
        let (calm, in_doubt) = RENEWAL_LIMITS;
        left.clamp(LEAST_LIMIT, if self.keeper.is_in_doubt() { in_doubt } else { calm })
    }

    /// What a renewal sent at `sent` has come to. The lock may have been given up meanwhile: then there is nothing to
    /// prolong.
    pub fn renewed(&mut self, sent: Mono, now: Mono, came_to: Renewed) {
        match came_to {
            Renewed::Until(granted) if self.keeper.lease_until().is_some() => {
                self.keeper.store_grants(granted, sent);
                self.keeper.lease_renewed(sent);
            }
            Renewed::Until(_) => {}
            Renewed::Gone => {
                self.keeper.renewal_failed(now);
                self.keeper.lease_gone(sent, now);
            }
            Renewed::Unanswered => self.keeper.renewal_failed(now),
        }
    }

    /// Nothing can renew the lease beside the cycles.
    pub fn nobody_renews(&mut self, now: Mono) {
        self.keeper.renewal_failed(now + NOBODY_RENEWS);
    }

    /// The watch shows that the leader key is not ours any more.
    pub fn key_seen_gone(&mut self, now: Mono) {
        self.keeper.key_seen_gone(now);
    }

    /// The wall clock has jumped ahead of this one.
    pub fn clock_jumped(&mut self, now: Mono, ahead: Duration) {
        self.keeper.clock_jumped(now, ahead);
    }

    // ---- what is so ----

    /// Until when the lock is promised; None when it is not, or no longer.
    pub fn until(&self, now: Mono) -> Option<Mono> {
        self.keeper.lease_until().filter(|until| *until > now)
    }

    /// The same, also of a promise that is over.
    pub fn lease_until(&self) -> Option<Mono> {
        self.keeper.lease_until()
    }

    /// May a server be started that will write under the lock?
    pub fn may_start_writing(&self, now: Mono) -> bool {
        self.keeper.may_start_writing(now)
    }

    /// Has the keeper begun to stop PostgreSQL, and nobody acted upon it yet?
    pub fn is_fenced(&self) -> bool {
        self.fenced.is_some()
    }

    /// What the guardian is to be told: when it has to act; how the fence is armed, for which server.
    pub fn promise(&self) -> (Option<Mono>, Arm, u64) {
        let (arm, server) = self.keeper.last_armed();
        (self.keeper.promise(), arm, server)
    }

    /// What the guardian may give up when this daemon and its server have both ended; nothing in a pause, nor while the
    /// cluster is being made.
    pub fn held(&self) -> Option<Held> {
        self.keeper.held().filter(|_| !self.paused && !self.bootstrapping)
    }

    /// Has a jump of the clock made the lock doubtful?
    pub fn is_in_doubt(&self) -> bool {
        self.keeper.is_in_doubt()
    }

    /// How long before the lease's end PostgreSQL is stopped.
    pub fn fence_margin(&self) -> Duration {
        self.keeper.fence_margin()
    }

    /// How often the loop runs.
    pub fn loop_wait(&self) -> Duration {
        self.keeper.loop_wait()
    }
}

#[cfg(test)]
mod tests;
