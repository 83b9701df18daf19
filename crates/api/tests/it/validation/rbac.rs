//! Roles and their bindings.

use super::{kind, validate};

const VERSION: &str = "rbac.authorization.k8s.io/v1";

#[track_caller]
fn check(name: &str, text: &str, expect: &[&str]) {
    validate(kind(VERSION, name), text, None, "", expect);
}

#[test]
fn rules() {
    check(
        "Role",
        r#"{"rules":[{"verbs":[],"apiGroups":[""],"resources":["pods"]}]}"#,
        &["rules[0].verbs: Required value: verbs must contain at least one value"],
    );
    check(
        "Role",
        r#"{"rules":[{"verbs":["get"],"nonResourceURLs":["/a"],"resources":["pods"]}]}"#,
        &[
            r#"rules[0].nonResourceURLs: Invalid value: ["/a"]: namespaced rules cannot apply to non-resource URLs"#,
            r#"rules[0].nonResourceURLs: Invalid value: ["/a"]: rules cannot apply to both regular resources and non-resource URLs"#,
        ],
    );
    check("ClusterRole", r#"{"rules":[{"verbs":["get"],"nonResourceURLs":["/a"]}]}"#, &[]);
    check(
        "ClusterRole",
        r#"{"rules":[{"verbs":["get"]}],"aggregationRule":{}}"#,
        &[
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
            "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil",
        ],
    );
}

#[test]
fn bindings() {
    let group = r#"supported values: "rbac.authorization.k8s.io""#;
    check(
        "RoleBinding",
        r#"{"roleRef":{"apiGroup":"x","kind":"X"},"subjects":[{"kind":"X","name":"a"}]}"#,
        &[
            &format!(r#"roleRef.apiGroup: Unsupported value: "x": {group}"#),
            r#"roleRef.kind: Unsupported value: "X": supported values: "Role", "ClusterRole""#,
            "roleRef.name: Required value",
            r#"subjects[0].kind: Unsupported value: "X": supported values: "ServiceAccount", "User", "Group""#,
        ],
    );
    check(
        "ClusterRoleBinding",
        r#"{"roleRef":{"kind":"Role","name":"a/b"},"subjects":[{"kind":"ServiceAccount","name":"a"},{"kind":"User","apiGroup":"x","name":""}]}"#,
        &[
            r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
            r#"roleRef.name: Invalid value: "a/b": may not contain '/'"#,
            "subjects[0].namespace: Required value",
            "subjects[1].name: Required value",
            &format!(r#"subjects[1].apiGroup: Unsupported value: "x": {group}"#),
        ],
    );
}

#[test]
fn a_binding_keeps_its_role() {
    let binding = |role: &str| format!(r#"{{"roleRef":{{"kind":"ClusterRole","name":"{role}"}}}}"#);
    let expect = r#"roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"ClusterRole","Name":"b"}: cannot change roleRef"#;
    validate(kind(VERSION, "RoleBinding"), &binding("b"), Some(&binding("a")), "", &[expect]);
    validate(kind(VERSION, "RoleBinding"), &binding("a"), Some(&binding("a")), "", &[]);
}
