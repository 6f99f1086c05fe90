//! What a run finds, and who answers for it.

use std::collections::HashSet;
use std::time::Duration;

use super::check::{self, Ack, Tenure};
use super::harm::Breach;
use super::options::{FleetKind, Mode};
use super::report::{Finding, Weight};
use super::run::{Chaos, MAXIMUM_LAG, THAW, WHOLE};
use crate::lab::{wait_until, Kind, Result};

impl Chaos {
    pub(super) fn find(&mut self, invariant: u32, weight: Weight, what: String) {
        self.say(&format!("! invariant {invariant}, {weight}: {what}"));
        self.report.findings.push(Finding { invariant, weight, what });
    }

    /// Who answers for what all members do together.
    pub(super) fn fault_of_all(&self) -> Weight {
        match self.options.fleet {
            FleetKind::Reference => Weight::Reference,
            FleetKind::Ours | FleetKind::Mixed => Weight::Violation,
        }
    }

    pub(super) fn kind_at(&self, member: usize, at: Duration) -> Kind {
        let known = self.kinds.iter().rev().find(|(m, from, _)| *m == member && *from <= at);
        known.map_or(Kind::Ours, |(_, _, kind)| *kind)
    }

    /// Whose fault it is that this member accepted commits beside another, from when to when.
    fn weigh(&self, member: usize, from: Duration, to: Duration) -> (Weight, &'static str) {
        let thawed = self.thawed.iter().any(|(m, at)| *m == member && from < *at + THAW && to < *at + THAW);
        if thawed {
            return (Weight::Excused, "in the moment after its node stood still");
        }
        let orphan = self.away.iter().any(|(m, start, end)| *m == member && from >= *start && to <= *end);
        let weight = match (self.kind_at(member, from), orphan && !self.options.guardian) {
            (Kind::Reference, _) => Weight::Reference,
            (Kind::Ours, true) => Weight::Excused,
            (Kind::Ours, false) => Weight::Violation,
        };
        (weight, if orphan { "orphan: its daemon was dead or stopped" } else { "its daemon was alive" })
    }

    /// Who answers for standbys that do not stream: a member of the reference that an etcd of the same token, restored, has lost for good.
    pub(super) fn weigh_absent(&self) -> Weight {
        let mut absent: Vec<usize> = Vec::new();
        for group in self.groups() {
            let Ok((primary, names)) = self.streaming(group) else { return self.fault_of_all() };
            let is_absent = |i: &usize| *i != primary && !names.contains(&format!("node{i}"));
            absent.extend(self.fleet.settings.members_of(group).filter(is_absent));
        }
        match !absent.is_empty() && absent.iter().all(|index| self.believes_old_terms(*index)) {
            true => Weight::Reference,
            false => self.fault_of_all(),
        }
    }

    /// Says the end of this member's log that it refuses every etcd for the terms of before?
    fn believes_old_terms(&self, index: usize) -> bool {
        let node = self.fleet.nodes.get(index).filter(|node| node.runs == Kind::Reference);
        let log = node.and_then(|node| std::fs::read_to_string(node.directory.join("patroni.log")).ok());
        log.is_some_and(|log| log.lines().rev().take(20).any(|line| line.contains("Old known term")))
    }

    /// Had the store gone back to what it was, then?
    fn restored_at(&self, at: Duration) -> bool {
        self.restored.iter().any(|(from, to)| (*from..=*to).contains(&at))
    }

    /// What an injection, or its healing, has seen by itself.
    pub(super) fn breached(&mut self, breaches: &[Breach]) {
        let now = self.began.elapsed();
        for Breach { invariant, member, what } in breaches {
            let weight = match self.kind_at(*member, now) {
                Kind::Ours => Weight::Violation,
                Kind::Reference => Weight::Reference,
            };
            self.find(*invariant, weight, what.clone());
        }
    }

