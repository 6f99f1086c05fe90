//! `-W` and `-w`: the same output again and again (surface-api-ctl L11).

use std::time::{Duration, Instant};

use crate::click::{CliError, Values};

/// The seconds between refreshes that the options ask for; `None` for once.
pub fn period(values: &Values) -> Option<f64> {
    let given = values.float("watch").filter(|seconds| *seconds != 0.0);
    given.or(values.flag("W").then_some(2.0))
}

/// Calls `show` once, or every `period` seconds until it fails. With `clear`
/// the screen is cleared before each call.
///
/// # Errors
/// The first error of `show`.
pub fn run(
    period: Option<f64>,
    clear: bool,
    mut show: impl FnMut() -> Result<(), CliError>,
) -> Result<(), CliError> {
    let Some(seconds) = period else {
        return show();
    };
    // Python's time.sleep is never asked for less than 0.
    let period = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    loop {
        let start = Instant::now();
        if clear {
            crate::out::clear();
        }
        show()?;
        std::thread::sleep(period.saturating_sub(start.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::click::values::Val;

    #[test]
    fn periods() {
        let mut values = Values::default();
        assert_eq!(period(&values), None);
        values.put("W", Val::Set);
        assert_eq!(period(&values), Some(2.0));
        values.put("watch", Val::Float(0.5));
        assert_eq!(period(&values), Some(0.5));
        values.put("watch", Val::Float(0.0));
        assert_eq!(period(&values), Some(2.0));
    }

    #[test]
    fn runs_until_an_error() {
        let mut calls = 0;
        let result = run(Some(0.0), false, || {
            calls += 1;
            if calls < 3 {
                Ok(())
            } else {
                Err(CliError::Abort)
            }
        });
        assert_eq!((result, calls), (Err(CliError::Abort), 3));
    }
}
