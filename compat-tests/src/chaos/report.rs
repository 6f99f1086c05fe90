//! The table of faults and recoveries, and what was found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// One round: something went wrong, was healed, and the cluster came back.
#[derive(Debug, Clone)]
pub struct Episode {
    /// The kinds of its faults; more than one if they fell together.
    pub kinds: Vec<&'static str>,
    /// The longest time without an acknowledged write, from the fault to the recovery.
    pub gap: Duration,
    /// From the healing to the first acknowledged write.
    pub writable: Duration,
    /// From the healing until a primary and all standbys that stream are there.
    pub whole: Duration,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Known, and not ours to prevent: listed.
    Excused,
    /// A member of the reference is at fault.
    Reference,
    /// Ours.
    Violation,
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Weight::Excused => "excused",
            Weight::Reference => "the reference's",
            Weight::Violation => "VIOLATION",
        })
    }
}

/// Something that should not be.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The invariant's number in issue 9.
    pub invariant: u32,
    /// Who answers for it.
    pub weight: Weight,
    /// What was seen, and when.
    pub what: String,
}

/// Everything that is printed.
#[derive(Debug, Default)]
pub struct Report {
    /// Rounds.
    pub episodes: Vec<Episode>,
    /// What was found.
    pub findings: Vec<Finding>,
    /// What could not be done.
    pub not_injected: Vec<String>,
    /// What has to be known to read the rest.
    pub notes: Vec<String>,
    /// Acknowledged rows.
    pub rows: usize,
    /// Tenures of primaries.
    pub tenures: usize,
    /// Packets that the network lost.
    pub lost_packets: u64,
}

/// Median and worst in seconds.
fn summary(times: &mut [Duration]) -> String {
    times.sort();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    format!("{:.1} | {:.1}", middle.as_secs_f32(), worst.as_secs_f32())
}

impl Report {
    /// Nothing that ours has to answer for.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.weight < Weight::Violation)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: BTreeMap<String, Vec<&Episode>> = BTreeMap::new();
        for episode in &self.episodes {
            let alone = episode.kinds.len() == 1;
            let name = episode.kinds.first().filter(|_| alone).map_or("two at once", |kind| kind);
            rows.entry(name.to_owned()).or_default().push(episode);
        }
        if self.episodes.len() > 1 {
            rows.insert("~ all".into(), self.episodes.iter().collect());
        }
        writeln!(
            f,
            "Seconds, median | worst: longest time without an acknowledged write; from the healing to"
        )?;
        writeln!(f, "the first write; from the healing until all standbys stream again.")?;
        writeln!(f, "| fault | count | no writes | worst | writable | worst | whole | worst |")?;
        writeln!(f, "|---|---:|---:|---:|---:|---:|---:|---:|")?;
        for (name, episodes) in rows {
            let of = |time: fn(&Episode) -> Duration| {
                summary(&mut episodes.iter().map(|episode| time(episode)).collect::<Vec<_>>())
            };
            writeln!(
                f,
                "| {name} | {} | {} | {} | {} |",
                episodes.len(),
                of(|e| e.gap),
                of(|e| e.writable),
                of(|e| e.whole)
            )?;
        }
        writeln!(
            f,
            "{} rows acknowledged by {} tenures of primaries; {} packets lost",
            self.rows, self.tenures, self.lost_packets
        )?;
        for text in &self.notes {
            writeln!(f, "{text}")?;
        }
        for text in &self.not_injected {
            writeln!(f, "not injected: {text}")?;
        }
        for Finding { invariant, weight, what } in &self.findings {
            writeln!(f, "invariant {invariant}, {weight}: {what}")?;
        }
        if self.findings.is_empty() {
            writeln!(f, "no invariant was broken")?;
        }
        Ok(())
    }
}
