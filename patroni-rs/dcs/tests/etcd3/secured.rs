//! etcd with users, and with TLS.

use super::*;

async fn start_with(section: Value) -> Result<Etcd3, DcsError> {
    let mut config = config("n1", &[]);
    config.set("etcd3", section.clone());
    let settings = Settings::from_config(&config, &section).unwrap();
    // etcd's passwords cost it a lot of time, more so where others have work to do as well.
    tokio::time::timeout(Duration::from_secs(60), Etcd3::start(settings, &section)).await.expect("in time")
}

fn section(url: &str, user: &str, password: &str) -> Value {
    Value::from_iter([
        ("hosts", url.trim_start_matches("http://")),
        ("username", user),
        ("password", password),
    ])
}

/// The configuration with that section.
fn configured(url: &str, user: &str, password: &str) -> Value {
    Value::from_iter([("etcd3", section(url, user, password))])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_tokens() {
    let mut etcd = Etcd::cluster(1, &[]).remove(0);
    // Credentials do no harm where no users are.
    let dcs = start_with(section(&etcd.url, "patroni", "secret")).await.unwrap();
    assert!(dcs.get_cluster().await.is_ok());
    etcd.ask_for_users();
    // The token is fetched now that it takes one.
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true));
    // After a restart etcd does not know the token any more.
    etcd.kill();
    let (url, began) = (etcd.url.clone(), Instant::now());
    let restarting = tokio::task::spawn_blocking(move || {
        etcd.restart_without_waiting();
        etcd
    });
    let etcd = restarting.await.unwrap();
    while dcs.get_cluster().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(40));
    }
    soon(SOON, || async { dcs.set_history("[]").await }).await;
    // No rights outside the prefix; wrong and missing passwords.
    let other = Value::from_iter([("name", Value::from("n")), ("scope", "other".into())]);
    let settings = Settings { ctl: true, ..Settings::from_config(&other, &Value::map()).unwrap() };
    let other = Etcd3::start(settings, &section(&url, "patroni", "secret")).await.unwrap();
    assert!(other.get_cluster().await.is_err());
    assert_eq!(other.set_history("[]").await, Ok(false));
    assert!(matches!(start_with(section(&url, "patroni", "wrong")).await, Err(DcsError::Auth(_))));
    drop(etcd);
}

/// An etcd with a user `patroni`, and the root whose words change it.
fn with_users() -> Etcd {
    let etcd = Etcd::single();
    etcd.ask_for_users();
    etcd
}

fn set_password(etcd: &Etcd, password: &str) {
    etcd.run(&["--user", "root:root", "user", "delete", "patroni"]);
    etcd.run(&["--user", "root:root", "user", "add", &format!("patroni:{password}")]);
    etcd.run(&["--user", "root:root", "user", "grant-role", "patroni", "patroni"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_changed() {
    let etcd = with_users();
    let dcs = start_with(section(&etcd.url, "patroni", "secret")).await.unwrap();
    // Longer than etcd takes for its passwords on a busy machine.
    let (ttl, retry_timeout) = (Duration::from_secs(20), Duration::from_secs(6));
    dcs.set_timing(Timing { ttl, retry_timeout, ..Timing::default() });
    let keeper = dcs.lease_keeper();
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();
    // A key that has to be written, for it is attached to another lease.
    let elsewhere = patroni_core::model::Leader::default();
    // A typing error in the file harms nobody: the token is good.
    dcs.reload(&configured(&etcd.url, "patroni", "typo")).unwrap();
    let began = Instant::now();
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true));
    assert!(dcs.get_cluster().await.is_ok());
    assert_eq!(keeper.keepalive(dcs.leader_lease_id().unwrap(), LIMIT).await, Ok(true));
    assert!(began.elapsed() < retry_timeout);
    // The new one, before etcd has it.
    dcs.reload(&configured(&etcd.url, "patroni", "new")).unwrap();
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true));
    // etcd has it: a new token.
    set_password(&etcd, "new");
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true));
    assert!(dcs.get_cluster().await.is_ok());

    // The other way round: etcd first, and the daemon hears of it while it asks.
    set_password(&etcd, "newer");
    let told = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        dcs.reload(&configured(&etcd.url, "patroni", "newer")).unwrap();
    };
    let (read, ()) = tokio::join!(dcs.get_cluster(), told);
    assert!(read.is_ok());
    set_password(&etcd, "newest");
    let told = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        dcs.reload(&configured(&etcd.url, "patroni", "newest")).unwrap();
    };
    let (renewed, ()) = tokio::join!(dcs.update_leader(&leader, None, None), told);
    assert_eq!(renewed, Ok(true));

    // Never told: nobody knows who holds the lock. It is not lost.
    set_password(&etcd, "other");
    let began = Instant::now();
    // etcd renews a lease for anybody.
    assert_ne!(dcs.update_leader(&leader, None, None).await, Ok(false));
    assert!(matches!(dcs.update_leader(&elsewhere, None, None).await, Err(DcsError::Unreachable(_))));
    assert!(matches!(dcs.acquire_leader(None).await, Err(DcsError::Unreachable(_))));
    assert!(dcs.get_cluster().await.is_err());
    assert!(began.elapsed() > Duration::from_secs(6) && began.elapsed() < Duration::from_secs(30));
    // Nor without the right to the key.
    set_password(&etcd, "newest");
    assert!(dcs.get_cluster().await.is_ok());
    etcd.run(&["--user", "root:root", "user", "revoke-role", "patroni", "patroni"]);
    assert!(matches!(dcs.update_leader(&elsewhere, None, None).await, Err(DcsError::Unreachable(_))));
    // It may have been moved, for all we know: nothing for the keeper to renew.
    assert_eq!(dcs.leader_lease_id(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_client_certificates() {
    let dir = tempfile::Builder::new().prefix("patroni-dcs-").tempdir_in("/tmp").unwrap();
    let (etcd, cert, key) = Etcd::with_client_certificates(dir.path(), &[]);
    let section = Value::from_iter([
        ("hosts", etcd.url.trim_start_matches("https://")),
        ("protocol", "https"),
        ("cacert", &cert),
        ("cert", &cert),
        ("key", &key),
    ]);
    let dcs = start_with(section).await.unwrap();
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    assert_eq!(dcs.get_cluster().await.unwrap().leader_name(), Some("n1"));
}
