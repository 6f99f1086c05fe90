//! Configuration files (surface-config 1.4 to 1.6 and 1.11).

use std::io::Read;
use std::path::Path;

use patroni_core::parse::patch_document;
use pyfmt::yaml::{self, Document};
use pyfmt::Value;

use crate::error::{os_error, ConfigError, Result};

/// Reads the file, or merges the files `*.yml` and `*.yaml` of the directory in
/// the order of their names.
///
/// # Errors
/// `path` is neither file nor directory; a file cannot be read, is not YAML, or
/// is not a mapping.
pub(crate) fn load_path(path: &str) -> Result<Document> {
    let mut config = Document::from(Value::map());
    for file in files_of(path)? {
        patch_document(&mut config, load_file(&file)?);
    }
    Ok(config)
}

fn files_of(path: &str) -> Result<Vec<String>> {
    if Path::new(path).is_file() {
        return Ok(vec![path.to_owned()]);
    }
    if !Path::new(path).is_dir() {
        tracing::error!(target: "patroni.config", "config path {path} is neither directory nor file");
        return Err(ConfigError::refused("invalid config path"));
    }
    let entries = std::fs::read_dir(path).map_err(|e| os_error(&e, path))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".yml") || name.ends_with(".yaml"))
        .collect();
    names.sort();
    let slash = if path.ends_with('/') { "" } else { "/" };
    let paths = names.into_iter().map(|name| format!("{path}{slash}{name}"));
    Ok(paths.filter(|file| Path::new(file).is_file()).collect())
}

/// The longest file that is read, in bytes. Configurations have some kilobytes; the reference
/// reads any file, in minutes and gigabytes.
const MAX_FILE: u64 = 32 * 1024 * 1024;

fn load_file(path: &str) -> Result<Document> {
    let file = std::fs::File::open(path).map_err(|e| os_error(&e, path))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|e| os_error(&e, path))?;
    if bytes.len() as u64 > MAX_FILE {
        let text = format!("configuration file {path} is longer than {MAX_FILE} bytes");
        return Err(ConfigError::exception("MemoryError", text));
    }
    let text = String::from_utf8(bytes).map_err(|e| not_utf8(&e))?;
    // Files are opened in Python's text mode, which knows one line end.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let document = yaml::load_named(&text, path)?;
    if document.value.as_map().is_none() {
        tracing::error!(target: "patroni.config", "{path} does not contain a dict");
        return Err(ConfigError::refused(format!("invalid config file {path}")));
    }
    Ok(document)
}

fn not_utf8(error: &std::string::FromUtf8Error) -> ConfigError {
    let at = error.utf8_error().valid_up_to();
    let byte = error.as_bytes().get(at).copied().unwrap_or_default();
    // Python decodes piecewise; a sequence cut off by the end is a piece of its own.
    let (at, reason) = match (error.utf8_error().error_len(), byte) {
        (None, _) => (0, "unexpected end of data"),
        (_, 0xc2..=0xf4) => (at, "invalid continuation byte"),
        _ => (at, "invalid start byte"),
    };
    let text = format!("'utf-8' codec can't decode byte 0x{byte:02x} in position {at}: {reason}");
    ConfigError::exception("UnicodeDecodeError", text)
}
