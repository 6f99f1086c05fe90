//! Our PostgreSQL as a service in Consul's catalogue (surface-dcs 12).

use std::sync::Mutex;

use patroni_core::model::url::Url;
use patroni_core::mutex::locked;
use pyfmt::value::float_repr;
use pyfmt::Value;

use super::api::{Api, Ask, Said};
use super::options::{ConsulOptions, LiveOptions};
use super::wire::{to_json, HttpCheck, Service};
use crate::kv::{Effort, Failure};

const LOG: &str = "patroni.dcs.consul";

/// The scope as a name of the DNS, in which `replica.` and `.service.consul` are to have room.
pub fn service_name(scope: &str) -> String {
    let mut name = String::new();
    for c in scope.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' | '-' => name.push(c),
            '.' | ' ' | '_' => name.push('-'),
            other => name.push_str(&format!("u{:04}", u32::from(other))),
        }
    }
    name.chars().take(230).collect()
}

/// What was done last.
#[derive(Debug)]
struct Last {
    /// The options at that time; at first those of the start.
    options: LiveOptions,
    /// It has failed: the next cycle does it again.
    failed: bool,
}

/// The service of this node.
pub struct Registration {
    scope: String,
    name: String,
    check_interval: String,
    check_tls_server_name: Option<String>,
    last: Mutex<Last>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Register(Box<Service>),
    Deregister(String),
    /// A reason not to register, for the log.
    Impossible(String),
}

impl Registration {
    /// Of the member `name`.
    pub fn new(scope: &str, name: &str, options: &ConsulOptions) -> Registration {
        let registration = Registration {
            scope: scope.to_owned(),
            name: name.to_owned(),
            check_interval: options.service_check_interval.clone(),
            check_tls_server_name: options.service_check_tls_server_name.clone(),
            last: Mutex::new(Last { options: options.live.clone(), failed: false }),
        };
        registration.warn_of_another_name(&options.live);
        registration
    }

    fn warn_of_another_name(&self, options: &LiveOptions) {
        let (scope, name) = (&self.scope, service_name(&self.scope));
        if options.register_service && *scope != name {
            tracing::warn!(target: LOG, "Using {name} as consul service name instead of scope name {scope}");
        }
    }

