//! Rows as text, the way the simple query protocol gives them.

use std::str::FromStr;

use patroni_core::model::Lsn;

use super::error::PgError;

/// One row of a result.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Row(Vec<Option<String>>);

impl Row {
    /// A row of these columns.
    pub fn new(columns: Vec<Option<String>>) -> Row {
        Row(columns)
    }

    /// The text of a column; `None` for null and for a column that is not there.
    pub fn text(&self, column: usize) -> Option<&str> {
        self.0.get(column).and_then(Option::as_deref)
    }

    /// The text of a column, owned and empty for null.
    pub fn string(&self, column: usize) -> String {
        self.text(column).unwrap_or_default().to_owned()
    }

    /// A column that is not null.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] if it is null or does not parse.
    pub fn parse<T: FromStr>(&self, column: usize) -> Result<T, PgError> {
        self.number(column)?.ok_or_else(|| PgError::Unexpected(format!("column {column} is null")))
    }

    /// A number, or null.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] if it does not parse.
    pub fn number<T: FromStr>(&self, column: usize) -> Result<Option<T>, PgError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| PgError::Unexpected(format!("column {column} can not be read: {text}")))
        };
        self.text(column).map(parse).transpose()
    }

    /// A WAL position that the statement gives as a number of bytes, or null.
    ///
    /// # Errors
    /// [`PgError::Unexpected`] if it is none.
    pub fn lsn(&self, column: usize) -> Result<Option<Lsn>, PgError> {
        Ok(self.number(column)?.map(Lsn::new))
    }

    /// A boolean; null is false.
    pub fn is_true(&self, column: usize) -> bool {
        self.text(column) == Some("t")
    }
}
