//! What the guardian is told of the lock's promise.

use crate::ha::keeper::Arm;
use crate::ha::Mono;

/// The promise that the guardian is to hear: one about another postmaster (`server`) than the one that it guards is
/// none. `postmaster`: its number; None: nothing runs.
pub fn word(promise: Option<Mono>, server: u64, postmaster: Option<u64>) -> Option<Mono> {
    promise.filter(|_| postmaster == Some(server))
}

/// Does that word stand for itself, so that the guardian of an earlier daemon may go? When the lock is ours again, or
/// there is nothing to guard. A primary without a lock, which is still to be demoted, stays under the promise that was
/// made for it.
pub fn speaks_for_itself(word: Option<Mono>, arm: Option<Arm>) -> bool {
    word.is_some() || matches!(arm, Some(Arm::Off | Arm::Reads))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_about_one_server_is_none_about_the_next() {
        let at = Some(Mono::seconds(18));
        for (server, postmaster, heard) in
            [(7, Some(7), at), (7, Some(8), None), (7, None, None), (0, None, None)]
        {
            assert_eq!(word(at, server, postmaster), heard, "{server} {postmaster:?}");
        }
    }

    #[test]
    fn who_may_be_relieved() {
        let at = Some(Mono::seconds(18));
        for (word, arm, alone) in [
            (at, Some(Arm::Writes), true),
            (None, Some(Arm::Writes), false),
            (None, Some(Arm::Unknown), false),
            (None, None, false),
            (None, Some(Arm::Reads), true),
            (None, Some(Arm::Off), true),
        ] {
            assert_eq!(speaks_for_itself(word, arm), alone, "{word:?} {arm:?}");
        }
    }
}
