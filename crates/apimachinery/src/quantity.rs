//! Quantities: decimal numbers with a suffix (`100m`, `1.5Gi`, `12e6`), as `k8s.io/apimachinery/pkg/api/resource` reads,
//! prints, compares and adds them.
//!
//! A quantity is an integer times a power of ten, at least one thousand-millionth apart (finer values are rounded away
//! from zero). Upstream's numbers have no bound; these hold 38 digits, refuse longer ones, and sums beyond that stop at
//! the largest number.

use std::cmp::Ordering;
use std::fmt;

use crate::value::{Str, Value};

/// Which family of suffixes a quantity is printed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySi,
    /// `12M`
    DecimalSi,
}

/// A parsed quantity. Equality and order are those of the number; the format plays no part.
#[derive(Clone, Debug)]
pub struct Quantity {
    /// The value is `mantissa * 10^exponent`.
    mantissa: i128,
    exponent: i32,
    format: Format,
    /// The text as it was written, where upstream keeps it: it is printed again unchanged.
    text: Option<Str>,
}

/// A text that is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The finest difference that a quantity holds: 10^-9.
const NANO: i32 = -9;

/// The suffixes that stand for a power of ten, and that power.
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// The suffixes that stand for a power of two, and that power.
const BINARY: [(&str, i32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

/// The parts of a quantity's text.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, leading zeros stripped; `"0"` where none are left (upstream reads `m` as zero).
    whole: &'a str,
    /// Digits after the point.
    fraction: &'a str,
    suffix: &'a str,
    /// No digit stands before the suffix.
    empty: bool,
}

/// What a suffix stands for.
struct Scale {
    format: Format,
    exponent: i32,
}

impl Quantity {
    /// Reads a quantity's text.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let parts = Parts::split(text)?;
        let scale = Scale::of(parts.suffix).ok_or(QuantityError::Suffix)?;
        if parts.empty && (scale.exponent < NANO || scale.exponent >= 50 && scale.format == Format::BinarySi) {
            return Err(QuantityError::Numeric);
        }
        let mut quantity = match scale.format {
            Format::BinarySi => parts.binary(scale.exponent)?,
            format => parts.decimal(format, scale.exponent)?,
        };
        if parts.keeps_text(&scale) {
            quantity.text = Some(text.into());
        }
        Ok(quantity)
    }

    /// Reads a quantity as it stands in an object: a string, or a plain number; null is zero.
    pub fn from_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::Null => Ok(Self::new(0, Format::DecimalSi)),
            Value::Int(number) => Self::parse(&number.to_string()),
            Value::Float(number) => Self::parse(&number.to_string()),
            Value::String(text) => Self::parse(text.trim()),
            Value::Bool(_) | Value::Array(_) | Value::Object(_) => Err(QuantityError::Format),
        }
    }

    /// A whole number.
    pub fn new(value: i64, format: Format) -> Self {
        Self::scaled(value.into(), 0, format)
    }

    /// A number of thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self::scaled(value.into(), -3, format)
    }

    fn scaled(mantissa: i128, exponent: i32, format: Format) -> Self {
        Self { mantissa, exponent, format, text: None }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn signum(&self) -> i32 {
        match self.mantissa.cmp(&0) {
            Ordering::Less => -1,
            Ordering::Equal => 0,
            Ordering::Greater => 1,
        }
    }

    /// The number in units, rounded away from zero; a number beyond 64 bits gives the nearest bound.
    pub fn value(&self) -> i64 {
        self.value_at(0)
    }

    /// The number in thousandths, rounded away from zero; a number beyond 64 bits gives the nearest bound.
    pub fn milli_value(&self) -> i64 {
        self.value_at(-3)
    }

    fn value_at(&self, scale: i32) -> i64 {
        let (mantissa, _) = rescale(self.mantissa, self.exponent, scale);
        let bound = if self.mantissa < 0 { i64::MIN } else { i64::MAX };
        mantissa.and_then(|number| i64::try_from(number).ok()).unwrap_or(bound)
    }

    /// The number, perhaps less exact.
    #[expect(clippy::cast_precision_loss, reason = "the caller asks for an approximation")]
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }

    /// Adds a quantity; zero takes over the other's format.
    pub fn add(&mut self, other: &Self) {
        if self.is_zero() {
            self.format = other.format;
        }
        self.text = None;
        let exponent = self.exponent.min(other.exponent);
        let aligned = (align(self, exponent), align(other, exponent));
        if let (Some(left), Some(right)) = aligned {
            self.mantissa = left.saturating_add(right);
            self.exponent = exponent;
        } else if magnitude(self) < magnitude(other) {
            // The smaller one lies below the 38 digits of the larger one.
            self.mantissa = other.mantissa;
            self.exponent = other.exponent;
        }
    }

    /// Subtracts a quantity; zero takes over the other's format.
    pub fn sub(&mut self, other: &Self) {
        self.add(&other.negated());
    }

    #[must_use]
    pub fn negated(&self) -> Self {
        Self::scaled(self.mantissa.saturating_neg(), self.exponent, self.format)
    }

    /// The canonical text: no fraction, the largest suffix that keeps the number exact; binary numbers below 1024 or
    /// with a fraction are printed in decimal.
    fn canonical(&self) -> Str {
        if self.is_zero() {
            return "0".into();
        }
        if self.format == Format::BinarySi
            && let Some(text) = self.canonical_binary()
        {
            return text;
        }
        let (mut mantissa, mut exponent) = strip_tens(self.mantissa, self.exponent);
        while exponent % 3 != 0 {
            mantissa = mantissa.saturating_mul(10);
            exponent -= 1;
        }
        if self.format == Format::DecimalExponent {
            return match exponent {
                0 => compact_str::format_compact!("{mantissa}"),
                _ => compact_str::format_compact!("{mantissa}e{exponent}"),
            };
        }
        match DECIMAL.iter().find(|(_, power)| *power == exponent) {
            Some((suffix, _)) => compact_str::format_compact!("{mantissa}{suffix}"),
            // Upstream prints such a number without any suffix and so changes it; the exponent keeps it whole.
            None => compact_str::format_compact!("{mantissa}e{exponent}"),
        }
    }

    fn canonical_binary(&self) -> Option<Str> {
        let (Some(mut number), true) = rescale(self.mantissa, self.exponent, 0) else { return None };
        if number.unsigned_abs() < 1024 {
            return None;
        }
        let mut power = 0;
        while number % 1024 == 0 && power < BINARY.len() {
            number /= 1024;
            power += 1;
        }
        let suffix = if power == 0 { "" } else { BINARY[power - 1].0 };
        Some(compact_str::format_compact!("{number}{suffix}"))
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => f.write_str(&self.canonical()),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.signum(), other.signum()) {
            (1, 1) => compare_magnitude(self, other),
            (-1, -1) => compare_magnitude(other, self),
            (left, right) => left.cmp(&right),
        }
    }
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let negative = text.starts_with('-');
        let number = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (all, rest) = leading_digits(number);
        let (fraction, suffix) = match rest.strip_prefix('.') {
            Some(rest) => leading_digits(rest),
            None => ("", rest),
        };
        let exponent = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !exponent.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        let empty = all.is_empty() && fraction.is_empty();
        let stripped = all.trim_start_matches('0');
        let whole = if stripped.is_empty() { "0" } else { stripped };
        Ok(Self { negative, whole, fraction, suffix, empty })
    }

    fn decimal(&self, format: Format, exponent: i32) -> Result<Quantity, QuantityError> {
        // Digits finer than 10^-9 are cut off here and count only for the rounding.
        let fine = i64::from(exponent) - i64::try_from(self.fraction.len()).unwrap_or(i64::MAX) - i64::from(NANO);
        let digits = [self.whole.as_bytes(), self.fraction.as_bytes()].concat();
        let cut = usize::try_from(-fine).unwrap_or(0).min(digits.len());
        let (kept, lost) = digits.split_at(digits.len() - cut);
        let mut mantissa = parse_digits(kept)?;
        if lost.iter().any(|digit| *digit != b'0') {
            mantissa += 1;
        }
        let exponent = i32::try_from(fine.max(0) + i64::from(NANO)).map_err(|_| QuantityError::Suffix)?;
        Ok(Quantity::scaled(if self.negative { -mantissa } else { mantissa }, exponent, format))
    }

    fn binary(&self, power: i32) -> Result<Quantity, QuantityError> {
        const CAP: i128 = i64::MAX as i128;
        let unit = 1i128 << power;
        let whole = parse_digits(self.whole.as_bytes())?.saturating_mul(unit);
        let fraction = parse_digits(self.fraction.as_bytes())?;
        if fraction == 0 || whole >= CAP {
            let number = whole.min(CAP);
            return Ok(Quantity::scaled(if self.negative { -number } else { number }, 0, Format::BinarySi));
        }
        // fraction / 10^digits * 2^power, in units of 10^-9 and rounded up.
        let digits = u32::try_from(self.fraction.len()).map_err(|_| QuantityError::Numeric)?;
        let part = scale_fraction(fraction, digits, unit).ok_or(QuantityError::Numeric)?;
        let nano = whole.saturating_mul(1_000_000_000).saturating_add(part).min(CAP * 1_000_000_000);
        let format = if nano < 1_000_000_000 { Format::DecimalSi } else { Format::BinarySi };
        Ok(Quantity::scaled(if self.negative { -nano } else { nano }, NANO, format))
    }

    /// Whether upstream prints this text again as it stands: a number of few digits that is already canonical but for
    /// the size of its suffix.
    fn keeps_text(&self, scale: &Scale) -> bool {
        let length = self.whole.len() + self.fraction.len();
        match scale.format {
            Format::BinarySi => {
                let room = 15 - i64::try_from(length).unwrap_or(i64::MAX) - i64::from(scale.exponent * 3 / 10) - 1;
                let odd = self.whole.parse::<i64>().is_ok_and(|number| number & 7 != 0);
                self.fraction.is_empty() && room >= 0 && odd
            }
            Format::DecimalSi | Format::DecimalExponent => {
                let exponent = i64::from(scale.exponent) - i64::try_from(self.fraction.len()).unwrap_or(i64::MAX);
                let thousands = [self.whole, self.fraction].concat().ends_with("000");
                length <= 18
                    && exponent >= NANO.into()
                    && exponent % 3 == 0
                    && !thousands
                    && !self.whole.starts_with('0')
            }
        }
    }
}

