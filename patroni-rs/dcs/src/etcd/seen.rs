//! What the answers have told of the store: which cluster, its raft term, its revision; and whether it has gone back.
//!
//! A node with an older term has fallen behind, or is an old leader that does not know it: another one is asked. But a
//! cluster that was restored from a backup, or forced into a new one, begins with old terms, and nobody would ever be
//! believed again (the reference never is, until it is restarted). The two are told apart by what only a majority
//! can answer: a linearizable read or a write, sent after the newer state was seen, is never older than that, unless
//! the store has lost it.

use std::time::{Duration, Instant};

/// What one answer says of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The id of the etcd cluster; 0: the answer does not say.
    pub cluster: u64,
    /// Its raft term; 0: the answer does not say.
    pub term: u64,
    /// The store's revision; 0: the answer does not say.
    pub revision: i64,
    /// It took a majority to give this answer.
    pub by_majority: bool,
}

/// What is to be made of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It counts.
    Good,
    /// It comes from a node that has fallen behind a cluster with this term.
    Stale(u64),
    /// It counts, and it comes from another etcd cluster than before.
    OtherCluster {
        /// Its id before.
        before: u64,
        /// The store has fewer revisions than this, which was seen.
        lost: Option<i64>,
    },
    /// It counts, and the store is an earlier one than was seen, at this term and revision.
    GoneBack {
        /// The highest term that was seen.
        term: u64,
        /// The highest revision that was seen.
        revision: i64,
    },
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Seen {
    cluster: u64,
    term: u64,
    revision: i64,
    /// When one of them rose: answers to requests from before may be older.
    rose: Option<Instant>,
    /// Since when majorities answer with an older term, and nobody with the known one.
    older_since: Option<Instant>,
    setbacks: u64,
}

impl Seen {
    /// How often the store has become another one: it went back, or its id changed.
    pub fn setbacks(&self) -> u64 {
        self.setbacks
    }

    /// Judges the answer to a request that was sent at `sent`, and takes note of it. `patience`: for so long an older
    /// term that comes with no older revision is held against the node.
    pub fn judge(&mut self, told: Told, sent: Instant, now: Instant, patience: Duration) -> Verdict {
        if told.cluster == 0 || told.term == 0 {
            return Verdict::Good;
        }
        let later = self.rose.is_none_or(|rose| sent >= rose);
        let lost = told.by_majority && later && told.revision != 0 && told.revision < self.revision;
        if self.cluster != 0 && self.cluster != told.cluster {
            let verdict = Verdict::OtherCluster { before: self.cluster, lost: lost.then_some(self.revision) };
            let known = self.revision;
            self.begin_anew(told, now);
            if !(told.by_majority && later) {
                // Whether it has lost anything the next answer will tell.
                self.revision = known;
            }
            return verdict;
        }
        let older = told.term < self.term;
        let mut gone_back = lost;
        if older && told.by_majority && later && !lost {
            let since = *self.older_since.get_or_insert(now);
            gone_back = now.saturating_duration_since(since) > patience;
        }
        if gone_back {
            let verdict = Verdict::GoneBack { term: self.term, revision: self.revision };
            self.begin_anew(told, now);
            return verdict;
        }
        if older {
            return Verdict::Stale(self.term);
        }
        self.older_since = None;
        if told.term > self.term || told.revision > self.revision {
            self.rose = Some(now);
        }
        self.cluster = told.cluster;
        self.term = told.term;
        self.revision = self.revision.max(told.revision);
        Verdict::Good
    }

