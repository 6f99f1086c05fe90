//! When a node must be rewound: its own position against the history of the
//! leader's timeline, and the machine that remembers how far that question has
//! come (surface-ha-pg section 19).
//!
//! Everything is plain data; fetching positions and running `pg_rewind` is
//! `patroni_postgres::process::rewind`.

use crate::cluster_state::ClusterState;
use crate::model::Lsn;

/// Is this the position behind a page's header? No record ends there: pg_rewind takes it for the end of what a source
/// has written that was idle after a WAL switch, and a standby that has to get there waits until somebody writes.
pub fn is_behind_page_header(lsn: Lsn) -> bool {
    /// `XLOG_BLCKSZ`, unless somebody has compiled it otherwise; the headers of a page, and of a segment's first.
    const PAGE: u64 = 8192;
    const HEADERS: [u64; 2] = [24, 40];
    HEADERS.contains(&(lsn.bytes() % PAGE))
}

/// One line of a timeline history file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryLine {
    /// The timeline that ended here.
    pub timeline: u32,
    /// Where the next timeline branched off.
    pub switchpoint: Lsn,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for HistoryLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\t{}\t{}", self.timeline, self.switchpoint.text(), self.reason)
    }
}

/// Parses a history file (surface-ha-pg 19-11): lines of exactly three fields
/// count, the others are skipped. Returns the lines, and the text of those whose
/// numbers are bad, for the log.
pub fn parse_history(text: &str) -> (Vec<HistoryLine>, Vec<String>) {
    let (mut lines, mut bad) = (Vec::new(), Vec::new());
    for raw in text.split('\n').map(str::trim) {
        let fields: Vec<&str> = raw.split('\t').collect();
        let &[timeline, lsn, reason] = fields.as_slice() else { continue };
        match (timeline.trim().parse(), Lsn::parse(lsn)) {
            (Ok(timeline), Some(switchpoint)) => {
                lines.push(HistoryLine { timeline, switchpoint, reason: reason.to_owned() });
            }
            _ => bad.push(raw.to_owned()),
        }
    }
    (lines, bad)
}

/// Where this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalPosition {
    /// Was it replaying WAL (as opposed to a cleanly stopped primary)?
    pub in_recovery: bool,
    /// Its timeline.
    pub timeline: u32,
    /// Replayed up to here, or the location of the shutdown checkpoint.
    pub lsn: Lsn,
}

/// The position as `pg_controldata` gives it (19-05), with the text of each
/// part for the log line. `field` looks up a line of its output.
///
/// A standby that crashed before it reached a consistent point (minimum recovery
/// location 0/0 or timeline 0) is judged by its checkpoint, as a stopped
/// primary (19-06).
pub fn position_from_control<'a>(field: impl Fn(&str) -> Option<&'a str>) -> Option<LocalPosition> {
    let lsn = |name| field(name).and_then(Lsn::parse);
    let timeline = |name| field(name).and_then(|t| t.parse::<u32>().ok());
    let state = field(ClusterState::LINE).map_or(ClusterState::Unknown, ClusterState::parse);
    if matches!(state, ClusterState::ShutDownInRecovery | ClusterState::InArchiveRecovery) {
        let end = lsn("Minimum recovery ending location")?;
        let timeline = timeline("Min recovery ending loc's timeline")?;
        if end.is_known() && timeline != 0 {
            return Some(LocalPosition { in_recovery: true, timeline, lsn: end });
        }
    } else if state != ClusterState::ShutDown {
        return None;
    }
    Some(LocalPosition {
        in_recovery: false,
        timeline: timeline("Latest checkpoint's TimeLineID")?,
        lsn: lsn("Latest checkpoint location")?,
    })
}

/// `Local timeline=%s lsn=%s`
pub fn local_log(position: Option<LocalPosition>) -> String {
    match position {
        Some(p) => format!("Local timeline={} lsn={}", p.timeline, p.lsn.text()),
        None => "Local timeline=None lsn=None".to_owned(),
    }
}

/// What comparing the two timelines tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// The answer is already known.
    Decided(bool),
    /// The leader is on a later timeline: its history must be read.
    NeedHistory,
}

/// Compares our timeline with the leader's (19-09).
pub fn compare_timelines(local: u32, primary: u32) -> Compared {
    match local.cmp(&primary) {
        std::cmp::Ordering::Greater => Compared::Decided(true),
        std::cmp::Ordering::Equal => Compared::Decided(false),
        std::cmp::Ordering::Less => Compared::NeedHistory,
    }
}

