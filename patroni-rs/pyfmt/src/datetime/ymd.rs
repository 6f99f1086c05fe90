//! Which of up to three numbers are year, month and day. Port of dateutil's `_ymd`
//! with its default order, month first.

use super::month_days;

/// What a number is known to be.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Label {
    Year,
    Month,
}

#[derive(Default)]
pub(super) struct Ymd {
    values: Vec<i64>,
    pub century_specified: bool,
    month_at: Option<usize>,
    year_at: Option<usize>,
}

pub(super) type Resolved = (Option<i64>, Option<i64>, Option<i64>);

impl Ymd {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Adds digits as they are written: more than two of them are a year.
    pub fn push_text(&mut self, digits: &str, label: Option<Label>) -> Option<()> {
        let value = super::numeric::integer(digits)?;
        self.push(value, label, digits.len() > 2)
    }

    /// Adds a number: above 100 it is a year.
    pub fn push_number(&mut self, value: i64, above_100: bool, label: Option<Label>) -> Option<()> {
        self.push(value, label, above_100)
    }

    fn push(&mut self, value: i64, label: Option<Label>, year: bool) -> Option<()> {
        let label = if year {
            self.century_specified = true;
            if label == Some(Label::Month) {
                return None;
            }
            Some(Label::Year)
        } else {
            label
        };
        let place = match label {
            Some(Label::Year) => Some(&mut self.year_at),
            Some(Label::Month) => Some(&mut self.month_at),
            None => None,
        };
        self.values.push(value);
        match place {
            Some(Some(_)) => None,
            Some(slot) => {
                *slot = Some(self.values.len() - 1);
                Some(())
            }
            None => Some(()),
        }
    }

    /// Can another number be the day? `None` if the month does not exist.
    pub fn could_be_day(&self, at_least_1: bool, at_most: impl Fn(i64) -> bool) -> Option<bool> {
        let value = |at: Option<usize>| at.and_then(|i| self.values.get(i)).copied();
        let last = match (value(self.month_at), value(self.year_at)) {
            (None, _) => 31,
            (Some(month), None) => month_days(2000, month)?,
            (Some(month), Some(year)) => month_days(year, month)?,
        };
        Some(at_least_1 && at_most(last))
    }

    /// Year, month and day; `None` if there are too many numbers.
    pub fn resolve(&self) -> Option<Resolved> {
        let known = usize::from(self.month_at.is_some()) + usize::from(self.year_at.is_some());
        let all_known = self.values.len() == known && known > 0;
        if all_known || (self.values.len() == 3 && known == 2) {
            return Some(self.resolve_known());
        }
        match *self.values.as_slice() {
            [] => Some((None, None, None)),
            [value] => Some(match self.month_at {
                Some(_) => (None, Some(value), None),
                None => other(value),
            }),
            [a, b] => Some(self.resolve_two(a, b)),
            [a, b, c] => Some(self.resolve_three(a, b, c)),
            _ => None,
        }
    }

    fn resolve_known(&self) -> Resolved {
        let value = |at: Option<usize>| at.and_then(|i| self.values.get(i)).copied();
        let rest = (0..3).find(|i| Some(*i) != self.month_at && Some(*i) != self.year_at);
        let day = if self.values.len() == 3 { value(rest) } else { None };
        (value(self.year_at), value(self.month_at), day)
    }

    fn resolve_two(&self, a: i64, b: i64) -> Resolved {
        match self.month_at {
            Some(at) => {
                let (month, rest) = if at == 0 { (a, b) } else { (b, a) };
                let (year, _, day) = other(rest);
                (year, Some(month), day)
            }
            None if a > 31 => (Some(a), Some(b), None),
            None if b > 31 => (Some(b), Some(a), None),
            None => (None, Some(a), Some(b)),
        }
    }

    fn resolve_three(&self, a: i64, b: i64, c: i64) -> Resolved {
        let (year, month, day) = match self.month_at {
            Some(0) if b > 31 => (b, a, c),
            Some(0) => (c, a, b),
            Some(1) if a > 31 => (a, b, c),
            Some(1) => (c, b, a),
            Some(_) if b > 31 => (b, c, a),
            Some(_) => (a, c, b),
            None if a > 31 || self.year_at == Some(0) => (a, b, c),
            None if a > 12 => (c, b, a),
            None => (c, a, b),
        };
        (Some(year), Some(month), Some(day))
    }
}

/// A single number beside a month: a year if it cannot be a day.
fn other(value: i64) -> Resolved {
    if value > 31 {
        (Some(value), None, None)
    } else {
        (None, None, Some(value))
    }
}
