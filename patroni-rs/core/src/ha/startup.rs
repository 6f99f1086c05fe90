//! From nothing to a member: bootstrap, joining, a server that is starting
//! (surface-ha-pg 4B, 4C, 4E, 4F).

use std::time::Duration;

use super::ask;
use super::cycle::{sysid_valid, Cycle};
use super::recover::NOT_PROVEN;
use super::request::SyncNames;
use super::script::{Halt, Level, Step};
use super::types::*;

/// How long an ordered restart without a limit of its own may take: `pg_ctl_timeout`, as it is by default.
const ORDERED_START: Duration = Duration::from_secs(60);

impl Cycle<'_> {
    /// 4B: the postmaster is on its way up.
    pub(super) fn starting_instance(&mut self) -> Step<Option<String>> {
        if !self.pg.state.is_starting() || self.is_paused() {
            self.m.start.is_up();
            if self.is_paused() {
                let state = if self.pg.running { PgState::Running } else { PgState::Stopped };
                self.set_state(state)?;
            }
            return Ok(None);
        }
        if !self.has_lock() {
            self.log("Still starting up as a standby.");
            return Ok(None);
        }
        if !self.update_lock(false)? {
            self.log("Lost lock while starting up. Demoting self.");
            self.demote(DemoteMode::ImmediateNolock)?;
            return Ok(Some("stopped PostgreSQL while starting up because leader key was lost".into()));
        }
        let configured = Duration::from_secs(self.m.config.primary_start_timeout().max(0) as u64);
        // A limit of zero is for servers that have crashed, not for a restart that somebody has ordered.
        let timeout = match self.m.start.timeout {
            Some(ordered) if !ordered.is_zero() => ordered,
            Some(_) if configured.is_zero() => ORDERED_START,
            _ => configured,
        };
        let timeout = timeout.as_secs_f64();
        let left = timeout - self.io.now().since(self.pg.state_since).as_secs_f64();
        if left <= 0.0 {
            if !self.failover_possible(None, false)? {
                return Ok(Some(
                    "primary start has timed out, but continuing to wait because failover is not possible"
                        .into(),
                ));
            }
            self.log("Demoting self because primary startup is taking too long");
            self.demote(DemoteMode::Immediate)?;
            return Ok(Some("stopped PostgreSQL because of startup timeout".into()));
        }
        if let Some(line) = self.manual_failover_as_leader()? {
            return Ok(Some(line));
        }
        Ok(Some(format!("PostgreSQL is still starting up, {left:.0} seconds until timeout")))
    }

    /// 4C: bootstrap has been started by this process.
    pub(super) fn post_bootstrap(&mut self) -> Step<String> {
        if !self.pg.running || self.m.bootstrap.result == Some(false) {
            return self.cancel_initialization();
        }
        if self.m.bootstrap.result.is_none() {
            if !self.pg.is_primary() {
                return Ok("waiting for end of recovery after bootstrap".into());
            }
            self.set_role(Role::Primary)?;
            return Ok(self
                .start_job(Job::PostBootstrap)?
                .unwrap_or_else(|| "running post_bootstrap".into()));
        }
        if let Some(known) = self.cluster.initialize.clone().filter(|known| sysid_valid(Some(known))) {
            if known != self.pg.sysid {
                return self.abort_bootstrap(&known);
            }
        }
        self.m.bootstrap.made();
        if !self.io.ask(ask::WatchdogActivate)? {
            self.io.log(Level::Error, "Cancelling bootstrap because watchdog activation failed");
            return self.cancel_initialization();
        }
        self.watchdog_running = true;
        if self.pg.is_primary() && self.io.ask(ask::EnsureCheckpoint)? {
            self.m.rewind.leads();
        }
        let create_new = self.cluster.initialize.is_none();
        self.io.ask(ask::Initialize { create_new, sysid: self.pg.sysid.clone() })?;
        self.io.ask(ask::SetConfig(self.v.me.dynamic_config.clone()))?;
        if self.io.ask(ask::TakeLeader)? {
            self.m.lock.is_ours();
            self.lease_held();
        }
        if self.is_synchronous_mode() {
            let strict = self.m.config.is_synchronous_mode_strict();
            self.sync_names(if strict { SyncNames::Star } else { SyncNames::User(None) })?;
        }
        self.call(Callback::OnStart)?;
        self.load_cluster()?;
        Ok("initialized a new cluster".into())
    }

    /// Our claim was lost while the DCS was away, and another node has made the cluster: ours has never
    /// been anybody's. (The reference overwrites the key and takes the lock.)
    fn abort_bootstrap(&mut self, known: &str) -> Step<String> {
        let (me, mine) = (self.name(), self.pg.sysid.clone());
        self.io.log(
            Level::Critical,
            format!("system ID mismatch, node {me} belongs to a different cluster: {known} != {mine}"),
        );
        self.quarantine_data_dir()
    }

    /// 12-12: what a failed bootstrap made is put aside, and the process ends.
    fn cancel_initialization(&mut self) -> Step<String> {
        self.log("removing initialize key after failed attempt to bootstrap the cluster");
        self.io.ask(ask::CancelInitialization)?;
        self.quarantine_data_dir()
    }

    fn quarantine_data_dir(&mut self) -> Step<String> {
        self.io
            .ask(ask::Stop { mode: StopMode::Immediate, timeout: Some(self.v.me.timing.retry_timeout) })?;
        if !self.io.ask(ask::QuarantineDataDir)? {
            self.io.log(Level::Error, "The data directory of the failed bootstrap is where it was");
        }
        self.io.log(Level::Critical, "Failed to bootstrap cluster");
        Err(Halt::Exit(1))
    }

    /// 4E: there is no data directory to run on.
    pub(super) fn without_data_dir(&mut self) -> Step<String> {
        self.set_role(Role::Uninitialized)?;
        let stop = ask::Stop { mode: StopMode::Immediate, timeout: Some(self.v.me.timing.retry_timeout) };
        let stopped = self.io.ask(stop)?;
        if stopped {
            self.watchdog_disable()?;
        }
        let data_dir = self.pg.data_dir.clone();
        if self.has_lock() {
            if !stopped {
                return Ok(NOT_PROVEN.into());
            }
            self.release_leader_key(None)?;
            let what = match data_dir {
                DataDir::Inaccessible(_) => "not accessible",
                DataDir::HalfMade(_) => "half made",
                DataDir::Empty | DataDir::Present => "empty",
            };
            return Ok(format!("released leader key voluntarily as data dir {what} and currently leader"));
        }
        match data_dir {
            DataDir::Inaccessible(error) => Ok(format!("data directory is not accessible: {error}")),
            _ if !stopped => {
                Ok("not bootstrapping because processes of postgres may still be running".into())
            }
            DataDir::HalfMade(work) => self.half_made(work),
            _ if self.is_paused() => Ok("running with empty data directory".into()),
            _ => self.bootstrap(),
        }
    }

    /// No server may run on what work that was broken off has left, even if it would start. (The reference does not
    /// know: it rewinds again, from the node that leads by then, or starts PostgreSQL on it forever.)
    fn half_made(&mut self, work: Unfinished) -> Step<String> {
        let what = work.as_str();
        if self.is_paused() {
            return Ok(format!("data directory is half made, by a {what} that was broken off"));
        }
        match work {
            // Nobody has ever written to it.
            Unfinished::Bootstrap => {
                self.io.ask(ask::QuarantineDataDir)?;
                Ok("put aside what a bootstrap that was broken off has left".into())
            }
            // It was to be made anew anyway.
            Unfinished::Copy => self.bootstrap(),
            Unfinished::Rewind => {
                let allowed = self.v.me.reinit_on_failed_rewind || self.v.me.reinit_on_diverged;
                let (source, what) = self.clone_source(false);
                if self.cluster.is_unlocked() || !allowed || source.is_none() {
                    return Ok("data directory is half rewound: it must not be started, and needs to be reinitialized \
                               (patronictl reinit)"
                        .into());
                }
                let refused =
                    self.start_job(Job::Clone { source, what: what.clone(), from_leader: false })?;
                Ok(refused.unwrap_or_else(|| format!("trying to bootstrap {what}")))
            }
        }
    }

    fn bootstrap(&mut self) -> Step<String> {
        let me = &self.v.me;
        let unlocked = self.cluster.is_unlocked();
        // Where a copy was broken off there was something to copy, and is again; a standby leader's begins as a copy.
        let may_found = self.pg.data_dir == DataDir::Empty || self.is_standby_cluster();
        if unlocked && may_found && !me.tags.nofailover() && me.can_bootstrap {
            if self.cluster.initialize.is_none() {
                return self.bootstrap_cluster();
            }
            // Taken, perhaps by us: the answer may have been lost. The DCS can tell.
            let unclear = self.m.bootstrap.claim_unclear && self.cluster.initialize.as_deref() == Some("");
            if unclear && self.claim_bootstrap()? {
                return self.start_bootstrap();
            }
        }
        if !unlocked {
            let (source, what) = self.clone_source(false);
            if source.is_some() {
                let refused =
                    self.start_job(Job::Clone { source, what: what.clone(), from_leader: false })?;
                return Ok(refused.unwrap_or_else(|| format!("trying to bootstrap {what}")));
            }
        }
        let bootstrapping_elsewhere = self.cluster.initialize.as_deref() == Some("");
        if self.has_no_leader_method() && !bootstrapping_elsewhere {
            let what = "(without leader)".to_owned();
            let source = self.is_standby_cluster().then(|| self.remote_source(None));
            let refused = self.start_job(Job::Clone { source, what, from_leader: false })?;
            return Ok(refused.unwrap_or_else(|| "trying to bootstrap (without leader)".into()));
        }
        let standby = if self.is_standby_cluster() { "standby_" } else { "" };
        Ok(format!("waiting for {standby}leader to bootstrap"))
    }

    /// A standby cluster has its own list of methods, by default an empty one.
    fn has_no_leader_method(&self) -> bool {
        if !self.is_standby_cluster() {
            return self.v.me.has_no_leader_method;
        }
        let listed = self.m.config.standby_cluster().get("create_replica_methods");
        let listed = listed.and_then(pyfmt::Value::as_list).unwrap_or_default();
        listed.iter().any(|method| self.v.me.no_leader_methods.contains(&method.py_str()))
    }

    fn bootstrap_cluster(&mut self) -> Step<String> {
        if !self.claim_bootstrap()? {
            return Ok("failed to acquire initialize lock".into());
        }
        self.start_bootstrap()
    }

    fn claim_bootstrap(&mut self) -> Step<bool> {
        let claimed = self.io.ask(ask::Initialize { create_new: true, sysid: String::new() })?;
        self.m.bootstrap.asked(claimed);
        Ok(claimed)
    }

    fn start_bootstrap(&mut self) -> Step<String> {
        self.m.bootstrap.begun();
        if self.is_standby_cluster() {
            let job = Job::BootstrapStandbyLeader { source: self.remote_source(None) };
            return Ok(self
                .start_job(job)?
                .unwrap_or_else(|| "trying to bootstrap a new standby leader".into()));
        }
        Ok(self.start_job(Job::Bootstrap)?.unwrap_or_else(|| "trying to bootstrap a new cluster".into()))
    }

    /// As the free function, by the configuration in force.
    pub(super) fn clone_source(&self, from_leader: bool) -> (Option<Source>, String) {
        // Any running member that offers itself will do; time is a good enough die.
        let dice = self.v.now.since_start().subsec_nanos() as usize / 1000;
        super::commands::clone_source(self.name(), &self.cluster, &self.m.config, from_leader, dice)
    }

    /// 4F: is this our cluster's data?
    pub(super) fn check_system_identifier(&mut self) -> Step<Option<String>> {
        let mine = self.pg.sysid.clone();
        if !sysid_valid(Some(&mine)) {
            // Whose data it is, is not known; that it may not write is. (The reference leaves it running beside the leader.)
            if self.pg.running && self.pg.is_primary() && !self.is_paused() && !self.has_lock_quietly() {
                self.demote(DemoteMode::ImmediateNolock)?;
            }
            // Nor may a watchdog reset a standby that is not going to be promoted as long as this lasts.
            self.watchdog_off_standby()?;
            let why = self.why_unidentified();
            self.warn(why);
            // Nor is the lock of a server that does not run kept from others: the member key, which is written in each
            // cycle, keeps its lease alive. (The reference keeps it: docs/safety.md.)
            if !self.pg.running && self.has_lock_quietly() && self.proven_gone()? {
                self.release_leader_key(None)?;
            }
            return Ok(Some(
                "data dir for the cluster is not empty, but system ID is invalid; consider doing reinitialize"
                    .into(),
            ));
        }
        let known = self.cluster.initialize.clone();
        if sysid_valid(known.as_deref()) {
            return match known {
                Some(known) if known != mine => self.foreign_data(&known, &mine),
                _ => Ok(None),
            };
        }
        if self.cluster.is_unlocked() && !self.is_paused() && !self.pg.callback_fired {
            if self.pg.running && !self.pg.is_primary() {
                self.m.bootstrap.leave_alone();
                self.io.log(
                    Level::Error,
                    "No initialize key in DCS and PostgreSQL is running as replica, aborting start",
                );
                self.io.log(Level::Error, "Please first start Patroni on the node running as primary");
                return Err(Halt::Exit(1));
            }
            self.io.ask(ask::Initialize { create_new: known.is_none(), sysid: mine })?;
        }
        Ok(None)
    }

    /// Which of the situations it is that "system ID is invalid" stands for.
    fn why_unidentified(&self) -> String {
        let problem = &self.pg.sysid_problem;
        let problem = if problem.is_empty() { "no system identifier in it" } else { problem.as_str() };
        let server =
            if self.pg.running { "PostgreSQL is running in it" } else { "PostgreSQL is not running" };
        format!("The control file of the data directory can not be used: {problem}; {server}")
    }

    fn foreign_data(&mut self, known: &str, mine: &str) -> Step<Option<String>> {
        let me = self.name();
        if !self.is_paused() {
            self.io.log(
                Level::Critical,
                format!("system ID mismatch, node {me} belongs to a different cluster: {known} != {mine}"),
            );
            return Err(Halt::Exit(1));
        }
        self.warn(format!(
            "system ID has changed while in paused mode. Patroni will exit when resuming unless system ID is \
             reset: {known} != {mine}"
        ));
        if self.has_lock() && (self.pg.running || self.proven_gone()?) {
            self.release_leader_key(None)?;
            return Ok(Some("released leader key voluntarily due to the system ID mismatch".into()));
        }
        Ok(None)
    }
}
