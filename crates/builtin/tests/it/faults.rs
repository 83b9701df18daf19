//! Bad bodies, one test a fault: each is refused with upstream's Status, its reason and its causes, and nothing is made.

use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::User;
use corten_apiserver::http::{Api, body};

use crate::protobuf::{envelope, field};
use crate::published::server;

const CONFIG_MAPS: &str = "/api/v1/namespaces/n/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/n/deployments";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// An answer: its code, its object, its warnings.
struct Answer {
    code: u16,
    value: Value,
    warnings: Vec<String>,
}

async fn post(api: &Arc<Api>, path: &str, media_type: &str, bytes: impl Into<Vec<u8>>) -> Answer {
    let request = http::Request::post(path).header("content-type", media_type);
    let request = request.body(body::full(bytes.into())).expect("a request");
    let response = api.call(request, Arc::new(User::default())).await;
    let code = response.status().as_u16();
    let texts = response.headers().get_all("warning").iter();
    let warnings = texts.map(|text| text.to_str().expect("text").to_owned()).collect();
    let bytes = body::collect(response).await.expect("whole");
    Answer { code, value: json::parse(&bytes).expect("JSON").value, warnings }
}

/// Nothing was made under the path.
async fn nothing_at(api: &Arc<Api>, path: &str) {
    let request = http::Request::get(path).body(body::full("")).expect("a request");
    let response = api.call(request, Arc::new(User::default())).await;
    let list = json::parse(&body::collect(response).await.expect("whole")).expect("JSON").value;
    assert_eq!(list.get("items").and_then(Value::as_array).map(<[Value]>::len), Some(0), "{path}");
}

/// The refusal is a Status with this code, reason and message, and nothing was made.
async fn refused(path: &str, media_type: &str, bytes: impl Into<Vec<u8>>, code: u16, reason: &str, message: &str) {
    let api = server();
    let answer = post(&api, path, media_type, bytes).await;
    let status = &answer.value;
    assert_eq!((status.str_at(&["kind"]), status.str_at(&["status"])), ("Status", "Failure"), "{status:?}");
    assert_eq!((answer.code, status.str_at(&["reason"])), (code, reason), "{status:?}");
    assert_eq!(status.str_at(&["message"]), message);
    nothing_at(&api, path.split('?').next().expect("a path")).await;
}

fn unrecognized(kind: &str, why: &str, summary: &str) -> String {
    format!("the object provided is unrecognized (must be of type {kind}): {why} ({summary})")
}

#[tokio::test]
async fn malformed_json() {
    let text = r#"{"kind":"ConfigMap""#;
    let why = "couldn't get version/kind; json parse error: unexpected end of JSON input";
    refused(CONFIG_MAPS, JSON, text, 400, "BadRequest", &unrecognized("ConfigMap", why, text)).await;
}

#[tokio::test]
async fn malformed_yaml() {
    let text = "a: [";
    let api = server();
    let answer = post(&api, CONFIG_MAPS, YAML, text).await;
    assert_eq!((answer.code, answer.value.str_at(&["reason"])), (400, "BadRequest"), "{:?}", answer.value);
    let message = answer.value.str_at(&["message"]);
    assert!(message.contains("): yaml: line ") && message.ends_with("(613a205b)"), "{message}");
    nothing_at(&api, CONFIG_MAPS).await;
}

#[tokio::test]
async fn malformed_protobuf() {
    let whole = envelope("ConfigMap", &field(1, &field(1, b"a")));
    for (bytes, why) in [
        (b"no protobuf".to_vec(), "expected prefix"),
        (whole[..whole.len() - 1].to_vec(), "unexpected EOF"),
        (envelope("ConfigMap", &field(1, &field(1, b"\xff"))), "invalid UTF-8"),
        (envelope("ConfigMap", &[0x0a]), "unexpected EOF"),
    ] {
        let api = server();
        let answer = post(&api, CONFIG_MAPS, PROTOBUF, bytes).await;
        assert_eq!((answer.code, answer.value.str_at(&["reason"])), (400, "BadRequest"), "{:?}", answer.value);
        assert!(answer.value.str_at(&["message"]).contains(why), "{:?}", answer.value);
        nothing_at(&api, CONFIG_MAPS).await;
    }
}

const UNKNOWN: &str = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","nam":"b"},"dat":{}}"#;
const DUPLICATE: &str = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"k":"1","k":"2"}}"#;

/// What the three ways of validating fields make of a body.
async fn fields(text: &str, faults: &[&str]) {
    let strict = format!(
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: {}",
        faults.join(", ")
    );
    refused(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), JSON, text, 400, "BadRequest", &strict).await;
    let warned = post(&server(), CONFIG_MAPS, JSON, text).await;
    let expected: Vec<String> = faults.iter().map(|fault| format!("299 - {fault:?}")).collect();
    assert_eq!((warned.code, warned.warnings), (201, expected));
    let ignored = post(&server(), &format!("{CONFIG_MAPS}?fieldValidation=Ignore"), JSON, text).await;
    assert_eq!((ignored.code, ignored.warnings), (201, Vec::new()));
    assert!(ignored.value.at(&["metadata", "nam"]).is_none() && ignored.value.get("dat").is_none());
}

#[tokio::test]
async fn unknown_fields() {
    fields(UNKNOWN, &["unknown field \"metadata.nam\"", "unknown field \"dat\""]).await;
}

#[tokio::test]
async fn duplicate_fields() {
    fields(DUPLICATE, &["duplicate field \"data.k\""]).await;
}

#[tokio::test]
async fn wrong_types() {
    let text = r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"a"},"spec":{"replicas":"two"}}"#;
    let message = "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go \
                   struct field DeploymentSpec.spec.replicas of type int32";
    refused(DEPLOYMENTS, JSON, text, 400, "BadRequest", message).await;
}

#[tokio::test]
async fn over_long_names() {
    let name = "a".repeat(254);
    let text = format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}"}}}}"#);
    let why = "must be no more than 253 characters";
    let message = format!("ConfigMap \"{name}\" is invalid: metadata.name: Invalid value: \"{name}\": {why}");
    refused(CONFIG_MAPS, JSON, text.clone(), 422, "Invalid", &message).await;
    let answer = post(&server(), CONFIG_MAPS, JSON, text).await;
    let causes = answer.value.at(&["details", "causes"]).and_then(Value::as_array).expect("causes");
    assert_eq!(causes.len(), 1);
    assert_eq!((causes[0].str_at(&["reason"]), causes[0].str_at(&["field"])), ("FieldValueInvalid", "metadata.name"));
    let longest = post(&server(), CONFIG_MAPS, JSON, UNKNOWN.replace("\"a\"", &format!("{:?}", "a".repeat(253)))).await;
    assert_eq!(longest.code, 201);
}

#[tokio::test]
async fn bodies_over_3_mib() {
    const LIMIT: usize = 3 * 1024 * 1024;
    let padded = |bytes: usize| {
        let mut text = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#.to_owned();
        text.push_str(&" ".repeat(bytes - text.len()));
        text
    };
    let message = "Request entity is too large: limit is 3145728";
    refused(CONFIG_MAPS, JSON, padded(LIMIT + 1), 413, "RequestEntityTooLarge", message).await;
    assert_eq!(post(&server(), CONFIG_MAPS, JSON, padded(LIMIT)).await.code, 201);
}
