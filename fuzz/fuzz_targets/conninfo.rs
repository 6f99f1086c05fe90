//! Connection strings and URIs of PostgreSQL.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patroni_postgres::files::{format_dsn, parse_dsn};
use pyfmt::Value;

fuzz_target!(|text: &str| {
    for text in [text.to_owned(), format!("postgresql://{text}")] {
        if let Some(parsed) = parse_dsn(&text) {
            let mut value = Value::map();
            for (key, text) in &parsed {
                value.set(key, text.as_str());
            }
            let _ = format_dsn(&value, 180_000);
        }
    }
});
