//! The members of a cluster as a tree of replication (surface-api-ctl L12).

use pyfmt::Value;

fn text<'a>(member: &'a Value, key: &str) -> &'a str {
    member.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn is_leader(member: &Value) -> bool {
    text(member, "role").ends_with("leader")
}

/// Orders members as a tree under the leader and indents their names.
/// Replicas that follow each other in a circle have no place in it and vanish,
/// as in the reference.
pub fn sort(members: Vec<Value>) -> Vec<Value> {
    let leader = members.iter().find(|m| is_leader(m)).cloned();
    let root = leader.as_ref().map(|m| text(m, "name").to_owned());
    let replicas: Vec<String> =
        members.iter().filter(|m| !is_leader(m)).map(|m| text(m, "name").to_owned()).collect();
    let children: Vec<(Option<String>, Value)> = members
        .into_iter()
        .filter(|m| !is_leader(m))
        .map(|m| (parent(&m, &replicas).or_else(|| root.clone()), m))
        .collect();
    let mut out: Vec<Value> = leader.into_iter().collect();
    descend(root.as_deref(), 1, &children, &mut out);
    out
}

/// The replica that a member streams from by its tag, if there is one.
fn parent(member: &Value, replicas: &[String]) -> Option<String> {
    let from = member.at(&["tags", "replicatefrom"])?.as_str()?;
    let valid = from != text(member, "name") && replicas.iter().any(|r| r == from);
    valid.then(|| from.to_owned())
}

fn descend(parent: Option<&str>, level: usize, children: &[(Option<String>, Value)], out: &mut Vec<Value>) {
    for (_, member) in children.iter().filter(|(of, _)| of.as_deref() == parent) {
        let name = text(member, "name").to_owned();
        let mut shown = member.clone();
        shown.set("name", format!("{}+ {name}", " ".repeat((level - 1) * 2)));
        out.push(shown);
        descend(Some(&name), level + 1, children, out);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn member(name: &str, role: &str, from: Option<&str>) -> Value {
        let mut m: Value = [("name", name), ("role", role)].into_iter().collect();
        if let Some(from) = from {
            m.set("tags", [("replicatefrom", from)].into_iter().collect::<Value>());
        }
        m
    }

    fn names(members: Vec<Value>) -> Vec<String> {
        sort(members).iter().map(|m| text(m, "name").to_owned()).collect()
    }

    #[test]
    fn cascade_self_leader_and_circle() {
        assert_eq!(
            names(vec![
                member("a", "replica", Some("c")),
                member("b", "leader", None),
                member("c", "replica", Some("b")),
                member("d", "replica", Some("d")),
                member("e", "replica", Some("f")),
                member("f", "replica", Some("e")),
            ]),
            ["b", "+ c", "  + a", "+ d"]
        );
        assert_eq!(names(vec![member("a", "replica", None)]), ["+ a"]);
    }
}
