//! Prints the local configuration of a file and PATRONI_* variables, or its error, without checking it:
//! `fixtures/config/wild.py compare` holds that against the reference.
#![allow(missing_docs)]

use patroni_config::{Check, Config, Environment};

fn main() {
    for path in std::env::args().skip(1) {
        let config = Environment::read(std::env::vars())
            .and_then(|environment| Config::load(&path, &environment, &Check::Nothing));
        match config {
            Ok(config) => {
                print!("{}\0{}\0", config.local_yaml(), pyfmt::json::dumps(config.effective()));
            }
            Err(e) => print!("{e}\n\0\0"),
        }
    }
}
