//! Our Pod: what it says of us, and the labels by which Services and people find the primary.

use std::sync::atomic::Ordering;

use patroni_core::parse::deep_compare;
use pyfmt::Value;

use super::layout::Layout;
use super::options::Options;
use super::port::{Failure, ObjectStore};
use super::wire::Object;
use crate::kv::Effort;

/// Labels to be set; None takes one away.
pub type Labels = Vec<(String, Option<String>)>;

/// States in which a member gets its data.
const BOOTSTRAP: [&str; 4] = [
    "initializing new cluster",
    "running custom bootstrap script",
    "starting after custom bootstrap",
    "creating replica",
];

/// The labels of a member with this document. `leads`: it holds the lock, by the last view.
fn labels(options: &Options, data: &Value, leads: bool) -> Labels {
    let text = |key: &str| data.get(key).map(Value::py_str).unwrap_or_default();
    let (role, state) = (text("role"), text("state"));
    let (label, word) = if leads {
        let label = if role == "standby_leader" { &options.standby_leader } else { &options.leader };
        (Some(label.clone()), Some("primary".to_owned()))
    } else if state == "running" && role != "primary" {
        let label = if role == "replica" { options.follower.clone() } else { role.clone() };
        (Some(label), Some(role))
    } else {
        (None, None)
    };
    let mut labels = vec![(options.role_label.clone(), label)];
    if let Some(name) = &options.tmp_role_label {
        labels.push((name.clone(), word));
    }
    let bootstrap = BOOTSTRAP.contains(&state.as_str());
    let more = options.bootstrap_labels.iter();
    labels.extend(more.map(|(name, value)| (name.clone(), Some(value.clone()).filter(|_| bootstrap))));
    labels
}

impl<O: ObjectStore> Layout<O> {
    /// Writes what has changed to our Pod.
    pub(super) async fn try_touch(&self, data: &Value) -> Result<(), Failure> {
        let cluster = self.published.cluster(self.objects.now());
        let name = self.settings.name.as_str();
        let leads = cluster.as_ref().is_some_and(|c| c.leader_name() == Some(name));
        let labels = labels(&self.scope().options, data, leads);
        let member = cluster.as_ref().and_then(|c| c.get_member(name, false));
        let pod = self.seen().pod.clone();
        let same = |pod: &Object| labels.iter().all(|(name, value)| pod.label(name) == value.as_deref());
        let known = member.is_some_and(|member| deep_compare(data, &member.data));
        if known && pod.as_ref().is_some_and(same) {
            return Ok(());
        }
        let status = pyfmt::json::dumps_compact(data);
        let pod = self.objects.patch_pod(&labels, &status, Effort::Once).await?;
        self.seen().pod = Some(pod);
        Ok(())
    }

    /// Makes the Service of the configuration's Endpoints, once.
    pub(super) async fn make_service(&self) {
        if !self.service_due.load(Ordering::Relaxed) {
            return;
        }
        match self.objects.create_service(Effort::Once).await {
            // There is one already; or it is not ours to make.
            Ok(()) | Err(Failure::Conflict | Failure::Denied(_)) => {
                self.service_due.store(false, Ordering::Relaxed);
            }
            Err(failure) => self.error(&format!("create_config_service failed: {}", failure.text())),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Settings;

    #[test]
    fn what_a_pod_is_labelled() {
        let options = |more: &str| {
            let config = format!(r#"{{"scope":"demo","name":"m0","labels":{{"a":"b"}}{more}}}"#);
            let config = pyfmt::json::loads(&config).unwrap();
            let settings = Settings::from_config(&config, &config).unwrap();
            Options::from_section(&settings, &config, &config, &|_| None).unwrap()
        };
        let text = |more: &str, role: &str, state: &str, leads: bool| {
            let data = Value::from_iter([("role", role), ("state", state)]);
            let labels = labels(&options(more), &data, leads);
            let labels: Vec<String> = labels
                .into_iter()
                .map(|(name, value)| format!("{name}={}", value.unwrap_or_else(|| "null".into())))
                .collect();
            labels.join(" ")
        };
        let all = r#","role_label":"r","leader_label_value":"L","follower_label_value":"F","standby_leader_label_value":"S","tmp_role_label":"t","bootstrap_labels":{"x":"y"}"#;
        for (more, role, state, leads, want) in [
            ("", "primary", "running", true, "role=primary"),
            ("", "replica", "running", false, "role=replica"),
            ("", "replica", "starting", false, "role=null"),
            // A former primary that has lost the lock.
            ("", "primary", "running", false, "role=null"),
            (all, "primary", "running", true, "r=L t=primary x=null"),
            (all, "standby_leader", "running", true, "r=S t=primary x=null"),
            (all, "replica", "running", false, "r=F t=replica x=null"),
            (all, "uninitialized", "running", false, "r=uninitialized t=uninitialized x=null"),
            (all, "replica", "creating replica", false, "r=null t=null x=y"),
            (all, "uninitialized", "initializing new cluster", false, "r=null t=null x=y"),
            (all, "uninitialized", "running custom bootstrap script", false, "r=null t=null x=y"),
            (all, "replica", "starting after custom bootstrap", false, "r=null t=null x=y"),
        ] {
            assert_eq!(text(more, role, state, leads), want, "{role} {state} {leads}");
        }
    }
}
