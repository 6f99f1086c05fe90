//! How WAL flows from one server to another.

use patroni_core::ha;

use super::node::Member;
use super::remote::REMOTE;
use super::world::World;

/// `wal_retrieve_retry_interval`.
const RETRIEVE_RETRY: u64 = 5000;

impl World {
    /// Does WAL flow from `source` to `node`?
    pub(super) fn streams(&self, node: usize, source: usize) -> bool {
        let life = self.server(source).incarnation;
        self.linked(node, source) && self.members[node].pg.fed_by == Some((source, life))
    }

    /// Can WAL flow from `source` to `node`?
    fn linked(&self, node: usize, source: usize) -> bool {
        let to = &self.members[node];
        if to.pg.gap || to.pg.full {
            return false;
        }
        let Some(from) = self.members.get(source) else { return self.streams_from_remote(node) };
        let up = |m: &Member| m.pg.running && !m.frozen() && !m.cut_from_peers;
        let (Some(mine), Some(theirs)) = (&to.pg.data, &from.pg.data) else { return false };
        to.pg.source == Some(source)
            && to.pg.recovery
            && up(to)
            && up(from)
            && !to.no_way_to.contains(&source)
            && !from.no_way_to.contains(&node)
            && !matches!(to.pg.state, ha::PgState::Starting)
            && self.has_slot(source, node)
            && mine.is_prefix_of(theirs)
    }

    /// The WAL receiver's connection: whom it receives from. A try that fails is repeated after a while, as PostgreSQL does.
    fn connect(&mut self, node: usize) -> Option<usize> {
        let (now, pg) = (self.now, &self.members[node].pg);
        let source = pg.source.filter(|source| self.linked(node, *source));
        let wanted = source.map(|source| (source, self.server(source).incarnation));
        let pg = &mut self.members[node].pg;
        if pg.fed_by != wanted {
            pg.fed_by = wanted.filter(|_| now >= pg.receiver_at);
        }
        if wanted.is_none() && now >= pg.receiver_at {
            pg.receiver_at = now + RETRIEVE_RETRY;
        }
        pg.fed_by.map(|(source, _)| source)
    }

    pub(super) fn replicate(&mut self, node: usize) {
        let source = self.connect(node);
        self.members[node].pg.receiving = source.is_some();
        let Some(source) = source.filter(|_| !self.members[node].pg.stalled) else { return };
        if self.rng.percent(10) {
            return;
        }
        let theirs = self.server(source).data.clone();
        if let (Some(mine), Some(theirs)) = (self.members[node].pg.data.as_mut(), theirs) {
            *mine = super::pg::Data { dirty: true, ..theirs };
        }
        if source != REMOTE {
            self.confirm_slot(source, node);
        }
    }
}
