//! Members that follow the reference's timing, so that mixed clusters are simulated as well.
//!
//! They run the same decisions, but: only their HA loop renews the lock, there is no lock keeper, no fence before the
//! lease's end and no guardian; the lease counts from the answer; where ours waits for an event, they
//! sleep. So such a member may go on as a primary after it has lost the lock, which is excused
//! ([`World::excuse`]) for as long as the lock is not its own; what it acknowledges meanwhile does not count.
//! Ours must keep all promises beside it.

use super::rng::Rng;
use super::world::World;

impl World {
    /// Who is one: the seed decides; at least one member is ours.
    pub(super) fn appoint_references(&mut self, seed: u64) {
        if !self.config.mixed {
            return;
        }
        let mut rng = Rng::new(seed ^ 0x3e1e_0e4c);
        let last = self.members.len() as u64 - 1;
        let ours = rng.between(0, last) as usize;
        for (index, member) in self.members.iter_mut().enumerate() {
            member.reference = index != ours && rng.percent(60);
            member.flaws.sync_made_anyway = member.reference;
            // The upper floor of its first life, with these flaws.
            member.forget();
        }
    }

    /// It is a primary without the lock, as it may be.
    pub(super) fn lost_unawares(&self, node: usize) -> bool {
        self.members[node].reference && !self.has_lock(node)
    }
}
