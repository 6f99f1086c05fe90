//! Values made of values: arrays, rows, ranges.

use super::kinds::Kind;
use super::load::{LoadError, Loader};
use super::object::Object;

/// A list, from `{a,NULL,"b c",{...}}`; bounds that do not start at one come before the braces.
///
/// # Errors
/// An element cannot be loaded.
pub fn array(loader: &Loader, bytes: &[u8], element: Kind, delimiter: u8) -> Result<Object, LoadError> {
    let start = bytes.iter().position(|b| *b == b'{').unwrap_or(bytes.len());
    let mut rest = bytes.get(start + 1..).unwrap_or_default();
    items(loader, &mut rest, element, delimiter)
}

fn items(loader: &Loader, rest: &mut &[u8], element: Kind, delimiter: u8) -> Result<Object, LoadError> {
    let mut list = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        match *first {
            b'}' => {
                *rest = after;
                break;
            }
            b'{' => {
                *rest = after;
                list.push(items(loader, rest, element, delimiter)?);
            }
            b'"' => {
                *rest = after;
                let word = quoted(rest, false);
                list.push(loader.load(element, &word)?);
            }
            byte if byte == delimiter => *rest = after,
            _ => {
                let end = rest.iter().position(|b| *b == delimiter || *b == b'}').unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                *rest = after;
                list.push(if word == b"NULL" { Object::NONE } else { loader.load(element, word)? });
            }
        }
    }
    Ok(Object::List(list))
}

/// What comes before the closing quote; `doubled` if two of them mean one.
fn quoted(rest: &mut &[u8], doubled: bool) -> Vec<u8> {
    let mut word = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        *rest = after;
        match (first, after.split_first()) {
            (b'"', Some((b'"', beyond))) if doubled => {
                word.push(b'"');
                *rest = beyond;
            }
            (b'"', _) => break,
            (b'\\', Some((next, beyond))) => {
                word.push(*next);
                *rest = beyond;
            }
            (byte, _) => word.push(*byte),
        }
    }
    word
}

/// A tuple of texts: the server does not tell the types of a row's fields.
pub fn record(loader: &Loader, bytes: &[u8]) -> Object {
    let inner = bytes.strip_prefix(b"(").and_then(|b| b.strip_suffix(b")")).unwrap_or(bytes);
    let mut fields = Vec::new();
    let mut rest = inner;
    // A row of one null prints like one without fields, and is taken for that.
    while !rest.is_empty() {
        match rest.split_first() {
            Some((b'"', after)) => {
                rest = after;
                let word = quoted(&mut rest, true);
                fields.push(loader.text(&word));
            }
            Some((b',', _)) => fields.push(Object::NONE),
            _ => {
                let end = rest.iter().position(|b| *b == b',').unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                fields.push(loader.text(word));
                rest = after;
            }
        }
        if rest == b"," {
            fields.push(Object::NONE);
        }
        rest = rest.strip_prefix(b",").unwrap_or(rest);
    }
    Object::Tuple(fields)
}

/// A `Range`, and how long its text was.
///
/// # Errors
/// A bound cannot be loaded.
pub fn range(loader: &Loader, bytes: &[u8], kind: Kind) -> Result<(Object, usize), LoadError> {
    let other = |text: String, repr: String| Object::Other { class: "Range", text, repr };
    if bytes.starts_with(b"empty") {
        return Ok((other("empty".into(), "Range(empty=True)".into()), 5));
    }
    let failed = || {
        let text = String::from_utf8_lossy(bytes);
        LoadError::Data(format!("failed to parse range: '{text}'"))
    };
    let (open, mut rest) = bytes.split_first().ok_or_else(failed)?;
    let lower = bound(loader, &mut rest, b",", kind)?;
    rest = rest.strip_prefix(b",").ok_or_else(failed)?;
    let upper = bound(loader, &mut rest, b")]", kind)?;
    let (close, rest) = rest.split_first().ok_or_else(failed)?;
    let open = if lower.is_none() { '(' } else { char::from(*open) };
    let close = if upper.is_none() { ')' } else { char::from(*close) };
    let (lower, upper) = (lower.unwrap_or(Object::NONE), upper.unwrap_or(Object::NONE));
    let text = format!("{open}{}, {}{close}", lower.text(), upper.text());
    let repr = format!("Range({}, {}, '{open}{close}')", lower.repr(), upper.repr());
    Ok((other(text, repr), bytes.len() - rest.len()))
}

fn bound(loader: &Loader, rest: &mut &[u8], ends: &[u8], kind: Kind) -> Result<Option<Object>, LoadError> {
    if let Some(after) = rest.strip_prefix(b"\"") {
        *rest = after;
        let word = quoted(rest, true);
        return loader.load(kind, &word).map(Some);
    }
    let end = rest.iter().position(|b| ends.contains(b)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    if word.is_empty() {
        Ok(None)
    } else {
        loader.load(kind, word).map(Some)
    }
}

/// A `Multirange`.
///
/// # Errors
/// A bound cannot be loaded.
pub fn multirange(loader: &Loader, bytes: &[u8], kind: Kind) -> Result<Object, LoadError> {
    let mut rest = bytes.strip_prefix(b"{").and_then(|b| b.strip_suffix(b"}")).unwrap_or_default();
    let (mut texts, mut reprs) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (one, length) = range(loader, rest, kind)?;
        texts.push(one.text());
        reprs.push(one.repr());
        let after = rest.get(length..).unwrap_or_default();
        rest = after.strip_prefix(b",").unwrap_or(after);
    }
    Ok(Object::Other {
        class: "Multirange",
        text: format!("{{{}}}", texts.join(", ")),
        repr: format!("Multirange([{}])", reprs.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn repr(oid: u32, text: &str) -> String {
        Loader::new(|_| None).load(Kind::of(oid), text.as_bytes()).unwrap().repr()
    }

    #[test]
    fn values_of_values() {
        for (oid, text, expected) in [
            (1009, "{a,NULL,\"b \\\"c\",\"NULL\",\"\"}", "['a', None, 'b \"c', 'NULL', '']"),
            (1007, "[0:1]={1,2}", "[1, 2]"),
            (1007, "{{1,2},{3,4}}", "[[1, 2], [3, 4]]"),
            (1007, "{}", "[]"),
            (1231, "{1.5}", "[Decimal('1.5')]"),
            (1020, "{(3,4),(1,2);(3,4),(1,2)}", "['(3,4),(1,2)', '(3,4),(1,2)']"),
            (2249, "(1,a)", "('1', 'a')"),
            (2249, "()", "()"),
            (2249, "(,)", "(None, None)"),
            (2249, "(1,)", "('1', None)"),
            (2249, "(\"a b\",\"c\"\"d\",\"e\\\\f\",)", "('a b', 'c\"d', 'e\\\\f', None)"),
            (2287, "{\"(1,2)\"}", "[('1', '2')]"),
            (3904, "[1,3)", "Range(1, 3, '[)')"),
            (3904, "[1,)", "Range(1, None, '[)')"),
            (3904, "(,)", "Range(None, None, '()')"),
            (3904, "empty", "Range(empty=True)"),
            (3906, "[1,2]", "Range(Decimal('1'), Decimal('2'), '[]')"),
            (4451, "{[1,3),[5,7)}", "Multirange([Range(1, 3, '[)'), Range(5, 7, '[)')])"),
            (4451, "{}", "Multirange([])"),
            (3905, "{\"[1,3)\"}", "[Range(1, 3, '[)')]"),
        ] {
            assert_eq!(repr(oid, text), expected, "{text}");
        }
    }
}
