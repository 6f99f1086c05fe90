//! "Did you mean ...?" for mistyped options and commands.

use pyfmt::value::str_repr;

/// The known words that are close to `word` (ratio 0.6 and up, at most three),
/// as the tail of an error sentence; empty if there are none.
pub fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let mut close: Vec<(f64, &str)> = known.map(|k| (ratio(k, word), k)).filter(|(r, _)| *r >= 0.6).collect();
    close.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(a.1)));
    close.truncate(3);
    let mut close: Vec<&str> = close.into_iter().map(|(_, k)| k).collect();
    close.sort_unstable();
    let quoted: Vec<String> = close.iter().map(|w| str_repr(w)).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => format!(" Did you mean {one}?"),
        many => format!(" (Did you mean one of: {}?)", many.join(", ")),
    }
}

/// `difflib.SequenceMatcher.ratio()`: twice the characters that stay, of all.
fn ratio(a: &str, b: &str) -> f64 {
    let chars = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    let (a, b) = (chars(a), chars(b));
    let changes = pyfmt::diff::unified(&a, &b);
    let removed = changes.iter().skip(2).filter(|c| c.starts_with('-')).count();
    let all = (a.len() + b.len()).max(1);
    2.0 * (a.len() - removed.min(a.len())) as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_many_none() {
        let known = ["list", "restart", "resume", "reload", "remove"];
        assert_eq!(suggestion("lis", known.into_iter()), " Did you mean 'list'?");
        assert_eq!(suggestion("foo", known.into_iter()), "");
        assert_eq!(suggestion("relume", known.into_iter()), " (Did you mean one of: 'remove', 'resume'?)");
    }
}
