//! Text to stdout and stderr. A reader that went away ends the program with
//! exit code 1 and no message, as in the reference.

use std::io::{ErrorKind, IsTerminal, Write};

/// Prints a line.
pub fn echo(line: &str) {
    print(&format!("{line}\n"));
}

/// Prints text as it is.
pub fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    match written {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => std::process::exit(1),
        Err(e) => {
            stderr(&format!("{e}\n"));
            std::process::exit(1);
        }
        Ok(()) => {}
    }
}

/// Prints text to stderr; if that fails there is nobody left to tell.
pub fn stderr(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Is stdout a terminal?
pub fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Clears the screen, if stdout is one.
pub fn clear() {
    if is_terminal() {
        print("\x1b[2J\x1b[1;1H");
    }
}
