//! Fields of pods that one operating system has and another has not.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::value::Value;

use super::At;
use super::pod_spec::all_containers;

/// In the order in which upstream reports them; a leading dot stands for the security context.
const NOT_ON_WINDOWS: [&str; 15] = [
    ".appArmorProfile",
    ".seLinuxOptions",
    "hostUsers",
    "hostPID",
    "hostIPC",
    ".seccompProfile",
    ".fsGroup",
    ".fsGroupChangePolicy",
    ".sysctls",
    "shareProcessNamespace",
    ".runAsUser",
    ".runAsGroup",
    ".supplementalGroups",
    ".supplementalGroupsPolicy",
    ".seLinuxChangePolicy",
];

const NOT_IN_WINDOWS_CONTAINERS: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

pub(super) fn of_pod(spec: &At<'_>, errors: &mut FieldErrors) {
    let Some(os) = spec.object("os") else { return };
    match os.text("name") {
        "" => errors.required(&os.path("name"), ""),
        "linux" => linux(spec, errors),
        "windows" => windows(spec, errors),
        other => errors.not_supported(&os.path, other, &["linux", "windows"]),
    }
}

fn linux(spec: &At<'_>, errors: &mut FieldErrors) {
    let contexts = std::iter::once(spec.clone()).chain(all_containers(spec));
    for context in contexts.filter_map(|at| at.object("securityContext")) {
        if context.given("windowsOptions") {
            errors.forbidden(&context.path("windowsOptions"), "windows options cannot be set for a linux pod");
        }
    }
}

fn windows(spec: &At<'_>, errors: &mut FieldErrors) {
    let detail = "cannot be set for a windows pod";
    let context = spec.object_or_empty("securityContext");
    for field in NOT_ON_WINDOWS {
        let (at, field) = match field.strip_prefix('.') {
            Some(field) => (&context, field),
            None => (spec, field),
        };
        let set = match at.get(field) {
            Some(Value::Bool(flag)) => *flag || !matches!(field, "hostPID" | "hostIPC"),
            Some(Value::Array(items)) => !items.is_empty() || field != "sysctls",
            value => value.is_some(),
        };
        if set {
            errors.forbidden(&at.path(field), detail);
        }
    }
    for context in all_containers(spec).filter_map(|container| container.object("securityContext")) {
        for field in NOT_IN_WINDOWS_CONTAINERS.iter().filter(|field| context.given(field)) {
            errors.forbidden(&context.path(field), detail);
        }
    }
}

/// Containers that are processes of a Windows host: all of a pod or none.
pub(super) fn host_process(spec: &At<'_>, errors: &mut FieldErrors) {
    let of = |at: &At<'_>| {
        let options = at.object("securityContext")?.object("windowsOptions")?;
        options.get("hostProcess").and_then(Value::as_bool)
    };
    let pod = of(spec);
    let (mut all, mut hosted) = (0, 0);
    for container in all_containers(spec) {
        let own = of(&container);
        if let (Some(pod), Some(own)) = (pod, own)
            && pod != own
        {
            let path = container.path.children(&["securityContext", "windowsOptions", "hostProcess"]);
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.invalid(&path, own, detail);
        }
        all += 1;
        hosted += usize::from(own.or(pod).unwrap_or_default());
    }
    if hosted == 0 {
        return;
    }
    if hosted != all {
        let detail = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid(&spec.path, "", detail);
    }
    if !spec.flag("hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid(&spec.path("hostNetwork"), false, detail);
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::rules::validation::testing::errors;

    fn check(input: &Value, expect: &[&str]) {
        let found = errors(input, |at, errors| {
            host_process(at, errors);
            of_pod(at, errors);
        });
        assert_eq!(found, expect);
    }

    #[test]
    fn fields_of_the_other_system() {
        check(&value!({"os": {"name": "linux"}, "hostPID": true}), &[]);
        check(
            &value!({"os": {"name": "plan9"}}),
            &[r#"at.os: Unsupported value: "plan9": supported values: "linux", "windows""#],
        );
        check(
            &value!({"os": {"name": "windows"}, "hostPID": true, "containers": [{"securityContext": {"privileged": false}}]}),
            &[
                "at.hostPID: Forbidden: cannot be set for a windows pod",
                "at.containers[0].securityContext.privileged: Forbidden: cannot be set for a windows pod",
            ],
        );
        check(
            &value!({"os": {"name": "linux"}, "containers": [{"securityContext": {"windowsOptions": {}}}]}),
            &[
                "at.containers[0].securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod",
            ],
        );
    }

    #[test]
    fn processes_of_the_host() {
        check(
            &value!({"containers": [{"securityContext": {"windowsOptions": {"hostProcess": true}}}, {}]}),
            &[
                r#"at: Invalid value: "": If pod contains any hostProcess containers then all containers must be HostProcess containers"#,
                "at.hostNetwork: Invalid value: false: hostNetwork must be true if pod contains any hostProcess containers",
            ],
        );
    }
}
