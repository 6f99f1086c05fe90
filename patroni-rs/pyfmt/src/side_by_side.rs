//! Which lines of two texts belong together, as Python's `difflib._mdiff` has it: equal lines, lines that are much
//! alike, and lines that one text has alone (CPython's difflib, PSF licence; read for its rules).

use std::collections::VecDeque;

use crate::diff::{matching_blocks, opcodes, Opcode, Tag};

/// How much alike two lines must be to be one that changed.
const CUTOFF: f64 = 0.75;

/// Lines that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair<'a> {
    /// The same line in both.
    Same(&'a str),
    /// A line that was changed.
    Changed(&'a str, &'a str),
    /// A line of the first text alone.
    Removed(&'a str),
    /// A line of the second text alone.
    Added(&'a str),
}

/// The pairs of two texts, in order.
pub fn pairs<'a>(a: &[&'a str], b: &[&'a str]) -> Vec<Pair<'a>> {
    let mut marks = VecDeque::new();
    for code in opcodes(a, b, |_| false) {
        compare(a, b, code, &mut marks);
    }
    Pairing { marks, pending: 0, left: VecDeque::new(), right: VecDeque::new(), pairs: Vec::new() }.run()
}

/// A line of `difflib.ndiff`: its sign, and the text; `?` has none.
type Mark<'a> = (u8, &'a str);

fn slice<'s, 'a>(lines: &'s [&'a str], from: usize, to: usize) -> &'s [&'a str] {
    lines.get(from..to).unwrap_or_default()
}

fn compare<'a>(a: &[&'a str], b: &[&'a str], code: Opcode, marks: &mut VecDeque<Mark<'a>>) {
    let old = slice(a, code.a_start, code.a_end);
    let new = slice(b, code.b_start, code.b_end);
    match code.tag {
        Tag::Equal => marks.extend(old.iter().map(|line| (b' ', *line))),
        _ => replace(old, new, marks),
    }
}

/// Lines for other lines: first the pair that is most alike, then what is before and behind it.
fn replace<'a>(old: &[&'a str], new: &[&'a str], marks: &mut VecDeque<Mark<'a>>) {
    if old.is_empty() || new.is_empty() {
        marks.extend(old.iter().map(|line| (b'-', *line)));
        marks.extend(new.iter().map(|line| (b'+', *line)));
        return;
    }
    let mut best = (CUTOFF - 0.01, None);
    let mut same = None;
    for (j, b) in new.iter().enumerate() {
        for (i, a) in old.iter().enumerate() {
            if a == b {
                same = same.or(Some((i, j)));
            } else if let Some(ratio) = alike(a, b, best.0) {
                best = (ratio, Some((i, j)));
            }
        }
    }
    let close = best.1.filter(|_| best.0 >= CUTOFF);
    let Some((i, j)) = close.or(same) else {
        let (removed, added) = (old.iter().map(|line| (b'-', *line)), new.iter().map(|line| (b'+', *line)));
        if new.len() < old.len() {
            marks.extend(added.chain(removed));
        } else {
            marks.extend(removed.chain(added));
        }
        return;
    };
    replace(slice(old, 0, i), slice(new, 0, j), marks);
    if let (Some(a), Some(b)) = (old.get(i), new.get(j)) {
        if close.is_some() {
            intraline(a, b, marks);
        } else {
            marks.push_back((b' ', a));
        }
    }
    replace(slice(old, i + 1, old.len()), slice(new, j + 1, new.len()), marks);
}

/// A line that changed; the marks `?` tell in which of the two there is something to point at.
fn intraline<'a>(a: &'a str, b: &'a str, marks: &mut VecDeque<Mark<'a>>) {
    let codes = opcodes(&characters(a), &characters(b), junk);
    let any = |tags: &[Tag]| codes.iter().any(|code| tags.contains(&code.tag));
    marks.push_back((b'-', a));
    if any(&[Tag::Replace, Tag::Delete]) {
        marks.push_back((b'?', ""));
    }
    marks.push_back((b'+', b));
    if any(&[Tag::Replace, Tag::Insert]) {
        marks.push_back((b'?', ""));
    }
}

/// How much alike two lines are, if more than `least`.
fn alike(a: &str, b: &str, least: f64) -> Option<f64> {
    let (a, b) = (characters(a), characters(b));
    let ratio = |matches: usize| 2.0 * matches as f64 / (a.len() + b.len()).max(1) as f64;
    if ratio(a.len().min(b.len())) <= least {
        return None;
    }
    let matches = matching_blocks(&a, &b, junk).iter().map(|(_, _, size)| size).sum();
    Some(ratio(matches)).filter(|ratio| *ratio > least)
}

