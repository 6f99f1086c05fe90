//! In which styles a scalar can be written. Follows `analyze_scalar` of PyYAML
//! 6.0.3's emitter.py (MIT).

use super::reader::is_blankz;

/// What the text of a scalar permits.
pub(super) struct Analysis {
    pub empty: bool,
    pub multiline: bool,
    pub flow_plain: bool,
    pub block_plain: bool,
    pub single_quoted: bool,
    pub block: bool,
}

/// The line breaks that the emitter knows: a carriage return is escaped instead.
pub(super) fn is_written_break(c: char) -> bool {
    matches!(c, '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// May this character appear outside double quotes?
fn is_special(c: char, allow_unicode: bool) -> bool {
    match c {
        '\n' | ' '..='~' => false,
        '\u{feff}' => true,
        '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..='\u{10fffe}' => !allow_unicode,
        _ => true,
    }
}

#[derive(Default)]
struct Marks {
    block_indicator: bool,
    flow_indicator: bool,
    line_break: bool,
    special: bool,
    break_space: bool,
    space_break: bool,
}

impl Marks {
    /// Notes what one character rules out; the neighbours decide for some.
    fn note(&mut self, c: char, first: bool, after_space: bool, before_space: bool) {
        let (flow, block) = match c {
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@'
            | '`'
                if first =>
            {
                (true, true)
            }
            '?' | ':' if first => (true, before_space),
            '-' if first => (before_space, before_space),
            ',' | '?' | '[' | ']' | '{' | '}' => (true, false),
            ':' => (true, before_space),
            '#' => (after_space, after_space),
            _ => (false, false),
        };
        self.flow_indicator |= flow;
        self.block_indicator |= block;
    }
}

pub(super) fn analyze(text: &[char], allow_unicode: bool) -> Analysis {
    let (Some(first), Some(last)) = (text.first(), text.last()) else {
        return Analysis {
            empty: true,
            multiline: false,
            flow_plain: false,
            block_plain: true,
            single_quoted: true,
            block: false,
        };
    };
    let mut marks = Marks::default();
    if text.starts_with(&['-'; 3]) || text.starts_with(&['.'; 3]) {
        marks.flow_indicator = true;
        marks.block_indicator = true;
    }
    let mut previous = None;
    for (i, &c) in text.iter().enumerate() {
        let before_space = text.get(i + 1).is_none_or(|c| is_blankz(*c));
        let after_space = previous.is_none_or(is_blankz);
        marks.note(c, i == 0, after_space, before_space);
        marks.line_break |= is_written_break(c);
        marks.special |= is_special(c, allow_unicode);
        marks.break_space |= c == ' ' && previous.is_some_and(is_written_break);
        marks.space_break |= is_written_break(c) && previous == Some(' ');
        previous = Some(c);
    }
    let padded = [first, last].iter().any(|c| **c == ' ' || is_written_break(**c));
    let only_double = marks.space_break || marks.special;
    let plain = !(padded || marks.break_space || only_double || marks.line_break);
    Analysis {
        empty: false,
        multiline: marks.line_break,
        flow_plain: plain && !marks.flow_indicator,
        block_plain: plain && !marks.block_indicator,
        single_quoted: !(marks.break_space || only_double),
        block: !(*last == ' ' || only_double),
    }
}