    /// Invariant 1.
    pub(super) fn look(&mut self) {
        let tenures = self.groups().map(|group| check::tenures(&self.acks(group)));
        let overlaps: Vec<check::Overlap> = tenures.flat_map(|tenures| check::overlaps(&tenures)).collect();
        for overlap in overlaps {
            let (old, new) = (overlap.old, overlap.new);
            if !self.seen.insert((old.member, old.timeline, new.member, new.timeline)) {
                continue;
            }
            let (mut weight, why) = self.weigh(old.member, overlap.from, overlap.to);
            if self.restored_at(overlap.from) && self.kind_at(new.member, overlap.from) == Kind::Reference {
                // It took an inherited lock for its own, and asked nobody; the other hears of it too late.
                weight = weight.min(Weight::Reference);
            }
            let kind = self.kind_at(old.member, overlap.from);
            self.find(
                1,
                weight,
                format!(
                    "node{} ({kind:?}, timeline {}) went on for {:.2} s beside node{} (timeline {}), {:.2} to {:.2}; {why}",
                    old.member,
                    old.timeline,
                    overlap.long().as_secs_f32(),
                    new.member,
                    new.timeline,
                    overlap.from.as_secs_f32(),
                    overlap.to.as_secs_f32()
                ),
            );
        }
    }

    /// Invariants 3 and 4: what was acknowledged since the last time is there.
    pub(super) fn check_rows(&mut self) -> Result<()> {
        let now = self.began.elapsed();
        self.groups().try_for_each(|group| self.check_group(group, now))?;
        self.checked = now;
        Ok(())
    }

    fn check_group(&mut self, group: usize, now: Duration) -> Result<()> {
        let (primary, present) = wait_until("the journal is read", WHOLE, || {
            let primary = self.primary(group).ok_or("nobody takes writes")?;
            self.present(primary).map(|rows| (primary, rows))
        })?;
        let from = self.checked;
        let since = |a: &Ack| a.acked >= from && a.acked < now;
        let acks: Vec<Ack> = self.acks(group).into_iter().filter(since).collect();
        for loss in check::losses(&acks, &present) {
            let weight = self.weigh_loss(&loss);
            let Tenure { member, timeline, .. } = loss.tenure;
            let invariant = if self.options.mode == Mode::Async { 4 } else { 3 };
            self.find(
                invariant,
                weight,
                format!(
                    "node{primary} does not have {} rows ({} bytes, first {}) that node{member} ({:?}) acknowledged on \
                     timeline {timeline} from {:.2} to {:.2}",
                    loss.rows,
                    loss.bytes,
                    loss.first,
                    self.kind_at(member, loss.from),
                    loss.from.as_secs_f32(),
                    loss.to.as_secs_f32()
                ),
            );
        }
        Ok(())
    }

    fn weigh_loss(&self, loss: &check::Loss) -> Weight {
        let Tenure { from: began, .. } = loss.tenure;
        // A member of the reference that led by an inherited lock, after the one whose rows are gone.
        let group = self.fleet.settings.group_of(loss.tenure.member);
        let usurped = check::tenures(&self.acks(group)).iter().any(|tenure| {
            tenure.from > began
                && self.restored_at(tenure.from)
                && self.restored_at(loss.to)
                && self.kind_at(tenure.member, tenure.from) == Kind::Reference
        });
        if usurped {
            return Weight::Reference;
        }
        if self.options.mode != Mode::Async {
            return self.fault_of_all();
        }
        // What is written in the window, at the pace of that time, and what replication may lack before.
        let [ttl, loop_wait, retry_timeout] = self.options.timing;
        let window = ttl + 2 * (loop_wait + retry_timeout);
        let long = (loss.to - loss.from).as_secs_f64().max(1.0);
        let pace = (loss.bytes as f64 / long).max(50_000.0) as u64;
        let orphan = self.weigh(loss.tenure.member, loss.to, loss.to).1.starts_with("orphan");
        let bounded = loss.bytes <= MAXIMUM_LAG + pace * window && long <= (window + ttl) as f64;
        match bounded || orphan {
            true => Weight::Excused,
            false => self.fault_of_all(),
        }
    }

    fn present(&self, primary: usize) -> Result<HashSet<u64>> {
        let text = self.fleet.sql(primary, "SELECT n FROM journal")?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

/// What tells two findings of lost rows apart.
pub(super) fn first_row(what: &str) -> &str {
    what.split_once("first ").map_or(what, |(_, rest)| rest.split(')').next().unwrap_or(rest))
}
