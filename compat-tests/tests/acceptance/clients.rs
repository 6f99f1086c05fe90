//! The sentences about programs that users point at Patroni.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use compat_tests::lab::wait::ensure;
use compat_tests::lab::{host, http, process, wait_until, Result};
use pyfmt::{json, Value};

use super::state::{kind_of, Call, State};
use super::steps::Step;

/// See the module.
pub const STEPS: &[(&str, Step)] = &[
    (r"check_patroni says", check_patroni),
    (r"these shell lines succeed", shell),
    (r"HAProxy with the stock configuration", haproxy),
    (r#"SQL "(.+)" gives "(.*)" through HAProxy's (primary|replicas) within (\d+) s"#, through_haproxy),
    (r#"a browser shows "(.+)" on the page of (\w+) within (\d+) s"#, browser_shows),
    (r"a browser takes pictures of the page of (\w+)", pictures),
    (r"Prometheus scrapes every member", prometheus),
    (r#"Prometheus finds "(.+)" = "(.*)" within (\d+) s"#, prometheus_finds),
    (r"vip-manager runs beside every member, once for the DCS and once for the REST API", vip_manager),
    (r"the virtual addresses are on (\S+) alone within (\d+) s", virtual_addresses),
    (r"the reference's client code reads from the DCS", read_dcs),
];

/// How long one call of a client may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long HAProxy and Prometheus may take to see what they look at.
const SEEN: Duration = Duration::from_secs(30);

/// Runs one line of bash with the test cluster's addresses in its environment: `CTL` (patronictl with its
/// configuration), `CHECK`, `PROMTOOL`, and `REST_<member>` and `PG_<member>`, the ports.
fn bash(state: &State, line: &str) -> Result<process::Output> {
    let lab = state.cluster()?;
    let ctl = match kind_of(0) {
        compat_tests::lab::Kind::Ours => host::install("patronictl", &lab.directory)?,
        compat_tests::lab::Kind::Reference => host::reference("patronictl"),
    };
    let config = lab.directory.join("ctl.yml");
    if !config.exists() {
        // Written by the first call.
        lab.ctl(kind_of(0), &["list"])?;
    }
    let mut command = process::command(&PathBuf::from("/bin/bash"), &lab.directory, &lab.bin())?;
    command
        .args(["-o", "pipefail", "-c", line])
        .env("CTL", format!("{} -c {}", ctl.display(), config.display()))
        .env("CHECK", host::deps().join("clients/bin/check_patroni"))
        .env("PROMTOOL", "/usr/bin/promtool");
    for member in &lab.members {
        command.env(format!("REST_{}", member.name), member.rest.to_string());
        command.env(format!("PG_{}", member.name), member.postgres.to_string());
    }
    process::run(command, PATIENCE)
}

/// Lines, each of which must end with exit code 0 before long.
fn shell(state: &mut State, call: &Call) -> Result<()> {
    let lines = call.doc.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        wait_until(line, Duration::from_secs(15), || {
            let output = bash(state, line)?;
            ensure(output.code == 0, || format!("{output:?}"))
        })?;
    }
    Ok(())
}

/// Is pgBackRest installed, which Debian has?
pub fn has_pgbackrest() -> bool {
    Path::new("/usr/bin/pgbackrest").exists()
}

/// Chromium, if the machine has one (scripts/setup does not install it).
pub fn browser() -> Option<PathBuf> {
    Some(PathBuf::from("/usr/bin/chromium")).filter(|path| path.exists())
}

/// A browser without a window, with the page of a member.
fn browse(state: &State, member: &str, options: &[String]) -> Result<process::Output> {
    let lab = state.cluster()?;
    let browser = browser().ok_or("no /usr/bin/chromium here")?;
    let profile = lab.directory.join("browser");
    let mut command = process::command(&browser, &lab.directory, &lab.bin())?;
    // Nothing but the page is asked for.
    command
        .args("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync".split(' '))
        .args(["--disable-background-networking", "--disable-component-update", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg("--virtual-time-budget=4000")
        .args(options)
        .arg(format!("http://127.0.0.1:{}/status", lab.member(member)?.rest));
    process::run(command, PATIENCE)
}

fn browser_shows(state: &mut State, call: &Call) -> Result<()> {
    let (text, limit) = (call.arg(0), Duration::from_secs(call.arg(2).parse()?));
    wait_until(&format!("a browser shows {text}"), limit, || {
        let output = browse(state, call.arg(1), &["--dump-dom".to_owned()])?;
        ensure(output.stdout.contains(text), || format!("{output:?}"))
    })
}

/// By day, at night, and on a phone: `target/status-page-*.png`, for people to look at.
fn pictures(state: &mut State, call: &Call) -> Result<()> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    for (name, size, dark) in
        [("day", "1100,900", false), ("night", "1100,900", true), ("phone", "360,1100", true)]
    {
        let taken = state.cluster()?.directory.join(format!("{name}.png"));
        let mut options = vec![format!("--screenshot={}", taken.display()), format!("--window-size={size}")];
        options.extend(dark.then(|| "--blink-settings=preferredColorScheme=0".to_owned()));
        let output = browse(state, call.arg(0), &options)?;
        ensure(std::fs::metadata(&taken).is_ok_and(|file| file.len() > 5000), || format!("{output:?}"))?;
        std::fs::copy(&taken, target.join(format!("status-page-{name}.png")))?;
    }
    Ok(())
}

/// A table `endpoint`, `check with its options`, `exit code`, `text`; `all` endpoints are those of all members.
fn check_patroni(state: &mut State, call: &Call) -> Result<()> {
    for row in &call.table {
        let cell = |index: usize| row.get(index).map_or("", String::as_str);
        let names = &state.cluster()?.members;
        let named = names.iter().filter(|member| cell(0) == "all" || member.name == cell(0));
        let endpoints: Vec<String> = named.map(|m| format!("-e http://127.0.0.1:{}", m.rest)).collect();
        ensure(!endpoints.is_empty(), || format!("no member {}", cell(0)))?;
        let line = format!("$CHECK {} {}", endpoints.join(" "), cell(1));
        wait_until(&format!("check_patroni {}", cell(1)), Duration::from_secs(20), || {
            let output = bash(state, &line)?;
            let same = output.code.to_string() == cell(2) && output.stdout.contains(cell(3));
            ensure(same, || format!("{output:?}"))
        })?;
    }
    Ok(())
}

/// The file that Patroni's documentation has: one port for the primary, one for the replicas, asked by OPTIONS.
fn haproxy(state: &mut State, _: &Call) -> Result<()> {
    let ports = compat_tests::lab::haproxy::start(state.cluster()?)?;
    state.ports.insert("primary".into(), ports.primary);
    state.ports.insert("replicas".into(), ports.replicas);
    Ok(())
}

fn through_haproxy(state: &mut State, call: &Call) -> Result<()> {
    let port = *state.ports.get(call.arg(2)).ok_or("no HAProxy")?;
    let lab = state.cluster()?;
    wait_until(&call.text, call.seconds(3), || {
        let mut command = process::command(&lab.bin().join("psql"), &lab.directory, &lab.bin())?;
        command
            .args(["-XAtq", "-h", "127.0.0.1", "-U", "postgres", "-d", "postgres", "-c", call.arg(0)])
            .args(["-p", &port.to_string()])
            .env("PGPASSWORD", "lab-super")
            .env("PGCONNECT_TIMEOUT", "3");
        let found = process::run(command, Duration::from_secs(10))?.ok()?;
        ensure(found.trim_end() == call.arg(1), || found)
    })
}

/// Starts Prometheus on all members' `/metrics`, and waits until it has read each without an error.
fn prometheus(state: &mut State, _: &Call) -> Result<()> {
    let port = host::free_port()?;
    let lab = state.cluster()?;
    let targets: Vec<String> = lab.members.iter().map(|m| format!("'127.0.0.1:{}'", m.rest)).collect();
    let text = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: patroni\n  static_configs:\n  - targets: [{}]\n",
        targets.join(", ")
    );
    let file = lab.directory.join("prometheus.yml");
    std::fs::write(&file, text)?;
    let mut command = process::command(&PathBuf::from("/usr/bin/prometheus"), &lab.directory, &lab.bin())?;
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", lab.directory.join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    process::daemon(command, &lab.directory.join("prometheus.log"))?;
    let count = lab.members.len();
    wait_until("Prometheus reads all members", SEEN, || {
        let body = http::call(port, "GET", "/api/v1/targets", None)?.json()?;
        let found = body.at(&["data", "activeTargets"]).and_then(Value::as_list).unwrap_or_default();
        let text = |target: &Value, field: &str| target.get(field).map_or(String::new(), Value::py_str);
        let well = found.iter().filter(|t| text(t, "health") == "up" && text(t, "lastError").is_empty());
        ensure(well.count() == count, || json::dumps(&body))
    })?;
    state.ports.insert("prometheus".into(), port);
    Ok(())
}

/// The value of an instant query that gives one row.
fn prometheus_finds(state: &mut State, call: &Call) -> Result<()> {
    let port = *state.ports.get("prometheus").ok_or("no Prometheus")?;
    let encoded: String = call.arg(0).bytes().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "%{byte:02X}");
        text
    });
    wait_until(&call.text, call.seconds(2), || {
        let body = http::call(port, "GET", &format!("/api/v1/query?query={encoded}"), None)?.json()?;
        let rows = body.at(&["data", "result"]).and_then(Value::as_list).unwrap_or_default();
        let value = rows.first().and_then(|row| row.get("value")).and_then(Value::as_list);
        let value = value.and_then(|pair| pair.get(1)).and_then(Value::as_str).unwrap_or_default();
        ensure(rows.len() == 1 && value == call.arg(1), || json::dumps(&body))
    })
}

