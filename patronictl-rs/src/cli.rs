//! From the command line to a command: parsing, configuration, dispatch.

use std::io::IsTerminal;

use crate::click::{complete, error::CliError, help, man, parser, spec::Command};
use crate::commands::table::{self, Run, GROUP};
use crate::context::Context;

/// Runs the program with these arguments (without its own name) and gives
/// back the exit code.
pub fn main(words: &[String]) -> i32 {
    if let Some(code) = hidden(words).or_else(completion) {
        return code;
    }
    let width = help::page_width(columns());
    let (command, outcome) = run(words);
    let error = match outcome {
        Ok(()) => return 0,
        Err(error) => error,
    };
    let (out, err, code) = error.report(&GROUP, command.as_ref(), width);
    if !out.is_empty() {
        crate::out::print(&out);
    }
    crate::out::stderr(&err);
    code
}

/// What packagers ask for, by options that help does not show: `--completion SHELL` prints the script that the shell
/// sources, `--man-pages DIRECTORY` writes the manual pages; and what tells this program from the reference, `--build-info`.
fn hidden(words: &[String]) -> Option<i32> {
    if words == ["--build-info"] {
        crate::out::print(&patroni_core::build_info::page(patroni_net::tls_library()));
        return Some(0);
    }
    let [option, value] = words else { return None };
    match option.as_str() {
        "--completion" => {
            crate::out::print(complete::script(value)?);
            Some(0)
        }
        "--man-pages" => match man::write_all(&GROUP, crate::VERSION, value.as_ref()) {
            Ok(()) => Some(0),
            Err(error) => {
                crate::out::stderr(&format!("{value}: {error}\n"));
                Some(1)
            }
        },
        _ => None,
    }
}

/// Answers a shell that completes, or prints the script for it, by click's variable.
fn completion() -> Option<i32> {
    let variable = |name: &str| std::env::var(name).ok();
    let instruction = variable("_PATRONICTL_COMPLETE").filter(|i| !i.is_empty())?;
    match complete::answer(&GROUP, &instruction, variable) {
        Ok((text, code)) => {
            crate::out::print(&text);
            Some(code)
        }
        Err(error) => {
            crate::out::stderr(&format!("{error}\n"));
            Some(1)
        }
    }
}

fn columns() -> usize {
    let terminal = || {
        if !std::io::stdout().is_terminal() {
            return None;
        }
        crate::terminal::columns()
    };
    let env = std::env::var("COLUMNS").ok();
    help::columns(env.as_deref(), terminal())
}

/// The order matters: an unknown command is told before the configuration is
/// read, and the configuration is read before a command's own arguments are
/// looked at, `--help` included.
fn run(words: &[String]) -> (Option<Command>, Result<(), CliError>) {
    let (values, (run, command), rest) = match program_part(words) {
        Ok(parts) => parts,
        Err(error) => return (None, Err(error)),
    };
    let mut context = match Context::load(&values) {
        Ok(context) => context,
        Err(error) => return (None, Err(error)),
    };
    let outcome = parser::parse(&command, &rest).and_then(|values| run(&mut context, &values));
    (Some(command), outcome)
}

type Parts = (crate::click::Values, (Run, Command), Vec<String>);

fn program_part(words: &[String]) -> Result<Parts, CliError> {
    if words.is_empty() {
        return Err(CliError::NoArguments);
    }
    let (values, rest) = parser::parse_group(&GROUP.root, words)?;
    let Some((name, rest)) = rest.split_first() else {
        return Err(CliError::Usage("Missing command.".into()));
    };
    if let Some(command) = table::find(name) {
        return Ok((values, command, rest.to_vec()));
    }
    if name.starts_with('-') {
        // After `--`: an option that comes too late to be one.
        parser::parse_group(&GROUP.root, std::slice::from_ref(name))?;
    }
    let hint = crate::click::close::suggestion(name, GROUP.commands.iter().map(|c| c.name));
    Err(CliError::Usage(format!("No such command {}.{hint}", pyfmt::value::str_repr(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        match program_part(&words) {
            Ok(_) => "ok".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn program_errors() {
        assert_eq!(text(&["lis"]), "No such command 'lis'. Did you mean 'list'?");
        assert_eq!(text(&["foo"]), "No such command 'foo'.");
        assert_eq!(text(&["--insecur", "list"]), "No such option '--insecur'. Did you mean '--insecure'?");
        assert_eq!(text(&["-k"]), "Missing command.");
        assert_eq!(text(&["-c"]), "Option '-c' requires an argument.");
        assert_eq!(text(&["--", "--foo"]), "No such option '--foo'.");
        assert_eq!(text(&["-kc", "x", "list"]), "ok");
        assert_eq!(text(&[]), "no arguments");
    }

    fn fixture(name: &str) -> String {
        let path = format!("{}/../fixtures/ctl/help/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn help_pages_are_clicks() {
        for command in GROUP.commands {
            let page = help::page(&GROUP, Some(command), 78);
            assert_eq!(format!("{page}\n"), fixture(command.name), "{}", command.name);
        }
        assert_eq!(format!("{}\n", help::page(&GROUP, None, 78)), fixture("patronictl"));
        assert_eq!(
            format!("{}\n", help::page(&GROUP, None, help::page_width(40))),
            fixture("width40_patronictl")
        );
        for (name, columns) in [("width60_edit-config", 60), ("width200_edit-config", 200)] {
            let page = help::page(&GROUP, GROUP.find("edit-config"), help::page_width(columns));
            assert_eq!(format!("{page}\n"), fixture(name));
        }
    }
}