impl Scale {
    fn of(suffix: &str) -> Option<Self> {
        if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
            return Some(Self { format: Format::DecimalSi, exponent: *exponent });
        }
        if let Some((_, exponent)) = BINARY.iter().find(|(name, _)| *name == suffix) {
            return Some(Self { format: Format::BinarySi, exponent: *exponent });
        }
        let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
        Some(Self { format: Format::DecimalExponent, exponent })
    }
}

fn leading_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

fn parse_digits(digits: &[u8]) -> Result<i128, QuantityError> {
    digits
        .iter()
        .try_fold(0i128, |number, digit| number.checked_mul(10)?.checked_add(i128::from(digit - b'0')))
        // One below the bound, so that rounding up cannot overflow.
        .filter(|number| *number < i128::MAX)
        .ok_or(QuantityError::Numeric)
}

/// `fraction / 10^digits * unit` in units of 10^-9, rounded up.
fn scale_fraction(fraction: i128, digits: u32, unit: i128) -> Option<i128> {
    // Twenty digits of a fraction decide a number below 2^60 to within 10^-9; the others only round.
    let extra = digits.saturating_sub(18);
    let divisor = 10i128.checked_pow(extra)?;
    let lost = fraction % divisor != 0;
    let short = fraction / divisor;
    let places = 10i128.pow(digits - extra);
    let product = short.checked_mul(unit)?;
    let (units, rest) = (product / places, product % places);
    let scaled = rest.checked_mul(1_000_000_000)?;
    let round = i128::from(lost || scaled % places != 0);
    units.checked_mul(1_000_000_000)?.checked_add(scaled / places)?.checked_add(round)
}

