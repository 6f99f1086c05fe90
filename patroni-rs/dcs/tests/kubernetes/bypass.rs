//! `bypass_api_service`: two API servers on one etcd, in a network of their own, as the addresses that they publish may be
//! none of 127.0.0.0/8. One of them stands still, is gone, has lost its etcd, or lags.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use patroni_core::model::Leader;
use patroni_net::{ClientOptions, HttpClient, TlsOptions, Verify};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::server::{etcd_program, program, ADMIN};
use super::support::{end, signal};
use super::*;

const APART: &str = "PATRONI_TEST_APART";
const FIRST: &str = "10.99.0.1";
const SECOND: &str = "10.99.0.2";
/// Where the Service is.
const SERVICE: &str = "10.96.0.1";

/// In namespaces of its own: its addresses are nobody else's, and nothing outlives it.
#[test]
#[ignore = "long, and alone: --include-ignored (scripts/test-stores)"]
fn several_api_servers() {
    if server::program().is_none() {
        return eprintln!("SKIPPED: no kube-apiserver here");
    }
    let addresses = [FIRST, SECOND, SERVICE].map(|a| format!("ip address add {a}/32 dev lo")).join(" && ");
    let script = format!("ip link set lo up && {addresses} && \"$@\"");
    let apart = |program: &[&str]| {
        let mut unshare = Command::new("unshare");
        unshare.args([
            "--map-root-user",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-ec",
            &script,
            "sh",
        ]);
        unshare.args(program).env(APART, "1").stdin(Stdio::null());
        unshare
    };
    if !apart(&["true"]).output().is_ok_and(|done| done.status.success()) {
        return eprintln!("SKIPPED: no namespaces here");
    }
    let this = std::env::current_exe().unwrap();
    let done = apart(&[this.to_str().unwrap(), "--exact", "bypass::inside", "--nocapture"]).status().unwrap();
    assert!(done.success());
}

/// How a relay passes on what it gets.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Open,
    Late(Duration),
    /// Connections end, new ones too.
    Cut,
}

/// Stands between two.
struct Relay(watch::Sender<Way>);

impl Relay {
    async fn between(from: &str, to: &str) -> Relay {
        let listener = TcpListener::bind(from).await.unwrap();
        let (ways, to) = (watch::Sender::new(Way::Open), to.to_owned());
        let ways_of_all = ways.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (mut way, to) = (ways_of_all.subscribe(), to.clone());
                tokio::spawn(async move {
                    if *way.borrow() == Way::Cut {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(&to).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    let (one, other) = (way.clone(), way.clone());
                    tokio::select! {
                        () = pass(from_client, to_server, one) => {}
                        () = pass(from_server, to_client, other) => {}
                        _ = way.wait_for(|way| *way == Way::Cut) => {}
                    }
                });
            }
        });
        Relay(ways)
    }

    fn set(&self, way: Way) {
        self.0.send_replace(way);
    }
}

