//! The live differential: a cluster led by us and one led by the reference, in the same states,
//! answer the same probes. `compat-diff` prints what this finds.

pub mod allow;
pub mod cli;
pub mod probes;
pub mod states;
pub mod table;

use std::time::Duration;

use crate::lab::{Cluster, Kind, Options, Result};
use crate::normalise::Known;
use allow::AllowList;
use table::{Finding, Table};

/// How often a probe that differs is asked again: states of two clusters meet after some cycles.
const RETRIES: usize = 6;
/// How an answer begins that is none.
const UNASKED: &str = "not answered: ";
/// How long to wait before asking again.
const AGAIN: Duration = Duration::from_millis(700);

/// One of the two clusters.
#[derive(Debug)]
pub struct Side {
    /// Of whom all members and patronictl are.
    pub kind: Kind,
    /// Its laboratory, with the members `node0` (which led first) and `node1`.
    pub lab: Cluster,
    /// What must vary here.
    pub known: Known,
}

impl Side {
    /// Brings up a cluster of two members.
    fn new(kind: Kind, version: u32) -> Result<Side> {
        let mut lab = Cluster::new(Options { version, ..Options::default() })?;
        lab.bring_up(&[kind, kind])?;
        let mut known = Known::default();
        known.number(&lab.etcd.port.to_string(), "ETCD.");
        for (index, member) in lab.members.iter().enumerate() {
            known.port(member.postgres, "PG", index);
            known.port(member.rest, "RS", index);
        }
        let id = lab.etcd.get(&lab.key("initialize"))?.ok_or("no initialize key")?;
        known.system_identifier(&id);
        Ok(Side { kind, lab, known })
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

    /// Asks both; gives their normalised answers. A failure to ask is an answer too.
    fn ask(&self, probe: &Probe) -> [String; 2] {
        let one = |side: &Side| match (probe.ask)(side) {
            Ok(text) => side.known.normalise(&text),
            Err(error) => side.known.normalise(&format!("{UNASKED}{error}")),
        };
        std::thread::scope(|scope| {
            let ours = scope.spawn(|| one(&self.sides[0]));
            let theirs = one(&self.sides[1]);
            [ours.join().unwrap_or_default(), theirs]
        })
    }

    /// Compares the answers to each probe, in the state `state`.
    pub fn compare(&self, state: &str, probes: &[Probe], allow: &AllowList, table: &mut Table) {
        for probe in probes {
            let mut answers = self.ask(probe);
            let retries = if table.is_hopeless() { 0 } else { RETRIES };
            for _ in 0..retries {
                if allow.same(probe.area, &probe.name, &answers) {
                    break;
                }
                std::thread::sleep(AGAIN);
                answers = self.ask(probe);
            }
            table.add(probe.area, judge(state, probe, answers, allow));
        }
    }
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
