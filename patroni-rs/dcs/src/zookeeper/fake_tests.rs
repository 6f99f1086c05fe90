//! The session against a server that says what no real one can be made to say.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::client::Client;
use super::jute::{In, Out};
use super::options::{parse_hosts, Options};
use super::proto::Op;
use super::renew::{self, OurLock, Renewer, SharedLock};
use super::write::Writer;
use crate::kv::{Held, If, Put, Session, Written};
use crate::lock::{Granted, LockRenewer, Renewal};
use crate::Timing;

/// What a connection is told after its greeting, by the number and the kind of the request; None: it is closed.
type Says = Box<dyn Fn(i32, i32, &[u8]) -> Option<Vec<u8>> + Send + Sync>;

struct Fake {
    address: SocketAddr,
    /// The session that each connection asked to go on with; 0: a new one.
    asked: Arc<Mutex<Vec<i64>>>,
}

async fn frame(stream: &mut tokio::net::TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u32().await.ok()?;
    let mut message = vec![0; usize::try_from(length).ok()?];
    stream.read_exact(&mut message).await.ok()?;
    Some(message)
}

/// Greets the n-th connection with the n-th session: 0 is "expired", and -1 garbage.
async fn fake(sessions: &'static [i64], says: Says) -> Fake {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        let says = Arc::new(says);
        for n in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let says = Arc::clone(&says);
            let session = sessions[n.min(sessions.len() - 1)];
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let hello = frame(&mut stream).await?;
                let mut hello = In::new(&hello);
                let (_, _, _) = (hello.int().ok()?, hello.long().ok()?, hello.int().ok()?);
                seen.lock().unwrap().push(hello.long().ok()?);
                if session == -1 {
                    stream.write_all(&[0xff; 64]).await.ok()?;
                    return None;
                }
                let mut greeting = Out::default();
                greeting
                    .int(0)
                    .int(if session == 0 { 0 } else { 8000 })
                    .long(session)
                    .buffer(&[7; 16])
                    .flag(false);
                stream.write_all(&greeting.framed()).await.ok()?;
                loop {
                    let message = frame(&mut stream).await?;
                    let mut body = In::new(&message);
                    let (xid, kind) = (body.int().ok()?, body.int().ok()?);
                    let answer = says(xid, kind, &message[8..])?;
                    stream.write_all(&answer).await.ok()?;
                }
                #[allow(unreachable_code)]
                Some(())
            });
        }
    });
    Fake { address, asked }
}

fn reply(xid: i32, error: i32, body: &[u8]) -> Vec<u8> {
    let mut out = Out::default();
    out.int(xid).long(50).int(error);
    let mut frame = out.framed();
    let length = u32::try_from(frame.len() - 4 + body.len()).unwrap();
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.extend(body);
    frame
}

fn stat(czxid: i64, version: i32, owner: i64) -> Vec<u8> {
    let mut out = Out::default();
    out.long(czxid)
        .long(czxid)
        .long(0)
        .long(0)
        .int(version)
        .int(0)
        .int(0)
        .long(owner)
        .int(0)
        .int(0)
        .long(czxid);
    out.framed()[4..].to_vec()
}

fn value(text: &str, stat: &[u8]) -> Vec<u8> {
    let mut out = Out::default();
    out.text(text);
    let mut body = out.framed()[4..].to_vec();
    body.extend(stat);
    body
}

