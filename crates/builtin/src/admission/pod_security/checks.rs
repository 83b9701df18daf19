//! The Pod Security Standards: one function a rule, with upstream's texts. Rules came and changed with versions.

use std::collections::BTreeSet;
use std::fmt;

use corten_apimachinery::value::{Map, Value};

use super::policy::{Level, Standard};

/// A pod, or the template of some.
pub(super) struct Subject<'a> {
    pod: &'a Value,
    containers: Vec<&'a Value>,
}

impl<'a> Subject<'a> {
    pub(super) fn of(pod: &'a Value) -> Self {
        let fields = ["initContainers", "containers", "ephemeralContainers"];
        let lists = fields.iter().filter_map(|field| pod.at(&["spec", field])?.as_array());
        Self { pod, containers: lists.flatten().collect() }
    }

    /// In the pod's own security context.
    fn at(&self, path: &[&str]) -> Option<&'a Value> {
        security(self.pod.get("spec")?, path)
    }

    fn list(&self, path: &[&str]) -> &'a [Value] {
        self.pod.at(path).and_then(Value::as_array).unwrap_or_default()
    }

    /// The names of the containers that something holds for.
    fn which(&self, mut is: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|container| is(container)).map(|container| container.str_at(&["name"])).collect()
    }

    /// A pod of its own users is no danger to the node's.
    fn has_own_users(&self) -> bool {
        self.pod.at(&["spec", "hostUsers"]) == Some(&Value::Bool(false))
    }

    fn is_windows(&self) -> bool {
        self.pod.str_at(&["spec", "os", "name"]) == "windows"
    }
}

/// Something within the security context of a pod's spec or a container.
fn security<'a>(of: &'a Value, path: &[&str]) -> Option<&'a Value> {
    of.get("securityContext")?.at(path).filter(|value| !value.is_null())
}

/// A rule that a pod breaks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    detail: String,
}

impl Violation {
    fn new(reason: &str, detail: String) -> Self {
        Self { reason: reason.to_owned(), detail }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.detail)
    }
}

/// Everything in which a pod breaks a standard, in upstream's order.
pub(super) fn violations(of: &Subject<'_>, standard: Standard) -> Vec<Violation> {
    let (minor, restricted) = (standard.minor(), standard.level == Level::Restricted);
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let since = |version: u32| minor >= version;
    let baseline = [
        app_armor(of),
        if restricted && since(22) { None } else { added_capabilities(of) },
        host_namespaces(of),
        if restricted { None } else { host_paths(of) },
        host_ports(of),
        if since(34) { probe_hosts(of) } else { None },
        privileged(of),
        if restricted && since(35) || since(35) && of.has_own_users() { None } else { proc_mount(of) },
        se_linux(of, since(31)),
        if restricted && since(19) { None } else { seccomp(of, minor, false) },
        sysctls(of, minor),
        host_process(of),
    ];
    let own_users = since(35) && of.has_own_users();
    let windows = since(25) && of.is_windows();
    let stricter = [
        if since(8) && !windows { escalation(of) } else { None },
        if since(22) && !windows { dropped_capabilities(of) } else { None },
        if since(35) { proc_mount(of) } else { None },
        volume_types(of),
        if own_users { None } else { non_root(of) },
        if since(23) && !own_users { root_user(of) } else { None },
        if since(19) && !windows { seccomp(of, minor, true) } else { None },
    ];
    let stricter = stricter.into_iter().filter(|_| restricted);
    baseline.into_iter().chain(stricter).flatten().collect()
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names.iter().copied()))
}

