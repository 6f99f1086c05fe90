//! How far the wall clock of a leader of the reference is ahead of ours.
//!
//! Such a leader compares the end that a writer has written, by the writer's wall clock, with its own wall clock, and never
//! tells the time. So it is measured: a *probe*, a key of our own with a short life, tells by the moment at which the leader
//! ends it what the leader's clock said then; and while it is there, that the clock has not come so far. What is learnt
//! counts from `CLOCK_BOOTTIME`, so that a jump of our own clock shows at once.

use std::sync::Arc;
use std::time::Duration;

use patroni_core::ha::Mono;

use crate::kv::{Call, Change, Conditions, Item};

/// Where the probes are: outside of what Patroni looks at.
pub const PROBES: &str = "/patroni-rs/clock";

/// A probe that has not come into the log is written anew after that.
const LOST: Duration = Duration::from_secs(2);
/// One that is ended sooner than that after it has come, or within a third of its life, may have been at its end when it
/// came: how far that clock is ahead is not known.
const AT_ONCE: Duration = Duration::from_secs(2);
/// One that outlives its end by so many seconds shows a clock that is behind ours: nothing is to be feared of it.
const OVERDUE: f64 = 2.0;

#[derive(Debug, Clone)]
struct Probe {
    item: Item,
    asked: Mono,
    /// Since when it is in the dictionary.
    there: Option<Mono>,
}

/// What is known of the clock of who leads. Nothing is measured before [`LeaderClock::measure`].
#[derive(Debug, Default)]
pub struct LeaderClock {
    key: Arc<str>,
    /// Zero: nothing is measured.
    life: Duration,
    /// Of which leader, in which term.
    of: Option<(Arc<str>, u64)>,
    probe: Option<Probe>,
    /// What that clock said at the start of ours, in seconds since 1970; infinite: at least so much that a probe has ended
    /// as it came.
    reads: Option<f64>,
}

/// How far the leader's clock is ahead of ours, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ahead {
    /// Nothing is known of this leader yet.
    Unknown,
    /// By no more than that: the probe that is there leaves it open.
    AtMost(f64),
    /// So it was measured.
    By(f64),
    /// By about the life of a probe, or more.
    Far,
}

/// What `wall`, a wall clock, said at the start of the other clock, if it says that at `now`.
fn at_start(wall: f64, now: Mono) -> f64 {
    wall - now.since_start().as_secs_f64()
}

impl LeaderClock {
    /// From now on: with probes that bear that name, which no other node's do, and live so long: what is ahead by more is
    /// only known to be ahead by that.
    pub fn measure(&mut self, name: &str, life: Duration) {
        (self.key, self.life) = (format!("{PROBES}/{name}").into(), life);
    }

    /// What is to be proposed now. `leader`: who leads, in which term, if it is of the reference.
    pub fn tick(&mut self, now: Mono, wall: f64, leader: Option<(&Arc<str>, u64)>) -> Option<Call> {
        let leader = leader.filter(|_| !self.life.is_zero()).map(|(leader, term)| (Arc::clone(leader), term));
        if self.of != leader {
            (self.of, self.probe, self.reads) = (leader, None, None);
        }
        self.of.as_ref()?;
        match &self.probe {
            Some(probe) if probe.there.is_none() && now.since(probe.asked) < LOST => return None,
            Some(probe) if probe.there.is_some() => {
                let end = probe.item.expire.unwrap_or(wall);
                if wall < end + OVERDUE && now.since(probe.asked) < 2 * self.life + LOST {
                    return None;
                }
                self.reads = Some(at_start(end, now));
            }
            _ => {}
        }
        // The text tells this probe from those before it.
        let item = Item {
            value: format!("{wall}").into(),
            updated: wall,
            created: wall,
            expire: Some(wall + self.life.as_secs_f64()),
            index: 0,
        };
        self.probe = Some(Probe { item: item.clone(), asked: now, there: None });
        Some(Call::Set(Arc::clone(&self.key), item, Conditions::default()))
    }

    /// Something has changed in the dictionary. True: the clock was read.
    pub fn changed(&mut self, change: &Change, now: Mono) -> bool {
        let Some(probe) = self.probe.as_mut().filter(|_| change.key == self.key) else { return false };
        match &change.value {
            Some(value) => {
                probe.there = (*value == probe.item.value).then_some(now);
                false
            }
            None => {
                let Some(came) = probe.there else { return false };
                let at_once = now.since(came) < AT_ONCE.min(self.life / 3);
                let end = probe.item.expire.map(|end| at_start(end, now));
                self.reads = if at_once { Some(f64::INFINITY) } else { end };
                self.probe = None;
                true
            }
        }
    }

    /// Where our wall clock says `wall`.
    pub fn ahead(&self, now: Mono, wall: f64) -> Ahead {
        let open =
            self.probe.as_ref().filter(|probe| probe.there.is_some()).and_then(|probe| probe.item.expire);
        let read = self.reads.map(|reads| reads + now.since_start().as_secs_f64());
        match (read, open) {
            // A probe is there that should have ended by what was read before: that clock was set back.
            (Some(read), Some(end)) if end < read => Ahead::AtMost((end - wall).max(0.0)),
            (Some(read), _) if read - wall >= self.life.as_secs_f64() => Ahead::Far,
            (Some(read), _) => Ahead::By((read - wall).max(0.0)),
            (None, Some(end)) => Ahead::AtMost((end - wall).max(0.0)),
            (None, None) => Ahead::Unknown,
        }
    }

