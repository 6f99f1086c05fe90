//! `list` and `topology` (surface-api-ctl 13).

use std::collections::BTreeMap;

use patroni_core::cluster_json;
use patroni_core::model::Cluster;

use super::watch;
use crate::click::{CliError, Values};
use crate::context::Context;
use crate::output::members::{listing, Listing};
use crate::output::Format;
use crate::store::{global_config, View};

/// Runs `list`.
pub fn list(context: &mut Context, values: &Values) -> Result<(), CliError> {
    let format = values.text("format").and_then(Format::parse).unwrap_or(Format::Pretty);
    show_all(context, values, format)
}

/// Runs `topology`.
pub fn topology(context: &mut Context, values: &Values) -> Result<(), CliError> {
    show_all(context, values, Format::Topology)
}

fn show_all(context: &mut Context, values: &Values, format: Format) -> Result<(), CliError> {
    let mut names = values.many("cluster_names").to_vec();
    if names.is_empty() {
        names.extend(context.scope());
    }
    if names.is_empty() {
        tracing::warn!(target: "patroni.ctl", "Listing members: No cluster names were provided");
        return Ok(());
    }
    let group = values.int("group");
    let table = Table { extended: values.flag("extended"), format, group };
    watch::run(watch::period(values), true, || {
        if values.flag("timestamp") {
            crate::out::echo(&crate::clock::seconds());
        }
        for name in &names {
            let view = context.store(name, group)?.view()?;
            table.print(context, name, &view)?;
        }
        Ok(())
    })
}

/// How a table of members is shown.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Show the optional columns in any case.
    pub extended: bool,
    /// The format.
    pub format: Format,
    /// The Citus group that was asked for.
    pub group: Option<i64>,
}

impl Table {
    /// The table that commands print before they act.
    pub fn of_group(group: Option<i64>) -> Table {
        Table { extended: false, format: Format::Pretty, group }
    }

    /// Prints the members of a cluster.
    ///
    /// # Errors
    /// See [`listing`].
    pub fn print(self, context: &Context, name: &str, view: &View) -> Result<(), CliError> {
        let citus = context.is_citus();
        let document = |cluster: &Cluster| cluster_json::document(cluster, &global_config(cluster));
        let mut clusters = BTreeMap::new();
        clusters.insert(self.group.unwrap_or(0), document(&view.cluster));
        if citus && self.group.is_none() {
            clusters.extend(view.workers.iter().map(|(g, c)| (*g, document(c))));
        }
        let listed = Listing {
            name,
            initialize: view.cluster.initialize.as_deref(),
            clusters,
            citus,
            group: self.group,
            extended: self.extended,
        };
        crate::out::print(&listing(&listed, self.format)?);
        Ok(())
    }
}
