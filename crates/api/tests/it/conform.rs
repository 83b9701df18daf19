//! Bodies as a real API server took or refused them: texts and forms were recorded from kube-apiserver 1.36.3.

use corten_apimachinery::json;
use corten_apimachinery::schema::{Conformed, ObjectSchema as _};

fn conform(api_version: &str, kind: &str, text: &str) -> Result<Conformed, String> {
    let schema = corten_api::schema(api_version, kind).unwrap();
    schema.conform(json::parse(text.as_bytes()).unwrap().value).map_err(|error| error.to_string())
}

#[track_caller]
fn refused(api_version: &str, kind: &str, text: &str, expect: &str) {
    assert_eq!(conform(api_version, kind, text).unwrap_err(), expect, "{text}");
}

#[track_caller]
fn taken(api_version: &str, kind: &str, text: &str, expect: &str) {
    let conformed = conform(api_version, kind, text).unwrap();
    assert_eq!(json::to_string(&conformed.value), expect, "{text}");
    assert_eq!(schema_again(api_version, kind, &conformed), conformed.value, "idempotent: {text}");
}

fn schema_again(api_version: &str, kind: &str, conformed: &Conformed) -> corten_apimachinery::value::Value {
    corten_api::schema(api_version, kind).unwrap().conform(conformed.value.clone()).unwrap().value
}

