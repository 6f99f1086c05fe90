//! The decision tables of the contract (surface-ha-pg): situation, status line, ordered effects.

mod busy;
mod failover;
mod leader;
mod leaderless;
mod race;
mod recovery;
mod replica;
mod startup;
mod sync;

use super::world::World;

/// A row of a table.
pub struct Row {
    /// The rule's number in surface-ha-pg.
    pub id: &'static str,
    world: World,
    pub line: &'static str,
    acts: &'static str,
    says: Vec<&'static str>,
    exit: Option<i32>,
}

impl Row {
    /// With this line in the log.
    fn says(mut self, line: &'static str) -> Row {
        self.says.push(line);
        self
    }

    /// The process ends.
    fn exits(mut self, code: i32) -> Row {
        self.exit = Some(code);
        self
    }

    /// With peers that are too late wherever the others decide: nothing but the log may change.
    fn hurried(mut self) -> Row {
        self.world.answers.hurried = true;
        self.says.clear();
        self
    }

    /// What is wrong with the engine's answer.
    pub fn check(self) -> Vec<String> {
        let mut wrong = Vec::new();
        let outcome = self.world.run();
        if outcome.line != self.line {
            wrong.push(format!("line: {}\n  want: {}", outcome.line, self.line));
        }
        let acts = outcome.acts().join(" ");
        if acts != self.acts {
            wrong.push(format!("acts: {acts}\n  want: {}", self.acts));
        }
        if outcome.exit != self.exit {
            wrong.push(format!("exit: {:?}, want {:?}", outcome.exit, self.exit));
        }
        for line in self.says.iter().filter(|line| !outcome.logged(line)) {
            let log: Vec<&str> = outcome.log.iter().map(|l| l.text.as_str()).collect();
            wrong.push(format!("not said: {line}\n  log: {log:?}"));
        }
        wrong
    }
}

fn row(id: &'static str, world: World, line: &'static str, acts: &'static str) -> Row {
    Row { id, world, line, acts, says: Vec::new(), exit: None }
}

/// Every row.
pub fn all() -> Vec<Row> {
    let mut rows = busy::rows();
    for more in [
        startup::rows(),
        recovery::rows(),
        leaderless::rows(),
        leader::rows(),
        replica::rows(),
        race::rows(),
        failover::rows(),
        sync::rows(),
    ] {
        rows.extend(more);
    }
    rows
}

#[test]
fn every_row_of_the_contract() {
    check_all(all());
}

/// An early end of a round does not change what is done.
#[test]
fn every_row_when_decisive_answers_end_the_rounds() {
    check_all(all().into_iter().map(Row::hurried).collect());
}

fn check_all(rows: Vec<Row>) {
    let mut failed = 0;
    for row in rows {
        let (id, line) = (row.id, row.line);
        for wrong in row.check() {
            failed += 1;
            println!("{id} {line}\n  {wrong}");
        }
    }
    assert_eq!(failed, 0);
}
