//! Certificates of Secrets (`kubernetes.io/tls`) that will expire soon: those that routes are served with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Value;
use corten_client::cache::{Held, View};
use x509_parser::pem::parse_x509_pem;

use super::silent_until_s;
use crate::fact::{Health, Kind, Sight, Subject};

/// Told so long before the end, or when a quarter of its life is left, if that is later.
const LEFT_S: i64 = 14 * 86_400;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    begins_s: i64,
    ends_s: i64,
    silent_until_s: i64,
}

impl View for Certificate {
    /// What cannot be read is no certificate, and the edge says so.
    fn from_object(secret: &Value) -> Option<Self> {
        let chain = STANDARD.decode(secret.str_at(&["data", "tls.crt"])).ok()?;
        let (_, pem) = parse_x509_pem(&chain).ok()?;
        let validity = pem.parse_x509().ok()?.validity().clone();
        Some(Self {
            begins_s: validity.not_before.timestamp(),
            ends_s: validity.not_after.timestamp(),
            silent_until_s: silent_until_s(secret),
        })
    }
}

impl Certificate {
    /// When its end is near enough to be told.
    fn told_s(&self) -> i64 {
        self.ends_s - LEFT_S.min((self.ends_s - self.begins_s) / 4)
    }
}

pub(crate) fn sights<'a>(secrets: impl Iterator<Item = &'a Held<Certificate>>, now_s: i64) -> Vec<Sight> {
    let near = secrets.filter(|secret| secret.told_s() <= now_s);
    let one = |secret: &Held<Certificate>| {
        let ends = Time::from_seconds(secret.ends_s).to_rfc3339();
        let text = format!("its certificate expires at {ends}");
        let subject = Subject::new("secret", secret.head.namespace.clone(), secret.head.name.clone());
        Sight { silent_until_s: secret.silent_until_s, ..Sight::new(Kind::Certificate, subject, Health::Ill, text) }
    };
    near.map(one).collect()
}

/// When the next certificate's end is near, in Unix milliseconds.
pub(crate) fn next_ms<'a>(secrets: impl Iterator<Item = &'a Held<Certificate>>, now_s: i64) -> Option<i64> {
    secrets.map(|secret| secret.told_s()).filter(|told_s| *told_s > now_s).min().map(|told_s| told_s * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(begins_s: i64, ends_s: i64) -> Held<Certificate> {
        let head = corten_client::cache::Head { namespace: "shop".into(), name: "web".into(), ..Default::default() };
        Held { head: head.into(), view: Certificate { begins_s, ends_s, silent_until_s: 0 } }
    }

    #[test]
    fn told_two_weeks_before_the_end_or_later_for_short_lives() {
        const DAY: i64 = 86_400;
        let long = held(0, 90 * DAY);
        let at = |secret: &Held<Certificate>, now_s| sights([secret].into_iter(), now_s).len();
        assert_eq!([at(&long, 76 * DAY - 1), at(&long, 76 * DAY)], [0, 1]);
        assert_eq!(next_ms([&long].into_iter(), 0), Some(76 * DAY * 1000));
        let short = held(0, 8 * DAY);
        assert_eq!([at(&short, 6 * DAY - 1), at(&short, 6 * DAY)], [0, 1]);
        assert_eq!(sights([&short].into_iter(), 7 * DAY)[0].text, "its certificate expires at 1970-01-09T00:00:00Z");
    }

    #[test]
    fn a_certificate_says_when_it_ends() {
        let object = corten_apimachinery::value!({"data": {"tls.crt": "bm8gY2VydGlmaWNhdGU="}});
        assert_eq!(Certificate::from_object(&object), None);
    }
}
