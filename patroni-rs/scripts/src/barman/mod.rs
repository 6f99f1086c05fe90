//! `patroni_barman`: restores backups and switches configurations on a Barman host
//! through pg-backup-api (surface-config 13.3).

mod api;

use std::thread::sleep;
use std::time::Duration;

use pyfmt::value::str_repr;

use crate::args::{Exit, Opt, Parsed, Parser, Takes};
use crate::log::{uncaught, Log};
use api::{Api, Failure, Status};

const MAIN: Parser = Parser {
    program: "patroni_barman",
    help: include_str!("../help/barman.txt"),
    options: &[
        Opt::new(&["--api-url"], Takes::Text, true),
        Opt::new(&["--cert-file"], Takes::Text, false),
        Opt::new(&["--key-file"], Takes::Text, false),
        Opt::new(&["--retry-wait"], Takes::Integer, false),
        Opt::new(&["--max-retries"], Takes::Integer, false),
        Opt::new(&["--log-file"], Takes::Text, false),
    ],
    positionals: &[],
    commands: &["recover", "config-switch"],
    one_of: &[],
};

const RECOVER: Parser = Parser {
    program: "patroni_barman recover",
    help: include_str!("../help/recover.txt"),
    options: &[
        Opt::new(&["--barman-server"], Takes::Text, true),
        Opt::new(&["--backup-id"], Takes::Text, false),
        Opt::new(&["--ssh-command"], Takes::Text, true),
        Opt::new(&["--data-directory", "--datadir"], Takes::Text, true),
        Opt::new(&["--loop-wait"], Takes::Integer, false),
    ],
    positionals: &[],
    commands: &[],
    one_of: &[],
};

const CONFIG_SWITCH: Parser = Parser {
    program: "patroni_barman config-switch",
    help: include_str!("../help/config_switch.txt"),
    options: &[
        Opt::new(&["--barman-server"], Takes::Text, true),
        Opt::new(&["--barman-model"], Takes::Text, false),
        Opt::new(&["--reset"], Takes::Nothing, false),
        Opt::new(&["--switch-when"], Takes::OneOf(&["promoted", "demoted", "always"]), true),
    ],
    positionals: &[
        ("action", Takes::OneOf(&["on_role_change"])),
        ("role", Takes::OneOf(&["primary", "promoted", "standby_leader", "replica", "demoted"])),
        ("cluster", Takes::Text),
    ],
    commands: &[],
    one_of: &["--barman-model", "--reset"],
};

/// Exit codes of a subcommand.
struct Codes {
    done: i32,
    failed: i32,
    http: i32,
}

const RECOVERY: Codes = Codes { done: 0, failed: 1, http: 2 };
const SWITCH: Codes = Codes { done: 0, failed: 2, http: 3 };
const SKIPPED: i32 = 1;
const INVALID_ARGS: i32 = 4;
/// -1 and -2 of the reference.
const NO_COMMAND: i32 = 255;
const API_NOT_OK: i32 = 254;

/// Runs the program; gives its exit code.
pub fn main(args: impl Iterator<Item = String>) -> i32 {
    let words: Vec<String> = args.skip(1).collect();
    run(&words).unwrap_or_else(|exit| exit.print())
}

fn run(words: &[String]) -> Result<i32, Exit> {
    let main = MAIN.parse_known(words)?;
    let command = match &main.command {
        None => None,
        Some(("recover", words)) => Some((true, RECOVER.parse_known(words)?)),
        Some((_, words)) => Some((false, CONFIG_SWITCH.parse_known(words)?)),
    };
    MAIN.check_complete(&main, std::iter::empty())?;
    let log = match main.get("--log-file").filter(|path| !path.is_empty()).map(Log::to_file) {
        None => Log::to_stderr(),
        Some(Ok(log)) => log,
        Some(Err(e)) => return Ok(uncaught(&format!("OSError: {e}"))),
    };
    let Some((recover, options)) = command else {
        Exit { text: MAIN.help.to_owned(), code: 0 }.print();
        return Ok(NO_COMMAND);
    };
    let api = match Api::connect(&main, &log) {
        Ok(api) => api,
        Err(Failure::NotOk(text)) => {
            log.error(format!("pg-backup-api is not working: ApiNotOk({})", str_repr(&text)));
            return Ok(API_NOT_OK);
        }
        Err(failure) => return Ok(uncaught(&failure.to_string())),
    };
    Ok(if recover { restore(&api, &options, &log) } else { switch(&api, &options, &log) })
}

