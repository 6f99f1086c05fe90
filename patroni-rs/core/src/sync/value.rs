//! The value of `synchronous_standby_names`, read and written.

use crate::PgVersion;
use pyfmt::value::str_repr;

use super::{application_name, NameSet};

/// How PostgreSQL chooses among the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum SyncType {
    #[default]
    Off,
    Priority,
    Quorum,
}

/// A parsed `synchronous_standby_names`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncNamesValue {
    /// `FIRST` (also unspoken) or `ANY`.
    pub sync_type: SyncType,
    /// `*` is among the names.
    pub has_star: bool,
    /// How many must confirm.
    pub num: i64,
    /// The names, `*` included.
    pub members: NameSet,
}

/// Why a value cannot be read; the text is for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unparsable synchronous_standby_names value {0}")]
pub struct SyncNamesError(String);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    First,
    Any,
    Ident,
    Quoted,
    Star,
    Num,
    Comma,
    Open,
    Close,
    Junk,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::First => "first",
            Kind::Any => "any",
            Kind::Ident => "ident",
            Kind::Quoted => "dquot",
            Kind::Star => "star",
            Kind::Num => "num",
            Kind::Comma => "comma",
            Kind::Open => "parenstart",
            Kind::Close => "parenend",
            Kind::Junk => "JUNK",
        }
    }
}

struct Token<'a> {
    kind: Kind,
    text: &'a str,
    /// In characters, for messages.
    at: usize,
}

