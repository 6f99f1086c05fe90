//! Citus: the task that keeps `pg_dist_node` on the coordinator's leader, and what the leaders of workers tell it.
//!
//! Decisions are [`patroni_core::citus`]'s. Here they meet PostgreSQL, the DCS and HTTP, beside the HA loop: a cycle hands
//! over a word and goes on, and whatever waits has a limit.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use patroni_core::citus::{
    wanted, Coordinator, Event, EventKind, Group, Next, NodeRole, Section, Ticket, Work, COORDINATOR,
};
use patroni_core::ha::Role;
use patroni_core::model::Cluster;
use patroni_postgres::sql::{self, PgError, Session};
use pyfmt::{json, Value};
use tokio::sync::{oneshot, Notify};

use super::shared::Shared;
use crate::instance::{locked, mono_now};

/// How long the coordinator may take to answer where nobody waits for what it does.
const TELL_WITHIN: Duration = Duration::from_secs(2);
/// Between two lives of the task, should one end by a defect.
const AGAIN: Duration = Duration::from_secs(5);

/// A statement that failed.
struct Failed(String, PgError);

/// This node's part in a Citus cluster.
pub struct Citus {
    section: Section,
    state: Mutex<Coordinator>,
    waiting: Mutex<HashMap<Ticket, oneshot::Sender<()>>>,
    changed: Notify,
    /// The keys of all groups are being read for a cycle.
    reading: AtomicBool,
    /// State and role of the member key last written.
    published: Mutex<(String, String)>,
    /// URLs of the REST APIs of the workers' members.
    others: Mutex<Arc<Vec<String>>>,
}

impl Citus {
    /// By the configuration; None: without Citus.
    pub fn of(config: &Value) -> Option<Citus> {
        Section::of(config).map(|section| Citus {
            section,
            state: Mutex::default(),
            waiting: Mutex::default(),
            changed: Notify::new(),
            reading: AtomicBool::new(false),
            published: Mutex::default(),
            others: Mutex::default(),
        })
    }

    fn with<R>(&self, change: impl FnOnce(&mut Coordinator) -> R) -> R {
        let result = change(&mut locked(&self.state));
        self.changed.notify_one();
        result
    }

    /// The server was promoted, or people may have worked on it: what is in the table is not known.
    pub fn forget(&self) {
        self.with(Coordinator::forget);
    }

    /// URLs of the REST APIs of the workers' members, as the last cycle of this leader read them.
    pub fn other_members(&self) -> Arc<Vec<String>> {
        Arc::clone(&locked(&self.others))
    }

    fn note_others(&self, groups: &BTreeMap<i64, Cluster>) {
        let workers = groups.iter().filter(|(number, _)| **number != COORDINATOR);
        let urls = workers.flat_map(|(_, cluster)| &cluster.members).filter_map(|m| m.api_url());
        *locked(&self.others) = Arc::new(urls.map(str::to_owned).collect());
    }

    /// This node is about to stop leading.
    fn stand_down(&self) {
        self.with(Coordinator::stand_down);
    }

    /// Whoever waits for these is answered.
    fn serve(&self, tickets: &[Ticket]) {
        let mut waiting = locked(&self.waiting);
        for tell in tickets.iter().filter_map(|ticket| waiting.remove(ticket)) {
            // Nobody has to wait any more.
            let _ = tell.send(());
        }
    }
}

/// Starts the coordinator's task.
pub fn start(shared: &Arc<Shared>) {
    let Some(citus) = shared.citus.clone().filter(|citus| citus.section.is_coordinator()) else { return };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while AssertUnwindSafe(keep(&shared, &citus)).catch_unwind().await.is_err() {
            tracing::error!(target: "patroni.postgresql.mpp.citus", "run");
            citus.with(|state| state.failed(None, mono_now()));
            tokio::time::sleep(AGAIN).await;
        }
    });
}

fn leads(shared: &Shared) -> bool {
    shared.lease.until().is_some_and(|until| until > mono_now())
}

/// A cycle is over: the leader of the coordinator's group looks at what the groups are now.
pub fn cycle_over(shared: &Arc<Shared>) {
    let Some(citus) = shared.citus.clone().filter(|citus| citus.section.is_coordinator()) else { return };
    if !leads(shared) {
        citus.stand_down();
        return;
    }
    if !is_settled(shared) || citus.reading.swap(true, Ordering::SeqCst) {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        // A read that fails says nothing; the store has told of it.
        if let Ok(groups) = shared.dcs.get_groups().await {
            citus.note_others(&groups);
            let (url, _) = shared.instance.published_urls();
            let tasks = wanted(&groups, &shared.instance.name, &url);
            if leads(&shared) && is_settled(&shared) {
                citus.with(|state| state.sync(tasks, mono_now()));
            }
        }
        citus.reading.store(false, Ordering::SeqCst);
    });
}

/// A primary with the lock that is about nothing else.
fn is_settled(shared: &Shared) -> bool {
    let instance = &shared.instance;
    instance.role() == Role::Primary
        && instance.says_it_writes()
        && shared.jobs.view().is_none()
        && !instance.dynamic().is_standby_cluster()
}

