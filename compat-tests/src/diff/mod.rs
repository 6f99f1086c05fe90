//! The live differential: a cluster led by us and one led by the reference, in the same states,
//! answer the same probes. `compat-diff` prints what this finds.

pub mod allow;
pub mod cli;
pub mod probes;
pub mod recorded;
pub mod states;
pub mod table;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::lab::forks::Forks;
use crate::lab::process::Output;
use crate::lab::{host, Cluster, Kind, Options, Result};
use crate::normalise::Known;
use allow::AllowList;
use states::State;
use table::{Finding, Table};

/// How often a probe that differs is asked again: states of two clusters meet after some cycles.
const RETRIES: usize = 6;
/// How long a patronictl may take.
const CALL: Duration = Duration::from_secs(90);
/// How an answer begins that is none.
const UNASKED: &str = "not answered: ";
/// How long to wait before asking again.
const AGAIN: Duration = Duration::from_millis(700);

/// One of the two clusters.
#[derive(Debug)]
pub struct Side {
    /// The reference's patronictl, started.
    forks: Option<Forks>,
    /// Of whom all members and patronictl are.
    pub kind: Kind,
    /// Its test cluster, with the members `node0` (which led first) and `node1`.
    pub lab: Cluster,
    /// What must vary here.
    pub known: Known,
    /// What the commands said that led into the present state.
    pub said: Vec<String>,
}

impl Side {
    /// Brings up a cluster of two members.
    ///
    /// # Errors
    /// It does not come up.
    pub fn new(kind: Kind, version: u32) -> Result<Side> {
        let mut lab = Cluster::new(Options { version, ..Options::default() })?;
        lab.bring_up(&[kind, kind])?;
        // Puts patronictl and its configuration into place, before several run at a time.
        lab.ctl(kind, &["version"])?.ok()?;
        let forks = match kind {
            Kind::Ours => None,
            Kind::Reference => Some(Forks::start("patronictl", &lab.directory, &lab.bin())?),
        };
        let mut side = Side { forks, kind, lab, known: Known::default(), said: Vec::new() };
        side.learn()?;
        Ok(side)
    }

    /// Notes what must vary, of all members that there are.
    ///
    /// # Errors
    /// The DCS does not answer.
    pub fn learn(&mut self) -> Result<()> {
        let lab = &self.lab;
        let mut known = Known::default();
        known.directory(&host::deps().display().to_string(), "/DEPS");
        known.number(&lab.store.port().to_string(), "ETCD.");
        for (index, member) in lab.members.iter().enumerate() {
            known.port(member.postgres, "PG", index);
            known.port(member.rest, "RS", index);
        }
        let id = lab.store.get(&lab.key("initialize"))?.ok_or("no initialize key")?;
        known.system_identifier(&id);
        self.known = known;
        Ok(())
    }

    /// Runs the side's patronictl, on a terminal of `columns` columns if given.
    ///
    /// # Errors
    /// It cannot be started, or hangs.
    pub fn ctl(&self, arguments: &[&str], columns: Option<u32>) -> Result<Output> {
        let Some(forks) = &self.forks else {
            return self.lab.ctl_at(self.kind, arguments, columns);
        };
        let config = self.lab.ctl_config()?.display().to_string();
        let words: Vec<&str> = ["-c", &config].into_iter().chain(arguments.iter().copied()).collect();
        forks.call(&words, columns, CALL)
    }

    /// Goes into a state.
    ///
    /// # Errors
    /// It is not reached.
    pub fn enter(&mut self, state: &State) -> Result<()> {
        self.said.clear();
        (state.enter)(self)
    }

    /// Asks; gives the normalised answer. A failure to ask is an answer too.
    pub fn ask(&self, probe: &Probe) -> String {
        match (probe.ask)(self) {
            Ok(text) => self.known.normalise(&text),
            Err(error) => self.known.normalise(&format!("{UNASKED}{error}")),
        }
    }
}

