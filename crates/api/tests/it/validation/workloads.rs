//! Deployments and what else keeps pods alive.

use super::{kind, validate, with};

const SPEC: &str = r#"{"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;

#[track_caller]
fn check(name: &str, spec: &str, expect: &[&str]) {
    validate(kind("apps/v1", name), spec, None, "", expect);
}

#[track_caller]
fn more(name: &str, fields: &str, expect: &[&str]) {
    check(name, &with(SPEC, r#"{"spec":{"#, &format!(r#"{{"spec":{{{fields},"#)), expect);
}

#[test]
fn all_kinds_take_the_plain_object() {
    for name in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        check(name, SPEC, &[]);
    }
}

#[test]
fn selectors_match_their_template() {
    let other = with(SPEC, r#""labels":{"a":"b"}"#, r#""labels":{"a":"c"}"#);
    for name in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        check(
            name,
            &other,
            &[
                "spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`",
            ],
        );
    }
    let empty = with(SPEC, r#"{"matchLabels":{"a":"b"}}"#, "{}");
    check("Deployment", &empty, &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]);
    check("StatefulSet", &empty, &["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"]);
    check("DaemonSet", &empty, &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"]);
    let none = with(SPEC, r#""selector":{"matchLabels":{"a":"b"}},"#, "");
    check(
        "Deployment",
        &none,
        &[
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
        ],
    );
}

#[test]
fn pods_are_restarted_for_ever() {
    let never = with(SPEC, r#""containers""#, r#""restartPolicy":"Never","activeDeadlineSeconds":5,"containers""#);
    let restart = r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#;
    for (name, shown) in [
        ("Deployment", "ReplicaSet"),
        ("ReplicaSet", "ReplicaSet"),
        ("StatefulSet", "StatefulSet"),
        ("DaemonSet", "DaemonSet"),
    ] {
        let deadline = format!(
            "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in {shown} is not Supported"
        );
        check(name, &never, &[restart, &deadline]);
    }
}

#[test]
fn deployments() {
    let negative = "must be greater than or equal to 0";
    more("Deployment", r#""replicas":-1"#, &[&format!("spec.replicas: Invalid value: -1: {negative}")]);
    more(
        "Deployment",
        r#""strategy":{"type":"Recreate","rollingUpdate":{"maxSurge":1}}"#,
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    );
    more(
        "Deployment",
        r#""strategy":{"rollingUpdate":{"maxSurge":0,"maxUnavailable":"0%"}}"#,
        &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"],
    );
    more(
        "Deployment",
        r#""strategy":{"rollingUpdate":{"maxUnavailable":"101%"}}"#,
        &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%"],
    );
    more(
        "Deployment",
        r#""strategy":{"type":"Blue"}"#,
        &[
            r#"spec.strategy: Unsupported value: {"Type":"Blue","RollingUpdate":null}: supported values: "Recreate", "RollingUpdate""#,
        ],
    );
    more(
        "Deployment",
        r#""progressDeadlineSeconds":10,"minReadySeconds":10"#,
        &["spec.progressDeadlineSeconds: Invalid value: 10: must be greater than minReadySeconds"],
    );
    more(
        "Deployment",
        r#""revisionHistoryLimit":-1"#,
        &[&format!("spec.revisionHistoryLimit: Invalid value: -1: {negative}")],
    );
}

#[test]
fn stateful_sets() {
    let specs = [
        (
            r#""podManagementPolicy":"X""#,
            "spec.podManagementPolicy: Invalid value: \"X\": must be 'OrderedReady' or 'Parallel'",
        ),
        (
            r#""updateStrategy":{"type":"OnDelete","rollingUpdate":{"partition":1}}"#,
            r#"spec.updateStrategy.rollingUpdate: Invalid value: {"Partition":1,"MaxUnavailable":null}: only allowed for updateStrategy 'RollingUpdate'"#,
        ),
        (
            r#""persistentVolumeClaimRetentionPolicy":{"whenDeleted":"X","whenScaled":"Delete"}"#,
            r#"spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "X": supported values: "Retain", "Delete""#,
        ),
        (r#""ordinals":{"start":-1}"#, "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0"),
    ];
    for (fields, expect) in specs {
        more("StatefulSet", fields, &[expect]);
    }
    let renamed = with(SPEC, r#"{"spec":{"#, r#"{"spec":{"serviceName":"x","#);
    let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
    validate(kind("apps/v1", "StatefulSet"), &renamed, Some(SPEC), "", &[&format!("spec: Forbidden: {detail}")]);
    let scaled = with(SPEC, r#"{"spec":{"#, r#"{"spec":{"replicas":5,"#);
    validate(kind("apps/v1", "StatefulSet"), &scaled, Some(SPEC), "", &[]);
}

#[test]
fn daemon_sets() {
    more(
        "DaemonSet",
        r#""updateStrategy":{"rollingUpdate":{"maxUnavailable":1,"maxSurge":1}}"#,
        &[
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ],
    );
    more(
        "DaemonSet",
        r#""updateStrategy":{"rollingUpdate":{"maxUnavailable":0,"maxSurge":0}}"#,
        &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
    );
}

#[test]
fn selectors_stay() {
    let wider = with(SPEC, r#""matchLabels":{"a":"b"}"#, r#""matchExpressions":[{"key":"a","operator":"Exists"}]"#);
    for name in ["Deployment", "ReplicaSet", "DaemonSet"] {
        validate(
            kind("apps/v1", name),
            &wider,
            Some(SPEC),
            "",
            &[
                r#"spec.selector: Invalid value: {"matchExpressions":[{"key":"a","operator":"Exists"}]}: field is immutable"#,
            ],
        );
    }
}

#[test]
fn states() {
    let status = |status: &str| with(SPEC, r#"{"spec":"#, &format!(r#"{{"status":{status},"spec":"#));
    let check = |name, text: &str, expect: &[&str]| {
        validate(
            kind("apps/v1", name),
            &status(text),
            Some(&status(r#"{"replicas":1,"collisionCount":3}"#)),
            "status",
            expect,
        );
    };
    check(
        "Deployment",
        r#"{"replicas":1,"readyReplicas":1,"availableReplicas":2,"collisionCount":2}"#,
        &[
            "status.availableReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas",
            "status.collisionCount: Invalid value: 2: cannot be decremented",
        ],
    );
    check(
        "StatefulSet",
        r#"{"replicas":1,"currentReplicas":2,"collisionCount":3}"#,
        &["status.currentReplicas: Invalid value: 2: cannot be greater than status.replicas"],
    );
}

#[test]
fn revisions() {
    check(
        "ControllerRevision",
        r#"{"revision":-1,"data":{}}"#,
        &["revision: Invalid value: -1: must be greater than or equal to 0"],
    );
    check("ControllerRevision", r#"{"revision":1}"#, &["data: Required value: data is mandatory"]);
}

#[test]
fn templates_are_looked_at_in_their_place() {
    let imageless = with(SPEC, r#","image":"i""#, "");
    let expect = "spec.template.spec.containers[0].image: Required value";
    for name in ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet"] {
        check(name, &imageless, &[expect]);
    }
    let both = with(&imageless, r#"{"spec":{"#, r#"{"spec":{"replicas":-1,"revisionHistoryLimit":-1,"#);
    check(
        "Deployment",
        &both,
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            expect,
            "spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
}

#[test]
fn claims_of_a_set_are_volumes_of_its_pods() {
    let mounts = with(SPEC, r#""image":"i""#, r#""image":"i","volumeMounts":[{"name":"data","mountPath":"/d"}]"#);
    check("Deployment", &mounts, &[r#"spec.template.spec.containers[0].volumeMounts[0].name: Not found: "data""#]);
    let claims = r#"{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}],"#;
    check("StatefulSet", &with(&mounts, r#"{"spec":{"#, claims), &[]);
}

#[test]
fn replication_controllers() {
    let controller = with(SPEC, r#"{"matchLabels":{"a":"b"}}"#, r#"{"a":"c"}"#);
    validate(
        kind("v1", "ReplicationController"),
        &controller,
        None,
        "",
        &["spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`"],
    );
    validate(
        kind("v1", "ReplicationController"),
        "{}",
        None,
        "",
        &["spec.selector: Required value", "spec.template: Required value"],
    );
}
