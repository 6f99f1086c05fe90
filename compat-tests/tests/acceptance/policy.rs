//! The sentences about watchdogs, nonsense in the DCS, schedules and standby clusters.

use std::time::Duration;

use compat_tests::lab::cluster::BRING_UP;
use compat_tests::lab::fifo::Fifo;
use compat_tests::lab::wait::ensure;
use compat_tests::lab::{process, wait_until, Result};

use super::state::{kind_of, yaml, Call, State};
use super::steps::Step;

/// See the module.
pub const STEPS: &[(&str, Step)] = &[
    (r"a running cluster of (\d+) members? with watchdogs", with_watchdogs),
    (r"(\w+) gets a watchdog", gets_watchdog),
    (r#"(\w+)'s watchdog got "(.+)" within (\d+) s"#, watchdog_got),
    (r"(\w+)'s watchdog is fed within (\d+) s", watchdog_fed),
    (r"(\w+)'s watchdog is not fed for (\d+) s", watchdog_hungry),
    (r"(\w+)'s watchdog is (closed|armed) within (\d+) s", watchdog_is),
    (r"(\w+)'s configuration is changed by", reconfigure),
    (r#"the DCS key "(\S+)" is set to"#, set_key),
    (r#"the DCS key "(\S+)" is deleted"#, delete_key),
    (r"(\w+) keeps leading while these are in the DCS, one after the other", survives),
    (r"(\w+) joins the cluster of (\w+)", join),
    (r"(\w+) streams from (\w+) within (\d+) s", streams),
    (r"the standby cluster's source is changed to (\w+)", move_source),
    (r"every other member of the first cluster follows the leader within (\d+) s", first_cluster_follows),
    (r"a member that is alone with", alone),
    (r"(\w+) has ended within (\d+) s", ended),
    (r"(\w+)'s daemon is started again", start_again),
    (r"(\w+)'s PostgreSQL is to listen on another port", other_port),
    (r"(\w+)'s PostgreSQL is on its new port", new_port),
    (r"the synchronous standby is remembered", remember_sync),
    (r"the whole node of the remembered one is (frozen|thawed)", freeze_remembered),
    (r#"(\w+) is sent a request "(\w+) (\S+)" with"#, send),
    (r#"its status is (\d+) and its text contains "(.+)""#, sent),
    (r"PostgreSQL of (\w+) is (stopped|started) manually", by_hand),
    (r"PostgreSQL of (\w+) was restarted within (\d+) s", restarted),
    (r#"the DCS key "(\S+)" does not say "(.+)" within (\d+) s"#, key_silent),
];

fn with_watchdogs(state: &mut State, call: &Call) -> Result<()> {
    let count: usize = call.arg(0).parse()?;
    for index in 0..count {
        let name = format!("node{index}");
        let member = state.lab()?.add(&name, kind_of(index))?;
        let fifo = Fifo::at(&member.directory.join("data.watchdog"))?;
        state.watchdogs.insert(name, fifo);
    }
    state.lab()?.start_all()
}

fn gets_watchdog(state: &mut State, call: &Call) -> Result<()> {
    let fifo = Fifo::at(&state.cluster()?.member(call.arg(0))?.directory.join("data.watchdog"))?;
    state.watchdogs.insert(call.arg(0).into(), fifo);
    Ok(())
}

fn fifo<'a>(state: &'a State, name: &str) -> Result<&'a Fifo> {
    state.watchdogs.get(name).ok_or_else(|| format!("no watchdog of {name}").into())
}

fn watchdog_got(state: &mut State, call: &Call) -> Result<()> {
    let fifo = fifo(state, call.arg(0))?;
    wait_until(&call.text, call.seconds(2), || ensure(fifo.text().contains(call.arg(1)), || fifo.text()))
}

fn watchdog_fed(state: &mut State, call: &Call) -> Result<()> {
    let fifo = fifo(state, call.arg(0))?;
    let before = fifo.text().len();
    wait_until(&call.text, call.seconds(1), || {
        let text = fifo.text();
        ensure(text.get(before..).is_some_and(|fresh| fresh.contains('1')), || text.clone())
    })
}

/// What is in the pipe at first may have been on its way.
fn watchdog_hungry(state: &mut State, call: &Call) -> Result<()> {
    let fifo = fifo(state, call.arg(0))?;
    std::thread::sleep(Duration::from_millis(500));
    let before = fifo.text();
    std::thread::sleep(call.seconds(1));
    let after = fifo.text();
    ensure(after == before, || after)
}

fn watchdog_is(state: &mut State, call: &Call) -> Result<()> {
    let fifo = fifo(state, call.arg(0))?;
    let closed = call.arg(1) == "closed";
    wait_until(&call.text, call.seconds(2), || {
        let text = fifo.text();
        let ends_closed = text.is_empty() || text.ends_with('V');
        ensure(ends_closed == closed, || text.clone())
    })
}

/// Writes the configuration's file anew; SIGHUP is another sentence.
fn reconfigure(state: &mut State, call: &Call) -> Result<()> {
    let over = yaml(&call.doc)?;
    let member = state.lab()?.member_mut(call.arg(0))?;
    member.configure(&over)?;
    member.write_config().map(drop)
}

/// A megabyte, where a table says so: more than most values, less than etcd refuses.
fn value_of(text: &str) -> String {
    match text {
        "EMPTY" => String::new(),
        "1 MB" => "x".repeat(1 << 20),
        "1 MB of JSON" => format!(r#"{{"leader":"{}"}}"#, "x".repeat(1 << 20)),
        other => other.replace("\\p", "|"),
    }
}

fn set_key(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    lab.store.put(&lab.key(call.arg(0)), &value_of(call.doc.trim()))
}

fn delete_key(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    lab.store.delete(&lab.key(call.arg(0)))
}

/// How many cycles a member's log tells of; every one ends with a status line.
fn cycles(state: &State, name: &str) -> Result<usize> {
    let text = state.cluster()?.member(name)?.log_text();
    Ok(text.lines().filter(|line| line.contains("INFO: ")).count())
}

/// A table of keys and values; a row that ends with `+` stands together with the next. After two cycles
/// the old values come back.
fn survives(state: &mut State, call: &Call) -> Result<()> {
    let name = call.arg(0);
    let postmaster = state.cluster()?.member(name)?.postmaster();
    let mut written: Vec<(String, Option<String>)> = Vec::new();
    for row in &call.table {
        let [key, value, rest @ ..] = &row[..] else { return Err("no value".into()) };
        let lab = state.cluster()?;
        let full = lab.key(key);
        written.push((full.clone(), lab.store.get(&full)?));
        lab.store.put(&full, &value_of(value))?;
        if rest.first().is_some_and(|mark| mark == "+") {
            continue;
        }
        let before = cycles(state, name)?;
        wait_until(&format!("two cycles of {name} with {row:?}"), Duration::from_secs(20), || {
            ensure(cycles(state, name)? >= before + 2, || "no cycles".into())
        })?;
        let lab = state.cluster()?;
        let member = lab.member(name)?;
        ensure(member.postmaster() == postmaster, || format!("{row:?}: PostgreSQL was stopped"))?;
        ensure(lab.leader()?.as_deref() == Some(name), || format!("{row:?}: the lock is gone"))?;
        let recovery = member.sql("SELECT pg_is_in_recovery()")?;
        ensure(recovery == "f", || format!("{row:?}: it is in recovery"))?;
        for (key, old) in written.drain(..) {
            match old {
                // Members write their keys again, with their leases; an absent one comes back.
                Some(_) if key.contains("/members/node") => lab.store.delete(&key)?,
                Some(old) => lab.store.put(&key, &old)?,
                None => lab.store.delete(&key)?,
            }
        }
    }
    let lab = state.lab()?;
    for member in &mut lab.members {
        ensure(member.daemon().is_some(), || format!("{}'s daemon has ended", member.name))?;
    }
    Ok(())
}

/// A further member of the standby cluster `batman1`.
fn join(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.lab()?;
    let index = lab.members.len();
    lab.add_to("batman1", call.arg(0), kind_of(index))?.start()?;
    lab.wait_status(call.arg(0), "/replica", 200, BRING_UP)
}

fn streams(state: &mut State, call: &Call) -> Result<()> {
    let source = state.cluster()?.member(call.arg(1))?;
    let sender = format!(
        "SELECT count(*) FROM pg_stat_replication WHERE application_name = '{}' AND state = 'streaming'",
        call.arg(0)
    );
    wait_until(&call.text, call.seconds(2), || {
        let count = source.sql(&sender)?;
        ensure(count == "1", || format!("{count} connections"))
    })
}

/// By PATCH to whatever member of `batman1` answers.
fn move_source(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let port = lab.member(call.arg(0))?.postgres;
    let body = format!(r#"{{"standby_cluster":{{"host":"127.0.0.1","port":{port}}}}}"#);
    let member = lab.members.iter().find(|m| m.name.starts_with("robin")).ok_or("no standby cluster")?;
    let answer = member.call("PATCH", "/config", Some(&body))?;
    ensure(answer.status == 200, || format!("{} {}", answer.status, answer.body))
}

fn first_cluster_follows(state: &mut State, call: &Call) -> Result<()> {
    let leader = state.name("the leader")?;
    let lab = state.cluster()?;
    let others = lab.members.iter().filter(|m| m.name != leader && m.name.starts_with("node"));
    others.map(|m| m.name.clone()).try_for_each(|name| lab.wait_follows(&name, &leader, call.seconds(0)))
}

/// A first member that need not come up.
fn alone(state: &mut State, call: &Call) -> Result<()> {
    let over = yaml(&call.doc)?;
    let member = state.lab()?.add("node0", kind_of(0))?;
    member.configure(&over)?;
    member.start()
}

fn ended(state: &mut State, call: &Call) -> Result<()> {
    let member = state.lab()?.member_mut(call.arg(0))?;
    wait_until(&call.text, call.seconds(1), || ensure(member.daemon().is_none(), || "it runs".into()))
}

/// After a daemon has ended by itself.
fn start_again(state: &mut State, call: &Call) -> Result<()> {
    let member = state.lab()?.member_mut(call.arg(0))?;
    wait_until(&call.text, Duration::from_secs(30), || {
        ensure(member.daemon().is_none(), || "the old one runs".into())
    })?;
    member.start()
}

/// In the configuration's file; the port is remembered for the next sentence.
fn other_port(state: &mut State, call: &Call) -> Result<()> {
    let port = compat_tests::lab::host::free_port()?;
    state.remembered = port.to_string();
    let address = format!("127.0.0.1:{port}");
    let over = yaml(&format!("postgresql: {{listen: '{address}', connect_address: '{address}'}}"))?;
    let member = state.lab()?.member_mut(call.arg(0))?;
    member.configure(&over)?;
    member.write_config().map(drop)
}

fn new_port(state: &mut State, call: &Call) -> Result<()> {
    let port = state.remembered.parse()?;
    state.lab()?.member_mut(call.arg(0))?.postgres = port;
    Ok(())
}

fn remember_sync(state: &mut State, _: &Call) -> Result<()> {
    state.remembered = super::fault::synchronous(state)?;
    Ok(())
}

fn freeze_remembered(state: &mut State, call: &Call) -> Result<()> {
    let signal = super::fault::stop_or_go(call.arg(0));
    let name = state.remembered.clone();
    state.cluster()?.member(&name)?.signal_node(signal);
    Ok(())
}

fn send(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(0))?;
    let answer = member.call(call.arg(1), call.arg(2), Some(call.doc.trim()))?;
    state.output.code = i32::from(answer.status);
    state.output.stdout = answer.body;
    Ok(())
}

fn sent(state: &mut State, call: &Call) -> Result<()> {
    let (code, text) = (state.output.code, &state.output.stdout);
    ensure(code.to_string() == call.arg(0) && text.contains(call.arg(1)), || format!("{code} {text}"))
}

fn by_hand(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let member = lab.member(call.arg(0))?;
    let mut command = process::command(&lab.bin().join("pg_ctl"), &member.directory, &lab.bin())?;
    command.arg("-D").arg(member.data()).arg("-w");
    if call.arg(1) == "stopped" {
        command.args(["-m", "fast", "stop"]);
    } else {
        command.arg("-l").arg(member.directory.join("by-hand.log")).arg("start");
    }
    process::run_quietly(command, Duration::from_secs(60))
}

fn restarted(state: &mut State, call: &Call) -> Result<()> {
    let before = state.postmasters.get(call.arg(0)).copied().flatten();
    let member = state.cluster()?.member(call.arg(0))?;
    wait_until(&call.text, call.seconds(1), || {
        let now = member.postmaster();
        ensure(now.is_some() && now != before, || format!("{now:?}"))
    })
}

fn key_silent(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    wait_until(&call.text, call.seconds(2), || {
        let value = lab.store.get(&lab.key(call.arg(0)))?.unwrap_or_default();
        ensure(!value.contains(call.arg(1)), || value)
    })
}
