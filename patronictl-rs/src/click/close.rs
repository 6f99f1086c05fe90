//! "Did you mean ...?" for mistyped options and commands.

use pyfmt::value::str_repr;

/// The known words that are close to `word` (ratio 0.6 and up, at most three),
/// as the tail of an error sentence; empty if there are none.
pub fn suggestion<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let mut close: Vec<&str> = difflib::get_close_matches(word, known, 3, 0.6);
    close.sort_unstable();
    let quoted: Vec<String> = close.iter().map(|w| str_repr(w)).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => format!(" Did you mean {one}?"),
        many => format!(" (Did you mean one of: {}?)", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_many_none() {
        let known = ["list", "restart", "resume", "reload", "remove"];
        assert_eq!(suggestion("lis", known.into_iter()), " Did you mean 'list'?");
        assert_eq!(suggestion("foo", known.into_iter()), "");
        assert_eq!(
            suggestion("relume", known.into_iter()),
            " (Did you mean one of: 'reload', 'remove', 'resume'?)"
        );
    }
}