/// The body of `POST /citus`. A worker that is about to be demoted is answered when its clients wait, or when its time is over.
///
/// # Errors
/// The body lacks something, or the DCS cannot be read.
pub async fn event(shared: &Arc<Shared>, body: Value) -> Result<(), String> {
    let Some(citus) = shared.citus.clone().filter(|citus| citus.section.is_coordinator()) else {
        return Ok(());
    };
    if !leads(shared) || !locked(&citus.state).leads() {
        return Ok(());
    }
    let groups = shared.dcs.get_groups().await.map_err(|e| e.to_string())?;
    let event = Event::of(&body)?;
    let found = event.and_then(|event| event.task(&groups).map(|task| (event, task)));
    let Some((event, task)) = found else {
        tracing::info!(target: "patroni.postgresql.mpp.citus", "Discarding event {}", body.py_repr());
        return Ok(());
    };
    let (tell, told) = oneshot::channel();
    citus.with(|state| {
        let ticket = state.add(task, mono_now());
        if let (Some(ticket), EventKind::BeforeDemote) = (ticket, event.kind) {
            locked(&citus.waiting).insert(ticket, tell);
        }
    });
    if event.kind == EventKind::BeforeDemote {
        // An end without a word is that of a task that was not taken on, or that another has taken the place of.
        let _ = tokio::time::timeout(event.timeout, told).await;
    }
    Ok(())
}

/// The leader of a worker tells the coordinator. A failure is logged, and holds up nothing.
pub async fn tell(shared: &Arc<Shared>, kind: EventKind, limit: Duration) {
    let Some(citus) = shared.citus.clone().filter(|citus| !citus.section.is_coordinator()) else { return };
    let timing = shared.me().timing;
    let limit = if kind == EventKind::BeforeDemote { limit } else { TELL_WITHIN };
    let event = Event {
        kind,
        group: citus.section.group,
        leader: shared.instance.name.clone(),
        timeout: timing.ttl,
        cooldown: timing.retry_timeout,
    };
    let asked = async {
        let groups = match shared.dcs.get_groups().await {
            Ok(groups) => groups,
            Err(e) => {
                tracing::error!(target: "patroni.dcs", "Failed to load Citus coordinator cluster: {e}");
                return;
            }
        };
        let leader = groups.get(&COORDINATOR).and_then(|cluster| cluster.leader.as_ref());
        let Some(leader) = leader.filter(|leader| leader.member.conn_url().is_some()) else { return };
        let url = leader.member.endpoint_url("citus");
        let body = json::dumps(&event.body());
        let failure = match shared.peers().request("POST", &url, &[], body, limit).await {
            Ok(response) if response.status == 200 => return,
            // The reference does not look at it, so that a wrong password stays unseen.
            Ok(response) => format!("HTTP status {}", response.status),
            Err(e) => e.to_string(),
        };
        tracing::warn!(
            target: "patroni.ha", "Request to Citus coordinator leader {} {} failed: {failure}",
            leader.name(), leader.member.api_url().unwrap_or_default()
        );
    };
    if tokio::time::timeout(limit + TELL_WITHIN, asked).await.is_err() {
        tracing::warn!(
            target: "patroni.ha", "Citus coordinator was not told of {} within {limit:?}", kind.as_str()
        );
    }
}

/// A primary with the lock is about to be stopped or restarted in order.
pub async fn leaving(shared: &Arc<Shared>, limit: Duration) {
    match &shared.citus {
        Some(citus) if citus.section.is_coordinator() => citus.stand_down(),
        Some(_) => tell(shared, EventKind::BeforeDemote, limit).await,
        None => {}
    }
}

/// A standby is about to be promoted.
pub async fn promoting(shared: &Arc<Shared>) {
    match &shared.citus {
        Some(citus) if citus.section.is_coordinator() => citus.forget(),
        Some(_) => tell(shared, EventKind::BeforePromote, TELL_WITHIN).await,
        None => {}
    }
}

/// The member key was written: the coordinator hears of a primary that has just come to run.
pub fn member_written(shared: &Arc<Shared>, data: &Value) {
    let Some(citus) = &shared.citus else { return };
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let new = (text("state"), text("role"));
    let old = std::mem::replace(&mut *locked(&citus.published), new.clone());
    if old != new && new == ("running".to_owned(), "primary".to_owned()) {
        let shared = Arc::clone(shared);
        tokio::spawn(async move { tell(&shared, EventKind::AfterPromote, TELL_WITHIN).await });
    }
}

