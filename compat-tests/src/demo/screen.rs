//! What is shown: lines that stay, and a block below them that is drawn again and again where there is a terminal.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;

use patroni_core::mutex::locked;

/// The block at the end of the terminal.
static BLOCK: Mutex<String> = Mutex::new(String::new());

/// How to show things.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    /// There is a terminal that can be drawn on.
    pub live: bool,
    /// It has colours, and nobody minds them.
    colour: bool,
}

impl Screen {
    /// By the standard output; `NO_COLOR` and `TERM=dumb` are heard.
    pub fn of_this_terminal() -> Screen {
        let live = std::io::stdout().is_terminal() && std::env::var("TERM").is_ok_and(|term| term != "dumb");
        Screen { live, colour: live && std::env::var_os("NO_COLOR").is_none() }
    }

    /// Shows a line that stays.
    pub fn say(self, text: &str) {
        let block = locked(&BLOCK);
        put(&format!("{}{text}\n{}", erase(&block), *block));
    }

    /// Shows the block anew.
    pub fn draw(self, new: String) {
        let mut block = locked(&BLOCK);
        put(&format!("{}{new}", erase(&block)));
        *block = new;
    }

    /// Good news.
    pub fn green(self, text: &str) -> String {
        self.painted("32", text)
    }

    /// Bad news.
    pub fn red(self, text: &str) -> String {
        self.painted("31", text)
    }

    /// What waits.
    pub fn yellow(self, text: &str) -> String {
        self.painted("33", text)
    }

    /// What is there for who looks for it.
    pub fn faint(self, text: &str) -> String {
        self.painted("2", text)
    }

    fn painted(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_string()
        }
    }
}

/// What takes the block away: up as many lines as it has, and clear to the end.
fn erase(block: &str) -> String {
    match block.matches('\n').count() {
        0 => String::new(),
        lines => format!("\u{1b}[{lines}A\r\u{1b}[J"),
    }
}

/// Writes; a terminal that is gone is no reason to end before everything else has.
fn put(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::{erase, Screen};

    #[test]
    fn takes_away_as_many_lines_as_were_drawn() {
        assert_eq!(erase(""), "");
        assert_eq!(erase("a\nb\n"), "\u{1b}[2A\r\u{1b}[J");
    }

    #[test]
    fn paints_only_where_there_are_colours() {
        assert_eq!(Screen { live: true, colour: false }.green("x"), "x");
        assert_eq!(Screen { live: true, colour: true }.red("x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