/// Until one of both closes: each piece as much later as it is late, and all in their order.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: watch::Receiver<Way>) {
    let (send, mut pieces) = mpsc::unbounded_channel::<(tokio::time::Instant, Vec<u8>)>();
    let reading = async move {
        let mut piece = vec![0; 65536];
        while let Ok(n @ 1..) = from.read(&mut piece).await {
            let late = if let Way::Late(time) = *way.borrow() { time } else { Duration::ZERO };
            let _ = send.send((tokio::time::Instant::now() + late, piece[..n].to_vec()));
        }
    };
    let writing = async {
        while let Some((at, piece)) = pieces.recv().await {
            tokio::time::sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}

/// Both API servers and their etcd.
struct Place {
    dir: TempDir,
    etcd: Child,
    servers: Vec<Child>,
    relay: Relay,
}

const ETCD: &str = "127.0.0.1:2379";
const RELAYED: &str = "127.0.0.1:2479";

impl Place {
    async fn start() -> Place {
        let dir = tempfile::Builder::new().prefix("patroni-dcs-kubernetes-").tempdir_in("/tmp").unwrap();
        std::fs::write(dir.path().join("tokens.csv"), format!("{ADMIN},admin,1,\"system:masters\"\n"))
            .unwrap();
        let key = openssl::rsa::Rsa::generate(2048).unwrap().private_key_to_pem().unwrap();
        std::fs::write(dir.path().join("sa.key"), key).unwrap();
        let mut etcd = Command::new(etcd_program());
        etcd.args(["--data-dir", "etcd", "--unsafe-no-fsync"]);
        let etcd = etcd.current_dir(dir.path()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let relay = Relay::between(RELAYED, ETCD).await;
        let mut place = Place { dir, etcd, servers: Vec::new(), relay };
        for at in 0..2 {
            let server = place.launch(at);
            place.servers.push(server);
            place.wait(at).await;
        }
        place.kubeconfig();
        place
    }

    fn address(at: usize) -> &'static str {
        [FIRST, SECOND][at]
    }

    /// The second one has the certificate of the first, with whose addresses alone.
    fn launch(&self, at: usize) -> Child {
        let address = Self::address(at);
        let log = std::fs::File::create(self.dir.path().join(format!("{address}.log"))).unwrap();
        let mut server = Command::new(program().unwrap());
        server.current_dir(self.dir.path()).stdout(Stdio::null()).stderr(log);
        server.arg(format!("--etcd-servers=http://{}", [ETCD, RELAYED][at]));
        server.args([format!("--bind-address={address}"), format!("--advertise-address={address}")]);
        server.args([
            "--secure-port=6443",
            "--cert-dir=certs",
            "--service-account-issuer=https://k.local",
            "--service-account-key-file=sa.key",
            "--service-account-signing-key-file=sa.key",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--token-auth-file=tokens.csv",
            "--disable-admission-plugins=ServiceAccount,PersistentVolumeClaimResize",
        ]);
        server.spawn().unwrap()
    }

    /// Until that one serves, and is one of those that are published.
    async fn wait(&self, at: usize) {
        let address = Self::address(at);
        let began = Instant::now();
        loop {
            let published = ask(address, "GET", "/api/v1/namespaces/default/endpoints/kubernetes", "").await;
            let ready = ask(address, "GET", "/readyz", "").await.is_some();
            if ready && published.is_some_and(|text| text.contains(&format!("\"{address}\""))) {
                return;
            }
            if began.elapsed() > 240 * S {
                let log = std::fs::read_to_string(self.dir.path().join(format!("{address}.log"))).unwrap();
                panic!("{address} does not come up: {}", &log[log.len().saturating_sub(3000)..]);
            }
            tokio::time::sleep(S / 5).await;
        }
    }

    /// Something that answers so at the second one's address, until it is dropped.
    fn answer_503(&self) -> impl Drop {
        use openssl::ssl::{SslAcceptor, SslFiletype, SslMethod};
        use std::io::{Read, Write};
        use std::sync::atomic::{AtomicBool, Ordering};

        struct Answering(Arc<AtomicBool>, Option<std::thread::JoinHandle<()>>);
        impl Drop for Answering {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
                let _ = std::net::TcpStream::connect((SECOND, 6443));
                self.1.take().map(std::thread::JoinHandle::join);
            }
        }
        let certs = self.dir.path().join("certs");
        let mut tls = SslAcceptor::mozilla_intermediate(SslMethod::tls()).unwrap();
        tls.set_certificate_chain_file(certs.join("apiserver.crt")).unwrap();
        tls.set_private_key_file(certs.join("apiserver.key"), SslFiletype::PEM).unwrap();
        let (tls, listener) = (tls.build(), std::net::TcpListener::bind((SECOND, 6443)).unwrap());
        let ended = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                // Whoever says nothing holds nobody up.
                client.set_read_timeout(Some(S)).unwrap();
                let Ok(mut client) = tls.accept(client) else { continue };
                let _ = client.read(&mut [0; 65536]);
                let answer = "HTTP/1.1 503 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = client.write_all(answer.as_bytes());
                let _ = client.shutdown();
            }
        });
        Answering(ended, Some(thread))
    }

    fn kubeconfig(&self) {
        let ca = self.dir.path().join("certs/apiserver.crt");
        let cluster = |name: &str, server: &str, trust: &str| {
            format!("- {{name: {name}, cluster: {{server: 'https://{server}', {trust}}}}}\n")
        };
        let insecure = "insecure-skip-tls-verify: true";
        let clusters = cluster("service", SERVICE, &format!("certificate-authority: {}", ca.display()))
            + &cluster("first", &format!("{FIRST}:6443"), insecure)
            + &cluster("second", &format!("{SECOND}:6443"), insecure);
        let contexts: String = ["service", "first", "second"]
            .map(|name| format!("- {{name: {name}, context: {{cluster: {name}, user: admin}}}}\n"))
            .concat();
        let text = format!(
            "clusters:\n{clusters}contexts:\n{contexts}users:\n- {{name: admin, user: {{token: {ADMIN}}}}}\n"
        );
        std::fs::write(self.config(), text).unwrap();
        std::env::set_var("KUBECONFIG", self.config());
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(end);
        end(&mut self.etcd);
    }
}

/// A good answer of one of them.
async fn ask(address: &str, method: &str, path: &str, body: &str) -> Option<String> {
    let tls = TlsOptions { verify: Verify::Nothing, ..TlsOptions::default() };
    let http = HttpClient::lazy(&ClientOptions { tls, basic_auth: None }).unwrap();
    let authorization = format!("Bearer {ADMIN}");
    let headers = [("Authorization", authorization.as_str())];
    let url = format!("https://{address}:6443{path}");
    let answer = http.request(method, &url, &headers, body.to_owned(), 10 * S).await.ok()?;
    (200..300).contains(&answer.status).then(|| answer.text())
}

