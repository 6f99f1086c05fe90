//! `restart` (surface-api-ctl K15 to K19).

use patroni_core::model::Member;
use pyfmt::Value;

use super::schedule::{self, At};
use super::select::{confirm_action, names};
use super::target::Target;
use crate::click::prompt::{confirm, prompt, Console, Stdio};
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::rest::Reply;
use crate::store::global_config;

/// Runs `restart`.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let mut console = Stdio;
    let target = Target::read(context, values)?;
    let mut members = target.choose(context, values, values.text("role").unwrap_or("any"), "restart")?;
    let scheduled = ask_schedule(values, &mut console)?;
    if values.flag("pending") && scheduled.is_none() {
        members.retain(|m| m.data.get("pending_restart").is_some_and(Value::truthy));
    }
    if values.flag("any") {
        members = pick_one(members);
    }
    let body = confirmed_body(
        values,
        &members,
        scheduled.as_ref(),
        global_config(&target.view.cluster).is_paused(),
        &mut console,
    )?;
    for member in members {
        restart_member(context, member, &body, values.flag("force"))?;
    }
    Ok(())
}

fn ask_schedule(values: &Values, console: &mut impl Console) -> Result<Option<At>, CliError> {
    let asked = match values.text("scheduled") {
        None if !values.flag("force") => {
            let question =
                format!("When should the restart take place (e.g. {}) ", crate::clock::next_hour());
            Some(prompt(console, &question, Some("now"))?)
        }
        given => given.map(str::to_owned),
    };
    schedule::parse(asked.as_deref())
}

/// Any one of them; which one is of no account.
fn pick_one(members: Vec<&Member>) -> Vec<&Member> {
    let nanoseconds = jiff::Timestamp::now().subsec_nanosecond().unsigned_abs() as usize;
    let index = nanoseconds % members.len().max(1);
    members.into_iter().skip(index).take(1).collect()
}

/// Asks what is left to ask and builds the body of the requests.
fn confirmed_body(
    values: &Values,
    members: &[&Member],
    scheduled: Option<&At>,
    paused: bool,
    console: &mut impl Console,
) -> Result<Value, CliError> {
    let force = values.flag("force");
    let pending = values.flag("pending");
    match scheduled {
        Some(at) if !force => confirm_schedule(members, at, pending, console)?,
        Some(_) => {}
        None => confirm_action(members, force, "restart", console)?,
    }
    let version = match values.text("version") {
        None if !force => {
            let question = "Restart if the PostgreSQL version is less than provided (e.g. 9.5.2) ";
            prompt(console, question, Some(""))?
        }
        given => given.unwrap_or_default().to_owned(),
    };
    let mut body = Value::map();
    if pending {
        body.set("restart_pending", true);
    }
    if !version.is_empty() {
        check_version(&version)?;
        body.set("postgres_version", version);
    }
    if let Some(at) = scheduled {
        if paused {
            return Err(CliError::msg("Can't schedule restart in the paused state"));
        }
        body.set("schedule", at.iso.as_str());
    }
    if let Some(timeout) = values.text("timeout") {
        body.set("timeout", timeout);
    }
    Ok(body)
}

fn confirm_schedule(
    members: &[&Member],
    at: &At,
    pending: bool,
    console: &mut impl Console,
) -> Result<(), CliError> {
    let question = if pending {
        "The nodes needing a restart will be identified at the scheduled time, and might be different \
         from the ones showing pending restart right now. Is this fine?"
            .to_owned()
    } else {
        let names = names(members);
        format!("Are you sure you want to schedule restart of members {names} at {}?", at.spaced)
    };
    if confirm(console, &question)? {
        return Ok(());
    }
    Err(CliError::msg("Aborted scheduled restart"))
}

/// A PostgreSQL version must be `X.Y` from 10 on, or `X.Y.Z` (surface-api-ctl P11).
fn check_version(text: &str) -> Result<(), CliError> {
    let parts: Option<Vec<i64>> = text.split('.').map(pyfmt::int::parse_i64).collect();
    let Some(parts) = parts else {
        return Err(CliError::msg(format!("Invalid PostgreSQL version: {text}")));
    };
    let valid = match parts.as_slice() {
        [major, _] => *major >= 10,
        [_, _, _] => true,
        _ => false,
    };
    if valid {
        return Ok(());
    }
    Err(CliError::msg(format!("Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: {text}")))
}

fn restart_member(context: &mut Context, member: &Member, body: &Value, force: bool) -> Result<(), CliError> {
    let scheduled = member.data.get("scheduled_restart").is_some_and(Value::truthy);
    if body.get("schedule").is_some() && force && scheduled {
        let reply = context.call_or_crash(member, "DELETE", "restart", None)?;
        if reply.status >= 400 {
            crate::out::echo(&reply.failure("flush scheduled restart", &member.name));
        }
    }
    let what = format!("Waiting for the restart of {}", member.name);
    let reply = context.call_slow(member, "restart", body, what);
    let reply = reply.map_err(|e| CliError::Crash(e.traceback_line()))?;
    crate::out::echo(&outcome(&reply, &member.name));
    Ok(())
}

fn outcome(reply: &Reply, member: &str) -> String {
    match reply.status {
        200 => format!("Success: restart on member {member}"),
        202 => format!("Success: restart scheduled on member {member}"),
        409 => format!("Failed: another restart is already scheduled on member {member}"),
        _ => reply.failure("restart", member),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::click::prompt::Script;
    use crate::click::values::Val;

    #[test]
    fn version_check() {
        for (text, error) in [
            ("9.5.2", ""),
            ("15.1", ""),
            ("9.6", "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 9.6"),
            ("15", "Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: 15"),
            ("a.b", "Invalid PostgreSQL version: a.b"),
        ] {
            let shown = check_version(text).err().map(|e| e.to_string()).unwrap_or_default();
            assert_eq!(shown, error);
        }
    }

    fn values(pairs: &[(&'static str, &str)]) -> Values {
        let mut values = Values::default();
        for (name, value) in pairs {
            let value = if value.is_empty() { Val::Set } else { Val::Text((*value).to_owned()) };
            values.put(name, value);
        }
        values
    }

    #[test]
    fn body_and_questions() {
        let at = At { iso: "2030-01-01T00:00:00+01:00".into(), spaced: "2030-01-01 00:00:00+01:00".into() };
        let forced = values(&[("force", ""), ("pending", ""), ("version", "15.1"), ("timeout", "5s")]);
        let mut script = Script::new(&[]);
        let body = confirmed_body(&forced, &[], Some(&at), false, &mut script).unwrap();
        assert_eq!(
            pyfmt::json::dumps(&body),
            "{\"restart_pending\": true, \"postgres_version\": \"15.1\", \
             \"schedule\": \"2030-01-01T00:00:00+01:00\", \"timeout\": \"5s\"}"
        );
        let member = Member { name: "a".into(), ..Member::default() };
        let mut script = Script::new(&["y", ""]);
        let paused = confirmed_body(&values(&[]), &[&member], Some(&at), true, &mut script);
        assert_eq!(paused.unwrap_err().to_string(), "Can't schedule restart in the paused state");
        assert_eq!(
            script.shown,
            "Are you sure you want to schedule restart of members a at 2030-01-01 00:00:00+01:00? [y/N]: \
             Restart if the PostgreSQL version is less than provided (e.g. 9.5.2)  []: "
        );
    }
}