fn restore(api: &Api<'_>, options: &Parsed, log: &Log) -> i32 {
    let text = |name| options.text(name, "");
    let mut body = pyfmt::Value::map();
    body.set("type", "recovery");
    body.set("backup_id", options.text("--backup-id", "latest"));
    body.set("remote_ssh_command", text("--ssh-command"));
    body.set("destination_directory", text("--data-directory"));
    let wait = options.integer("--loop-wait", 10);
    let what = Operation { name: "recovery", title: "Recovery", method: "create_recovery_operation" };
    operate(api, &text("--barman-server"), &body, &what, &RECOVERY, wait, log)
}

fn switch(api: &Api<'_>, options: &Parsed, log: &Log) -> i32 {
    let (role, when) = (options.text("role", ""), options.text("--switch-when", "promoted"));
    let wanted = match when.as_str() {
        "promoted" => ["primary", "promoted"].contains(&role.as_str()),
        "demoted" => ["replica", "demoted"].contains(&role.as_str()),
        _ => true,
    };
    if !wanted {
        log.info(format!("Config switch operation was skipped (role={role}, switch_when={when})."));
        return SKIPPED;
    }
    let model = options.get("--barman-model");
    let reset = options.get("--reset").is_some();
    if model.is_some_and(|m| !m.is_empty()) == reset {
        let (model, reset) = (model.unwrap_or("None"), if reset { "True" } else { "False" });
        log.error(format!(
            "One, and only one among 'barman_model' ('{model}') and 'reset' ('{reset}') should be given"
        ));
        return INVALID_ARGS;
    }
    let mut body = pyfmt::Value::map();
    body.set("type", "config_switch");
    match model {
        Some(model) => body.set("model_name", model),
        None => body.set("reset", true),
    }
    let server = options.text("--barman-server", "");
    let what =
        Operation { name: "config switch", title: "Config switch", method: "create_config_switch_operation" };
    operate(api, &server, &body, &what, &SWITCH, 5, log)
}

struct Operation {
    name: &'static str,
    title: &'static str,
    method: &'static str,
}

/// Asks for an operation and waits for its end, looking every `wait` seconds.
fn operate(
    api: &Api<'_>,
    server: &str,
    body: &pyfmt::Value,
    what: &Operation,
    codes: &Codes,
    wait: i64,
    log: &Log,
) -> i32 {
    let Operation { name, title, method } = what;
    let id = match api.create_operation(server, body, method) {
        Ok(id) => id,
        Err(Failure::Retries(text)) => {
            log.error(format!(
                "An issue was faced while trying to create a {name} operation: RetriesExceeded({})",
                str_repr(&text)
            ));
            return codes.http;
        }
        Err(failure) => return uncaught(&failure.to_string()),
    };
    log.info(format!("Created the {name} operation with ID {id}"));
    loop {
        match api.operation_status(server, &id) {
            Ok(Status::InProgress) => {
                log.info(format!("{title} operation {id} is still in progress"));
                let Ok(wait) = u64::try_from(wait) else {
                    return uncaught("ValueError: sleep length must be non-negative");
                };
                sleep(Duration::from_secs(wait));
            }
            Ok(Status::Done) => {
                log.info(format!("{title} operation finished successfully."));
                return codes.done;
            }
            Ok(Status::Failed) => {
                log.error(format!("{title} operation failed."));
                return codes.failed;
            }
            Err(Failure::Retries(_)) => {
                log.error("Maximum number of retries exceeded, exiting.");
                return codes.http;
            }
            Err(failure) => return uncaught(&failure.to_string()),
        }
    }
}
