//! What must be true of a record of acknowledgements, whoever made it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// A row that a server said it has. Times count from the beginning of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The row.
    pub n: u64,
    /// Through which member.
    pub member: usize,
    /// The timeline that the member wrote on.
    pub timeline: u32,
    /// The member's WAL position as it wrote.
    pub lsn: u64,
    /// When the statement was sent: it was not executed before.
    pub sent: Duration,
    /// When the answer came: the commit was not later.
    pub acked: Duration,
}

/// One member as the primary of one timeline: it accepted commits from `from` to `to` for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tenure {
    /// The member.
    pub member: usize,
    /// The timeline.
    pub timeline: u32,
    /// The first answer.
    pub from: Duration,
    /// When the last statement was sent that was answered.
    pub to: Duration,
    /// How many rows.
    pub rows: u64,
}

/// The tenures of a record, by their beginning.
pub fn tenures(acks: &[Ack]) -> Vec<Tenure> {
    let mut found: BTreeMap<(usize, u32), Tenure> = BTreeMap::new();
    for ack in acks {
        let Ack { member, timeline, .. } = *ack;
        let new = Tenure { member, timeline, from: ack.acked, to: ack.sent, rows: 0 };
        let tenure = found.entry((member, timeline)).or_insert(new);
        tenure.from = tenure.from.min(ack.acked);
        tenure.to = tenure.to.max(ack.sent);
        tenure.rows += 1;
    }
    let mut tenures: Vec<Tenure> = found.into_values().collect();
    tenures.sort_by_key(|tenure| tenure.from);
    tenures
}

/// Two members that both accepted commits (invariant 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlap {
    /// The one that began earlier: who should have ended.
    pub old: Tenure,
    /// The other.
    pub new: Tenure,
    /// From when to when both did for certain.
    pub from: Duration,
    /// See `from`.
    pub to: Duration,
}

impl Overlap {
    /// How long both accepted commits, at least.
    pub fn long(&self) -> Duration {
        self.to.saturating_sub(self.from)
    }
}

/// All pairs of members that accepted commits at the same time. `old` is the one on the older timeline,
/// or that began earlier.
pub fn overlaps(tenures: &[Tenure]) -> Vec<Overlap> {
    let mut found = Vec::new();
    for (index, one) in tenures.iter().enumerate() {
        for other in tenures.iter().skip(index + 1).filter(|other| other.member != one.member) {
            let (old, new) = if other.timeline < one.timeline { (other, one) } else { (one, other) };
            let (from, to) = (old.from.max(new.from), old.to.min(new.to));
            if from < to {
                found.push(Overlap { old: *old, new: *new, from, to });
            }
        }
    }
    found
}

/// Acknowledged rows that are not there (invariants 3 and 4), of one tenure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Whose rows.
    pub tenure: Tenure,
    /// How many.
    pub rows: u64,
    /// Bytes of WAL from the first of them to the last.
    pub bytes: u64,
    /// From the first acknowledgement to the last.
    pub from: Duration,
    /// See `from`.
    pub to: Duration,
    /// The first row.
    pub first: u64,
}

/// What is missing in `present`, tenure by tenure.
pub fn losses(acks: &[Ack], present: &HashSet<u64>) -> Vec<Loss> {
    let of = |tenure: &Tenure| -> Option<Loss> {
        let missing: Vec<&Ack> = acks
            .iter()
            .filter(|ack| (ack.member, ack.timeline) == (tenure.member, tenure.timeline))
            .filter(|ack| !present.contains(&ack.n))
            .collect();
        let (first, last) = (missing.iter().min_by_key(|a| a.lsn)?, missing.iter().max_by_key(|a| a.lsn)?);
        Some(Loss {
            tenure: *tenure,
            rows: missing.len() as u64,
            bytes: last.lsn - first.lsn,
            from: missing.iter().map(|a| a.acked).min()?,
            to: missing.iter().map(|a| a.acked).max()?,
            first: first.n,
        })
    };
    tenures(acks).iter().filter_map(of).collect()
}