/// Pod and containers that say something, joined.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let of_containers = (!names.is_empty()).then(|| containers(names));
    let all: Vec<String> = pod.then(|| "pod".to_owned()).into_iter().chain(of_containers).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn app_armor(of: &Subject<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut bad = BTreeSet::new();
    let mut is_bad = |profile: Option<&Value>| {
        let kind = profile.map(|profile| profile.str_at(&["type"]));
        let kind = kind.filter(|kind| !matches!(*kind, "RuntimeDefault" | "Localhost"));
        kind.is_some_and(|kind| {
            bad.insert(kind.to_owned());
            true
        })
    };
    let pod = is_bad(of.at(&["appArmorProfile"]));
    let names = of.which(|container| is_bad(security(container, &["appArmorProfile"])));
    let annotations =
        of.pod.at(&["metadata", "annotations"]).and_then(Value::as_object).into_iter().flat_map(Map::iter);
    let mut forbidden: Vec<String> = annotations
        .filter(|(key, text)| {
            let text = text.as_str().unwrap_or_default();
            key.starts_with(ANNOTATION)
                && !(text.is_empty() || text == "runtime/default" || text.starts_with("localhost/"))
        })
        .map(|(key, text)| format!("{key}={:?}", text.as_str().unwrap_or_default()))
        .collect();
    forbidden.sort();
    let annotated = (!forbidden.is_empty()).then(|| plural("annotation", "annotations", forbidden.len()).to_owned());
    let who: Vec<String> = setters(pod, &names).into_iter().chain(annotated).collect();
    let values: Vec<String> = bad.into_iter().chain(forbidden).collect();
    (!who.is_empty()).then(|| {
        let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
        let shown = quoted(values.iter().map(String::as_str));
        Violation::new(reason, format!("{} must not set AppArmor profile type to {shown}", who.join(" and ")))
    })
}

fn capabilities<'a>(container: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    let list = security(container, &["capabilities", field]).and_then(Value::as_array).unwrap_or_default();
    list.iter().filter_map(Value::as_str)
}

fn added_capabilities(of: &Subject<'_>) -> Option<Violation> {
    const DEFAULT: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let mut bad = BTreeSet::new();
    let names = of.which(|container| {
        let added: Vec<&str> = capabilities(container, "add").filter(|name| !DEFAULT.contains(name)).collect();
        bad.extend(added.iter().copied());
        !added.is_empty()
    });
    (!names.is_empty()).then(|| Violation::new("non-default capabilities", must_not_add(&names, &bad)))
}

fn must_not_add(names: &[&str], bad: &BTreeSet<&str>) -> String {
    let shown = quoted(bad.iter().copied());
    format!("{} must not include {shown} in securityContext.capabilities.add", containers(names))
}

fn dropped_capabilities(of: &Subject<'_>) -> Option<Violation> {
    let keeping = of.which(|container| !capabilities(container, "drop").any(|name| name == "ALL"));
    let mut bad = BTreeSet::new();
    let adding = of.which(|container| {
        let added: Vec<&str> = capabilities(container, "add").filter(|name| *name != "NET_BIND_SERVICE").collect();
        bad.extend(added.iter().copied());
        !added.is_empty()
    });
    let dropping = format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping));
    let dropping = (!keeping.is_empty()).then_some(dropping);
    let adding = (!adding.is_empty()).then(|| must_not_add(&adding, &bad));
    let details: Vec<String> = dropping.into_iter().chain(adding).collect();
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

fn host_namespaces(of: &Subject<'_>) -> Option<Violation> {
    let set = ["hostNetwork", "hostPID", "hostIPC"].into_iter();
    let set = set.filter(|field| of.pod.at(&["spec", field]) == Some(&Value::Bool(true)));
    let set: Vec<String> = set.map(|field| format!("{field}=true")).collect();
    (!set.is_empty()).then(|| Violation::new("host namespaces", set.join(", ")))
}

fn host_paths(of: &Subject<'_>) -> Option<Violation> {
    let volumes = of.list(&["spec", "volumes"]).iter().filter(|volume| volume.get("hostPath").is_some());
    let names: Vec<&str> = volumes.map(|volume| volume.str_at(&["name"])).collect();
    let detail = || format!("{} {}", plural("volume", "volumes", names.len()), quoted(names.iter().copied()));
    (!names.is_empty()).then(|| Violation::new("hostPath volumes", detail()))
}

fn host_ports(of: &Subject<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let names = of.which(|container| {
        let own = container.get("ports").and_then(Value::as_array).unwrap_or_default().iter();
        let own: Vec<i64> = own.filter_map(|port| port.i64_at(&["hostPort"])).filter(|port| *port != 0).collect();
        ports.extend(own.iter().map(ToString::to_string));
        !own.is_empty()
    });
    (!names.is_empty()).then(|| {
        let uses = plural("uses", "use", names.len());
        let what = plural("hostPort", "hostPorts", ports.len());
        let shown = ports.iter().cloned().collect::<Vec<_>>().join(", ");
        Violation::new("hostPort", format!("{} {uses} {what} {shown}", containers(&names)))
    })
}

