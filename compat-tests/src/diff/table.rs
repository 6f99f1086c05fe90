//! The result, as a table and as the first bytes that differ.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use crate::lab::Result;

/// How much of the text around the first difference is shown, in characters.
const AROUND: usize = 60;

/// What came of one probe.
#[derive(Debug)]
pub enum Finding {
    /// The same bytes.
    Identical,
    /// The same, but for what the allow-list names.
    Allowed,
    /// Both could not be asked, for the same reason: expected of a node that is down.
    Unanswered,
    /// Not the same: the probe with its state, and the two normalised answers.
    Different {
        /// The probe and its state.
        what: String,
        /// Our answer.
        ours: String,
        /// The reference's.
        theirs: String,
    },
}

/// Numbers of one area.
#[derive(Debug, Default, Clone, Copy)]
struct Row {
    probes: usize,
    identical: usize,
    allowed: usize,
    unanswered: usize,
}

/// All numbers, and all differences.
#[derive(Debug, Default)]
pub struct Table {
    rows: BTreeMap<&'static str, Row>,
    differences: Vec<Difference>,
}

/// One probe whose answers differ.
#[derive(Debug, Clone)]
pub struct Difference {
    area: &'static str,
    what: String,
    ours: String,
    theirs: String,
}

impl Difference {
    /// Writes both answers as a whole into `directory`, for `diff`.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, directory: &Path, number: usize) -> Result<()> {
        std::fs::create_dir_all(directory)?;
        for (side, answer) in [("ours", &self.ours), ("reference", &self.theirs)] {
            let text = format!("{}: {}\n{answer}", self.area, self.what);
            std::fs::write(directory.join(format!("{number:03}.{side}")), text)?;
        }
        Ok(())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}\n{}", self.area, self.what, first_difference(&self.ours, &self.theirs))
    }
}

impl Table {
    /// Counts one finding.
    pub fn add(&mut self, area: &'static str, finding: Finding) {
        let row = self.rows.entry(area).or_default();
        row.probes += 1;
        match finding {
            Finding::Identical => row.identical += 1,
            Finding::Allowed => row.allowed += 1,
            Finding::Unanswered => row.unanswered += 1,
            Finding::Different { what, ours, theirs } => {
                self.differences.push(Difference { area, what, ours, theirs });
            }
        }
    }

    /// All differences so far.
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// Whether every probe was identical or allowed.
    pub fn is_clean(&self) -> bool {
        self.differences.is_empty()
    }
}

/// The two texts around the first byte that differs.
pub fn first_difference(ours: &str, theirs: &str) -> String {
    let same = ours.chars().zip(theirs.chars()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(AROUND / 3);
    let cut = |text: &str| text.chars().skip(from).take(AROUND * 3).collect::<String>();
    format!("  at character {same}\n    ours:      {:?}\n    reference: {:?}\n", cut(ours), cut(theirs))
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for difference in &self.differences {
            write!(f, "{difference}")?;
        }
        writeln!(f, "| area          | probes | identical | allowed | unanswered | different |")?;
        writeln!(f, "|---------------|-------:|----------:|--------:|-----------:|----------:|")?;
        let mut sum = Row::default();
        let mut line = |name: &str, row: Row| {
            let different = row.probes - row.identical - row.allowed - row.unanswered;
            let Row { probes, identical, allowed, unanswered } = row;
            writeln!(f, "| {name:<13} | {probes:>6} | {identical:>9} | {allowed:>7} | {unanswered:>10} | {different:>9} |")
        };
        for (name, row) in &self.rows {
            line(name, *row)?;
            sum.probes += row.probes;
            sum.identical += row.identical;
            sum.allowed += row.allowed;
            sum.unanswered += row.unanswered;
        }
        line("all", sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_shows() {
        let mut table = Table::default();
        table.add("REST", Finding::Identical);
        table.add("REST", Finding::Allowed);
        assert!(table.is_clean());
        table.add("DCS", Finding::Different { what: "key".into(), ours: "abc".into(), theirs: "abd".into() });
        assert!(!table.is_clean());
        let text = table.to_string();
        assert!(text.contains("at character 2"), "{text}");
        assert!(
            text.contains("| all           |      3 |         1 |       1 |          0 |         1 |"),
            "{text}"
        );
    }
}
