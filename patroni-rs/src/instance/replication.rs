//! The replication protocol: timelines of standbys.

use patroni_core::mutex::locked;
use patroni_postgres::sql::{ConnParams, ReplicationClient};
use pyfmt::Value;

use super::Instance;

/// `IDENTIFY_SYSTEM` on a server: its timeline.
pub async fn timeline_of(params: &ConnParams) -> Option<u32> {
    let mut client = ReplicationClient::connect(params).await.ok()?;
    client.identify_system().await.ok().map(|s| s.timeline)
}

impl Instance {
    fn local_replication(&self) -> ConnParams {
        let config = self.config();
        let mut params = config.addresses().local_replication.clone();
        if let Some(user) = config.replication().and_then(Value::as_map) {
            for (key, value) in user {
                let key = key.py_str();
                params.set(if key == "username" { "user" } else { &key }, value.clone());
            }
        }
        ConnParams::from_value(&params)
    }

    /// The timeline of the local standby by the replication protocol.
    pub async fn replica_timeline(&self) -> Option<u32> {
        let timeline = timeline_of(&self.local_replication()).await;
        *locked(&self.replica_timeline) = timeline;
        timeline
    }

    /// The same, asked anew only when the leader's timeline is another one.
    pub async fn cached_replica_timeline(&self, leader: Option<u32>) -> Option<u32> {
        let known = *locked(&self.replica_timeline);
        match (known, leader) {
            (Some(known), Some(leader)) if known == leader && leader > 0 => Some(known),
            _ => self.replica_timeline().await,
        }
    }
}