fn probe_hosts(of: &Subject<'_>) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let mut hosts = BTreeSet::new();
    let names = of.which(|container| {
        let handlers = HANDLERS.iter().filter_map(|path| container.at(path));
        let own = handlers.flat_map(|handler| ["httpGet", "tcpSocket"].map(|kind| handler.str_at(&[kind, "host"])));
        let own: Vec<&str> = own.filter(|host| !host.is_empty()).collect();
        hosts.extend(own.iter().copied());
        !own.is_empty()
    });
    let sorted: BTreeSet<&str> = names.into_iter().collect();
    let names: Vec<&str> = sorted.into_iter().collect();
    (!names.is_empty()).then(|| {
        let uses = plural("uses", "use", names.len());
        let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
        let shown = quoted(hosts.iter().copied());
        Violation::new("probe or lifecycle host", format!("{} {uses} {what} {shown}", containers(&names)))
    })
}

fn privileged(of: &Subject<'_>) -> Option<Violation> {
    let names = of.which(|container| security(container, &["privileged"]) == Some(&Value::Bool(true)));
    let detail = || format!("{} must not set securityContext.privileged=true", containers(&names));
    (!names.is_empty()).then(|| Violation::new("privileged", detail()))
}

fn proc_mount(of: &Subject<'_>) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let names = of.which(|container| {
        let own = security(container, &["procMount"]).and_then(Value::as_str).filter(|own| *own != "Default");
        bad.extend(own);
        own.is_some()
    });
    let shown = || quoted(bad.iter().copied());
    let detail = || format!("{} must not set securityContext.procMount to {}", containers(&names), shown());
    (!names.is_empty()).then(|| Violation::new("procMount", detail()))
}

fn se_linux(of: &Subject<'_>, engines: bool) -> Option<Violation> {
    let allowed = |kind: &str| {
        let known = matches!(kind, "" | "container_t" | "container_init_t" | "container_kvm_t");
        known || engines && kind == "container_engine_t"
    };
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |options: Option<&Value>| {
        let Some(options) = options else { return false };
        let kind = options.str_at(&["type"]);
        let (has_user, has_role) = (!options.str_at(&["user"]).is_empty(), !options.str_at(&["role"]).is_empty());
        if !allowed(kind) {
            types.insert(kind.to_owned());
        }
        user |= has_user;
        role |= has_role;
        !allowed(kind) || has_user || has_role
    };
    let pod = is_bad(of.at(&["seLinuxOptions"]));
    let names = of.which(|container| is_bad(security(container, &["seLinuxOptions"])));
    let who = setters(pod, &names)?;
    let shown = quoted(types.iter().map(String::as_str));
    let kinds = (!types.is_empty()).then(|| format!("{} {shown}", plural("type", "types", types.len())));
    let user = user.then(|| "user may not be set".to_owned());
    let role = role.then(|| "role may not be set".to_owned());
    let bad: Vec<String> = [kinds, user, role].into_iter().flatten().collect();
    let detail = format!("{who} set forbidden securityContext.seLinuxOptions: {}", bad.join("; "));
    Some(Violation::new("seLinuxOptions", detail))
}

/// `required`: every container has to have one.
fn seccomp(of: &Subject<'_>, minor: u32, required: bool) -> Option<Violation> {
    if minor < 19 {
        return seccomp_annotations(of);
    }
    let is_good = |profile: &Value| matches!(profile.str_at(&["type"]), "RuntimeDefault" | "Localhost");
    let mut values = BTreeSet::new();
    let own = of.at(&["seccompProfile"]);
    let bad = own.filter(|own| !is_good(own));
    values.extend(bad.map(|own| own.str_at(&["type"])));
    let names = of.which(|container| {
        let own = security(container, &["seccompProfile"]).filter(|own| !is_good(own));
        values.extend(own.map(|own| own.str_at(&["type"])));
        own.is_some()
    });
    if let Some(who) = setters(bad.is_some(), &names) {
        let shown = quoted(values.iter().copied());
        let detail = format!("{who} must not set securityContext.seccompProfile.type to {shown}");
        return Some(Violation::new("seccompProfile", detail));
    }
    let without = of.which(|container| own.is_none() && security(container, &["seccompProfile"]).is_none());
    (required && !without.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&without)
        );
        Violation::new("seccompProfile", detail)
    })
}

