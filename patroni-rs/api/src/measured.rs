//! What only this implementation measures, for `/metrics`.

use std::time::Duration;

use patroni_core::node::takeover::Takeover;

/// Upper ends of the buckets, seconds.
pub const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// How long something takes, as Prometheus counts it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    /// How many took at most that long and longer than the bound before; those that took longer than all are in `count` alone.
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
}

impl Histogram {
    /// One more.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            if let Some(count) = self.buckets.get_mut(bucket) {
                *count += 1;
            }
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// Each bound, and how many took at most that long.
    pub fn cumulated(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        BOUNDS.iter().zip(&self.buckets).scan(0, |sum, (bound, count)| {
            *sum += count;
            Some((*bound, *sum))
        })
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How long all took together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// Cycles of the HA loop.
    pub cycles: Histogram,
    /// Requests of the HA loop to the DCS, repetitions included.
    pub dcs_requests: Histogram,
    /// The guardian lives, and has an instant at which it acts.
    pub guardian_armed: bool,
    /// The last failover that ended with the promotion of this node.
    pub takeover: Takeover,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_in_the_first_bucket_that_holds_it() {
        let mut found = Histogram::default();
        for millis in [5, 6, 1000, 31_000] {
            found.observe(Duration::from_millis(millis));
        }
        let cumulated: Vec<(f64, u64)> = found.cumulated().collect();
        assert_eq!(cumulated[..2], [(0.005, 1), (0.01, 2)]);
        assert_eq!(cumulated[6..8], [(0.5, 2), (1.0, 3)]);
        assert_eq!(cumulated[11], (30.0, 3));
        assert_eq!((found.count(), found.sum()), (4, Duration::from_millis(32_011)));
    }
}
