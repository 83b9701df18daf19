//! Security contexts of pods and containers.

use std::collections::BTreeSet;

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::name;
use corten_apimachinery::value::Value;

use super::paths::descending;
use super::{At, reasons, subdomain};

const PROFILE_TYPES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];
const PROFILE_BYTES_MAX: usize = 4095;
const SYSCTL: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
const CREDENTIALS_KIB_MAX: usize = 64;
const DOMAIN_BYTES_MAX: usize = 256;
const USER_BYTES_MAX: usize = 104;

/// A container's security context. `host_users`: the pod has no user namespace of its own.
pub(crate) fn of_container(container: &At<'_>, host_users: bool, errors: &mut FieldErrors) {
    let Some(at) = container.object("securityContext") else { return };
    for field in ["runAsUser", "runAsGroup"] {
        at.in_range(field, 0, i32::MAX.into(), errors);
    }
    at.one_of("procMount", &["Default", "Unmasked"], errors);
    if host_users && at.text("procMount") == "Unmasked" {
        errors.invalid(&at.path("procMount"), "Unmasked", "`hostUsers` must be false to use `Unmasked`");
    }
    seccomp(&at, errors);
    escalation(&at, errors);
    windows(&at, errors);
    app_armor(&at, errors);
}

fn escalation(at: &At<'_>, errors: &mut FieldErrors) {
    if at.get("allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false) {
        return;
    }
    let shown = || internal(at);
    if at.flag("privileged") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
        errors.invalid(&at.path, shown(), detail);
    }
    let added = at.object_or_empty("capabilities").items("add");
    for _ in added.iter().filter(|capability| capability.as_str() == Some("CAP_SYS_ADMIN")) {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.invalid(&at.path, shown(), detail);
    }
}

/// The context as upstream's errors show it: all fields, by their names in Go.
fn internal(at: &At<'_>) -> Value {
    let fields = [
        ("Capabilities", "capabilities"),
        ("Privileged", "privileged"),
        ("SELinuxOptions", "seLinuxOptions"),
        ("WindowsOptions", "windowsOptions"),
        ("RunAsUser", "runAsUser"),
        ("RunAsGroup", "runAsGroup"),
        ("RunAsNonRoot", "runAsNonRoot"),
        ("ReadOnlyRootFilesystem", "readOnlyRootFilesystem"),
        ("AllowPrivilegeEscalation", "allowPrivilegeEscalation"),
        ("ProcMount", "procMount"),
        ("SeccompProfile", "seccompProfile"),
        ("AppArmorProfile", "appArmorProfile"),
    ];
    let value = |field: &str| match at.object(field) {
        Some(of) if field == "capabilities" => {
            Value::Object([("Add".into(), of.value("add")), ("Drop".into(), of.value("drop"))].into_iter().collect())
        }
        _ => at.value(field),
    };
    Value::Object(fields.into_iter().map(|(go, field)| (go.into(), value(field))).collect())
}

/// A pod's security context, and what of it stands in the pod itself.
pub(crate) fn of_pod(spec: &At<'_>, errors: &mut FieldErrors) {
    let at = spec.object_or_empty("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        at.in_range(field, 0, i32::MAX.into(), errors);
    }
    for (index, group) in at.items("supplementalGroups").iter().enumerate() {
        let id = group.as_i64().unwrap_or_default();
        reasons(&at.path("supplementalGroups").index(index), id, name::user_id(id), errors);
    }
    if spec.flag("shareProcessNamespace") && spec.flag("hostPID") {
        let detail = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid(&at.path("shareProcessNamespace"), true, detail);
    }
    sysctls(spec, &at, errors);
    at.one_of("fsGroupChangePolicy", &["Always", "OnRootMismatch"], errors);
    seccomp(&at, errors);
    windows(&at, errors);
    app_armor(&at, errors);
    at.one_of("supplementalGroupsPolicy", &["Merge", "Strict"], errors);
    // The other policy needs a gate that is off by default.
    at.one_of("seLinuxChangePolicy", &["Recursive"], errors);
}

