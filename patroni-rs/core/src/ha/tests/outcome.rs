//! A cycle of the engine in a [`World`], and what came of it.

use std::time::Duration;

use pyfmt::Value;

use super::super::*;
use super::act::act;
use super::executor::Executor;
use super::world::{World, NOW};

/// What came of a cycle.
#[derive(Debug)]
pub struct Outcome {
    pub line: String,
    pub exit: Option<i32>,
    pub memory: Memory,
    pub log: Vec<LogLine>,
    pub held_back: Option<HeldBack>,
    pub requests: Vec<Request>,
}

impl Outcome {
    /// The effects in order, in the notation of [`act`].
    pub fn acts(&self) -> Vec<String> {
        self.requests.iter().filter_map(act).collect()
    }

    pub fn logged(&self, text: &str) -> bool {
        self.log.iter().any(|l| l.text == text)
    }

    /// The last member key that was written.
    pub fn member(&self) -> Option<&Value> {
        self.requests.iter().rev().find_map(|r| match r {
            Request::Dcs(DcsRequest::TouchMember(ask::TouchMember(data))) => Some(data),
            _ => None,
        })
    }
}

impl World {
    /// Runs a cycle.
    pub fn run(self) -> Outcome {
        self.drive(run)
    }

    /// Runs the shutdown.
    pub fn shut_down(mut self) -> Outcome {
        self.memory.cluster = Some(self.cluster(&self.keys));
        self.drive(run_shutdown)
    }

    fn drive(mut self, engine: fn(&View, &Memory, &Transcript) -> (Progress, Vec<LogLine>)) -> Outcome {
        let mut transcript = Transcript::default();
        let mut executor = Executor::of(&self);
        let mut now = NOW;
        for _ in 0..200 {
            match engine(&self.view, &self.memory, &transcript) {
                (Progress::Ask(request), _) => {
                    now += self.answers.latency + waits(&request);
                    if matches!(*request, Request::Dcs(DcsRequest::AcquireLeader(_))) {
                        now += self.answers.acquire_takes;
                    }
                    let answer = executor.answer(&mut self, &request);
                    transcript.record(*request, answer, now);
                }
                (Progress::Finished(end), log) => {
                    let requests = transcript.requests().cloned().collect();
                    let Finished { line, memory, exit, held_back } = *end;
                    return Outcome { line, exit, memory, log, held_back, requests };
                }
            }
        }
        panic!("no end after 200 requests: {:?}", transcript.requests().collect::<Vec<_>>());
    }
}

/// Requests that take their time.
fn waits(request: &Request) -> Duration {
    match request {
        Request::Server(ServerRequest::CurrentSync(ask::CurrentSync { wait: Some(wait) })) => *wait,
        Request::Node(NodeRequest::YieldRace(ask::YieldRace(time)))
        | Request::Server(ServerRequest::AwaitExit(ask::AwaitExit(time))) => *time,
        _ => Duration::ZERO,
    }
}
