//! Names, labels, ports and addresses: what a string may be, with upstream's texts
//! (`k8s.io/apimachinery/pkg/util/validation`). Every check returns the reasons why a value is refused, none if it is
//! allowed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::kind::NameRule;

/// The reasons why a value is refused.
pub type Reasons = Vec<String>;

/// Longest DNS label and longest label value.
pub const LABEL_BYTES_MAX: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_BYTES_MAX: usize = 253;

const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1123_SUBDOMAIN_UNDERSCORE: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";
const WILDCARD_SUBDOMAIN: &str = "\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

const DNS1123_LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const DNS1123_SUBDOMAIN_UNDERSCORE_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
const WILDCARD_SUBDOMAIN_TEXT: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
const DNS1035_LABEL_TEXT: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
const LABEL_KEY_TEXT: &str =
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_VALUE_TEXT: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// The name of an object under its kind's rule. `prefix`: a `generateName`, which may end with a dash.
pub fn object_name(rule: NameRule, name: &str, prefix: bool) -> Reasons {
    if rule == NameRule::PathSegment {
        return if prefix { path_segment_prefix(name) } else { path_segment(name) };
    }
    let masked = match name.strip_suffix('-') {
        // Upstream puts one letter where the last two bytes were.
        Some(rest) if prefix && !rest.is_empty() => {
            String::from_utf8_lossy(&rest.as_bytes()[..rest.len() - 1]).into_owned() + "a"
        }
        _ => name.to_owned(),
    };
    match rule {
        NameRule::DnsSubdomain => dns1123_subdomain(&masked),
        NameRule::DnsLabel => dns1123_label(&masked),
        NameRule::Dns1035Label => dns1035_label(&masked),
        NameRule::PathSegment => unreachable!("answered above"),
    }
}

/// RFC 1123 label.
pub fn dns1123_label(value: &str) -> Reasons {
    let mut reasons = too_long(value, LABEL_BYTES_MAX, "characters");
    if !is_label(value) {
        reasons.push(if is_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            pattern(DNS1123_LABEL_TEXT, DNS1123_LABEL, &["my-name", "123-abc"])
        });
    }
    reasons
}

/// RFC 1123 subdomain in lower case.
pub fn dns1123_subdomain(value: &str) -> Reasons {
    subdomain(value, "characters")
}

fn subdomain(value: &str, unit: &str) -> Reasons {
    let mut reasons = too_long(value, SUBDOMAIN_BYTES_MAX, unit);
    if !is_subdomain(value) {
        reasons.push(pattern(DNS1123_SUBDOMAIN_TEXT, DNS1123_SUBDOMAIN, &["example.com"]));
    }
    reasons
}

/// RFC 1123 subdomain in which labels may hold underscores.
pub fn dns1123_subdomain_with_underscore(value: &str) -> Reasons {
    let label = |label: &str| {
        let label = label.strip_prefix('_').unwrap_or(label);
        framed(label, lower_alphanumeric, |byte| lower_alphanumeric(byte) || byte == b'-' || byte == b'_')
    };
    let mut reasons = too_long(value, SUBDOMAIN_BYTES_MAX, "characters");
    if !value.split('.').all(label) {
        reasons.push(pattern(DNS1123_SUBDOMAIN_UNDERSCORE_TEXT, DNS1123_SUBDOMAIN_UNDERSCORE, &["example.com"]));
    }
    reasons
}

/// `*.example.com`
pub fn wildcard_dns1123_subdomain(value: &str) -> Reasons {
    let mut reasons = too_long(value, SUBDOMAIN_BYTES_MAX, "characters");
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        reasons.push(pattern(WILDCARD_SUBDOMAIN_TEXT, WILDCARD_SUBDOMAIN, &["*.example.com"]));
    }
    reasons
}

/// RFC 1035 label.
pub fn dns1035_label(value: &str) -> Reasons {
    let mut reasons = too_long(value, LABEL_BYTES_MAX, "characters");
    if !is_label(value) || !value.as_bytes()[0].is_ascii_lowercase() {
        reasons.push(pattern(DNS1035_LABEL_TEXT, DNS1035_LABEL, &["my-name", "abc-123"]));
    }
    reasons
}

