//! What a node answers to a primary that has no DCS and asks whether it may go on.

use crate::ha::{Mono, PgState, Role};

/// Must this node refuse, since it leads itself? Who holds the lock is the leader, also before its promotion has ended:
/// consent would let the former primary go on beside it. `lease_until`: as [`super::LeaderLock::until`] tells it.
pub fn leads(state: PgState, role: Role, lease_until: Option<Mono>) -> bool {
    runs_as_primary(state, role) || lease_until.is_some()
}

/// The part of it that a look at PostgreSQL alone decides.
pub fn runs_as_primary(state: PgState, role: Role) -> bool {
    state == PgState::Running && role == Role::Primary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_refuses_and_so_does_who_holds_the_lock() {
        let lock = Some(Mono::seconds(9));
        for (state, role, lease, refuses) in [
            (PgState::Running, Role::Primary, lock, true),
            (PgState::Running, Role::Primary, None, true),
            // Its promotion has not ended, or not begun.
            (PgState::Running, Role::Promoted, lock, true),
            (PgState::Running, Role::Replica, lock, true),
            (PgState::Stopped, Role::Replica, lock, true),
            (PgState::Stopped, Role::Primary, None, false),
            (PgState::Running, Role::Replica, None, false),
        ] {
            assert_eq!(leads(state, role, lease), refuses, "{state:?} {role:?} {lease:?}");
        }
    }
}
