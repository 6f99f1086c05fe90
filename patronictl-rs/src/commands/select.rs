//! Choice of members by role and name (surface-api-ctl 14, K1, K2, K12, K13).

use patroni_core::model::{Cluster, Member};

use crate::click::prompt::{confirm, prompt, Console};
use crate::click::CliError;
use crate::store::View;

/// A role that members are chosen by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The node that holds the leader lock.
    Leader,
    /// The leader, unless its member key says that it leads a standby cluster.
    Primary,
    /// The leader, unless its member key says that it is a primary.
    StandbyLeader,
    /// Every member but the leader.
    Replica,
    /// Every member.
    Any,
}

impl Role {
    /// The role of a word of the command table.
    pub fn parse(word: &str) -> Role {
        match word {
            "leader" => Role::Leader,
            "primary" => Role::Primary,
            "standby-leader" => Role::StandbyLeader,
            "replica" | "standby" => Role::Replica,
            _ => Role::Any,
        }
    }
}

/// The members of that role: in Citus mode those of all groups, coordinator first.
pub fn members_of(view: &View, all_groups: bool, role: Role) -> Vec<&Member> {
    let workers = all_groups.then(|| view.workers.values()).into_iter().flatten();
    let clusters = std::iter::once(&view.cluster).chain(workers);
    clusters.flat_map(|cluster| members_of_one(cluster, role)).collect()
}

fn members_of_one(cluster: &Cluster, role: Role) -> Vec<&Member> {
    match role {
        Role::Any => cluster.members.iter().collect(),
        Role::Replica => {
            let leader = cluster.leader.as_ref().map(|l| l.member.name.as_str());
            cluster.members.iter().filter(|m| Some(m.name.as_str()) != leader).collect()
        }
        _ => leader_member(cluster).into_iter().filter(|m| leads_as(m, role)).collect(),
    }
}

fn leader_member(cluster: &Cluster) -> Option<&Member> {
    cluster.leader.as_ref().map(|l| &l.member).filter(|m| !m.name.is_empty())
}

fn leads_as(leader: &Member, role: Role) -> bool {
    match role {
        Role::Primary => leader.role() != "standby_leader",
        Role::StandbyLeader => !matches!(leader.role(), "primary" | "master"),
        _ => true,
    }
}

/// The first member of that name, or of that role (the leader by default).
///
/// # Errors
/// Name and role exclude each other.
pub fn any_member<'a>(
    view: &'a View,
    all_groups: bool,
    role: Option<Role>,
    name: Option<&str>,
) -> Result<Option<&'a Member>, CliError> {
    let role = match (name, role) {
        (Some(_), Some(_)) => {
            return Err(CliError::msg("--role and --member are mutually exclusive options"))
        }
        (Some(_), None) => Role::Any,
        (None, role) => role.unwrap_or(Role::Leader),
    };
    let mut members = members_of(view, all_groups, role).into_iter();
    Ok(members.find(|m| name.is_none_or(|n| n == m.name)))
}

/// Members with a REST API, the leader first.
pub fn leader_first(cluster: &Cluster) -> Vec<&Member> {
    let leader = cluster.leader.as_ref().map(|l| &l.member).filter(|m| m.api_url().is_some());
    let others = cluster.members.iter().filter(|m| m.api_url().is_some());
    let others = others.filter(|m| leader.is_none_or(|l| l.name != m.name));
    leader.into_iter().chain(others).collect()
}

/// Which members an action is for.
pub struct Wanted<'a> {
    /// The cluster's name.
    pub cluster_name: &'a str,
    /// The names given; none for all.
    pub names: &'a [String],
    /// The role, as it was written.
    pub role: &'a str,
    /// Whether all Citus groups are looked at.
    pub all_groups: bool,
    /// No questions.
    pub force: bool,
    /// `restart`, `reload`, `reinitialize` or `flush`.
    pub action: &'a str,
}