fn sysctls(spec: &At<'_>, at: &At<'_>, errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for sysctl in at.each("sysctls") {
        let (name, path) = (sysctl.text("name"), sysctl.path("name"));
        if name.is_empty() {
            errors.required(&path, "");
        } else if !is_sysctl(name) {
            let max = name::SUBDOMAIN_BYTES_MAX;
            errors.invalid(&path, name, format!("must have at most {max} characters and match regex {SYSCTL}"));
        } else if seen.contains(name) {
            errors.duplicate(&path, name);
        }
        // With slashes first, dots stand within names.
        let dotted = match name.find(['.', '/']) {
            Some(at) if name[at..].starts_with('/') => name.replace('/', "."),
            _ => name.to_owned(),
        };
        if spec.flag("hostNetwork") && dotted.starts_with("net.") {
            errors.invalid(&path, name, "may not be specified when 'hostNetwork' is true");
        } else if spec.flag("hostIPC") && is_of_ipc(&dotted) {
            errors.invalid(&path, name, "may not be specified when 'hostIPC' is true");
        }
        seen.insert(name);
    }
}

fn is_of_ipc(sysctl: &str) -> bool {
    sysctl == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| sysctl.starts_with(prefix))
}

fn is_sysctl(name: &str) -> bool {
    let edge = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let segment = |part: &str| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|first| edge(*first))
            && bytes.last().is_some_and(|last| edge(*last))
            && bytes.iter().all(|byte| edge(*byte) || b"-_".contains(byte))
    };
    name.len() <= name::SUBDOMAIN_BYTES_MAX && name.split(['.', '/']).all(segment)
}

fn seccomp(context: &At<'_>, errors: &mut FieldErrors) {
    let Some(at) = context.object("seccompProfile") else { return };
    match at.text("type") {
        "" => errors.required(&at.path("type"), "type is required when seccompProfile is set"),
        _ => at.one_of("type", &PROFILE_TYPES, errors),
    }
    let (path, profile) = (at.path("localhostProfile"), at.get("localhostProfile"));
    match (at.text("type") == "Localhost", profile) {
        (true, None) => errors.required(&path, "must be set when seccomp type is Localhost"),
        (true, Some(_)) => descending(at.text("localhostProfile"), &path, errors),
        (false, Some(profile)) => {
            let fields = [("Type".into(), at.value("type")), ("LocalhostProfile".into(), profile.clone())];
            let shown = Value::Object(fields.into_iter().collect());
            errors.invalid(&path, shown, "can only be set when seccomp type is Localhost");
        }
        (false, None) => {}
    }
}

fn app_armor(context: &At<'_>, errors: &mut FieldErrors) {
    let Some(at) = context.object("appArmorProfile") else { return };
    let (path, profile) = (at.path("localhostProfile"), at.get("localhostProfile"));
    let required = "must be set when AppArmor type is Localhost";
    match at.text("type") {
        "" => errors.required(&at.path("type"), "type is required when appArmorProfile is set"),
        "Localhost" if profile.is_none() => errors.required(&path, required),
        "Localhost" => {
            let name = at.text("localhostProfile");
            if name.trim() != name {
                errors.invalid(&path, name, "must not be padded with whitespace");
            } else if name.is_empty() {
                errors.required(&path, required);
            }
            if name.len() > PROFILE_BYTES_MAX {
                errors.too_long(&path, PROFILE_BYTES_MAX);
            }
        }
        "RuntimeDefault" | "Unconfined" => {
            if let Some(profile) = profile {
                errors.invalid(&path, profile.clone(), "can only be set when AppArmor type is Localhost");
            }
        }
        _ => at.one_of("type", &PROFILE_TYPES, errors),
    }
}

fn windows(context: &At<'_>, errors: &mut FieldErrors) {
    let Some(at) = context.object("windowsOptions") else { return };
    at.named("gmsaCredentialSpecName", subdomain, errors);
    if at.given("gmsaCredentialSpec") {
        let credentials = at.text("gmsaCredentialSpec");
        let path = at.path("gmsaCredentialSpec");
        if credentials.is_empty() {
            errors.invalid(&path, credentials, "gmsaCredentialSpec cannot be an empty string");
        } else if credentials.len() > CREDENTIALS_KIB_MAX * 1024 {
            let detail = format!("gmsaCredentialSpec size must be under {CREDENTIALS_KIB_MAX} KiB");
            errors.invalid(&path, credentials, detail);
        }
    }
    if at.given("runAsUserName") {
        let name = at.text("runAsUserName");
        for reason in windows_user(name) {
            errors.invalid(&at.path("runAsUserName"), name, reason);
        }
    }
}