/// The first token of non-empty text: its kind, and its length in bytes.
/// `FIRST` and `ANY` are recognised even at the beginning of a longer word,
/// which then makes no sense; the reference does so too.
fn first_token(text: &str) -> (Kind, usize) {
    let prefixed = |word: &str| text.get(..word.len()).is_some_and(|t| t.eq_ignore_ascii_case(word));
    let run = |accept: fn(char) -> bool| text.find(|c| !accept(c)).unwrap_or(text.len());
    let Some(first) = text.chars().next() else {
        return (Kind::Junk, 0);
    };
    match first {
        _ if prefixed("first") => (Kind::First, 5),
        _ if prefixed("any") => (Kind::Any, 3),
        'A'..='Z' | 'a'..='z' | '_' => {
            (Kind::Ident, run(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$'))
        }
        '"' => quoted_len(text).map_or((Kind::Junk, 1), |len| (Kind::Quoted, len)),
        '*' => (Kind::Star, 1),
        c if c.is_ascii_digit() => (Kind::Num, run(|c| c.is_ascii_digit())),
        ',' => (Kind::Comma, 1),
        '(' => (Kind::Open, 1),
        ')' => (Kind::Close, 1),
        c => (Kind::Junk, c.len_utf8()),
    }
}

/// Length of a name in double quotes, in which `""` is a quote.
fn quoted_len(text: &str) -> Option<usize> {
    let (mut at, mut end) = (1, None);
    while let Some(quote) = text.get(at..)?.find('"') {
        at += quote + 1;
        end = Some(at);
        if !text.get(at..)?.starts_with('"') {
            break;
        }
        at += 1;
    }
    end
}

fn tokens(value: &str) -> Vec<Token<'_>> {
    let (mut found, mut at, mut rest) = (Vec::new(), 0, value);
    while let Some(first) = rest.chars().next() {
        let len = if first.is_whitespace() {
            first.len_utf8()
        } else {
            let (kind, len) = first_token(rest);
            found.push(Token { kind, text: rest.get(..len).unwrap_or_default(), at });
            len.max(first.len_utf8())
        };
        let (done, after) = rest.split_at(len.min(rest.len()));
        at += done.chars().count();
        rest = after;
    }
    found
}

/// Reads a value as the server has accepted it.
pub fn parse_names(value: &str) -> Result<SyncNamesValue, SyncNamesError> {
    let tokens = tokens(value);
    if tokens.is_empty() {
        return Ok(SyncNamesValue::default());
    }
    let kinds: Vec<Kind> = tokens.iter().map(|t| t.kind).collect();
    let closed = kinds.last() == Some(&Kind::Close);
    let (sync_type, head) = match kinds.as_slice() {
        [Kind::Any, Kind::Num, Kind::Open, ..] if closed => (SyncType::Quorum, 3),
        [Kind::First, Kind::Num, Kind::Open, ..] if closed => (SyncType::Priority, 3),
        [Kind::Num, Kind::Open, ..] if closed => (SyncType::Priority, 2),
        _ => (SyncType::Priority, 0),
    };
    // The number stands just before the parenthesis.
    let num = match head {
        0 => 1,
        n => tokens.get(n - 2).and_then(|t| t.text.parse().ok()).unwrap_or(i64::MAX),
    };
    let list = tokens.get(head..tokens.len() - usize::from(head > 0)).unwrap_or_default();
    let mut parsed = SyncNamesValue { sync_type, has_star: false, num, members: NameSet::new() };
    for (i, token) in list.iter().enumerate() {
        take(&mut parsed, token, i, list.len())
            .map_err(|why| SyncNamesError(format!("{}: {why}", str_repr(value))))?;
    }
    Ok(parsed)
}

/// Names and commas take turns, and a name is last.
fn take(parsed: &mut SyncNamesValue, token: &Token<'_>, i: usize, len: usize) -> Result<(), String> {
    let described = || format!("token {} {}", token.kind.name(), str_repr(token.text));
    match token.kind {
        _ if i % 2 == 1 && i + 1 == len => Err(format!("Unexpected {} at {}", described(), token.at)),
        Kind::Comma if i % 2 == 1 => Ok(()),
        _ if i % 2 == 1 => Err(format!("Got {} while expecting comma at {}", described(), token.at)),
        Kind::Ident | Kind::First | Kind::Any => {
            parsed.members.insert(token.text);
            Ok(())
        }
        Kind::Star => {
            parsed.members.insert(token.text);
            parsed.has_star = true;
            Ok(())
        }
        Kind::Quoted => {
            let inner = token.text.get(1..token.text.len() - 1).unwrap_or_default();
            parsed.members.insert(&inner.replace("\"\"", "\""));
            Ok(())
        }
        _ => Err(format!("Unexpected {} at {}", described(), token.at)),
    }
}

/// A name as it may stand in the list: plain, or in double quotes (20-10).
pub fn quote_name(name: &str) -> String {
    let mut chars = name.chars();
    let plain = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
    if plain && !name.eq_ignore_ascii_case("first") && !name.eq_ignore_ascii_case("any") {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The value that makes `names` synchronous, `num` of them at once (`None`: all).
/// `None` if there is nothing to set. No names, but a number, make it `*`.
///
/// `quorum_mode` writes `ANY n (...)` from `major_version` 100000 on; before
/// 90600 only the first name counts.
pub fn names_value(
    names: &NameSet,
    num: Option<i64>,
    quorum_mode: bool,
    major_version: PgVersion,
) -> Option<String> {
    let star = names.contains("*") || (names.is_empty() && num.is_some_and(|n| n >= 1));
    let list: Vec<String> = if star {
        vec!["*".to_owned()]
    } else {
        names.sorted().iter().map(|n| quote_name(&application_name(n, major_version))).collect()
    };
    let several = major_version.at_least(PgVersion::V9_6);
    let text = if several { list.join(",") } else { list.first().cloned().unwrap_or_default() };
    if several && (list.len() > 1 || quorum_mode && !list.is_empty()) {
        let prefix = if quorum_mode && major_version.at_least(PgVersion::V10) { "ANY " } else { "" };
        let num = num.unwrap_or_else(|| i64::try_from(list.len()).unwrap_or(i64::MAX));
        return Some(format!("{prefix}{num} ({text})"));
    }
    (!list.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::type_complexity)]
    use super::*;

    #[test]
    fn values_are_read_as_the_reference_reads_them() {
        use SyncType::{Off, Priority, Quorum};
        let cases: &[(&str, SyncType, bool, i64, &[&str])] = &[
            ("", Off, false, 0, &[]),
            ("  ", Off, false, 0, &[]),
            ("FiRsT", Priority, false, 1, &["FiRsT"]),
            ("\"1\"", Priority, false, 1, &["1"]),
            (" a , b ", Priority, false, 1, &["a", "b"]),
            ("ANY 4(\"a\",*,b)", Quorum, true, 4, &["a", "*", "b"]),
            ("2 (\"node-1\",\"node-2\")", Priority, false, 2, &["node-1", "node-2"]),
            ("FIRST 2 (a, \"b\"\"c\")", Priority, false, 2, &["a", "b\"c"]),
            ("*", Priority, true, 1, &["*"]),
            ("2 ()", Priority, false, 2, &[]),
        ];
        for (text, sync_type, has_star, num, members) in cases {
            let parsed = parse_names(text).unwrap();
            assert_eq!(
                (parsed.sync_type, parsed.has_star, parsed.num),
                (*sync_type, *has_star, *num),
                "{text}"
            );
            assert_eq!(parsed.members.iter().collect::<Vec<_>>(), *members, "{text}");
        }
    }

    #[test]
    fn errors_are_the_references() {
        // Recorded from the reference's parse_sync_standby_names().
        for (text, why) in [
            ("1", "'1': Unexpected token num '1' at 0"),
            ("a,", "'a,': Unexpected token comma ',' at 1"),
            (
                "ANY 4(\"a\" b,\"c c\")",
                "'ANY 4(\"a\" b,\"c c\")': Got token ident 'b' while expecting comma at 10",
            ),
            ("FIRST 4(\"a\",)", "'FIRST 4(\"a\",)': Unexpected token comma ',' at 11"),
            ("2 (,)", "'2 (,)': Unexpected token comma ',' at 3"),
            ("anyone", "'anyone': Unexpected token ident 'one' at 3"),
            ("first1,b", "'first1,b': Got token num '1' while expecting comma at 5"),
            ("\"a", "'\"a': Unexpected token JUNK '\"' at 0"),
        ] {
            let error = parse_names(text).unwrap_err().to_string();
            assert_eq!(error, format!("Unparsable synchronous_standby_names value {why}"));
        }
    }

    #[test]
    fn values_are_written_as_the_reference_writes_them() {
        let cases: &[(&[&str], Option<i64>, bool, PgVersion, Option<&str>)] = &[
            (&[], None, false, PgVersion::V15, None),
            (&[], Some(0), false, PgVersion::V15, None),
            (&[], Some(1), false, PgVersion::V15, Some("*")),
            (&[], Some(1), true, PgVersion::V15, Some("ANY 1 (*)")),
            (&["*"], None, false, PgVersion::V15, Some("*")),
            (&["node-2"], None, false, PgVersion::V15, Some("\"node-2\"")),
            (&["n2", "node-1"], None, false, PgVersion::V15, Some("2 (n2,\"node-1\")")),
            (&["b", "a", "Z"], None, false, PgVersion::V9_6, Some("3 (Z,a,b)")),
            (&["b", "a"], None, false, PgVersion::V9_5, Some("a")),
            (&["any"], Some(1), true, PgVersion::V10, Some("ANY 1 (\"any\")")),
            (&["a"], Some(1), true, PgVersion::V9_6, Some("1 (a)")),
            (&["a", "b"], Some(1), true, PgVersion::V10, Some("ANY 1 (a,b)")),
            (&[], Some(0), true, PgVersion::V10, None),
        ];
        for (names, num, quorum, version, expected) in cases {
            let value = names_value(&names.iter().collect(), *num, *quorum, *version);
            assert_eq!(value.as_deref(), *expected, "{names:?} {num:?} {quorum} {version}");
        }
    }
}
