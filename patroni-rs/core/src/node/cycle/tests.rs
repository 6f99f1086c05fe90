//! What a cycle does before it decides, and that it decides by the engine.
#![allow(clippy::panic)]

use super::*;
use crate::global_config::GlobalConfig;
use crate::ha::tests::executor::Executor;
use crate::ha::tests::world::{leader, replica, Reply, World, ME, NOW};
use crate::ha::JobView;
use crate::timing::Timing;

const SERVER: Server =
    Server { number: 7, role: Role::Primary, promoting: false, writes: true, quiet: false };

fn now() -> Now<'static> {
    Now {
        at: NOW,
        name: ME,
        paused: false,
        timing: Timing::default(),
        granted: Duration::MAX,
        server: SERVER,
    }
}

/// A lock that is held; `fenced`: and whose keeper has stopped the server.
fn lock(fenced: bool) -> LeaderLock {
    let mut lock = LeaderLock::new(Timing::default(), false);
    let sent = if fenced { NOW - Duration::from_secs(28) } else { NOW };
    lock.answered(
        (&Request::from(ask::AcquireLeader), &Answer::Dcs(Ok(true))),
        sent,
        false,
        &Now { at: sent, ..now() },
    );
    lock.next(NOW);
    assert_eq!(lock.is_fenced(), fenced);
    lock
}

struct Run {
    memory: Memory,
    lock: LeaderLock,
    cycle: Cycle,
}

impl Run {
    fn of(kind: Kind, world: &World, mut lock: LeaderLock) -> Run {
        let mut memory = Memory::new(GlobalConfig::default());
        let cluster = world.cluster(&world.keys);
        let start = Start { cluster: Some(&cluster), name: ME, ..Start::default() };
        let cycle = Cycle::begin(kind, start, &mut memory, &mut lock);
        Run { memory, lock, cycle }
    }

    fn step(&mut self) -> Step {
        self.cycle.step(&mut self.memory, NOW).0
    }

    /// It asks this, and is answered so.
    fn asks(&mut self, expected: &Request, answer: Answer) {
        let Step::Ask(question) = self.step() else { panic!("it does not ask {expected:?}") };
        let sent = self.cycle.sends(question, &now(), &mut self.lock);
        assert_eq!((sent.request(), sent.at()), (expected, NOW));
        self.cycle.answered(sent, answer, &now(), &mut self.lock);
    }

    fn skips(&mut self) {
        let Step::Skipped(line) = self.step() else { panic!("the cycle is not skipped") };
        let pause = if self.memory.config.is_paused() { "PAUSE: " } else { "" };
        assert_eq!(line, format!("{pause}Error communicating with PostgreSQL. Will try again later"));
        assert_eq!(self.memory.wake_at, Some(NOW + LOOK_AGAIN));
    }
}

#[test]
fn after_a_fence_the_lock_goes_to_another_node_first() {
    for (leads, world) in [(true, leader()), (false, replica())] {
        let mut run = Run::of(Kind::Cycle, &world, lock(true));
        run.asks(&Request::from(ask::ProveGone), Answer::Bool(true));
        if leads {
            run.asks(&Request::from(ask::DeleteLeader { last_lsn: None }), Answer::Bool(false));
        }
        assert!(run.lock.is_fenced());
        run.asks(&Request::from(ask::SetRole(Role::Demoted)), Answer::Done);
        assert!(!run.lock.is_fenced() && run.lock.lease_until().is_none());
        assert!(matches!(run.step(), Step::Look));
    }
}

#[test]
fn a_fence_whose_end_nobody_can_prove_is_looked_at_again() {
    for answer in [Answer::Bool(false), Answer::PgDown] {
        let mut run = Run::of(Kind::Cycle, &leader(), lock(true));
        run.asks(&Request::from(ask::ProveGone), answer);
        run.skips();
        assert!(run.lock.is_fenced());
    }
    let mut paused = Run::of(Kind::Cycle, &leader(), lock(true));
    paused.memory.config = GlobalConfig::new(pyfmt::Value::from_iter([("pause", true)]));
    paused.asks(&Request::from(ask::ProveGone), Answer::Bool(false));
    paused.skips();
    // The shutdown stops whatever there is.
    let mut last = Run::of(Kind::Shutdown, &leader(), lock(true));
    assert!(matches!(last.step(), Step::Look));
}

