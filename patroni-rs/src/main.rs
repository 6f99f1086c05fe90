//! `patroni`: one member of a PostgreSQL cluster.

use std::io::Write;

use futures_util::FutureExt;
use patroni_config::{generate, Check, Config, Environment, Options, Outcome};
use patroni_core::build_info;
use patroni_rs::cli::{self, Args, Mode};
use patroni_rs::log;
use patroni_rs::shell::{run, Start};
use patroni_rs::{guardian, process, reaper, releaser, startup};

fn main() {
    process::keep_heap_small();
    guardian::run_if_named();
    reaper::run_if_named();
    releaser::run_if_named();
    let Args { mode, config_file } = cli::parse(std::env::args().skip(1));
    if let Mode::Exit { text, code } = &mode {
        print(text, *code);
        std::process::exit(*code);
    }
    if mode == Mode::BuildInfo {
        print(&build_info::page(patroni_net::tls_library()), 0);
        std::process::exit(0);
    }
    if let Mode::ManPages { directory } = &mode {
        if let Err(e) = write_man_pages(directory.as_ref()) {
            fail(&format!("{directory}: {e}"));
        }
        std::process::exit(0);
    }
    if mode == Mode::Run {
        process::split_off_init();
    } else {
        log::bare_warnings();
    }
    process::set_umask();
    guardian::read_switch();
    let read = if mode == Mode::Run {
        log::before_start(startup::read_environment)
    } else {
        startup::read_environment()
    };
    let environment = match read {
        Ok(environment) => environment,
        Err(text) => fail(&text),
    };
    let outcome = match mode {
        Mode::Run => run_daemon(&config_file, &environment),
        Mode::Validate { ignore_listen_port, print } => {
            let options = Options { ignore_listen_port, search_path: std::env::var("PATH").ok() };
            let outcome = patroni_config::cli_validate(&config_file, &environment, options, print);
            cannot_run(&config_file, &environment).filter(|_| outcome.code == 0).unwrap_or(outcome)
        }
        Mode::GenerateSample => {
            generate::cli_generate_sample(&config_file, &environment, &generate::HostAddress::of_this_host())
        }
        Mode::Generate { dsn } => generate::cli_generate(
            &config_file,
            dsn.as_deref(),
            &environment,
            &generate::HostAddress::of_this_host(),
            &mut patroni_rs::generate::Server,
        ),
        Mode::BuildInfo | Mode::ManPages { .. } | Mode::Exit { .. } => Outcome::default(),
    };
    print(&outcome.stdout, 0);
    print(&outcome.stderr, 1);
    if outcome.code == process::INTERRUPTED {
        process::die_of_interrupt();
    }
    std::process::exit(outcome.code);
}

fn write_man_pages(directory: &std::path::Path) -> std::io::Result<()> {
    for (section, name, page) in [
        ("man1", "patroni.1", cli::manual_page()),
        ("man5", "patroni.yml.5", patroni_config::reference::manual_page()),
    ] {
        std::fs::create_dir_all(directory.join(section))?;
        std::fs::write(directory.join(section).join(name), page)?;
    }
    Ok(())
}

/// A configuration that is right, for a store that this build does not have.
fn cannot_run(config_file: &str, environment: &Environment) -> Option<Outcome> {
    let config = Config::load(config_file, environment, &Check::NotEmpty).ok()?;
    let text = patroni_dcs::unavailable(config.effective())?;
    Some(Outcome { code: 1, stderr: format!("{text}\n"), ..Outcome::default() })
}

fn run_daemon(config_file: &str, environment: &Environment) -> Outcome {
    let refused = |text: String| Outcome { code: 1, stderr: format!("{text}\n"), ..Outcome::default() };
    let loaded = log::before_start(|| Config::load(config_file, environment, &Check::NotEmpty));
    let config = match loaded {
        Ok(config) => config,
        Err(e) => return refused(e.to_string()),
    };
    let log = match startup::start_log(&config) {
        Ok(log) => log,
        Err(e) => return refused(e),
    };
    patroni_postgres::process::evidence::reserve();
    // Two workers: a cycle that blocks on a dead disk must not stop timers and jobs.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name(log::HA_THREAD)
        .build();
    let code = match runtime {
        Ok(runtime) => {
            let daemon = std::panic::AssertUnwindSafe(run(Start { config, log: log.clone() }));
            match runtime.block_on(daemon.catch_unwind()) {
                Ok(code) => {
                    runtime.shutdown_background();
                    code
                }
                Err(_) => {
                    let text = "Unexpected exception in the main loop: the daemon ends";
                    tracing::error!(target: "patroni.__main__", critical = true, "{text}");
                    log.flush();
                    process::end_at_once(process::PANICKED)
                }
            }
        }
        Err(e) => {
            tracing::error!(target: "patroni.__main__", critical = true, "{e}");
            1
        }
    };
    // What a full queue ends with, whatever else happened (surface-config 7.3).
    let code = if log.flush() { code } else { 5 };
    Outcome { code, ..Outcome::default() }
}

fn print(text: &str, code: i32) {
    // A closed pipe is not worth a panic.
    let _ = if code == 0 {
        std::io::stdout().write_all(text.as_bytes())
    } else {
        std::io::stderr().write_all(text.as_bytes())
    };
}

fn fail(text: &str) -> ! {
    print(&format!("{text}\n"), 1);
    std::process::exit(1)
}