/// The longest time without an acknowledgement that touches the window, and when it ended. A window that
/// ends without one ends the gap.
pub fn longest_gap(acks: &[Ack], from: Duration, to: Duration) -> Duration {
    let mut times: Vec<Duration> = acks.iter().map(|ack| ack.acked).collect();
    times.sort();
    let before = times.iter().copied().rfind(|at| *at <= from).unwrap_or(from);
    let inside = times.iter().copied().filter(|at| *at > from && *at <= to);
    let after = times.iter().copied().find(|at| *at > to).unwrap_or(to);
    let mut last = before;
    let mut longest = Duration::ZERO;
    for at in inside.chain([after]) {
        longest = longest.max(at.saturating_sub(last));
        last = at;
    }
    longest
}

/// When a statement that was sent after `from` was first answered.
pub fn first_after(acks: &[Ack], from: Duration) -> Option<Duration> {
    acks.iter().filter(|ack| ack.sent >= from).map(|ack| ack.acked).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(n: u64, member: usize, timeline: u32, at: u64) -> Ack {
        let (sent, acked) = (Duration::from_millis(at), Duration::from_millis(at + 5));
        Ack { n, member, timeline, lsn: n * 100, sent, acked }
    }

    #[test]
    fn a_switchover_is_no_overlap() {
        let acks = [ack(1, 0, 1, 0), ack(2, 0, 1, 100), ack(3, 1, 2, 300), ack(4, 0, 3, 900)];
        assert_eq!(overlaps(&tenures(&acks)), vec![]);
        assert_eq!(tenures(&acks).len(), 3);
    }

    #[test]
    fn an_old_primary_that_goes_on_is_one() {
        let acks = [ack(1, 0, 1, 0), ack(2, 1, 2, 300), ack(3, 0, 1, 400), ack(4, 1, 2, 600)];
        let found = overlaps(&tenures(&acks));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].old.member, found[0].new.member), (0, 1));
        assert_eq!(found[0].long(), Duration::from_millis(95));
    }

    #[test]
    fn two_primaries_of_one_timeline_are_one_too() {
        let acks = [ack(1, 0, 2, 0), ack(2, 1, 2, 300), ack(3, 0, 2, 400), ack(4, 1, 2, 600)];
        assert_eq!(overlaps(&tenures(&acks)).len(), 1);
    }

    #[test]
    fn an_answer_that_came_late_proves_nothing() {
        // Sent before the new primary's first answer, answered after it: it may have been done before.
        let late = Ack { acked: Duration::from_millis(900), ..ack(2, 0, 1, 100) };
        assert_eq!(
            overlaps(&tenures(&[ack(1, 0, 1, 0), late, ack(3, 1, 2, 300), ack(4, 1, 2, 950)])),
            vec![]
        );
    }

    #[test]
    fn counts_what_is_lost() {
        let acks = [ack(1, 0, 1, 0), ack(2, 0, 1, 100), ack(3, 0, 1, 200), ack(4, 1, 2, 300)];
        let found = losses(&acks, &HashSet::from([1, 4]));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].rows, found[0].bytes, found[0].first), (2, 100, 2));
        assert_eq!(losses(&acks, &HashSet::from([1, 2, 3, 4])), vec![]);
    }

    #[test]
    fn gaps_reach_over_the_windows_ends() {
        let ms = Duration::from_millis;
        let acks = [ack(1, 0, 1, 0), ack(2, 0, 1, 5000), ack(3, 0, 1, 5100)];
        assert_eq!(longest_gap(&acks, ms(1000), ms(2000)), ms(5000));
        assert_eq!(longest_gap(&acks, ms(5010), ms(5050)), ms(100));
        assert_eq!(first_after(&acks, ms(1000)), Some(ms(5005)));
        assert_eq!(first_after(&acks, ms(9000)), None);
    }
}
