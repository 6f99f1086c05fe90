//! Printing of rows in the formats of `--format` (surface-api-ctl 12).

pub mod members;
pub mod table;
pub mod topology;

use pyfmt::yaml::{Document, DumpOptions};
use pyfmt::{Map, Value};

use crate::click::CliError;
use table::Table;

/// A format of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A table.
    Pretty,
    /// A table of members as a tree.
    Topology,
    /// Tab-separated values.
    Tsv,
    /// One line of JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Format {
    /// The format of a word; `None` for words that print nothing.
    pub fn parse(word: &str) -> Option<Format> {
        match word {
            "pretty" => Some(Format::Pretty),
            "topology" => Some(Format::Topology),
            "tsv" => Some(Format::Tsv),
            "json" => Some(Format::Json),
            "yaml" | "yml" => Some(Format::Yaml),
            _ => None,
        }
    }

    /// Is it drawn as a table?
    pub fn is_table(self) -> bool {
        matches!(self, Format::Pretty | Format::Topology)
    }
}

/// Rows to print.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The title of the table; empty for none. With a title, JSON and YAML
    /// leave out the keys whose value prints empty.
    pub title: String,
    /// The column names; `None` when the rows have no header.
    pub columns: Option<Vec<String>>,
    /// The cells.
    pub rows: Vec<Vec<Value>>,
    /// The names of right-aligned columns.
    pub right: &'static [&'static str],
}

/// The text of the rows in a format, with its line end.
///
/// # Errors
/// [`CliError::Crash`] for values that JSON cannot hold.
pub fn render(rows: &Rows, format: Format, delimiter: &str) -> Result<String, CliError> {
    match format {
        Format::Json => json(&elements(rows)),
        Format::Yaml => Ok(yaml_text(&elements(rows))),
        Format::Tsv => Ok(tsv(rows, delimiter)),
        // The reference's table needs a column.
        Format::Pretty | Format::Topology if rows.columns.as_ref().is_some_and(Vec::is_empty) => {
            Err(CliError::Crash("ValueError: max() arg is an empty sequence".to_owned()))
        }
        Format::Pretty | Format::Topology => Ok(pretty(rows)),
    }
}

/// YAML as the reference shows configuration: sorted keys, width 200.
pub fn yaml(value: &Value, flow: bool) -> String {
    pyfmt::yaml::dump(value, DumpOptions { default_flow_style: flow, ..configuration() })
}

/// The same of a document in which parts may be one object: they are written once.
pub fn yaml_document(document: &Document) -> String {
    pyfmt::yaml::dump_document(document, configuration())
}

fn configuration() -> DumpOptions {
    DumpOptions { default_flow_style: false, width: 200, allow_unicode: true, ..DumpOptions::default() }
}

fn json(value: &Value) -> Result<String, CliError> {
    check_json(value)?;
    Ok(json_text(value))
}

/// A line of JSON.
pub fn json_text(value: &Value) -> String {
    format!("{}\n", pyfmt::json::dumps(value))
}

/// YAML, and the line end after it.
pub fn yaml_text(value: &Value) -> String {
    format!("{}\n", yaml(value, false))
}

/// Python's `json` refuses what has no JSON form.
///
/// # Errors
/// [`CliError::Crash`] for such values.
pub fn check_json(value: &Value) -> Result<(), CliError> {
    match value {
        Value::Timestamp(_) | Value::Bytes(_) => Err(CliError::Crash(format!(
            "TypeError: Object of type {} is not JSON serializable",
            value.type_name()
        ))),
        Value::List(list) => list.iter().try_for_each(check_json),
        Value::Map(map) => map.values().try_for_each(check_json),
        _ => Ok(()),
    }
}

fn elements(rows: &Rows) -> Value {
    let columns = rows.columns.as_deref().unwrap_or_default();
    let element = |row: &Vec<Value>| {
        let cells = columns.iter().zip(row);
        let kept = cells.filter(|(_, v)| rows.title.is_empty() || !v.py_str().is_empty());
        Value::Map(kept.map(|(k, v)| (Value::from(k.as_str()), v.clone())).collect::<Map>())
    };
    Value::List(rows.rows.iter().map(element).collect())
}

fn tsv(rows: &Rows, delimiter: &str) -> String {
    let mut out = String::new();
    if let Some(columns) = rows.columns.as_deref().filter(|c| !c.is_empty()) {
        out.push_str(&columns.join(delimiter));
        out.push('\n');
    }
    for row in &rows.rows {
        let cells: Vec<String> = row.iter().map(Value::py_str).collect();
        out.push_str(&cells.join(delimiter));
        out.push('\n');
    }
    out
}

fn pretty(rows: &Rows) -> String {
    let cells: Vec<Vec<String>> = rows.rows.iter().map(|r| r.iter().map(Value::py_str).collect()).collect();
    let unnamed = || {
        let count = cells.first().map_or(0, Vec::len);
        (1..=count).map(|i| format!("Field {i}")).collect()
    };
    let columns: Vec<String> = rows.columns.clone().unwrap_or_else(unnamed);
    let table = Table { title: &rows.title, columns: &columns, rows: &cells, right: rows.right };
    format!("{}\n", table.draw())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(title: &str) -> Rows {
        Rows {
            title: title.into(),
            columns: Some(vec!["a".into(), "b".into()]),
            rows: vec![vec![Value::Int(0), "".into()], vec![Value::Null, true.into()]],
            right: &[],
        }
    }

    #[test]
    fn json_drops_empty_values_only_under_a_title() {
        let shown = |title: &str| render(&rows(title), Format::Json, "\t").unwrap();
        assert_eq!(shown(" t "), "[{\"a\": 0}, {\"a\": null, \"b\": true}]\n");
        assert_eq!(shown(""), "[{\"a\": 0, \"b\": \"\"}, {\"a\": null, \"b\": true}]\n");
    }

    #[test]
    fn tsv_prints_python_text() {
        assert_eq!(render(&rows(""), Format::Tsv, "|").unwrap(), "a|b\n0|\nNone|True\n");
    }

    #[test]
    fn rows_without_header() {
        let rows = Rows { columns: None, ..rows("") };
        assert_eq!(render(&rows, Format::Json, "\t").unwrap(), "[{}, {}]\n");
        assert!(render(&rows, Format::Pretty, "\t").unwrap().contains("| Field 1 | Field 2 |"));
    }
}
