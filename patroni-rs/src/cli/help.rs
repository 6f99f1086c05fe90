//! argparse's pages: usage and help, as wide as the terminal is.

const PROGRAM: &str = "patroni";

const OPTIONS: [&str; 6] = [
    "[-h]",
    "[--version]",
    "[--validate-config | --generate-sample-config | --generate-config]",
    "[--dsn DSN]",
    "[--ignore-listen-port]",
    "[--print]",
];

const POSITIONALS: [&str; 1] = ["[configfile]"];

/// Sections; what an argument is called, and what it does.
const HELP: [(&str, &[(&str, &str)]); 2] = [
    (
        "positional arguments",
        &[("configfile", "Patroni may also read the configuration from the PATRONI_CONFIGURATION environment variable")],
    ),
    (
        "options",
        &[
            ("-h, --help", "show this help message and exit"),
            ("--version", "show program's version number and exit"),
            ("--validate-config", "Run config validator and exit"),
            ("--generate-sample-config", "Generate a sample Patroni yaml configuration file"),
            ("--generate-config", "Generate a Patroni yaml configuration file for a running instance"),
            (
                "--dsn DSN",
                "Optional DSN string of the instance to be used as a source for config generation. Superuser \
                 connection is required.",
            ),
            (
                "--ignore-listen-port, -i",
                "Ignore `listen` ports already in use. Can only be used with --validate-config",
            ),
            (
                "--print, -p",
                "Print out local configuration (incl. environment configuration overrides). Can only be used with \
                 --validate-config",
            ),
        ],
    ),
];

/// What Python's `shutil.get_terminal_size` finds.
#[allow(unsafe_code)]
pub fn columns() -> usize {
    let set = std::env::var("COLUMNS").ok().and_then(|text| text.trim().parse().ok()).filter(|n| *n > 0);
    set.unwrap_or_else(|| {
        // SAFETY: all-zero is a valid winsize, and the call fills it in or fails.
        let (found, size) = unsafe {
            let mut size: libc::winsize = std::mem::zeroed();
            (libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size), size)
        };
        Some(usize::from(size.ws_col)).filter(|n| found == 0 && *n > 0).unwrap_or(80)
    })
}

/// The usage, with its line end.
pub fn usage(columns: usize) -> String {
    let width = columns.saturating_sub(2).max(11);
    let all: Vec<&str> = OPTIONS.iter().chain(&POSITIONALS).copied().collect();
    let whole = format!("{PROGRAM} {}", all.join(" "));
    let head = "usage: ".len() + PROGRAM.len();
    if "usage: ".len() + whole.len() <= width {
        return format!("usage: {whole}\n");
    }
    let mut lines;
    if head as f64 <= 0.75 * width as f64 {
        let first: Vec<&str> = std::iter::once(PROGRAM).chain(OPTIONS).collect();
        lines = filled(&first, head + 1, "usage: ".len(), width);
        if let Some(line) = lines.first_mut() {
            *line = line.trim_start().to_owned();
        }
        lines.extend(filled(&POSITIONALS, head + 1, head + 1, width));
    } else {
        lines = vec![PROGRAM.to_owned()];
        lines.extend(filled(&OPTIONS, 7, 7, width));
        lines.extend(filled(&POSITIONALS, 7, 7, width));
    }
    format!("usage: {}\n", lines.join("\n"))
}

/// Lines of whole parts; the first one has something of its own before it.
fn filled(parts: &[&str], indent: usize, first: usize, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line: Vec<&str> = Vec::new();
    let mut length = first;
    for part in parts {
        if length + part.len() > width && !line.is_empty() {
            lines.push(format!("{:indent$}{}", "", line.join(" ")));
            line.clear();
            length = indent;
        }
        line.push(part);
        length += part.len() + 1;
    }
    lines.push(format!("{:indent$}{}", "", line.join(" ")));
    lines
}

