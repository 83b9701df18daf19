//! Numbers of schemas and values: compared as floats, printed as Go does.

use crate::value::Value;

#[expect(clippy::cast_precision_loss, reason = "JSON schema compares numbers as floats, as upstream does")]
pub(super) fn as_f64(value: &Value) -> Option<f64> {
    match value {
        Value::Int(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// Whether a value counts as an integer: whole floats do.
pub(super) fn is_integer(value: &Value) -> bool {
    match value {
        Value::Int(_) => true,
        Value::Float(number) => number.fract() == 0.0 && number.is_finite(),
        _ => false,
    }
}

/// A float as Go's `%v` prints it: whole numbers without a point, large and small ones with an exponent.
pub(super) fn go_float(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{number:e}");
        let Some((mantissa, exponent)) = text.split_once('e') else { return text };
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_print_as_in_go() {
        for (number, text) in [(10.0, "10"), (0.5, "0.5"), (1e21, "1e+21"), (1.5e-7, "1.5e-07"), (-3.0, "-3")] {
            assert_eq!(go_float(number), text);
        }
    }
}