#[test]
fn a_leader_whose_server_does_not_answer_asks_for_nothing() {
    let job = || Some(JobView { job: Job::CrashRecovery, started_at: NOW, shutdown_checkpoint: None });
    for (kind, silent, held, job, skipped) in [
        (Kind::Cycle, true, true, None, true),
        (Kind::Cycle, false, true, None, false),
        (Kind::Cycle, true, false, None, false),
        (Kind::Cycle, true, true, job(), false),
        (Kind::Shutdown, true, true, None, false),
    ] {
        let mut run = Run::of(kind, &leader(), lock(false));
        assert!(matches!(run.step(), Step::Look));
        let lease_until = held.then_some(NOW + Duration::from_secs(9));
        run.cycle.looked(View { lease_until, job, ..leader().view }, silent);
        if skipped {
            run.skips();
        } else {
            assert!(!matches!(run.step(), Step::Skipped(_) | Step::Look), "{kind:?} {silent} {held}");
        }
    }
}

#[test]
fn what_happened_between_the_cycles_is_remembered() {
    let mut memory = Memory::new(GlobalConfig::default());
    let start = Start {
        ended: vec![(Job::PostBootstrap, JobResult::Done)],
        restarting: Some(Duration::from_secs(3)),
        name: ME,
        ..Start::default()
    };
    let _ = Cycle::begin(Kind::Cycle, start, &mut memory, &mut lock(false));
    assert_eq!(memory.bootstrap.result, Some(true));
    assert_eq!((memory.start.recovering, memory.start.timeout), (true, Some(Duration::from_secs(3))));
}

#[test]
fn the_engine_decides_and_its_memory_is_the_new_one() {
    let mut run = Run::of(Kind::Cycle, &replica(), lock(false));
    assert!(matches!(run.step(), Step::Look));
    run.cycle.looked(replica().view, false);
    let down = Answer::Cluster(Err(ha::DcsDown("down".into())));
    run.asks(&Request::from(ask::LoadCluster), down);
    for _ in 0..MAX_QUESTIONS {
        match run.step() {
            Step::Ask(question) => {
                let sent = run.cycle.sends(question, &now(), &mut run.lock);
                run.cycle.answered(sent, Answer::Bool(true), &now(), &mut run.lock);
            }
            Step::Finished(decided) => {
                let finished = decided.settle(&run.memory, &mut run.lock, &SERVER);
                assert_eq!(format!("{:?}", run.memory), format!("{:?}", finished.memory));
                return assert!(finished.line.contains("DCS"), "{}", finished.line);
            }
            Step::Look | Step::Skipped(_) => panic!("it neither asks nor ends"),
        }
    }
    panic!("no end of questions");
}

#[test]
fn what_a_cycle_has_read_is_remembered() {
    let mut run = Run::of(Kind::Cycle, &replica(), lock(false));
    run.cycle.looked(replica().view, false);
    let keys = replica().cluster(&replica().keys);
    run.asks(&Request::from(ask::LoadCluster), Answer::Cluster(Ok(keys.clone())));
    for _ in 0..MAX_QUESTIONS {
        match run.step() {
            Step::Ask(question) => {
                let sent = run.cycle.sends(question, &now(), &mut run.lock);
                run.cycle.answered(sent, Answer::PgDown, &now(), &mut run.lock);
            }
            Step::Finished(_) => return assert_eq!(run.memory.cluster, Some(keys)),
            Step::Look | Step::Skipped(_) => panic!("it neither asks nor ends"),
        }
    }
    panic!("no end of questions");
}