/// The answers to a transaction that was carried out: kind and body of each.
fn done(parts: &[(i32, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    let head = |kind: i32, done: bool| {
        let mut out = Out::default();
        out.int(kind).flag(done).int(if done { -1 } else { 0 });
        out.framed()[4..].to_vec()
    };
    for (kind, part) in parts {
        body.extend(head(*kind, false));
        body.extend(part);
    }
    body.extend(head(-1, true));
    body
}

const GET: i32 = 4;
const SYNC: i32 = 9;
const PING: i32 = 11;
const MULTI: i32 = 14;

fn client(fake: &Fake) -> Client {
    let (hosts, chroot) = parse_hosts(&fake.address.to_string()).unwrap();
    let options = Options { hosts, chroot, tls: None, credentials: Vec::new(), acl: Arc::new([]) };
    let s = Duration::from_secs;
    Client::start(options, Timing { ttl: s(8), loop_wait: s(1), retry_timeout: s(3) }, false).unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(3)
}

#[tokio::test]
async fn a_session_goes_on_until_it_has_ended() {
    // New; garbage; goes on; has ended; new.
    let fake =
        fake(&[21, -1, 21, 0, 22], Box::new(|xid, kind, _| (kind == PING).then(|| reply(xid, 0, &[])))).await;
    let client = client(&fake);
    assert_eq!(client.connected(soon()).await, Some(21));
    // This closes the connection; what was asked may have been done.
    assert!(client.ask(&[Op::Sync { path: "/".into() }], Some(21), soon(), true).await.is_err());
    client.shared().state().alive = Instant::now();
    assert_eq!(client.connected(soon()).await, Some(21));
    assert!(client.ask(&[Op::Sync { path: "/".into() }], Some(21), soon(), true).await.is_err());
    client.shared().state().alive = Instant::now();
    assert_eq!(client.connected_other(21, soon()).await, Some(22));
    assert_eq!(*fake.asked.lock().unwrap(), [0, 21, 21, 21, 0]);
    assert_eq!(client.shared().state().ended, Some(21));
    // Nothing is done in the name of the one that has ended.
    let answer = client.ask(&[Op::Sync { path: "/".into() }], Some(21), soon(), true).await;
    assert!(matches!(answer, Err(crate::kv::Failure::SessionGone(_))));
}

/// The leader key `a` of session 20, read with czxid 3, turns out to be of czxid `robbed` when it is replaced.
async fn replaced(robbed: i64) -> (Written, Fake, Client) {
    let says = move |xid: i32, kind: i32, _: &[u8]| match kind {
        SYNC => Some(reply(xid, 0, &[0, 0, 0, 0])),
        GET => Some(reply(xid, 0, &value("a", &stat(3, 0, 20)))),
        MULTI => {
            let parts = [(5, stat(robbed, 1, 20)), (2, Vec::new()), (1, vec![0, 0, 0, 0])];
            Some(reply(xid, 0, &done(&parts)))
        }
        _ => Some(reply(xid, 0, &[])),
    };
    let fake = fake(&[21, 22], Box::new(says)).await;
    let client = client(&fake);
    assert_eq!(client.connected(soon()).await, Some(21));
    let session = Session { id: Some("21".into()), granted: Granted { ttl: Duration::from_secs(5) } };
    let writer = Writer { client: &client, deadline: soon(), once: false };
    let condition = If::Ours { value: "a", version: Some("0") };
    let put = Put::new("/s/leader", "a").when(condition).owned(&session, Some("20"));
    let written = writer.put(&put).await.unwrap();
    // A key of that name under a session that was not seen is a namesake's: nothing is sent.
    let put = Put::new("/s/leader", "a").when(condition).owned(&session, Some("19"));
    assert_eq!(writer.put(&put).await, Ok(Written::Refused));
    (written, fake, client)
}

#[tokio::test]
async fn who_robs_a_peer_leads_not_and_lets_nobody_lead() {
    let (written, fake, client) = replaced(3).await;
    assert_eq!(written, Written::Done("0".into()));
    assert_eq!(*fake.asked.lock().unwrap(), [0]);
    drop(client);
    let (written, fake, client) = replaced(40).await;
    assert_eq!(written, Written::Refused);
    // The session was left, not closed: the key goes with it when its time is over.
    assert_eq!(client.connected_other(21, soon()).await, Some(22));
    assert_eq!(*fake.asked.lock().unwrap(), [0, 0]);
    assert_eq!(client.shared().state().ended, None);
}

#[tokio::test]
async fn a_hanging_loop_loses_its_session() {
    let fake = fake(&[21, 22], Box::new(|xid, _, _| Some(reply(xid, 0, &[])))).await;
    let client = client(&fake);
    assert_eq!(client.connected(soon()).await, Some(21));
    // Of the allowance of 4 s are 0.1 s left.
    {
        let mut state = client.shared().state();
        (state.alive, state.attended) = (Instant::now() - Duration::from_millis(3900), true);
    }
    // The old session is left to end; who reads gets another one, that nothing is attached to.
    assert_eq!(client.connected_other(21, soon()).await, Some(22));
    assert_eq!(*fake.asked.lock().unwrap(), [0, 0]);
    assert!(!client.shared().state().attended);
}

#[tokio::test]
async fn the_keeper_tells_what_it_knows() {
    // The session lives; the key is of `owner`.
    for (owner, text, wanted) in [(21, "a", true), (21, "b", false), (20, "a", false)] {
        let says = move |xid: i32, kind: i32, _: &[u8]| match kind {
            GET => Some(reply(xid, 0, &value(text, &stat(3, 0, owner)))),
            MULTI => Some(reply(xid, 0, &done(&[(13, Vec::new())]))),
            _ => Some(reply(xid, 0, &[])),
        };
        let fake = fake(&[21], Box::new(says)).await;
        let client = client(&fake);
        assert_eq!(client.connected(soon()).await, Some(21));
        let session = Session { id: Some("21".into()), granted: Granted { ttl: Duration::ZERO } };
        let held = Held { key: "/s/leader", value: "a", session: &session };
        let lock: SharedLock = Arc::new(Mutex::new(Some(OurLock::of(&held))));
        let mut renewer = Renewer::new(client.clone(), Arc::clone(&lock));
        let renewed = tokio::task::spawn_blocking(move || {
            let first = renewer.renew(Duration::from_secs(2));
            *lock.lock().unwrap() = None;
            (first, renewer.renew(Duration::from_secs(2)))
        });
        let (renewal, nothing_held) = renewed.await.unwrap();
        let granted = renew::granted(&client, 21).unwrap();
        assert_eq!(renewal, if wanted { Renewal::Until(granted) } else { Renewal::Gone }, "{owner} {text}");
        assert!(granted.ttl < Duration::from_secs(8));
        assert!(matches!(nothing_held, Renewal::NoAnswer(_)));
    }
}