/// Asks one side.
pub type Ask = Box<dyn Fn(&Side) -> Result<String> + Send + Sync>;

/// One question that both sides answer with text.
pub struct Probe {
    /// The row of the table that it counts in.
    pub area: &'static str,
    /// What is asked, for a person and for the allow-list.
    pub name: String,
    /// Asks it.
    pub ask: Ask,
}

/// Both sides at once.
#[derive(Debug)]
pub struct Pair {
    /// Ours, then the reference's.
    pub sides: [Side; 2],
}

impl Pair {
    /// Brings both up.
    ///
    /// # Errors
    /// One does not come up.
    pub fn new(version: u32) -> Result<Pair> {
        std::thread::scope(|scope| {
            let ours = scope.spawn(|| Side::new(Kind::Ours, version));
            let theirs = Side::new(Kind::Reference, version);
            let ours = ours.join().map_err(|_| "a thread panicked")?;
            Ok(Pair { sides: [ours?, theirs?] })
        })
    }

    /// Does the same to both, at the same time.
    ///
    /// # Errors
    /// It failed on one of them.
    pub fn both(&mut self, act: impl Fn(&mut Side) -> Result<()> + Sync) -> Result<()> {
        let [ours, theirs] = &mut self.sides;
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| act(ours).map_err(|e| format!("ours: {e}")));
            act(theirs).map_err(|e| format!("the reference: {e}"))?;
            Ok(thread.join().map_err(|_| "a thread panicked")??)
        })
    }

    /// Asks both; gives their normalised answers.
    fn ask(&self, probe: &Probe) -> [String; 2] {
        std::thread::scope(|scope| {
            let ours = scope.spawn(|| self.sides[0].ask(probe));
            let theirs = self.sides[1].ask(probe);
            [ours.join().unwrap_or_default(), theirs]
        })
    }

    /// Compares the answers to each probe, in the state `state`; what differs is asked again, for a while.
    pub fn compare(&self, state: &str, probes: &[Probe], allow: &AllowList, table: &mut Table) {
        let mut answers: Vec<[String; 2]> = vec![Default::default(); probes.len()];
        let mut open: Vec<usize> = (0..probes.len()).collect();
        for round in 0..=RETRIES {
            if round > 0 {
                std::thread::sleep(AGAIN);
            }
            let now = each(&open, |index| probes.get(index).map(|probe| self.ask(probe)).unwrap_or_default());
            let mut left = Vec::new();
            for (index, pair) in open.into_iter().zip(now) {
                let (Some(probe), Some(kept)) = (probes.get(index), answers.get_mut(index)) else { continue };
                if !allow.same(probe.area, &probe.name, &pair) {
                    left.push(index);
                }
                *kept = pair;
            }
            open = left;
            if open.is_empty() {
                break;
            }
        }
        for (probe, answers) in probes.iter().zip(answers) {
            table.add(probe.area, judge(state, probe, answers, allow));
        }
    }
}

/// How many probes are under way at a time: patronictl of the reference takes most of its time to start.
const AT_ONCE: usize = 4;

/// What `ask` gives for each of `indexes`, in their order, some at a time.
fn each<T: Send>(indexes: &[usize], ask: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((at, index)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            indexes.get(at).map(|index| (at, *index))
        } {
            done.push((at, ask(index)));
        }
        done
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).flatten().collect()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, value)| value).collect()
}

/// Sorts a pair of answers.
fn judge(state: &str, probe: &Probe, answers: [String; 2], allow: &AllowList) -> Finding {
    if answers.iter().all(|answer| answer.starts_with(UNASKED)) {
        Finding::Unanswered
    } else if answers[0] == answers[1] {
        Finding::Identical
    } else if allow.same(probe.area, &probe.name, &answers) {
        Finding::Allowed
    } else {
        let [ours, theirs] = allow.masked(probe.area, &probe.name, &answers);
        Finding::Different { what: format!("{} [{state}]", probe.name), ours, theirs }
    }
}
