//! Prints the local configuration of a file, or its error, without checking it:
//! `fixtures/config/wild.py compare` holds that against the reference.
#![allow(missing_docs)]

use patroni_config::{Check, Config, Environment};

fn main() {
    for path in std::env::args().skip(1) {
        match Config::load(&path, &Environment::default(), &Check::Nothing) {
            Ok(config) => {
                print!("{}\0{}\0", config.local_yaml(), pyfmt::json::dumps(config.effective()));
            }
            Err(e) => print!("{e}\n\0\0"),
        }
    }
}
