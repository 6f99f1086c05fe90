//! Recipes of the guide, carried out as they are printed.
//!
//! The hosts `pg1`, `pg2` ... are the members `node0`, `node1` ...; the unit and the package are the member's daemon and its kind.

use std::time::Duration;

use compat_tests::lab::wait::ensure;
use compat_tests::lab::{process, Kind, Result};
use compat_tests::page::{self, Line};

use super::state::{Call, State};
use super::steps::Step;

/// The sentences.
pub const STEPS: &[(&str, Step)] =
    &[(r#"the recipe "([\w-]+)" of the page "([\w.]+)" is carried out"#, carry_out)];

/// How long a line may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn carry_out(state: &mut State, call: &Call) -> Result<()> {
    for line in page::recipe(call.arg(1), call.arg(0))? {
        carry_out_line(state, &line).map_err(|e| format!("{}: {}: {e}", line.host, line.command))?;
    }
    Ok(())
}

/// `pg1` is `node0`.
fn member_of(host: &str) -> Result<String> {
    let number: usize = host.strip_prefix("pg").ok_or("no such host")?.parse()?;
    Ok(format!("node{}", number.checked_sub(1).ok_or("hosts are counted from 1")?))
}

fn carry_out_line(state: &mut State, line: &Line) -> Result<()> {
    let words: Vec<&str> = line.command.split(' ').collect();
    match words[..] {
        ["systemctl", "stop", "patroni"] => {
            let member = state.lab()?.member_mut(&member_of(&line.host)?)?;
            ensure(member.stop()? == 0, || "the daemon did not end with 0".into())
        }
        ["systemctl", "start", "patroni"] => {
            let name = member_of(&line.host)?;
            let lab = state.lab()?;
            lab.member_mut(&name)?.start()?;
            // The unit is of Type=notify: started means that the API answers.
            lab.wait_status(&name, "/liveness", 200, PATIENCE)
        }
        ["apt-get", "install", package] => {
            let kind = if package == "patroni" { Kind::Reference } else { Kind::Ours };
            let member = state.lab()?.member_mut(&member_of(&line.host)?)?;
            ensure(member.kind != kind, || "that one is installed already".into())?;
            member.kind = kind;
            Ok(())
        }
        _ => shell(state, line),
    }
}

/// Everything else is the shell's, with the names of this lab.
fn shell(state: &mut State, line: &Line) -> Result<()> {
    let lab = state.cluster()?;
    let mut command = line.command.clone();
    for (index, member) in lab.members.iter().enumerate() {
        let host = format!("pg{}", index + 1);
        command =
            command.replace(&format!("http://{host}:8008"), &format!("http://127.0.0.1:{}", member.rest));
        command = command.replace(&format!(" {host}"), &format!(" {}", member.name));
    }
    if line.host != "admin" {
        // The addresses of a lab are those of one machine, which the validator refuses.
        let member = lab.member(&member_of(&line.host)?)?;
        let text = std::fs::read_to_string(member.write_config()?)?;
        let file = member.directory.join("checked.yml");
        std::fs::write(&file, text.replace("connect_address: 127.0.0.1:", "connect_address: 192.0.2.1:"))?;
        compat_tests::lab::host::give_away(&file)?;
        command = command.replace("/etc/patroni/config.yml", &file.display().to_string());
    }
    let ctl = lab.ctl_command(Kind::Ours, &[])?;
    let words: Vec<String> = std::iter::once(ctl.get_program())
        .chain(ctl.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let daemon = compat_tests::lab::host::install("patroni", &lab.directory)?;
    let script = format!(
        "set -e\npatronictl() {{ {} \"$@\"; }}\npatroni() {{ '{}' \"$@\"; }}\n{command}",
        words.join(" "),
        daemon.display()
    );
    let mut shell = process::command("/bin/sh".as_ref(), &lab.directory, &lab.bin())?;
    shell.arg("-c").arg(script).envs(lab.store.environment());
    state.output = process::run(shell, PATIENCE)?;
    ensure(state.output.code == 0, || format!("exit code {}", state.output.code))
}