fn seccomp_annotations(of: &Subject<'_>) -> Option<Violation> {
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    let of_containers = of
        .containers
        .iter()
        .map(|container| format!("container.seccomp.security.alpha.kubernetes.io/{}", container.str_at(&["name"])));
    let bad = std::iter::once(POD.to_owned()).chain(of_containers).filter_map(|key| {
        let text = of.pod.at(&["metadata", "annotations", &key])?.as_str()?;
        let good = matches!(text, "runtime/default" | "docker/default") || text.starts_with("localhost/");
        (!good).then(|| format!("{key}={text:?}"))
    });
    let bad: BTreeSet<String> = bad.collect();
    (!bad.is_empty()).then(|| {
        let shown = bad.iter().cloned().collect::<Vec<_>>().join(", ");
        let what = plural("annotation", "annotations", bad.len());
        Violation::new("seccompProfile", format!("forbidden {what} {shown}"))
    })
}

fn sysctls(of: &Subject<'_>, minor: u32) -> Option<Violation> {
    const SAFE: [(u32, &[&str]); 4] = [
        (
            0,
            &[
                "kernel.shm_rmid_forced",
                "net.ipv4.ip_local_port_range",
                "net.ipv4.tcp_syncookies",
                "net.ipv4.ping_group_range",
                "net.ipv4.ip_unprivileged_port_start",
            ],
        ),
        (27, &["net.ipv4.ip_local_reserved_ports"]),
        (
            29,
            &[
                "net.ipv4.tcp_keepalive_time",
                "net.ipv4.tcp_fin_timeout",
                "net.ipv4.tcp_keepalive_intvl",
                "net.ipv4.tcp_keepalive_probes",
            ],
        ),
        (32, &["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"]),
    ];
    let safe = |name: &str| SAFE.iter().any(|(since, names)| minor >= *since && names.contains(&name));
    let set = of.at(&["sysctls"]).and_then(Value::as_array).unwrap_or_default();
    let bad: Vec<&str> = set.iter().map(|sysctl| sysctl.str_at(&["name"])).filter(|name| !safe(name)).collect();
    (!bad.is_empty()).then(|| Violation::new("forbidden sysctls", bad.join(", ")))
}

fn host_process(of: &Subject<'_>) -> Option<Violation> {
    let path = ["windowsOptions", "hostProcess"];
    let names = of.which(|container| security(container, &path) == Some(&Value::Bool(true)));
    let who = setters(of.at(&path) == Some(&Value::Bool(true)), &names)?;
    let detail = format!("{who} must not set securityContext.windowsOptions.hostProcess=true");
    Some(Violation::new("hostProcess", detail))
}

fn escalation(of: &Subject<'_>) -> Option<Violation> {
    let names = of.which(|container| security(container, &["allowPrivilegeEscalation"]) != Some(&Value::Bool(false)));
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names));
    (!names.is_empty()).then(|| Violation::new("allowPrivilegeEscalation != false", detail()))
}

fn volume_types(of: &Subject<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let mut kinds = BTreeSet::new();
    let mut names = Vec::new();
    for volume in of.list(&["spec", "volumes"]) {
        if ALLOWED.iter().any(|kind| volume.get(kind).is_some()) {
            continue;
        }
        let fields = volume.as_object().into_iter().flat_map(Map::keys).map(|field| field.as_str());
        kinds.insert(fields.into_iter().find(|field| *field != "name").unwrap_or("unknown"));
        names.push(volume.str_at(&["name"]));
    }
    (!names.is_empty()).then(|| {
        let uses = plural("uses", "use", names.len());
        let what = plural("restricted volume type", "restricted volume types", kinds.len());
        let volumes = format!("{} {}", plural("volume", "volumes", names.len()), quoted(names.iter().copied()));
        Violation::new("restricted volume types", format!("{volumes} {uses} {what} {}", quoted(kinds)))
    })
}

