//! The directories and the port that the corpus names, and a log to look into.

pub mod alone;

use std::cell::RefCell;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use pyfmt::{json, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// A directory made by `layout.sh`, and a port with a listener.
pub struct Bench {
    dir: tempfile::TempDir,
    port: u16,
}

impl Bench {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Bench {
        let dir = tempfile::Builder::new().prefix("patroni-config-").tempdir().unwrap();
        let status = Command::new(fixtures().join("layout.sh")).arg(dir.path()).status().unwrap();
        assert!(status.success());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        Bench { dir, port }
    }

    /// With the directory below which the paths of real configurations lie, as `corpus.py` makes it.
    pub fn of_corpus() -> Bench {
        let bench = Bench::new();
        let programs = bench.dir.path().join("root/usr/lib/postgresql/15");
        std::fs::create_dir_all(&programs).unwrap();
        std::os::unix::fs::symlink(bench.path("bin"), programs.join("bin")).unwrap();
        bench
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn substituted(&self, text: &[u8]) -> Vec<u8> {
        let text = replace(text, b"@TMP@", self.dir.path().to_str().unwrap().as_bytes());
        replace(&text, b"@PORT@", self.port.to_string().as_bytes())
    }

    /// A document of the corpus with the paths of this bench.
    pub fn fixture(&self, name: &str) -> Value {
        let text = self.substituted(&std::fs::read(corpus().join(name)).unwrap());
        json::loads(std::str::from_utf8(&text).unwrap()).unwrap()
    }

    pub fn recorded(&self, name: &str) -> Value {
        self.fixture(&format!("recorded/{name}"))
    }

    /// Copies a configuration here.
    pub fn copy(&self, name: &str) -> String {
        let text = self.substituted(&std::fs::read(corpus().join(name)).unwrap());
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = PathBuf::from(self.path(name));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The environment of a case.
    pub fn variables(&self, case: &Value) -> Vec<(String, String)> {
        let env = case.get("env").and_then(Value::as_map).cloned().unwrap_or_default();
        env.iter().map(|(k, v)| (k.py_str(), v.py_str())).collect()
    }
}

/// The corpus: ours, or another that `record.py` has recorded.
fn corpus() -> PathBuf {
    std::env::var_os("PATRONI_CONFIG_CORPUS").map_or_else(fixtures, PathBuf::from)
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/config")
}

fn replace(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(from) {
            out.extend_from_slice(to);
            rest = after;
        } else {
            out.push(rest[0]);
            rest = &rest[1..];
        }
    }
    out
}

/// Differences, collected to be shown together.
#[derive(Default)]
pub struct Mismatches(Vec<String>);

impl Mismatches {
    pub fn check(&mut self, case: &str, what: &str, got: &Value, want: &Value) {
        let (got, want) = (json::dumps(got), json::dumps(want));
        if got != want {
            let same = got.bytes().zip(want.bytes()).take_while(|(a, b)| a == b).count().saturating_sub(40);
            let from = |text: &str| text.get(same..).unwrap_or(text).to_owned();
            self.0.push(format!("{case}: {what}\n   got ...{}\n  want ...{}", from(&got), from(&want)));
        }
    }

    pub fn report(self) {
        assert!(self.0.is_empty(), "{} differences\n{}", self.0.len(), self.0.join("\n"));
    }
}

/// Runs a function; gives what it logged, without the exceptions.
pub fn logged<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
    let (result, records) = logged_with_exceptions(run);
    (result, records.into_iter().map(|(line, _)| line).collect())
}

/// Runs a function; gives the lines that it logged, each with the text of its exception.
pub fn logged_with_exceptions<T>(run: impl FnOnce() -> T) -> (T, Vec<(String, Option<String>)>) {
    type Records = Vec<(String, Option<String>)>;
    thread_local!(static RECORDS: RefCell<Records> = const { RefCell::new(Vec::new()) });

    struct Log;
    #[derive(Default)]
    struct Message(String, Option<String>);
    impl Visit for Message {
        fn record_str(&mut self, field: &Field, value: &str) {
            self.record_debug(field, &format_args!("{value}"));
        }
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            match field.name() {
                "message" => self.0 = format!("{value:?}"),
                "exc" => self.1 = Some(format!("{value:?}")),
                _ => {}
            }
        }
    }
    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() <= Level::INFO
                && (metadata.target().starts_with("patroni") || metadata.target() == "root")
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
                Level::WARN => "WARNING",
                Level::ERROR => "ERROR",
                _ => "INFO",
            };
            RECORDS.with(|r| r.borrow_mut().push((format!("{level} {}", message.0), message.1)));
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    RECORDS.with(|r| r.borrow_mut().clear());
    let result = tracing::subscriber::with_default(Log, run);
    (result, RECORDS.with(|r| std::mem::take(&mut *r.borrow_mut())))
}