/// Two servers that were promoted without knowing of each other gave their timelines the same number. Did theirs branch off
/// elsewhere than ours, by both history files? (Where both left their parent at the same place nothing tells them apart.
/// The reference compares the numbers alone, and so does pg_rewind, which does nothing then.)
pub fn is_namesake(ours: &[HistoryLine], theirs: &[HistoryLine]) -> bool {
    let forks = |lines: &[HistoryLine]| lines.iter().map(|l| (l.timeline, l.switchpoint)).collect::<Vec<_>>();
    !ours.is_empty() && !theirs.is_empty() && forks(ours) != forks(theirs)
}

/// What the leader's history says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryVerdict {
    /// Rewind needed?
    Decided(bool),
    /// A cleanly stopped primary, behind the switchpoint: no rewind is needed if
    /// and only if its shutdown checkpoint ends exactly there.
    CompareCheckpointEnd {
        /// Where the new timeline began.
        switchpoint: Lsn,
    },
}

/// Judges a position by the history of the leader's timeline (19-09). Also gives
/// the index of the deciding line (the last one when none decided) for
/// [`history_log`].
pub fn judge_history(history: &[HistoryLine], local: LocalPosition) -> (HistoryVerdict, usize) {
    for (i, line) in history.iter().enumerate() {
        if line.timeline == local.timeline {
            let verdict = if local.in_recovery {
                HistoryVerdict::Decided(local.lsn > line.switchpoint)
            } else if local.lsn >= line.switchpoint {
                HistoryVerdict::Decided(true)
            } else {
                HistoryVerdict::CompareCheckpointEnd { switchpoint: line.switchpoint }
            };
            return (verdict, i);
        }
        if line.timeline > local.timeline {
            return (HistoryVerdict::Decided(true), i);
        }
    }
    (HistoryVerdict::Decided(true), history.len().saturating_sub(1))
}

/// `primary: history=...`: a window around the deciding line, and the last one
/// (19-12).
pub fn history_log(history: &[HistoryLine], decided_at: usize) -> String {
    let start = decided_at.saturating_sub(3);
    let end = if decided_at + 4 >= history.len() { history.len() } else { decided_at + 2 };
    let mut shown: Vec<String> = history.iter().take(end).skip(start).map(HistoryLine::to_string).collect();
    if let Some(last) = history.last().filter(|_| end < history.len()) {
        shown.push("...".to_owned());
        shown.push(last.to_string());
    }
    format!("primary: history={}", shown.join("\n"))
}

/// How far the question has come (19-01). The order matters: everything after
/// `NotNeeded` means that pg_rewind was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RewindState {
    /// Nothing is known.
    #[default]
    Initial,
    /// This primary has run its checkpoint after the promotion.
    Checkpoint,
    /// The question was asked: compare with the leader.
    Check,
    /// Yes.
    Need,
    /// No.
    NotNeeded,
    /// pg_rewind was run with success.
    Success,
    /// pg_rewind was run without success.
    Failed,
}

/// How an attempt to rewind ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RewindAttempt {
    /// The precondition (leader's checkpoint, a reachable leader) is not there yet.
    Postponed,
    /// Done.
    Succeeded,
    /// pg_rewind failed and the leader cannot be reached: to be tried again, unless
    /// the attempt has damaged pg_control.
    LeaderLost {
        /// Is pg_rewind still possible by pg_controldata?
        still_possible: bool,
    },
    /// pg_rewind failed although the leader is healthy.
    Failed,
    /// pg_rewind failed after it had begun to write: only a new copy helps.
    BrokenOff,
}

impl RewindState {
    /// Is the question open, or answered with yes?
    pub fn is_needed(self) -> bool {
        matches!(self, RewindState::Check | RewindState::Need)
    }

