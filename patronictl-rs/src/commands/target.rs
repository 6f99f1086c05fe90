//! The cluster that a command is for, and the members in it.

use std::rc::Rc;

use patroni_core::model::Member;

use super::list::Table;
use super::select::Wanted;
use crate::click::prompt::Stdio;
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::store::{Store, View};

/// A cluster as the command line names it, read once.
pub struct Target {
    /// Its name.
    pub name: String,
    /// The Citus group that was asked for.
    pub group: Option<i64>,
    /// Its keys in the DCS.
    pub store: Rc<Store>,
    /// What was read.
    pub view: View,
}

impl Target {
    /// Reads the cluster that the command line names.
    ///
    /// # Errors
    /// No DCS is configured, or it does not answer.
    pub fn read(context: &mut Context, values: &Values) -> Result<Target, CliError> {
        let name = context.cluster_name(values)?;
        let group = values.int("group");
        let store = context.store(&name, group)?;
        let view = store.view()?;
        Ok(Target { name, group, store, view })
    }

    /// Are the members of all Citus groups meant?
    pub fn all_groups(&self, context: &Context) -> bool {
        context.is_citus() && self.group.is_none()
    }

    /// Shows the table and chooses the members for an action; `role` is the
    /// role that they must have, as it was written.
    ///
    /// # Errors
    /// No such members.
    pub fn choose(
        &self,
        context: &Context,
        values: &Values,
        role: &str,
        action: &str,
    ) -> Result<Vec<&Member>, CliError> {
        let wanted = Wanted {
            cluster_name: &self.name,
            names: values.many("member_names"),
            role,
            all_groups: self.all_groups(context),
            force: values.flag("force"),
            action,
        };
        let show = || Table::of_group(self.group).print(context, &self.name, &self.view);
        wanted.choose(&self.view, &mut Stdio, show)
    }
}
