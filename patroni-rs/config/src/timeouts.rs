//! The rule that ttl, loop_wait and retry_timeout have to keep (surface-config 1.40, 1.41).

use patroni_core::timing::Timing;
use pyfmt::int::clamped;
use pyfmt::Value;

use crate::error::Result;
use crate::python::integer;

const MIN_LOOP_WAIT: i64 = 1;
const MIN_RETRY_TIMEOUT: i64 = 3;
const MIN_TTL: i64 = 20;

/// Raises what is too small in `config`, then lowers `loop_wait` and, when that
/// is not enough, `retry_timeout` until `loop_wait + 2*retry_timeout <= ttl`.
/// Keys that need no change stay as they are, or absent.
///
/// # Errors
/// One of the three cannot be read as an integer.
pub(crate) fn adjust(config: &mut Value) -> Result<()> {
    // As they are shown, which may be beyond 64 bits, and as they are counted with.
    let loop_wait_shown = at_least(config, "loop_wait", MIN_LOOP_WAIT)?;
    let retry_timeout_shown = at_least(config, "retry_timeout", MIN_RETRY_TIMEOUT)?;
    let ttl_shown = at_least(config, "ttl", MIN_TTL)?;
    let (loop_wait, ttl) = (clamped(&loop_wait_shown), clamped(&ttl_shown));
    let retries = clamped(&retry_timeout_shown).saturating_mul(2);
    if retries.saturating_add(MIN_LOOP_WAIT) > ttl {
        let lowered = (ttl - MIN_LOOP_WAIT) / 2;
        config.set("loop_wait", MIN_LOOP_WAIT);
        config.set("retry_timeout", lowered);
        tracing::warn!(
            target: "patroni.config",
            "Violated the rule \"loop_wait + 2*retry_timeout <= ttl\", where ttl={ttl_shown}. Adjusting \
             loop_wait from {loop_wait_shown} to {MIN_LOOP_WAIT} and retry_timeout from {retry_timeout_shown} to \
             {lowered}"
        );
    } else if retries.saturating_add(loop_wait) > ttl {
        let lowered = ttl - retries;
        config.set("loop_wait", lowered);
        tracing::warn!(
            target: "patroni.config",
            "Violated the rule \"loop_wait + 2*retry_timeout <= ttl\", where ttl={ttl_shown} and \
             retry_timeout={retry_timeout_shown}. Adjusting loop_wait from {loop_wait_shown} to {lowered}"
        );
    }
    Ok(())
}

fn at_least(config: &mut Value, key: &str, min: i64) -> Result<Value> {
    let value = config.get(key).map_or(Ok(Value::Int(Timing::default_seconds(key))), integer)?;
    if clamped(&value) >= min {
        return Ok(value);
    }
    tracing::warn!(target: "patroni.config", "{key}={value} can't be smaller than {min}, adjusting...");
    config.set(key, min);
    Ok(Value::Int(min))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn adjusted() {
        for (given, want) in [
            ("{}", "{}"),
            (r#"{"ttl": 10}"#, r#"{"ttl": 20, "loop_wait": 1, "retry_timeout": 9}"#),
            (r#"{"retry_timeout": 15}"#, r#"{"retry_timeout": 14, "loop_wait": 1}"#),
            (r#"{"retry_timeout": 14}"#, r#"{"retry_timeout": 14, "loop_wait": 2}"#),
            (r#"{"loop_wait": 20}"#, r#"{"loop_wait": 10}"#),
            (r#"{"retry_timeout": 9.5}"#, r#"{"retry_timeout": 9.5}"#),
            (r#"{"loop_wait": "0"}"#, r#"{"loop_wait": 1}"#),
            (r#"{"loop_wait": 99999999999999999999}"#, r#"{"loop_wait": 10}"#),
            (r#"{"ttl": -99999999999999999999}"#, r#"{"ttl": 20, "loop_wait": 1, "retry_timeout": 9}"#),
            (r#"{"ttl": 9223372036854775807}"#, r#"{"ttl": 9223372036854775807}"#),
        ] {
            let mut config = pyfmt::json::loads(given).unwrap();
            adjust(&mut config).unwrap();
            let ordered = pyfmt::json::loads(want).unwrap();
            assert_eq!(config, ordered, "{given}");
        }
        assert!(adjust(&mut pyfmt::json::loads(r#"{"ttl": "30s"}"#).unwrap()).is_err());
    }
}
