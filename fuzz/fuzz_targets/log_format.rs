//! The `log` section: levels, formats, dateformat; and a record written by them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use patroni_rs::log::{LevelNo, Record, Settings};

fuzz_target!(|text: &str| {
    let Ok(section) = pyfmt::yaml::load(text) else { return };
    let mut sections = vec![section];
    for key in ["format", "dateformat"] {
        let mut section = pyfmt::Value::map();
        section.set(key, text);
        sections.push(section);
    }
    for section in sections {
        let Ok((settings, _)) = Settings::from_config(Some(&section), 0o022) else { continue };
        let record = Record {
            level: LevelNo::WARNING,
            name: "patroni.ha",
            message: text.to_owned(),
            exception: (text.len() % 2 == 0).then(|| text.to_owned()),
            created_us: 1_700_000_000_123_456,
            file: "src/main.rs",
            line: 7,
            thread_name: "MainThread".into(),
            thread: 1,
        };
        let _ = settings.format.render(&record, settings.dateformat.as_deref());
    }
});
