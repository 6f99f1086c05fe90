//! Unified diffs as Python's `difflib.unified_diff` with its defaults.
//!
//! After the crate difflib 0.4.0 (MIT, Dima Kudosh), itself a port of CPython's
//! difflib. Not that crate: it keeps the popular lines of long texts where Python
//! drops them, so its answers differ from 200 lines on.

use std::collections::HashMap;

/// Lines around a change.
const CONTEXT: usize = 3;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tag {
    Equal,
    Replace,
    Delete,
    Insert,
}

/// How `a[a_start..a_end]` becomes `b[b_start..b_end]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opcode {
    pub(crate) tag: Tag,
    pub(crate) a_start: usize,
    pub(crate) a_end: usize,
    pub(crate) b_start: usize,
    pub(crate) b_end: usize,
}

/// A text as `patronictl edit-config` compares it: its lines, each with a line feed,
/// and no empty lines at the end.
pub fn lines(text: &str) -> Vec<String> {
    text.trim_end_matches('\n').split('\n').map(|line| format!("{line}\n")).collect()
}

/// The lines of `difflib.unified_diff(a, b)`, which end as those of `a` and `b` do;
/// none if they are equal. The file names of the header are empty.
pub fn unified<S: AsRef<str>>(a: &[S], b: &[S]) -> Vec<String> {
    let a: Vec<&str> = a.iter().map(AsRef::as_ref).collect();
    let b: Vec<&str> = b.iter().map(AsRef::as_ref).collect();
    let mut out = Vec::new();
    for group in grouped(opcodes(&a, &b, |_| false)) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        if out.is_empty() {
            out.extend(["--- \n".to_owned(), "+++ \n".to_owned()]);
        }
        let (before, after) = (range(first.a_start, last.a_end), range(first.b_start, last.b_end));
        out.push(format!("@@ -{before} +{after} @@\n"));
        for code in &group {
            let mut add = |sign: char, lines: &[&str]| out.extend(lines.iter().map(|l| format!("{sign}{l}")));
            let removed = a.get(code.a_start..code.a_end).unwrap_or_default();
            let added = b.get(code.b_start..code.b_end).unwrap_or_default();
            if code.tag == Tag::Equal {
                add(' ', removed);
            } else {
                add('-', removed);
                add('+', added);
            }
        }
    }
    out
}

fn range(start: usize, end: usize) -> String {
    match end - start {
        1 => format!("{}", start + 1),
        0 => format!("{start},0"),
        length => format!("{},{length}", start + 1),
    }
}

/// The changes with their context, apart where more than twice of it lies between.
fn grouped(mut codes: Vec<Opcode>) -> Vec<Vec<Opcode>> {
    if let Some(first) = codes.first_mut().filter(|c| c.tag == Tag::Equal) {
        first.a_start = first.a_start.max(first.a_end.saturating_sub(CONTEXT));
        first.b_start = first.b_start.max(first.b_end.saturating_sub(CONTEXT));
    }
    if let Some(last) = codes.last_mut().filter(|c| c.tag == Tag::Equal) {
        last.a_end = last.a_end.min(last.a_start + CONTEXT);
        last.b_end = last.b_end.min(last.b_start + CONTEXT);
    }
    let (mut groups, mut group) = (Vec::new(), Vec::new());
    for mut code in codes {
        if code.tag == Tag::Equal && code.a_end - code.a_start > 2 * CONTEXT {
            group.push(Opcode { a_end: code.a_start + CONTEXT, b_end: code.b_start + CONTEXT, ..code });
            groups.push(std::mem::take(&mut group));
            code.a_start = code.a_end - CONTEXT;
            code.b_start = code.b_end - CONTEXT;
        }
        group.push(code);
    }
    groups.push(group);
    groups.retain(|group| group.iter().any(|c| c.tag != Tag::Equal));
    groups
}

