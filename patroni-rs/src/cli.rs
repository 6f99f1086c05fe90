//! The command line of `patroni`, with argparse's rules and words (surface-config 7.1).

mod help;

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Run the daemon.
    Run,
    /// `--validate-config`.
    Validate {
        /// `--ignore-listen-port`
        ignore_listen_port: bool,
        /// `--print`
        print: bool,
    },
    /// `--generate-sample-config`.
    GenerateSample,
    /// `--generate-config`.
    Generate {
        /// `--dsn`
        dsn: Option<String>,
    },
    /// `--build-info`: an addition, which help does not show.
    BuildInfo,
    /// `--man-pages DIRECTORY`: writes the manual pages; an addition for packagers, which help does not show.
    ManPages {
        /// Where `man1` and `man5` are.
        directory: String,
    },
    /// Print this and end with that code.
    Exit {
        /// To standard output, or to standard error when the code is not 0.
        text: String,
        /// Exit code.
        code: i32,
    },
}

/// A parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// What to do.
    pub mode: Mode,
    /// The configuration file; may be empty.
    pub config_file: String,
}

const LONG: [&str; 8] = [
    "--help",
    "--version",
    "--validate-config",
    "--generate-sample-config",
    "--generate-config",
    "--dsn",
    "--ignore-listen-port",
    "--print",
];

struct Parser {
    exclusive: Option<&'static str>,
    build_info: bool,
    dsn: Option<String>,
    ignore_listen_port: bool,
    print: bool,
    files: Vec<String>,
}

/// The manual page of the program.
#[must_use]
pub fn manual_page() -> String {
    help::manual_page()
}

/// Parses what follows the program's name.
pub fn parse(args: impl IntoIterator<Item = String>) -> Args {
    let args: Vec<String> = args.into_iter().collect();
    if let [option, directory] = &args[..] {
        if option == "--man-pages" {
            return Args {
                mode: Mode::ManPages { directory: directory.clone() },
                config_file: String::new(),
            };
        }
    }
    let mut parser = Parser {
        exclusive: None,
        build_info: false,
        dsn: None,
        ignore_listen_port: false,
        print: false,
        files: Vec::new(),
    };
    let mode = match parser.read(args) {
        Ok(()) => parser.mode(),
        Err((text, code)) => Mode::Exit { text, code },
    };
    Args { mode, config_file: parser.files.into_iter().next().unwrap_or_default() }
}

type Stop = (String, i32);

fn error(text: &str) -> Stop {
    (format!("{}patroni: error: {text}\n", help::usage(help::columns())), 2)
}

impl Parser {
    fn read(&mut self, args: impl IntoIterator<Item = String>) -> Result<(), Stop> {
        let mut args = args.into_iter();
        let mut unknown = Vec::new();
        while let Some(arg) = args.next() {
            if arg == "--" {
                self.files.extend(args.by_ref());
            } else if arg == "--build-info" {
                // In full only: what the reference makes of abbreviations stays.
                self.build_info = true;
            } else if let Some(long) = arg.strip_prefix("--") {
                self.long(&arg, long, &mut args, &mut unknown)?;
            } else if arg.len() > 1 && arg.starts_with('-') {
                self.short(&arg, &mut unknown)?;
            } else {
                self.files.push(arg);
            }
        }
        unknown.extend(self.files.iter().skip(1).cloned());
        if unknown.is_empty() {
            return Ok(());
        }
        Err(error(&format!("unrecognized arguments: {}", unknown.join(" "))))
    }