/// However long an answer takes: the lease counts from before its question, and the fence is armed from then on.
#[test]
fn a_lease_counts_from_before_its_question() {
    let mut lock = LeaderLock::new(Timing::default(), false);
    let mut memory = Memory::new(GlobalConfig::default());
    let mut cycle = Cycle::begin(Kind::Cycle, Start::default(), &mut memory, &mut lock);
    cycle.looked(leader().view, false);
    let question = Question(Box::new(Request::from(ask::AcquireLeader)));
    let sent = cycle.sends(question, &now(), &mut lock);
    assert!(lock.promise().0.is_some());
    let late = Now { at: NOW + Duration::from_secs(8), ..now() };
    cycle.answered(sent, Answer::Dcs(Ok(true)), &late, &mut lock);
    assert_eq!(lock.until(late.at), Some(NOW + Duration::from_secs(30)));
}

#[test]
fn a_standby_in_the_place_of_the_fenced_server_ends_the_wait() {
    // The lease ran out while a demotion was about to start a standby. Chaos has found it: asynchronous mode, seed 6103.
    let standby = Server { number: 8, role: Role::Demoted, writes: false, ..SERVER };
    let primary = Server { number: 8, ..SERVER };
    for (server, goes_on) in
        [(standby, true), (Server { role: Role::Replica, ..standby }, true), (primary, false)]
    {
        let mut lock = lock(true);
        lock.server_known(false, &server);
        let mut run = Run::of(Kind::Cycle, &replica(), lock);
        assert_eq!(run.lock.is_fenced(), !goes_on, "{server:?}");
        assert_eq!(matches!(run.step(), Step::Look), goes_on, "{server:?}");
    }
    // Nobody in its place: that it is gone has to be proven.
    let mut lock = lock(true);
    lock.server_known(false, &Server { number: 0, role: Role::Demoted, writes: false, ..SERVER });
    Run::of(Kind::Cycle, &replica(), lock).asks(&Request::from(ask::ProveGone), Answer::Bool(true));
}

/// A cycle begins with what the engine asks first, the last one with what the shutdown does.
#[test]
fn the_last_decisions_are_those_of_the_shutdown() {
    for kind in [Kind::Cycle, Kind::Shutdown] {
        let mut run = Run::of(kind, &leader(), lock(false));
        run.cycle.looked(leader().view, false);
        let Step::Ask(Question(asked)) = run.step() else { panic!("it asks nothing") };
        assert_eq!(*asked == Request::from(ask::LoadCluster), kind == Kind::Cycle, "{asked:?}");
    }
}

/// The engine runs anew with each answer, and says all its lines again; and it goes by the time of the answers.
#[test]
fn a_line_is_told_once() {
    let mut world = leader();
    world.answers.update = Reply::No;
    let mut executor = Executor::of(&world);
    let mut run = Run::of(Kind::Cycle, &world, lock(false));
    run.cycle.looked(world.view.clone(), false);
    let (mut told, mut steps) = (Vec::new(), 0);
    let late = Now { at: NOW + Duration::from_secs(8), ..now() };
    loop {
        let (step, lines) = run.cycle.step(&mut run.memory, NOW);
        told.extend(lines.into_iter().map(|line| line.text));
        let Step::Ask(question) = step else { break };
        steps += 1;
        let sent = run.cycle.sends(question, &now(), &mut run.lock);
        let answer = executor.answer(&mut world, sent.request());
        run.cycle.answered(sent, answer, &late, &mut run.lock);
    }
    let mut script = ha::Script::new(&run.cycle.transcript, NOW);
    assert!(script.ask(ask::LoadCluster).is_ok());
    assert_eq!((script.asked(), script.now()), (NOW, late.at));
    let once: std::collections::BTreeSet<&String> = told.iter().collect();
    assert!(steps > 3 && !told.is_empty(), "{steps} {told:?}");
    assert_eq!(told.len(), once.len(), "{told:?}");
}
