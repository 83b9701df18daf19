//! A pod as its object says it: names for the fields that a node reads. Defaults are the API server's business; what is
//! absent here nevertheless (an old object) has the value that the default would have.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;

/// A pod's object.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a>(pub &'a Value);

/// What a container is to its pod, which decides when it starts and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the next one.
    Init,
    /// An init container that goes on beside the main ones (`restartPolicy: Always`, KEP-753).
    Sidecar,
    Main,
    /// Added to a pod that runs; never restarted.
    Ephemeral,
}

/// A container of a pod's specification.
#[derive(Clone, Copy, Debug)]
pub struct Container<'a> {
    pub value: &'a Value,
    pub role: Role,
}

impl<'a> Pod<'a> {
    pub fn meta(self) -> Meta<'a> {
        Meta::of(self.0)
    }

    pub fn uid(self) -> &'a str {
        self.meta().uid()
    }

    pub fn name(self) -> &'a str {
        self.meta().name()
    }

    pub fn namespace(self) -> &'a str {
        self.meta().namespace()
    }

    /// `name_namespace(uid)`, as upstream's texts name a pod.
    pub fn long_name(self) -> String {
        format!("{}_{}({})", self.name(), self.namespace(), self.uid())
    }

    pub fn spec(self, field: &str) -> Option<&'a Value> {
        self.0.get("spec")?.get(field)
    }

    pub fn spec_str(self, field: &str) -> &'a str {
        self.spec(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn spec_is(self, field: &str) -> bool {
        self.spec(field).and_then(Value::as_bool).unwrap_or_default()
    }

    pub fn spec_list(self, field: &str) -> &'a [Value] {
        self.spec(field).and_then(Value::as_array).unwrap_or_default()
    }

    /// A field of the pod's security context.
    pub fn security(self, field: &str) -> Option<&'a Value> {
        self.spec("securityContext")?.get(field)
    }

    pub fn init_containers(self) -> impl DoubleEndedIterator<Item = Container<'a>> {
        self.spec_list("initContainers").iter().map(|value| {
            let sidecar = value.str_at(&["restartPolicy"]) == "Always";
            Container { value, role: if sidecar { Role::Sidecar } else { Role::Init } }
        })
    }

    pub fn main_containers(self) -> impl DoubleEndedIterator<Item = Container<'a>> {
        self.spec_list("containers").iter().map(|value| Container { value, role: Role::Main })
    }

    pub fn ephemeral_containers(self) -> impl DoubleEndedIterator<Item = Container<'a>> {
        self.spec_list("ephemeralContainers").iter().map(|value| Container { value, role: Role::Ephemeral })
    }

    pub fn containers(self) -> impl Iterator<Item = Container<'a>> {
        self.init_containers().chain(self.main_containers()).chain(self.ephemeral_containers())
    }

    pub fn container(self, name: &str) -> Option<Container<'a>> {
        self.containers().find(|container| container.name() == name)
    }

    pub fn restart_policy(self) -> &'a str {
        match self.spec_str("restartPolicy") {
            "" => "Always",
            policy => policy,
        }
    }

    pub fn priority(self) -> i64 {
        self.spec("priority").and_then(Value::as_i64).unwrap_or_default()
    }

    /// Seconds between the first signal and the last.
    pub fn grace_s(self) -> i64 {
        self.spec("terminationGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(30)
    }

    pub fn is_deleting(self) -> bool {
        self.meta().deletion_timestamp().is_some()
    }

    pub fn is_host_network(self) -> bool {
        self.spec_is("hostNetwork")
    }

    pub fn phase(self) -> &'a str {
        self.0.str_at(&["status", "phase"])
    }

    /// The API server has it that this pod is over; that never changes again.
    pub fn is_over(self) -> bool {
        matches!(self.phase(), "Succeeded" | "Failed")
    }

    pub fn status_list(self, field: &str) -> &'a [Value] {
        self.0.at(&["status", field]).and_then(Value::as_array).unwrap_or_default()
    }

    /// A condition that the API server has.
    pub fn condition(self, kind: &str) -> Option<&'a Value> {
        self.status_list("conditions").iter().find(|condition| condition.str_at(&["type"]) == kind)
    }

    pub fn volume(self, name: &str) -> Option<&'a Value> {
        self.spec_list("volumes").iter().find(|volume| volume.str_at(&["name"]) == name)
    }
}

impl<'a> Container<'a> {
    pub fn name(self) -> &'a str {
        self.value.str_at(&["name"])
    }

    pub fn image(self) -> &'a str {
        self.value.str_at(&["image"])
    }

    pub fn list(self, field: &str) -> &'a [Value] {
        self.value.get(field).and_then(Value::as_array).unwrap_or_default()
    }

    pub fn is(self, field: &str) -> bool {
        self.value.get(field).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The path in an event that is about this container: `spec.containers{web}`.
    pub fn field_path(self) -> String {
        let list = match self.role {
            Role::Init | Role::Sidecar => "initContainers",
            Role::Main => "containers",
            Role::Ephemeral => "ephemeralContainers",
        };
        format!("spec.{list}{{{}}}", self.name())
    }

    /// A field of the container's security context, or else of the pod's.
    pub fn security(self, pod: Pod<'a>, field: &str) -> Option<&'a Value> {
        self.value.at(&["securityContext", field]).filter(|value| !value.is_null()).or_else(|| pod.security(field))
    }

    /// `startupProbe`, `livenessProbe` or `readinessProbe`.
    pub fn probe(self, field: &str) -> Option<&'a Value> {
        self.value.get(field).filter(|probe| !probe.is_null())
    }

    pub fn hook(self, name: &str) -> Option<&'a Value> {
        self.value.at(&["lifecycle", name]).filter(|hook| !hook.is_null())
    }

    /// Whether it starts again after an exit: by a rule of its own, its own policy, or the pod's (KEP-5307).
    pub fn restarts(self, pod: Pod<'_>, code: i32) -> bool {
        let by_policy = |policy: &str| match policy {
            "Never" => false,
            "OnFailure" => code != 0,
            _ => true,
        };
        match self.role {
            Role::Ephemeral => false,
            Role::Sidecar => true,
            Role::Init | Role::Main => {
                let own = self.value.str_at(&["restartPolicy"]);
                let rule = self.list("restartPolicyRules").iter().any(|rule| rule_restarts(rule, code));
                rule || by_policy(if own.is_empty() { pod.restart_policy() } else { own })
            }
        }
    }
}

fn rule_restarts(rule: &Value, code: i32) -> bool {
    let values = rule.at(&["exitCodes", "values"]).and_then(Value::as_array).unwrap_or_default();
    let listed = values.iter().any(|value| value.as_i64() == Some(code.into()));
    let matches = match rule.str_at(&["exitCodes", "operator"]) {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    matches && rule.str_at(&["action"]) == "Restart"
}