/// The mantissa at another exponent, rounded away from zero, and whether that was exact; `None` beyond 128 bits.
fn rescale(mantissa: i128, exponent: i32, to: i32) -> (Option<i128>, bool) {
    if mantissa == 0 {
        return (Some(0), true);
    }
    let Ok(up) = u32::try_from(i64::from(exponent) - i64::from(to)) else {
        let down = u32::try_from(i64::from(to) - i64::from(exponent)).unwrap_or(u32::MAX);
        let divisor = 10i128.checked_pow(down);
        let (quotient, rest) = divisor.map_or((0, mantissa), |divisor| (mantissa / divisor, mantissa % divisor));
        return (Some(quotient + if rest == 0 { 0 } else { mantissa.signum() }), rest == 0);
    };
    (10i128.checked_pow(up).and_then(|factor| mantissa.checked_mul(factor)), true)
}

fn align(quantity: &Quantity, exponent: i32) -> Option<i128> {
    rescale(quantity.mantissa, quantity.exponent, exponent).0
}

/// Moves factors of ten from the mantissa, which is not zero, to the exponent.
fn strip_tens(mut mantissa: i128, mut exponent: i32) -> (i128, i32) {
    while mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    (mantissa, exponent)
}

/// The position of the first digit.
fn magnitude(quantity: &Quantity) -> i64 {
    match quantity.mantissa.unsigned_abs().checked_ilog10() {
        Some(digits) => i64::from(digits) + i64::from(quantity.exponent),
        None => i64::MIN,
    }
}