/// The page of `--help`.
pub fn page(columns: usize) -> String {
    let width = columns.saturating_sub(2);
    let position = 24.min(width.saturating_sub(20).max(4));
    let text_width = width.saturating_sub(position).max(11);
    let name_width = position.saturating_sub(4);
    let mut out = usage(columns);
    for (title, arguments) in HELP {
        out.push_str(&format!("\n{title}:\n"));
        for (name, text) in arguments {
            let mut lines = wrapped(text, text_width).into_iter();
            let first = lines.next().unwrap_or_default();
            if name.len() <= name_width {
                out.push_str(&format!("  {name:name_width$}  {first}\n"));
            } else {
                out.push_str(&format!("  {name}\n{:position$}{first}\n", ""));
            }
            for line in lines {
                out.push_str(&format!("{:position$}{line}\n", ""));
            }
        }
    }
    out
}

/// The manual page (man(7), section 1), from the same table as the help page.
pub fn manual_page() -> String {
    let roff = |text: &str| text.replace('\\', "\\e").replace('-', "\\-").replace('`', "");
    let version = patroni_core::ha::VERSION;
    let mut out = format!(
        ".TH PATRONI 1 \"\" \"Patroni {version}\" \"Patroni\"\n.SH NAME\npatroni \\- one member of a highly available \
         PostgreSQL cluster\n.SH SYNOPSIS\n.B patroni\n{}\n.SH DESCRIPTION\n{DESCRIPTION}",
        roff(&OPTIONS.iter().chain(&POSITIONALS).copied().collect::<Vec<_>>().join(" "))
    );
    for (title, arguments) in HELP {
        out.push_str(&format!(".SH {}\n", title.to_uppercase()));
        for (name, text) in arguments {
            out.push_str(&format!(".TP\n.B {}\n{}\n", roff(name), roff(text)));
        }
    }
    out.push_str(&format!(
        ".TP\n.B \\-\\-build\\-info\nTells which implementation this is, and exits.\n{REST}"
    ));
    out
}

const DESCRIPTION: &str = "Runs PostgreSQL as a member of a cluster: takes part in the election of a leader, promotes and demotes, makes \
and repairs replicas, and serves the REST API.\nSIGHUP reads the configuration again; SIGTERM stops PostgreSQL and ends, \
in a pause it leaves PostgreSQL running.\n";

const REST: &str = ".SH ENVIRONMENT\n.TP\n.B PATRONI_CONFIGURATION\nA whole configuration, where there is no file.\n.TP\n.B \
PATRONI_<SECTION>_<KEY>\nSettings that win over the file; patroni.yml(5) names each.\n.TP\n.B PATRONI_RS_GUARDIAN\noff: no guardian \
process.\n.SH EXIT STATUS\n0 after an orderly end, 1 after an error, 2 for a wrong command line, 5 where records of the log were \
lost at the end.\n.SH SEE ALSO\n.BR patroni.yml (5),\n.BR patronictl (1)\n";

/// Python's `textwrap.wrap`: breaks behind the hyphens of words, and in words that are too long.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut chunks: Vec<String> = Vec::new();
    for (i, word) in text.split_whitespace().enumerate() {
        if i > 0 {
            chunks.push(" ".to_owned());
        }
        let mut rest = word;
        while let Some(at) = hyphen(rest) {
            chunks.push(rest[..=at].to_owned());
            rest = &rest[at + 1..];
        }
        chunks.push(rest.to_owned());
    }
    chunks.reverse();
    let mut lines = Vec::new();
    while !chunks.is_empty() {
        if !lines.is_empty() && chunks.last().is_some_and(|c| c == " ") {
            chunks.pop();
        }
        let mut line = String::new();
        while let Some(chunk) = chunks.pop_if(|c| line.len() + c.len() <= width) {
            line.push_str(&chunk);
        }
        if let Some(long) = chunks.last_mut().filter(|c| c.len() > width) {
            let room = (width - line.len()).max(1);
            line.push_str(&long[..room]);
            *long = long[room..].to_owned();
        }
        lines.push(line.trim_end().to_owned());
    }
    lines
}

/// A hyphen between two letters and two letters.
fn hyphen(word: &str) -> Option<usize> {
    let bytes = word.as_bytes();
    let letters =
        |part: Option<&[u8]>| part.is_some_and(|p| p.len() == 2 && p.iter().all(u8::is_ascii_alphabetic));
    (2..bytes.len()).find(|at| {
        bytes.get(*at) == Some(&b'-') && letters(bytes.get(at - 2..*at)) && letters(bytes.get(at + 1..at + 3))
    })
}
