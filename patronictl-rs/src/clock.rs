//! The local time as patronictl prints it.

use jiff::Zoned;

/// `YYYY-MM-DD HH:MM:SS.fffff`: five digits of the fraction, as the reference
/// cuts them (surface-api-ctl F9).
pub fn stamp() -> String {
    stamp_of(&Zoned::now())
}

fn stamp_of(at: &Zoned) -> String {
    let mut text = at.strftime("%Y-%m-%d %H:%M:%S.%6f").to_string();
    text.pop();
    text
}

/// `YYYY-MM-DD HH:MM:SS`.
pub fn seconds() -> String {
    Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// In one hour, for prompts: `YYYY-MM-DDTHH:MM`.
pub fn next_hour() -> String {
    let later = Zoned::now().datetime().checked_add(jiff::Span::new().hours(1));
    later.map(|at| at.strftime("%Y-%m-%dT%H:%M").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn five_digits() {
        let at: Zoned = "2026-11-21T07:13:23.929197+00:00[UTC]".parse().unwrap();
        assert_eq!(stamp_of(&at), "2026-11-21 07:13:23.92919");
    }
}