impl Wanted<'_> {
    /// The members to act on. `show` prints the table of members.
    ///
    /// # Errors
    /// No such members, or none at all.
    pub fn choose<'v>(
        &self,
        view: &'v View,
        console: &mut impl Console,
        show: impl FnOnce() -> Result<(), CliError>,
    ) -> Result<Vec<&'v Member>, CliError> {
        let members = members_of(view, self.all_groups, Role::parse(self.role));
        if self.names.is_empty() && members.is_empty() {
            return Err(CliError::msg(format!("{} cluster doesn't have any members", self.cluster_name)));
        }
        show()?;
        let names = self.names_of(&members, console)?;
        Ok(members.into_iter().filter(|m| names.contains(&m.name)).collect())
    }

    /// Unknown names are ignored as long as one is known.
    fn names_of(&self, members: &[&Member], console: &mut impl Console) -> Result<Vec<String>, CliError> {
        let known = |name: &String| members.iter().any(|m| m.name == *name);
        if !self.names.is_empty() {
            let names: Vec<String> = self.names.iter().filter(|n| known(n)).cloned().collect();
            if names.is_empty() {
                return Err(CliError::msg(format!("No {} among provided members", self.shown_role())));
            }
            return Ok(names);
        }
        if self.action != "reinitialize" {
            return Ok(members.iter().map(|m| m.name.clone()).collect());
        }
        if self.force {
            return Ok(Vec::new());
        }
        let list = members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
        let question = format!("Which member do you want to {} [{list}]?", self.action);
        let name = prompt(console, &question, Some(""))?;
        if !known(&name) {
            return Err(CliError::msg(format!("{name} is not a member of cluster")));
        }
        Ok(vec![name])
    }

    /// Only `reinit` shows the role without quotes.
    fn shown_role(&self) -> String {
        match self.action {
            "reinitialize" => self.role.to_owned(),
            _ => format!("'{}'", self.role),
        }
    }
}

/// The names with commas.
pub fn names(members: &[&Member]) -> String {
    members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The last question before an action on members.
///
/// # Errors
/// The answer was no.
pub fn confirm_action(
    members: &[&Member],
    force: bool,
    action: &str,
    console: &mut impl Console,
) -> Result<(), CliError> {
    let question = format!("Are you sure you want to {action} members {}?", names(members));
    if force || confirm(console, &question)? {
        return Ok(());
    }
    Err(CliError::msg(format!("Aborted {action}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::click::prompt::Script;
    use crate::store::tests::view;

    fn three() -> View {
        view(&[
            ("leader", "b"),
            ("members/a", r#"{"role": "replica", "api_url": "http://a/patroni"}"#),
            ("members/b", r#"{"role": "standby_leader", "api_url": "http://b/patroni"}"#),
            ("members/c", r#"{"role": "replica"}"#),
        ])
    }

    fn chosen(view: &View, role: &str) -> String {
        names(&members_of(view, false, Role::parse(role)))
    }

    #[test]
    fn roles() {
        let view = three();
        for (role, expected) in [
            ("leader", "b"),
            ("primary", ""),
            ("standby-leader", "b"),
            ("replica", "a, c"),
            ("standby", "a, c"),
            ("any", "a, b, c"),
        ] {
            assert_eq!(chosen(&view, role), expected, "{role}");
        }
        assert_eq!(names(&leader_first(&view.cluster)), "b, a");
        assert!(any_member(&view, false, Some(Role::Any), Some("a")).is_err());
        assert_eq!(any_member(&view, false, None, Some("c")).unwrap().unwrap().name, "c");
    }

    fn choose(names_given: &[&str], role: &str, action: &str, force: bool, answers: &[&str]) -> String {
        let view = three();
        let given: Vec<String> = names_given.iter().map(|s| (*s).to_owned()).collect();
        let wanted = Wanted { cluster_name: "demo", names: &given, role, all_groups: false, force, action };
        let mut script = Script::new(answers);
        match wanted.choose(&view, &mut script, || Ok(())) {
            Ok(members) => format!("{}{}", script.shown, names(&members)),
            Err(error) => format!("{}{error}", script.shown),
        }
    }

    #[test]
    fn choosing() {
        assert_eq!(choose(&["a", "nope"], "any", "restart", false, &[]), "a");
        assert_eq!(choose(&["nope"], "any", "restart", false, &[]), "No 'any' among provided members");
        assert_eq!(
            choose(&["b"], "replica", "reinitialize", false, &[]),
            "No replica among provided members"
        );
        assert_eq!(choose(&[], "any", "reload", true, &[]), "a, b, c");
        assert_eq!(choose(&[], "replica", "reinitialize", true, &[]), "");
        assert_eq!(
            choose(&[], "replica", "reinitialize", false, &["a"]),
            "Which member do you want to reinitialize [a, c]? []: a"
        );
        assert_eq!(
            choose(&[], "replica", "reinitialize", false, &[""]),
            "Which member do you want to reinitialize [a, c]? []:  is not a member of cluster"
        );
    }
}
