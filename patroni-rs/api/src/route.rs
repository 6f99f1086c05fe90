//! Which handler a method and path select (surface-api-ctl 3).

/// A handler of the reference (`do_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Route {
    /// Health check with the status document.
    Health,
    /// Health check with the status code alone: `HEAD` and `OPTIONS`.
    HealthCode,
    Patroni,
    Cluster,
    History,
    Config,
    Metrics,
    Liveness,
    Readiness,
    Failsafe,
    Act(Action),
}

/// A handler with an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Action {
    PatchConfig,
    PutConfig,
    Reload,
    Failsafe,
    Sigterm,
    Restart,
    DeleteRestart,
    Reinitialize,
    Failover,
    Switchover,
    DeleteSwitchover,
    Citus,
    Mpp,
}

/// Does a handler read a body (H25)?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Body {
    Ignored,
    Optional,
    Mandatory,
}

/// The handler; None: 501. The first segment of the path is tried behind the
/// method, then the method alone, by the names of the reference's functions (R1, R8).
pub fn route(command: &str, path: &str) -> Option<Route> {
    let segment = path.trim_start_matches('/').split('/').next().unwrap_or("");
    let named = format!("{command}_{segment}");
    by_name(&named).filter(|_| !segment.is_empty()).or_else(|| by_name(command))
}

fn by_name(name: &str) -> Option<Route> {
    Some(match name {
        "GET" => Route::Health,
        "HEAD" | "OPTIONS" => Route::HealthCode,
        "GET_patroni" => Route::Patroni,
        "GET_cluster" => Route::Cluster,
        "GET_history" => Route::History,
        "GET_config" => Route::Config,
        "GET_metrics" => Route::Metrics,
        "GET_liveness" => Route::Liveness,
        "GET_readiness" => Route::Readiness,
        "GET_failsafe" => Route::Failsafe,
        other => Route::Act(Action::by_name(other)?),
    })
}

impl Action {
    fn by_name(name: &str) -> Option<Action> {
        Some(match name {
            "PATCH_config" => Action::PatchConfig,
            "PUT_config" => Action::PutConfig,
            "POST_reload" => Action::Reload,
            "POST_failsafe" => Action::Failsafe,
            "POST_sigterm" => Action::Sigterm,
            "POST_restart" => Action::Restart,
            "DELETE_restart" => Action::DeleteRestart,
            "POST_reinitialize" => Action::Reinitialize,
            "POST_failover" => Action::Failover,
            "POST_switchover" => Action::Switchover,
            "DELETE_switchover" => Action::DeleteSwitchover,
            "POST_citus" => Action::Citus,
            "POST_mpp" => Action::Mpp,
            _ => return None,
        })
    }

    /// Is it behind the access checks? `/mpp` is not (T17), and does nothing.
    pub fn is_protected(self) -> bool {
        self != Action::Mpp
    }

    /// Do addresses of members count for the source check (T16)?
    pub fn admits_members(self) -> bool {
        self != Action::Failsafe
    }

    /// Its body.
    pub fn body(self) -> Body {
        match self {
            Action::Reload | Action::Sigterm | Action::DeleteRestart | Action::DeleteSwitchover => {
                Body::Ignored
            }
            Action::Restart | Action::Reinitialize => Body::Optional,
            _ => Body::Mandatory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes() {
        for (command, path, expected) in [
            ("GET", "/", Some(Route::Health)),
            ("GET", "//config", Some(Route::Config)),
            ("GET", "/config/foo", Some(Route::Config)),
            ("GET", "config", Some(Route::Config)),
            ("GET", "/switchover", Some(Route::Health)),
            ("HEAD", "/config", Some(Route::HealthCode)),
            ("POST", "/config", None),
            ("POST", "/", None),
            ("DELETE", "/failover", None),
            ("get", "/", None),
            ("GET_", "/config", None),
            ("GET_patroni", "/", Some(Route::Patroni)),
            ("GET_patroni", "/x", Some(Route::Patroni)),
            ("POST", "/mpp", Some(Route::Act(Action::Mpp))),
        ] {
            assert_eq!(route(command, path), expected, "{command} {path}");
        }
    }
}