/// A label key, annotation key, finalizer, resource name: `[subdomain/]name`.
pub fn qualified_name(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, name)) if name.contains('/') => {
            let text = pattern(LABEL_KEY_TEXT, LABEL_KEY, &["MyName", "my.name", "123-abc"]);
            return vec![format!(
                "a valid label key {text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            reasons.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            reasons.extend(subdomain(prefix, "bytes").into_iter().map(|reason| format!("prefix part {reason}")));
            name
        }
    };
    if name.is_empty() {
        reasons.push("name part must be non-empty".to_owned());
    }
    reasons.extend(too_long(name, LABEL_BYTES_MAX, "bytes").into_iter().map(|reason| format!("name part {reason}")));
    if !is_label_key(name) {
        let text = pattern(LABEL_KEY_TEXT, LABEL_KEY, &["MyName", "my.name", "123-abc"]);
        reasons.push(format!("name part {text}"));
    }
    reasons
}

/// The value of a label.
pub fn label_value(value: &str) -> Reasons {
    let mut reasons = too_long(value, LABEL_BYTES_MAX, "bytes");
    if !value.is_empty() && !is_label_key(value) {
        reasons.push(pattern(LABEL_VALUE_TEXT, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    reasons
}

/// A name that may stand as one segment of a URL's path.
pub fn path_segment(name: &str) -> Reasons {
    match name {
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => path_segment_prefix(name),
    }
}

/// The start of a path segment.
pub fn path_segment_prefix(name: &str) -> Reasons {
    let contained = ["/", "%"].into_iter().filter(|part| name.contains(part));
    contained.map(|part| format!("may not contain '{part}'")).collect()
}

/// An identifier of the C language.
pub fn c_identifier(value: &str) -> Reasons {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if value.bytes().all(word) && value.bytes().next().is_some_and(|first| !first.is_ascii_digit()) {
        return Reasons::new();
    }
    let text = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_'";
    vec![pattern(text, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"])]
}

/// The name of an environment variable: any printable ASCII but `=`.
pub fn env_var_name(value: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if value.is_empty() {
        reasons.push("environment variable name must be non-empty".to_owned());
    }
    if value.bytes().any(|byte| !(b' '..=b'~').contains(&byte) || byte == b'=') {
        reasons.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    reasons
}

/// The name of an environment variable as upstream asked for before it relaxed the rule.
pub fn strict_env_var_name(value: &str) -> Reasons {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let mut reasons = Reasons::new();
    let starts = value.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if !starts || !value.bytes().all(allowed) {
        let text = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit";
        reasons.push(pattern(text, "[-._a-zA-Z][-._a-zA-Z0-9]*", &["my.env-name", "MY_ENV.NAME", "MyEnvName1"]));
    }
    reasons.extend(parent_directory(value));
    reasons
}

/// A key of a ConfigMap's or Secret's data, which becomes a file's name.
pub fn config_key(value: &str) -> Reasons {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let mut reasons = too_long(value, SUBDOMAIN_BYTES_MAX, "characters");
    if value.is_empty() || !value.bytes().all(allowed) {
        let text = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        reasons.push(pattern(text, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    reasons.extend(parent_directory(value));
    reasons
}

fn parent_directory(value: &str) -> Option<String> {
    match value {
        "." | ".." => Some(format!("must not be '{value}'")),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// The name of a port (RFC 6335 in lower case).
pub fn port_name(port: &str) -> Reasons {
    let mut reasons = too_long(port, 15, "characters");
    if port.is_empty() || !port.bytes().all(|byte| lower_alphanumeric(byte) || byte == b'-') {
        reasons.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !port.bytes().any(|byte| byte.is_ascii_lowercase()) {
        reasons.push("must contain at least one letter (a-z)".to_owned());
    }
    if port.contains("--") {
        reasons.push("must not contain consecutive hyphens".to_owned());
    }
    if port.starts_with('-') || port.ends_with('-') {
        reasons.push("must not begin or end with a hyphen".to_owned());
    }
    reasons
}

/// A port number from 1 to 65535.
pub fn port_number(port: i64) -> Reasons {
    in_range(port, 1, 65535)
}

/// A user or group id.
pub fn user_id(id: i64) -> Reasons {
    in_range(id, 0, i32::MAX.into())
}

/// A number between two bounds, both allowed.
pub fn in_range(value: i64, low: i64, high: i64) -> Reasons {
    if (low..=high).contains(&value) { Reasons::new() } else { vec![inclusive_range(low, high)] }
}

/// `must be between 1 and 65535, inclusive`
pub fn inclusive_range(low: i64, high: i64) -> String {
    format!("must be between {low} and {high}, inclusive")
}

/// `25%`
pub fn percent(value: &str) -> Reasons {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Reasons::new();
    }
    let text = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![pattern(text, "[0-9]+%", &["1%", "93%"])]
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Reasons {
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Reasons::new();
    }
    let text = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![pattern(text, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The name of who manages fields: at most 128 printable characters. (Whether it is too long is reported apart.)
pub fn unprintable(value: &str) -> Reasons {
    let bad = value.char_indices().filter(|(_, character)| character.is_control());
    bad.map(|(at, character)| format!("invalid character U+{:04X} (at position {at})", u32::from(character))).collect()
}

/// An address in canonical form, as fields that are newer than 2024 ask for.
pub fn ip(value: &str) -> Reasons {
    let reasons = legacy_ip(value);
    match lenient_ip(value) {
        Some(address) if reasons.is_empty() && address.to_string() != value => {
            vec![format!("must be in canonical form ({:?})", address.to_string())]
        }
        _ => reasons,
    }
}

/// An address in any unambiguous form, as older fields ask for.
pub fn legacy_ip(value: &str) -> Reasons {
    let Some(address) = lenient_ip(value) else {
        return vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()];
    };
    let mut reasons = Reasons::new();
    if value.parse::<IpAddr>().is_err() {
        reasons.push("must not have leading 0s".to_owned());
    }
    if value.contains(':') && is_mapped(address) {
        reasons.push("must not be an IPv4-mapped IPv6 address".to_owned());
    }
    reasons
}

/// A network in canonical form, as fields that are newer than 2024 ask for.
pub fn cidr(value: &str) -> Reasons {
    let reasons = legacy_cidr(value);
    match lenient_cidr(value) {
        Some((address, length)) if reasons.is_empty() && format!("{address}/{length}") != value => {
            vec![format!("must be in canonical form ({:?})", format!("{address}/{length}"))]
        }
        _ => reasons,
    }
}

/// A network in any unambiguous form, as older fields ask for.
pub fn legacy_cidr(value: &str) -> Reasons {
    let Some((address, length)) = lenient_cidr(value) else {
        return vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()];
    };
    let (text, digits) = value.split_once('/').unwrap_or((value, ""));
    let zeros = text.parse::<IpAddr>().is_err() || (digits.len() > 1 && digits.starts_with('0'));
    if zeros {
        vec!["must not have leading 0s in IP or prefix length".to_owned()]
    } else if text.contains(':') && is_mapped(address) {
        vec!["must not have an IPv4-mapped IPv6 address".to_owned()]
    } else if masked(address, length) != address {
        vec!["must not have bits set beyond the prefix length".to_owned()]
    } else {
        Reasons::new()
    }
}

/// Reads an address; octets of IPv4 may have leading zeros, as upstream's parser has always allowed.
pub fn lenient_ip(value: &str) -> Option<IpAddr> {
    if value.contains(':') {
        return value.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    let octets: Vec<u8> = value.split('.').map(lenient_octet).collect::<Option<_>>()?;
    Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?)))
}

/// Reads `address/length`; the address is not masked.
pub fn lenient_cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = value.split_once('/')?;
    let address = lenient_ip(address)?;
    let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|_| digits)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    (length <= bits).then_some((address, length))
}

fn lenient_octet(octet: &str) -> Option<u8> {
    let digits = !octet.is_empty() && octet.bytes().all(|byte| byte.is_ascii_digit());
    octet.parse().ok().filter(|_| digits)
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

/// `must be no more than 63 characters`; upstream measures bytes under either name.
fn too_long(value: &str, bytes_max: usize, unit: &str) -> Reasons {
    if value.len() > bytes_max { vec![format!("must be no more than {bytes_max} {unit}")] } else { Reasons::new() }
}

/// The text of a value that does not match a regular expression, with examples of what would.
pub fn pattern(text: &str, regex: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{text} (regex used for validation is '{regex}')");
    }
    let quoted: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{text} (e.g. {}regex used for validation is '{regex}')", quoted.join(" or "))
}

fn lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// Not empty, the first and last byte of one class, all of another.
fn framed(value: &str, end: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    match value.as_bytes() {
        [] => false,
        bytes => end(bytes[0]) && end(bytes[bytes.len() - 1]) && bytes.iter().all(|byte| inner(*byte)),
    }
}

fn is_label(value: &str) -> bool {
    framed(value, lower_alphanumeric, |byte| lower_alphanumeric(byte) || byte == b'-')
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

fn is_label_key(value: &str) -> bool {
    framed(value, |byte| byte.is_ascii_alphanumeric(), |byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are good or bad; `expect` is a piece of each reason in turn.
    fn check(rule: fn(&str) -> Reasons, good: &[&str], bad: &[(&str, &[&str])]) {
        for name in good {
            assert_eq!(rule(name), Reasons::new(), "{name:?}");
        }
        for (name, expect) in bad {
            let reasons = rule(name);
            assert_eq!(reasons.len(), expect.len(), "{name:?}: {reasons:?}");
            for (reason, piece) in reasons.iter().zip(*expect) {
                assert!(reason.contains(piece), "{name:?}: {reason}");
            }
        }
    }

    #[test]
    fn dns_names() {
        let long = "a".repeat(64);
        check(
            dns1123_label,
            &["a", "a-1", "1"],
            &[
                ("", &["a lowercase RFC 1123 label must"]),
                (
                    "-a",
                    &["(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"],
                ),
                ("a.b", &["must not contain dots"]),
                (&long, &["must be no more than 63 characters"]),
            ],
        );
        check(
            dns1123_subdomain,
            &["a", "a.b-c.d", "1.2"],
            &[
                (
                    "A",
                    &[
                        "(e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                    ],
                ),
                ("a..b", &["RFC 1123 subdomain"]),
                ("a_b", &["RFC 1123 subdomain"]),
                (&"a".repeat(254), &["no more than 253 characters"]),
            ],
        );
        check(dns1035_label, &["a", "a1"], &[("1a", &["DNS-1035"]), ("", &["DNS-1035"]), ("a.b", &["DNS-1035"])]);
        check(
            wildcard_dns1123_subdomain,
            &["*.a.b"],
            &[("*", &["wildcard"]), ("a.b", &["wildcard"]), ("*.*.a", &["wildcard"])],
        );
        check(dns1123_subdomain_with_underscore, &["_a.b_c"], &[("__a", &["'_'"]), ("a_", &["'_'"])]);
    }

    #[test]
    fn keys_and_values() {
        let long = "a".repeat(64);
        check(
            qualified_name,
            &["simple", "example.com/Some_Name.1", "1234/5678"],
            &[
                ("", &["name part must be non-empty", "name part must consist of"]),
                ("/a", &["prefix part must be non-empty"]),
                ("a/", &["name part must be non-empty", "name part must consist"]),
                (
                    "a/b/c",
                    &[
                        "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                    ],
                ),
                ("A.com/x", &["prefix part a lowercase RFC 1123 subdomain"]),
                (&long, &["name part must be no more than 63 bytes"]),
                ("-a", &["name part must consist"]),
            ],
        );
        check(
            label_value,
            &["", "a", "A_b.c-1"],
            &[(&long, &["no more than 63 bytes"]), ("a ", &["a valid label must be an empty string"])],
        );
        check(
            config_key,
            &["a", "..a.b".trim_start_matches('.'), ".dockerconfigjson"],
            &[
                ("..", &["must not be '..'"]),
                ("..a", &["must not start with '..'"]),
                ("a/b", &["a valid config key"]),
                ("", &["a valid config key"]),
            ],
        );
        check(
            env_var_name,
            &["A", "a b", "1"],
            &[("", &["non-empty"]), ("a=b", &["printable ASCII"]), ("ä", &["printable ASCII"])],
        );
        check(
            strict_env_var_name,
            &["A.b-c_1"],
            &[("1a", &["must not start with a digit"]), ("..a", &["must not start with '..'"])],
        );
        check(
            c_identifier,
            &["_a1"],
            &[("1a", &["C identifier"]), ("", &["C identifier"]), ("a-b", &["C identifier"])],
        );
        check(
            port_name,
            &["http", "a-1"],
            &[
                ("", &["only alpha-numeric", "at least one letter"]),
                ("1", &["at least one letter"]),
                ("a--b", &["consecutive"]),
                ("-a", &["begin or end"]),
                ("abcdefghijklmnop", &["no more than 15 characters"]),
                ("A", &["only alpha-numeric", "at least one letter"]),
            ],
        );
        check(percent, &["1%", "100%"], &[("%", &["percent"]), ("1", &["percent"]), ("-1%", &["percent"])]);
        check(http_header_name, &["X-A"], &[("", &["header"]), ("a b", &["header"])]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(unprintable("a\u{7}b"), ["invalid character U+0007 (at position 1)"]);
    }

    #[test]
    fn object_names_and_prefixes() {
        let ok = |rule, name, prefix| object_name(rule, name, prefix).is_empty();
        assert!(ok(NameRule::DnsSubdomain, "web-", true) && !ok(NameRule::DnsSubdomain, "web-", false));
        assert!(
            !ok(NameRule::DnsLabel, "-", true)
                && !ok(NameRule::DnsLabel, "é-", true)
                && ok(NameRule::DnsLabel, "a-", true)
        );
        assert!(ok(NameRule::PathSegment, "system:node", false));
        assert_eq!(object_name(NameRule::PathSegment, "a/b%", false), ["may not contain '/'", "may not contain '%'"]);
        assert_eq!(object_name(NameRule::PathSegment, "..", false), ["may not be '..'"]);
        assert!(ok(NameRule::PathSegment, "..", true));
    }

    #[test]
    fn addresses() {
        check(
            ip,
            &["10.9.8.7", "2001:db8::ffff", "::"],
            &[
                ("10.9.8", &["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"]),
                ("010.9.8.7", &["must not have leading 0s"]),
                ("::ffff:1.2.3.4", &["must not be an IPv4-mapped IPv6 address"]),
                ("2001:DB8::FFFF", &["must be in canonical form (\"2001:db8::ffff\")"]),
                ("fe80::1%eth0", &["must be a valid IP address"]),
            ],
        );
        check(
            legacy_ip,
            &["2001:DB8:0:0::FFFF"],
            &[("1.2.3.4.5", &["valid IP"]), ("", &["valid IP"]), ("1.2.3.256", &["valid IP"])],
        );
        check(
            cidr,
            &["10.0.0.0/8", "2001:db8::/64", "0.0.0.0/0"],
            &[
                ("10.0.0.0", &["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"]),
                ("10.0.0.1/8", &["must not have bits set beyond the prefix length"]),
                ("10.0.0.0/08", &["must not have leading 0s in IP or prefix length"]),
                ("10.0.0.0/33", &["valid CIDR"]),
                ("10.0.0.0/+8", &["valid CIDR"]),
                ("::ffff:1.2.3.0/120", &["must not have an IPv4-mapped IPv6 address"]),
                ("2001:DB8::/64", &["must be in canonical form (\"2001:db8::/64\")"]),
            ],
        );
    }
}
