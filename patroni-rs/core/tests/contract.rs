//! The comments and the contract (docs/contract) belong together: each number that a source file cites is in the
//! contract, and each section of it is cited, or docs/contract/index.md says where it went.

#![allow(clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 4] = ["ha-pg", "dcs", "config", "api-ctl"];
const SOURCES: [&str; 3] = ["patroni-rs", "patronictl-rs", "compat-tests"];
/// The differences cite numbers as well; they implement nothing.
const COMPATIBILITY: &str = "docs/compatibility.md";
/// Between these lines index.md is made by this test.
const BEGIN: &str = "<!-- made by patroni-rs/core/tests/contract.rs -->";
const END: &str = "<!-- end -->";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the repository")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A document of the contract: its sections in order with their titles, and the section of each rule.
struct Document {
    sections: Vec<(String, String)>,
    rules: BTreeMap<String, String>,
}

impl Document {
    fn read(name: &str) -> Document {
        let mut document = Document { sections: Vec::new(), rules: BTreeMap::new() };
        for line in read(&root().join(format!("docs/contract/{name}.md"))).lines() {
            let Some((before, rest)) = line.split_once("<a id=\"") else { continue };
            let (id, title) = rest.split_once("\"></a>").expect("an anchor is written <a id=\"..\"></a>");
            if before.starts_with('#') {
                let id = id.strip_prefix('s').expect("the anchor of a section begins with s");
                let title = title.strip_prefix(id).expect("a title begins with its number").trim();
                document.sections.push((id.to_owned(), title.to_owned()));
            } else {
                let section = document.sections.last().expect("a rule stands in a section").0.clone();
                let old = document.rules.insert(id.to_owned(), section);
                assert!(old.is_none(), "{name}.md has {id} twice");
            }
        }
        document
    }

    /// The section that a number belongs to; None: there is no such number.
    fn section_of(&self, id: &str) -> Option<&str> {
        let section =
            self.sections.iter().find(|(section, _)| section == id).map(|(section, _)| section.as_str());
        section.or_else(|| self.rules.get(id).map(String::as_str))
    }
}

fn documents() -> BTreeMap<&'static str, Document> {
    DOCUMENTS.into_iter().map(|name| (name, Document::read(name))).collect()
}

fn source_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut directories: Vec<PathBuf> = SOURCES.iter().map(|directory| root().join(directory)).collect();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of sources").flatten() {
            let path = entry.path();
            if path.is_dir() && entry.file_name() != "target" {
                directories.push(path);
            } else if path.extension().is_some_and(|e| e == "rs" || e == "feature") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The comments of a source file, each run of lines as one text: a list of numbers may go over the end of a line.
fn comments(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in text.lines() {
        let line = line.trim_start();
        let attribute = line.starts_with("#[") || line.starts_with("#![");
        let whole =
            ["///", "//!", "//", "#"].iter().find_map(|mark| line.strip_prefix(mark)).filter(|_| !attribute);
        match (whole, line.split_once(" // ")) {
            (Some(comment), _) => {
                match found.last_mut() {
                    Some(last) if goes_on => {
                        last.push(' ');
                        last.push_str(comment.trim());
                    }
                    _ => found.push(comment.trim().to_owned()),
                }
                goes_on = true;
            }
            (None, Some((_, comment))) => {
                found.push(comment.to_owned());
                goes_on = false;
            }
            (None, None) => goes_on = false,
        }
    }
    found
}

/// Which document a number belongs to that none is named for: `10-05` is ha-pg's, `H17` api-ctl's.
fn owner(word: &str) -> Option<&'static str> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some((section, rule)) = word.split_once('-') {
        let section = section.trim_end_matches(|c: char| ('A'..='J').contains(&c));
        let (main, sub) = section.split_once('.').unwrap_or((section, "1"));
        let rule = rule.strip_suffix('b').unwrap_or(rule);
        // Not a date, not a range of years.
        let fits = digits(main) && main.len() <= 2 && !main.starts_with('0') && digits(sub) && digits(rule);
        return (fits && rule.len() == 2 && rule != "00").then_some("ha-pg");
    }
    let letter = word.chars().next()?;
    // S1 is a row of docs/safety.md.
    let known = "VHTRDJMGPEOCFLKBX".contains(letter);
    (known && digits(&word[1..]) && word.len() <= 3).then_some("api-ctl")
}

