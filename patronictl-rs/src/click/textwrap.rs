//! Filling of paragraphs, as Python's `textwrap` does it (PSF licence).
//!
//! Hyphenated words are kept whole: no text of ours breaks at a hyphen at
//! click's least width of 50.

/// Splits text into words and the white space between them.
fn chunks(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut last_space = None;
    for c in text.chars() {
        let space = c.is_ascii_whitespace();
        match out.last_mut() {
            Some(chunk) if last_space == Some(space) => chunk.push(c),
            _ => out.push(c.to_string()),
        }
        last_space = Some(space);
    }
    out
}

fn len(text: &str) -> usize {
    text.chars().count()
}

/// Fills `text` into lines of at most `width` characters, indents included.
pub fn fill(text: &str, width: usize, initial: &str, subsequent: &str) -> String {
    let mut rest: Vec<String> = chunks(text);
    rest.reverse();
    let mut lines: Vec<String> = Vec::new();
    while !rest.is_empty() {
        let indent = if lines.is_empty() { initial } else { subsequent };
        let room = width.saturating_sub(len(indent)).max(1);
        if !lines.is_empty() && rest.last().is_some_and(|c| c.trim().is_empty()) {
            rest.pop();
        }
        let line = take_line(&mut rest, room);
        if !line.is_empty() {
            lines.push(format!("{indent}{line}"));
        }
    }
    lines.join("\n")
}

/// Takes as many chunks as fit into `room`; a word longer than a line is cut.
fn take_line(rest: &mut Vec<String>, room: usize) -> String {
    let mut line: Vec<String> = Vec::new();
    let mut used = 0;
    while let Some(chunk) = rest.pop_if(|c| used + len(c) <= room) {
        used += len(&chunk);
        line.push(chunk);
    }
    if let Some(long) = rest.pop_if(|c| len(c) > room) {
        let cut = (room - used.min(room)).max(1);
        line.push(long.chars().take(cut).collect());
        rest.push(long.chars().skip(cut).collect());
    }
    if line.last().is_some_and(|c| c.trim().is_empty()) {
        line.pop();
    }
    line.concat()
}

/// One line of at most `width` characters, cut at a word with `...`.
pub fn shorten(text: &str, width: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if len(&text) <= width {
        return text;
    }
    if width < 3 {
        return "...".into();
    }
    let mut kept = String::new();
    for word in text.split(' ') {
        let next = if kept.is_empty() { word.to_owned() } else { format!("{kept} {word}") };
        if len(&next) + 3 > width {
            break;
        }
        kept = next;
    }
    format!("{kept}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_with_indents() {
        assert_eq!(fill("aaa bb cc", 6, "", "  "), "aaa bb\n  cc");
        assert_eq!(fill("abcdefgh i", 4, "", ""), "abcd\nefgh\ni");
    }

    #[test]
    fn shortens_at_a_word() {
        assert_eq!(shorten("Demote cluster to a standby cluster", 27), "Demote cluster to a...");
        assert_eq!(shorten("short", 27), "short");
        assert_eq!(shorten("short text", 2), "...");
    }
}