fn section(context: &str, bypass: bool) -> Value {
    Value::from_iter([
        ("namespace", Value::from("default")),
        ("labels", Value::from_iter([("application", "patroni")])),
        ("context", context.into()),
        ("pod_ip", "10.1.1.1".into()),
        ("use_endpoints", true.into()),
        ("bypass_api_service", bypass.into()),
    ])
}

/// The primary keeps its lock in one attempt of each kind, and who follows is woken, long before the watch would have been
/// given up for its silence.
async fn goes_on(a: &Store, renewer: &mut Option<Box<dyn LockRenewer>>, b: &Store, what: &str) {
    let held = leader(a).await.unwrap();
    assert_eq!(held.name(), "a", "{what}");
    assert_eq!(a.update_leader(&held, None, None).await, Ok(true), "{what}");
    let answer = renew(renewer, 8 * S);
    assert!(matches!(answer, Renewal::Until(_)), "{what}: {answer:?}");
    assert_eq!(leader(b).await.as_ref().map(Leader::name), Some("a"), "{what}");
    while b.watch(false, S / 2).await {}
    let (woken, ()) = tokio::join!(b.watch(false, 15 * S), async {
        tokio::time::sleep(2 * S).await;
        let config = Value::from_iter([("of", what)]);
        assert_eq!(a.set_config(&config, None).await, Ok(true), "{what}");
    });
    assert!(woken, "{what}: nobody is woken");
}

/// Started by the test above, where it is alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inside() {
    if std::env::var_os(APART).is_none() {
        return;
    }
    let mut place = Place::start().await;
    let service = Relay::between(&format!("{SERVICE}:443"), &format!("{FIRST}:6443")).await;
    for pod in ["a", "b", "x", "y"] {
        let pod = format!(
            r#"{{"metadata":{{"name":"{pod}","labels":{{"application":"patroni","cluster-name":"batman"}}}},
                "spec":{{"automountServiceAccountToken":false,"containers":[{{"name":"x","image":"x"}}]}}}}"#
        );
        ask(FIRST, "POST", "/api/v1/namespaces/default/pods", &pod).await.expect("a Pod");
    }
    let [a, b] = ["a", "b"].map(|name| open_with(name, &section("service", true), 60, 8));
    assert_eq!(acquire(&a).await, Ok(true));
    let mut renewer = a.renewer();
    // The first configuration wakes nobody.
    assert_eq!(a.set_config(&Value::from_iter([("of", "the first")]), None).await, Ok(true));
    leader(&b).await.unwrap();

    // Both are known by their addresses.
    service.set(Way::Cut);
    goes_on(&a, &mut renewer, &b, "the Service is gone").await;
    for (at, server) in place.servers.iter().enumerate() {
        signal(server, "-STOP");
        goes_on(&a, &mut renewer, &b, &format!("{} stands still", Place::address(at))).await;
        signal(server, "-CONT");
    }
    // The first one is what both have moved to.
    end(&mut place.servers[0]);
    goes_on(&a, &mut renewer, &b, "the first one was killed").await;
    place.servers[0] = place.launch(0);
    place.wait(0).await;
    // The second one is now; it answers, and can do nothing.
    place.relay.set(Way::Cut);
    goes_on(&a, &mut renewer, &b, "the second one has lost its etcd").await;
    place.relay.set(Way::Open);
    place.wait(1).await;
    // Both move to the second one, in whose place there is something that only says that it cannot.
    signal(&place.servers[0], "-STOP");
    goes_on(&a, &mut renewer, &b, "the first one stands still again").await;
    signal(&place.servers[0], "-CONT");
    end(&mut place.servers[1]);
    let cannot = place.answer_503();
    goes_on(&a, &mut renewer, &b, "503 in the place of the second one").await;
    drop(cannot);
    place.servers[1] = place.launch(1);
    place.wait(1).await;

    // What the second one remembers is old: nothing is decided on it.
    place.relay.set(Way::Late(S / 2));
    let (x, y) = (open("x", &section("first", false)), open("y", &section("second", false)));
    let old = leader(&y).await;
    assert_eq!(a.delete_leader(leader(&a).await.as_ref(), None).await, Ok(true));
    let free = leader(&y).await;
    assert_eq!(free.as_ref().map(Leader::name), Some(""), "what others wrote is seen at once");
    assert_eq!(acquire(&x).await, Ok(true));
    assert_eq!(y.acquire_leader(free.as_ref()).await, Ok(false));
    assert_eq!(y.acquire_leader(old.as_ref()).await, Ok(false));
    for n in 0..5 {
        assert_eq!(x.set_config(&Value::from_iter([("n", n)]), None).await, Ok(true));
        let seen = y.get_cluster().await.unwrap();
        assert_eq!(seen.config.as_ref().and_then(|c| c.data.get("n")), Some(&Value::from(n)));
        assert_eq!(seen.leader.as_ref().map(Leader::name), Some("x"));
    }
}
