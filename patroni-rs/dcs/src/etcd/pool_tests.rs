#![allow(clippy::unwrap_used)]
use super::*;

/// What a wire of these tests has nothing to say about.
macro_rules! silent {
    () => {
        type Rpc = ();
        type Body = ();
        type Conn = ();
        fn members(&self) {}
        fn urls(&self, (): ()) -> Option<Vec<String>> {
            None
        }
        fn name(&self) -> &'static str {
            "Etcd"
        }
        fn what(&self, (): &()) -> String {
            String::new()
        }
        fn say(&self, _: Level, _: &str) {}
    };
}

/// Nobody is there.
struct Nobody;

impl Wire for Nobody {
    silent!();
    async fn connect(&self, _: &str, _: &Arc<EtcdOptions>, _: Manner) -> Result<(), Failure> {
        Err(no_nodes())
    }
    async fn send(&self, _: &mut (), _: &()) -> Result<Reply<()>, Failure> {
        Err(no_nodes())
    }
}

fn pool(json: &str) -> Pool<Nobody> {
    let options = EtcdOptions::from_section(&pyfmt::json::loads(json).unwrap()).unwrap();
    Pool::new(Nobody, options, Timing::default(), Asker::Daemon)
}

#[test]
fn a_node_with_an_older_term_is_not_believed_by_either_pool() {
    let pool = pool(r#"{"hosts":"a:1"}"#);
    let keeper = pool.separate();
    let told = |term, by_majority| Told { cluster: 1, term, revision: 0, by_majority };
    let stale = Err(Failure::Node("stale etcd node".into()));
    assert_eq!(pool.judge(told(5, true), Instant::now()), Ok(()));
    assert_eq!(pool.judge(told(4, false), Instant::now()), stale);
    assert_eq!(keeper.judge(told(4, false), Instant::now()), stale);
    assert_eq!(keeper.judge(told(6, false), Instant::now()), Ok(()));
    assert_eq!(pool.judge(told(5, false), Instant::now()), stale);
    // A store that has gone back is believed, by both, and counted.
    let back = |revision| Told { cluster: 1, term: 2, revision, by_majority: true };
    assert_eq!(pool.judge(Told { term: 7, ..back(100) }, Instant::now()), Ok(()));
    assert_eq!(pool.judge(back(90), Instant::now()), Ok(()));
    assert_eq!(keeper.judge(told(2, false), Instant::now()), Ok(()));
    assert_eq!((pool.setbacks(), keeper.setbacks()), (1, 1));
    // And the watch is made anew: it may wait for revisions that were there before.
    let told_anew = pool.selected();
    assert_eq!(pool.judge(told(2, true), Instant::now()), Ok(()));
    assert!(!told_anew.has_changed().unwrap());
    assert_eq!(pool.judge(Told { cluster: 2, ..told(2, true) }, Instant::now()), Ok(()));
    assert!(told_anew.has_changed().unwrap());
}

#[test]
fn the_first_node() {
    let selected = |json: &str, urls: &[&str]| {
        let pool = pool(json);
        pool.learn(urls.iter().map(|url| (*url).to_owned()).collect());
        let base = locked(&pool.state).base.clone();
        assert_eq!(*pool.selected().borrow(), base);
        (base, pool)
    };
    // The host of the configuration, if it is one of the members.
    let urls = ["http://a:1", "http://b:2", "http://c:3"];
    for (json, want) in [
        (r#"{"host":"b:2"}"#, "http://b:2"),
        (r#"{"url":"http://c:3"}"#, "http://c:3"),
        (r#"{"hosts":"x:1","host":"a:1"}"#, "http://a:1"),
    ] {
        assert_eq!(selected(json, &urls).0, want, "{json}");
    }
    let (base, pool) = selected(r#"{"hosts":"a:1,b:2,c:3"}"#, &urls);
    assert!(urls.contains(&base.as_str()));
    // The keeper's is another one, and the next one once that is silent; where there is but one it is that.
    let keeper = pool.separate();
    let first = locked(&keeper.state).base.clone();
    assert_ne!(first, base);
    keeper.leave_selected();
    assert_ne!(locked(&keeper.state).base, first);
    let (_, pool) = selected(r#"{"hosts":"a:1"}"#, &urls[..1]);
    let keeper = pool.separate();
    keeper.leave_selected();
    assert_eq!(locked(&keeper.state).base, "http://a:1");
}

#[test]
fn both_pools_hear_of_new_options_and_durations() {
    let pool = pool(r#"{"hosts":"a:1"}"#);
    let keeper = pool.separate();
    let section = pyfmt::json::loads(r#"{"hosts":"b:2","username":"u","password":"p"}"#).unwrap();
    pool.set_options(EtcdOptions::from_section(&section).unwrap());
    let timing = Timing { ttl: Duration::from_secs(77), ..Timing::default() };
    pool.set_timing(timing);
    assert_eq!(keeper.options(), pool.options());
    assert_eq!((keeper.options().credentials.is_some(), keeper.timing()), (true, timing));
}

/// Takes its time for each password, and knows one.
struct Guarded {
    password: Mutex<String>,
}

impl Wire for Arc<Guarded> {
    silent!();
    async fn connect(&self, _: &str, options: &Arc<EtcdOptions>, _: Manner) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_millis(800)).await;
        match &options.credentials {
            Some((_, password)) if *password == *locked(&self.password) => Ok(()),
            _ => Err(Failure::Password("invalid user ID or password".into())),
        }
    }
    async fn send(&self, _: &mut (), _: &()) -> Result<Reply<()>, Failure> {
        Ok(Reply {
            told: Told { cluster: 1, term: 1, revision: 1, by_majority: true },
            repeated: false,
            body: (),
        })
    }
}

/// A wrong password is in the file, and a busy etcd has lost its tokens: it needs longer for two passwords than an
/// attempt lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_password_does_not_take_the_time_of_the_good_one() {
    let with = |password: &str| {
        let section = format!(r#"{{"hosts":"a:1","username":"u","password":"{password}"}}"#);
        EtcdOptions::from_section(&pyfmt::json::loads(&section).unwrap()).unwrap()
    };
    let etcd = Arc::new(Guarded { password: Mutex::new("good".into()) });
    let timing = Timing { retry_timeout: Duration::from_secs(4), ..Timing::default() };
    let pool = Pool::new(Arc::clone(&etcd), with("good"), timing, Asker::Daemon);
    let asks = || pool.call(&(), pool.deadline());
    assert!(asks().await.is_ok());
    pool.set_options(with("typo"));
    for _ in 0..2 {
        locked(&pool.state).clients.clear();
        assert!(asks().await.is_ok());
    }
    // It counts for a while.
    let typo = pool.options();
    assert!(pool.was_refused(&typo) && !pool.was_refused(&with("good")));
    if let Some((_, at)) = &mut *locked(&pool.common.refused) {
        *at -= Duration::from_secs(61);
    }
    assert!(!pool.was_refused(&typo));
    if let Some((_, at)) = &mut *locked(&pool.common.refused) {
        *at += Duration::from_secs(61);
    }
    // The keeper knows it by then.
    let keeper = pool.separate();
    let began = Instant::now();
    assert!(keeper.call(&(), Effort::Until(began + Duration::from_secs(4))).await.is_ok());
    assert!(began.elapsed() < Duration::from_millis(1500));
    // And whichever is good is found: the one that was refused a moment ago, another one.
    for password in ["typo", "next"] {
        *locked(&etcd.password) = password.to_owned();
        pool.set_options(with(password));
        locked(&pool.state).clients.clear();
        assert!(asks().await.is_ok(), "{password}");
    }
}

/// A token that has ended is fetched anew a few times; a person hears of a wrong password at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_not_left_waiting() {
    /// Refuses each request so, and counts them.
    struct Refuses(Failure, std::sync::atomic::AtomicU32);

    impl Wire for Arc<Refuses> {
        silent!();
        async fn connect(&self, _: &str, _: &Arc<EtcdOptions>, _: Manner) -> Result<(), Failure> {
            Ok(())
        }
        async fn send(&self, _: &mut (), _: &()) -> Result<Reply<()>, Failure> {
            self.1.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Err(self.0.clone())
        }
    }

    let section = pyfmt::json::loads(r#"{"hosts":"a:1","username":"u","password":"p"}"#).unwrap();
    for (failure, asker, limit, requests) in [
        (Failure::Password("x".into()), Asker::Person, 5.0, 1..=1),
        (Failure::Token("x".into()), Asker::Person, 5.0, 4..=4),
        (Failure::Refused("x".into()), Asker::Daemon, 5.0, 1..=1),
    ] {
        let etcd = Arc::new(Refuses(failure.clone(), 0.into()));
        let options = EtcdOptions::from_section(&section).unwrap();
        let pool = Pool::new(Arc::clone(&etcd), options, Timing::default(), asker);
        pool.learn(vec!["http://a:1".to_owned()]);
        let (began, limit) = (Instant::now(), Duration::from_secs_f64(limit));
        let answer = pool.call(&(), Effort::Until(began + limit)).await;
        let asked = etcd.1.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(answer.err(), Some(failure.clone()), "{asker:?}");
        assert!(requests.contains(&asked), "{failure:?} {asker:?}: {asked}");
        assert!(began.elapsed() < limit + Duration::from_millis(500), "{failure:?} {asker:?}");
    }
}
