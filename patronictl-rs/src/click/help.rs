//! Help pages and usage lines in click's layout.

use super::spec::{Command, Group};
use super::textwrap::{fill, shorten};

/// The page width click takes for a terminal of `columns` columns.
pub fn page_width(columns: usize) -> usize {
    columns.min(80).saturating_sub(2).max(50)
}

/// The number of columns: `COLUMNS` if it is a number above 0, else that of
/// the terminal behind stdout, else 80 (Python's `shutil.get_terminal_size`).
pub fn columns(env: Option<&str>, terminal: Option<usize>) -> usize {
    env.and_then(|text| text.trim().parse::<usize>().ok())
        .filter(|n| *n > 0)
        .or(terminal.filter(|n| *n > 0))
        .unwrap_or(80)
}

/// The usage line(s) of the program or, with `command`, of a command.
pub fn usage(group: &Group, command: Option<&Command>, width: usize) -> String {
    let path = command_path(group, command);
    let prefix = format!("Usage: {path} ");
    let pieces = match command {
        None => "[OPTIONS] COMMAND [ARGS]...".to_owned(),
        Some(c) => std::iter::once("[OPTIONS]".to_owned())
            .chain(c.args.iter().map(|a| a.metavar()))
            .collect::<Vec<_>>()
            .join(" "),
    };
    if width >= prefix.len() + 20 {
        let indent = " ".repeat(prefix.len());
        format!("{}\n", fill(&pieces, width, &prefix, &indent))
    } else {
        let indent = " ".repeat("Usage: ".len() + 4);
        format!("{prefix}\n{}\n", fill(&pieces, width, &indent, &indent))
    }
}

/// `patronictl` or `patronictl COMMAND`.
pub fn command_path(group: &Group, command: Option<&Command>) -> String {
    match command {
        None => group.root.name.to_owned(),
        Some(c) => format!("{} {}", group.root.name, c.name),
    }
}

/// The help page, without the last line end.
pub fn page(group: &Group, command: Option<&Command>, width: usize) -> String {
    let shown = command.unwrap_or(&group.root);
    let mut out = usage(group, command, width);
    out.push('\n');
    out.push_str(&fill(shown.help, width, "  ", "  "));
    out.push_str("\n\nOptions:\n");
    let options: Vec<(String, String)> =
        shown.shown_options().map(|o| (o.record(), o.help.to_owned())).collect();
    definitions(&mut out, &options, width);
    if command.is_none() {
        out.push_str("\nCommands:\n");
        let longest = group.commands.iter().map(|c| c.name.len()).max().unwrap_or(0);
        let limit = width.saturating_sub(6 + longest);
        let commands: Vec<(String, String)> =
            group.commands.iter().map(|c| (c.name.to_owned(), shorten(c.help, limit))).collect();
        definitions(&mut out, &commands, width);
    }
    out.truncate(out.trim_end_matches('\n').len());
    out
}

/// A two-column list, indented by two; the first column is at most 30 wide.
fn definitions(out: &mut String, rows: &[(String, String)], width: usize) {
    let widest = rows.iter().map(|(first, _)| first.chars().count()).max().unwrap_or(0);
    let first_col = widest.min(30) + 2;
    let text_width = width.saturating_sub(first_col + 2).max(10);
    let hang = " ".repeat(first_col + 2);
    for (first, second) in rows {
        out.push_str("  ");
        out.push_str(first);
        let used = first.chars().count();
        if used <= first_col - 2 {
            out.push_str(&" ".repeat(first_col - used));
        } else {
            out.push('\n');
            out.push_str(&hang);
        }
        let text = fill(second, text_width, "", "").replace('\n', &format!("\n{hang}"));
        out.push_str(&text);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn width_of_the_page() {
        for (columns, width) in [(200, 78), (80, 78), (60, 58), (52, 50), (40, 50), (1, 50)] {
            assert_eq!(page_width(columns), width);
        }
        assert_eq!(columns(Some("0"), Some(60)), 60);
        assert_eq!(columns(Some("x"), None), 80);
        assert_eq!(columns(Some("70"), Some(60)), 70);
    }
}
