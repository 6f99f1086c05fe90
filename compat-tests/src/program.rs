//! How the programs of `src/bin` end.

use std::process::ExitCode;

use crate::lab::Result;

/// 0 when all is well; 1, and a line, when a count is not zero (`what` are counted); 2 when the program could not do
/// its work.
pub fn ended(program: &str, what: &str, result: Result<usize>) -> ExitCode {
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(count) => {
            eprintln!("{program}: {count} {what}");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("{program}: {error}");
            ExitCode::from(2)
        }
    }
}
