//! What a namespace's labels say.

use std::fmt;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::value::Value;

const PREFIX: &str = "pod-security.kubernetes.io/";

/// The version that `latest` means.
pub(super) const LATEST: u32 = 36;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level as it was in a version (`v1.` and this number; `None` for the latest).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standard {
    pub(super) level: Level,
    pub(super) version: Option<u32>,
}

impl Standard {
    pub(super) fn minor(self) -> u32 {
        self.version.map_or(LATEST, |version| version.min(LATEST))
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            None => write!(f, "{level}:latest"),
            Some(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) enforce: Standard,
    pub(super) warn: Standard,
}

impl Policy {
    /// The policy of a namespace, and what cannot be read of it.
    pub(super) fn of(namespace: &Value) -> (Self, FieldErrors) {
        let mut errors = FieldErrors::default();
        let mut read = Labels { namespace, errors: &mut errors };
        let (enforce_level, enforce_version) = (read.level("enforce"), read.version("enforce-version"));
        // The audit log is not written yet; its labels have to be readable all the same.
        read.level("audit");
        read.version("audit-version");
        let (warn_level, warn_version) = (read.level("warn"), read.version("warn-version"));
        let enforce = Standard {
            // What cannot be read is taken for the strictest.
            level: enforce_level.map_or(Level::Privileged, |level| level.unwrap_or(Level::Restricted)),
            version: enforce_version.flatten(),
        };
        let mut warn =
            Standard { level: warn_level.flatten().unwrap_or(Level::Privileged), version: warn_version.flatten() };
        if warn_level.is_none() && enforce_level.flatten().is_some_and(|level| level > warn.level) {
            warn.level = enforce.level;
            if warn_version.is_none() {
                warn.version = enforce.version;
            }
        }
        (Self { enforce, warn }, errors)
    }
}

struct Labels<'a> {
    namespace: &'a Value,
    errors: &'a mut FieldErrors,
}

impl Labels<'_> {
    fn label(&self, name: &str) -> Option<(String, String)> {
        let label = format!("{PREFIX}{name}");
        let text = self.namespace.at(&["metadata", "labels", &label])?.as_str()?.to_owned();
        Some((label, text))
    }

    fn refuse(&mut self, label: &str, text: &str, why: &str) {
        self.errors.invalid(&FieldPath::new("metadata").child("labels").key(label), text, why);
    }

    /// Nothing where there is no label; nothing within where it cannot be read.
    #[expect(clippy::option_option, reason = "an absent label and an unreadable one are two things")]
    fn level(&mut self, name: &str) -> Option<Option<Level>> {
        let (label, text) = self.label(name)?;
        let level = match text.as_str() {
            "privileged" => Level::Privileged,
            "baseline" => Level::Baseline,
            "restricted" => Level::Restricted,
            _ => {
                self.refuse(&label, &text, "must be one of privileged, baseline, restricted");
                return Some(None);
            }
        };
        Some(Some(level))
    }

    #[expect(clippy::option_option, reason = "an absent label and the latest version are two things")]
    fn version(&mut self, name: &str) -> Option<Option<u32>> {
        let (label, text) = self.label(name)?;
        if text == "latest" {
            return Some(None);
        }
        let number = text.strip_prefix("v1.").filter(|number| {
            let digits = number.bytes().all(|digit| digit.is_ascii_digit());
            digits && (*number == "0" || !number.starts_with('0'))
        });
        let minor = number.and_then(|number| number.parse().ok());
        if minor.is_none() {
            self.refuse(&label, &text, r#"must be "latest" or "v1.x""#);
        }
        Some(minor)
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value::Map;

    use super::*;

    fn check(labels: &[(&str, &str)], enforce: &str, warn: &str) {
        let labels: Map =
            labels.iter().map(|(name, text)| (format!("{PREFIX}{name}").into(), (*text).into())).collect();
        let namespace = corten_apimachinery::value!({"metadata": {"labels": (Value::Object(labels))}});
        let (policy, _) = Policy::of(&namespace);
        assert_eq!((policy.enforce.to_string().as_str(), policy.warn.to_string().as_str()), (enforce, warn));
    }

    #[test]
    fn labels_say_what_is_enforced_and_warned_of() {
        check(&[], "privileged:latest", "privileged:latest");
        check(&[("enforce", "baseline"), ("enforce-version", "v1.25")], "baseline:v1.25", "baseline:v1.25");
        check(&[("enforce", "baseline"), ("warn", "restricted")], "baseline:latest", "restricted:latest");
        check(&[("enforce", "restricted"), ("warn", "privileged")], "restricted:latest", "privileged:latest");
        check(&[("enforce", "no")], "restricted:latest", "privileged:latest");
        check(&[("enforce", "baseline"), ("enforce-version", "v1.025")], "baseline:latest", "baseline:latest");
    }
}