fn is_number(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    owner(word).is_some() || word.starts_with(|c: char| c.is_ascii_digit()) && word.chars().all(plain)
}

/// Every number that a text cites, with its document. The empty number is the document alone.
fn cited(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    // The document whose numbers follow, and the number before `to`.
    let (mut document, mut first): (Option<String>, Option<String>) = (None, None);
    let mut range = false;
    for word in text.split_whitespace() {
        let inner = word.trim_start_matches(['(', '`', '[']);
        let number = inner.trim_end_matches([')', ',', '.', ':', ';', '`', ']', '?', '!']);
        let mut ends = number.len() < inner.len() && !inner.ends_with(',');
        if let Some(name) = number.strip_prefix("surface-") {
            document = Some(name.to_owned());
            found.push((name.to_owned(), String::new()));
        } else if number == "to" && first.is_some() {
            range = true;
        } else if is_number(number) && (document.is_some() || owner(number).is_some()) {
            let name = document.clone().unwrap_or_else(|| owner(number).unwrap_or_default().to_owned());
            if std::mem::take(&mut range) {
                found.extend(between(&first.take().unwrap_or_default(), number).map(|id| (name.clone(), id)));
            }
            first = Some(number.to_owned());
            found.push((name, number.to_owned()));
        } else {
            ends |= !["and", "or", "section", "sections", "TRAP"].contains(&number);
        }
        if ends {
            (document, first, range) = (None, None, false);
        }
    }
    found
}

/// The numbers between two of the same kind: `P19 to P24`, `5.2-09 to 5.2-14`, `1.9 to 1.31`, `8 to 10`.
fn between(first: &str, last: &str) -> impl Iterator<Item = String> {
    let split = |text: &str| {
        let at = text.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
        (text[..at].to_owned(), text[at..].to_owned())
    };
    let ((prefix, low), (other, high)) = (split(first), split(last));
    let width = if low.starts_with('0') { low.len() } else { 0 };
    let numbers = match (low.parse::<u32>(), high.parse::<u32>()) {
        (Ok(low), Ok(high)) if prefix == other => low + 1..high,
        _ => 0..0,
    };
    numbers.map(move |n| format!("{prefix}{n:0width$}"))
}

/// Document, number and file of every citation.
fn citations() -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for path in source_files() {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        // Dates and other texts of Python: pyfmt knows no contract.
        if name.starts_with("patroni-rs/pyfmt/") || name.ends_with("core/tests/contract.rs") {
            continue;
        }
        let text = read(&path);
        for (document, id) in comments(&text).iter().flat_map(|comment| cited(comment)) {
            found.push((document, id, name.clone()));
        }
    }
    for line in read(&root().join(COMPATIBILITY)).lines() {
        found.extend(cited(line).into_iter().map(|(document, id)| (document, id, COMPATIBILITY.to_owned())));
    }
    found
}