/// What makes `b` of `a`. Where `junk`, no run of equal parts begins, but one may go on.
pub(crate) fn opcodes(a: &[&str], b: &[&str], junk: fn(&str) -> bool) -> Vec<Opcode> {
    let mut codes = Vec::new();
    let (mut i, mut j) = (0, 0);
    let mut blocks = matching_blocks(a, b, junk);
    blocks.push((a.len(), b.len(), 0));
    for (a_start, b_start, size) in blocks {
        let tag = match (i < a_start, j < b_start) {
            (true, true) => Some(Tag::Replace),
            (true, false) => Some(Tag::Delete),
            (false, true) => Some(Tag::Insert),
            (false, false) => None,
        };
        if let Some(tag) = tag {
            codes.push(Opcode { tag, a_start: i, a_end: a_start, b_start: j, b_end: b_start });
        }
        (i, j) = (a_start + size, b_start + size);
        if size > 0 {
            codes.push(Opcode { tag: Tag::Equal, a_start, a_end: i, b_start, b_end: j });
        }
    }
    codes
}

/// The runs of equal lines, in order, neighbours joined: start in `a`, in `b`, length.
pub(crate) fn matching_blocks(a: &[&str], b: &[&str], junk: fn(&str) -> bool) -> Vec<(usize, usize, usize)> {
    let mut places = places(b);
    places.retain(|part, _| !junk(part));
    let mut queue = vec![(0, a.len(), 0, b.len())];
    let mut found = Vec::new();
    while let Some((a_low, a_high, b_low, b_high)) = queue.pop() {
        let (i, j, size) = longest_match(a, b, &places, junk, (a_low, a_high, b_low, b_high));
        if size == 0 {
            continue;
        }
        found.push((i, j, size));
        if a_low < i && b_low < j {
            queue.push((a_low, i, b_low, j));
        }
        if i + size < a_high && j + size < b_high {
            queue.push((i + size, a_high, j + size, b_high));
        }
    }
    found.sort_unstable();
    let mut joined: Vec<(usize, usize, usize)> = Vec::new();
    for (i, j, size) in found {
        match joined.last_mut() {
            Some(last) if last.0 + last.2 == i && last.1 + last.2 == j => last.2 += size,
            _ => joined.push((i, j, size)),
        }
    }
    joined
}

/// Where each line of `b` stands, without lines that make up over one percent of a
/// long text.
fn places<'a>(b: &[&'a str]) -> HashMap<&'a str, Vec<usize>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (j, line) in b.iter().enumerate() {
        places.entry(line).or_default().push(j);
    }
    if b.len() >= 200 {
        let most = b.len() / 100 + 1;
        places.retain(|_, at| at.len() <= most);
    }
    places
}

/// The longest run of equal lines; of several the first in `a`, then in `b`.
fn longest_match(
    a: &[&str],
    b: &[&str],
    places: &HashMap<&str, Vec<usize>>,
    junk: fn(&str) -> bool,
    (a_low, a_high, b_low, b_high): (usize, usize, usize, usize),
) -> (usize, usize, usize) {
    let (mut i, mut j, mut size) = (a_low, b_low, 0);
    let mut ending_at: HashMap<usize, usize> = HashMap::new();
    for (k, line) in a.iter().enumerate().take(a_high).skip(a_low) {
        let mut now = HashMap::new();
        for &l in places.get(line).into_iter().flatten().filter(|l| (b_low..b_high).contains(*l)) {
            let length = 1 + l.checked_sub(1).and_then(|l| ending_at.get(&l)).copied().unwrap_or(0);
            now.insert(l, length);
            if length > size {
                (i, j, size) = (k + 1 - length, l + 1 - length, length);
            }
        }
        ending_at = now;
    }
    // First what is no junk, then what is.
    for wanted in [false, true] {
        let fits =
            |i: usize, j: usize| a.get(i) == b.get(j) && b.get(j).is_some_and(|part| junk(part) == wanted);
        while i > a_low && j > b_low && fits(i - 1, j - 1) {
            (i, j, size) = (i - 1, j - 1, size + 1);
        }
        while i + size < a_high && j + size < b_high && fits(i + size, j + size) {
            size += 1;
        }
    }
    (i, j, size)
}
