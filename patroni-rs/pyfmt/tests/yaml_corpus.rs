//! Compares `pyfmt::yaml` with the answers of the reference's PyYAML, recorded by
//! `fixtures/yaml/record.py`. `PYFMT_YAML_CORPUS` names another file of records.
#![allow(clippy::unwrap_used)]

use pyfmt::yaml::{dump, dump_document, load, load_document, load_named, DumpOptions};
use pyfmt::{json, Value};

/// The value in the notation of record.py. A `!!set` is a mapping to null here.
fn tagged(value: &Value) -> Value {
    let text = |kind: &str, text: String| Value::List(vec![kind.into(), text.into()]);
    match value {
        Value::Null => Value::List(vec!["null".into()]),
        Value::Bool(b) => Value::List(vec!["bool".into(), (*b).into()]),
        Value::Int(_) | Value::BigInt(_) => text("int", value.py_str()),
        Value::Float(_) => text("float", value.py_repr()),
        Value::Str(s) => text("str", s.clone()),
        Value::Bytes(b) => text("bytes", b.iter().map(|b| format!("{b:02x}")).collect()),
        Value::Timestamp(t) => text("timestamp", t.clone()),
        Value::List(l) => Value::List(vec!["list".into(), l.iter().map(tagged).collect::<Vec<_>>().into()]),
        Value::Map(m) => {
            let pairs: Vec<Value> = m.iter().map(|(k, v)| Value::List(vec![tagged(k), tagged(v)])).collect();
            Value::List(vec!["map".into(), pairs.into()])
        }
    }
}

fn untagged(tagged: &Value) -> Value {
    let [kind, rest @ ..] = tagged.as_list().unwrap() else { panic!("no tag") };
    let text = || rest[0].as_str().unwrap();
    match kind.as_str().unwrap() {
        "null" => Value::Null,
        "int" => text().parse().map_or_else(|_| Value::BigInt(text().into()), Value::Int),
        "float" => Value::Float(text().parse().unwrap()),
        "bytes" => {
            let byte = |i: usize| u8::from_str_radix(&text()[i * 2..i * 2 + 2], 16).unwrap();
            Value::Bytes((0..text().len() / 2).map(byte).collect())
        }
        "timestamp" => Value::Timestamp(text().into()),
        "list" => Value::List(rest[0].as_list().unwrap().iter().map(untagged).collect()),
        "map" => rest[0]
            .as_list()
            .unwrap()
            .iter()
            .map(|pair| {
                let pair = pair.as_list().unwrap();
                (untagged(&pair[0]), untagged(&pair[1]))
            })
            .collect(),
        _ => rest[0].clone(),
    }
}

fn corpus() -> Value {
    let path = std::env::var("PYFMT_YAML_CORPUS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/yaml/corpus.json").into());
    json::loads(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn options(record: &Value) -> DumpOptions {
    let mut options = DumpOptions::default();
    let number = |v: &Value| usize::try_from(v.as_i64().unwrap()).unwrap();
    for (key, value) in record.get("options").unwrap().as_map().unwrap() {
        match key.as_str().unwrap() {
            "default_flow_style" => options.default_flow_style = value.truthy(),
            "sort_keys" => options.sort_keys = value.truthy(),
            "allow_unicode" => options.allow_unicode = value.truthy(),
            "width" => options.width = number(value),
            "indent" => options.indent = number(value),
            other => panic!("option {other}"),
        }
    }
    options
}

/// What is wrong with the answer to one document.
fn check_load(record: &Value) -> Option<String> {
    let text = record.get("text").unwrap().as_str().unwrap();
    let field = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    match (load_document(text), record.get("value")) {
        (Ok(document), Some(expected)) => {
            let expected_text = json::dumps(expected);
            // Sets and what Python cannot tell apart are compared by being read at all.
            if expected_text.contains("\"set\"") {
                return None;
            }
            let got = json::dumps(&tagged(&document.value));
            if got != expected_text {
                return Some(format!("got {got}\nnot {expected_text}"));
            }
            let dumped = dump_document(&document, DumpOptions::default());
            let differs = record.get("dump").is_some_and(|d| d.as_str() != Some(&dumped));
            differs.then(|| format!("dumped {dumped:?}\nnot    {:?}", field("dump")))
        }
        // Python's object holds itself, which a tree cannot.
        (Err(e), None) if record.get("recursive").is_some() => {
            let refused = e.to_string().contains("recursive node");
            (!refused).then(|| e.to_string())
        }
        (Err(e), None) => {
            let named = load_named(text, "patroni.yml").err()?;
            let got = (e.class(), e.to_string(), named.to_string());
            let expected = (field("class"), field("error").to_owned(), field("named").to_owned());
            (got != expected).then(|| format!("got {got:?}\nnot {expected:?}"))
        }
        (Ok(got), None) => Some(format!("got {}, not the error {}", got.value.py_repr(), field("error"))),
        (Err(e), Some(expected)) => Some(format!("got the error {e}, not {}", json::dumps(expected))),
    }
}

#[test]
fn loads_as_pyyaml_does() {
    let corpus = corpus();
    let records = corpus.get("loads").unwrap().as_list().unwrap();
    let wrong: Vec<String> = records
        .iter()
        .filter_map(|r| {
            check_load(r).map(|w| format!("{:?}\n{w}\n", r.get("text").unwrap().as_str().unwrap()))
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), records.len(), wrong.join("\n"));
}

#[test]
fn dumps_as_pyyaml_does() {
    let corpus = corpus();
    let records = corpus.get("dumps").unwrap().as_list().unwrap();
    let mut wrong = Vec::new();
    for record in records {
        let value = untagged(record.get("value").unwrap());
        let expected = record.get("dump").unwrap().as_str().unwrap();
        let got = dump(&value, options(record));
        if got != expected {
            let options = json::dumps(record.get("options").unwrap());
            wrong.push(format!("{} {options}\ngot {got:?}\nnot {expected:?}\n", value.py_repr()));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), records.len(), wrong.join("\n"));
}

#[test]
fn aliases_cannot_expand_without_bound() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    let mut merges = String::from("m0: &m0 {k: v}\n");
    for i in 1..30 {
        let (was, more) = (i - 1, format!("*a{}, ", i - 1).repeat(10));
        text.push_str(&format!("a{i}: &a{i} [{more}]\n"));
        let more = format!("*m{was}, ").repeat(10);
        merges.push_str(&format!("m{i}: &m{i} {{<<: [{more}]}}\n"));
    }
    assert_eq!(load(&text).unwrap_err().class(), "MemoryError");
    assert_eq!(load(&merges).unwrap_err().class(), "MemoryError");
}

#[test]
fn deep_documents_fit_a_small_stack() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deepest = move || {
        let value = load(&nested(256)).unwrap();
        assert_eq!(json::dumps(&value), nested(256));
        assert_eq!(json::loads(&nested(256)).unwrap(), value.clone());
        assert!(!dump(&value, DumpOptions::default()).is_empty() && !value.py_repr().is_empty());
        assert_eq!(load(&nested(257)).unwrap_err().class(), "RecursionError");
        assert!(json::loads(&nested(257)).is_err());
    };
    std::thread::Builder::new().stack_size(1 << 20).spawn(deepest).unwrap().join().unwrap();
}