#[test]
fn numbers_are_read_as_they_are_written() {
    let cases: [(&str, &[&str]); 11] = [
        ("Modes (surface-ha-pg 9.1).", &["ha-pg:9.1"]),
        ("The end (surface-ha-pg 2, 3-01, 9.3) of it", &["ha-pg:2", "ha-pg:3-01", "ha-pg:9.3"]),
        ("(surface-ha-pg 7, surface-dcs 6.1).", &["ha-pg:7", "dcs:6.1"]),
        ("see surface-ha-pg TRAP 12-03 for 4 of them", &["ha-pg:12-03"]),
        ("It was so (surface-ha-pg section 22): 3 of 4", &["ha-pg:22"]),
        ("Users (12-08 to 12-11).", &["ha-pg:12-08", "ha-pg:12-09", "ha-pg:12-10", "ha-pg:12-11"]),
        ("P19 to P21.", &["api-ctl:P19", "api-ctl:P20", "api-ctl:P21"]),
        (
            "(surface-config 1.9 to 1.11 and 1.20)",
            &["config:1.9", "config:1.10", "config:1.11", "config:1.20"],
        ),
        ("(surface-dcs 8 to 10)", &["dcs:8", "dcs:9", "dcs:10"]),
        ("Since 2026-01-01, docs/safety.md S9, and 10 to 12 s", &[]),
        ("It ends (J13); 2 s later (D2 to D4)", &["api-ctl:J13", "api-ctl:D2", "api-ctl:D3", "api-ctl:D4"]),
    ];
    for (text, expected) in cases {
        let numbers = cited(text).into_iter().filter(|(_, id)| !id.is_empty());
        let found: BTreeSet<String> = numbers.map(|(document, id)| format!("{document}:{id}")).collect();
        let expected: BTreeSet<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        assert_eq!(found, expected, "{text}");
    }
    let found = comments("/// One (surface-ha-pg\n/// 23-09).\nlet a = 1; // two\n# three\n#[test]\n");
    assert_eq!(found, ["One (surface-ha-pg 23-09).", "two", "three"]);
}

#[test]
fn every_number_that_is_cited_is_in_the_contract() {
    let documents = documents();
    let is_known = |document: &String, id: &String| {
        documents.get(document.as_str()).is_some_and(|known| id.is_empty() || known.section_of(id).is_some())
    };
    let unknown: Vec<String> = citations()
        .into_iter()
        .filter(|(document, id, _)| !is_known(document, id))
        .map(|(document, id, file)| format!("{file}: surface-{document} {id}"))
        .collect();
    assert!(unknown.is_empty(), "not in docs/contract:\n{}", unknown.join("\n"));
}

#[test]
fn no_doc_comment_is_only_a_number() {
    let bare = |word: &str| word.trim_matches(|c: char| "(),.:;".contains(c)).to_owned();
    let is_cited = |word: &str| owner(word).is_some() || word.starts_with("surface-");
    let is_part =
        |word: &str| is_number(word) || is_cited(word) || ["to", "and", "or", "section"].contains(&word);
    let is_only_a_number = |doc: &String| {
        let words: Vec<String> = doc.split_whitespace().map(bare).collect();
        words.iter().any(|word| is_cited(word)) && words.iter().all(|word| is_part(word))
    };
    let mut found = Vec::new();
    // pyfmt cites nothing: its numbers are ranges.
    for path in source_files().into_iter().filter(|path| !path.components().any(|c| c.as_os_str() == "pyfmt"))
    {
        let text = read(&path);
        let docs: String = text
            .lines()
            .map(|line| match line.trim_start() {
                line if line.starts_with("///") || line.starts_with("//!") => format!("{line}\n"),
                _ => "\n".to_owned(),
            })
            .collect();
        let numbers = comments(&docs).into_iter().filter(is_only_a_number);
        found.extend(numbers.map(|doc| format!("{}: {doc}", path.display())));
    }
    assert!(found.is_empty(), "say what it is, then the number:\n{}", found.join("\n"));
}

/// Files that cite something of a section, by document and section.
type Cited = BTreeMap<(String, String), BTreeSet<String>>;

fn cited_sections(documents: &BTreeMap<&'static str, Document>) -> Cited {
    let mut cited: Cited = BTreeMap::new();
    for (document, id, file) in citations().into_iter().filter(|(_, _, file)| file != COMPATIBILITY) {
        if let Some(section) = documents.get(document.as_str()).and_then(|known| known.section_of(&id)) {
            cited.entry((document, section.to_owned())).or_default().insert(file);
        }
    }
    cited
}

/// Document and section of a row of index.md: `| [dcs 10](dcs.md#s10) | ... |`.
fn row_key(line: &str) -> Option<(String, String)> {
    let (_, target) = line.strip_prefix("| [")?.split_once("](")?;
    let (document, section) = target.split_once(')')?.0.split_once(".md#s")?;
    Some((document.to_owned(), section.to_owned()))
}

