//! The list of differences that must stay, each with its reason.
//!
//! A line of `allow.tsv` has five fields, separated by tabs: the area; a pattern for the probe's whole name;
//! a pattern for the text that may differ (removed on both sides before they are compared again); the
//! reason; and the first cell of the row of docs/compatibility.md that tells users of it. Lines that begin
//! with `#` are comments.

use std::path::Path;

use regex::Regex;

use crate::lab::{host, Result};

/// The area of what the REST API answers.
pub const REST: &str = "REST";

/// One entry.
#[derive(Debug)]
pub struct Entry {
    area: String,
    probe: Regex,
    text: Regex,
    /// Why it must stay.
    pub reason: String,
    /// The row of docs/compatibility.md, by its first cell.
    pub row: String,
}

/// All entries.
#[derive(Debug, Default)]
pub struct AllowList(Vec<Entry>);

impl AllowList {
    /// Reads the file of the tree.
    ///
    /// # Errors
    /// As [`AllowList::read`].
    pub fn of_the_tree() -> Result<AllowList> {
        AllowList::read(&host::repository().join("compat-tests/allow.tsv"))
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The file cannot be read, or a line is not as it must be.
    pub fn read(path: &Path) -> Result<AllowList> {
        AllowList::parse(&std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?)
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// A line is not as it must be, and names it.
    pub fn parse(text: &str) -> Result<AllowList> {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        lines.map(entry).collect::<Result<Vec<Entry>>>().map(AllowList)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The answers without what may differ.
    pub fn masked(&self, area: &str, probe: &str, answers: &[String; 2]) -> [String; 2] {
        let mut masked = answers.clone();
        for entry in self.0.iter().filter(|entry| entry.area == area && entry.probe.is_match(probe)) {
            for text in &mut masked {
                *text = entry.text.replace_all(text, "").into_owned();
            }
        }
        masked
    }

    /// Whether the answers are the same but for what may differ.
    pub fn same(&self, area: &str, probe: &str, answers: &[String; 2]) -> bool {
        answers[0] == answers[1] || {
            let [ours, theirs] = self.masked(area, probe, answers);
            ours == theirs
        }
    }
}

fn entry(line: &str) -> Result<Entry> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [area, probe, text, reason, row] = fields[..] else {
        return Err(format!("{} fields instead of 5: {line}", fields.len()).into());
    };
    if reason.trim().is_empty() || row.trim().is_empty() {
        return Err(format!("no reason, or no row: {line}").into());
    }
    let probe = Regex::new(&format!("^(?:{probe})$"))?;
    Ok(Entry { area: area.into(), probe, text: Regex::new(text)?, reason: reason.into(), row: row.into() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_text_of_the_named_probe_may_differ() {
        let list = AllowList::parse("# comment\nREST\tGET .*\tServer: .*\tour name\trow\n").unwrap();
        let pair = |a: &str, b: &str| [a.to_string(), b.to_string()];
        assert!(list.same("REST", "GET /", &pair("Server: a\nx", "Server: b\nx")));
        assert!(!list.same("REST", "GET /", &pair("Server: a\nx", "Server: b\ny")));
        assert!(!list.same("REST", "PUT /", &pair("Server: a", "Server: b")));
        assert!(!list.same("DCS", "GET /", &pair("Server: a", "Server: b")));
    }

    #[test]
    fn an_entry_needs_a_reason() {
        assert!(AllowList::parse("REST\tx\ty\t \trow\n").is_err());
        assert!(AllowList::parse("REST\tx\ty\treason\n").is_err());
    }

    /// A probe is named without the state that it was asked in. (An entry that names it matches nothing, and nobody notices until
    /// the two are different.)
    #[test]
    fn the_role_that_on_stop_is_told_may_differ() {
        let list = AllowList::parse(include_str!("../../allow.tsv")).unwrap();
        let told = |role: &str| {
            format!("on_start primary batman\non_stop {role} batman\non_role_change replica batman\n")
        };
        let pair = [told("primary"), told("demoted")];
        assert!(list.same("files", "callbacks of node0", &pair));
        assert!(!list.same("files", "callbacks of node0", &[told("primary"), told("replica")]));
    }

    /// The list and what users are told are one: each entry has its row in docs/compatibility.md.
    #[test]
    fn each_entry_of_the_file_has_its_row_in_the_documentation() {
        let document = include_str!("../../../docs/compatibility.md");
        let rows: Vec<&str> =
            document.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).collect();
        let list = AllowList::parse(include_str!("../../allow.tsv")).unwrap();
        assert!(!list.is_empty());
        for entry in &list.0 {
            assert!(rows.contains(&entry.row.as_str()), "docs/compatibility.md has no row {:?}", entry.row);
        }
    }
}
