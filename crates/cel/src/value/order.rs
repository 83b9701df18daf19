//! Which of two values is smaller.

use std::cmp::Ordering;

use super::Value;

impl Value<'_> {
    /// The order of two numbers of any type; `None` with NaN, and for what is no number.
    pub(super) fn numeric_order(&self, other: &Self) -> Option<Ordering> {
        match (self.whole(), other.whole()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            (Some(one), None) => other.double().and_then(|other| whole_and_double(one, other)),
            (None, Some(other)) => self.double().and_then(|one| whole_and_double(other, one)).map(Ordering::reverse),
            (None, None) => self.double()?.partial_cmp(&other.double()?),
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(number) => Some((*number).into()),
            Self::Uint(number) => Some((*number).into()),
            _ => None,
        }
    }

    fn double(&self) -> Option<f64> {
        match self {
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }

    /// The order of two values of types that have one; `None` for others and with NaN.
    pub(crate) fn order(&self, other: &Self) -> Option<Ordering> {
        Some(match (self, other) {
            (Self::Bool(one), Self::Bool(other)) => one.cmp(other),
            (Self::String(one), Self::String(other)) => one.cmp(other),
            (Self::Bytes(one), Self::Bytes(other)) => one.cmp(other),
            (Self::Timestamp(one), Self::Timestamp(other)) => one.cmp(other),
            (Self::Duration(one), Self::Duration(other)) => one.cmp(other),
            _ => return self.numeric_order(other),
        })
    }

    pub(crate) fn is_nan(&self) -> bool {
        self.double().is_some_and(f64::is_nan)
    }
}

/// As the reference does: by the nearest double.
fn whole_and_double(whole: i128, double: f64) -> Option<Ordering> {
    (whole as f64).partial_cmp(&double)
}
