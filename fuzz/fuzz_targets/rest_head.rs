//! The head of a REST request in two pieces, and what is asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patroni_api::http::head::{HeadReader, Progress};
use patroni_api::http::url::Target;
use patroni_api::route::route;

fuzz_target!(|bytes: &[u8]| {
    let mut reader = HeadReader::default();
    let (first, second) = bytes.split_at(bytes.len() / 2);
    for (part, eof) in [(first, false), (second, true)] {
        reader.buffer().extend_from_slice(part);
        if !matches!(reader.advance(eof), Progress::More) {
            break;
        }
    }
    let _ = reader.into_rest();
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(target) = Target::parse(text) {
            let _ = (target.first("lag"), route("GET", text), route("POST", text));
        }
    }
});
