//! Compares with what the reference makes of the corpus in `fixtures/config`
//! (recorded by `record.py` there).
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

use patroni_config::generate::{
    cli_generate, cli_generate_sample, HostAddress, RunningInstance, ServerFacts,
};
use patroni_config::{cli_validate, Check, Config, Environment, Options, Outcome};
use pyfmt::{json, Value};
use support::{alone, Bench, Mismatches};

/// An error as the recorder writes it, or the value.
fn outcome<T>(result: Result<T, patroni_config::ConfigError>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

fn options(bench: &Bench, ignore_listen_port: bool) -> Options {
    Options { ignore_listen_port, search_path: Some(bench.path("nothing")) }
}

fn compare_program(name: &str, got: &Outcome, log: &[String], want: &Value, bad: &mut Mismatches) {
    bad.check(name, "code", &Value::from(got.code), want.get("code").unwrap());
    bad.check(name, "stdout", &got.stdout.as_str().into(), want.get("stdout").unwrap());
    // Warnings come first, as bare lines; the reference adds tracebacks to some.
    let warnings = log.iter().filter_map(|l| l.strip_prefix("WARNING ").or_else(|| l.strip_prefix("ERROR ")));
    let stderr: String = warnings.map(|l| format!("{l}\n")).collect::<String>() + &got.stderr;
    bad.check(name, "stderr", &stderr.into(), want.get("stderr").unwrap());
}

#[test]
fn files() {
    if !alone::is_here("files") {
        return;
    }
    compare_files("files.json", |bench, name, _| bench.copy(&format!("{name}.yml")));
}

/// Configurations as people keep them, made by `fixtures/config/wild.py`.
#[test]
fn wild() {
    if !alone::is_here("wild") {
        return;
    }
    compare_files("wild.json", |bench, name, record| {
        let name = format!("{name}.yml");
        bench.write(&name, record.get("text").unwrap().as_str().unwrap());
        bench.path(&name)
    });
}

/// Real configurations (`fixtures/config/corpus`), recorded by `corpus.py`.
#[test]
fn corpus() {
    if !alone::is_here("corpus") {
        return;
    }
    let mut bad = Mismatches::default();
    let recorded = Bench::new().recorded("corpus.json");
    for name in recorded.as_map().unwrap().keys() {
        let name = name.as_str().unwrap();
        let bench = Bench::of_corpus();
        let recorded = bench.recorded("corpus.json");
        let case = recorded.get(name).unwrap();
        let files = case.get("files").and_then(Value::as_map).unwrap();
        files.iter().for_each(|(file, text)| bench.write(&file.py_str(), &text.py_str()));
        let argument = case.get("argument").map(Value::py_str).filter(|file| !file.is_empty());
        let argument = argument.map_or_else(String::new, |file| bench.path(&file));
        let variables = case.get("environment").and_then(Value::as_map).unwrap();
        let variables: Vec<_> = variables.iter().map(|(k, v)| (k.py_str(), v.py_str())).collect();
        let environment = || Environment::read(variables.clone()).unwrap();
        for (mode, ignore) in [("validate", false), ("ignore", true)] {
            let run = || cli_validate(&argument, &environment(), options(&bench, ignore), ignore);
            let (got, log) = support::logged_with_exceptions(run);
            let lines = log.into_iter().map(|(line, exception)| {
                exception.map_or(line.clone(), |exception| format!("{line}\n{exception}"))
            });
            let lines: Vec<_> = lines.collect();
            compare_program(&format!("{name} {mode}"), &got, &lines, case.get(mode).unwrap(), &mut bad);
        }
        let want = case.get("loaded").unwrap();
        let text = |key| want.get(key).cloned().unwrap_or(Value::Null);
        let environment = environment();
        match Config::load(&argument, &environment, &Check::NotEmpty) {
            Ok(config) => {
                bad.check(name, "print", &config.local_yaml().into(), &text("print"));
                bad.check(name, "effective", &json::dumps(config.effective()).into(), &text("effective"));
            }
            Err(e) => bad.check(name, "error", &format!("{e}\n").into(), &text("error")),
        }
    }
    bad.report();
}

fn compare_files(recorded: &str, write: impl Fn(&Bench, &str, &Value) -> String) {
    let bench = Bench::new();
    let recorded = bench.recorded(recorded);
    let mut bad = Mismatches::default();
    for (name, want) in recorded.as_map().unwrap() {
        let name = name.as_str().unwrap();
        let path = write(&bench, name, want);
        let unchecked = Config::load(&path, &Environment::default(), &Check::Nothing).ok();
        let unchecked = unchecked.map_or(Value::Null, |config| config.local_yaml().into());
        bad.check(name, "print", &unchecked, want.get("print").unwrap());
        let environment = Environment::default();
        for (mode, ignore) in [("validate", false), ("ignore", true)] {
            let run = || cli_validate(&path, &environment, options(&bench, ignore), ignore);
            let (got, log) = support::logged(run);
            let label = format!("{name} {mode}");
            compare_program(&label, &got, &log, want.get(mode).unwrap(), &mut bad);
        }
        let (loaded, log) = support::logged(|| Config::load(&path, &environment, &Check::NotEmpty));
        let want = want.get("daemon").unwrap();
        match outcome(loaded) {
            Ok(config) => {
                let got = json::dumps(config.effective());
                bad.check(name, "effective", &got.into(), want.get("effective").unwrap_or(&Value::Null));
            }
            Err(e) => bad.check(name, "error", &e.into(), want.get("error").unwrap_or(&Value::Null)),
        }
        bad.check(
            name,
            "log",
            &log.into_iter().map(Value::from).collect::<Vec<_>>().into(),
            want.get("log").unwrap(),
        );
    }
    bad.report();
}

#[test]
fn cases() {
    let bench = Bench::new();
    let recorded = bench.recorded("cases.json");
    let cases = bench.fixture("cases.json");
    let mut bad = Mismatches::default();
    for (name, case) in cases.as_map().unwrap() {
        let name = name.as_str().unwrap();
        let want = recorded.get(name).unwrap();
        let files = case.get("files").and_then(Value::as_map).cloned().unwrap_or_default();
        for (file, text) in &files {
            bench.write(file.as_str().unwrap(), text.as_str().unwrap());
        }
        let (result, log) = support::logged(|| run_case(&bench, case));
        let got = match result {
            Ok(value) => value,
            Err(e) => [("error", Value::from(e))].into_iter().collect(),
        };
        for key in ["error", "local", "effective", "steps", "left", "cache"] {
            let none = Value::Null;
            bad.check(name, key, got.get(key).unwrap_or(&none), want.get(key).unwrap_or(&none));
        }
        let log: Vec<Value> = log.into_iter().map(Value::from).collect();
        bad.check(name, "log", &log.into(), want.get("log").unwrap());
        for file in files.keys() {
            let _ = std::fs::remove_file(bench.path(file.as_str().unwrap()));
        }
    }
    bad.report();
}

fn run_case(bench: &Bench, case: &Value) -> Result<Value, String> {
    let variables = bench.variables(case);
    let environment = outcome(Environment::read(variables.clone()))?;
    let path = case.get("path").map(Value::py_str).unwrap_or_default();
    let mut config = outcome(Config::load(&path, &environment, &Check::NotEmpty))?;
    let mut result = Value::map();
    result.set("local", json::dumps(config.local()));
    result.set("effective", json::dumps(config.effective()));
    let from_file = config.config_file().is_some();
    let is_left =
        |name: &String| !environment.read.contains(name) && (from_file || name != "PATRONI_CONFIGURATION");
    let mut left: Vec<String> = variables.into_iter().map(|(name, _)| name).filter(is_left).collect();
    left.sort();
    result.set("left", left.into_iter().map(Value::from).collect::<Vec<_>>());
    let mut steps = Vec::new();
    for step in case.get("steps").and_then(Value::as_list).unwrap_or_default() {
        let changed = if let Some(document) = step.get("dynamic") {
            Value::from(config.set_dynamic(document.clone()))
        } else if let Some(text) = step.get("write") {
            std::fs::write(&path, text.as_str().unwrap()).unwrap();
            config.reload_local().into()
        } else {
            config.save_cache();
            Value::Null
        };
        steps.push(
            [
                ("changed", changed),
                ("dynamic", json::dumps(config.dynamic()).into()),
                ("effective", json::dumps(config.effective()).into()),
            ]
            .into_iter()
            .collect(),
        );
    }
    result.set("steps", steps);
    let cache = bench.path("empty/patroni.dynamic.json");
    if let Ok(text) = std::fs::read_to_string(&cache) {
        result.set("cache", text);
        std::fs::remove_file(cache).unwrap();
    }
    Ok(result)
}

#[test]
fn samples() {
    let bench = Bench::new();
    let mut bad = Mismatches::default();
    let host = HostAddress { name: "myhost".into(), ip: "10.1.2.3".into() };
    for (name, case) in bench.recorded("samples.json").as_map().unwrap() {
        let name = name.as_str().unwrap();
        // This one depends on the PATH of the whole process.
        if name == "missing" {
            continue;
        }
        let environment = Environment::read(bench.variables(case)).unwrap();
        let (got, log) = support::logged(|| cli_generate_sample("", &environment, &host));
        compare_program(name, &got, &log, case.get("result").unwrap(), &mut bad);
    }
    bad.report();
}

/// A server as `running.json` has recorded it.
struct Recorded(Value);

impl RunningInstance for Recorded {
    fn parse_dsn(&self, _: &str) -> Option<Value> {
        self.0.get("dsn").cloned()
    }
    fn variable(&self, _: &str) -> Option<String> {
        None
    }
    fn os_user(&self) -> String {
        "somebody".into()
    }
    fn ask_password(&mut self, _: &str) -> Result<String, String> {
        Err(String::new())
    }
    fn facts(&mut self, _: Option<&str>, password: &str) -> Result<ServerFacts, String> {
        assert_eq!(password, "p2");
        let text = |row: &Value, at: usize| row.as_list().unwrap()[at].py_str();
        let rows = self.0.get("settings").and_then(Value::as_list).unwrap();
        Ok(ServerFacts {
            version: patroni_core::PgVersion::from_num(150_008),
            is_superuser: self.0.get("superuser").is_none(),
            settings: rows.iter().map(|row| (text(row, 0), text(row, 1))).collect(),
        })
    }
}

#[test]
fn running_cluster() {
    let bench = Bench::new();
    let recorded = bench.recorded("running.json");
    let text = |key: &str| recorded.get(key).unwrap().py_str();
    bench.write("pg/pg_hba.conf", &text("hba"));
    bench.write("pg/pg_ident.conf", &text("ident"));
    bench.write("pg/postmaster.pid", &format!("{}\n/x\n", std::process::id()));
    let host = HostAddress { name: "myhost".into(), ip: "10.1.2.3".into() };
    let run = |output: &str, dsn: Option<&str>, server: Value| {
        cli_generate(output, dsn, &Environment::default(), &host, &mut Recorded(server))
    };
    let program = std::env::current_exe().unwrap();
    let expected = text("expected").replace("@BIN@", program.parent().unwrap().to_str().unwrap());
    let file = bench.path("made/deep/patroni.yml");
    assert_eq!(run(&file, Some("x"), recorded.clone()), Outcome::default());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap());
    assert_eq!(mode & 0o777, 0o600);

    let failed = |message: &str| Outcome { code: 1, stdout: String::new(), stderr: format!("{message}\n") };
    assert_eq!(run("", Some("x"), Value::map()), failed("Failed to parse DSN string"));
    assert_eq!(run("", None, recorded.clone()), failed("Unexpected exception: "));
    let mut other = recorded.clone();
    other.set("superuser", false);
    assert_eq!(run("", Some("x"), other), failed("The provided user does not have superuser privilege"));
    bench.write("pg/postmaster.pid", "");
    let message = "Failed to obtain postmaster pid from postmaster.pid file";
    assert_eq!(run("", Some("x"), recorded), failed(message));
}
