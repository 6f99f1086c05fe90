//! Compares with what the reference's helper programs do: `fixtures/scripts/record.py`.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use pyfmt::{json, Value};
use support::{run, serve};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/scripts");

fn fixture(name: &str) -> Value {
    json::loads(&std::fs::read_to_string(format!("{FIXTURES}/{name}")).unwrap()).unwrap()
}

/// The `envdir` of record.py.
fn envdir() -> String {
    let source = std::fs::read_to_string(format!("{FIXTURES}/record.py")).unwrap();
    source.split("ENVDIR = '''").nth(1).unwrap().split("'''").next().unwrap().replace("\\\\", "\\")
}

/// The texts of a list, or of the values of a mapping by their names.
fn texts(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_list).unwrap_or_default().iter().map(Value::py_str).collect()
}

/// What differs by nature: times, the words of libpq and urllib3, a warning of Python.
fn normalised(text: &str, url: &str, tmp: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.split('\n') {
        let is_time = |t: &str| t.len() == 23 && t.starts_with("20") && t.get(19..20) == Some(",");
        let line = match line.get(..23).filter(|t| is_time(t)) {
            Some(_) => format!("TIME{}", &line[23..]),
            None => line.to_owned(),
        };
        let line = match (line.find("broken by '"), line.rfind("': /")) {
            (Some(from), Some(to)) => format!("{}...{}", &line[..from + 11], &line[to..]),
            _ => line,
        };
        let after_leader = lines
            .last()
            .is_some_and(|l| l.ends_with("could not determine difference with the leader location"));
        let of_python = line.starts_with('\t')
            || line.contains("FutureWarning")
            || line.starts_with("  response = ")
            || line.starts_with("  return self");
        if after_leader && !line.starts_with("TIME") {
            lines.push("(libpq)".into());
        } else if !of_python {
            lines.push(line);
        }
    }
    lines.join("\n").replace(url, "@URL@").replace(tmp, "@TMP@")
}

#[test]
fn helper_programs() {
    let (scenarios, recorded) = (fixture("scenarios.json"), fixture("recorded.json"));
    let mut wrong = Vec::new();
    for (name, scenario) in scenarios.as_map().unwrap() {
        let want = recorded.get(name.as_str().unwrap()).unwrap();
        for (what, got, want) in play(scenario, want) {
            if got != want {
                wrong.push(format!("{name}: {what}\n got {got}\nwant {want}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// What came out, beside what was recorded.
fn play(scenario: &Value, want: &Value) -> Vec<(&'static str, String, String)> {
    let directory = tempfile::tempdir().unwrap();
    let tmp = directory.path().to_str().unwrap();
    let files: BTreeMap<String, String> = scenario
        .get("files")
        .and_then(Value::as_map)
        .map(|map| map.iter().map(|(k, v)| (k.py_str(), v.py_str())).collect())
        .unwrap_or_default();
    prepare(scenario, directory.path(), &files);
    let answers: Vec<(u16, String)> = scenario
        .get("answers")
        .and_then(Value::as_list)
        .unwrap_or_default()
        .iter()
        .map(|a| {
            (
                u16::try_from(a.as_list().unwrap()[0].as_i64().unwrap()).unwrap(),
                a.as_list().unwrap()[1].py_str(),
            )
        })
        .collect();
    let listening = !answers.is_empty();
    let (url, asked) = serve(move |_, number| answers[number.min(answers.len() - 1)].clone());
    // Port 1: nobody listens there.
    let url = if listening { url } else { "http://127.0.0.1:1".into() };
    let args: Vec<String> = texts(scenario.get("args"));
    let args: Vec<String> = args.iter().map(|a| a.replace("@URL@", &url).replace("@TMP@", tmp)).collect();
    let done = run(scenario.get("program").unwrap().as_str().unwrap(), &args, directory.path(), &[]);
    let text = |bytes: &[u8]| normalised(&String::from_utf8_lossy(bytes), &url, tmp);
    let field = |name: &str| normalised(&want.get(name).unwrap().py_str(), "@URL@", "@TMP@");
    let asked: Vec<Value> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|a| {
            let parts = [a.method.as_str(), a.path.as_str(), a.header("content-type"), a.body.as_str()];
            parts.map(Value::from).to_vec().into()
        })
        .collect();
    let mut found = vec![
        ("code", done.status.code().unwrap().to_string(), want.get("code").unwrap().py_str()),
        ("stdout", text(&done.stdout), field("stdout")),
        ("stderr", text(&done.stderr), field("stderr")),
        ("requests", json::dumps(&asked.into()), json::dumps(want.get("requests").unwrap())),
    ];
    let mut data: Vec<String> = std::fs::read_dir(directory.path().join("data"))
        .map(|dir| dir.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
        .unwrap_or_default();
    data.sort();
    found.push(("data", data.join(" "), texts(want.get("data")).join(" ")));
    for (file, content) in want.get("files").and_then(Value::as_map).unwrap() {
        let got = std::fs::read(directory.path().join(file.as_str().unwrap())).unwrap_or_default();
        found.push(("file", text(&got), content.py_str()));
    }
    found
}

fn prepare(scenario: &Value, directory: &Path, files: &BTreeMap<String, String>) {
    std::fs::create_dir(directory.join("bin")).unwrap();
    if scenario.get("no envdir").is_none() {
        let file = directory.join("bin/envdir");
        std::fs::write(&file, envdir()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for (path, text) in files {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    if let Some(link) = scenario.get("link") {
        std::os::unix::fs::symlink("/nowhere", directory.join(link.as_str().unwrap())).unwrap();
    }
}
