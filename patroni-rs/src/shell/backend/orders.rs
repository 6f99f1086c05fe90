//! Jobs that operators ask for by the REST API.

use std::sync::Arc;
use std::time::Duration;

use patroni_api::backend::Result;
use patroni_api::{BackendError, Reinitialize, Restarted};
use patroni_core::ha::{self, commands, Job, JobResult};
use pyfmt::Value;

use crate::instance::{locked, mono_now};
use crate::shell::shared::Shared;

/// How long a job that a new copy replaces may take to end.
const REPLACED_WITHIN: Duration = Duration::from_secs(60);

/// At once, if the conditions of the request hold; waits for its end.
pub(super) async fn restart(shared: &Arc<Shared>, filter: &Value) -> Restarted {
    let refused = |message: String| Restarted { done: false, message };
    let pg = shared.instance.view(None, &shared.me().tags).await;
    if let Some(why) = commands::restart_refusal(filter, &pg) {
        tracing::info!(target: "patroni.ha", "not proceeding with the restart: {why}");
        return refused("restart conditions are not satisfied".into());
    }
    let memory = ha::Memory::new(shared.instance.dynamic());
    let has_lock = shared.cluster().leader_name() == Some(shared.instance.name.as_str());
    let job = commands::restart_job(filter, &memory, has_lock);
    let Job::Restart { timeout, .. } = job else { return refused("restart failed".into()) };
    let told = match shared.jobs.order(shared.clone(), job) {
        Ok(told) => told,
        Err(running) => return refused(format!("{running} already in progress")),
    };
    *locked(&shared.restarting) = Some(timeout);
    match told.await {
        Ok(JobResult::Done) => Restarted { done: true, message: "restarted successfully".into() },
        Ok(JobResult::Unknown) => refused("postgres is still starting".into()),
        _ => refused("restart failed".into()),
    }
}

/// A new copy. Some: why not.
///
/// # Errors
/// The DCS does not answer.
pub(super) async fn reinitialize(shared: &Arc<Shared>, how: Reinitialize) -> Result<Option<String>> {
    let Reinitialize { force, from_leader } = how;
    let cluster = shared.dcs.get_cluster().await.map_err(|e| BackendError(e.to_string()))?;
    let dice = mono_now().since_start().subsec_nanos() as usize;
    let config = shared.instance.dynamic().updated_from(&cluster);
    let job = match commands::reinitialize(&shared.instance.name, &cluster, &config, from_leader, dice) {
        Ok(job) => job,
        Err(refusal) => return Ok(Some(refusal.into())),
    };
    let ordered = if force {
        shared.jobs.order_instead(shared.clone(), job, REPLACED_WITHIN).await
    } else {
        shared.jobs.order(shared.clone(), job)
    };
    Ok(ordered.err().map(|running| format!("{running} already in progress")))
}
