//! Questions to the other members' REST APIs (surface-ha-pg 5.2-06, 7-03).

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use patroni_core::ha::{FailsafeAnswer, PeerStatus, StopPolling};
use patroni_core::model::{Lsn, Member};
use patroni_core::parse::parse_int;
use patroni_core::tags::Tags;
use patroni_net::HttpClient;
use pyfmt::{json, Value};

/// How long one peer may take.
const PEER_TIMEOUT: Duration = Duration::from_secs(2);

/// Asks every member at the same time; the answers are in the members' order. Answers that decide end the
/// round, and a node that has not answered by then is left out.
pub async fn statuses(
    client: &HttpClient,
    members: &[Member],
    decisive: Option<&StopPolling>,
) -> Vec<PeerStatus> {
    let asked = members.iter().enumerate();
    let mut round: FuturesUnordered<_> =
        asked.map(|(at, member)| async move { (at, status(client, member).await) }).collect();
    let mut answers = BTreeMap::new();
    while let Some((at, answer)) = round.next().await {
        answers.insert(at, answer);
        if decisive.is_some_and(|d| d.by(answers.values())) {
            break;
        }
    }
    answers.into_values().collect()
}

async fn status(client: &HttpClient, member: &Member) -> PeerStatus {
    let url = member.api_url().unwrap_or_default();
    let failure = match client.request("GET", url, &[], Vec::new(), PEER_TIMEOUT).await {
        Ok(response) => {
            let text = String::from_utf8_lossy(&response.body).into_owned();
            tracing::info!(target: "patroni.ha", "Got response from {} {url}: {text}", member.name);
            match parse_status(member, &text) {
                Ok(status) => return status,
                Err(why) => why,
            }
        }
        Err(e) => e.to_string(),
    };
    tracing::warn!(target: "patroni.ha", "Request failed to {}: GET {url} ({failure})", member.name);
    PeerStatus::unreachable(&member.name)
}

/// The status code does not count; only a WAL position makes a peer reachable.
fn parse_status(member: &Member, text: &str) -> Result<PeerStatus, String> {
    let data = json::loads(text).map_err(|e| e.to_string())?;
    let wal = data.get("wal").or_else(|| data.get("xlog")).ok_or("'xlog'")?;
    let lsn = |key: &str| -> Lsn {
        wal.get(key).and_then(|v| parse_int(v, None)).and_then(Lsn::from_number).unwrap_or_default()
    };
    let location = lsn("location");
    let role = data.get("role").and_then(Value::as_str).unwrap_or_default();
    let primary = location.is_known() || matches!(role, "primary" | "master");
    Ok(PeerStatus {
        name: member.name.clone(),
        reachable: true,
        in_recovery: Some(!primary),
        wal_position: if primary { location } else { lsn("received_location").max(lsn("replayed_location")) },
        timeline: data
            .get("timeline")
            .and_then(Value::as_i64)
            .and_then(|t| u32::try_from(t).ok())
            .unwrap_or(0),
        watchdog_failed: data.get("watchdog_failed").is_some_and(Value::truthy),
        tags: Tags::from_value(data.get("tags").unwrap_or(&Value::Null)),
    })
}

/// Tells every member that this primary has no DCS.
pub async fn failsafe(client: &HttpClient, data: &Value, members: &[Member]) -> Vec<FailsafeAnswer> {
    let body = json::dumps(data);
    join_all(members.iter().map(|m| failsafe_one(client, m, &body))).await
}