    /// New options are in force.
    pub fn reloaded(&self, before: &LiveOptions, now: &LiveOptions) {
        if !before.register_service {
            self.warn_of_another_name(now);
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        locked(&self.last)
    }

    /// Registers, or takes away, what has changed since the last time. Never fails: the next cycle does it again.
    pub async fn update(&self, api: &Api, before: Option<&Value>, now: &Value) {
        let options = api.shared().live_options();
        let step = {
            let mut last = self.last();
            if !options.register_service && !last.options.register_service && !last.failed {
                return;
            }
            if !self.is_due(&last, &options, before, now) {
                return;
            }
            last.options = options.clone();
            last.failed = false;
            self.step(&options, api.shared().timing().ttl.as_secs_f64(), now)
        };
        let done = match step {
            Step::Nothing => return,
            Step::Impossible(text) => return tracing::warn!(target: LOG, "{text}"),
            Step::Register(service) => {
                tracing::info!(target: LOG, "Register service {}, params {}", service.name, shown(&service));
                let body = to_json(&*service);
                match body {
                    Ok(body) => tell(api, Ask::agent("PUT", "/v1/agent/service/register").body(body)).await,
                    Err(failure) => Err(failure),
                }
            }
            Step::Deregister(id) => {
                tracing::info!(target: LOG, "Deregister service {id}");
                tell(api, Ask::agent("PUT", &format!("/v1/agent/service/deregister/{id}"))).await
            }
        };
        if !matches!(done, Ok(true)) {
            self.last().failed = true;
            if let Err(failure) = done {
                tracing::error!(target: LOG, "update_service: {}", failure.text());
            }
        }
    }

    fn is_due(&self, last: &Last, options: &LiveOptions, before: Option<&Value>, now: &Value) -> bool {
        let keys = ["role", "api_url", "conn_url", "state"];
        if keys.iter().any(|key| now.get(key).is_none()) {
            tracing::warn!(target: LOG, "Could not register service: not enough params in member data");
            return false;
        }
        let other = |key: &&str| before.and_then(|b| b.get(key)) != now.get(key);
        let o = &last.options;
        let same_options = o.register_service == options.register_service
            && o.service_tags == options.service_tags
            && o.token == options.token;
        last.failed || !same_options || keys.iter().any(other)
    }

    /// `ttl` in seconds.
    fn step(&self, options: &LiveOptions, ttl: f64, now: &Value) -> Step {
        let text = |key: &str| now.get(key).map(Value::py_str).unwrap_or_default();
        let (role, state, api_url, conn_url) =
            (text("role"), text("state"), text("api_url"), text("conn_url"));
        let id = format!("{}/{}", self.scope, self.name);
        if state == "stopped" || !options.register_service {
            return Step::Deregister(id);
        }
        let shown_role = role.replace('_', "-");
        if !matches!(role.as_str(), "primary" | "replica" | "standby_leader") {
            return Step::Impossible(format!("Could not register service: unknown role type {shown_role}"));
        }
        if state != "running" {
            return Step::Nothing;
        }
        let api_url = Url::split(&api_url);
        let (address, port) = Url::split(&conn_url).host_port().unwrap_or_default();
        let mut tags = options.service_tags.clone();
        tags.push(shown_role.clone());
        if role == "primary" {
            tags.push("master".into());
        }
        let check = HttpCheck {
            http: format!("{}://{}/{shown_role}", api_url.scheme, api_url.netloc),
            interval: self.check_interval.clone(),
            deregister: format!("{}s", float_repr(ttl / 2.0 * 10.0)),
            tls_server_name: self.check_tls_server_name.clone(),
        };
        Step::Register(Box::new(Service {
            name: service_name(&self.scope),
            enabletagoverride: true,
            id,
            address,
            port,
            tags,
            checks: vec![check],
        }))
    }
}

async fn tell(api: &Api, ask: Ask) -> Result<bool, Failure> {
    api.call(&ask, Effort::Once).await.map(|reply| reply.said == Said::Yes)
}

/// As the reference logs it. (Its last tag of a primary is no text of Python's, and has no quotes there.)
fn shown(service: &Service) -> String {
    let mut checks = service.checks.iter().map(|check| {
        let mut shown = Value::from_iter([
            ("http", Value::from(check.http.as_str())),
            ("interval", check.interval.as_str().into()),
            ("DeregisterCriticalServiceAfter", check.deregister.as_str().into()),
        ]);
        if let Some(name) = &check.tls_server_name {
            shown.set("TLSServerName", name.as_str());
        }
        shown
    });
    let tags = service.tags.iter().map(|tag| Value::from(tag.as_str())).collect();
    let params = Value::from_iter([
        ("service_id", Value::from(service.id.as_str())),
        ("address", service.address.as_deref().map_or(Value::Null, Value::from)),
        ("port", service.port.map_or(Value::Null, |port| Value::Int(port.into()))),
        ("check", checks.next_back().unwrap_or(Value::Null)),
        ("tags", Value::List(tags)),
        ("enable_tag_override", true.into()),
    ]);
    params.py_repr().replace("'primary', 'master']", "'primary', master]")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn registration() -> Registration {
        let section = r#"{"register_service":true,"service_tags":["zz","aa"]}"#;
        let options = ConsulOptions::from_section(&pyfmt::json::loads(section).unwrap(), &|_| None).unwrap();
        Registration::new("demo", "m0", &options)
    }

    fn options(on: bool) -> LiveOptions {
        LiveOptions {
            register_service: on,
            service_tags: vec!["aa".into(), "zz".into()],
            ..LiveOptions::default()
        }
    }

    fn member(role: &str, state: &str) -> Value {
        let text = format!(
            r#"{{"conn_url":"postgres://127.0.0.1:31200/postgres","api_url":"http://127.0.0.1:31100/patroni","state":"{state}","role":"{role}","version":"4.1.5"}}"#
        );
        pyfmt::json::loads(&text).unwrap()
    }

    #[test]
    fn names() {
        for (scope, want) in [
            ("My.demo_x", "my-demo-x"),
            ("a b", "a-b"),
            ("ü", "u0252"),
            ("A@B", "au0064b"),
            (&"x".repeat(300), "x".repeat(230).as_str()),
        ] {
            assert_eq!(service_name(scope), want);
        }
    }

    #[test]
    fn bodies_as_recorded() {
        let body = |role: &str| match registration().step(&options(true), 20.0, &member(role, "running")) {
            Step::Register(service) => to_json(&*service).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            body("primary"),
            r#"{"name":"demo","enabletagoverride":true,"id":"demo/m0","address":"127.0.0.1","port":31200,"tags":["aa","zz","primary","master"],"checks":[{"http":"http://127.0.0.1:31100/primary","interval":"5s","DeregisterCriticalServiceAfter":"100.0s"}]}"#
        );
        assert!(body("standby_leader").contains(r#""tags":["aa","zz","standby-leader"]"#));
        assert!(body("standby_leader").contains(r#""http":"http://127.0.0.1:31100/standby-leader""#));
    }

    #[test]
    fn what_is_logged() {
        let Step::Register(service) =
            registration().step(&options(true), 30.0, &member("replica", "running"))
        else {
            panic!()
        };
        assert_eq!(
            shown(&service),
            "{'service_id': 'demo/m0', 'address': '127.0.0.1', 'port': 31200, 'check': {'http': \
             'http://127.0.0.1:31100/replica', 'interval': '5s', 'DeregisterCriticalServiceAfter': '150.0s'}, 'tags': \
             ['aa', 'zz', 'replica'], 'enable_tag_override': True}"
        );
        let Step::Register(service) =
            registration().step(&options(true), 30.0, &member("primary", "running"))
        else {
            panic!()
        };
        assert!(shown(&service).contains("'tags': ['aa', 'zz', 'primary', master], "));
    }

    #[test]
    fn steps() {
        let step =
            |on, role: &str, state: &str| registration().step(&options(on), 30.0, &member(role, state));
        assert_eq!(step(true, "primary", "stopped"), Step::Deregister("demo/m0".into()));
        assert_eq!(step(true, "uninitialized", "stopped"), Step::Deregister("demo/m0".into()));
        assert_eq!(step(false, "primary", "running"), Step::Deregister("demo/m0".into()));
        assert_eq!(step(true, "replica", "starting"), Step::Nothing);
        let unknown = "Could not register service: unknown role type demoted";
        assert_eq!(step(true, "demoted", "running"), Step::Impossible(unknown.into()));
        assert!(matches!(step(true, "replica", "running"), Step::Register(_)));
    }

    #[test]
    fn when() {
        let r = registration();
        let (on, off) = (options(true), options(false));
        let (primary, replica) = (member("primary", "running"), member("replica", "running"));
        let last = |options: &LiveOptions, failed| Last { options: options.clone(), failed };
        let other_token = LiveOptions { token: Some("t".into()), ..on.clone() };
        let other_tags = LiveOptions { service_tags: vec![], ..on.clone() };
        for (last, options, before, due) in [
            (last(&off, false), &on, Some(&primary), true),
            (last(&on, false), &on, Some(&replica), true),
            (last(&on, false), &on, Some(&primary), false),
            (last(&on, false), &on, None, true),
            (last(&on, true), &on, Some(&primary), true),
            (last(&on, false), &off, Some(&primary), true),
            (last(&on, false), &other_token, Some(&primary), true),
            (last(&on, false), &other_tags, Some(&primary), true),
        ] {
            assert_eq!(r.is_due(&last, options, before, &primary), due, "{last:?} {before:?}");
        }
        assert!(!r.is_due(&last(&on, false), &on, None, &Value::map()));
    }
}