/// What vip-manager may ask.
const TRIGGERS: [&str; 2] = ["etcd", "patroni"];

/// Two vip-managers for each member, each in a network namespace of its own (`clients/vip_manager.py`).
fn vip_manager(state: &mut State, _: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let script = lab.directory.join("vip_manager.py");
    std::fs::copy(host::repository().join("compat-tests/clients/vip_manager.py"), &script)?;
    let leader_key = lab.key("leader");
    for (member, trigger) in lab.members.iter().flat_map(|member| TRIGGERS.map(|trigger| (member, trigger))) {
        let (port, key, value) = match trigger {
            "etcd" => (lab.store.port(), leader_key.as_str(), member.name.as_str()),
            _ => (member.rest, "/leader", "200"),
        };
        let mut command = process::command(&PathBuf::from("/usr/bin/python3"), &lab.directory, &lab.bin())?;
        command
            .arg(&script)
            .arg(host::deps().join("vip-manager/usr/bin/vip-manager"))
            .args([trigger, &port.to_string(), key, value])
            .arg(address_file(&lab.directory, &member.name, trigger));
        process::daemon(command, &lab.directory.join(format!("vip-manager-{trigger}-{}.log", member.name)))?;
    }
    Ok(())
}

/// Where `clients/vip_manager.py` says whether a member has the virtual address.
fn address_file(directory: &Path, member: &str, trigger: &str) -> PathBuf {
    directory.join(format!("vip-{trigger}-{member}"))
}