async fn failsafe_one(client: &HttpClient, member: &Member, body: &str) -> FailsafeAnswer {
    let url = member.endpoint_url("failsafe");
    let mut failure = String::new();
    // One retry, as the reference has it: a single lost packet must not demote.
    for _ in 0..2 {
        match client.request("POST", &url, &[], body.to_owned(), PEER_TIMEOUT).await {
            Ok(response) => {
                let text = String::from_utf8_lossy(&response.body).into_owned();
                tracing::info!(target: "patroni.ha", "Got response from {} {url}: {text}", member.name);
                let lsn = response.header("lsn").and_then(|v| v.trim().parse().ok()).map(Lsn::new);
                return FailsafeAnswer {
                    name: member.name.clone(),
                    accepted: response.status == 200 && text == "Accepted",
                    lsn,
                };
            }
            Err(e) => failure = e.to_string(),
        }
    }
    tracing::warn!(target: "patroni.ha", "Request failed to {}: POST {url} ({failure})", member.name);
    FailsafeAnswer { name: member.name.clone(), accepted: false, lsn: None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use patroni_core::ha::{CandidateCriteria, LeadCriteria};

    use super::*;

    fn parsed(text: &str) -> Result<PeerStatus, String> {
        parse_status(&Member { name: "a".into(), ..Member::default() }, text)
    }

    #[test]
    fn positions_and_roles() {
        let p = parsed(r#"{"role":"primary","xlog":{"location":7},"timeline":3}"#).unwrap();
        assert_eq!((p.in_recovery, p.wal_position, p.timeline), (Some(false), Lsn::new(7), 3));
        let r = parsed(
            r#"{"role":"replica","xlog":{"received_location":5,"replayed_location":6},"tags":{"nofailover":true}}"#,
        )
        .unwrap();
        assert_eq!(
            (r.in_recovery, r.wal_position, r.limitation()),
            (Some(true), Lsn::new(6), Some("not allowed to promote"))
        );
        assert_eq!(parsed(r#"{"state":"stopping","role":"replica"}"#).unwrap_err(), "'xlog'");
    }

    /// A server that answers one request with `body`, or never.
    fn server(body: Option<&'static str>) -> Member {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut data = Value::map();
        let url = format!("http://{}/patroni", listener.local_addr().unwrap());
        data.set("api_url", url.as_str());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 1024];
            let _ = std::io::Read::read(&mut stream, &mut head);
            match body {
                Some(body) => {
                    let text =
                        format!("HTTP/1.0 200 OK\r\nlsn: 77\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    std::io::Write::write_all(&mut stream, text.as_bytes()).unwrap();
                }
                None => std::thread::sleep(Duration::from_secs(10)),
            }
        });
        Member { name: body.map_or("silent", |_| "talks").into(), data, ..Member::default() }
    }

    /// With its position, as a number of bytes.
    #[tokio::test]
    async fn a_member_consents_to_a_primary_without_a_dcs() {
        let client = HttpClient::new(&patroni_net::ClientOptions::default()).unwrap();
        let members = [server(Some("Accepted")), server(Some("Running as a leader"))];
        let answers = failsafe(&client, &Value::map(), &members).await;
        let told: Vec<_> = answers.iter().map(|answer| (answer.accepted, answer.lsn)).collect();
        assert_eq!(told, [(true, Some(Lsn::new(77))), (false, Some(Lsn::new(77)))]);
    }

    const AHEAD: &str =
        r#"{"role":"replica","timeline":1,"xlog":{"received_location":5,"replayed_location":5}}"#;

    /// Names and positions of those who were heard when one is silent and one tells [`AHEAD`], and whether
    /// the silent one's time was waited for.
    async fn round(decisive: &StopPolling) -> (Vec<(String, u64)>, bool) {
        let client = HttpClient::new(&patroni_net::ClientOptions::default()).unwrap();
        let members = [server(None), server(Some(AHEAD))];
        let began = std::time::Instant::now();
        let answers = statuses(&client, &members, Some(decisive)).await;
        let waited = began.elapsed() >= PEER_TIMEOUT;
        (answers.into_iter().map(|peer| (peer.name, peer.wal_position.bytes())).collect(), waited)
    }

    /// A silent peer costs its two seconds, unless another has decided.
    #[tokio::test]
    async fn a_decisive_answer_ends_the_round() {
        let bar = |position| {
            let position = Lsn::new(position);
            StopPolling::Outranked(LeadCriteria { position, tolerated: None, least_timeline: 0, timeline: 0 })
        };
        let enough = |number, least| StopPolling::EnoughCandidates {
            fit: CandidateCriteria { least: Lsn::new(least), timeline: Some(1) },
            number,
        };
        let heard = || vec![("talks".to_owned(), 5)];
        let all = || vec![("silent".to_owned(), 0), ("talks".to_owned(), 5)];
        for (decisive, expected) in [
            (bar(4), (heard(), false)),
            (bar(5), (all(), true)),
            (enough(1, 5), (heard(), false)),
            (enough(1, 6), (all(), true)),
            (enough(2, 5), (all(), true)),
        ] {
            assert_eq!(round(&decisive).await, expected, "{decisive:?}");
        }
    }
}
