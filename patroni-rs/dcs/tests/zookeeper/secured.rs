//! TLS, client certificates and their rights, digest, SASL.

use std::path::Path;
use std::process::Command;

use super::*;

fn run(program: &str, args: &[&str], dir: &Path) {
    let output = Command::new(program).args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
}

/// A key and a certificate of that subject, signed by the authority `ca` of the directory.
fn certificate(dir: &Path, name: &str, subject: &str) {
    let (key, request, cert) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
    let new =
        ["req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", &key, "-out", &request];
    run("openssl", &new, dir);
    let sign = [
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
    ];
    run("openssl", &[&sign[..], &["-out", &cert]].concat(), dir);
}

fn authority(dir: &Path) {
    let new = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority"];
    run("openssl", &[&new[..], &["-keyout", "ca.key", "-out", "ca.crt"]].concat(), dir);
}

async fn refused(config: &Value) {
    let opening = tokio::time::timeout(5 * S, async {
        let dcs = open(config).await?;
        dcs.get_cluster().await
    });
    let answer = opening.await;
    assert!(!matches!(answer, Ok(Ok(_))), "{answer:?}");
}

async fn works(config: &Value) {
    let a = opened(config).await;
    assert_eq!(a.acquire_leader(None).await, Ok(true));
    let held = leader(&*a).await.unwrap();
    assert_eq!(a.update_leader(&held, None, None).await, Ok(true));
    assert_eq!(a.delete_leader(Some(&held), None).await, Ok(true));
    assert_eq!(leader(&*a).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_and_the_rights_of_certificates() {
    if !server::is_there() {
        return;
    }
    let directory = tempfile::Builder::new().prefix("patroni-dcs-").tempdir_in("/tmp").unwrap();
    let dir = directory.path();
    authority(dir);
    certificate(dir, "server", "/CN=a host of another name");
    certificate(dir, "client", "/CN=client");
    certificate(dir, "other", "/CN=other");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    std::fs::write(dir.join("server.pem"), read("server.key") + &read("server.crt")).unwrap();
    run("cp", &["ca.crt", "ca.pem"], dir);
    let encrypt = ["pkcs8", "-topk8", "-v2", "aes256", "-in", "client.key", "-passout", "pass:secret"];
    run("openssl", &[&encrypt[..], &["-out", "encrypted.key"]].concat(), dir);
    let path = |name: &str| dir.join(name).display().to_string();
    let port = free_port();
    let property = |name: &str, value: &str| format!("-Dzookeeper.{name}={value}");
    let _server = ZooKeeper::with(
        &[format!("secureClientPort={port}"), "secureClientPortAddress=127.0.0.1".to_owned()],
        &[
            property("serverCnxnFactory", "org.apache.zookeeper.server.NettyServerCnxnFactory"),
            property("ssl.keyStore.location", &path("server.pem")),
            property("ssl.trustStore.location", &path("ca.pem")),
            property("ssl.clientAuth", "want"),
            property("ssl.hostnameVerification", "false"),
        ],
    );
    let host = format!("127.0.0.1:{port}");
    let with = |more: &str| config("a", &host, &format!(r#","use_ssl":true{more}"#));
    let own = |name: &str, key: &str| {
        format!(r#","cert":"{}","key":"{}""#, path(&format!("{name}.crt")), path(key))
    };
    let ca = format!(r#","cacert":"{}""#, path("ca.crt"));
    let acl = r#","set_acls":{"CN=client":["CREATE","read","Write","DELETE","admin"]}"#;
    // Its certificate is of a host of another name: the chain counts. Without the authority it does not.
    let encrypted = own("client", "encrypted.key") + r#","key_password":"secret""#;
    works(&with(&format!("{ca}{encrypted}{acl}"))).await;
    refused(&with(&own("client", "client.key"))).await;
    refused(&with(&format!("{ca}{}", own("client", "encrypted.key")))).await;
    works(&with(&format!(r#","verify":false{}"#, own("client", "client.key")))).await;
    // What the client has made is its own: who has no certificate, or another one, is not let in. That is no empty cluster.
    refused(&with(&ca)).await;
    refused(&with(&format!("{ca}{}", own("other", "other.key")))).await;
    // Without TLS there is nothing to be had at this port.
    refused(&config("a", &host, "")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_digest_gives_rights() {
    let python = Path::new("/opt/patroni-rs/reference/bin/python");
    if !server::is_there() || !python.exists() {
        return;
    }
    let server = ZooKeeper::single();
    let script = format!(
        "from kazoo.client import KazooClient as K\nfrom kazoo.security import make_digest_acl as acl\n\
         k = K('{}'); k.start(20); k.create('/service', acl=[acl('u', 'p', all=True)]); k.stop()",
        server.host()
    );
    run(&python.display().to_string(), &["-c", &script], Path::new("/tmp"));
    works(&config("a", &server.host(), r#","auth_data":{"digest":"u:p"}"#)).await;
    // A typing error in the file, and one more; nothing is lost. And the right one again.
    let dcs = opened(&config("b", &server.host(), r#","auth_data":{"digest":"u:p"}"#)).await;
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    for wrong in ["u:typo", "u:typos", "u:p"] {
        dcs.reload(&config("b", &server.host(), &format!(r#","auth_data":{{"digest":"{wrong}"}}"#))).unwrap();
        tokio::time::sleep(S).await;
        let held = leader(&*dcs).await.unwrap();
        assert_eq!(dcs.update_leader(&held, None, None).await, Ok(true), "{wrong}");
    }
    let held = leader(&*dcs).await.unwrap();
    assert_eq!(dcs.delete_leader(Some(&held), None).await, Ok(true));
    let stranger = node("a", &server.host()).await;
    assert_ne!(stranger.set_history("[]").await, Ok(false), "the directory of the cluster is the world's");
    let config =
        r#"{"scope":"other","name":"a","ttl":5,"loop_wait":1,"retry_timeout":3,"zookeeper":{"hosts":"H"}}"#;
    let stranger = opened(&json::loads(&config.replace('H', &server.host())).unwrap()).await;
    assert_eq!(stranger.initialize(true, "").await, Ok(false));
    assert!(stranger.acquire_leader(None).await.is_err(), "who may not has learnt nothing of the lock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sasl() {
    if !server::is_there() {
        return;
    }
    let directory = tempfile::Builder::new().prefix("patroni-dcs-").tempdir_in("/tmp").unwrap();
    let jaas = directory.path().join("jaas.conf");
    let module = "org.apache.zookeeper.server.auth.DigestLoginModule";
    std::fs::write(&jaas, format!("Server {{ {module} required user_bob=\"s\\\"e,c=ret\"; }};")).unwrap();
    let server = ZooKeeper::with(
        &[],
        &[
            format!("-Djava.security.auth.login.config={}", jaas.display()),
            "-Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
                .to_owned(),
            "-Dzookeeper.sessionRequireClientSASLAuth=true".to_owned(),
        ],
    );
    let with = |user: &str| config("a", &server.host(), &format!(r#","auth_data":{{"sasl":"{user}"}}"#));
    works(&with(r#"bob:s\"e,c=ret"#)).await;
    // Mistyped while it runs.
    let dcs = opened(&with(r#"bob:s\"e,c=ret"#)).await;
    assert_eq!(dcs.acquire_leader(None).await, Ok(true));
    for wrong in ["bob:typo", "eve:typo", r#"bob:s\"e,c=ret"#] {
        dcs.reload(&with(wrong)).unwrap();
        tokio::time::sleep(S).await;
        let held = leader(&*dcs).await.unwrap();
        assert_eq!(dcs.update_leader(&held, None, None).await, Ok(true), "{wrong}");
    }
    drop(dcs);
    refused(&with("bob:wrong")).await;
    refused(&with("eve:s")).await;
    refused(&config("a", &server.host(), "")).await;
}
