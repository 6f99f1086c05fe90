//! Handlers with an effect (surface-api-ctl 8).

pub mod body;
mod config;
mod restart;
pub mod schedule;
mod switchover;

use patroni_core::node;
use patroni_core::parse::parse_bool;
use pyfmt::Value;

use crate::backend::{Backend, BackendError, FailsafeReply, Reinitialize};
use crate::http::response::{Full, Response};
use crate::route::Action;

impl From<BackendError> for Response {
    fn from(error: BackendError) -> Response {
        Response::Drop(error.0)
    }
}

/// Does the work. `body`: the document of the request; an empty mapping where the
/// body is optional and absent or is not read.
pub async fn act<B: Backend>(backend: &B, action: Action, body: Value) -> Response {
    let result = match action {
        Action::PatchConfig => config::patch(backend, &body).await,
        Action::PutConfig => config::put(backend, &body).await,
        Action::Reload => {
            backend.reload();
            Ok(Response::text(202, "reload scheduled"))
        }
        // P6: it does nothing, on purpose.
        Action::Sigterm => Ok(Response::text(202, "shutdown scheduled")),
        Action::Failsafe => failsafe(backend, body).await,
        Action::Restart => restart::post(backend, body).await,
        Action::DeleteRestart => restart::delete(backend).await,
        Action::Reinitialize => reinitialize(backend, &body).await,
        Action::Failover => switchover::post(backend, switchover::Kind::Failover, &body).await,
        Action::Switchover => switchover::post(backend, switchover::Kind::Switchover, &body).await,
        Action::DeleteSwitchover => switchover::delete(backend).await,
        Action::Citus => backend.mpp_event(body).await.map(|()| Response::text(200, "OK")),
        // Nobody sends it, and anybody might: it is not behind the access checks, so it has no effect.
        Action::Mpp => Ok(Response::text(200, "OK")),
    };
    result.unwrap_or_else(Response::from)
}

type Outcome = Result<Response, BackendError>;

/// A primary without a DCS asks whether it may go on. It may not where this node is a primary itself (P8).
async fn failsafe<B: Backend>(backend: &B, leader: Value) -> Outcome {
    let refusal = || Response::text(500, "Running as a leader");
    let postgres = &backend.last_snapshot().postgres;
    if node::failsafe::runs_as_primary(postgres.state, postgres.role) {
        return Ok(refusal());
    }
    if let Some(key) = ["name", "conn_url", "api_url"].iter().find(|key| leader.get(key).is_none()) {
        return Ok(Response::Drop(format!("KeyError: '{key}'")));
    }
    Ok(match backend.failsafe(leader).await? {
        FailsafeReply::RunningAsLeader => refusal(),
        FailsafeReply::Accepted(lsn) => Response::Full(Box::new(Full {
            code: 200,
            content_type: "text/html",
            headers: lsn.map(|lsn| ("lsn", lsn.to_string())).into_iter().collect(),
            body: "Accepted".to_owned(),
        })),
    })
}

/// P17. TRAP P18 is not copied: a bad body never gets here.
async fn reinitialize<B: Backend>(backend: &B, body: &Value) -> Outcome {
    if body.truthy() {
        tracing::debug!(target: "patroni.api", "received reinitialize request: {}", body.py_repr());
    }
    let flag = |key| body.get(key).and_then(parse_bool).unwrap_or(false);
    let how = Reinitialize { force: flag("force"), from_leader: flag("from_leader") };
    Ok(match backend.reinitialize(how).await? {
        None => Response::text(200, "reinitialize started"),
        Some(refusal) => Response::text(503, refusal),
    })
}
