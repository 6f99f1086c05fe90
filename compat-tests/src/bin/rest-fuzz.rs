//! `rest-fuzz [COUNT] [FIRST SEED]`: random requests to our REST API and to the reference's, whose answers
//! must be the same bytes but for what differs between any two clusters. Prints what is not, and fails.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use compat_tests::diff::allow::{AllowList, REST};
use compat_tests::diff::{Pair, Side};
use compat_tests::lab::Result;
use compat_tests::program;
use compat_tests::rest::requests::{request, Request};

const PATIENCE: Duration = Duration::from_secs(40);
/// Differences that must stay (docs/compatibility.md), by the beginning of the request: a body that is no
/// document is refused by us, and done by the reference after its refusal (P18).
const KNOWN: &[&str] = &["POST /reinitialize"];

/// Random requests to both REST APIs.
#[derive(clap::Parser)]
struct Args {
    /// How many requests.
    #[arg(default_value_t = 1000)]
    count: u64,
    /// Seed of the first one.
    #[arg(default_value_t = 0)]
    first: u64,
}

fn main() -> ExitCode {
    let args = <Args as clap::Parser>::parse();
    program::ended("rest-fuzz", "different answers", run(args.count, args.first))
}

fn run(count: u64, first: u64) -> Result<usize> {
    let allow = AllowList::of_the_tree()?;
    let mut pair = Pair::new(15)?;
    let (mut different, mut kinds) = (0, BTreeMap::new());
    for seed in first..first + count {
        let request = request(seed);
        let text = String::from_utf8_lossy(&request.bytes).into_owned();
        if KNOWN.iter().any(|known| text.starts_with(known)) {
            continue;
        }
        let member = if text.starts_with("GET") && seed % 2 == 1 { "node1" } else { "node0" };
        // `GET /metrics on node0`: as the other programs name what they ask.
        let path = text.split(' ').nth(1).and_then(|path| path.split('?').next()).unwrap_or_default();
        let name = format!("GET {} on {member}", path.trim_end_matches('/'));
        let same = |answers: &[String; 2]| allow.same(REST, &name, answers);
        let mut answers = both(&pair, member, &request);
        for _ in 0..3 {
            if same(&answers) {
                break;
            }
            std::thread::sleep(Duration::from_millis(500));
            answers = both(&pair, member, &request);
        }
        // `200`, `<!D` of an answer without a status line, or nothing.
        let kind = answers[1].get(9..12).filter(|_| answers[1].starts_with("HTTP")).or(answers[1].get(..3));
        *kinds.entry(kind.unwrap_or("none").to_owned()).or_insert(0) += 1;
        if !same(&answers) {
            different += 1;
            println!("--- seed {seed}, {member}: {:?}", text.chars().take(600).collect::<String>());
            let [ours, theirs] = answers.map(|a| a.chars().take(900).collect::<String>());
            println!("ours:          {ours:?}\nthe reference: {theirs:?}");
        }
    }
    for side in &mut pair.sides {
        for member in &mut side.lab.members {
            member.daemon().ok_or_else(|| format!("{}'s daemon has ended", member.name))?;
        }
    }
    println!("the reference's answers: {kinds:?}");
    println!("{count} requests from seed {first} on, {different} different");
    Ok(different)
}

fn both(pair: &Pair, member: &str, request: &Request) -> [String; 2] {
    let one = |side: &Side| {
        let port = side.lab.member(member).map(|m| m.rest).unwrap_or_default();
        let answer = exchange(port, request).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let answer = answer.unwrap_or_else(|error| format!("no answer: {error}"));
        side.known.normalise(&without_keep_alive(&answer))
    };
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| one(&pair.sides[0]));
        let theirs = one(&pair.sides[1]);
        [ours.join().unwrap_or_default(), theirs]
    })
}

/// What ours says to a client that wants the connection kept open, which the reference never does
/// (docs/compatibility.md): the first answer, without what tells of it. Another may follow.
fn without_keep_alive(answer: &str) -> String {
    let Some((head, rest)) = answer.split_once("Connection: keep-alive\r\n") else {
        return answer.to_owned();
    };
    let Some((before, length)) = head.rsplit_once("Content-Length: ") else {
        return format!("{head}{rest}");
    };
    let body = format!("\r\n{rest}").find("\r\n\r\n").map(|at| at + 2);
    let end = body.zip(length.trim().parse::<usize>().ok()).map(|(at, length)| at + length);
    format!("{before}{}", end.and_then(|end| rest.get(..end)).unwrap_or(rest))
}

/// Sends, and reads to the end. A connection that was reset counts as ended: who closes while something
/// is unread resets it, and whether the other sees the answer before is luck.
fn exchange(port: u16, request: &Request) -> Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // The server may have answered and closed already.
    let _ = stream.write_all(&request.bytes);
    if request.half_close {
        let _ = stream.shutdown(Shutdown::Write);
    }
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error.into()),
        _ => Ok(answer),
    }
}
