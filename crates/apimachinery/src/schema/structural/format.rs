//! String formats that custom resource schemas may name; others are ignored, as upstream does.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

/// Whether a text has a format. Dashes in the format's name do not count; unknown formats match anything.
pub(super) fn matches(format: &str, text: &str) -> bool {
    match format.replace('-', "").as_str() {
        "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => DATE.is_match(text) && text.parse::<jiff::civil::Date>().is_ok(),
        "duration" => DURATION.is_match(text),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => MAC.is_match(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID3.is_match(text),
        "uuid4" => UUID4.is_match(text),
        "uuid5" => UUID5.is_match(text),
        "uri" => URI.is_match(text),
        "email" => EMAIL.is_match(text),
        "hostname" => text.len() <= 255 && HOSTNAME.is_match(text),
        "hexcolor" => HEXCOLOR.is_match(text),
        "ssn" => SSN.is_match(text),
        "bsonobjectid" => OBJECT_ID.is_match(text),
        "k8sshortname" => text.len() <= 63 && LABEL.is_match(text),
        "k8slongname" => text.len() <= 253 && SUBDOMAIN.is_match(text),
        _ => true,
    }
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(bits) = bits.parse::<u8>() else { return false };
    (address.parse::<Ipv4Addr>().is_ok() && bits <= 32) || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
}

macro_rules! patterns {
    ($($name:ident = $pattern:literal;)*) => {
        $( static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("a constant pattern")); )*
    };
}

patterns! {
    DATE = r"^\d{4}-\d{2}-\d{2}$";
    DURATION = r"^-?(\d+(\.\d+)?\s*(ns|us|µs|ms|s|m|h|d|w|nano(s|seconds?)?|micro(s|seconds?)?|milli(s|seconds?)?|seconds?|minutes?|hours?|days?|weeks?)\s*)+$";
    MAC = r"^(?:[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}[:-]){4,6}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2,3}[0-9A-Fa-f]{4})$";
    UUID = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID3 = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID4 = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    UUID5 = r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    URI = r"^(?:[A-Za-z][A-Za-z0-9+.-]*:\S+|/\S*)$";
    EMAIL = r"^[^@\s]+@[^@\s]+$";
    HOSTNAME = r"^[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*\.?$";
    HEXCOLOR = r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    SSN = r"^\d{3}[- ]?\d{2}[- ]?\d{4}$";
    OBJECT_ID = r"^[0-9a-fA-F]{24}$";
    LABEL = r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$";
    SUBDOMAIN = r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let table = [
            ("date-time", "2026-01-02T03:04:05Z", "2026-01-02"),
            ("date", "2026-01-02", "2026-13-02"),
            ("duration", "1h30m", "soon"),
            ("byte", "aGk=", "?"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "fd00::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "00:11:22:33:44:55", "00:11"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123"),
            ("uri", "https://example.com/x", "no uri"),
            ("email", "a@b", "a"),
            ("hostname", "a.example.com", "-a"),
            ("k8s-short-name", "a-b", "A"),
        ];
        for (format, good, bad) in table {
            assert!(matches(format, good), "{format} {good}");
            assert!(!matches(format, bad), "{format} {bad}");
        }
        assert!(matches("unheard-of", "anything"));
    }
}
