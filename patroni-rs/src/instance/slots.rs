//! Replication slots of the local server.

use std::sync::Arc;

use indexmap::IndexMap;
use patroni_core::ha::{Source, View};
use patroni_core::model::{Cluster, Lsn};
use patroni_core::mutex::locked;
use patroni_core::slots::{self, KnownSlot, Node};
use patroni_core::tags::Tags;
use patroni_postgres::files::member_conn_kwargs;
use patroni_postgres::process::blocking;
use patroni_postgres::sql::{
    fetch_logical_slots, sync_replication_slots, write_slot_files, ConnParams, Pool, SlotExecutor, SlotRound,
};

use super::{Instance, Started, StopHow, FILE_DEADLINE};

/// What is known of the slots, and who changes them.
#[derive(Default)]
pub struct SlotState {
    executor: Option<SlotExecutor>,
}

impl SlotState {
    fn executor(&mut self, pool: &Arc<Pool>) -> &mut SlotExecutor {
        self.executor.get_or_insert_with(|| SlotExecutor::new(pool.clone()))
    }

    /// The positions to publish, by the monitoring row.
    pub(super) fn refresh(&mut self, seen: &IndexMap<String, KnownSlot>) -> IndexMap<String, Lsn> {
        match &mut self.executor {
            Some(executor) => executor.book.refresh(seen),
            None => IndexMap::new(),
        }
    }
}

impl Instance {
    pub(super) fn slots_matter(&self, cluster: Option<&Cluster>, tags: &Tags) -> bool {
        let Some(cluster) = cluster else { return false };
        let dynamic = self.dynamic();
        let node = Node { name: &self.name, tags, role: self.role(), major_version: self.major_version() };
        dynamic.member_slots_ttl() > 0 || slots::has_permanent_slots(cluster, &dynamic, &node)
    }

    /// Slots have to be looked at anew: after a start, or after a pause.
    pub async fn schedule_slots(&self, running: bool) {
        let mut state = self.slot_state.lock().await;
        let executor = state.executor(&self.sql.pool);
        if running {
            executor.book.schedule();
        } else {
            executor.book.schedule_reload();
        }
    }

    pub(super) async fn slots_before_promote(&self) {
        self.slot_state.lock().await.executor(&self.sql.pool).on_promote();
    }

    /// One round of creating, dropping and advancing; the logical slots to copy.
    pub async fn sync_slots(&self, view: &View, cluster: &Cluster) -> Vec<String> {
        let config = self.dynamic();
        let node = Node {
            name: &self.name,
            tags: &view.me.tags,
            role: self.role(),
            major_version: self.major_version(),
        };
        self.enforce_hot_standby_feedback(slots::should_enforce_hot_standby_feedback(
            cluster, &config, &node,
        ))
        .await;
        let Some(row) = self.last_status().await else { return Vec::new() };
        let leader = cluster.leader.as_ref().filter(|l| l.name() != self.name).map(|l| {
            let source = Source { member: l.member.clone(), remote: false };
            self.slot_source(&source)
        });
        let citus = self.citus();
        let round = SlotRound {
            cluster,
            config: &config,
            node,
            is_primary: row.is_primary(),
            replay_lsn: row.replayed.unwrap_or_default(),
            leader,
            citus_database: citus.as_ref().map(|section| section.database.as_str()),
        };
        let mut state = self.slot_state.lock().await;
        sync_replication_slots(state.executor(&self.sql.pool), &round).await
    }

    fn slot_source(&self, source: &Source) -> ConnParams {
        let config = self.config();
        let mut params = member_conn_kwargs(&source.member.data, config.rewind_credentials());
        params.set("dbname", config.setup().database.as_str());
        ConnParams::from_value(&params)
    }

    /// Logical slots on a standby need feedback on the whole chain (18-18).
    async fn enforce_hot_standby_feedback(&self, on: bool) {
        let changed = {
            let mut local_state = locked(&self.local_state);
            std::mem::replace(&mut local_state.hot_standby_feedback, on) != on
        };
        if changed {
            let written = self.with_config(|c, facts| c.write_postgresql_conf(None, facts)).await;
            if matches!(written, Ok(Ok(()))) {
                self.reload_server(false).await;
            }
        }
    }

    /// Copies logical slots from the primary: their files are written while the
    /// server is down (18-15).
    pub async fn copy_logical_slots(&self, cluster: &Cluster, names: &[String]) -> Started {
        let Some(leader) = &cluster.leader else { return Started::Failed };
        let params = self.slot_source(&Source { member: leader.member.clone(), remote: false });
        let config = self.dynamic();
        let tags = self.tags();
        let node =
            Node { name: &self.name, tags: &tags, role: self.role(), major_version: self.major_version() };
        let (wanted, _) = slots::desired_slots(cluster, &config, &node, &node.subject());
        let copied = match fetch_logical_slots(&params, self.major_version(), names, &wanted).await {
            Ok(copied) if !copied.is_empty() => copied,
            Ok(_) => return Started::Failed,
            Err(e) => {
                tracing::error!(
                    target: "patroni.postgresql.slots",
                    "Failed to copy logical slots from the {} via postgresql connection: {}",
                    leader.name(),
                    e.py_repr()
                );
                return Started::Failed;
            }
        };
        if !self.stop_plain(StopHow { checkpoint: true, ..StopHow::default() }).await {
            return Started::Failed;
        }
        let names: Vec<String> = copied.iter().map(|s| s.name.clone()).collect();
        let dir = self.data_dir.clone();
        let written = blocking::run(FILE_DEADLINE, move || write_slot_files(&dir, &copied)).await;
        match written {
            Ok(()) => {
                let mut state = self.slot_state.lock().await;
                state.executor(&self.sql.pool).on_copied(names.iter().map(String::as_str));
            }
            Err(e) => {
                tracing::error!(target: "patroni.postgresql.slots", "Failed to write logical slots: {e}")
            }
        }
        self.start(None, false, None).await
    }
}
