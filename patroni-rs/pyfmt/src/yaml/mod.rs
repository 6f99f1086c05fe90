//! YAML as PyYAML 6.0.3 reads (`yaml.safe_load`) and writes it (`yaml.safe_dump`).
//!
//! Ports of PyYAML's reader, scanner, parser, composer, resolver, constructor,
//! representer, serializer and emitter (MIT, Copyright (c) 2017-2021 Ingy döt Net,
//! Copyright (c) 2006-2016 Kirill Simonov). Its own code and no YAML 1.2 library, as
//! existing configurations hold what only PyYAML takes: `on`, `017`, `1:30`, tabs
//! where 1.2 has none, flow collections that other scanners refuse.

mod analyze;
mod compose;
mod construct;
mod emit;
mod error;
mod parser;
mod reader;
mod represent;
mod resolve;
mod scalar;
mod scan_scalar;
mod scan_tag;
mod scanner;
mod sharing;
mod token;
mod write;

pub use error::YamlError;
pub use sharing::{Document, Sharing};

use crate::value::Value;
use error::Fault;

/// `yaml.safe_load` of a string. An empty document is [`Value::Null`]; a `!!set` is a
/// mapping to null, the pairs of `!!omap` and `!!pairs` are lists of two.
///
/// # Errors
/// The text is not one YAML document, holds a tag or a value that PyYAML refuses, or
/// its aliases expand without bound. The offending line is quoted.
pub fn load(text: &str) -> Result<Value, YamlError> {
    Ok(load_document(text)?.value)
}

/// As [`load`], with what aliases and merge keys made one object.
///
/// # Errors
/// As [`load`].
pub fn load_document(text: &str) -> Result<Document, YamlError> {
    read(text, "<unicode string>", true)
}

/// `yaml.safe_load` of a file that the caller has read: `name` is its path as the
/// errors show it. They quote no lines, as PyYAML's do not for files.
///
/// # Errors
/// As [`load`].
pub fn load_named(text: &str, name: &str) -> Result<Document, YamlError> {
    read(text, name, false)
}

fn read(text: &str, name: &str, quote: bool) -> Result<Document, YamlError> {
    let reader = reader::Reader::new(text).map_err(|(c, at)| Fault::reader(c, at, name))?;
    let mut parser = parser::Parser::new(scanner::Scanner::new(reader));
    let value = compose::compose(&mut parser).and_then(|document| match document {
        Some((nodes, root)) => construct::construct(nodes, root),
        None => Ok(Document::default()),
    });
    value.map_err(|fault| fault.finish(name, quote.then(|| parser.scanner.reader.text())))
}

/// How [`dump`] writes; the default is that of `yaml.safe_dump`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DumpOptions {
    /// Collections as `[a, b]` and `{a: b}`.
    pub default_flow_style: bool,
    /// Mappings in the order of their keys, if Python can compare them.
    pub sort_keys: bool,
    /// The column, in characters, after which lines fold.
    pub width: usize,
    /// Characters outside ASCII as they are, not escaped.
    pub allow_unicode: bool,
    /// Columns per level, 2 to 9.
    pub indent: usize,
}

impl Default for DumpOptions {
    fn default() -> DumpOptions {
        DumpOptions { default_flow_style: false, sort_keys: true, width: 80, allow_unicode: false, indent: 2 }
    }
}

/// `yaml.safe_dump(value, ...)`, byte for byte, of a value in which nothing is shared.
pub fn dump(value: &Value, options: DumpOptions) -> String {
    emit::Emitter::new(options).document(value, &Sharing::default())
}

/// As [`dump`], with `&id001` and `*id001` for what is one object.
pub fn dump_document(document: &Document, options: DumpOptions) -> String {
    emit::Emitter::new(options).document(&document.value, &document.sharing)
}