/// Why `DOMAIN\user` is no name of a user.
fn windows_user(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["runAsUserName cannot be an empty string".to_owned()];
    }
    if name.bytes().any(|byte| byte.is_ascii_control()) {
        return vec!["runAsUserName cannot contain control characters".to_owned()];
    }
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return vec!["runAsUserName cannot contain more than one backslash".to_owned()],
    };
    let mut reasons = Vec::new();
    if domain.is_some_and(|domain| domain.len() >= DOMAIN_BYTES_MAX) {
        reasons.push(format!("runAsUserName's Domain length must be under {DOMAIN_BYTES_MAX} characters"));
    }
    if domain.is_some_and(|domain| !is_net_bios(domain) && !is_dns(domain)) {
        reasons.push("runAsUserName's Domain doesn't match the NetBios nor the DNS format".to_owned());
    }
    if user.is_empty() {
        reasons.push("runAsUserName's User cannot be empty".to_owned());
    } else if user.len() > USER_BYTES_MAX {
        reasons.push(format!("runAsUserName's User length must not be longer than {USER_BYTES_MAX} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| c == '.' || c == ' ') {
        reasons.push("runAsUserName's User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let detail = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        reasons.push(detail.to_owned());
    }
    reasons
}

fn is_net_bios(domain: &str) -> bool {
    let odd = |c: char| "\\/:*?\"<>|".contains(c);
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(odd)
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= name::LABEL_BYTES_MAX
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn pod(input: &Value, expect: &[&str]) {
        assert_eq!(errors(input, of_pod), expect);
    }

    fn container(context: &Value, expect: &[&str]) {
        let input = value!({"securityContext": (context.clone())});
        assert_eq!(errors(&input, |at, errors| of_container(at, true, errors)), expect);
    }

    #[test]
    fn pods() {
        pod(&value!({"securityContext": {"runAsUser": 0, "sysctls": [{"name": "net.core.somaxconn"}]}}), &[]);
        pod(
            &value!({
                "hostNetwork": true,
                "securityContext": {"fsGroup": (-1), "sysctls": [{"name": "net/core/somaxconn"}, {"name": "A"}]}
            }),
            &[
                "at.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                r#"at.securityContext.sysctls[0].name: Invalid value: "net/core/somaxconn": may not be specified when 'hostNetwork' is true"#,
                r#"at.securityContext.sysctls[1].name: Invalid value: "A": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"#,
            ],
        );
    }

    #[test]
    fn containers() {
        container(&value!({"privileged": true, "procMount": "Default"}), &[]);
        container(
            &value!({"procMount": "Unmasked", "seccompProfile": {"type": "Localhost"}}),
            &[
                r#"at.securityContext.procMount: Invalid value: "Unmasked": `hostUsers` must be false to use `Unmasked`"#,
                "at.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
            ],
        );
        container(
            &value!({"seccompProfile": {"type": "No"}, "appArmorProfile": {"type": "Localhost", "localhostProfile": " a"}}),
            &[
                r#"at.securityContext.seccompProfile.type: Unsupported value: "No": supported values: "Localhost", "RuntimeDefault", "Unconfined""#,
                r#"at.securityContext.appArmorProfile.localhostProfile: Invalid value: " a": must not be padded with whitespace"#,
            ],
        );
    }

    #[test]
    fn users_of_windows() {
        for name in ["Container User", "DOMAIN\\user", "example.com\\user"] {
            assert_eq!(windows_user(name), Vec::<String>::new(), "{name}");
        }
        for name in ["", "a\\b\\c", "a\\", "..", "a@b", "a\u{1}"] {
            assert!(!windows_user(name).is_empty(), "{name}");
        }
    }
}
