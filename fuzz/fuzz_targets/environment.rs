//! The environment: lines `NAME=value` become PATRONI_NAME.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patroni_config::Environment;

fuzz_target!(|text: &str| {
    let variables = text.split('\n').filter_map(|line| line.split_once('='));
    let _ = Environment::read(variables.map(|(name, value)| (format!("PATRONI_{name}"), value.to_owned())));
});
