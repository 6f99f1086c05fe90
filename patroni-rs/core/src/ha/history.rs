//! The rows of `/history`.

use pyfmt::{json, Value};

/// Does the last row already tell how `timeline` began, and who was its leader?
pub(super) fn is_current(known: &[Value], timeline: u32) -> bool {
    known.last().and_then(Value::as_list).is_some_and(|row| {
        row.len() == 5 && row.first().and_then(Value::as_i64) == Some(i64::from(timeline) - 1)
    })
}

/// The history file's rows, with the times and leaders that the DCS already
/// knew for the same switch; at most the last `keep` rows, 0 for all.
pub(super) fn merged(known: &[Value], mut fresh: Vec<Value>, keep: usize) -> Option<String> {
    if keep > 0 && fresh.len() > keep {
        fresh.drain(..fresh.len() - keep);
    }
    for row in &mut fresh {
        let Value::List(row) = row else { continue };
        let old = known
            .iter()
            .rev()
            .filter_map(Value::as_list)
            .find(|old| old.first() == row.first() && old.get(1) == row.get(1));
        if let (3, Some(old)) = (row.len(), old) {
            row.extend(old.iter().skip(3).take(2).cloned());
        }
    }
    (!fresh.is_empty()).then(|| json::dumps_compact(&Value::List(fresh)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(text: &str) -> Vec<Value> {
        json::loads(text).unwrap().as_list().unwrap().to_vec()
    }

    #[test]
    fn keeps_times_and_leaders_of_known_switches() {
        let known = rows(r#"[[1,10,"no recovery target specified","t1","a"]]"#);
        let fresh = rows(r#"[[1,10,"no recovery target specified"],[2,20,"x","t2","b"]]"#);
        assert_eq!(
            merged(&known, fresh.clone(), 0).unwrap(),
            r#"[[1,10,"no recovery target specified","t1","a"],[2,20,"x","t2","b"]]"#
        );
        assert_eq!(merged(&known, fresh, 1).unwrap(), r#"[[2,20,"x","t2","b"]]"#);
        assert_eq!(merged(&known, Vec::new(), 0), None);
    }

    #[test]
    fn current_means_last_timeline_with_a_leader() {
        assert!(is_current(&rows(r#"[[1,10,"x","t1","a"]]"#), 2));
        assert!(!is_current(&rows(r#"[[1,10,"x","t1"]]"#), 2));
        assert!(!is_current(&rows(r#"[[1,10,"x","t1","a"]]"#), 3));
        assert!(!is_current(&[], 2));
    }
}
