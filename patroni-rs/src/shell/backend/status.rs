//! What PostgreSQL says of itself, as the API shows it.

use patroni_api::snapshot::{Queried, WalStatus};
use patroni_core::ha::PgState;
use patroni_core::model::Lsn;
use patroni_core::PgVersion;
use patroni_postgres::sql::RestStatus;
use pyfmt::datetime::{self, DateTime, Locale};
use pyfmt::Value;

use crate::shell::shared::Shared;

/// Asks it. None: it did not answer.
pub(super) async fn queried(shared: &Shared) -> Option<Queried> {
    let row = match shared.instance.rest_status().await {
        Ok(row) => row,
        Err(error) => {
            if shared.instance.state() == PgState::Running {
                tracing::error!(target: "patroni.api", exc = %error, "get_postgresql_status");
            }
            return None;
        }
    };
    let leader_timeline = shared.cluster().leader.as_ref().and_then(|l| l.timeline());
    let timeline = match row.timeline {
        0 => shared.instance.cached_replica_timeline(leader_timeline).await,
        timeline => Some(timeline),
    };
    typed(&row, timeline, shared.instance.pool().server_version())
}

/// A time with its offset, as the status statement gives it.
fn time(text: &str) -> Option<DateTime> {
    let locale = Locale { today: (1970, 1, 1), zone_names: ["UTC", "UTC"], offset_at: &|_| 0 };
    datetime::parse(text, &locale).ok()
}

fn typed(row: &RestStatus, timeline: Option<u32>, server_version: PgVersion) -> Option<Queried> {
    let lsn = |l: Option<Lsn>| l.and_then(|l| i64::try_from(l.bytes()).ok());
    let wal = match &row.replica {
        None => WalStatus::Primary {
            timeline: i64::from(row.timeline),
            location: lsn(Some(row.wal_position)).unwrap_or(0),
        },
        Some(replica) => WalStatus::Replica {
            timeline: timeline.map(i64::from),
            received: lsn(replica.received_location),
            replayed: lsn(replica.replayed_location),
            replayed_timestamp: replica.replayed_timestamp.as_deref().and_then(time),
            paused: replica.paused,
            latest_end_lsn: lsn(row.latest_end_lsn).unwrap_or(0),
            replication_state: row.replication_state.map(str::to_owned),
        },
    };
    Some(Queried {
        postmaster_start_time: time(row.postmaster_start_time.as_deref()?)?,
        server_version,
        wal,
        replication: row.replication.clone().unwrap_or(Value::List(Vec::new())),
    })
}
