#![allow(clippy::unwrap_used)]

use super::*;

#[path = "tests/expected.rs"]
mod expected;

#[test]
fn integers_are_the_references() {
    for (value, unit, want) in expected::integers() {
        assert_eq!(parse_int(&value, unit), want, "{value:?} {unit:?}");
    }
    assert_eq!(parse_int(&"1e400".into(), None), None);
    assert_eq!(parse_int(&"99999999999999999999".into(), None), Some(i64::MAX));
}

#[test]
fn reals_are_the_references() {
    for (value, unit, want) in expected::reals() {
        assert_eq!(parse_real(&value, unit), want, "{value:?} {unit:?}");
    }
    assert_eq!(parse_real(&"1e400".into(), None), Some(f64::INFINITY));
}

#[test]
fn human_units_are_the_references() {
    for (value, vartype, unit, want) in expected::HUMAN {
        assert_eq!(human(value, vartype, *unit), *want, "{value} {vartype} {unit:?}");
    }
}

#[test]
fn booleans() {
    for (text, want) in [
        ("on", Some(true)),
        ("YES", Some(true)),
        ("True", Some(true)),
        ("1", Some(true)),
        ("Off", Some(false)),
        ("no", Some(false)),
        ("0", Some(false)),
        ("t", None),
        (" on", None),
        ("1.0", None),
        ("", None),
    ] {
        assert_eq!(parse_bool(&text.into()), want, "{text}");
    }
    assert_eq!(parse_bool(&Value::Bool(true)), Some(true));
    assert_eq!(parse_bool(&Value::Int(2)), None);
    assert_eq!(parse_bool(&Value::Null), None);
}

#[test]
fn comparison() {
    for (vartype, unit, setting, config, equal) in [
        ("enum", None, "remote_write", "REMOTE_WRITE", true),
        ("string", None, "remote_write", "REMOTE_WRITE", false),
        ("real", None, "1e-06", "0.000001", true),
        ("integer", Some("MB"), "6GB", "6GB", false),
        ("integer", None, "6GB", "6GB", false),
        ("integer", Some("16384kB"), "64", " 0x400 MB ", true),
        ("integer", Some("2MB"), "524288", "1TB", true),
        ("integer", Some("kB"), "4098", "4097.5kB", true),
        ("bool", None, "on", "TRUE", true),
        ("bool", None, "on", "x", false),
        ("unknown", None, "on", "on", true),
    ] {
        assert_eq!(
            compare_values(vartype, unit, &setting.into(), &config.into()),
            equal,
            "{vartype} {setting} {config}"
        );
    }
    assert!(compare_values("string", None, &"True".into(), &Value::Bool(true)));
    assert!(!compare_values("enum", None, &"on".into(), &Value::Bool(true)));
}

fn json(text: &str) -> Value {
    pyfmt::json::loads(text).unwrap()
}

#[test]
fn documents_compare_by_text() {
    for (a, b, same) in [
        (r#"{"1": null}"#, "{}", false),
        (r#"{"1": {}}"#, r#"{"1": null}"#, false),
        (r#"{"1": null}"#, r#"{"1": "None"}"#, true),
        (r#"{"1": 2}"#, r#"{"1": "2"}"#, true),
        (r#"{"1": [1]}"#, r#"{"1": [2]}"#, false),
        (r#"{"1": [1]}"#, r#"{"1": "[1]"}"#, true),
        (r#"{"a": true}"#, r#"{"a": "True"}"#, true),
        (r#"{"a": {"b": [3, 4]}}"#, r#"{"a": {"b": [3, 4]}}"#, true),
        (r#"{"a": 1, "b": 2}"#, r#"{"b": 2, "a": 1}"#, true),
        (r#"{"a": [{"x": 1, "y": 2}]}"#, r#"{"a": [{"y": 2, "x": 1}]}"#, false),
    ] {
        assert_eq!(deep_compare(&json(a), &json(b)), same, "{a} {b}");
    }
}

#[test]
fn patches() {
    for (config, patch, want, changed) in [
        (r#"{"a": 1}"#, r#"{"a": "1"}"#, r#"{"a": 1}"#, false),
        (r#"{"a": 1}"#, r#"{"a": 1.0}"#, r#"{"a": 1.0}"#, true),
        (r#"{"a": true}"#, r#"{"a": "True"}"#, r#"{"a": true}"#, false),
        (r#"{"a": null}"#, r#"{"a": null}"#, "{}", false),
        (r#"{"a": 1, "b": 2, "c": 3}"#, r#"{"a": null}"#, r#"{"b": 2, "c": 3}"#, true),
        (r#"{"a": {"b": 1}}"#, r#"{"a": {}}"#, r#"{"a": {"b": 1}}"#, false),
        (r#"{"a": {"b": 1}}"#, r#"{"a": []}"#, r#"{"a": []}"#, true),
        (r#"{"a": 5}"#, r#"{"a": {"x": null}}"#, r#"{"a": {"x": null}}"#, true),
        (r#"{"a": {"b": 1}}"#, r#"{"a": {"b": null, "c": 2}}"#, r#"{"a": {"c": 2}}"#, true),
        ("{}", r#"{"a": {"b": null}}"#, r#"{"a": {"b": null}}"#, true),
        (r#"{"a": [1]}"#, r#"{"a": [1, 2]}"#, r#"{"a": [1, 2]}"#, true),
    ] {
        let mut value = json(config);
        assert_eq!(patch_config(&mut value, &json(patch)), changed, "{config} {patch}");
        assert_eq!(pyfmt::json::dumps(&value), want, "{config} {patch}");
    }
}

#[test]
fn hosts_and_ports() {
    for (text, host, port) in [
        ("127.0.0.1", "127.0.0.1", 1),
        ("127.0.0.1:5400", "127.0.0.1", 5400),
        ("a,b:+5_0", "a,b", 50),
        ("a,[fe80::1], 0:0::0:5400", "a,fe80::1,0:0::0", 5400),
        ("::1", ":", 1),
        ("h: 7 ", "h", 7),
    ] {
        assert_eq!(split_host_port(text, 1), Ok((host.to_owned(), port)), "{text}");
    }
    let error = |text| split_host_port(text, 1).map_err(|e| e.to_string());
    assert_eq!(error("[::1]"), Err("ValueError: invalid literal for int() with base 10: '1]'".into()));
    assert!(error("h:").is_err() && error("h:1__0").is_err());
}
