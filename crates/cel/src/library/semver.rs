//! Semantic versions: `semver("1.2.3").major()`.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("semver", "string_to_semver", "(string) -> kubernetes.Semver", semver),
    ("semver", "string_bool_to_semver", "(string, bool) -> kubernetes.Semver", semver),
    ("isSemver", "is_semver_string", "(string) -> bool", is_semver),
    ("isSemver", "is_semver_string_bool", "(string, bool) -> bool", is_semver),
    ("major", "semver_major", "kubernetes.Semver.() -> int", major),
    ("minor", "semver_minor", "kubernetes.Semver.() -> int", minor),
    ("patch", "semver_patch", "kubernetes.Semver.() -> int", patch),
];

/// A version by the specification 2.0.
#[derive(Clone, Debug)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<String>,
    build: String,
}

impl Semver {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("Version string empty".to_owned());
        }
        let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
        let (numbers, pre) = text.split_once('-').map_or((text, None), |(numbers, pre)| (numbers, Some(pre)));
        let parts: Vec<&str> = numbers.split('.').collect();
        let [major, minor, patch] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found".to_owned());
        };
        let numbers = [number("major", major)?, number("minor", minor)?, number("patch", patch)?];
        let words = |text: Option<&str>, numbers: bool| {
            text.map_or(Ok(Vec::new()), |text| text.split('.').map(|each| word(each, numbers)).collect())
        };
        let pre = words(pre, true)?;
        words(build, false)?;
        Ok(Self { numbers, pre, build: build.unwrap_or_default().to_owned() })
    }

    /// Takes what is common though not a version: a `v` before it, missing numbers, zeros before numbers.
    fn normalized(text: &str) -> Result<String, String> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
        for part in &mut parts {
            if part.len() > 1 {
                let cut = part.trim_start_matches('0');
                *part = if cut.starts_with(|first: char| first.is_ascii_digit()) {
                    cut.to_owned()
                } else {
                    format!("0{cut}")
                };
            }
        }
        if parts.len() < 3 && parts.last().is_some_and(|last| last.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".to_owned());
        }
        while parts.len() < 3 {
            parts.push("0".to_owned());
        }
        Ok(parts.join("."))
    }

    /// By precedence: what is built differently is the same.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        let words = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.pre.iter().zip(&other.pre).map(|(one, other)| word_order(one, other));
                pairs.fold(Ordering::Equal, Ordering::then).then(self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(words)
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(out, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(out, "-{}", self.pre.join("."))?;
        }
        if self.build.is_empty() { Ok(()) } else { write!(out, "+{}", self.build) }
    }
}

fn number(name: &str, text: &str) -> Result<u64, String> {
    let title = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {name} number \"{text}\""));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{title} number must not contain leading zeroes \"{text}\""));
    }
    text.parse().map_err(|_| format!("strconv.ParseUint: parsing \"{text}\": value out of range"))
}

fn word(text: &str, numbers: bool) -> Result<String, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if numbers && text.len() > 1 && text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("Numeric PreRelease version must not contain leading zeroes \"{text}\""));
    }
    if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(format!("Invalid character(s) found in prerelease \"{text}\""));
    }
    Ok(text.to_owned())
}

fn word_order(one: &str, other: &str) -> Ordering {
    match (one.parse::<u64>(), other.parse::<u64>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => one.cmp(other),
    }
}

fn read(given: &[Value<'_>]) -> Result<Result<Semver, String>, Error> {
    match given {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(Semver::parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(Semver::normalized(text).and_then(|text| Semver::parse(&text))),
        _ => Err(Error::no_such_overload()),
    }
}

fn semver<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    read(&given)?.map(|version| Value::Semver(Arc::new(version))).map_err(Error::new)
}

fn is_semver<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    read(&given).map(|version| Value::Bool(version.is_ok()))
}

fn part<'a>(given: &[Value<'a>], index: usize) -> Result<Value<'a>, Error> {
    match given {
        [Value::Semver(version)] => Ok(Value::Int(version.numbers[index] as i64)),
        _ => unfit(),
    }
}

fn major<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, 0)
}

fn minor<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, 1)
}

fn patch<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    part(&given, 2)
}
