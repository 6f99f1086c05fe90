//! Shortens the plan of a failing seed.

use super::config::Config;
use super::faults::Fault;
use super::plan::Plan;
use super::world::{run_plan, Failure};

/// Drops faults, first many at a time and then one by one, as long as the same
/// invariant still breaks. Gives the shortest plan found and its failure, or
/// nothing if the plan does not fail.
pub fn minimise(seed: u64, config: &Config, plan: &Plan) -> Option<(Plan, Failure)> {
    let mut best = (plan.clone(), run_plan(seed, config, plan).err()?);
    let mut chunk = (plan.faults.len() / 2).max(1);
    loop {
        let mut from = 0;
        let mut shortened = false;
        while from < best.0.faults.len() {
            let to = (from + chunk).min(best.0.faults.len());
            let mut shorter = best.0.clone();
            let dropped: Vec<(u64, Fault)> = shorter.faults.drain(from..to).collect();
            let keeps_heal = !dropped.iter().any(|(_, fault)| *fault == Fault::Heal);
            match run_plan(seed, config, &shorter) {
                Err(failure) if keeps_heal && failure.invariant == best.1.invariant => {
                    best = (shorter, failure);
                    shortened = true;
                }
                _ => from = to,
            }
        }
        if chunk == 1 && !shortened {
            return Some(best);
        }
        chunk = (chunk / 2).max(1);
    }
}
