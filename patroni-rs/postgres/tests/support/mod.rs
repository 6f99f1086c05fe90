//! What the file tests share: recorded files, comparison, the log.
#![allow(dead_code)]

use std::fmt::Debug;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use pyfmt::json::loads;
use pyfmt::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

struct Capture(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        let level = match *event.metadata().level() {
            Level::ERROR => "ERROR",
            Level::WARN => "WARNING",
            Level::INFO => "INFO",
            _ => return,
        };
        let line = format!("{level} {}: {}", event.metadata().target(), message.0);
        self.0.lock().unwrap_or_else(|e| e.into_inner()).push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Log lines of `action`, as `LEVEL logger: message`, and its result.
pub fn captured_log<T>(action: impl FnOnce() -> T) -> (Vec<String>, T) {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let result = tracing::subscriber::with_default(Capture(lines.clone()), action);
    let lines = lines.lock().unwrap_or_else(|e| e.into_inner());
    (lines.clone(), result)
}

/// The directory of the recorded files.
pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pgfiles")
}

/// A JSON file.
pub fn read_json(path: &Path) -> Value {
    loads(&std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// Replaces `$DIR` in every text, or the directory by `$DIR`.
pub fn substitute(value: &Value, from: &str, to: &str) -> Value {
    match value {
        Value::Str(s) => s.replace(from, to).into(),
        Value::List(l) => l.iter().map(|v| substitute(v, from, to)).collect::<Vec<_>>().into(),
        Value::Map(m) => {
            let entries = m.iter().map(|(k, v)| (substitute(k, from, to), substitute(v, from, to)));
            entries.collect::<Map>().into()
        }
        other => other.clone(),
    }
}

/// Files below a directory: mode and content by relative path.
pub fn files_of(directory: &Path) -> Value {
    fn walk(root: &Path, at: &Path, out: &mut Value) {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
                continue;
            }
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            let content = std::fs::read_to_string(&path).unwrap();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            out.set(&name, vec![format!("{mode:04o}").into(), content.into()]);
        }
    }
    let mut out = Value::map();
    walk(directory, directory, &mut out);
    out
}

/// The parts that differ, for a failure's message.
pub fn differences(ours: &Value, theirs: &Value, at: &str, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Map(a), Value::Map(b)) => {
            let keys: Vec<&Value> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
            for key in keys {
                let none = Value::from("(nothing)");
                let at = format!("{at}/{key}");
                differences(a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none), &at, out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{at}\n  ours:      {a}\n  reference: {b}")),
    }
}
