//! The sentences that look.

use std::time::Duration;

use compat_tests::lab::wait::ensure;
use compat_tests::lab::{wait_until, writer, Result};
use pyfmt::{json, Value};
use regex::Regex;

use super::fault::synchronous;
use super::state::{Call, State};
use super::steps::Step;

/// See the module.
pub const STEPS: &[(&str, Step)] = &[
    (r"(\w+) leads within (\d+) s", leads),
    (r"another member than (\w+) leads within (\d+) s", other_leads),
    (r"some member leads within (\d+) s", some_leads),
    (r"(\w+) follows (the leader|\w+) within (\d+) s", follows),
    (r"every other member follows the leader within (\d+) s", all_follow),
    (r"the REST API answers", rest),
    (r#"(\w+) answers (\d+) to "(\S+)"(?: within (\d+) s)?"#, answers),
    (r#"one of the replicas answers (\d+) to "(\S+)" within (\d+) s"#, one_answers),
    (r#"GET "(\S+)" of (\w+) has "(\S+)" = "(.*)" within (\d+) s"#, json_field),
    (r#"the DCS key "(\S+)" matches "(.*)"(?: within (\d+) s)?"#, key_matches),
    (r#"the DCS key "(\S+)" does not match "(.*)""#, key_differs),
    (r#"the DCS key "(\S+)" is absent within (\d+) s"#, key_absent),
    (r"the members' keys have leases", leases),
    (r"the leader's lease has (more|less) than (\d+) s left within (\d+) s", leaders_lease),
    (r#"the row "(\w+)" is on every member within (\d+) s"#, row_everywhere),
    (r#"the row "(\w+)" is on (\w+) within (\d+) s"#, row_on),
    (r#"the row "(\w+)" is on no member"#, row_nowhere),
    (r#"(\w+) has the replication slots "(\S*)" within (\d+) s"#, slots),
    (r#"the slot "(\w+)" of (\w+) has come as far as that of (\w+) within (\d+) s"#, slot_position),
    (r#"SQL "(.+)" gives "(.*)" on (\w+) within (\d+) s"#, sql_gives),
    (r#"(\w+)'s log says "(.+)"(?: within (\d+) s)?"#, log_says),
    (r#"(\w+)'s log does not say "(.+)""#, log_silent),
    (r#"no log says "(.+)""#, logs_silent),
    (r#"the file "(\S+)" of (\w+) matches "(.+)" within (\d+) s"#, file_matches),
    (r#"the callbacks of (\w+) are "(.+)" within (\d+) s"#, callbacks_are),
    (r#"the callbacks of (\w+) contain "(.+)" within (\d+) s"#, callbacks_contain),
    (r"(\w+)'s timeline is (\d+)", timeline),
    (r"(\w+)'s exit code was (\d+)", exit_code),
    (r#"(?:that node|it) ends with exit code (\d+) and says "(.+)""#, remembered_ends),
    (r"PostgreSQL of (\w+) takes no writes within (\d+) s", no_writes),
    (r"PostgreSQL of (\w+) is down(?: within (\d+) s)?", down),
    (r"no guardian of (\w+) is left within (\d+) s", no_guardian),
    (r"(\w+) has one guardian within (\d+) s", one_guardian),
    (r"PostgreSQL of (\w+) takes writes for (\d+) s", keeps_writing),
    (r"PostgreSQL of (\w+) stays a standby for (\d+) s", keeps_reading),
    (r"the postmasters are the remembered ones", same_postmasters),
    (r"its exit code is (\d+)", ctl_code),
    (r#"its output contains "(.+)""#, ctl_output),
    (r"another synchronous standby is chosen within (\d+) s", other_sync),
    (r"no acknowledged row is missing", none_missing),
    (r"the writer met at most (\d+) gaps? over (\d+) ms", gaps),
];

fn leads(state: &mut State, call: &Call) -> Result<()> {
    state.cluster()?.wait_leader(call.arg(0), call.seconds(1))
}

fn other_leads(state: &mut State, call: &Call) -> Result<()> {
    state.cluster()?.wait_other_leader(call.arg(0), call.seconds(1)).map(drop)
}

fn some_leads(state: &mut State, call: &Call) -> Result<()> {
    state.cluster()?.wait_other_leader("", call.seconds(0)).map(drop)
}

fn follows(state: &mut State, call: &Call) -> Result<()> {
    let leader = state.name(call.arg(1))?;
    state.cluster()?.wait_follows(call.arg(0), &leader, call.seconds(2))
}

fn all_follow(state: &mut State, call: &Call) -> Result<()> {
    let leader = state.name("the leader")?;
    let lab = state.cluster.as_mut().ok_or("no cluster")?;
    let mut others = Vec::new();
    for member in &mut lab.members {
        if member.name != leader && member.daemon().is_some() {
            others.push(member.name.clone());
        }
    }
    others.iter().try_for_each(|name| lab.wait_follows(name, &leader, call.seconds(0)))
}

/// A table with a header row: `member`, `path`, `status`, and `method` and `body` where wanted.
fn rest(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let [header, rows @ ..] = &call.table[..] else { return Err("no table".into()) };
    for row in rows {
        let cell = |name: &str| header.iter().position(|column| column == name).and_then(|at| row.get(at));
        let text = |name: &str| cell(name).map_or("", String::as_str);
        let method = if text("method").is_empty() { "GET" } else { text("method") };
        let body = Some(text("body")).filter(|body| !body.is_empty());
        let member = lab.member(text("member"))?;
        wait_until(&row.join(" "), Duration::from_secs(5), || {
            let answer = member.call(method, text("path"), body)?;
            ensure(answer.status.to_string() == text("status"), || {
                format!("{} {}", answer.status, answer.body)
            })
        })?;
    }
    Ok(())
}

fn answers(state: &mut State, call: &Call) -> Result<()> {
    let status: u16 = call.arg(1).parse()?;
    state.cluster()?.wait_status(call.arg(0), call.arg(2), status, call.seconds(3))
}

fn one_answers(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    wait_until(&call.text, call.seconds(2), || {
        let found = lab.members.iter().any(|member| {
            let answer = member.call("GET", call.arg(1), None);
            answer.is_ok_and(|answer| answer.status.to_string() == call.arg(0))
        });
        ensure(found, || "none does".into())
    })
}

fn json_field(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(1))?;
    let path: Vec<&str> = call.arg(2).split('.').collect();
    wait_until(&call.text, call.seconds(4), || {
        let body = member.call("GET", call.arg(0), None)?.json()?;
        let found = body.at(&path).cloned().unwrap_or(Value::Null);
        let text = found.as_str().map_or_else(|| json::dumps(&found), str::to_string);
        ensure(text == call.arg(3), || json::dumps(&body))
    })
}

fn key_matches(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let pattern = lab.members.iter().fold(call.arg(1).to_owned(), |text, member| {
        text.replace(&format!("PORT({})", member.name), &member.postgres.to_string())
    });
    let pattern = Regex::new(&pattern)?;
    wait_until(&call.text, call.seconds(2), || {
        let value = lab.store.get(&lab.key(call.arg(0)))?.ok_or("no such key")?;
        ensure(pattern.is_match(&value), || value)
    })
}

fn key_differs(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let value = lab.store.get(&lab.key(call.arg(0)))?.unwrap_or_default();
    ensure(!Regex::new(call.arg(1))?.is_match(&value), || value)
}

fn key_absent(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    wait_until(&call.text, call.seconds(1), || {
        let value = lab.store.get(&lab.key(call.arg(0)))?;
        ensure(value.is_none(), || format!("{value:?}"))
    })
}

fn leaders_lease(state: &mut State, call: &Call) -> Result<()> {
    let bound: i64 = call.arg(1).parse()?;
    let lab = state.cluster()?;
    wait_until(&call.text, call.seconds(2), || {
        let left = lab.store.lease_left(&lab.key("leader"))?.ok_or("the key is attached to no lease")?;
        ensure(if call.arg(0) == "more" { left > bound } else { left < bound }, || format!("{left} s"))
    })
}

fn leases(state: &mut State, _: &Call) -> Result<()> {
    // Pods stay, whatever becomes of a member.
    let pods = state.cluster()?.options.store.starts_with("kubernetes");
    for key in state.cluster()?.keys()? {
        let wanted = (key.name.contains("/members/") && !pods) || key.name.ends_with("/leader");
        ensure(key.leased == wanted, || format!("{}: lease {}", key.name, key.leased))?;
    }
    Ok(())
}

/// How often a row is on a member; 0 when the table is not there.
fn count(state: &State, name: &str, row: &str) -> Result<u32> {
    let member = state.cluster()?.member(name)?;
    if member.sql("SELECT to_regclass('lab_rows') IS NULL")? == "t" {
        return Ok(0);
    }
    Ok(member.sql(&format!("SELECT count(*) FROM lab_rows WHERE name = '{row}'"))?.parse()?)
}

fn names(state: &State) -> Result<Vec<String>> {
    Ok(state.cluster()?.members.iter().map(|member| member.name.clone()).collect())
}

fn row_everywhere(state: &mut State, call: &Call) -> Result<()> {
    wait_until(&call.text, call.seconds(1), || {
        names(state)?.iter().try_for_each(|name| {
            let found = count(state, name, call.arg(0))?;
            ensure(found > 0, || format!("not on {name}"))
        })
    })
}

fn row_on(state: &mut State, call: &Call) -> Result<()> {
    wait_until(&call.text, call.seconds(2), || {
        let found = count(state, call.arg(1), call.arg(0))?;
        ensure(found > 0, || "it is not".into())
    })
}

fn row_nowhere(state: &mut State, call: &Call) -> Result<()> {
    names(state)?.iter().try_for_each(|name| {
        let found = count(state, name, call.arg(0))?;
        ensure(found == 0, || format!("it is on {name}"))
    })
}

fn slots(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(0))?;
    wait_until(&call.text, call.seconds(2), || {
        let found =
            member.sql("SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots")?;
        ensure(found == call.arg(1), || found)
    })
}

/// What a consumer has confirmed, or where a physical slot begins; the source's as it is now.
fn slot_position(state: &mut State, call: &Call) -> Result<()> {
    let lab = state.cluster()?;
    let (member, source) = (lab.member(call.arg(1))?, lab.member(call.arg(2))?);
    let position = |what: &str| {
        format!(
            "SELECT {what} FROM (SELECT coalesce(confirmed_flush_lsn, restart_lsn) AS at \
             FROM pg_replication_slots WHERE slot_name = '{}') AS slot",
            call.arg(0)
        )
    };
    let wanted = source.sql(&position("at"))?;
    ensure(!wanted.is_empty(), || "the source has no such slot".into())?;
    wait_until(&call.text, call.seconds(3), || {
        let found = member.sql(&position(&format!("at >= '{wanted}', at")))?;
        ensure(found.starts_with('t'), || format!("{found}, not {wanted}"))
    })
}

fn sql_gives(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(2))?;
    wait_until(&call.text, call.seconds(3), || {
        let found = member.sql(call.arg(0))?;
        ensure(found == call.arg(1), || found)
    })
}

fn log_says(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(0))?;
    wait_until(&call.text, call.seconds(2), || {
        ensure(member.log_text().contains(call.arg(1)), || "it does not".into())
    })
}

fn log_silent(state: &mut State, call: &Call) -> Result<()> {
    let text = state.cluster()?.member(call.arg(0))?.log_text();
    ensure(!text.contains(call.arg(1)), || "it does".into())
}

fn file_matches(state: &mut State, call: &Call) -> Result<()> {
    let (file, pattern) =
        (state.cluster()?.member(call.arg(1))?.directory.join(call.arg(0)), Regex::new(call.arg(2))?);
    wait_until(&call.text, call.seconds(3), || {
        let text = std::fs::read_to_string(&file)?;
        let end: String = text.chars().rev().take(2000).collect::<Vec<_>>().into_iter().rev().collect();
        ensure(pattern.is_match(&text), || end)
    })
}

fn logs_silent(state: &mut State, call: &Call) -> Result<()> {
    let members = &state.cluster()?.members;
    let loud = members.iter().find(|member| member.log_text().contains(call.arg(0)));
    ensure(loud.is_none(), || format!("{:?} does", loud.map(|member| &member.name)))
}

fn callbacks_are(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(0))?;
    wait_until(&call.text, call.seconds(2), || {
        let found = member.callbacks().join(", ");
        ensure(found == call.arg(1), || found)
    })
}

fn callbacks_contain(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(0))?;
    wait_until(&call.text, call.seconds(2), || {
        let found = member.callbacks();
        ensure(found.iter().any(|line| line == call.arg(1)), || format!("{found:?}"))
    })
}

fn timeline(state: &mut State, call: &Call) -> Result<()> {
    let found =
        state.cluster()?.member(call.arg(0))?.sql("SELECT timeline_id FROM pg_control_checkpoint()")?;
    ensure(found == call.arg(1), || found)
}

fn exit_code(state: &mut State, call: &Call) -> Result<()> {
    let found = state.exits.get(call.arg(0)).copied();
    ensure(found.map(|code| code.to_string()).as_deref() == Some(call.arg(1)), || format!("{found:?}"))
}

fn remembered_ends(state: &mut State, call: &Call) -> Result<()> {
    let name = state.remembered.clone();
    let member = state.lab()?.member_mut(&name)?;
    let code = member.wait_exit(Duration::from_secs(30))?;
    ensure(code.to_string() == call.arg(0), || format!("exit code {code}"))?;
    ensure(member.log_text().contains(call.arg(1)), || "it does not say so".into())
}

/// Down, or in recovery. An answer that does not come proves nothing.
fn no_writes(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(0))?;
    wait_until(&call.text, call.seconds(1), || {
        if member.postmaster().is_none() {
            return Ok(());
        }
        match member.sql("SELECT pg_is_in_recovery()") {
            Ok(answer) => ensure(answer == "t", || "it takes writes".into()),
            Err(error) if error.to_string().contains("still running") => Err(error),
            Err(_) => Ok(()),
        }
    })
}

fn keeps_writing(state: &mut State, call: &Call) -> Result<()> {
    keeps(state, call, "f", "it is in recovery")
}

fn keeps_reading(state: &mut State, call: &Call) -> Result<()> {
    keeps(state, call, "t", "it has been promoted")
}

fn keeps(state: &State, call: &Call, wanted: &str, otherwise: &str) -> Result<()> {
    let member = state.cluster()?.member(call.arg(0))?;
    let end = std::time::Instant::now() + call.seconds(1);
    while std::time::Instant::now() < end {
        let answer = member.sql("SELECT pg_is_in_recovery()")?;
        ensure(answer == wanted, || otherwise.into())?;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn down(state: &mut State, call: &Call) -> Result<()> {
    let member = state.cluster()?.member(call.arg(0))?;
    wait_until(&call.text, call.seconds(1), || {
        let found = member.postmaster();
        ensure(found.is_none(), || format!("{found:?} runs"))
    })
}

fn guardians(state: &State, call: &Call, wanted: usize) -> Result<()> {
    let member = state.cluster()?.member(call.arg(0))?;
    wait_until(&call.text, call.seconds(1), || {
        let found = member.guardians();
        ensure(found.len() == wanted, || format!("{found:?}"))
    })
}

fn no_guardian(state: &mut State, call: &Call) -> Result<()> {
    guardians(state, call, 0)
}

fn one_guardian(state: &mut State, call: &Call) -> Result<()> {
    guardians(state, call, 1)
}

fn same_postmasters(state: &mut State, _: &Call) -> Result<()> {
    for member in &state.cluster()?.members {
        let (now, then) = (member.postmaster(), state.postmasters.get(&member.name).copied().flatten());
        ensure(now.is_some() && now == then, || format!("{}: {then:?} before, {now:?} now", member.name))?;
    }
    Ok(())
}

fn ctl_code(state: &mut State, call: &Call) -> Result<()> {
    ensure(state.output.code.to_string() == call.arg(0), || format!("exit code {}", state.output.code))
}

fn ctl_output(state: &mut State, call: &Call) -> Result<()> {
    let text = format!("{}{}", state.output.stdout, state.output.stderr);
    ensure(text.contains(call.arg(0)), || "it does not".into())
}

fn other_sync(state: &mut State, call: &Call) -> Result<()> {
    wait_until(&call.text, call.seconds(0), || {
        let name = synchronous(state)?;
        ensure(name != state.remembered, || format!("it is {name}"))
    })
}

fn none_missing(state: &mut State, _: &Call) -> Result<()> {
    let leader = state.name("the leader")?;
    let missing = writer::missing(state.cluster()?, &leader, &state.record)?;
    ensure(missing.is_empty(), || format!("{} rows, as {:?}", missing.len(), missing.first()))
}

fn gaps(state: &mut State, call: &Call) -> Result<()> {
    let least = Duration::from_millis(call.arg(1).parse()?);
    let found = state.record.gaps(least);
    println!("  (the writer's gaps over 200 ms: {:?})", state.record.gaps(Duration::from_millis(200)));
    ensure(found.len() <= call.arg(0).parse()?, || format!("{found:?}"))
}
