//! Replication controllers.

use corten_apimachinery::field::FieldErrors;
use corten_apimachinery::kind::Validation;

use super::{At, pod_spec};

pub(crate) fn validate(validation: Validation<'_>, errors: &mut FieldErrors) {
    let controller = At::root(validation.object);
    if validation.subresource == "status" {
        status(&controller.object_or_empty("status"), errors);
        return;
    }
    let spec = controller.object_or_empty("spec");
    spec.nonnegative("minReadySeconds", errors);
    if spec.entries("selector").count() == 0 {
        errors.required(&spec.path("selector"), "");
    }
    if !spec.given("replicas") {
        errors.required(&spec.path("replicas"), "");
    }
    spec.nonnegative("replicas", errors);
    let Some(template) = spec.object("template") else {
        errors.required(&spec.path("template"), "");
        return;
    };
    let metadata = template.object_or_empty("metadata");
    let labels = metadata.object_or_empty("labels");
    if spec.entries("selector").any(|(key, value)| labels.map.get(key) != Some(value)) {
        let detail = "`selector` does not match template `labels`";
        errors.invalid(&labels.path, metadata.value("labels"), detail);
    }
    pod_spec::template(&template, errors);
    let pod = template.object_or_empty("spec");
    let policy = pod.text("restartPolicy");
    if policy != "Always" {
        errors.not_supported(&pod.path("restartPolicy"), policy, &["Always"]);
    }
    if pod.given("activeDeadlineSeconds") {
        let detail = "activeDeadlineSeconds in ReplicationController is not Supported";
        errors.forbidden(&pod.path("activeDeadlineSeconds"), detail);
    }
}

fn status(at: &At<'_>, errors: &mut FieldErrors) {
    let counts = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    counts.iter().for_each(|field| at.nonnegative(field, errors));
    let count = |field: &str| at.int(field).unwrap_or_default();
    for field in &counts[1..4] {
        if count(field) > count("replicas") {
            errors.invalid(&at.path(field), count(field), "cannot be greater than status.replicas");
        }
    }
    if count("availableReplicas") > count("readyReplicas") {
        let detail = "cannot be greater than readyReplicas";
        errors.invalid(&at.path("availableReplicas"), count("availableReplicas"), detail);
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;

    fn check(subresource: &str, object: &Value, expect: &[&str]) {
        let mut errors = FieldErrors::default();
        validate(Validation { object, old: None, subresource }, &mut errors);
        assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn controllers() {
        let template = |policy: &str| {
            value!({"metadata": {"labels": {"a": "b"}}, "spec": {
                "containers": [{
                    "name": "c", "image": "i", "resources": {}, "terminationMessagePolicy": "File",
                    "imagePullPolicy": "Always"
                }],
                "restartPolicy": policy, "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst"
            }})
        };
        check("", &value!({"spec": {"replicas": 1, "selector": {"a": "b"}, "template": (template("Always"))}}), &[]);
        check(
            "",
            &value!({"spec": {"replicas": (-1), "selector": {"a": "c"}, "template": (template("Never"))}}),
            &[
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                r#"spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`"#,
                r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#,
            ],
        );
        check(
            "status",
            &value!({"status": {"replicas": 1, "readyReplicas": 2}}),
            &["status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"],
        );
    }
}
