//! Reading a directory. ZooKeeper reads one znode at a time; requests of one connection are answered in their order, so
//! that a whole level goes out in one go.

use std::time::Instant;

use patroni_core::model::{Node, Nodes};

use super::client::{failure, Client};
use super::line::Reply;
use super::proto::{Answer, Code, Op, Stat};
use crate::kv::Failure;

/// What changes while it is read is read again, so often.
const ATTEMPTS: usize = 3;

/// All keys of a directory, as of one instant if possible.
///
/// The `sync` before them makes the server catch up with the leader of the ensemble: a server that is cut off from it
/// does not answer, instead of telling what was once. (The reference reads whatever the server has.)
pub async fn list(client: &Client, directory: &str, deadline: Instant) -> Result<Nodes, Failure> {
    let mut attempt = 1;
    loop {
        let (nodes, torn) = list_once(client, directory, deadline).await?;
        if !torn || attempt >= ATTEMPTS {
            return Ok(nodes);
        }
        attempt += 1;
    }
}

async fn list_once(client: &Client, directory: &str, deadline: Instant) -> Result<(Nodes, bool), Failure> {
    let mut nodes = Nodes::new();
    let top = [Op::Sync { path: directory.to_owned() }, children_of(directory)];
    let replies = client.ask(&top, None, deadline, false).await?.replies;
    let Some((_, names, begun)) = children(replies.into_iter().nth(1), directory)? else {
        return Ok((nodes, false));
    };
    let mut torn = false;
    let mut level: Vec<String> = names;
    while !level.is_empty() {
        let gets: Vec<Op> =
            level.iter().map(|name| Op::Get { path: format!("{directory}/{name}") }).collect();
        let replies = client.ask(&gets, None, deadline, false).await?.replies;
        let mut directories = Vec::new();
        for (name, reply) in level.iter().zip(replies) {
            match reply.result {
                Ok(Answer::Value(value, stat)) => {
                    torn |= stat.mzxid.max(stat.pzxid) > begun;
                    if stat.children > 0 {
                        directories.push(name.clone());
                    }
                    if !is_directory(&stat, &value) {
                        nodes.insert(name.clone(), node(&value, &stat));
                    }
                }
                Err(Code::NO_NODE) => torn = true,
                Err(code) => return Err(failure(code, &format!("{directory}/{name}"))),
                Ok(_) => {
                    return Err(Failure::Unknown(format!("{directory}: not the answer to what was asked")))
                }
            }
        }
        level = below(client, directory, &directories, deadline).await?;
    }
    // What was made or deleted in the directory meanwhile.
    let end = client.ask(&[children_of(directory)], None, deadline, false).await?.replies.pop();
    torn |= children(end, directory)?.is_none_or(|(stat, ..)| stat.pzxid > begun);
    Ok((nodes, torn))
}

async fn below(
    client: &Client,
    directory: &str,
    directories: &[String],
    deadline: Instant,
) -> Result<Vec<String>, Failure> {
    let asks: Vec<Op> = directories.iter().map(|name| children_of(&format!("{directory}/{name}"))).collect();
    let replies = client.ask(&asks, None, deadline, false).await?.replies;
    let mut all = Vec::new();
    for (name, reply) in directories.iter().zip(replies) {
        if let Some((_, names, _)) = children(Some(reply), name)? {
            all.extend(names.into_iter().map(|child| format!("{name}/{child}")));
        }
    }
    Ok(all)
}

fn children_of(path: &str) -> Op {
    Op::Children { path: path.to_owned(), watch: false }
}

/// The directory's properties, its children, and the newest transaction that the server knew; None: there is no such directory.
fn children(reply: Option<Reply>, what: &str) -> Result<Option<(Stat, Vec<String>, i64)>, Failure> {
    match reply {
        Some(Reply { zxid, result: Ok(Answer::Children(names, stat)) }) => Ok(Some((stat, names, zxid))),
        Some(Reply { result: Err(Code::NO_NODE), .. }) => Ok(None),
        Some(Reply { result: Err(code), .. }) => Err(failure(code, what)),
        _ => Err(Failure::Unknown(format!("{what}: not the answer to what was asked"))),
    }
}

/// Directorys have no value, and have or had children.
fn is_directory(stat: &Stat, value: &[u8]) -> bool {
    value.is_empty() && (stat.children > 0 || stat.cversion > 0)
}

/// A key as the upper floor has it (surface-dcs 4): its owner by its number.
pub fn node(value: &[u8], stat: &Stat) -> Node {
    Node {
        value: String::from_utf8_lossy(value).into_owned(),
        version: stat.version.to_string(),
        modify_version: Some(stat.mzxid.to_string()),
        session: (stat.owner != 0).then(|| stat.owner.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_directories() {
        let stat = Stat { mzxid: 7, version: 3, owner: 0x1000, ..Stat::default() };
        let known = node(b"me", &stat);
        assert_eq!((known.value.as_str(), known.version.as_str()), ("me", "3"));
        assert_eq!((known.modify_version.as_deref(), known.session.as_deref()), (Some("7"), Some("4096")));
        assert_eq!(node(b"", &Stat::default()).session, None);
        for (children, cversion, value, directory) in
            [(0, 0, "", false), (1, 1, "", true), (0, 2, "", true), (0, 0, "x", false), (1, 1, "x", false)]
        {
            let stat = Stat { children, cversion, ..Stat::default() };
            assert_eq!(is_directory(&stat, value.as_bytes()), directory, "{children} {cversion} {value}");
        }
    }

    #[test]
    fn answers() {
        let reply = |result| Some(Reply { zxid: 5, result });
        let found = children(reply(Ok(Answer::Children(vec!["a".into()], Stat::default()))), "x");
        assert_eq!(found, Ok(Some((Stat::default(), vec!["a".to_owned()], 5))));
        assert_eq!(children(reply(Err(Code::NO_NODE)), "x"), Ok(None));
        assert!(matches!(children(reply(Err(Code::NO_AUTH)), "x"), Err(Failure::Denied(_))));
        assert!(matches!(children(reply(Ok(Answer::Done)), "x"), Err(Failure::Unknown(_))));
        assert!(matches!(children(None, "x"), Err(Failure::Unknown(_))));
    }
}