fn virtual_addresses(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    wait_until(&call.text, call.seconds(1), || {
        for (member, trigger) in lab.members.iter().flat_map(|m| TRIGGERS.map(|trigger| (m, trigger))) {
            let wanted = if member.name == call.arg(0) { "up" } else { "down" };
            let file = address_file(&lab.directory, &member.name, trigger);
            let found = std::fs::read_to_string(file).unwrap_or_default();
            ensure(found == wanted, || format!("{trigger}, {}: {found:?}, not {wanted}", member.name))?;
        }
        Ok(())
    })
}

/// A table of a path into what `clients/read_dcs.py` prints, and the JSON that is there. `<PG_node0>` and
/// `<REST_node0>` in it are that member's ports.
fn read_dcs(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let script = lab.directory.join("read_dcs.py");
    std::fs::copy(host::repository().join("compat-tests/clients/read_dcs.py"), &script)?;
    wait_until("the reference's client code reads", SEEN, || {
        let mut command = process::command(&host::reference("python"), &lab.directory, &lab.bin())?;
        command.arg(&script).args([&lab.options.scope, &lab.store.port().to_string()]);
        let found = json::loads(&process::run(command, PATIENCE)?.ok()?).map_err(|e| e.to_string())?;
        for row in &call.table {
            let cell = |index: usize| row.get(index).map_or("", String::as_str);
            let path: Vec<&str> = cell(0).split('.').collect();
            let value = found.at(&path).map_or("absent".into(), json::dumps);
            let mut wanted = cell(1).to_string();
            for member in &lab.members {
                wanted = wanted.replace(&format!("<PG_{}>", member.name), &member.postgres.to_string());
                wanted = wanted.replace(&format!("<REST_{}>", member.name), &member.rest.to_string());
            }
            ensure(value == wanted, || {
                format!("{}: {value} instead of {wanted}\n{}", cell(0), json::dumps(&found))
            })?;
        }
        Ok(())
    })
}