    fn long(
        &mut self,
        arg: &str,
        long: &str,
        args: &mut impl Iterator<Item = String>,
        unknown: &mut Vec<String>,
    ) -> Result<(), Stop> {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (format!("--{name}"), Some(value.to_owned())),
            None => (arg.to_owned(), None),
        };
        let exact: Vec<&str> = LONG.iter().copied().filter(|l| *l == name).collect();
        let found = if exact.is_empty() {
            LONG.iter().copied().filter(|l| l.starts_with(&name)).collect()
        } else {
            exact
        };
        let option = match found[..] {
            [option] => option,
            [] => {
                unknown.push(arg.to_owned());
                return Ok(());
            }
            _ => {
                return Err(error(&format!("ambiguous option: {arg} could match {}", found.join(", "))));
            }
        };
        if option == "--dsn" {
            let value = value.or_else(|| args.next().filter(|a| !a.starts_with('-')));
            self.dsn = Some(value.ok_or_else(|| error("argument --dsn: expected one argument"))?);
            return Ok(());
        }
        if let Some(value) = value {
            let shown = match option {
                "--help" => "-h/--help",
                "--ignore-listen-port" => "--ignore-listen-port/-i",
                "--print" => "--print/-p",
                other => other,
            };
            let value = pyfmt::value::str_repr(&value);
            return Err(error(&format!("argument {shown}: ignored explicit argument {value}")));
        }
        self.flag(option)
    }

    fn short(&mut self, arg: &str, unknown: &mut Vec<String>) -> Result<(), Stop> {
        for c in arg.chars().skip(1) {
            match c {
                'h' => self.flag("--help")?,
                'i' => self.flag("--ignore-listen-port")?,
                'p' => self.flag("--print")?,
                _ => {
                    unknown.push(arg.to_owned());
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn flag(&mut self, option: &'static str) -> Result<(), Stop> {
        match option {
            "--help" => Err((help::page(help::columns()), 0)),
            "--version" => Err((format!("patroni {}\n", patroni_core::ha::VERSION), 0)),
            "--ignore-listen-port" => {
                self.ignore_listen_port = true;
                Ok(())
            }
            "--print" => {
                self.print = true;
                Ok(())
            }
            mode => {
                if let Some(other) = self.exclusive.filter(|other| *other != mode) {
                    return Err(error(&format!("argument {mode}: not allowed with argument {other}")));
                }
                self.exclusive = Some(mode);
                Ok(())
            }
        }
    }

    fn mode(&mut self) -> Mode {
        match self.exclusive {
            _ if self.build_info => Mode::BuildInfo,
            Some("--validate-config") => {
                Mode::Validate { ignore_listen_port: self.ignore_listen_port, print: self.print }
            }
            Some("--generate-sample-config") => Mode::GenerateSample,
            Some("--generate-config") => Mode::Generate { dsn: self.dsn.take() },
            _ => Mode::Run,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(args: &[&str]) -> Mode {
        parse(args.iter().map(|a| (*a).to_owned())).mode
    }

    #[test]
    fn argparse_rules() {
        assert_eq!(mode(&["a.yml"]), Mode::Run);
        assert_eq!(mode(&["--val", "a", "-ip"]), Mode::Validate { ignore_listen_port: true, print: true });
        assert_eq!(mode(&["--build-info"]), Mode::BuildInfo);
        assert!(matches!(mode(&["--build"]), Mode::Exit { code: 2, .. }));
        assert!(matches!(mode(&["--ver"]), Mode::Exit { code: 0, text } if text == "patroni 4.1.5\n"));
        for (args, message) in [
            (
                vec!["--gen"],
                "ambiguous option: --gen could match --generate-sample-config, --generate-config",
            ),
            (vec!["a", "b"], "unrecognized arguments: b"),
            (vec!["--bogus"], "unrecognized arguments: --bogus"),
            (vec!["--dsn"], "argument --dsn: expected one argument"),
            (
                vec!["--validate-config", "--generate-config"],
                "argument --generate-config: not allowed with argument --validate-config",
            ),
        ] {
            let usage = help::usage(help::columns());
            let expected = format!("{usage}patroni: error: {message}\n");
            assert_eq!(mode(&args), Mode::Exit { text: expected, code: 2 });
        }
    }
}
