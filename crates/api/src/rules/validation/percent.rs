//! Numbers that may be given as a share: `25%`.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::{NEGATIVE, reasons};

/// A number that is not negative, or a percentage.
pub(crate) fn positive(value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    match value {
        Value::String(text) => reasons(path, text.as_str(), name::percent(text), errors),
        _ => {
            if let Some(number @ ..0) = value.as_i64() {
                errors.invalid(path, number, NEGATIVE);
            }
        }
    }
}

/// A percentage that is at most the whole.
pub(crate) fn at_most_whole(value: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if share(value).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

/// The number of percent, or the number itself; what is neither counts as 0.
pub(crate) fn amount(value: &Value) -> i64 {
    share(value).or_else(|| value.as_i64()).unwrap_or_default()
}

fn share(value: &Value) -> Option<i64> {
    let text = value.as_str().filter(|text| name::percent(text).is_empty())?;
    // Digits that are no number any more count as 0.
    Some(text.trim_end_matches('%').parse().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: impl Into<Value>, expect: &[&str]) {
        let (mut errors, path, value) = (FieldErrors::default(), FieldPath::new("at"), value.into());
        positive(&value, &path, &mut errors);
        at_most_whole(&value, &path, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect, "{value:?}");
    }

    #[test]
    fn numbers_and_shares() {
        check(0, &[]);
        check("100%", &[]);
        check(-1, &["at: Invalid value: -1: must be greater than or equal to 0"]);
        check("101%", &["at: Invalid value: \"101%\": must not be greater than 100%"]);
        check(
            "x",
            &["at: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' \
               (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"],
        );
        assert_eq!([amount(&"7%".into()), amount(&3.into()), amount(&"x".into())], [7, 3, 0]);
    }
}