fn characters(line: &str) -> Vec<&str> {
    line.split("").filter(|c| !c.is_empty()).collect()
}

fn junk(character: &str) -> bool {
    matches!(character, " " | "\t")
}

/// The lines of `ndiff` put side by side. Lines of one side wait for their turn, and blanks fill up the shorter.
struct Pairing<'a> {
    marks: VecDeque<Mark<'a>>,
    /// Blanks that the left side (if positive) or the right one lacks.
    pending: i64,
    left: VecDeque<(Option<&'a str>, bool)>,
    right: VecDeque<(Option<&'a str>, bool)>,
    pairs: Vec<Pair<'a>>,
}

impl<'a> Pairing<'a> {
    fn run(mut self) -> Vec<Pair<'a>> {
        loop {
            let signs: String =
                (0..4).map(|n| self.marks.get(n).map_or('X', |(sign, _)| char::from(*sign))).collect();
            let starts = |patterns: &[&str]| patterns.iter().any(|pattern| signs.starts_with(pattern));
            if starts(&["X"]) {
                let blanks = std::mem::take(&mut self.pending);
                self.fill(blanks);
                return self.pairs;
            } else if starts(&["-?+?"]) {
                self.changed(2, 2);
            } else if starts(&["--++"]) {
                self.remove();
            } else if starts(&["--?+", "--+", "- "]) {
                let line = self.take(1);
                let blanks = std::mem::take(&mut self.pending) - 1;
                self.fill(blanks);
                self.left.push_back((line, true));
            } else if starts(&["-+?"]) {
                self.changed(1, 2);
            } else if starts(&["-?+"]) {
                self.changed(2, 1);
            } else if starts(&["-"]) {
                self.remove();
            } else if starts(&["+--"]) {
                self.add();
            } else if starts(&["+ ", "+-"]) {
                let line = self.take(1);
                let blanks = std::mem::take(&mut self.pending) + 1;
                self.fill(blanks);
                self.right.push_back((line, true));
            } else if starts(&["+"]) {
                self.add();
            } else {
                let line = self.take(1);
                self.left.push_back((line, false));
                self.right.push_back((line, false));
            }
            self.pair();
        }
    }

    /// The text of the first mark, which goes with those behind it.
    fn take(&mut self, marks: usize) -> Option<&'a str> {
        let text = self.marks.front().map(|(_, text)| *text);
        self.marks.drain(..marks.min(self.marks.len()));
        text
    }

    fn changed(&mut self, old: usize, new: usize) {
        let (old, new) = (self.take(old), self.take(new));
        self.left.push_back((old, true));
        self.right.push_back((new, true));
    }

    fn remove(&mut self) {
        self.pending -= 1;
        let line = self.take(1);
        self.left.push_back((line, true));
    }

    fn add(&mut self) {
        self.pending += 1;
        let line = self.take(1);
        self.right.push_back((line, true));
    }

    fn fill(&mut self, blanks: i64) {
        let side = if blanks < 0 { &mut self.right } else { &mut self.left };
        side.extend((0..blanks.abs()).map(|_| (None, true)));
        self.pair();
    }

    fn pair(&mut self) {
        while !self.left.is_empty() && !self.right.is_empty() {
            let (Some((old, a)), Some((new, b))) = (self.left.pop_front(), self.right.pop_front()) else {
                return;
            };
            match (old, new) {
                (Some(old), Some(new)) if a || b => self.pairs.push(Pair::Changed(old, new)),
                (Some(old), Some(_)) => self.pairs.push(Pair::Same(old)),
                (Some(old), None) => self.pairs.push(Pair::Removed(old)),
                (None, Some(new)) => self.pairs.push(Pair::Added(new)),
                (None, None) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_alike_are_one() {
        use Pair::{Added, Changed, Same};
        assert_eq!(
            pairs(&["ttl: 30\n"], &["a:\n", "- 1\n", "ttl: 20\n"]),
            [Added("a:\n"), Added("- 1\n"), Changed("ttl: 30\n", "ttl: 20\n")]
        );
        assert_eq!(
            pairs(&["x\n", "loop_wait: 10\n", "b\n"], &["x\n", "loop_wait: 10\n", "b\n", "c\n"]),
            [Same("x\n"), Same("loop_wait: 10\n"), Same("b\n"), Added("c\n")]
        );
        assert_eq!(pairs(&["abc\n"], &["xyz\n"]), [Changed("abc\n", "xyz\n")]);
    }
}
