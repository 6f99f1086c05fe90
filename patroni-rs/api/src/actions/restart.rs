//! `POST` and `DELETE` `/restart` (surface-api-ctl 8.3).

use patroni_core::parse::parse_int;
use pyfmt::{Map, Value};

use super::schedule::{self, Time};
use super::Outcome;
use crate::backend::{Backend, BackendError};
use crate::http::response::Response;

/// Why a filter is refused.
#[derive(Debug)]
enum Refusal {
    Answer(u16, String),
    Schedule(Response),
    Exception(String),
}

/// A checked request.
#[derive(Debug, Default)]
struct Filter {
    data: Map,
    at: Option<Time>,
}

/// Restarts at once, or at the time that the request names, if the filters let this node through (P9 to P14).
pub async fn post<B: Backend>(backend: &B, request: Value) -> Outcome {
    let cluster = backend.cluster().await?;
    if request.truthy() {
        tracing::debug!(target: "patroni.api", "received restart request: {}", request.py_repr());
    }
    let config = backend.last_snapshot().config_of(&cluster);
    if config.is_paused() && request.get("schedule").is_some() {
        return Ok(Response::text(500, "Can't schedule restart in the paused state"));
    }
    let filter = match check(request, schedule::now_us()) {
        Ok(filter) => filter,
        Err(Refusal::Answer(code, text)) => return Ok(Response::text(code, text)),
        Err(Refusal::Schedule(response)) => return Ok(response),
        Err(Refusal::Exception(text)) => return Err(BackendError(text)),
    };
    let data = Value::Map(filter.data);
    let Some(at) = filter.at else { return Ok(immediate(backend, data).await) };
    Ok(match backend.schedule_restart(data, at.at_us).await? {
        true => Response::text(202, "Restart scheduled"),
        false => Response::text(409, "Another restart is already scheduled"),
    })
}

async fn immediate<B: Backend>(backend: &B, data: Value) -> Response {
    match backend.restart(data).await {
        Ok(end) => Response::text(if end.done { 200 } else { 503 }, end.message),
        Err(error) => {
            tracing::error!(target: "patroni.api", exc = %error, "Exception during restart");
            Response::text(400, "restart failed")
        }
    }
}

/// Forgets the scheduled restart, if there is one (P15).
pub async fn delete<B: Backend>(backend: &B) -> Outcome {
    Ok(match backend.delete_restart().await? {
        true => Response::text(200, "scheduled restart deleted"),
        false => Response::text(404, "no restarts are scheduled"),
    })
}

/// P11: keys in the order of the request, the first failure wins.
fn check(request: Value, now_us: i64) -> Result<Filter, Refusal> {
    let mut filter = Filter::default();
    let Value::Map(entries) = request else { return Ok(filter) };
    for (key, value) in entries {
        let value = match key.as_str() {
            Some("schedule") => {
                let time = schedule::parse(&value, "restart", now_us).map_err(Refusal::Schedule)?;
                let text = Value::from(time.iso.as_str());
                filter.at = Some(time);
                text
            }
            Some("role") => check_role(value)?,
            Some("postgres_version") => check_version(value)?,
            Some("timeout") => check_timeout(&value)?,
            Some("restart_pending") => value,
            _ => {
                let text = format!("Unknown filter for the scheduled restart: {}", key.py_str());
                return Err(Refusal::Answer(400, text));
            }
        };
        filter.data.insert(key, value);
    }
    Ok(filter)
}

fn check_role(value: Value) -> Result<Value, Refusal> {
    match value.as_str() {
        Some("primary" | "standby_leader" | "replica") => Ok(value),
        _ => {
            let text = "PostgreSQL role should be either primary, standby_leader, or replica";
            Err(Refusal::Answer(400, text.into()))
        }
    }
}

fn check_version(value: Value) -> Result<Value, Refusal> {
    let Some(text) = value.as_str() else {
        let error = format!("AttributeError: '{}' object has no attribute 'split'", value.type_name());
        return Err(Refusal::Exception(error));
    };
    let parts: Option<Vec<_>> = text.split('.').map(pyfmt::int::parse_clamped).collect();
    let Some(parts) = parts else {
        return Err(Refusal::Answer(400, format!("Invalid PostgreSQL version: {text}")));
    };
    let old = !matches!(parts.first(), Some(10..));
    if parts.len() < 2 || parts.len() > 3 || (parts.len() == 2 && old) {
        let text = format!("Invalid PostgreSQL version format: X.Y or X.Y.Z is accepted: {text}");
        return Err(Refusal::Answer(400, text));
    }
    Ok(value)
}

fn check_timeout(value: &Value) -> Result<Value, Refusal> {
    match parse_int(value, Some("s")).filter(|&seconds| seconds > 0) {
        Some(seconds) => Ok(seconds.into()),
        None => Err(Refusal::Answer(400, "Timeout should be a positive number of seconds".into())),
    }
}
