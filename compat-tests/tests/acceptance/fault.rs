//! The sentences that start, stop, break and change things.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use compat_tests::lab::etcd::Restore;
use compat_tests::lab::wait::ensure;
use compat_tests::lab::{process, wait_until, Result};
use nix::sys::signal::{kill, Signal};

use super::state::{kind_of, named, Call, State};
use super::steps::Step;

/// See the module.
pub const STEPS: &[(&str, Step)] = &[
    (r"(node\w+) is started", start),
    (r"(\w+) starts", start),
    (r"(\w+) is shut down", stop),
    (r"(\w+) is shut down and started as (ours|reference)", exchange),
    (r"(\w+) is sent SIG(HUP|TERM|INT)", signal),
    (r"the daemon of (\w+) is killed", kill_daemon),
    (r"the guardian of (\w+) is killed", kill_guardian),
    (r"the daemon of (\w+) is (frozen|thawed)", freeze_daemon),
    (r"the postmaster of (\w+) is killed", kill_postmaster),
    (r"PostgreSQL of (\w+) is (frozen|thawed)", freeze_postgres),
    (r"the whole node of (\w+) is killed", kill_node),
    (r"the whole node of (\w+) is (frozen|thawed)", freeze_node),
    (r"the synchronous standby's whole node is killed", kill_sync),
    (r"(?:etcd|the DCS) is (killed|stopped|started|frozen|thawed)", dcs),
    (r"the DCS has three servers", three_servers),
    (r"server (\d) of the DCS is (killed|stopped|started|frozen|thawed)", dcs_server),
    (r"Consul's agent is (killed|stopped|started|frozen|thawed|<\w+>)", agent),
    (r"a snapshot of etcd is taken", snapshot),
    (r"an etcd of three nodes", three_nodes),
    (r"etcd's node (\d) is (frozen|thawed)", etcd_node),
    (r#"etcd has users, and patroni's password is "(\w+)""#, etcd_users),
    (r#"patroni's password in etcd is changed to "(\w+)""#, etcd_password),
    (r"etcd is set back to the snapshot: (.+)", restore),
    (r"the postmasters are remembered", remember),
    (r#"a row "(\w+)" is written on (the leader|\w+)"#, row),
    (r"a checkpoint is made on (\w+)", checkpoint),
    (r#"SQL "(.+)" is run on (\w+)"#, sql),
    (r#"SQL "(.+)" fails on (\w+)"#, sql_fails),
    (r"(\w+) is configured by PATCH with", patch),
    (r"(\w+) is added with", add_with),
    (r"(\w+)'s configuration file is changed with", change_file),
    (r#"(\w+)'s configuration file is "(.*)""#, break_file),
    (r"a switchover from (\w+) to (\w+) is posted for (\d+) s from now", schedule),
    (r"a second (\w+) is started", second),
    (r"a member of another cluster", stranger),
    (r"that member is moved to this cluster", move_stranger),
];

fn start(state: &mut State, call: &Call) -> Result<()> {
    state.lab()?.member_mut(call.arg(0))?.start()
}

fn stop(state: &mut State, call: &Call) -> Result<()> {
    let code = state.lab()?.member_mut(call.arg(0))?.stop()?;
    state.exits.insert(call.arg(0).into(), code);
    Ok(())
}

fn exchange(state: &mut State, call: &Call) -> Result<()> {
    let kind = named(call.arg(1))?;
    let member = state.lab()?.member_mut(call.arg(0))?;
    member.stop()?;
    member.kind = kind;
    member.start()
}

fn signal(state: &mut State, call: &Call) -> Result<()> {
    let signal: Signal = format!("SIG{}", call.arg(1)).parse()?;
    state.lab()?.member_mut(call.arg(0))?.signal_daemon(signal)
}

fn kill_daemon(state: &mut State, call: &Call) -> Result<()> {
    state.lab()?.member_mut(call.arg(0))?.kill_daemon()
}

fn kill_guardian(state: &mut State, call: &Call) -> Result<()> {
    let guardians = state.cluster()?.member(call.arg(0))?.guardians();
    ensure(!guardians.is_empty(), || "it has none".into())?;
    guardians.into_iter().try_for_each(|pid| Ok(kill(pid, Signal::SIGKILL)?))
}

/// SIGSTOP or SIGCONT, for the two words that the sentences use.
pub fn stop_or_go(word: &str) -> Signal {
    if word == "frozen" {
        Signal::SIGSTOP
    } else {
        Signal::SIGCONT
    }
}

/// The postmaster and all its children.
fn freeze_postgres(state: &mut State, call: &Call) -> Result<()> {
    process::signal_under(&state.lab()?.member(call.arg(0))?.data(), stop_or_go(call.arg(1)));
    Ok(())
}

fn freeze_daemon(state: &mut State, call: &Call) -> Result<()> {
    state.lab()?.member_mut(call.arg(0))?.signal_daemon(stop_or_go(call.arg(1)))
}

fn kill_postmaster(state: &mut State, call: &Call) -> Result<()> {
    let member = state.lab()?.member(call.arg(0))?;
    let killed = member.kill_postmaster()?;
    wait_until("the postmaster dies", Duration::from_secs(5), || {
        ensure(member.postmaster() != Some(killed), || "it lives".into())
    })
}

fn kill_node(state: &mut State, call: &Call) -> Result<()> {
    state.lab()?.member_mut(call.arg(0))?.kill_node()
}

fn freeze_node(state: &mut State, call: &Call) -> Result<()> {
    state.lab()?.member(call.arg(0))?.signal_node(stop_or_go(call.arg(1)));
    Ok(())
}

/// The member that the DCS names as the synchronous standby.
pub fn synchronous(state: &State) -> Result<String> {
    let lab = state.cluster()?;
    let text = lab.store.get(&lab.key("sync"))?.ok_or("no sync key")?;
    let sync = pyfmt::json::loads(&text)?;
    let standby = sync.get("sync_standby").and_then(pyfmt::Value::as_str);
    Ok(standby.ok_or_else(|| format!("no standby in {text}"))?.to_string())
}

fn kill_sync(state: &mut State, _: &Call) -> Result<()> {
    let name = synchronous(state)?;
    state.lab()?.member_mut(&name)?.kill_node()?;
    state.remembered = name;
    Ok(())
}

fn dcs(state: &mut State, call: &Call) -> Result<()> {
    let store = &mut state.lab()?.store;
    match call.arg(0) {
        "killed" => store.kill()?,
        "stopped" => {
            store.signal_server(0, Signal::SIGTERM)?;
            store.kill()?;
        }
        "started" => store.restart()?,
        "frozen" => store.freeze(),
        _ => store.thaw(),
    }
    Ok(())
}

fn three_servers(state: &mut State, _: &Call) -> Result<()> {
    state.lab()?.store.become_three()
}

/// What is done to one process: a signal; None: it is started.
fn done_to(word: &str) -> Option<Signal> {
    match word {
        "killed" => Some(Signal::SIGKILL),
        "stopped" => Some(Signal::SIGTERM),
        "frozen" => Some(Signal::SIGSTOP),
        "thawed" => Some(Signal::SIGCONT),
        _ => None,
    }
}

fn dcs_server(state: &mut State, call: &Call) -> Result<()> {
    let (number, store) = (call.arg(0).parse()?, &mut state.lab()?.store);
    match done_to(call.arg(1)) {
        Some(signal) => store.signal_server(number, signal),
        None => store.start_server(number),
    }
}

fn agent(state: &mut State, call: &Call) -> Result<()> {
    let agent = state.lab()?.store.agent()?;
    match done_to(call.arg(0)) {
        Some(signal) => agent.signal(signal),
        None => agent.start(),
    }
}

fn snapshot(state: &mut State, _: &Call) -> Result<()> {
    state.lab()?.etcd()?.snapshot()
}

fn three_nodes(state: &mut State, _: &Call) -> Result<()> {
    state.lab()?.etcd()?.become_three()
}

fn etcd_node(state: &mut State, call: &Call) -> Result<()> {
    state.lab()?.store.signal_server(call.arg(0).parse()?, stop_or_go(call.arg(1)))
}

fn etcd_users(state: &mut State, call: &Call) -> Result<()> {
    state.lab()?.etcd()?.add_users(call.arg(0), "/service/")
}

fn etcd_password(state: &mut State, call: &Call) -> Result<()> {
    state.lab()?.etcd()?.set_password(call.arg(0))
}

fn restore(state: &mut State, call: &Call) -> Result<()> {
    let how = match call.arg(0) {
        "restored with the same token" => Restore::SameToken,
        "restored with a new token" => Restore::NewToken,
        "its data with --force-new-cluster" => Restore::ForceNewCluster,
        other => return Err(format!("no such way: {other}").into()),
    };
    state.lab()?.etcd()?.restore(how)
}

fn remember(state: &mut State, _: &Call) -> Result<()> {
    let members = &state.cluster()?.members;
    state.postmasters = members.iter().map(|member| (member.name.clone(), member.postmaster())).collect();
    Ok(())
}

fn row(state: &mut State, call: &Call) -> Result<()> {
    let name = state.name(call.arg(1))?;
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS lab_rows (name text); INSERT INTO lab_rows VALUES ('{}')",
        call.arg(0)
    );
    state.cluster()?.member(&name)?.sql(&sql).map(drop)
}

fn checkpoint(state: &mut State, call: &Call) -> Result<()> {
    state.cluster()?.member(call.arg(0))?.sql("CHECKPOINT").map(drop)
}

fn sql(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(1))?;
    member.sql(&member.fill_in(call.arg(0))).map(drop)
}

fn sql_fails(state: &mut State, call: &Call) -> Result<()> {
    let done = state.cluster()?.member(call.arg(1))?.sql(call.arg(0));
    ensure(done.is_err(), || "it does not fail".into())
}

fn patch(state: &mut State, call: &Call) -> Result<()> {
    let answer = state.cluster()?.member(call.arg(0))?.call("PATCH", "/config", Some(call.doc.trim()))?;
    ensure(answer.status == 200, || format!("{} {}", answer.status, answer.body))
}

fn add_with(state: &mut State, call: &Call) -> Result<()> {
    let over = super::state::yaml(&call.doc)?;
    let lab = state.lab()?;
    let index = lab.members.len();
    let member = lab.add(call.arg(0), kind_of(index))?;
    member.configure(&over)?;
    member.start()
}

fn change_file(state: &mut State, call: &Call) -> Result<()> {
    let over = super::state::yaml(&call.doc)?;
    let member = state.lab()?.member_mut(call.arg(0))?;
    member.configure(&over)?;
    member.write_config().map(drop)
}

fn break_file(state: &mut State, call: &Call) -> Result<()> {
    let file = state.lab()?.member(call.arg(0))?.write_config()?;
    Ok(std::fs::write(file, call.arg(1))?)
}

/// RFC 3339 in UTC, by PostgreSQL, who knows calendars.
fn schedule(state: &mut State, call: &Call) -> Result<()> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + call.seconds(2).as_secs();
    let member = state.cluster()?.member(call.arg(0))?;
    let at = member.sql(&format!(
        "SELECT to_char(to_timestamp({at}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS+00:00')"
    ))?;
    let body =
        format!(r#"{{"leader":"{}","candidate":"{}","scheduled_at":"{at}"}}"#, call.arg(0), call.arg(1));
    let answer = member.call("POST", "/switchover", Some(&body))?;
    ensure(answer.status == 202, || format!("{} {}", answer.status, answer.body))
}

/// A member with a name that is taken, in a directory and on ports of its own.
fn second(state: &mut State, call: &Call) -> Result<()> {
    let kind = kind_of(0);
    let lab = state.lab()?;
    let mut other = lab.add_to("other", call.arg(0), kind)?;
    other.name = "second".into();
    other.config.set("scope", "batman");
    other = lab.member_mut("second")?;
    other.start()?;
    state.remembered = "second".into();
    Ok(())
}

fn stranger(state: &mut State, _: &Call) -> Result<()> {
    let lab = state.lab()?;
    let member = lab.add_to("robin", "stranger", kind_of(0))?;
    member.start()?;
    lab.wait_status("stranger", "/primary", 200, compat_tests::lab::cluster::BRING_UP)?;
    lab.member_mut("stranger")?.stop()?;
    state.remembered = "stranger".into();
    Ok(())
}

fn move_stranger(state: &mut State, _: &Call) -> Result<()> {
    let member = state.lab()?.member_mut("stranger")?;
    member.config.set("scope", "batman");
    member.start()
}