fn non_root(of: &Subject<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let pod = of.at(&["runAsNonRoot"]).and_then(Value::as_bool);
    let own = |container: &Value| security(container, &["runAsNonRoot"]).and_then(Value::as_bool);
    let names = of.which(|container| own(container) == Some(false));
    if let Some(who) = setters(pod == Some(false), &names) {
        return Some(Violation::new(REASON, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    let without = of.which(|container| pod != Some(true) && own(container).is_none());
    let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&without));
    (!without.is_empty()).then(|| Violation::new(REASON, detail()))
}

fn root_user(of: &Subject<'_>) -> Option<Violation> {
    let is_root = |user: Option<&Value>| user.and_then(Value::as_i64) == Some(0);
    let names = of.which(|container| is_root(security(container, &["runAsUser"])));
    let who = setters(is_root(of.at(&["runAsUser"])), &names)?;
    Some(Violation::new("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check(spec: Value, level: Level, version: Option<u32>, expect: &str) {
        let pod = value!({"spec": spec});
        let found = violations(&Subject::of(&pod), Standard { level, version });
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(told.join(", "), expect);
    }

    fn one(context: Value) -> Value {
        value!({"containers": [{"name": "a", "securityContext": context}]})
    }

    fn strict() -> Value {
        value!({
            "runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"}
        })
    }

    #[test]
    fn a_strict_pod_is_within_every_level() {
        check(one(strict()), Level::Restricted, None, "");
        check(one(strict()), Level::Baseline, Some(0), "");
        check(one(value!({"privileged": true})), Level::Privileged, None, "");
    }

    #[test]
    fn baseline() {
        let level = Level::Baseline;
        let text = r#"non-default capabilities (container "a" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)"#;
        check(one(value!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "NET_RAW"]}})), level, None, text);
        let ports = value!({"containers": [{"name": "a", "ports": [{"hostPort": 80}]}, {"name": "b", "ports": [{"hostPort": 81}]}]});
        check(ports, level, None, r#"hostPort (containers "a", "b" use hostPorts 80, 81)"#);
        let text = r#"seLinuxOptions (container "a" set forbidden securityContext.seLinuxOptions: type "x"; user may not be set)"#;
        check(one(value!({"seLinuxOptions": {"type": "x", "user": "u"}})), level, None, text);
        let text = r#"seccompProfile (container "a" must not set securityContext.seccompProfile.type to "Unconfined")"#;
        check(one(value!({"seccompProfile": {"type": "Unconfined"}})), level, None, text);
        let text = r#"forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")"#;
        check(value!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}), level, None, text);
        let volumes = value!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
        check(volumes, level, None, r#"hostPath volumes (volume "v")"#);
    }

    #[test]
    fn rules_come_with_versions() {
        let sysctls = || value!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
        check(sysctls(), Level::Baseline, Some(31), "forbidden sysctls (net.ipv4.tcp_rmem)");
        check(sysctls(), Level::Baseline, Some(32), "");
        let probe = || value!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}]});
        check(probe(), Level::Baseline, Some(33), "");
        let text = r#"probe or lifecycle host (container "a" uses probe or lifecycle host "10.0.0.1")"#;
        check(probe(), Level::Baseline, None, text);
        let unmasked = || value!({"hostUsers": false, "containers": [{"name": "a", "securityContext": {"procMount": "Unmasked"}}]});
        check(unmasked(), Level::Baseline, None, "");
        let text = r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#;
        check(unmasked(), Level::Baseline, Some(34), text);
    }

    #[test]
    fn restricted() {
        let mut root = strict();
        root.as_object_mut().expect("an object").insert("runAsUser", 0);
        check(one(root), Level::Restricted, None, r#"runAsUser=0 (container "a" must not set runAsUser=0)"#);
        let volumes = value!({"volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "nfs": {}}, {"name": "e", "emptyDir": {}}]});
        let text = r#"restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")"#;
        check(volumes, Level::Restricted, None, text);
        let mut adding = strict();
        adding.object_entry("capabilities").insert("add", vec!["CHOWN", "NET_BIND_SERVICE"]);
        let text =
            r#"unrestricted capabilities (container "a" must not include "CHOWN" in securityContext.capabilities.add)"#;
        check(one(adding), Level::Restricted, None, text);
    }
}
