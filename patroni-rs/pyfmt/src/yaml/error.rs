//! Errors of reading YAML, in the words of PyYAML (MIT) 6.0.3.

use super::reader::is_breakz;

/// A place in the document; all three count from 0, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub index: usize,
    pub line: usize,
    pub column: usize,
}

/// Why a document was refused.
///
/// `Display` is what Python prints for the exception (`str(e)`): the context, the
/// problem, and their places as `  in "<name>", line L, column C` counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct YamlError {
    class: &'static str,
    message: String,
    line: usize,
    column: usize,
}

impl YamlError {
    /// The exception's class as a traceback names it: `yaml.scanner.ScannerError`, or
    /// `ValueError` where PyYAML lets an exception of Python itself through.
    pub fn class(&self) -> &'static str {
        self.class
    }

    /// The line of the problem, from 1; 0 when there is none.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column of the problem, from 1; 0 when there is none.
    pub fn column(&self) -> usize {
        self.column
    }
}

/// An error before the name and the text of the document are known to it.
#[derive(Debug)]
pub(super) struct Fault {
    class: &'static str,
    context: Option<String>,
    context_mark: Option<Mark>,
    problem: String,
    problem_mark: Option<Mark>,
}

pub(super) type Result<T> = std::result::Result<T, Box<Fault>>;

impl Fault {
    fn marked(
        class: &'static str,
        context: Option<(&str, Mark)>,
        problem: impl Into<String>,
        mark: Mark,
    ) -> Box<Fault> {
        Box::new(Fault {
            class,
            context: context.map(|(text, _)| text.to_owned()),
            context_mark: context.map(|(_, at)| at),
            problem: problem.into(),
            problem_mark: Some(mark),
        })
    }

    pub fn scanner(context: Option<(&str, Mark)>, problem: impl Into<String>, mark: Mark) -> Box<Fault> {
        Fault::marked("yaml.scanner.ScannerError", context, problem, mark)
    }

    pub fn parser(context: Option<(&str, Mark)>, problem: impl Into<String>, mark: Mark) -> Box<Fault> {
        Fault::marked("yaml.parser.ParserError", context, problem, mark)
    }

    pub fn composer(context: Option<(&str, Mark)>, problem: impl Into<String>, mark: Mark) -> Box<Fault> {
        Fault::marked("yaml.composer.ComposerError", context, problem, mark)
    }

    pub fn constructor(context: Option<(&str, Mark)>, problem: impl Into<String>, mark: Mark) -> Box<Fault> {
        Fault::marked("yaml.constructor.ConstructorError", context, problem, mark)
    }

    /// A context without a place of its own.
    pub fn unplaced(context: &str, problem: String, mark: Mark) -> Box<Fault> {
        let mut fault = Fault::scanner(None, problem, mark);
        fault.context = Some(context.to_owned());
        fault
    }

    /// An exception of Python itself, which carries no place.
    pub fn python(class: &'static str, problem: impl Into<String>) -> Box<Fault> {
        Box::new(Fault {
            class,
            context: None,
            context_mark: None,
            problem: problem.into(),
            problem_mark: None,
        })
    }

    /// A character that YAML does not allow; `position` counts characters.
    pub fn reader(character: char, position: usize, name: &str) -> YamlError {
        let code = u32::from(character);
        YamlError {
            class: "yaml.reader.ReaderError",
            message: format!(
                "unacceptable character #x{code:04x}: special characters are not allowed\n  in \"{name}\", position {position}"
            ),
            line: 0,
            column: 0,
        }
    }

    /// The error as the caller sees it. `snippets` is the text that the offending
    /// lines are quoted from: PyYAML quotes them for strings, never for files.
    pub fn finish(self, name: &str, snippets: Option<&[char]>) -> YamlError {
        let mut lines = Vec::new();
        lines.extend(self.context);
        if let Some(mark) = self.context_mark {
            let same = self.problem_mark.is_some_and(|p| p.line == mark.line && p.column == mark.column);
            if !same {
                lines.push(place(mark, name, snippets));
            }
        }
        lines.push(self.problem);
        if let Some(mark) = self.problem_mark {
            lines.push(place(mark, name, snippets));
        }
        YamlError {
            class: self.class,
            message: lines.join("\n"),
            line: self.problem_mark.map_or(0, |m| m.line + 1),
            column: self.problem_mark.map_or(0, |m| m.column + 1),
        }
    }
}

fn place(mark: Mark, name: &str, snippets: Option<&[char]>) -> String {
    let place = format!("  in \"{name}\", line {}, column {}", mark.line + 1, mark.column + 1);
    match snippets {
        Some(text) => format!("{place}:\n{}", snippet(text, mark.index)),
        None => place,
    }
}

/// The line around `pointer`, cut to about 75 characters, with a caret below.
fn snippet(text: &[char], pointer: usize) -> String {
    const HALF: f64 = 75.0 / 2.0 - 1.0;
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let (mut head, mut start) = ("", pointer);
    while start > 0 && !is_breakz(at(start - 1)) {
        start -= 1;
        if (pointer - start) as f64 > HALF {
            head = " ... ";
            start += 5;
            break;
        }
    }
    let (mut tail, mut end) = ("", pointer);
    while end < text.len() && !is_breakz(at(end)) {
        end += 1;
        if (end - pointer) as f64 > HALF {
            tail = " ... ";
            end -= 5;
            break;
        }
    }
    let line: String = text.get(start..end).unwrap_or_default().iter().collect();
    let caret = 4 + pointer - start + head.len();
    format!("    {head}{line}{tail}\n{}^", " ".repeat(caret))
}
