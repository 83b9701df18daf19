//! Who may do what: roles and their bindings, certificate requests, leases.

use corten_apimachinery::duration;
use corten_apimachinery::kind::{Column, NameRule, Serve, Strategy, Write, Writer};
use corten_apimachinery::managed::Endpoint;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Map, Value};

use super::change::keep;
use super::column::{NONE, age, at, at_or, labels, list, name, text, wide};
use super::{KindRules, field};
use crate::rules::validation::{certificates, cluster, rbac};

const RBAC: &str = "rbac.authorization.k8s.io";
const CERTIFICATES: &str = "certificates.k8s.io";

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy { validate: Some(rbac::role), ..role(base) },
        ..KindRules::new(RBAC, "Role")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(rbac::cluster_role), ..role(base) },
        ..KindRules::new(RBAC, "ClusterRole")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(rbac::role_binding), ..role(base) },
        columns: binding_columns,
        ..KindRules::new(RBAC, "RoleBinding")
    },
    KindRules {
        strategy: |base| Strategy { validate: Some(rbac::cluster_role_binding), ..role(base) },
        columns: binding_columns,
        ..KindRules::new(RBAC, "ClusterRoleBinding")
    },
    KindRules {
        strategy: |base| Strategy {
            name: NameRule::PathSegment,
            prepare: Some(prepare_request),
            settle: Some(settle_request),
            validate: Some(certificates::request),
            endpoint: Some(|subresource| match subresource {
                "status" => Endpoint::Except(&[&["spec"], &["status", "conditions"]]),
                "approval" => Endpoint::Except(&[&["spec"], &["status", "certificate"]]),
                _ => Endpoint::Except(&[&["spec"], &["status"]]),
            }),
            ..base
        },
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
        strategy: |base| Strategy { unconditional_update: false, status_keeps_metadata: true, ..base },
        columns: pod_request_columns,
        selectable_fields: || vec![field("spec.signerName"), field("spec.podName"), field("spec.nodeName")],
        ..KindRules::new(CERTIFICATES, "PodCertificateRequest")
    },
    KindRules {
        strategy: |base| Strategy {
            create_on_update: true,
            qualified_finalizers: false,
            unconditional_update: false,
            prepare: Some(drop_coordination),
            validate: Some(cluster::lease),
            ..base
        },
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

/// A new request says who made it, whatever its text claims: signers trust that. Conditions get the times they lack, and
/// a signer does not touch those of the approver.
fn settle_request(request: &mut Value, write: &Write<'_>) {
    let Some(stored) = write.old else {
        return name_requester(request, &write.user);
    };
    if write.subresource == "status" {
        for kind in ["Approved", "Denied"] {
            keep_conditions(request, stored, kind);
        }
    }
    let now = Time::from_seconds(write.now_s).to_rfc3339();
    let Some(conditions) = request.at_mut(&["status", "conditions"]).and_then(Value::as_array_mut) else { return };
    for condition in conditions {
        date_condition(condition, list(stored, &["status", "conditions"]), &now);
    }
}

fn name_requester(request: &mut Value, user: &Writer<'_>) {
    let spec = request.object_entry("spec");
    let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
    let groups: Vec<Value> = user.groups.iter().map(|group| Value::from(group.clone())).collect();
    let extra: Map = user.extra.iter().map(|(key, values)| (key.clone(), values.clone().into())).collect();
    for (field, value) in [
        ("username", text(user.name)),
        ("uid", text(user.uid)),
        ("groups", (!groups.is_empty()).then_some(Value::Array(groups))),
        ("extra", (!extra.is_empty()).then_some(Value::Object(extra))),
    ] {
        match value {
            Some(value) => spec.insert(field, value),
            None => spec.remove(field),
        };
    }
}

/// Gives conditions of one type their stored content, unless some came or went: validation refuses that.
fn keep_conditions(request: &mut Value, stored: &Value, kind: &str) {
    let path = ["status", "conditions"];
    let of_kind = |condition: &&Value| condition.str_at(&["type"]) == kind;
    let kept: Vec<Value> = list(stored, &path).iter().filter(of_kind).cloned().collect();
    if list(request, &path).iter().filter(of_kind).count() != kept.len() {
        return;
    }
    let Some(conditions) = request.at_mut(&path).and_then(Value::as_array_mut) else { return };
    let places = conditions.iter_mut().filter(|condition| condition.str_at(&["type"]) == kind);
    places.zip(kept).for_each(|(place, kept)| *place = kept);
}

fn date_condition(condition: &mut Value, stored: &[Value], now: &str) {
    let same =
        |other: &&Value| ["type", "status"].iter().all(|field| other.str_at(&[field]) == condition.str_at(&[field]));
    let since = stored.iter().find(same).map_or("", |stored| stored.str_at(&["lastTransitionTime"]));
    let since = if since.is_empty() { now } else { since }.to_owned();
    let Some(fields) = condition.as_object_mut() else { return };
    for (field, time) in [("lastUpdateTime", now.to_owned()), ("lastTransitionTime", since)] {
        if fields.get(field).is_none_or(Value::is_null) {
            fields.insert(field, time);
        }
    }
}

/// Coordinated elections are off by default upstream: their fields stay only where they are stored.
fn drop_coordination(lease: &mut Value, stored: Option<&Value>) {
    for field in ["strategy", "preferredHolder"] {
        let known = |lease: &Value| lease.at(&["spec", field]).is_some_and(|value| !value.is_null());
        if known(lease) && !stored.is_some_and(known) {
            lease.object_entry("spec").remove(field);
        }
    }
}

/// A request never changes but by its subresources.
fn prepare_request(request: &mut Value, stored: Option<&Value>) {
    if let Some(stored) = stored {
        keep(request, stored, "spec");
    }
}

/// `approval`: of spec and status the conditions alone.
fn approve(new: &mut Value, stored: &Value) {
    let conditions = new.at(&["status", "conditions"]).cloned();
    keep(new, stored, "spec");
    keep(new, stored, "status");
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
    fn leases_have_no_coordination() {
        let plain = value!({"spec": {"holderIdentity": "a"}});
        let coordinated = value!({"spec": {"holderIdentity": "a", "strategy": "OldestEmulationVersion"}});
        for (stored, expect) in [(None, &plain), (Some(&plain), &plain), (Some(&coordinated), &coordinated)] {
            let mut lease = coordinated.clone();
            drop_coordination(&mut lease, stored);
            assert_eq!(&lease, expect);
        }
    }

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

    fn written(subresource: &str, mut request: Value, stored: Option<&Value>) -> Value {
        let (groups, extra) = (["staff".into()], [("k".into(), vec!["v".into()])].into());
        let user = Writer { name: "ann", uid: "", groups: &groups, extra: &extra };
        settle_request(&mut request, &Write { subresource, old: stored, now_s: 0, user });
        request
    }

    #[test]
    fn a_request_cannot_lie_about_who_makes_it() {
        let lie =
            value!({"spec": {"username": "root", "uid": "0", "groups": ["system:masters"], "extra": {"a": ["b"]}}});
        let truth = value!({"spec": {"username": "ann", "groups": ["staff"], "extra": {"k": ["v"]}}});
        assert_eq!(written("", lie, None), truth);
    }

    #[test]
    fn conditions_are_dated_and_the_approvers_stay() {
        let (then, now) = ("2026-01-01T00:00:00Z", "1970-01-01T00:00:00Z");
        let approved =
            value!({"type": "Approved", "status": "True", "lastUpdateTime": then, "lastTransitionTime": then});
        let stored = value!({"status": {"conditions": [(approved.clone())]}});
        let request = value!({"status": {"conditions": [
            {"type": "Approved", "status": "True", "reason": "mine"}, {"type": "Failed", "status": "True"}
        ]}});
        let failed = value!({"type": "Failed", "status": "True", "lastUpdateTime": now, "lastTransitionTime": now});
        assert_eq!(
            written("status", request.clone(), Some(&stored)).at(&["status", "conditions"]),
            Some(&Value::Array(vec![approved, failed]))
        );
        let again = written("approval", request, Some(&stored));
        let again = &list(&again, &["status", "conditions"])[0];
        assert_eq!((again.str_at(&["reason"]), again.str_at(&["lastTransitionTime"])), ("mine", then));
    }

    #[test]
    fn approval_changes_conditions_and_metadata() {
        let stored = value!({"metadata": {}, "spec": {"request": "a"}, "status": {"certificate": "c"}});
        let mut new = value!({
            "metadata": {"annotations": {"by": "me"}}, "spec": {},
            "status": {"certificate": "d", "conditions": [{"type": "Approved"}]}
        });
        approve(&mut new, &stored);
        assert_eq!(
            new,
            value!({
                "metadata": {"annotations": {"by": "me"}}, "spec": {"request": "a"},
                "status": {"certificate": "c", "conditions": [{"type": "Approved"}]}
            })
        );
    }
}
