//! Answers that have no effect: every `GET`, `HEAD` and `OPTIONS`.

use std::time::Instant;

use patroni_core::cluster_json;
use patroni_core::model::Cluster;
use pyfmt::Value;

use crate::http::response::Response;
use crate::http::url::Target;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::{health, metrics, status};

/// What a route needs before it can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The last snapshot will do.
    Known,
    /// A status query, without or with a second try.
    Query {
        /// See [`crate::backend::Backend::snapshot`].
        retry: bool,
    },
    /// A view of the cluster: the cached one, else a read of the DCS.
    View,
    /// A read of the DCS.
    Read,
}

/// See [`Need`]. None: a route with an effect.
pub fn need(route: Route) -> Option<Need> {
    Some(match route {
        Route::Health | Route::HealthCode => Need::Query { retry: false },
        Route::Patroni | Route::Metrics | Route::Readiness => Need::Query { retry: true },
        Route::Liveness | Route::Failsafe => Need::Known,
        Route::History | Route::Config => Need::View,
        Route::Cluster => Need::Read,
        Route::Act(_) => return None,
    })
}

/// The answer from a snapshot, for routes that need no view of the cluster.
pub fn from_snapshot(route: Route, target: &Target, s: &Snapshot, now: Instant) -> Response {
    match route {
        Route::Health => Response::json(health::code(target, s, now), &status::document(s, now)),
        Route::HealthCode => Response::StatusOnly(health::code(target, s, now)),
        Route::Patroni => Response::json(200, &status::document(s, now)),
        Route::Metrics => Response::full(200, "text/plain", metrics::text(s, now)),
        Route::Liveness => Response::StatusOnly(health::liveness(s, now)),
        Route::Readiness => readiness(target, s, now),
        Route::Failsafe => match s.failsafe.as_ref().filter(|f| f.as_map().is_some()) {
            Some(members) => Response::json(200, members),
            None => Response::page(502),
        },
        Route::Cluster | Route::History | Route::Config | Route::Act(_) => Response::page(501),
    }
}

fn readiness(target: &Target, s: &Snapshot, now: Instant) -> Response {
    match health::unready(target, s, now) {
        None => Response::StatusOnly(200),
        Some(reason) => {
            tracing::debug!(target: "patroni.api", "Readiness check failure: {reason}");
            Response::StatusOnly(503)
        }
    }
}

/// `/cluster`, `/history` and `/config` from a view of the cluster.
pub fn from_cluster(route: Route, cluster: &Cluster, s: &Snapshot) -> Response {
    match route {
        Route::Cluster => {
            let config = s.config_of(cluster);
            let mut doc = cluster_json::document(cluster, &config);
            doc.set("scope", s.scope.as_str());
            Response::json(200, &doc)
        }
        Route::History => {
            let lines = cluster.history.as_ref().map(|h| h.lines.clone()).unwrap_or_default();
            Response::json(200, &Value::List(lines))
        }
        _ => match cluster.config.as_ref().filter(|c| c.is_valid()) {
            Some(config) => Response::json(200, &config.data),
            None => Response::page(502),
        },
    }
}
