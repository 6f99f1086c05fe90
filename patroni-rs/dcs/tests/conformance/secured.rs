//! etcd with users, and with TLS, by HTTP.

use std::process::Command;
use std::time::{Duration, Instant};

use patroni_dcs::{open, Dcs, DcsError, Timing};
use pyfmt::Value;

use super::etcd::{program, Etcd};

/// A node of a store with these options; etcd's passwords cost it a lot of time.
async fn node(section: &str, options: &[(&str, Value)]) -> Result<Box<dyn Dcs>, DcsError> {
    let options: Value = options.iter().cloned().collect();
    let config = Value::from_iter([
        ("scope", Value::from("batman")),
        ("name", "n1".into()),
        ("ttl", 20.into()),
        ("loop_wait", 1.into()),
        ("retry_timeout", 6.into()),
        (section, options),
    ]);
    tokio::time::timeout(Duration::from_secs(120), open(&config)).await.expect("in time")
}

/// The lock is won, seen, renewed and given up, and the watch tells of it. It is opened beside the requests, and may come
/// too late for the first ones.
async fn works(dcs: &dyn Dcs) {
    let mut told = false;
    for _ in 0..15 {
        assert_eq!(dcs.acquire_leader(None).await, Ok(true));
        let cluster = dcs.get_cluster().await.unwrap();
        assert_eq!(cluster.leader_name(), Some("n1"));
        let held = cluster.leader.clone().unwrap();
        assert_eq!(dcs.update_leader(&held, None, None).await, Ok(true));
        assert_eq!(dcs.delete_leader(Some(&held), None).await, Ok(true));
        if dcs.watch(false, Duration::from_secs(2)).await {
            told = true;
            break;
        }
    }
    assert!(told, "the watch tells nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_client_certificates() {
    let dir = tempfile::Builder::new().prefix("patroni-dcs-").tempdir_in("/tmp").unwrap();
    let (etcd, cert, key) = Etcd::with_client_certificates(dir.path(), &["--enable-v2"]);
    let host = etcd.url.trim_start_matches("https://");
    let mut options = vec![
        ("hosts", Value::from(host)),
        ("protocol", "https".into()),
        ("cacert", cert.as_str().into()),
        ("cert", cert.as_str().into()),
        ("key", key.as_str().into()),
    ];
    works(&*node("etcd", &options).await.unwrap()).await;
    options.push(("use_proxies", true.into()));
    works(&*node("etcd3", &options).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_the_gateway() {
    let etcd = Etcd::single();
    etcd.ask_for_users();
    let options = |password: &str| {
        [
            ("proxy", Value::from(etcd.url.as_str())),
            ("username", "patroni".into()),
            ("password", password.into()),
        ]
    };
    works(&*node("etcd3", &options("secret")).await.unwrap()).await;
    assert!(matches!(node("etcd3", &options("wrong")).await, Err(DcsError::Auth(_))));
    let dcs = node("etcd3", &options("secret")).await.unwrap();
    let root = |words: &str| {
        let words: Vec<&str> = ["--user", "root:root"].into_iter().chain(words.split(' ')).collect();
        etcd.run(&words);
    };
    let set = |password: &str| {
        root("user delete patroni");
        root(&format!("user add patroni:{password}"));
        root("user grant-role patroni patroni");
    };
    let reload = |password: &str| {
        let section: Value = options(password).into_iter().collect();
        dcs.reload(&Value::from_iter([("etcd3", section)])).unwrap();
    };
    let users = |asked: bool| match asked {
        true => drop(etcd.run(&["auth", "enable"])),
        false => root("auth disable"),
    };
    password_changes(&*dcs, reload, set, users).await;
}

/// The lock is kept whatever is done to user and password, in whichever order.
async fn password_changes(dcs: &dyn Dcs, reload: impl Fn(&str), set: impl Fn(&str), users: impl Fn(bool)) {
    // Longer than etcd takes for its passwords on a busy machine.
    let (ttl, retry_timeout) = (Duration::from_secs(60), Duration::from_secs(20));
    dcs.set_timing(Timing { ttl, retry_timeout, ..Timing::default() });
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();
    let leads = || async {
        assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true));
        assert_eq!(dcs.get_cluster().await.unwrap().leader_name(), Some("n1"));
        assert_eq!(
            dcs.touch_member(&Value::from_iter([("now", format!("{:?}", Instant::now()))])).await,
            Ok(true)
        );
    };
    // A typing error, and the right one in the files first.
    reload("typo");
    leads().await;
    reload("new");
    leads().await;
    set("new");
    leads().await;
    // etcd first, and the files while it is asked.
    set("newer");
    let told = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        reload("newer");
    };
    tokio::join!(leads(), told);
    // No users are asked for, and then they are again.
    users(false);
    leads().await;
    users(true);
    leads().await;
    // The user goes and comes back, as he was.
    set("newer");
    leads().await;
}

