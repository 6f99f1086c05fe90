//! How long and how often: the arithmetic of surface-dcs 7 and 8.

use std::time::Duration;

use rand::Rng;

/// How the time for one request is spread over the nodes of the store.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slices {
    /// So many nodes are asked; 0 when there is no time for any.
    pub nodes: usize,
    /// Time for one attempt.
    pub attempt: Duration,
    /// Attempts at each node.
    pub tries: u32,
}

/// Small clusters get more attempts per node; where a node would get less than a
/// second, fewer nodes are asked.
pub fn time_slices(nodes: usize, budget: Duration) -> Slices {
    const LEAST: f64 = 1.0;
    let budget = budget.as_secs_f64();
    let mut max_tries = 4 - nodes.min(3) as u32;
    for n in (1..=nodes).rev() {
        let per_node = budget / n as f64;
        if per_node >= LEAST {
            let tries =
                (1..=max_tries).rev().find(|t| *t == 1 || per_node / f64::from(*t) >= LEAST).unwrap_or(1);
            let attempt = Duration::from_secs_f64(per_node / f64::from(tries));
            return Slices { nodes: n, attempt, tries };
        }
        max_tries = 1;
    }
    Slices { nodes: 0, attempt: Duration::from_secs_f64(budget), tries: 1 }
}

/// For whoever has little time: each node gets its share, at least [`LEAST_HURRIED`] of what there is.
pub fn hurried_slices(nodes: usize, budget: Duration) -> Slices {
    let share = budget / u32::try_from(nodes.max(1)).unwrap_or(u32::MAX);
    Slices { nodes, attempt: share.max(LEAST_HURRIED).min(budget), tries: 1 }
}

/// Less is no time for an answer; then fewer nodes are asked.
const LEAST_HURRIED: Duration = Duration::from_millis(200);

/// Pauses between rounds: 0.1 s doubling up to 1 s, with up to 0.8 s of jitter.
#[derive(Debug)]
pub struct Backoff {
    delay: Duration,
}

impl Backoff {
    /// Starts at the shortest pause.
    pub fn new() -> Backoff {
        Backoff { delay: Duration::from_millis(100) }
    }

    /// The next pause.
    pub fn next(&mut self) -> Duration {
        let pause = self.delay + Duration::from_millis(rand::rng().random_range(0..=80) * 10);
        self.delay = (self.delay * 2).min(Duration::from_secs(1));
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices() {
        for (nodes, budget, want) in [
            (1, 10.0, (1, 3.333, 3)),
            (2, 10.0, (2, 2.5, 2)),
            (3, 10.0, (3, 3.333, 1)),
            (5, 10.0, (5, 2.0, 1)),
            (7, 10.0, (7, 1.428, 1)),
            (12, 10.0, (10, 1.0, 1)),
            (5, 3.0, (3, 1.0, 1)),
            (3, 2.0, (2, 1.0, 1)),
            (1, 2.5, (1, 1.25, 2)),
            (3, 0.5, (0, 0.5, 1)),
            (0, 10.0, (0, 10.0, 1)),
        ] {
            let s = time_slices(nodes, Duration::from_secs_f64(budget));
            assert_eq!((s.nodes, s.tries), (want.0, want.2), "{nodes} {budget}");
            assert!((s.attempt.as_secs_f64() - want.1).abs() < 0.001, "{nodes} {budget}: {s:?}");
        }
    }

    #[test]
    fn slices_in_a_hurry() {
        for (nodes, budget, attempt) in
            [(3, 3000, 1000), (3, 450, 200), (3, 150, 150), (1, 3000, 3000), (5, 2000, 400)]
        {
            let s = hurried_slices(nodes, Duration::from_millis(budget));
            assert_eq!(
                (s.nodes, s.attempt, s.tries),
                (nodes, Duration::from_millis(attempt), 1),
                "{nodes} {budget}"
            );
        }
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let mut backoff = Backoff::new();
        for least in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next().as_millis();
            assert!((least..=least + 800).contains(&pause), "{pause}");
        }
    }
}
