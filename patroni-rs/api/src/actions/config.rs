//! `PATCH` and `PUT` `/config` (surface-api-ctl 8.1).

use patroni_core::dynamic_check::refusal;
use patroni_core::parse::{deep_compare, patch_config};
use pyfmt::{json, Value};

use super::Outcome;
use crate::backend::Backend;
use crate::http::response::Response;

/// P1: merges into the stored document, written by compare-and-set.
pub async fn patch<B: Backend>(backend: &B, request: &Value) -> Outcome {
    let cluster = backend.cluster().await?;
    let Some(config) = cluster.config.as_ref().filter(|c| c.is_valid()) else {
        return Ok(Response::page(503));
    };
    let mut data = config.data.clone();
    if patch_config(&mut data, request) {
        if let Some(reason) = refusal(&config.data, &data) {
            return Ok(refused(&reason));
        }
        let version = Some(config.version.clone());
        if !backend.set_config(json::dumps_compact(&data), version).await? {
            return Ok(Response::page(409));
        }
    }
    backend.wakeup();
    Ok(Response::json(200, &data))
}

/// The reference stores it, and every node drops the whole change.
fn refused(reason: &str) -> Response {
    Response::text(400, format!("Invalid configuration: {reason}"))
}

/// P4: replaces the document unless it is the same by text; the request is echoed.
pub async fn put<B: Backend>(backend: &B, request: &Value) -> Outcome {
    let cluster = backend.cluster().await?;
    let stored = cluster.config.as_ref().map_or(&Value::Null, |config| &config.data);
    if let Some(reason) = refusal(stored, request) {
        return Ok(refused(&reason));
    }
    let same = cluster.config.as_ref().is_some_and(|config| deep_compare(request, &config.data));
    if !same && !backend.set_config(json::dumps_compact(request), None).await? {
        return Ok(Response::page(502));
    }
    Ok(Response::json(200, request))
}
