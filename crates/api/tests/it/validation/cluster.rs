//! What clusters are set up with: classes, webhooks, storage, scaling, certificates.

use super::{kind, validate, with};

#[track_caller]
fn check(version: &str, name: &str, text: &str, expect: &[&str]) {
    validate(kind(version, name), text, None, "", expect);
}

#[test]
fn priorities() {
    let version = "scheduling.k8s.io/v1";
    check(version, "PriorityClass", r#"{"metadata":{"name":"a"},"value":5}"#, &[]);
    check(
        version,
        "PriorityClass",
        r#"{"metadata":{"name":"a"},"value":1000000001,"preemptionPolicy":"X"}"#,
        &[
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            r#"preemptionPolicy: Unsupported value: "X": supported values: "PreemptLowerPriority", "Never""#,
        ],
    );
    check(
        version,
        "PriorityClass",
        r#"{"metadata":{"name":"system-x"},"value":1}"#,
        &[
            "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-x is not a known system priority class",
        ],
    );
    let class = |value: i64| format!(r#"{{"metadata":{{"name":"a"}},"value":{value}}}"#);
    validate(
        kind(version, "PriorityClass"),
        &class(2),
        Some(&class(1)),
        "",
        &["value: Forbidden: may not be changed in an update."],
    );
}

#[test]
fn leases_and_runtimes() {
    check(
        "coordination.k8s.io/v1",
        "Lease",
        r#"{"spec":{"leaseDurationSeconds":0,"leaseTransitions":-1,"preferredHolder":"a"}}"#,
        &[
            "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0",
            "spec.preferredHolder: Forbidden: may only be specified if `strategy` is defined",
        ],
    );
    check("node.k8s.io/v1", "RuntimeClass", r#"{"handler":""}"#, &["handler: Required value"]);
}

#[test]
fn disruption_budgets() {
    check(
        "policy/v1",
        "PodDisruptionBudget",
        r#"{"spec":{"minAvailable":-1,"maxUnavailable":"x%"}}"#,
        &[
            r#"spec: Invalid value: {"MinAvailable":-1,"Selector":null,"MaxUnavailable":"x%","UnhealthyPodEvictionPolicy":null}: minAvailable and maxUnavailable cannot be both set"#,
            "spec.minAvailable: Invalid value: -1: must be greater than or equal to 0",
            r#"spec.maxUnavailable: Invalid value: "x%": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"#,
        ],
    );
}

#[test]
fn storage() {
    let version = "storage.k8s.io/v1";
    check(
        version,
        "StorageClass",
        r#"{"provisioner":"","reclaimPolicy":"Recycle"}"#,
        &[
            "provisioner: Required value",
            r#"reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain""#,
        ],
    );
    let class = |provisioner: &str| format!(r#"{{"provisioner":"{provisioner}"}}"#);
    validate(
        kind(version, "StorageClass"),
        &class("b"),
        Some(&class("a")),
        "",
        &[r#"provisioner: Invalid value: "b": field is immutable"#],
    );
    check(
        version,
        "CSINode",
        r#"{"spec":{"drivers":[{"name":"a","nodeID":"","topologyKeys":null},{"name":"a","nodeID":"n","topologyKeys":null}]}}"#,
        &["spec.drivers[0].nodeID: Required value", r#"spec.drivers[1].name: Duplicate value: "a""#],
    );
    check(
        version,
        "CSIDriver",
        r#"{"spec":{"volumeLifecycleModes":["X"],"tokenRequests":[{"audience":"a","expirationSeconds":5}]}}"#,
        &[
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
            r#"spec.volumeLifecycleModes: Unsupported value: "X": supported values: "Persistent", "Ephemeral""#,
        ],
    );
    check(
        version,
        "VolumeAttachment",
        r#"{"spec":{"attacher":"a","nodeName":"n","source":{}}}"#,
        &["spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"],
    );
}

#[test]
fn webhooks() {
    let hook = r#"{"webhooks":[{"name":"a.b.c","admissionReviewVersions":["v1"],"sideEffects":"None","clientConfig":{"url":"https://a/b"},"rules":[{"operations":["CREATE"],"apiGroups":["*"],"apiVersions":["v1"],"resources":["pods"]}]}]}"#;
    let check = |part: &str, instead: &str, expect: &[&str]| {
        for name in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
            check("admissionregistration.k8s.io/v1", name, &with(hook, part, instead), expect);
        }
    };
    check("pods", "pods/status", &[]);
    check(
        "a.b.c",
        "a.b",
        &[
            r#"webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots"#,
        ],
    );
    check(
        r#""sideEffects":"None","#,
        "",
        &["webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun"],
    );
    check(
        "https://a/b",
        "http://u@a/b?q#f",
        &[
            r#"webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]"#,
            r#"webhooks[0].clientConfig.url: Invalid value: "u": user information is not permitted in the URL"#,
            r#"webhooks[0].clientConfig.url: Invalid value: "f": fragments are not permitted in the URL"#,
            r#"webhooks[0].clientConfig.url: Invalid value: "q": query parameters are not permitted in the URL"#,
        ],
    );
    check(
        r#"["CREATE"]"#,
        r#"["CREATE","*","X"]"#,
        &[
            r#"webhooks[0].rules[0].operations: Invalid value: ["CREATE","*","X"]: if '*' is present, must not specify other operations"#,
            r#"webhooks[0].rules[0].operations[2]: Unsupported value: "X": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE""#,
        ],
    );
    check(
        r#"["v1"],"sideEffects""#,
        r#"["v2","v2"],"sideEffects""#,
        &[
            r#"webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version"#,
            r#"webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1"#,
        ],
    );
}

#[test]
fn policies() {
    let version = "admissionregistration.k8s.io/v1";
    check(
        version,
        "ValidatingAdmissionPolicy",
        "{}",
        &[
            "spec.matchConstraints: Required value",
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
            "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
        ],
    );
    check(
        version,
        "ValidatingAdmissionPolicyBinding",
        r#"{"spec":{"policyName":"a","paramRef":{},"validationActions":["Warn","Deny"]}}"#,
        &[
            "spec.paramRef: Required value: one of name or selector must be specified",
            "spec.paramRef.parameterNotFoundAction: Required value",
            r#"spec.validationActions: Invalid value: ["Warn","Deny"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"#,
        ],
    );
}

#[test]
fn aggregated_apis() {
    check(
        "apiregistration.k8s.io/v1",
        "APIService",
        r#"{"metadata":{"name":"v1.b"},"spec":{"group":"a","version":"v1","groupPriorityMinimum":0,"versionPriority":5}}"#,
        &[
            r#"metadata.name: Invalid value: "v1.b": must be `spec.version+"."+spec.group`: "v1.a""#,
            "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
        ],
    );
}

#[test]
fn autoscalers() {
    let scaler = r#"{"apiVersion":"autoscaling/v2","spec":{"maxReplicas":3,"scaleTargetRef":{"kind":"Deployment","name":"d","apiVersion":"apps/v1"}}}"#;
    let check = |part: &str, instead: &str, expect: &[&str]| {
        check("autoscaling/v2", "HorizontalPodAutoscaler", &with(scaler, part, instead), expect);
    };
    check(r#""d""#, r#""e""#, &[]);
    check(
        "3",
        r#"0,"minReplicas":2"#,
        &[
            "spec.maxReplicas: Required value: must be set and greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ],
    );
    check(
        "apps/v1",
        "v1",
        &[r#"spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group"#],
    );
    check(
        "3",
        r#"3,"metrics":[{"type":"Pods","pods":{"metric":{"name":""},"target":{"type":"X"}}}]"#,
        &[
            "spec.metrics[0].pods.metric.name: Required value: must specify a metric name",
            r#"spec.metrics[0].pods.target.type: Invalid value: "X": must be either Utilization, Value, or AverageValue"#,
            "spec.metrics[0].pods.target.averageValue: Required value: must specify a positive target averageValue",
        ],
    );
    super::validate(
        super::kind("autoscaling/v1", "HorizontalPodAutoscaler"),
        &with(&with(scaler, "autoscaling/v2", "autoscaling/v1"), "3", r#"3,"targetCPUUtilizationPercentage":-5"#),
        None,
        "",
        &["spec.metrics[0].resource.target.averageUtilization: Invalid value: -5: must be greater than 0"],
    );
}

#[test]
fn certificate_requests() {
    let request = |status: &str| {
        format!(r#"{{"spec":{{"request":"","signerName":"a.b/c","usages":["signing"]}},"status":{status}}}"#)
    };
    let version = "certificates.k8s.io/v1";
    check(
        version,
        "CertificateSigningRequest",
        r#"{"spec":{"request":"","signerName":"a","usages":["signing","signing"],"expirationSeconds":5}}"#,
        &[
            r#"spec.usages[1]: Duplicate value: "signing""#,
            r#"spec.signerName: Invalid value: "a": must be a fully qualified domain and path of the form 'example.com/signer-name'"#,
            "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)",
        ],
    );
    let condition = |kind: &str, status: &str| format!(r#"{{"type":"{kind}","status":"{status}"}}"#);
    let of = |conditions: &[String]| request(&format!(r#"{{"conditions":[{}]}}"#, conditions.join(",")));
    let info = kind(version, "CertificateSigningRequest");
    validate(info, &of(&[condition("Approved", "True")]), Some(&request("{}")), "approval", &[]);
    validate(
        info,
        &of(&[condition("Approved", "True")]),
        Some(&request("{}")),
        "status",
        &[r#"status.conditions: Forbidden: updates may not add a condition of type "Approved""#],
    );
    validate(
        info,
        &of(&[condition("Approved", "False"), condition("Denied", "True")]),
        Some(&request("{}")),
        "approval",
        &[
            r#"status.conditions[0].status: Unsupported value: "False": supported values: "True""#,
            r#"status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive"#,
        ],
    );
}