/// `directory/`: names; the next directory ...
fn by_directory(files: &BTreeSet<String>) -> String {
    let mut directories: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files {
        let (directory, name) = file.rsplit_once('/').unwrap_or(("", file));
        directories.entry(directory).or_default().push(name);
    }
    let texts = directories.iter().map(|(directory, names)| format!("`{directory}/`: {}", names.join(", ")));
    texts.collect::<Vec<_>>().join("; ")
}

/// The files that [`by_directory`] wrote.
fn files_of(text: &str) -> BTreeSet<String> {
    let parts = text.split("; ").filter_map(|part| part.split_once(": "));
    let files = parts.flat_map(|(directory, names)| {
        names.split(", ").map(move |name| format!("{}{name}", directory.trim_matches('`')))
    });
    files.collect()
}

fn table(documents: &BTreeMap<&'static str, Document>, cited: &Cited) -> String {
    let mut text = String::from("| section | about | cited by |\n|---|---|---|\n");
    for name in DOCUMENTS {
        for (section, title) in &documents[name].sections {
            if let Some(files) = cited.get(&(name.to_owned(), section.clone())) {
                let (title, files) = (title.replace('|', "\\|"), by_directory(files));
                text.push_str(&format!("| [{name} {section}]({name}.md#s{section}) | {title} | {files} |\n"));
            }
        }
    }
    text
}

#[test]
fn every_section_is_cited_or_explained() {
    let (documents, path) = (documents(), root().join("docs/contract/index.md"));
    let cited = cited_sections(&documents);
    let index = read(&path);
    let (head, rest) = index.split_once(BEGIN).expect("index.md has its marks");
    let (written, tail) = rest.split_once(END).expect("index.md has its marks");
    let explained: BTreeSet<(String, String)> = tail.lines().filter_map(row_key).collect();
    for (document, section) in &explained {
        let known = documents.get(document.as_str()).is_some_and(|d| d.section_of(section).is_some());
        assert!(known, "index.md explains {document} {section}, which is not there");
    }
    for path in tail.split('`').skip(1).step_by(2).filter(|code| code.contains('/') && !code.starts_with('/'))
    {
        assert!(root().join(path).exists(), "index.md names {path}, which is not there");
    }
    // What only tests cite is not implemented by what cites it.
    let implements = |file: &String| !file.starts_with("compat-tests/") && !file.contains("/tests");
    let implemented: BTreeSet<&(String, String)> =
        cited.iter().filter(|(_, files)| files.iter().any(implements)).map(|(key, _)| key).collect();
    let mut silent = Vec::new();
    for name in DOCUMENTS {
        for (section, title) in &documents[name].sections {
            let key = (name.to_owned(), section.clone());
            // A section that is divided is cited by its parts: 15 by 15.1, 4 by 4A.
            let is_part = |s: &String| {
                s.strip_prefix(section.as_str())
                    .is_some_and(|rest| rest.starts_with(|c: char| !c.is_ascii_digit()))
            };
            let in_parts = implemented.iter().any(|(document, s)| document == name && is_part(s));
            if !implemented.contains(&key) && !explained.contains(&key) && !in_parts {
                silent.push(format!("| [{name} {section}]({name}.md#s{section}) {title} | |"));
            }
        }
    }
    assert!(
        silent.is_empty(),
        "no source but tests cites these, and index.md does not say why:\n{}",
        silent.join("\n")
    );
    if std::env::var("CONTRACT_INDEX").is_ok_and(|how| how == "write") {
        let made = table(&documents, &cited);
        fs::write(&path, format!("{head}{BEGIN}\n\n{made}\n{END}{tail}")).expect("index.md can be written");
        return;
    }
    // A citation more or less makes the table incomplete, not wrong; a file that has gone makes it wrong.
    let is_stale = |line: &&str| {
        let named = line.rsplit_once(" | ").map_or("", |(_, files)| files.trim_end_matches(" |"));
        !files_of(named).iter().all(|file| root().join(file).exists())
    };
    let stale: Vec<&str> = written.lines().filter(|line| line.starts_with("| [")).filter(is_stale).collect();
    assert!(
        stale.is_empty(),
        "index.md names files that are not there any more; write it anew with\n\
         CONTRACT_INDEX=write cargo test -p patroni-core --test contract\n{}",
        stale.join("\n")
    );
}
