//! The JSON reader and writer: what is written reads back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pyfmt::json;

fuzz_target!(|text: &str| {
    if let Ok(value) = json::loads(text) {
        let written = json::dumps(&value);
        match json::loads(&written) {
            Ok(again) => assert_eq!(again.py_repr(), value.py_repr(), "{written}"),
            Err(e) => panic!("{e}: {written}"),
        }
    }
});
