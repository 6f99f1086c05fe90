//! Every question on a terminal: answered, broken off with Ctrl-C or Ctrl-D at each of them, and on 20 columns.

use super::{case, Case};

/// A command line, and its questions with their answers.
const DIALOGUES: &[(&str, &[(&str, &str)])] = &[
    ("switchover demo", &[("Primary [a]: ", "\r"), ("[]: ", "b\r"), ("[now]: ", "\r"), ("[y/N]: ", "y\r")]),
    ("failover demo", &[("[]: ", "b\r"), ("[y/N]: ", "y\r")]),
    ("failover sync", &[("[]: ", "c\r"), ("[y/N]: ", "y\r"), ("[y/N]: ", "y\r")]),
    ("restart demo b", &[("[now]: ", "\r"), ("[y/N]: ", "y\r"), ("[]: ", "\r")]),
    ("restart demo b --scheduled 2199-01-01T00:00", &[("[y/N]: ", "y\r"), ("[]: ", "15.1\r")]),
    ("reinit ports", &[("[]: ", "b\r"), ("[y/N]: ", "y\r")]),
    ("reload demo", &[("[y/N]: ", "y\r")]),
    ("flush demo restart", &[("[y/N]: ", "y\r")]),
    ("remove demo", &[("remove: ", "demo\r"), ("remove: ", "Yes I am aware\r"), (": ", "a\r")]),
    ("demote-cluster demo --host x", &[("[y/N]: ", "n\r")]),
    ("promote-cluster standby", &[("[y/N]: ", "n\r")]),
    ("edit-config demo -s ttl=20", &[("[y/N]: ", "n\r")]),
];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (line, dialogue) in DIALOGUES {
        let one = || case(line).env("PAGER", "cat");
        cases.push(one().tty_of(20, dialogue));
        cases.push(one().tty_of(1, dialogue));
        for (index, (wait, _)) in dialogue.iter().enumerate() {
            for key in ["\u{3}", "\u{4}", "x\u{4}\u{4}\u{4}", "\u{1c}"] {
                let mut steps = dialogue[..index].to_vec();
                steps.push((*wait, key));
                cases.push(one().tty(&steps));
            }
        }
        // Answers from a file: the questions are not on lines of their own.
        let answers: String = dialogue.iter().map(|(_, keys)| keys.replace('\r', "\n")).collect();
        cases.push(one().stdin(&answers));
        cases.push(one().stdin(answers.trim_end()));
        cases.push(one().stdin(&answers.replace('\n', "\r\n")));
    }
    cases
}