    fn begin_anew(&mut self, told: Told, now: Instant) {
        let Told { cluster, term, revision, .. } = told;
        let setbacks = self.setbacks + 1;
        *self = Seen { cluster, term, revision, rose: Some(now), older_since: None, setbacks };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// One answer: seconds at which it was asked and came, cluster, term, revision, whether of a majority.
    type Row = (u64, u64, u64, u64, i64, bool);

    fn judge_all(rows: &[Row]) -> (Vec<Verdict>, u64) {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let mut seen = Seen::default();
        let verdicts = rows.iter().map(|(sent, now, cluster, term, revision, by_majority)| {
            let told =
                Told { cluster: *cluster, term: *term, revision: *revision, by_majority: *by_majority };
            seen.judge(told, at(*sent), at(*now), PATIENCE)
        });
        let verdicts = verdicts.collect();
        (verdicts, seen.setbacks())
    }

    fn last(rows: &[Row]) -> Verdict {
        judge_all(rows).0.pop().unwrap_or(Verdict::Good)
    }

    #[test]
    fn terms_and_revisions_rise() {
        let rows =
            [(0, 0, 1, 2, 10, true), (1, 1, 1, 2, 10, true), (2, 2, 1, 3, 12, true), (3, 3, 1, 3, 0, false)];
        assert_eq!(judge_all(&rows), (vec![Verdict::Good; 4], 0));
        // What does not say is believed.
        assert_eq!(last(&[(0, 0, 1, 5, 10, true), (1, 1, 0, 0, 1, true)]), Verdict::Good);
    }

    #[test]
    fn a_node_that_has_fallen_behind() {
        let known = (0, 0, 1, 5, 100, true);
        // A keepalive or a list of members takes no majority, however long it goes on.
        assert_eq!(last(&[known, (1, 1, 1, 4, 90, false)]), Verdict::Stale(5));
        assert_eq!(last(&[known, (1, 1, 1, 4, 90, false), (99, 99, 1, 4, 90, false)]), Verdict::Stale(5));
        // The answer to a question from before the newer term was seen.
        assert_eq!(last(&[(1, 3, 1, 5, 100, true), (2, 4, 1, 4, 90, true)]), Verdict::Stale(5));
        // An older revision alone, of such a question or of no majority.
        assert_eq!(last(&[(1, 3, 1, 5, 100, true), (2, 4, 1, 5, 90, true)]), Verdict::Good);
        assert_eq!(last(&[known, (1, 1, 1, 5, 90, false)]), Verdict::Good);
    }

    #[test]
    fn a_store_that_was_restored() {
        let known = (0, 0, 1, 5, 100, true);
        let back = Verdict::GoneBack { term: 5, revision: 100 };
        for (term, revision) in [(2, 90), (5, 90), (6, 90)] {
            assert_eq!(last(&[known, (1, 1, 1, term, revision, true)]), back, "{term} {revision}");
        }
        // It counts from there on.
        let rows = [known, (1, 1, 1, 2, 90, true), (2, 2, 1, 2, 91, true), (3, 3, 1, 2, 0, false)];
        assert_eq!(judge_all(&rows), (vec![Verdict::Good, back.clone(), Verdict::Good, Verdict::Good], 1));
        // Nothing was written since the backup, or others have written since: by the term alone, in time.
        for revision in [100, 120] {
            let rows = [
                known,
                (1, 1, 1, 2, revision, true),
                (11, 11, 1, 2, revision, true),
                (12, 12, 1, 2, revision, true),
            ];
            let (verdicts, setbacks) = judge_all(&rows);
            assert_eq!(
                verdicts,
                [Verdict::Good, Verdict::Stale(5), Verdict::Stale(5), back.clone()],
                "{revision}"
            );
            assert_eq!(setbacks, 1);
        }
        // Not while the known term answers as well.
        let rows = [known, (1, 1, 1, 4, 100, true), (9, 9, 1, 5, 100, true), (12, 12, 1, 4, 100, true)];
        assert_eq!(last(&rows), Verdict::Stale(5));
    }

    #[test]
    fn another_cluster() {
        let known = (0, 0, 1, 5, 100, true);
        let other = |lost| Verdict::OtherCluster { before: 1, lost };
        assert_eq!(last(&[known, (1, 1, 7, 2, 90, true)]), other(Some(100)));
        assert_eq!(last(&[known, (1, 1, 7, 2, 200, true)]), other(None));
        assert_eq!(last(&[known, (1, 1, 7, 2, 0, false)]), other(None));
        // It tells later what it has lost.
        let lost = Verdict::GoneBack { term: 2, revision: 100 };
        assert_eq!(last(&[known, (1, 1, 7, 2, 0, false), (2, 2, 7, 2, 90, true)]), lost);
        assert_eq!(last(&[known, (1, 1, 7, 2, 0, false), (2, 2, 7, 2, 110, true)]), Verdict::Good);
        assert_eq!(judge_all(&[known, (1, 1, 7, 2, 90, true), (2, 2, 7, 2, 91, true)]).1, 1);
    }
}
