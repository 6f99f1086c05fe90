//! PySyncObj's utility commands, as a client: who is a member, and let me be one.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::connection::{connect, Talk};
use crate::fernet::Fernet;
use crate::pickle::Value;
use crate::wire::LARGEST_FRAME;

/// Asks one member one thing.
///
/// # Errors
/// It does not answer, or has another password.
pub async fn ask(
    address: &str,
    fernet: Option<Arc<Fernet>>,
    question: Value,
    limit: Duration,
) -> std::io::Result<Value> {
    let asking = async {
        let mut talk = Talk::new(connect(address, limit).await?, fernet);
        talk.dial_keys().await?;
        talk.send(&question).await?;
        talk.receive(LARGEST_FRAME).await
    };
    tokio::time::timeout(limit, asking).await?
}

/// Who has answered, and the members that it knows.
pub type Members = (String, Vec<String>);

/// Asks all of them at once who the members are, and takes the first answer.
pub async fn ask_members(
    partners: &[String],
    fernet: Option<&Arc<Fernet>>,
    limit: Duration,
) -> Option<Members> {
    let mut asking = JoinSet::new();
    for partner in partners {
        let (partner, fernet) = (partner.clone(), fernet.cloned());
        asking.spawn(async move {
            let question = Value::List(vec![Value::str("members")]);
            let answer = ask(&partner, fernet, question, limit).await.ok()?;
            let address = |member: &Value| member.get("addr")?.as_str().map(str::to_owned);
            let members = answer.items()?.iter().map(address).collect::<Option<Vec<_>>>()?;
            let right = !members.is_empty() && members.iter().all(|member| crate::entry::is_address(member));
            right.then_some((partner, members))
        });
    }
    while let Some(answer) = asking.join_next().await {
        if let Ok(Some(members)) = answer {
            return Some(members);
        }
    }
    None
}

/// Asks a member to let us be one. It passes that on to the leader.
///
/// # Errors
/// It does not answer.
pub async fn ask_to_join(
    to: &str,
    own: &str,
    fernet: Option<Arc<Fernet>>,
    limit: Duration,
) -> std::io::Result<Value> {
    ask(to, fernet, Value::List(vec![Value::str("add"), Value::str(own)]), limit).await
}
