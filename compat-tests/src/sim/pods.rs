//! A member's client of an API server of Kubernetes in the simulated world. What ships above it is
//! [`Layout`](patroni_dcs::kubernetes::Layout); what the lock keeper asks is [`renew`], in steps.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use patroni_core::ha::Mono;
use patroni_core::node::Renewed;
use patroni_core::timing::Timing;
use patroni_dcs::kubernetes::{
    renew, Answer, Failure, Layout, List, Meta, Object, ObjectStore, OurLock, Scope, Which, Write,
};
use patroni_dcs::kv::Effort;
use patroni_dcs::lock::{LockRenewer, Renewal};
use patroni_dcs::Settings;
use pyfmt::{datetime, json, Value};

use super::config::Config;
use super::dcs::{Op, Said};
use super::events::Event;
use super::floor::{Client, Flaws};
use super::node::{ms, Member};
use super::objects::{Patch, LEADER};
use super::planted::Planted;
use super::world::World;

/// How all wall clocks began.
const EPOCH: Duration = Duration::from_secs(1_795_834_829);

/// A client of the API server.
pub struct Api(Client);

impl Api {
    /// The mailbox of its requests.
    pub fn client(&self) -> &Client {
        &self.0
    }

    async fn ask(&self, op: Op, effort: Effort) -> Answer<Said> {
        let said = self.0.call(op, effort).await;
        said.map(|(said, _)| said).map_err(|failure| Failure::Unknown(failure.text().to_owned()))
    }

    async fn write(&self, patch: Patch, effort: Effort) -> Answer<Object> {
        object(self.ask(Op::Write(Box::new(patch)), effort).await?)
    }

    /// The lock as this client shows it, with what is wrong with it on purpose.
    fn shown(&self, mut leader: Object) -> Object {
        let flaws = self.0.flaws();
        let get = |name: &str| leader.annotation(name).unwrap_or_default().to_owned();
        let (holder, renewed, ttl) = (get("leader"), get("renewTime"), get("ttl"));
        let term = format!("{holder} {} {}", get("acquireTime"), get("transitions"));
        let others = !holder.is_empty() && holder != self.0.name();
        if let Some(annotations) = leader.metadata.annotations.as_mut().filter(|_| others) {
            if flaws.counts_from_the_beginning {
                annotations.insert("renewTime".into(), self.0.first_seen(&term, &renewed));
            }
            let ttl = Duration::from_secs(ttl.parse().unwrap_or(0));
            if flaws.believes_renew_time && time(&renewed).is_some_and(|at| at + ttl < self.wall()) {
                annotations.remove("leader");
            }
        }
        self.0.saw_holder(&holder);
        leader
    }

    /// The version that a write compares with: the one that was decided on, unless that is what is wrong.
    async fn compared(&self, write: &Write<'_>, effort: Effort) -> Answer<Option<String>> {
        let flaws = self.0.flaws();
        let holds = (&"leader", Some(self.0.name()));
        let lock = write.annotations.iter().any(|(name, value)| (name, value.as_deref()) == holds);
        let newest = if self.0.held_it() { flaws.renews_the_newest } else { flaws.takes_the_newest };
        if write.name != LEADER || !lock || !newest {
            return Ok(write.version.map(str::to_owned));
        }
        Ok(Some(self.get(write.name, effort).await?.version().to_owned()))
    }
}

fn object(said: Said) -> Answer<Object> {
    match said {
        Said::Object(Some(object)) => Ok(*object),
        Said::Object(None) => Err(Failure::Missing),
        Said::Refused => Err(Failure::Conflict),
        other => Err(Failure::Unknown(format!("{other:?}"))),
    }
}

