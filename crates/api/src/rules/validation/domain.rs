//! Domain names as the rules of fields ask for them.

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::name;

use super::reasons;

/// `example.com/path`
pub(crate) fn prefixed_path(path: &FieldPath, text: &str, errors: &mut FieldErrors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    let (host, rest) = text.split_once('/').unwrap_or((text, ""));
    if host.is_empty() || rest.is_empty() {
        errors.invalid(path, text, r#"must be a domain-prefixed path (such as "acme.io/foo")"#);
        return;
    }
    reasons(path, host, name::dns1123_subdomain(host), errors);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || br"/-._~%!$&'()*+,;=:".contains(&byte);
    if !rest.bytes().all(allowed) {
        errors.invalid(path, rest, name::pattern("Invalid path", r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+", &[]));
    }
}

/// `name.example.com`
pub(crate) fn qualified(path: &FieldPath, text: &str, errors: &mut FieldErrors) {
    let refused = name::dns1123_subdomain(text);
    if text.is_empty() {
        errors.required(path, "");
    } else if !refused.is_empty() {
        errors.invalid(path, text, refused.join(","));
    } else if text.split('.').count() < 3 {
        errors.invalid(path, text, "should be a domain with at least three segments separated by dots");
    }
}

/// `example.com` or `example.com.`
pub(crate) fn host(path: &FieldPath, text: &str, errors: &mut FieldErrors) {
    if text.is_empty() {
        errors.required(path, "");
        return;
    }
    let text = text.strip_suffix('.').unwrap_or(text);
    let refused = name::dns1123_subdomain(text);
    if !refused.is_empty() {
        errors.invalid(path, text, refused.join(","));
        return;
    }
    if !text.contains('.') {
        errors.invalid(path, text, "should be a domain with at least two segments separated by dots");
        return;
    }
    let refused = |label: &&str| !name::dns1123_label(label).is_empty();
    if let Some(label) = text.split('.').find(refused) {
        errors.invalid(path, label, name::dns1123_label(label).join(","));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&FieldPath, &str, &mut FieldErrors), text: &str, expect: &[&str]) {
        let mut errors = FieldErrors::default();
        rule(&FieldPath::new("at"), text, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect, "{text}");
    }

    #[test]
    fn paths_with_a_domain() {
        check(prefixed_path, "example.com/a/b", &[]);
        check(prefixed_path, "", &["at: Required value"]);
        let form = r#": must be a domain-prefixed path (such as "acme.io/foo")"#;
        check(prefixed_path, "nginx", &[&format!("at: Invalid value: \"nginx\"{form}")]);
        check(prefixed_path, "a/", &[&format!("at: Invalid value: \"a/\"{form}")]);
        let regex = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        check(prefixed_path, "a.b/c d", &[&format!("at: Invalid value: \"c d\": {regex}")]);
    }

    #[test]
    fn names_of_hosts() {
        let few = "segments separated by dots";
        check(
            qualified,
            "a.b",
            &[&format!("at: Invalid value: \"a.b\": should be a domain with at least three {few}")],
        );
        check(qualified, "a.b.c", &[]);
        check(host, "a", &[&format!("at: Invalid value: \"a\": should be a domain with at least two {few}")]);
        check(host, "a.b.", &[]);
    }
}
