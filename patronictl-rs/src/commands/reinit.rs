//! `reinit` (surface-api-ctl K20 to K22).

use std::time::Duration;

use patroni_core::model::Member;
use pyfmt::Value;

use super::select::{confirm_action, names};
use super::target::Target;
use crate::click::prompt::{confirm, Stdio};
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::progress::Progress;

/// Runs `reinit`.
pub fn run(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let force = values.flag("force");
    let target = Target::read(context, values)?;
    let members = target.choose(context, values, "replica", "reinitialize")?;
    confirm_action(&members, force, "reinitialize", &mut Stdio)?;
    let mut started = Vec::new();
    for member in members {
        if start(context, member, force, values.flag("from_leader"))? {
            started.push(member);
        }
    }
    if values.flag("wait") {
        wait(context, started)?;
    }
    Ok(())
}

/// Asks a member; one that is busy with it already may be asked again with force.
fn start(context: &mut Context, member: &Member, force: bool, from_leader: bool) -> Result<bool, CliError> {
    let mut body: Value = [("force", force), ("from_leader", from_leader)].into_iter().collect();
    loop {
        let reply = context.call_or_crash(member, "POST", "reinitialize", Some(&body))?;
        if reply.status < 400 {
            crate::out::echo(&format!("Success: reinitialize for member {}", member.name));
            return Ok(true);
        }
        crate::out::echo(&reply.failure("reinitialize", &member.name));
        let busy = reply.text().ends_with(" already in progress");
        if !busy || force || !confirm(&mut Stdio, "Do you want to cancel it and reinitialize anyway?")? {
            return Ok(false);
        }
        body.set("force", true);
    }
}

/// Asks every two seconds until no member creates a replica any more. One
/// member is told per round. A member whose copy has failed tries again forever: it is not waited for.
fn wait(context: &mut Context, mut waiting: Vec<&Member>) -> Result<(), CliError> {
    let mut shown = String::new();
    let mut failed = Vec::new();
    let mut progress = Progress::of("Waiting for the copy");
    let mut copied = String::new();
    while !waiting.is_empty() {
        let list = names(&waiting);
        if list != shown {
            progress.clear();
            crate::out::echo(&format!("Waiting for reinitialize to complete on: {list}"));
            shown = list;
        }
        progress.sleep(Duration::from_secs(2), &copied);
        let mut done = None;
        let mut told = Vec::new();
        for (index, member) in waiting.iter().enumerate() {
            let reply = context.call_or_crash(member, "GET", "patroni", None)?;
            let data = pyfmt::json::loads(&reply.text())
                .map_err(|e| CliError::Crash(format!("json.decoder.JSONDecodeError: {e}")))?;
            if let Some(why) = data.get("copy_failed").and_then(Value::as_str) {
                failed.push(format!("{} ({why})", member.name));
                done = Some((index, false));
                break;
            }
            if data.get("state").and_then(Value::as_str) != Some("creating replica") {
                done = Some((index, true));
                break;
            }
            let bytes = crate::progress::copied(&data);
            if !bytes.is_empty() {
                told.push(format!("{} {bytes}", member.name));
            }
        }
        copied = told.join("; ");
        if let Some((index, well)) = done {
            progress.clear();
            let member = waiting.remove(index);
            if well {
                crate::out::echo(&format!("Reinitialize is completed on: {}", member.name));
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(CliError::msg(format!("Reinitialize has failed on: {}; see the log there", failed.join(", "))))
}
