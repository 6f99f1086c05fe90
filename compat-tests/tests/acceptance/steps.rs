//! The sentences of the features, and what each does.

use std::sync::OnceLock;
use std::time::Duration;

use compat_tests::lab::cluster::BRING_UP;
use compat_tests::lab::wait::ensure;
use compat_tests::lab::writer::Writer;
use compat_tests::lab::{config, host, store, Kind, Result};
use cucumber::gherkin::{Feature, GherkinEnv};
use regex::Regex;

use super::state::{kind_of, named, yaml, Call, State};
use super::{ask, citus, clients, container, disk, evidence, fault, pages, policy};

/// What a sentence does.
pub type Step = fn(&mut State, &Call) -> Result<()>;

/// The sentences that bring clusters up and use patronictl.
const STEPS: &[(&str, Step)] = &[
    (r"PostgreSQL (13|15|17|18|19)( or newer)?", postgres_version),
    (r"the DCS is (consul|etcd3|etcd3http|etcd|zookeeper|exhibitor|raft-ours|raft|<\w+>)", dcs),
    (r"the members are configured with", overrides),
    (r"the guardian is switched off", no_guardian),
    (r"a running cluster of (\d+) members?", running),
    (r"a running cluster of (\d+) members? where (\w+) has", running_where),
    (r"a running cluster of the members", running_named),
    (r"(\w+) replicates in a cluster of its own from (\w+)", standby_member),
    (r#"(our )?patronictl( of the reference)? is called with (".+"|\S+)"#, patronictl),
    (r#"patronictl is called with "(.+)" as soon as nothing else is in progress"#, patronictl_then),
    (r"both patronictls print the same for", both_print),
    (r"a writer", writer),
    (r"the writer is stopped", stop_writer),
];

/// The sentences of all modules.
fn table() -> &'static [(Regex, Step)] {
    static TABLE: OnceLock<Vec<(Regex, Step)>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let all = STEPS.iter().chain(fault::STEPS).chain(disk::STEPS).chain(ask::STEPS);
        let all = all.chain(policy::STEPS).chain(clients::STEPS).chain(evidence::STEPS).chain(pages::STEPS);
        let all = all.chain(citus::STEPS).chain(container::STEPS);
        all.map(|(pattern, step)| (Regex::new(&format!("^{pattern}$")).expect("a pattern"), *step)).collect()
    })
}

/// The one sentence that `text` is.
fn sentence(text: &str) -> Result<&'static (Regex, Step)> {
    let matches: Vec<_> = table().iter().filter(|(pattern, _)| pattern.is_match(text)).collect();
    match matches[..] {
        [one] => Ok(one),
        _ => Err(format!("{} sentences match: {text}", matches.len()).into()),
    }
}

/// Reads every feature of the directory, so that a sentence that is none is found by whatever is run.
///
/// # Errors
/// The first step that is not one sentence.
pub fn check_features(directory: &str) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let feature = Feature::parse_path(entry?.path(), GherkinEnv::default())?;
        let scenarios = feature.scenarios.iter().flat_map(|scenario| &scenario.steps);
        let steps = feature.background.iter().flat_map(|background| &background.steps).chain(scenarios);
        for step in steps {
            sentence(&step.value)?;
        }
    }
    Ok(())
}

/// Runs the one sentence that `call` is.
///
/// # Errors
/// No sentence or several match, or what it does fails.
pub fn run(state: &mut State, call: &Call) -> Result<()> {
    let (pattern, step) = sentence(&call.text)?;
    let captures = pattern.captures(&call.text).ok_or("no match")?;
    let args = captures.iter().skip(1).map(|group| group.map_or("", |g| g.as_str()).to_string()).collect();
    let call = Call { text: call.text.clone(), args, doc: call.doc.clone(), table: call.table.clone() };
    step(state, &call)
}

fn postgres_version(state: &mut State, call: &Call) -> Result<()> {
    let named = call.arg(0).parse()?;
    let newer = !call.arg(1).is_empty();
    let version = if newer { host::postgres_version().max(named) } else { named };
    ensure(is_here(version), || format!("no PostgreSQL {version} here: scripts/setup"))?;
    state.options.version = version;
    Ok(())
}

/// Whatever `STORE` says: where a scenario is about one kind of store.
fn dcs(state: &mut State, call: &Call) -> Result<()> {
    let name = call.arg(0);
    ensure(store::is_here(name), || format!("no {name} here: scripts/setup"))?;
    state.options.store = name.into();
    Ok(())
}

fn is_here(version: u32) -> bool {
    host::postgres_bin(version).join("postgres").exists()
}

/// Are the PostgreSQL and the DCS here that the scenario names? scripts/setup leaves out what it cannot get.
pub fn has_programs(scenario: &cucumber::gherkin::Scenario) -> bool {
    let named = |before: &str| scenario.steps.iter().find_map(|step| step.value.strip_prefix(before));
    let postgres = named("PostgreSQL ").and_then(|rest| rest.split(' ').next()?.parse().ok());
    let citus = named("a Citus cluster of").is_none() || host::citus_bin().join("postgres").exists();
    let browser = named("a browser shows").is_none() || clients::browser().is_some();
    let backups = !scenario.tags.iter().any(|tag| tag == "pgbackrest") || clients::has_pgbackrest();
    let root = named("each daemon is PID 1").is_none() || nix::unistd::Uid::effective().is_root();
    let here = root
        && citus
        && browser
        && backups
        && postgres.is_none_or(is_here)
        && named("the DCS is ").is_none_or(store::is_here);
    if !here {
        println!("SKIPPED: {} (scripts/setup did not get it)", scenario.name);
    }
    here
}