/// Compares two numbers that are not zero without their signs.
fn compare_magnitude(left: &Quantity, right: &Quantity) -> Ordering {
    let order = magnitude(left).cmp(&magnitude(right));
    if order != Ordering::Equal {
        return order;
    }
    // Equal positions of the first digit keep the difference of the exponents below 39.
    let exponent = left.exponent.min(right.exponent);
    let aligned = |quantity: &Quantity| {
        let shift = u32::try_from(quantity.exponent - exponent).ok()?;
        quantity.mantissa.unsigned_abs().checked_mul(10u128.checked_pow(shift)?)
    };
    match (aligned(left), aligned(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (None, None) => Ordering::Equal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expectations were taken from upstream's own package.
    #[test]
    fn canonical_texts() {
        let cases = [
            ("0", "0"),
            ("0.0", "0"),
            ("000", "0"),
            ("0Ki", "0"),
            ("-0", "0"),
            ("1000m", "1"),
            ("1", "1"),
            ("100m", "100m"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1.500", "1.500"),
            ("m", "0"),
            ("-", "0"),
            ("1.501", "1.501"),
            ("0.001", "1m"),
            ("0.0001", "100u"),
            ("1e-9", "1e-9"),
            ("0.0000000001", "1n"),
            ("-0.0000000001", "-1n"),
            ("1000k", "1M"),
            ("1001k", "1001k"),
            ("1k", "1k"),
            ("12e6", "12e6"),
            ("1E3", "1E3"),
            ("1.2e3", "1200"),
            ("1000e3", "1e6"),
            ("1E", "1E"),
            ("1e1", "10"),
            ("1Ki", "1Ki"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1025Ki", "1025Ki"),
            ("8Ki", "8Ki"),
            ("1.5Gi", "1536Mi"),
            ("0.5Ki", "512"),
            ("0.5Mi", "512Ki"),
            ("1.1Ki", "1126400m"),
            ("16Ei", "9223372036854775807"),
            ("3Ei", "3Ei"),
            ("1Ei", "1Ei"),
            ("+5", "+5"),
            ("05", "05"),
            ("-1", "-1"),
            ("-1024Ki", "-1Mi"),
            ("1.G", "1.G"),
            (".5", "500m"),
            ("5.", "5."),
            ("128974848", "128974848"),
            ("129e6", "129e6"),
            ("129M", "129M"),
            ("123Mi", "123Mi"),
            ("0.1Gi", "107374182400m"),
            ("1000Ki", "1000Ki"),
            ("100000000000000000000", "100E"),
            ("9999999999999999999999", "9999999999999999999999"),
            ("1u", "1u"),
            ("1.0000000000001", "1000000001n"),
            ("0.1Ki", "102400m"),
            ("0.0001Ki", "102400u"),
        ];
        for (text, expect) in cases {
            let quantity = Quantity::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(quantity.to_string(), expect, "{text}");
        }
    }

    #[test]
    fn refusals() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("1.1.M", QuantityError::Format),
            ("1 Ki", QuantityError::Format),
            ("0.1mi", QuantityError::Suffix),
            ("abc", QuantityError::Format),
            ("1KiB", QuantityError::Format),
            ("1Kim", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
            ("1e1.5", QuantityError::Format),
            ("0x10", QuantityError::Format),
            ("1ki", QuantityError::Suffix),
            ("１", QuantityError::Format),
            ("Ei", QuantityError::Numeric),
            ("e-10", QuantityError::Numeric),
            (&"9".repeat(60), QuantityError::Numeric),
        ] {
            assert_eq!(Quantity::parse(text).map(|quantity| quantity.to_string()), Err(error), "{text}");
        }
    }

    #[test]
    fn order_and_sums() {
        let parse = |text: &str| Quantity::parse(text).expect("a quantity");
        assert_eq!(parse("1000m"), parse("1"));
        assert_eq!(parse("1Ki"), parse("1024"));
        assert!(
            parse("1Gi") > parse("1G")
                && parse("-1Gi") < parse("-1G")
                && parse("-1") < parse("1n")
                && parse("1e30") > parse("16Ei")
        );
        let sum = |left: &str, right: &str| {
            let mut sum = parse(left);
            sum.add(&parse(right));
            sum.to_string()
        };
        assert_eq!(sum("100m", "900m"), "1");
        assert_eq!(sum("1Gi", "1Mi"), "1025Mi");
        assert_eq!(sum("0", "1Mi"), "1Mi");
        assert_eq!(sum("1", "1Ki"), "1025");
        assert_eq!(sum("-500m", "1"), "500m");
        let mut rest = parse("1Gi");
        rest.sub(&parse("1G"));
        assert_eq!(rest.to_string(), "73741824");
        assert_eq!(
            (parse("1.1").value(), parse("-1.1").value(), parse("1.1").milli_value(), parse("1e40").value()),
            (2, -2, 1100, i64::MAX)
        );
    }

    #[test]
    fn reads_values() {
        assert_eq!(Quantity::from_value(&Value::Int(5)).map(|q| q.to_string()), Ok("5".to_owned()));
        assert_eq!(Quantity::from_value(&Value::Float(0.5)).map(|q| q.to_string()), Ok("500m".to_owned()));
        assert_eq!(Quantity::from_value(&Value::from(" 1Gi ")).map(|q| q.to_string()), Ok("1Gi".to_owned()));
        assert_eq!(Quantity::from_value(&Value::Bool(true)), Err(QuantityError::Format));
    }
}
