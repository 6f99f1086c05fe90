//! The shape of commands, options and arguments.

/// What an option's value must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No value: present or not.
    Flag,
    /// Any text.
    Text,
    /// A Python `int`.
    Int,
    /// A Python `float`.
    Float,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A file whose bytes are read while parsing; `-` is stdin.
    File,
}

impl Kind {
    /// The word shown for the value in help, with its leading space.
    pub fn metavar(self) -> String {
        match self {
            Kind::Flag => String::new(),
            Kind::Text => " TEXT".into(),
            Kind::Int => " INTEGER".into(),
            Kind::Float => " FLOAT".into(),
            Kind::File => " FILENAME".into(),
            Kind::Choice(words) => format!(" [{}]", words.join("|")),
        }
    }
}

/// An option.
#[derive(Debug, Clone, Copy)]
pub struct Opt {
    /// The name its value is kept under.
    pub name: &'static str,
    /// Its spellings in the order of declaration (errors show them so).
    pub decls: &'static [&'static str],
    /// What its value must be.
    pub kind: Kind,
    /// Whether each occurrence adds a value, instead of the last one winning.
    pub multiple: bool,
    /// The help sentence.
    pub help: &'static str,
    /// An addition to the reference's: help, completion and "did you mean" do not show it.
    pub hidden: bool,
}

impl Opt {
    /// An option that takes a value, or is a flag; the last one wins.
    pub const fn new(
        name: &'static str,
        decls: &'static [&'static str],
        kind: Kind,
        help: &'static str,
    ) -> Opt {
        Opt { name, decls, kind, multiple: false, help, hidden: false }
    }

    /// An option whose occurrences add up.
    pub const fn many(name: &'static str, decls: &'static [&'static str], help: &'static str) -> Opt {
        Opt { name, decls, kind: Kind::Text, multiple: true, help, hidden: false }
    }

    /// The same, and nothing of the reference's output shows it.
    pub const fn hidden(self) -> Opt {
        Opt { hidden: true, ..self }
    }

    /// How errors name the option: `'--role' / '-r'`.
    pub fn hint(&self) -> String {
        let quoted: Vec<String> = self.decls.iter().map(|d| format!("'{d}'")).collect();
        quoted.join(" / ")
    }

    /// The first column of help: short spellings first, then the value's word.
    pub fn record(&self) -> String {
        let mut decls: Vec<&str> = self.decls.to_vec();
        decls.sort_by_key(|d| if d.starts_with("--") { 2 } else { 1 });
        format!("{}{}", decls.join(", "), self.kind.metavar())
    }
}

/// A positional argument.
#[derive(Debug, Clone, Copy)]
pub struct Arg {
    /// The name its value is kept under.
    pub name: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// Whether it takes all that is left.
    pub many: bool,
    /// The only words allowed; empty for any text.
    pub choices: &'static [&'static str],
}

impl Arg {
    /// How usage lines and errors show it: `[CLUSTER_NAME]`, `{restart|switchover}`.
    pub fn metavar(&self) -> String {
        let mut text = if self.choices.is_empty() {
            self.name.to_uppercase()
        } else {
            format!("{{{}}}", self.choices.join("|"))
        };
        if !self.required {
            text = format!("[{text}]");
        }
        if self.many {
            text.push_str("...");
        }
        text
    }
}

/// A command.
#[derive(Debug, Clone, Copy)]
pub struct Command {
    /// The word that calls it.
    pub name: &'static str,
    /// Its help sentence.
    pub help: &'static str,
    /// Its options, in the order of help.
    pub options: &'static [Opt],
    /// Its arguments, in order.
    pub args: &'static [Arg],
}

/// The program: its own options and its commands, sorted by name.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The program itself, as a command.
    pub root: Command,
    /// The commands.
    pub commands: &'static [Command],
    /// Additions to the reference's, which its help does not show.
    pub additions: &'static [Command],
}

/// The option that every command has, last.
pub const HELP: Opt = Opt::new("help", &["--help"], Kind::Flag, "Show this message and exit.");

impl Command {
    /// All options including `--help`.
    pub fn all_options(&self) -> impl Iterator<Item = &Opt> {
        self.options.iter().chain(std::iter::once(&HELP))
    }

    /// Those that the reference has as well.
    pub fn shown_options(&self) -> impl Iterator<Item = &Opt> {
        self.all_options().filter(|option| !option.hidden)
    }
}

impl Group {
    /// The command of that name.
    pub fn find(&self, name: &str) -> Option<&'static Command> {
        self.commands.iter().find(|c| c.name == name)
    }
}
