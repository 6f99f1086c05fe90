//! The table of the reference: PrettyTable's default style with a title laid
//! over the first rule (surface-api-ctl 12.2; PrettyTable is BSD-3-Clause).

use unicode_width::UnicodeWidthStr;

/// A table of text cells; a cell may have several lines.
pub struct Table<'a> {
    /// The text laid over the first rule from its second character on.
    pub title: &'a str,
    /// The column headers; several columns may share one.
    pub columns: &'a [String],
    /// The rows.
    pub rows: &'a [Vec<String>],
    /// The headers of the columns that are right-aligned.
    pub right: &'a [&'a str],
}

impl Table<'_> {
    /// The drawing, without the last line end.
    pub fn draw(&self) -> String {
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|r| r.iter().map(|c| expand_tabs(c)).collect()).collect();
        let multi_line = rows.iter().flatten().any(|c| c.contains('\n'));
        let widths = self.widths(&rows);
        let rule = rule(&widths);
        let mut lines = vec![overlay(&rule, self.title)];
        self.draw_row(&mut lines, self.columns, &widths);
        lines.push(rule.clone());
        for row in &rows {
            self.draw_row(&mut lines, row, &widths);
            if multi_line {
                lines.push(rule.clone());
            }
        }
        if !multi_line {
            lines.push(rule);
        }
        lines.join("\n")
    }

    fn widths(&self, rows: &[Vec<String>]) -> Vec<usize> {
        let mut widths: Vec<usize> = self.columns.iter().map(|c| cell_width(&expand_tabs(c))).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell_width(cell));
            }
        }
        widths
    }

    fn draw_row(&self, lines: &mut Vec<String>, cells: &[String], widths: &[usize]) {
        let split: Vec<Vec<&str>> = cells.iter().map(|c| c.split('\n').collect()).collect();
        let height = split.iter().map(Vec::len).max().unwrap_or(1);
        for y in 0..height {
            let mut line = String::from("|");
            for ((cell, width), column) in split.iter().zip(widths).zip(self.columns) {
                let text = cell.get(y).copied().unwrap_or_default();
                let pad = " ".repeat(width.saturating_sub(expand_tabs(text).width()));
                let right = self.right.contains(&column.as_str());
                let (before, after) = if right { (pad.as_str(), "") } else { ("", pad.as_str()) };
                line.push_str(&format!(" {before}{text}{after} |"));
            }
            lines.push(line);
        }
    }
}

fn cell_width(cell: &str) -> usize {
    cell.split('\n').map(UnicodeWidthStr::width).max().unwrap_or(0)
}

fn rule(widths: &[usize]) -> String {
    let mut rule = String::from("+");
    for width in widths {
        rule.push_str(&"-".repeat(width + 2));
        rule.push('+');
    }
    rule
}

/// Lays the title over the rule. Lengths count characters, not cells: a wide
/// name shifts the line, as it does in the reference.
fn overlay(rule: &str, title: &str) -> String {
    let room = rule.len().saturating_sub(2);
    let title: String = title.chars().take(room).collect();
    let used = title.chars().count() + 1;
    format!("+{title}{}", rule.get(used..).unwrap_or_default())
}

/// Python's `str.expandtabs()`.
fn expand_tabs(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut column = 0;
    for c in text.chars() {
        match c {
            '\t' => {
                let fill = 8 - column % 8;
                out.push_str(&" ".repeat(fill));
                column += fill;
            }
            '\n' | '\r' => {
                out.push(c);
                column = 0;
            }
            c => {
                out.push(c);
                column += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(title: &str, columns: &[&str], rows: &[&[&str]], right: &[&str]) -> String {
        let columns: Vec<String> = columns.iter().map(|s| (*s).to_owned()).collect();
        let rows: Vec<Vec<String>> =
            rows.iter().map(|r| r.iter().map(|s| (*s).to_owned()).collect()).collect();
        Table { title, columns: &columns, rows: &rows, right }.draw()
    }

    #[test]
    fn rules_follow_every_row_when_a_cell_has_lines() {
        assert_eq!(
            draw("", &["a", "Lag"], &[&["x\nyy", "1"], &["z", "2"]], &["Lag"]),
            "+----+-----+\n| a  | Lag |\n+----+-----+\n| x  |   1 |\n| yy |     |\n+----+-----+\n\
             | z  |   2 |\n+----+-----+"
        );
    }

    #[test]
    fn titles() {
        assert_eq!(
            draw(" Cluster: a ", &["Member", "Host"], &[], &[]),
            "+ Cluster: a ---+\n| Member | Host |\n+--------+------+\n+--------+------+"
        );
        assert_eq!(draw(" Cluster: abcdefghijk ", &["Member"], &[], &[]).lines().next(), Some("+ Cluster+"));
    }

    #[test]
    fn wide_characters_take_two_cells() {
        assert_eq!(draw("", &["n"], &[&["日本"]], &[]), "+------+\n| n    |\n+------+\n| 日本 |\n+------+");
    }
}
