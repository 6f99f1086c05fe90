//! docs/promises.md: what it names is there.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The cells of the rows of all tables, without heads and rulers.
fn rows(text: &str) -> Vec<Vec<String>> {
    let tables = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let cells = |line: &str| -> Vec<String> {
        let inner = line.trim_matches('|').replace("\\|", "\u{0}");
        inner.split('|').map(|cell| cell.trim().replace('\u{0}', "|")).collect()
    };
    tables.map(cells).filter(|row| row.first().is_none_or(|cell| cell != "statement")).collect()
}

#[test]
fn each_row_names_files_that_are_there() {
    let root = root();
    let text = std::fs::read_to_string(root.join("docs/promises.md")).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 400, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let [statement, place, test, note] = row.as_slice() else {
            wrong.push(format!("not four cells: {row:?}"));
            continue;
        };
        for cell in [place, test, note] {
            // What is in backquotes and has a slash is a path.
            let named = cell.split('`').skip(1).step_by(2).filter(|name| name.contains('/'));
            wrong.extend(
                named.filter(|name| !root.join(name).exists()).map(|name| format!("{statement}: no {name}")),
            );
        }
        // What is implemented says where, and what is not says why.
        if !place.contains('`') && note.is_empty() && !place.contains("reference") {
            wrong.push(format!("{statement}: neither a place nor a note"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Statements without a test are few, and said to be.
#[test]
fn most_rows_have_a_test() {
    let text = std::fs::read_to_string(root().join("docs/promises.md")).unwrap();
    let rows = rows(&text);
    let without = rows.iter().filter(|row| row.get(2).is_none_or(|test| !test.contains('`'))).count();
    assert!(without * 15 < rows.len(), "{without} of {} have none", rows.len());
}
