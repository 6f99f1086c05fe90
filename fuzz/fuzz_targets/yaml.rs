//! The YAML reader, and the emitter on what it has read: a dump reads back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyfmt::yaml;

fuzz_target!(|text: &str| {
    if let Ok(document) = yaml::load_document(text) {
        let _ = document.value.py_repr();
        let options = yaml::DumpOptions { sort_keys: false, ..yaml::DumpOptions::default() };
        let written = yaml::dump_document(&document, options);
        match yaml::load(&written) {
            Ok(again) => assert_eq!(again.py_repr(), document.value.py_repr(), "{written}"),
            // What is just within a limit may be beyond it as it is written.
            Err(e) => assert!(["MemoryError", "RecursionError"].contains(&e.class()), "{e}\n{written}"),
        }
    }
});
