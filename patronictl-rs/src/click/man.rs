//! Manual pages (man(7), section 1), made from the table of commands like the help pages.

use std::path::Path;

use super::spec::{Command, Group, Kind, Opt};

/// Variables that the program takes, and what they mean.
const ENVIRONMENT: &[(&str, &str)] = &[
    ("PATRONICTL_CONFIG_FILE", "The configuration file, where --config-file is not given."),
    ("PATRONI_<SECTION>_<OPTION>", "Settings that count more than those of the configuration file."),
    (
        "PATRONI_LOG_LEVEL, PATRONI_LOGLEVEL, LOGLEVEL",
        "From which level on messages go to stderr; WARNING by default.",
    ),
    ("EDITOR, PAGER", "The programs of edit-config."),
    ("PGHOST, PGUSER, PGPASSFILE ...", "What query takes for its connections, as libpq does."),
];

/// Writes all pages into a directory: `patronictl.1`, and `patronictl-list.1` and so on.
///
/// # Errors
/// The directory or a file cannot be written.
pub fn write_all(group: &Group, version: &str, directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join(format!("{}.1", group.root.name)), page(group, None, version))?;
    for command in group.commands.iter().chain(group.additions) {
        let name = format!("{}-{}.1", group.root.name, command.name);
        std::fs::write(directory.join(name), page(group, Some(command), version))?;
    }
    Ok(())
}

/// The page of the program, or of a command.
pub fn page(group: &Group, command: Option<&Command>, version: &str) -> String {
    let shown = command.unwrap_or(&group.root);
    let program = group.root.name;
    let name = command.map_or(program.to_owned(), |c| format!("{program}-{}", c.name));
    let mut out = format!(
        ".TH {} 1 \"\" \"Patroni {version}\" \"Patroni\"\n.SH NAME\n{} \\- {}\n.SH SYNOPSIS\n",
        escaped(&name.to_uppercase()),
        escaped(&name),
        escaped(shown.help.trim_end_matches('.'))
    );
    out.push_str(&format!(".B {}\n", escaped(&super::help::command_path(group, command))));
    out.push_str("[\\fIOPTIONS\\fR]\n");
    match command {
        None => out.push_str("\\fICOMMAND\\fR [\\fIARGS\\fR]...\n"),
        Some(command) => {
            for arg in command.args {
                out.push_str(&format!("{}\n", escaped(&arg.metavar())));
            }
        }
    }
    out.push_str(&format!(".SH DESCRIPTION\n{}\n.SH OPTIONS\n", sentence(shown.help)));
    for option in shown.all_options() {
        out.push_str(&format!(".TP\n{}\n{}\n", record(option), sentence(option.help)));
    }
    if command.is_none() {
        out.push_str(".SH COMMANDS\n");
        for command in group.commands.iter().chain(group.additions) {
            let page = escaped(&format!("{program}-{}", command.name));
            out.push_str(&format!(".TP\n.BR {page} (1)\n{}\n", sentence(command.help)));
        }
        out.push_str(".SH ENVIRONMENT\n");
        for (variable, meaning) in ENVIRONMENT {
            out.push_str(&format!(".TP\n.B {}\n{}\n", escaped(variable), sentence(meaning)));
        }
    }
    out.push_str(
        ".SH EXIT STATUS\n0 on success, 1 after an error or an answer of no, 2 for a wrong command line.\n",
    );
    if command.is_some() {
        out.push_str(&format!(".SH SEE ALSO\n.BR {} (1)\n", escaped(program)));
    }
    out
}

fn record(option: &Opt) -> String {
    let mut decls: Vec<&str> = option.decls.to_vec();
    decls.sort_by_key(|d| d.starts_with("--"));
    let bold: Vec<String> = decls.iter().map(|decl| format!("\\fB{}\\fR", escaped(decl))).collect();
    let value = match option.kind {
        Kind::Choice(words) => format!(" {}", escaped(&words.join("|"))),
        kind => escaped(&kind.metavar()),
    };
    let value = value.trim_start();
    let value = if value.is_empty() { String::new() } else { format!(" \\fI{value}\\fR") };
    format!("{}{value}", bold.join(", "))
}

fn sentence(text: &str) -> String {
    let text = escaped(text);
    if text.ends_with(['.', '?', ')']) {
        text
    } else {
        format!("{text}.")
    }
}

/// Text that troff leaves as it is.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    match text.chars().next() {
        Some('.' | '\'') => format!("\\&{text}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::table::GROUP;

    #[test]
    fn every_option_has_its_entry() {
        for command in GROUP.commands {
            let page = page(&GROUP, Some(command), "1");
            assert_eq!(page.matches("\n.TP\n").count(), command.all_options().count(), "{}", command.name);
            assert!(page.lines().all(|line| !line.starts_with('\'') && !line.is_empty()), "{page}");
        }
        let page = page(&GROUP, None, "4.1.5");
        assert!(page.starts_with(".TH PATRONICTL 1 \"\" \"Patroni 4.1.5\" \"Patroni\"\n"));
        assert!(page
            .contains(".TP\n\\fB\\-c\\fR, \\fB\\-\\-config\\-file\\fR \\fITEXT\\fR\nConfiguration file.\n"));
        assert!(page.contains(".TP\n.BR patronictl\\-edit\\-config (1)\n"));
    }
}
