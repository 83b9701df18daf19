//! Who may do what: roles and their bindings, certificate requests, leases.

use corten_apimachinery::duration;
use corten_apimachinery::kind::{Column, NameRule, Serve, Strategy};
use corten_apimachinery::value::Value;

use super::change::{keep, keep_metadata};
use super::column::{NONE, age, at, at_or, labels, list, name, text, wide};
use super::{KindRules, field};

const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";

pub(crate) const KINDS: &[KindRules] = &[
    KindRules { strategy: role, ..KindRules::new(RBAC, "Role") },
    KindRules { strategy: role, ..KindRules::new(RBAC, "ClusterRole") },
    KindRules { strategy: role, columns: binding_columns, ..KindRules::new(RBAC, "RoleBinding") },
    KindRules { strategy: role, columns: binding_columns, ..KindRules::new(RBAC, "ClusterRoleBinding") },
    KindRules {
        strategy: |base| Strategy { prepare: Some(prepare_request), ..base },
        columns: request_columns,
        selectable_fields: || vec![field("spec.signerName")],
        serve: |subresource| (subresource == "approval").then_some(Serve::Part(approve)),
        ..KindRules::new(CERTIFICATES, "CertificateSigningRequest")
    },
    KindRules {
        strategy: |base| Strategy { unconditional_update: false, ..base },
        columns: || vec![name(), text("SignerName", |bundle, _| at_or(bundle, &["spec", "signerName"], NONE))],
        selectable_fields: || vec![field("spec.signerName")],
        ..KindRules::new(CERTIFICATES, "ClusterTrustBundle")
    },
    KindRules {
        strategy: |base| Strategy { unconditional_update: false, ..base },
        columns: pod_request_columns,
        selectable_fields: || vec![field("spec.signerName"), field("spec.podName"), field("spec.nodeName")],
        ..KindRules::new(CERTIFICATES, "PodCertificateRequest")
    },
    KindRules {
        strategy: |base| Strategy { create_on_update: true, unconditional_update: false, ..base },
        columns: || vec![name(), text("Holder", |lease, _| at(lease, &["spec", "holderIdentity"])), age()],
        ..KindRules::new("coordination.k8s.io", "Lease")
    },
    KindRules {
        strategy: |base| Strategy { create_on_update: true, unconditional_update: false, ..base },
        columns: || {
            vec![
                name(),
                text("LeaseName", |candidate, _| at(candidate, &["spec", "leaseName"])),
                text("BinaryVersion", |candidate, _| at(candidate, &["spec", "binaryVersion"])),
                text("EmulationVersion", |candidate, _| at(candidate, &["spec", "emulationVersion"])),
                age(),
            ]
        },
        selectable_fields: || vec![field("spec.leaseName")],
        ..KindRules::new("coordination.k8s.io", "LeaseCandidate")
    },
];

/// Role names may hold anything that one segment of a path may: `system:node`.
fn role(base: Strategy) -> Strategy {
    Strategy { name: NameRule::PathSegment, create_on_update: true, ..base }
}

/// A request never changes but by its subresources. Who asks is filled in by admission.
fn prepare_request(request: &mut Value, stored: Option<&Value>) {
    if let Some(stored) = stored {
        keep(request, stored, "spec");
    }
}

/// `approval`: the conditions alone.
fn approve(new: &mut Value, stored: &Value) {
    let conditions = new.at(&["status", "conditions"]).cloned();
    keep(new, stored, "spec");
    keep(new, stored, "status");
    keep_metadata(new, stored);
    let status = new.object_entry("status");
    match conditions {
        Some(conditions) => {
            status.insert("conditions", conditions);
        }
        None => {
            status.remove("conditions");
        }
    }
}

fn binding_columns() -> Vec<Column> {
    vec![
        name(),
        text("Role", |binding, _| {
            format!("{}/{}", binding.str_at(&["roleRef", "kind"]), binding.str_at(&["roleRef", "name"])).into()
        }),
        age(),
        wide(text("Users", |binding, _| subjects(binding, "User"))),
        wide(text("Groups", |binding, _| subjects(binding, "Group"))),
        wide(text("ServiceAccounts", |binding, _| subjects(binding, "ServiceAccount"))),
    ]
}

fn subjects(binding: &Value, kind: &str) -> Value {
    let of_kind = list(binding, &["subjects"]).iter().filter(|subject| subject.str_at(&["kind"]) == kind);
    let shown = of_kind.map(|subject| match kind {
        "ServiceAccount" => format!("{}/{}", subject.str_at(&["namespace"]), subject.str_at(&["name"])),
        _ => subject.str_at(&["name"]).to_owned(),
    });
    shown.collect::<Vec<_>>().join(", ").into()
}

fn request_columns() -> Vec<Column> {
    vec![
        name(),
        age(),
        text("SignerName", |request, _| at_or(request, &["spec", "signerName"], NONE)),
        text("Requestor", |request, _| at(request, &["spec", "username"])),
        text("RequestedDuration", |request, _| match request.i64_at(&["spec", "expirationSeconds"]) {
            Some(seconds) => duration::human(seconds).into(),
            None => NONE.into(),
        }),
        text("Condition", |request, _| request_status(request).into()),
    ]
}

fn request_status(request: &Value) -> String {
    let has = |kind| super::column::condition(request, kind).is_some();
    let mut status = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !request.str_at(&["status", "certificate"]).is_empty() {
        status.push_str(",Issued");
    }
    status
}

fn pod_request_columns() -> Vec<Column> {
    vec![
        name(),
        text("PodName", |request, _| at(request, &["spec", "podName"])),
        text("ServiceAccountName", |request, _| at(request, &["spec", "serviceAccountName"])),
        text("NodeName", |request, _| at(request, &["spec", "nodeName"])),
        text("SignerName", |request, _| at(request, &["spec", "signerName"])),
        text("State", |request, _| {
            let mut kinds =
                list(request, &["status", "conditions"]).iter().map(|condition| condition.str_at(&["type"]));
            kinds.rfind(|kind| matches!(*kind, "Issued" | "Denied" | "Failed")).unwrap_or("Pending").into()
        }),
        text("UnverifiedUserAnnotations", |request, _| {
            labels(request.at(&["spec", "unverifiedUserAnnotations"]).and_then(Value::as_object)).into()
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn bindings() {
        let binding = value!({
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [
                {"kind": "User", "name": "a"}, {"kind": "User", "name": "b"},
                {"kind": "ServiceAccount", "namespace": "n", "name": "s"}
            ]
        });
        check(RBAC, "RoleBinding", &binding, &["Role/r", "a, b", "", "n/s"]);
    }

    #[test]
    fn requests() {
        let request = value!({
            "spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
            "status": {"certificate": "x", "conditions": [{"type": "Approved"}]}
        });
        check(CERTIFICATES, "CertificateSigningRequest", &request, &["s", "u", "60m", "Approved,Issued"]);
        check(CERTIFICATES, "CertificateSigningRequest", &value!({}), &["<none>", "", "<none>", "Pending"]);
    }

    #[test]
    fn approval_changes_conditions_alone() {
        let stored = value!({"metadata": {}, "spec": {"request": "a"}, "status": {"certificate": "c"}});
        let mut new =
            value!({"metadata": {}, "spec": {}, "status": {"certificate": "d", "conditions": [{"type": "Approved"}]}});
        approve(&mut new, &stored);
        assert_eq!(
            new,
            value!({
                "metadata": {}, "spec": {"request": "a"},
                "status": {"certificate": "c", "conditions": [{"type": "Approved"}]}
            })
        );
    }
}
