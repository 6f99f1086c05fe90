//! Parameter values and connection strings against what the reference makes of
//! them (fixtures/guc/record.py).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use patroni_core::parse::{compare_values, human};
use patroni_core::PgVersion;
use patroni_postgres::files::{parse_dsn, AvailableGucs, GucTable};
use pyfmt::Value;
use support::{fixtures, read_json};

/// Runs `ours` on the rows of a section and compares with the last `results` cells.
fn compare(section: &str, results: usize, ours: impl Fn(&[Value]) -> Vec<Value>) {
    let doc = read_json(&fixtures().join("../guc/samples.json"));
    let mut failures = Vec::new();
    let rows = doc.get(section).unwrap().as_list().unwrap();
    for row in rows {
        let row = row.as_list().unwrap();
        let (input, expected) = row.split_at(row.len() - results);
        let got = ours(input);
        let same = |a: &Value, b: &Value| a == b && a.type_name() == b.type_name();
        if !got.iter().zip(expected).all(|(a, b)| same(a, b)) {
            failures.push(format!("{input:?}\n  ours:      {got:?}\n  reference: {expected:?}"));
        }
    }
    let shown = failures.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{section}: {} of {} differ\n{shown}", failures.len(), rows.len());
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn available() -> AvailableGucs {
    AvailableGucs::from_describe_config("available_one\nzero_damaged_pages\n")
}

#[test]
fn parameters() {
    compare("transform", 2, |row| {
        let version = PgVersion::from_num(u32::try_from(row[0].as_i64().unwrap()).unwrap());
        let done = GucTable::builtin().transform(version, &text(&row[1]), &row[2], &available());
        vec![done.value.into(), done.warning.into()]
    });
}

#[test]
fn recovery_parameters() {
    compare("recovery", 2, |row| {
        let version = PgVersion::from_num(u32::try_from(row[0].as_i64().unwrap()).unwrap());
        let done = GucTable::builtin().transform_recovery(version, &text(&row[1]), &row[2], &available());
        vec![done.value.into(), done.warning.into()]
    });
}

#[test]
fn connection_strings() {
    compare("dsn", 1, |row| vec![parse_dsn(&text(&row[0])).map(|d| d.into_iter().collect::<Value>()).into()]);
}

#[test]
fn human_units() {
    compare("human", 1, |row| vec![human(&text(&row[0]), &text(&row[1]), row[2].as_str()).into()]);
}

#[test]
fn comparisons() {
    compare("compare", 1, |row| {
        vec![compare_values(&text(&row[0]), row[1].as_str(), &row[2], &row[3]).into()]
    });
}