    /// Who leads, if its clock is looked at.
    pub fn leader(&self) -> Option<&Arc<str>> {
        self.of.as_ref().map(|(leader, _)| leader)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const LIFE: u64 = 15;

    fn s(seconds: u64) -> Mono {
        Mono::seconds(seconds)
    }

    fn clock() -> LeaderClock {
        let mut clock = LeaderClock::default();
        clock.measure("a", Duration::from_secs(LIFE));
        clock
    }

    fn leader(term: u64) -> (Arc<str>, u64) {
        (Arc::from("b:1"), term)
    }

    /// A probe is asked for and comes into the log at once. Our clock says 1000 more than the other.
    fn probed(clock: &mut LeaderClock, now: u64, term: u64) -> Change {
        let (name, term) = leader(term);
        let Some(Call::Set(key, item, _)) = clock.tick(s(now), 1000.0 + now as f64, Some((&name, term)))
        else {
            unreachable!("a probe is due at {now}")
        };
        let change = Change { key, value: Some(item.value), index: 1 };
        assert!(!clock.changed(&change, s(now)));
        Change { value: None, ..change }
    }

    #[test]
    fn the_end_of_a_probe_tells_the_time() {
        for (ends, ahead) in [(25, 0.0), (24, 1.0), (18, 7.0), (12, 13.0), (26, 0.0)] {
            let mut clock = clock();
            let end = probed(&mut clock, 10, 1);
            // Before that it may be as much as is left of the probe's life.
            assert_eq!(clock.ahead(s(10), 1010.0), Ahead::AtMost(15.0));
            assert_eq!(clock.ahead(s(20), 1020.0), Ahead::AtMost(5.0));
            assert!(clock.changed(&end, s(ends)));
            assert_eq!(clock.ahead(s(ends), 1000.0 + ends as f64), Ahead::By(ahead), "{ends}");
            // Ours is set back: the leader's is ahead by so much more, at once.
            if ends == 24 {
                assert_eq!(clock.ahead(s(40), 1035.0), Ahead::By(6.0));
                assert_eq!(clock.ahead(s(40), 1026.0), Ahead::Far, "by the life of a probe");
            }
        }
        // At its end when it came, or nearly so.
        for ends in [10, 11] {
            let mut clock = clock();
            let end = probed(&mut clock, 10, 1);
            assert!(clock.changed(&end, s(ends)));
            assert_eq!(clock.ahead(s(ends), 1000.0 + ends as f64), Ahead::Far);
            // The next one lives: it was set right.
            let _ = probed(&mut clock, ends, 1);
            assert_eq!(clock.ahead(s(20), 1020.0), Ahead::AtMost(5.0 + (ends - 10) as f64));
        }
    }

    #[test]
    fn what_is_not_known() {
        let mut clock = clock();
        let (name, _) = leader(1);
        assert_eq!(clock.ahead(s(10), 1010.0), Ahead::Unknown);
        assert!(clock.tick(s(10), 1010.0, None).is_none(), "nobody leads, or one of ours");
        assert!(clock.tick(s(10), 1010.0, Some((&name, 1))).is_some());
        // It has not come into the log: nothing is known, and it is asked for again.
        assert_eq!(clock.ahead(s(11), 1011.0), Ahead::Unknown);
        assert!(clock.tick(s(11), 1011.0, Some((&name, 1))).is_none());
        let end = probed(&mut clock, 12, 1);
        // An older one of ours, from before a restart, is none.
        let other = Change { value: Some("900.0".into()), ..end.clone() };
        assert!(!clock.changed(&other, s(13)) && !clock.changed(&end, s(13)));
        assert_eq!(clock.ahead(s(13), 1013.0), Ahead::Unknown);
        // Another leader, and another term of the same one: all begins anew.
        for (term, at) in [(2, 20), (4, 40)] {
            let end = probed(&mut clock, at, term);
            assert!(clock.changed(&end, s(at + 10)));
            assert_eq!(clock.ahead(s(at + 10), 1010.0 + at as f64), Ahead::By(5.0));
            assert!(clock.tick(s(at + 11), 1011.0 + at as f64, Some((&name, term + 1))).is_some());
            assert_eq!(clock.ahead(s(at + 11), 1011.0 + at as f64), Ahead::Unknown);
        }
        let mut silent = LeaderClock::default();
        assert!(silent.tick(s(90), 1090.0, Some((&name, 9))).is_none() && silent.leader().is_none());
    }

    #[test]
    fn a_clock_that_is_behind_is_not_waited_for() {
        let mut clock = clock();
        let (name, _) = leader(1);
        let _ = probed(&mut clock, 10, 1);
        assert!(clock.tick(s(26), 1026.0, Some((&name, 1))).is_none());
        assert_eq!(clock.ahead(s(26), 1026.0), Ahead::AtMost(0.0));
        assert!(clock.tick(s(27), 1027.0, Some((&name, 1))).is_some());
        assert_eq!(clock.ahead(s(27), 1027.0), Ahead::By(0.0));
        // Ours was set back by an hour: it is not waited for until its end comes again.
        let _ = probed(&mut clock, 30, 1);
        assert!(clock.tick(s(61), 1061.0 - 3600.0, Some((&name, 1))).is_none());
        assert!(clock.tick(s(62), 1062.0 - 3600.0, Some((&name, 1))).is_some());
    }

    #[test]
    fn a_clock_that_is_set_back_is_seen_by_the_next_probe() {
        let mut clock = clock();
        let end = probed(&mut clock, 10, 1);
        assert!(clock.changed(&end, s(15)));
        assert_eq!(clock.ahead(s(15), 1015.0), Ahead::By(10.0));
        let _ = probed(&mut clock, 15, 1);
        assert_eq!(clock.ahead(s(19), 1019.0), Ahead::By(10.0));
        // It should have ended in second 20.
        assert_eq!(clock.ahead(s(24), 1024.0), Ahead::AtMost(6.0));
    }
}