#[test]
fn wrong_types_are_named_as_go_names_them() {
    let refused = |text: &str, expect: &str| {
        refused("apps/v1", "Deployment", text, &format!("json: cannot unmarshal {expect}"));
    };
    let pod = |spec: &str| format!(r#"{{"spec":{{"template":{{"spec":{spec}}}}}}}"#);
    let container = |container: &str| pod(&format!(r#"{{"containers":[{container}]}}"#));

    refused(r#"{"spec":{"replicas":"3"}}"#, "string into Go struct field DeploymentSpec.spec.replicas of type int32");
    refused(
        r#"{"spec":{"replicas":3.5}}"#,
        "number 3.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    refused(
        r#"{"spec":{"replicas":3.0}}"#,
        "number 3.0 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    refused(
        r#"{"spec":{"replicas":99999999999}}"#,
        "number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    refused(r#"{"spec":{"replicas":[1]}}"#, "array into Go struct field DeploymentSpec.spec.replicas of type int32");
    refused(r#"{"spec":{"paused":"yes"}}"#, "string into Go struct field DeploymentSpec.spec.paused of type bool");
    refused(
        r#"{"spec":{"template":"x"}}"#,
        "string into Go struct field DeploymentSpec.spec.template of type v1.PodTemplateSpec",
    );
    refused(r#"{"spec":[]}"#, "array into Go struct field Deployment.spec of type v1.DeploymentSpec");
    refused(r#"[]"#, "array into Go value of type v1.Deployment");
    refused(
        &container(r#"{"name":1}"#),
        "number into Go struct field Container.spec.template.spec.containers.name of type string",
    );
    refused(
        &pod(r#"{"containers":{"name":1}}"#),
        "object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
    );
    refused(
        r#"{"spec":{"selector":{"matchLabels":{"a":1}}}}"#,
        "number into Go struct field LabelSelector.spec.selector.matchLabels of type string",
    );
    refused(
        r#"{"spec":{"selector":{"matchLabels":"a"}}}"#,
        "string into Go struct field LabelSelector.spec.selector.matchLabels of type map[string]string",
    );
    refused(
        &container(r#"{"resources":{"limits":[]}}"#),
        "array into Go struct field ResourceRequirements.spec.template.spec.containers.resources.limits of type v1.ResourceList",
    );
    refused(
        &container(r#"{"livenessProbe":{"httpGet":{"port":true}}}"#),
        "bool into Go struct field HTTPGetAction.spec.template.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
    );
    refused(
        &container(r#"{"livenessProbe":{"httpGet":{"port":1.5}}}"#),
        "number 1.5 into Go struct field HTTPGetAction.spec.template.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
    );
    refused(
        &pod(r#"{"volumes":[{"hostPath":{"path":3}}]}"#),
        "number into Go struct field HostPathVolumeSource.spec.template.spec.volumes.VolumeSource.hostPath.path of type string",
    );
    refused(
        r#"{"metadata":{"creationTimestamp":1}}"#,
        "number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
    );
}

#[test]
fn types_with_a_decoder_of_their_own_speak_for_themselves() {
    let quantity = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    let limits = |cpu: &str| format!(r#"{{"spec":{{"containers":[{{"resources":{{"limits":{{"cpu":{cpu}}}}}}}]}}}}"#);
    refused("v1", "Pod", &limits("\"abc\""), quantity);
    refused("v1", "Pod", &limits("true"), quantity);
    refused(
        "v1",
        "Pod",
        r#"{"metadata":{"creationTimestamp":"x"}}"#,
        r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
    );
    refused(
        "coordination.k8s.io/v1",
        "Lease",
        r#"{"spec":{"renewTime":"2020-01-01T00:00:00Z"}}"#,
        r#"parsing time "2020-01-01T00:00:00Z" as "2006-01-02T15:04:05.000000Z07:00": cannot parse "Z" as ".000000""#,
    );
    refused("v1", "Secret", r#"{"data":{"a":"***"}}"#, "illegal base64 data at input byte 0");
    refused(
        "v1",
        "Secret",
        r#"{"data":{"a":1}}"#,
        "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
    );
    let items = |items: &str| format!(r#"{{"spec":{{"versions":[{{"schema":{{"openAPIV3Schema":{items}}}}}]}}}}"#);
    refused(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        &items(r#"{"additionalProperties":3}"#),
        "boolean or JSON schema expected",
    );
    refused(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        &items(r#"{"properties":{"a":{"type":3}}}"#),
        "json: cannot unmarshal number into Go struct field \
         JSONSchemaProps.spec.versions.schema.openAPIV3Schema.properties.type of type string",
    );
}

#[test]
fn unknown_fields_are_listed_in_the_order_of_the_text() {
    let text = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"foo":1,"template":{"bar":2,
        "spec":{"zed":{"q":1},"containers":[{"name":"c","ab":1,"Image":"x","livenessProbe":{"httpget":{}}}]}}},"bogus":1}"#;
    let conformed = conform("apps/v1", "Deployment", text).unwrap();
    assert_eq!(
        conformed.unknown,
        [
            r#"unknown field "spec.foo""#,
            r#"unknown field "spec.template.bar""#,
            r#"unknown field "spec.template.spec.zed""#,
            r#"unknown field "spec.template.spec.containers[0].ab""#,
            r#"unknown field "spec.template.spec.containers[0].Image""#,
            r#"unknown field "spec.template.spec.containers[0].livenessProbe.httpget""#,
            r#"unknown field "bogus""#,
        ]
    );
    assert!(conformed.value.at(&["spec", "foo"]).is_none());
}

#[test]
fn objects_take_the_form_that_go_writes() {
    taken(
        "v1",
        "Pod",
        r#"{"spec":{"containers":[{"name":"c","args":[],"env":null,"resources":{"limits":{"memory":"0.5Gi","cpu":0.5}}}, null]},
            "metadata":{"annotations":{"z":"1","a":null},"labels":{},"deletionTimestamp":null,
            "creationTimestamp":"2020-01-01T02:00:00.5+02:00","name":"a"},"apiVersion":"v1","kind":"Pod"}"#,
        concat!(
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","creationTimestamp":"2020-01-01T00:00:00Z","#,
            r#""annotations":{"a":"","z":"1"}},"spec":{"containers":[{"name":"c","resources":{"limits":{"cpu":"500m","#,
            r#""memory":"512Mi"}}},{"name":"","resources":{}}]},"status":{}}"#
        ),
    );
    taken("rbac.authorization.k8s.io/v1", "Role", r#"{"rules":[]}"#, r#"{"metadata":{},"rules":null}"#);
    taken("v1", "Secret", r#"{"data":{"b":"","a":[90,91]}}"#, r#"{"metadata":{},"data":{"a":"Wls=","b":""}}"#);
    taken(
        "apps/v1",
        "Deployment",
        "{}",
        r#"{"metadata":{},"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}"#,
    );
    taken(
        "coordination.k8s.io/v1",
        "Lease",
        r#"{"spec":{"renewTime":"2020-01-01T00:00:00.123456+02:00"}}"#,
        r#"{"metadata":{},"spec":{"renewTime":"2019-12-31T22:00:00.123456Z"}}"#,
    );
}
