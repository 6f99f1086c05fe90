//! What the engine asks of the DCS, as calls of the port: between `patroni_core::ha`, which knows no store, and
//! `patroni_dcs`, which knows no engine. The daemon and the simulation carry requests out by this, and by nothing else.

use patroni_core::ha::{ask, Answer, Ask, DcsDown, DcsRequest};
use patroni_core::model::{failover_value, FailoverOrder, Leader, Status};
use patroni_dcs::{Dcs, DcsError};

fn down(error: DcsError) -> DcsDown {
    DcsDown(error.to_string())
}

/// Where a failure and a refusal come to the same.
fn done(outcome: Result<bool, DcsError>) -> bool {
    outcome.unwrap_or(false)
}

/// One request, one call; the answer has the question's type.
///
/// `leader` is that of the cluster as the cycle has read it. `status` is what a renewal of the lock publishes: the
/// positions of [`ask::UpdateLeader`] and the slots that are retained, which only the caller remembers. `may_spare`: what
/// the store has told before may stand for an answer, where its watch would have told of a change.
pub async fn carry_out<D: Dcs + ?Sized>(
    dcs: &D,
    request: &DcsRequest,
    leader: Option<&Leader>,
    status: Option<&Status>,
    may_spare: bool,
) -> Answer {
    match request {
        DcsRequest::LoadCluster(asked) => {
            let known = if may_spare { dcs.unchanged_cluster() } else { None };
            asked.reply(match known {
                Some(cluster) => Ok(cluster),
                None => dcs.get_cluster().await.map_err(down),
            })
        }
        DcsRequest::AcquireLeader(asked) => asked.reply(dcs.acquire_leader(leader).await.map_err(down)),
        DcsRequest::UpdateLeader(asked) => {
            let Some(leader) = leader else { return asked.reply(Ok(false)) };
            let failsafe = asked.failsafe.as_ref();
            let updated = if may_spare {
                dcs.keep_leader(leader, status, failsafe).await
            } else {
                dcs.update_leader(leader, status, failsafe).await
            };
            asked.reply(updated.map_err(down))
        }
        DcsRequest::TakeLeader(asked) => asked.reply(done(dcs.take_leader().await)),
        DcsRequest::DeleteLeader(asked) => asked.reply(done(dcs.delete_leader(leader, asked.last_lsn).await)),
        DcsRequest::WriteStatus(asked) => {
            let _ = dcs.write_status(asked.0).await;
            asked.reply(())
        }
        DcsRequest::TouchMember(asked) => asked.reply(done(dcs.touch_member(&asked.0).await)),
        DcsRequest::Initialize(asked) => {
            asked.reply(done(dcs.initialize(asked.create_new, &asked.sysid).await))
        }
        DcsRequest::CancelInitialization(asked) => asked.reply(done(dcs.cancel_initialization().await)),
        DcsRequest::SetConfig(asked) => asked.reply(done(dcs.set_config(&asked.0, None).await)),
        DcsRequest::WriteFailover(asked) => {
            let text = failover_value(FailoverOrder {
                leader: None,
                candidate: asked.candidate.as_deref(),
                scheduled_at: asked.scheduled_at.as_deref(),
            });
            asked.reply(done(dcs.set_failover(&text, asked.version.as_deref()).await))
        }
        DcsRequest::WriteSync(asked) => {
            let ask::WriteSync { leader, standbys, quorum, version } = asked;
            let written = dcs.write_sync(leader, standbys, *quorum, version.as_deref()).await;
            asked.reply(written.ok().flatten().and_then(|sync| sync.version))
        }
        DcsRequest::DeleteSync(asked) => asked.reply(done(dcs.delete_sync(asked.version.as_deref()).await)),
        DcsRequest::WriteHistory(asked) => asked.reply(done(dcs.set_history(&asked.0).await)),
    }
}

#[cfg(test)]
mod tests;
