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
}