fn time(text: &str) -> Option<SystemTime> {
    let locale = datetime::Locale { today: (1970, 1, 1), zone_names: ["UTC", "UTC"], offset_at: &|_| 0 };
    let seconds = datetime::parse(text, &locale).ok()?.unix_seconds();
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

impl ObjectStore for Api {
    fn timing(&self) -> Timing {
        self.0.current_timing()
    }

    fn set_timing(&self, timing: Timing) -> Timing {
        self.0.replace_timing(timing)
    }

    fn reload(&self, _: &Value) {}

    fn now(&self) -> Instant {
        self.0.clock()
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + EPOCH + self.0.wall()
    }

    fn nonce(&self) -> u64 {
        self.0.nonce()
    }

    async fn pause(&self, pause: Duration) {
        self.0.once(Op::Pause(pause.as_millis() as u64), pause).await;
    }

    async fn list(&self, which: Which, effort: Effort) -> Answer<List> {
        let Said::Objects(version, objects) = self.ask(Op::Objects(which), effort).await? else {
            return Err(Failure::Unknown("no list".into()));
        };
        let shown = |object: Object| if object.name() == LEADER { self.shown(object) } else { object };
        let objects = objects.into_iter().map(shown).collect();
        let metadata = Meta { resource_version: version.to_string(), ..Meta::default() };
        Ok(List { metadata, items: Some(objects) })
    }

    async fn get(&self, name: &str, effort: Effort) -> Answer<Object> {
        object(self.ask(Op::Object(name.to_owned()), effort).await?)
    }

    async fn patch(&self, write: &Write<'_>, effort: Effort) -> Answer<Object> {
        let at = self.compared(write, effort).await?;
        self.write(patch(write, at, false), effort).await
    }

    async fn create(&self, write: &Write<'_>, effort: Effort) -> Answer<Object> {
        self.write(patch(write, None, true), effort).await
    }

    async fn patch_pod(
        &self,
        _: &[(String, Option<String>)],
        status: &str,
        effort: Effort,
    ) -> Answer<Object> {
        let annotations = vec![("status".to_owned(), Some(status.to_owned()))];
        let name = self.0.name().to_owned();
        let patch = Patch { pod: true, name, annotations, at: None, create: false, manager: None };
        self.write(patch, effort).await
    }

    async fn create_service(&self, _: Effort) -> Answer<()> {
        Ok(())
    }

    async fn delete_all(&self, _: Option<&str>, _: Effort) -> Answer<()> {
        Err(Failure::Refused("nobody asks for it".into()))
    }

    /// The lock keeper of the simulated world is `keeper.rs`.
    fn renewer(&self, _: Arc<OurLock>) -> Option<Box<dyn LockRenewer>> {
        None
    }
}

fn patch(write: &Write<'_>, at: Option<String>, create: bool) -> Patch {
    let annotations = write.annotations.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
    Patch {
        pod: false,
        name: write.name.to_owned(),
        annotations: annotations.collect(),
        at,
        create,
        manager: write.manager.map(str::to_owned),
    }
}

/// What ships, over a client of the simulated world.
pub fn layout(settings: Settings, client: Client) -> Layout<Api> {
    let section =
        json::loads(r#"{"labels":{"application":"patroni"},"use_endpoints":true}"#).unwrap_or_default();
    match Scope::of(&settings, &Value::map(), &section, &|_| None) {
        Ok(scope) => Layout::new(settings, Arc::new(scope), Arc::new(Api(client))),
        Err(error) => unreachable!("the section is a good one: {error}"),
    }
}

/// A renewal by the lock keeper that is on its way.
pub struct Keeping {
    api: Arc<Api>,
    renewing: Option<Pin<Box<dyn Future<Output = Renewed>>>>,
    /// By the node's clock, and by the true one.
    sent: Mono,
    began: u64,
}

impl fmt::Debug for Keeping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keeping")
    }
}

impl World {
    /// The keeper asks, on connections of its own, within a limit.
    pub(super) fn keep_object(&mut self, node: usize, sent: Mono, limit: Duration, lock: Arc<OurLock>) {
        let member = &self.members[node];
        let client = member.upper.store().another();
        let deadline = client.clock() + limit;
        let api = Arc::new(Api(client));
        let asks = Arc::clone(&api);
        let renewing = async move {
            match renew(&*asks, LEADER, &lock, deadline).await {
                Ok(Renewal::Until(granted)) => Renewed::Until(granted.ttl),
                Ok(Renewal::Gone) => Renewed::Gone,
                Ok(Renewal::NoAnswer(_)) | Err(_) => Renewed::Unanswered,
            }
        };
        let (generation, began) = (member.generation, self.now);
        let keeping = Keeping { api, renewing: Some(Box::pin(renewing)), sent, began };
        self.members[node].keeping = Some(keeping);
        let at = self.now + limit.as_millis() as u64;
        self.at(at, Event::Renewed { node, generation, sent, outcome: Renewed::Unanswered });
        self.go_on_keeping(node);
    }