/// From 3.5.28 on leases need a token, too; errors and refused watches look otherwise than in 3.4.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_later_versions() {
    for line in ["3.5", "3.6", "3.7"] {
        if !program(line).exists() {
            eprintln!("SKIPPED: etcd {line} is not here");
            continue;
        }
        let (etcd, http) = Etcd::with_split_ports(line);
        etcd.ask_for_users();
        // By gRPC, and by the port that has to be found out to speak none.
        for url in [&etcd.url, &http] {
            let options = |password: &str| {
                let host = url.trim_start_matches("http://");
                [("host", Value::from(host)), ("username", "patroni".into()), ("password", password.into())]
            };
            works(&*node("etcd3", &options("secret")).await.unwrap()).await;
            assert!(matches!(node("etcd3", &options("wrong")).await, Err(DcsError::Auth(_))), "{line} {url}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_v2() {
    let mut etcd = Etcd::cluster(1, &["--enable-v2"]).remove(0);
    let url = etcd.url.clone();
    let run = |words: &str| {
        let output = Command::new("/usr/bin/etcdctl")
            .env("ETCDCTL_API", "2")
            .args(["--endpoints", &url, "--timeout", "20s", "--total-timeout", "40s"])
            .args(words.split(' '))
            .output()
            .unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
    };
    run("user add root:root");
    run("role add patroni");
    run("role grant patroni --path /service/* --readwrite");
    run("user add patroni:secret");
    run("user grant patroni --roles patroni");
    run("auth enable");
    run("--username root:root role revoke guest --path /* --readwrite");
    let options = |password: &str| {
        [
            ("host", Value::from(url.trim_start_matches("http://"))),
            ("username", "patroni".into()),
            ("password", password.into()),
        ]
    };
    works(&*node("etcd", &options("secret")).await.unwrap()).await;
    // Not let in: nothing is learnt of the lock, and no cluster is empty.
    let wrong = node("etcd", &options("wrong")).await.unwrap();
    assert!(wrong.get_cluster().await.is_err());
    assert!(wrong.acquire_leader(None).await.is_err());
    assert_eq!(wrong.initialize(true, "").await, Ok(false));

    let dcs = node("etcd", &options("secret")).await.unwrap();
    let root = |words: &str| run(&format!("--username root:root {words}"));
    let set = |password: &str| {
        root("user remove patroni");
        root(&format!("user add patroni:{password}"));
        root("user grant patroni --roles patroni");
    };
    let reload = |password: &str| {
        let section: Value = options(password).into_iter().collect();
        dcs.reload(&Value::from_iter([("etcd", section)])).unwrap();
    };
    let users = |asked: bool| match asked {
        true => run("auth enable"),
        false => root("auth disable"),
    };
    password_changes(&*dcs, reload, set, users).await;
    // With a typing error in the files, connections that are made anew go on with what was good.
    reload("typo");
    etcd.kill();
    let restarting = tokio::task::spawn_blocking(move || {
        etcd.restart_without_waiting();
        etcd
    });
    let _etcd = restarting.await.unwrap();
    let began = Instant::now();
    while dcs.get_cluster().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(40));
    }
    let leader = dcs.get_cluster().await.unwrap().leader.clone().unwrap();
    assert_eq!(dcs.update_leader(&leader, None, None).await, Ok(true));
}

/// The port of `--listen-client-http-urls` in etcd 3.5, or a load balancer: HTTP/1.1, and no gRPC.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_without_grpc() {
    let etcd = Etcd::single();
    let behind = etcd.url.trim_start_matches("http://").to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let behind = behind.clone();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                // HTTP/2 begins with PRI; such a one is shown the door.
                let mut first = [0; 3];
                if client.read_exact(&mut first).await.is_err() || &first == b"PRI" {
                    let _ = client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
                    return;
                }
                let Ok(mut server) = tokio::net::TcpStream::connect(&behind).await else { return };
                let _ = server.write_all(&first).await;
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let options = [("host", Value::from(format!("127.0.0.1:{port}")))];
    works(&*node("etcd3", &options).await.unwrap()).await;
}
