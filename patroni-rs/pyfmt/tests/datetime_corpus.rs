//! Compares `pyfmt::datetime` with the answers of the reference's dateutil, recorded by
//! `fixtures/datetime/record.py`. `PYFMT_DATETIME_CORPUS` names another file of records.
#![allow(clippy::unwrap_used)]

use pyfmt::datetime::{parse, DateError, DateTime, Locale};
use pyfmt::{json, Value};

/// Berlin, but for the days on which summer time starts and ends.
fn berlin(at: &DateTime) -> i32 {
    if (4..=10).contains(&at.month) {
        7200
    } else {
        3600
    }
}

fn check(record: &Value) -> Option<String> {
    let locale = Locale { today: (2026, 11, 21), zone_names: ["CET", "CEST"], offset_at: &berlin };
    let field = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    let got = match parse(field("text"), &locale) {
        Ok(date) => (date.isoformat(), date.to_string()),
        Err(DateError::Value(text)) => ("ParserError".into(), text),
        Err(DateError::Overflow(_)) => ("OverflowError".into(), field("error").into()),
    };
    let expected = match record.get("value") {
        Some(_) => (field("value"), field("str")),
        // Python refuses an offset of a day only when it is printed.
        None if field("class") == "ValueError" => return None,
        None => (field("class"), field("error")),
    };
    let same = (got.0.as_str(), got.1.as_str()) == expected;
    (!same).then(|| format!("{:?}\ngot {got:?}\nnot {expected:?}", field("text")))
}

#[test]
fn parses_as_dateutil_does() {
    let path = std::env::var("PYFMT_DATETIME_CORPUS").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/datetime/corpus.json").into()
    });
    let corpus = json::loads(&std::fs::read_to_string(path).unwrap()).unwrap();
    let records = corpus.as_list().unwrap();
    let wrong: Vec<String> = records.iter().filter_map(check).collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), records.len(), wrong.join("\n"));
}

#[test]
fn unix_time_round_trips() {
    for seconds in [-62_135_596_800, -1, 0, 951_782_400, 1_795_262_400, 253_402_300_799] {
        for offset in [None, Some(0), Some(3600), Some(-12_600)] {
            if let Some(date) = DateTime::from_unix(seconds, 5, offset) {
                assert_eq!((date.unix_seconds(), date.offset), (seconds, offset), "{date}");
            }
        }
    }
    assert_eq!(DateTime::from_unix(951_782_400, 0, None).unwrap().isoformat(), "2000-02-29T00:00:00");
    assert_eq!(DateTime::from_unix(253_402_300_800, 0, None), None);
    assert_eq!(DateTime::from_unix(i64::MAX, 0, Some(1)), None);
}
