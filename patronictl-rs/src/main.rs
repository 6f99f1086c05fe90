//! `patronictl`: the command line of Patroni clusters, as the reference
//! (Patroni 4.1.5) behaves byte for byte.
//!
//! A command reads the DCS once, decides with pure functions, asks the user,
//! and then speaks to the members' REST APIs or writes to the DCS.

mod cli;
mod click;
mod clock;
mod commands;
mod context;
mod dcs_url;
mod log;
mod out;
mod output;
mod progress;
mod rest;
mod settings;
mod signals;
mod sql;
mod store;
mod terminal;

/// The version of Patroni that we stand for.
pub const VERSION: &str = "4.1.5";

fn main() {
    signals::watch_interrupt();
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    std::process::exit(cli::main(&words));
}