    fn go_on_keeping(&mut self, node: usize) {
        let (now, generation) = (self.now, self.members[node].generation);
        let (clock, wall_step) = (self.members[node].clock(now), self.members[node].wall_step);
        let Some(keeping) = self.members[node].keeping.as_mut() else { return };
        let Some(renewing) = keeping.renewing.as_mut() else { return };
        keeping.api.0.set_clock(clock, wall_step);
        let (sent, api) = (keeping.sent, Arc::clone(&keeping.api));
        if let Poll::Ready(outcome) = renewing.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            keeping.renewing = None;
            return self.at(now, Event::Renewed { node, generation, sent, outcome });
        }
        while let Some(asked) = api.0.take_asked() {
            let id = asked.id;
            let (after, said) = self.fate(node, asked);
            self.at(now + after, Event::Kept { node, sent, id, said: said.map(Box::new) });
        }
    }

    /// An answer to the keeper.
    pub(super) fn kept(&mut self, node: usize, sent: Mono, id: u64, said: Option<Said>) {
        if let Some(keeping) = self.members[node].keeping.as_ref().filter(|keeping| keeping.sent == sent) {
            keeping.api.0.answer(id, said, 0);
            self.go_on_keeping(node);
        }
    }

    /// A renewal of an object has come to its end; false: another one has long begun, or none is due.
    pub(super) fn is_kept(&mut self, node: usize, sent: Mono, outcome: Renewed) -> bool {
        let Some(keeping) = self.members[node].keeping.take_if(|keeping| keeping.sent == sent) else {
            return false;
        };
        let member = &self.members[node];
        let ours = self.has_lock(node);
        let had = ours || self.last_leader == member.me.name || member.had_lock_at >= keeping.began;
        let lacked = !ours || member.lacked_lock_at >= keeping.began;
        let wrong = match outcome {
            Renewed::Until(_) => !had,
            Renewed::Gone => !lacked,
            _ => false,
        };
        if wrong && self.restored_at.is_none() {
            self.fail(
                12,
                format!("n{node}'s keeper is told {outcome:?}, which was so at no time since it asked"),
            );
        }
        true
    }
}

impl Flaws {
    /// Of the clients of such a world.
    pub fn of(config: &Config) -> Flaws {
        let planted = config.planted;
        let counts_leader = planted != Planted::IgnoresLeaderClock;
        Flaws {
            blind: planted == Planted::TakesLockBlindly,
            stale_sync: planted == Planted::StaleSyncToken,
            sync_made_anyway: false,
            takes_the_newest: planted == Planted::TakesTheNewest,
            renews_the_newest: planted == Planted::RenewsTheNewest,
            believes_renew_time: planted == Planted::BelievesRenewTime,
            counts_from_the_beginning: planted == Planted::CountsFromTheBeginning,
            knows_no_moment: planted == Planted::KnowsNoMoment,
            leader_ahead: if counts_leader { config.leader_ahead } else { 0 },
        }
    }
}

impl Member {
    /// Its client of the store is told the time.
    pub(super) fn tell_time(&self, now: u64) {
        self.upper.store().set_clock(self.clock(now), self.wall_step);
    }

    /// Who follows is woken when the lock runs out by his clock: that is then, if it is before `next`.
    pub(super) fn lock_ends_before(&mut self, now: u64, next: u64) -> Option<u64> {
        self.tell_time(now);
        let cluster = self.memory.cluster.as_ref();
        let led = cluster.is_some_and(|cluster| !cluster.is_unlocked());
        let following = led && !self.leads_by_view() && self.slot.running().is_none();
        let wait = ms((next - now) * self.rate / 1000);
        let left = self.upper.lock_ends(following, wait)?;
        let at = now + (left.as_micros() as u64).div_ceil(self.rate) + 1;
        self.lock_ends_at = Some(at);
        Some(at)
    }

    /// A cycle begins.
    pub(super) fn lock_may_have_ended(&mut self, now: u64) {
        if self.lock_ends_at.take().is_some_and(|at| now >= at) {
            self.upper.lock_has_ended();
        }
    }
}