fn overrides(state: &mut State, call: &Call) -> Result<()> {
    let over = yaml(&call.doc)?;
    config::merge(&mut state.options.overrides, &over);
    // The test cluster may be there already, without members.
    if let Some(lab) = &mut state.cluster {
        config::merge(&mut lab.options.overrides, &over);
    }
    Ok(())
}

/// For daemons of ours that are started from here on; the reference has none.
fn no_guardian(state: &mut State, _: &Call) -> Result<()> {
    state.options.environment.push(("PATRONI_RS_GUARDIAN".into(), "off".into()));
    Ok(())
}

fn running(state: &mut State, call: &Call) -> Result<()> {
    let kinds: Vec<Kind> = (0..call.arg(0).parse()?).map(kind_of).collect();
    state.lab()?.bring_up(&kinds)
}

/// Adds all members, lays the text's YAML over one of them, and starts them in order.
fn running_where(state: &mut State, call: &Call) -> Result<()> {
    let over = yaml(&call.doc)?;
    let count: usize = call.arg(0).parse()?;
    let lab = state.lab()?;
    for index in 0..count {
        let name = format!("node{index}");
        let member = lab.add(&name, kind_of(index))?;
        if name == call.arg(1) {
            member.configure(&over)?;
        }
    }
    lab.start_all()
}

fn running_named(state: &mut State, call: &Call) -> Result<()> {
    let kinds = call.table.iter().map(|row| named(row.get(1).map_or("", String::as_str)));
    let kinds: Vec<Kind> = kinds.collect::<Result<_>>()?;
    state.lab()?.bring_up(&kinds)
}

/// A standby cluster `batman1` of one member that follows a member of the first.
fn standby_member(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.lab()?;
    let port = lab.member(call.arg(1))?.postgres;
    let member = lab.add_to("batman1", call.arg(0), kind_of(1))?;
    let standby = format!("bootstrap: {{dcs: {{standby_cluster: {{host: 127.0.0.1, port: {port}}}}}}}");
    config::merge(&mut member.config, &yaml(&standby)?);
    member.configure(&yaml(&call.doc)?)?;
    member.start()?;
    lab.wait_status(call.arg(0), "/standby-leader", 200, BRING_UP)
}

/// The words of a command line; double quotes hold words together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for character in line.chars() {
        match character {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            other => words.last_mut().expect("never empty").push(other),
        }
    }
    words
}

fn patronictl(state: &mut State, call: &Call) -> Result<()> {
    let kind =
        named(if call.arg(0).is_empty() { call.arg(1).rsplit(' ').next().unwrap_or("") } else { "our" })?;
    let mut line = call.arg(2).trim_start_matches('"').trim_end_matches('"').to_string();
    for member in &state.cluster()?.members {
        line = line.replace(&format!("PORT({})", member.name), &member.postgres.to_string());
        let file = member.directory.join("patroni.yml").display().to_string();
        line = line.replace(&format!("CONFIG({})", member.name), &file);
    }
    line = line.replace("<DCS_URL>", &state.cluster()?.store.url());
    let words = words(&line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    state.output = state.cluster()?.ctl(kind, &words)?;
    Ok(())
}

/// A cycle that is stopping PostgreSQL refuses an operator's work, for a moment.
fn patronictl_then(state: &mut State, call: &Call) -> Result<()> {
    let words = words(call.arg(0));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let lab = state.cluster()?;
    let output = compat_tests::lab::wait_until("nothing is in progress", Duration::from_secs(20), || {
        let output = lab.ctl(named("our")?, &words)?;
        compat_tests::lab::wait::ensure(!output.stdout.contains("already in progress"), || {
            format!("{output:?}")
        })?;
        Ok(output)
    })?;
    state.output = output;
    Ok(())
}

/// The state moves on between two calls, so each pair may be tried for a while.
fn both_print(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    for row in &call.table {
        let line = row.first().map_or("", String::as_str);
        let words = words(&line.replace("<DCS_URL>", &lab.store.url()));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        compat_tests::lab::wait_until(line, Duration::from_secs(15), || {
            let ours = lab.ctl(named("ours")?, &words)?;
            let theirs = lab.ctl(Kind::Reference, &words)?;
            let same =
                ours.code == theirs.code && ours.stdout == theirs.stdout && ours.stderr == theirs.stderr;
            compat_tests::lab::wait::ensure(same, || format!("\nours:\n{ours:?}\nthe reference:\n{theirs:?}"))
        })?;
    }
    Ok(())
}

fn writer(state: &mut State, _: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let leader = state.name("the leader")?;
    let writer = Writer::start(lab, &leader)?;
    state.writer = Some(writer);
    Ok(())
}

/// What a gap or a loss is judged by.
const ENOUGH_ROWS: usize = 51;

fn stop_writer(state: &mut State, _: &Call) -> Result<()> {
    let mut writer = state.writer.take().ok_or("no writer")?;
    // A switchover may be over before a writer that waits between its rows has many.
    writer.wait_rows(ENOUGH_ROWS.saturating_sub(writer.count()), Duration::from_secs(20))?;
    state.record = writer.finish();
    Ok(())
}
