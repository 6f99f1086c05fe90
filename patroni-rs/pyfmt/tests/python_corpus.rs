//! Compares `pyfmt::json`, `pyfmt::diff` and `pyfmt::text` with the answers of CPython,
//! recorded by `fixtures/pytext/record.py`. `PYFMT_PYTEXT_CORPUS` names another file.
#![allow(clippy::unwrap_used)]

use pyfmt::{diff, json, text, Value};

fn records(kind: &str) -> Vec<Value> {
    let path = std::env::var("PYFMT_PYTEXT_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/pytext/corpus.json").into());
    let corpus = json::loads(&std::fs::read_to_string(path).unwrap()).unwrap();
    corpus.get(kind).unwrap().as_list().unwrap().to_vec()
}

fn field<'a>(record: &'a Value, name: &str) -> Option<&'a str> {
    record.get(name).and_then(Value::as_str)
}

fn strings(value: Option<&Value>) -> Option<Vec<String>> {
    value.map(|v| v.as_list().unwrap().iter().map(|s| s.as_str().unwrap().to_owned()).collect())
}

#[test]
fn json_as_python() {
    for record in records("json") {
        let text = field(&record, "text").unwrap();
        match json::loads(text) {
            Ok(value) => {
                assert!(record.get("error").is_none(), "{text:?} {record:?}");
                if let Some(dumps) = field(&record, "dumps") {
                    assert_eq!(json::dumps(&value), dumps, "{text:?}");
                    assert_eq!(
                        Some(json::dumps_compact(&value).as_str()),
                        field(&record, "compact"),
                        "{text:?}"
                    );
                }
            }
            Err(e) if record.get("deep").is_some() => assert!(e.to_string().contains("recursion"), "{e}"),
            Err(e) => assert_eq!(Some(e.to_string().as_str()), field(&record, "error"), "{text:?}"),
        }
    }
}

#[test]
fn unified_diff_as_python() {
    for record in records("diff") {
        let (a, b) = (field(&record, "a").unwrap(), field(&record, "b").unwrap());
        let expected = strings(record.get("diff")).unwrap();
        assert_eq!(diff::unified(&diff::lines(a), &diff::lines(b)), expected, "{a:?} {b:?}");
    }
}

#[test]
fn shlex_as_python() {
    for record in records("shlex") {
        let command = field(&record, "text").unwrap();
        assert_eq!(Some(text::shlex_quote(command).as_str()), field(&record, "quote"));
        match text::shlex_split(command) {
            Ok(words) => assert_eq!(Some(words), strings(record.get("split")), "{command:?}"),
            Err(e) => assert_eq!(Some(e.to_string().as_str()), field(&record, "error"), "{command:?}"),
        }
    }
}
