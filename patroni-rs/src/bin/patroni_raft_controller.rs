//! `patroni_raft_controller`: a member of the Raft cluster without PostgreSQL (surface-config 13.4).

use std::io::Write;
use std::time::Duration;

use patroni_config::{Check, Config, Environment};
use patroni_core::timing::Timing;
use patroni_raft::node::Node;
use patroni_rs::{log, process, startup};
use tokio::signal::unix::{signal, SignalKind};

const USAGE: &str = "usage: patroni_raft_controller [-h] [--version] [configfile]\n";
const HELP: &str = "
positional arguments:
  configfile  Patroni may also read the configuration from the
              PATRONI_CONFIGURATION environment variable

options:
  -h, --help  show this help message and exit
  --version   show program's version number and exit
";

/// What the program ends with, and what it says.
type End = (i32, String);

fn main() {
    process::keep_heap_small();
    let config_file = match parse(std::env::args().skip(1)) {
        Ok(file) => file,
        Err(end) => finish(end),
    };
    process::set_umask();
    let environment = match log::before_start(startup::read_environment) {
        Ok(environment) => environment,
        Err(text) => finish((1, format!("{text}\n"))),
    };
    finish(run(&config_file, &environment))
}

fn finish((code, text): End) -> ! {
    // A closed pipe is not worth a panic.
    let _ = match code {
        0 => std::io::stdout().write_all(text.as_bytes()),
        _ => std::io::stderr().write_all(text.as_bytes()),
    };
    std::process::exit(code)
}

/// The configuration file; argparse takes the beginning of a long option for it.
fn parse(args: impl Iterator<Item = String>) -> Result<String, End> {
    let (mut files, mut unknown, mut only_files) = (Vec::new(), Vec::new(), false);
    for arg in args {
        let begins = |option: &str| arg.len() > 2 && option.starts_with(arg.as_str());
        if only_files || arg == "-" || !arg.starts_with('-') {
            files.push(arg);
        } else if arg == "--" {
            only_files = true;
        } else if arg == "-h" || begins("--help") {
            return Err((0, format!("{USAGE}{HELP}")));
        } else if begins("--version") {
            return Err((0, format!("patroni_raft_controller {}\n", patroni_core::ha::VERSION)));
        } else {
            unknown.push(arg);
        }
    }
    unknown.extend(files.iter().skip(1).cloned());
    if !unknown.is_empty() {
        let text = format!("unrecognized arguments: {}", unknown.join(" "));
        return Err((2, format!("{USAGE}patroni_raft_controller: error: {text}\n")));
    }
    Ok(files.into_iter().next().unwrap_or_default())
}

fn run(config_file: &str, environment: &Environment) -> End {
    let loaded = log::before_start(|| Config::load(config_file, environment, &Check::NotEmpty));
    let config = match loaded {
        Ok(config) => config,
        Err(e) => return (1, format!("{e}\n")),
    };
    let log = match startup::start_log(&config) {
        Ok(log) => log,
        Err(e) => return (1, format!("{e}\n")),
    };
    let retry = Timing::default_seconds("retry_timeout");
    let retry = Duration::from_secs(u64::try_from(retry).unwrap_or(10));
    let own = config.effective().get("raft").filter(|raft| raft.get("self_addr").is_some_and(|a| a.truthy()));
    let Some(section) = own else {
        log.flush();
        return (1, "raft.self_addr is not configured\n".into());
    };
    let node = patroni_dcs::raft_member(section, false, retry).and_then(Node::start);
    let node = match node {
        Ok(node) => node,
        Err(e) => {
            log.flush();
            return (1, format!("{e}\n"));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let waited = runtime.and_then(|runtime| runtime.block_on(wait_for_end(config, &log)));
    node.join();
    let flushed = log.flush();
    match waited {
        Ok(()) if flushed => (0, String::new()),
        Ok(()) => (5, String::new()),
        Err(e) => (1, format!("{e}\n")),
    }
}

/// Until SIGTERM or SIGINT. SIGHUP reads the file again, for the log; addresses and files stay, as in the reference.
async fn wait_for_end(mut config: Config, log: &log::Log) -> std::io::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => reload(&mut config, log),
        }
    }
}

fn reload(config: &mut Config, log: &log::Log) {
    if config.reload_local().is_none() {
        return;
    }
    let settings = log::Settings::from_config(config.effective().get("log"), process::original_umask());
    if let Err(e) = settings.and_then(|(settings, _)| log.apply(settings)) {
        tracing::error!(target: "patroni.config", "Exception when reloading local configuration: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argparse_rules() {
        let parsed = |args: &[&str]| parse(args.iter().map(|arg| (*arg).to_owned()));
        assert_eq!(parsed(&[]), Ok(String::new()));
        assert_eq!(parsed(&["a.yml"]), Ok("a.yml".into()));
        assert_eq!(parsed(&["--ver"]), Err((0, "patroni_raft_controller 4.1.5\n".into())));
        assert!(matches!(parsed(&["-h"]), Err((0, text)) if text.starts_with(USAGE)));
        for (args, unknown) in [(&["--bad"][..], "--bad"), (&["a", "b"], "b"), (&["-x", "a"], "-x")] {
            let text = format!("{USAGE}patroni_raft_controller: error: unrecognized arguments: {unknown}\n");
            assert_eq!(parsed(args), Err((2, text)));
        }
    }
}