    /// Was pg_rewind run?
    pub fn executed(self) -> bool {
        self > RewindState::NotNeeded
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn history(n: u32) -> Vec<HistoryLine> {
        (1..=n)
            .map(|i| HistoryLine {
                timeline: i,
                switchpoint: Lsn::new(u64::from(i) * 0x100),
                reason: format!("r{i}"),
            })
            .collect()
    }

    #[test]
    fn timelines_of_one_number() {
        let fork =
            |at| HistoryLine { timeline: 4, switchpoint: Lsn::new(at), reason: "another reason".into() };
        let with = |at| [history(3), vec![fork(at)]].concat();
        for (ours, theirs, namesake) in [
            (with(0x400), with(0x400), false),
            (with(0x400), with(0x480), true),
            // Their parents are namesakes.
            ([history(2), with(0x400)].concat(), with(0x400), true),
            (history(4), with(0x400), false),
            // Nothing is known.
            (vec![], with(0x400), false),
            (with(0x400), vec![], false),
        ] {
            assert_eq!(is_namesake(&ours, &theirs), namesake, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn positions_where_no_record_ends() {
        let behind = |bytes| is_behind_page_header(Lsn::new(bytes));
        assert!(behind(0x700_0028) && behind(0x700_2018));
        assert!(!behind(0x700_0000) && !behind(0x700_0060));
    }

    #[test]
    fn history_files() {
        let (lines, bad) = parse_history(
            "1\t0/5000000\tno recovery target specified\n\n2\t0/6000000\tx\textra\nz\t0/1\ty\n",
        );
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].to_string(), "1\t0/5000000\tno recovery target specified");
        assert_eq!(bad, ["z\t0/1\ty"]);
    }

    #[test]
    fn positions_from_control_data() {
        let check = |fields: &[(&str, &str)]| {
            position_from_control(|name| fields.iter().find(|(k, _)| *k == name).map(|(_, v)| *v))
        };
        let standby = [
            ("Database cluster state", "shut down in recovery"),
            ("Minimum recovery ending location", "0/300"),
            ("Min recovery ending loc's timeline", "2"),
        ];
        assert_eq!(
            check(&standby),
            Some(LocalPosition { in_recovery: true, timeline: 2, lsn: Lsn::new(0x300) })
        );
        let crashed_primary = [
            ("Database cluster state", "in archive recovery"),
            ("Minimum recovery ending location", "0/0"),
            ("Min recovery ending loc's timeline", "0"),
            ("Latest checkpoint location", "0/200"),
            ("Latest checkpoint's TimeLineID", "1"),
        ];
        assert_eq!(
            check(&crashed_primary),
            Some(LocalPosition { in_recovery: false, timeline: 1, lsn: Lsn::new(0x200) })
        );
        assert_eq!(check(&[("Database cluster state", "in production")]), None);
        assert_eq!(check(&[("Database cluster state", "shut down")]), None);
        assert_eq!(local_log(check(&standby)), "Local timeline=2 lsn=0/300");
        assert_eq!(local_log(None), "Local timeline=None lsn=None");
    }

    #[test]
    fn decisions() {
        assert_eq!(compare_timelines(3, 2), Compared::Decided(true));
        assert_eq!(compare_timelines(2, 2), Compared::Decided(false));
        assert_eq!(compare_timelines(1, 2), Compared::NeedHistory);
        let lines = history(3);
        let at = |in_recovery, timeline, lsn| {
            judge_history(&lines, LocalPosition { in_recovery, timeline, lsn: Lsn::new(lsn) }).0
        };
        use HistoryVerdict::{CompareCheckpointEnd, Decided};
        assert_eq!(at(true, 2, 0x200), Decided(false));
        assert_eq!(at(true, 2, 0x201), Decided(true));
        assert_eq!(at(false, 2, 0x200), Decided(true));
        assert_eq!(at(false, 2, 0x1A0), CompareCheckpointEnd { switchpoint: Lsn::new(0x200) });
        // Our timeline is not an ancestor of the leader's.
        assert_eq!(at(true, 4, 0x10), Decided(true));
        let gap = [history(3)[2].clone()];
        assert_eq!(
            judge_history(&gap, LocalPosition { in_recovery: true, timeline: 2, lsn: Lsn::new(1) }).0,
            Decided(true)
        );
        assert_eq!(
            judge_history(&[], LocalPosition { in_recovery: true, timeline: 2, lsn: Lsn::new(1) }),
            (Decided(true), 0)
        );
    }

    #[test]
    fn the_history_window() {
        assert_eq!(history_log(&history(2), 0), "primary: history=1\t0/100\tr1\n2\t0/200\tr2");
        let long = history_log(&history(12), 5);
        assert_eq!(
            long.lines().map(|l| l.split('\t').next().unwrap()).collect::<Vec<_>>(),
            ["primary: history=3", "4", "5", "6", "7", "...", "12"]
        );
        let tail = history_log(&history(12), 11);
        assert_eq!(tail.lines().count(), 4);
    }

    #[test]
    fn states() {
        use RewindState::*;
        assert!(Check.is_needed() && Need.is_needed() && !NotNeeded.is_needed());
        assert!(Success.executed() && Failed.executed() && !NotNeeded.executed());
    }
}