/// The coordinator's task.
async fn keep(shared: &Arc<Shared>, citus: &Citus) {
    let mut session: Option<Session> = None;
    loop {
        let (next, served, open) = {
            let mut state = locked(&citus.state);
            if state.leads() && !leads(shared) {
                state.stand_down();
            }
            let lost = session.as_ref().is_none_or(Session::is_closed);
            if lost && state.in_flight().is_some() {
                // The server has ended the transaction with its connection.
                state.failed(None, mono_now());
            }
            let next = state.next(mono_now());
            (next, state.take_served(), state.leads())
        };
        citus.serve(&served);
        if !open {
            // With it goes whatever transaction there was.
            drop(session.take());
        }
        match next {
            Next::Wait(until) => wait(citus, until.map(|at| at.since(mono_now()))).await,
            Next::Load => {
                let loaded = load(shared, citus, &mut session).await;
                let result = loaded.map_err(|failed| note(&mut session, &failed));
                citus.with(|state| match result {
                    Ok(groups) => state.loaded(groups),
                    Err(()) => state.failed(None, mono_now()),
                });
            }
            Next::RollBack => {
                let flying = locked(&citus.state).in_flight().map(shown).unwrap_or_default();
                tracing::warn!(
                    target: "patroni.postgresql.mpp.citus",
                    "Rolling back transaction. Last known status: {flying}"
                );
                if let Err(failed) = query(&session, "ROLLBACK").await {
                    note(&mut session, &failed);
                }
                citus.with(Coordinator::rolled_back);
            }
            Next::Work(mut work) => {
                let done = match connected(shared, citus, &mut session).await {
                    Ok(()) => run(&session, &mut work).await,
                    Err(failed) => Err(failed),
                };
                match done {
                    Ok(()) => {
                        if !citus.with(|state| state.worked(work)) {
                            drop(session.take());
                        }
                    }
                    Err(failed) => {
                        note(&mut session, &failed);
                        tracing::error!(
                            target: "patroni.postgresql.mpp.citus",
                            "Exception when working with pg_dist_node: {}", failed.1.py_repr()
                        );
                        citus.with(|state| state.failed(Some(&work), mono_now()));
                    }
                }
            }
        }
    }
}

async fn wait(citus: &Citus, limit: Option<Duration>) {
    let changed = citus.changed.notified();
    match limit {
        Some(limit) => drop(tokio::time::timeout(limit, changed).await),
        None => changed.await,
    }
}

/// Whatever transaction there was ends with its connection.
fn note(session: &mut Option<Session>, Failed(statement, error): &Failed) {
    tracing::error!(
        target: "patroni.postgresql.mpp.citus",
        "Exception when executing query \"{statement}\": {}", error.py_repr()
    );
    drop(session.take());
}

async fn connected(shared: &Shared, citus: &Citus, session: &mut Option<Session>) -> Result<(), Failed> {
    if session.as_ref().is_some_and(|session| !session.is_closed()) {
        return Ok(());
    }
    tracing::info!(
        target: "patroni.postgresql.connection", "establishing a new patroni citus connection to postgres"
    );
    let params = sql::citus_params(&shared.instance.pool().params(), &citus.section.database);
    *session = Some(Session::connect(&params).await.map_err(|e| Failed("connect".into(), e))?);
    Ok(())
}

async fn load(
    shared: &Shared,
    citus: &Citus,
    session: &mut Option<Session>,
) -> Result<BTreeMap<i64, Group>, Failed> {
    connected(shared, citus, session).await?;
    let rows = query(session, sql::NODES).await?;
    sql::parse_nodes(&rows).map_err(|e| Failed(sql::NODES.into(), e))
}

async fn query(session: &Option<Session>, statement: &str) -> Result<Vec<sql::Row>, Failed> {
    query_within(session, statement, sql::short()).await
}

async fn query_within(
    session: &Option<Session>,
    statement: &str,
    limit: Duration,
) -> Result<Vec<sql::Row>, Failed> {
    let failed = |error| Failed(statement.to_owned(), error);
    let session = session.as_ref().ok_or_else(|| failed(PgError::Connection("not connected".into())))?;
    session.query(statement, limit).await.map_err(failed)
}

/// Runs the statements of a piece of work, and notes the numbers of new rows.
async fn run(session: &Option<Session>, work: &mut Work) -> Result<(), Failed> {
    if work.begin {
        query(session, "BEGIN").await?;
    }
    for step in work.steps.clone() {
        let Some((statement, limit)) = sql::statement(&step, work.after.number, work.cooldown) else {
            continue;
        };
        let rows = query_within(session, &statement, limit).await?;
        if step.id.is_none() && step.role != NodeRole::Other {
            let id = rows.first().and_then(|row| row.number(0).ok().flatten());
            work.after.set_id(&step, id);
        }
    }
    if work.commit {
        query(session, "COMMIT").await?;
    }
    Ok(())
}

/// As the reference prints it.
fn shown(group: &Group) -> String {
    let role = |role| match role {
        NodeRole::Demoted => "demoted",
        other => NodeRole::as_str(other),
    };
    let nodes = group.nodes.iter().map(|node| {
        let id = node.id.map_or_else(|| "None".to_owned(), |id| id.to_string());
        format!("PgDistNode(nodeid={id},host={},port={},role={})", node.host, node.port, role(node.role))
    });
    format!("PgDistTask({{{}}})", nodes.collect::<Vec<_>>().join(", "))
}
