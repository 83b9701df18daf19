//! What admission plugins see of requests, and what clients hear of them.

use std::sync::{Arc, Mutex};

use corten_apimachinery::json;
use corten_apimachinery::kind::{GroupVersionKind, Serve, Subresource};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use futures_core::future::BoxFuture;

use super::{ask, over};
use crate::admission::{Admission, AdmissionRequest, Operation, Round};
use crate::connect::{Answer, Call, Connector, Connectors};
use crate::http::body;
use crate::http::pipeline::RequestLimits;
use crate::testing::{Bench, kinds};

const WIDGETS: &str = "/apis/test.corten.dev/v1/namespaces/n/widgets";
const WIDGET: &str = r#"{"metadata":{"name":"a"},"spec":{"color":"red","replicas":1}}"#;

/// Writes down what it sees, warns, and refuses what is `forbidden`.
#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Recorder {
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    fn note(&self, half: &str, request: &AdmissionRequest) {
        let spec = |value: &Value| json::to_string(value.get("spec").unwrap_or(&Value::Null));
        let old = request.old.as_ref().map_or_else(String::new, |old| format!(" was {}", spec(old)));
        self.0.lock().unwrap().push(format!(
            "{half} {} {}/{} {}{old}",
            request.operation.as_str(),
            request.body().kind,
            request.subresource,
            spec(&request.object)
        ));
    }
}

impl Admission for Recorder {
    fn name(&self) -> &'static str {
        "Recorder"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        let half = if request.round == Round::First { "mutate" } else { "again" };
        self.note(half, request);
        Box::pin(std::future::ready(Ok(())))
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        self.note("validate", request);
        request.warnings.push(json::to_string(&request.options_object()));
        let refused = request.name == "forbidden";
        let answer = if refused { Err(Status::bad_request("no")) } else { Ok(()) };
        Box::pin(std::future::ready(answer))
    }
}

/// Paints what has no color, and has all look again; counts its rounds.
struct Painter;

impl Admission for Painter {
    fn name(&self) -> &'static str {
        "Painter"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        let rounds: i64 = request.kept.take("Painter").unwrap_or(0);
        request.kept.put("Painter", rounds + 1);
        let spec = request.object.object_entry("spec");
        if !spec.contains_key("color") {
            spec.insert("color", "white");
            request.again = true;
        }
        spec.insert("replicas", rounds + 1);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Says where it was called.
struct Echo;

impl Connector for Echo {
    fn raw(&self) -> bool {
        true
    }

    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(std::future::ready(Ok(Answer::Response(body::text(200, &call.target.subresource)))))
    }
}

fn bench(plugins: Vec<Arc<dyn Admission>>) -> Bench {
    Bench::admitting(plugins, [kinds::widget(), kinds::gadget(), kinds::scale()])
}

#[tokio::test]
async fn every_operation_is_seen_with_what_was_and_what_was_asked() {
    let recorder = Arc::new(Recorder::default());
    let bench = bench(vec![recorder.clone()]);
    let api = over(&bench, RequestLimits::default(), Connectors::default());
    let created = ask(&api, &format!("POST {WIDGETS}?fieldManager=me&dryRun=All"), &[], WIDGET).await;
    let options = r#"299 - "{\"kind\":\"CreateOptions\",\"apiVersion\":\"meta.k8s.io/v1\",\"dryRun\":[\"All\"],\"fieldManager\":\"me\"}""#;
    assert_eq!((created.code, created.header("warning")), (201, options), "{}", created.text);
    ask(&api, &format!("POST {WIDGETS}"), &[], WIDGET).await;
    recorder.seen();

    let merge = [("content-type", "application/merge-patch+json")];
    let patched = format!("PATCH {WIDGETS}/a?fieldValidation=Strict");
    let patched = ask(&api, &patched, &merge, r#"{"spec":{"replicas":2}}"#).await;
    assert!(patched.header("warning").contains(r#"UpdateOptions"#), "{}", patched.header("warning"));
    assert!(patched.header("warning").contains(r#"\"fieldValidation\":\"Strict\""#), "{}", patched.header("warning"));
    let was = r#"was {"color":"red","replicas":1}"#;
    let is = r#"{"color":"red","replicas":2}"#;
    assert_eq!(
        recorder.seen(),
        [format!("mutate UPDATE Widget/ {is} {was}"), format!("validate UPDATE Widget/ {is} {was}")]
    );

    let scaled = ask(&api, &format!("PATCH {WIDGETS}/a/scale"), &merge, r#"{"spec":{"replicas":5}}"#).await;
    assert_eq!(scaled.code, 200, "{}", scaled.text);
    let scale = r#"Scale/scale {"replicas":5} was {"replicas":2}"#;
    assert_eq!(recorder.seen(), [format!("mutate UPDATE {scale}"), format!("validate UPDATE {scale}")]);

    let deleted = r#"DELETE /apis/test.corten.dev/v1/namespaces/n/widgets/a?propagationPolicy=Background"#;
    let deleted = ask(&api, deleted, &[], "").await;
    assert!(deleted.header("warning").contains(r#"\"propagationPolicy\":\"Background\""#), "{}", deleted.text);
    let was = r#"was {"color":"red","replicas":5}"#;
    assert_eq!(
        recorder.seen(),
        [format!("mutate DELETE Widget/ null {was}"), format!("validate DELETE Widget/ null {was}")]
    );
}

#[tokio::test]
async fn a_plugin_that_changes_something_has_all_look_again_once() {
    let recorder = Arc::new(Recorder::default());
    let bench = bench(vec![recorder.clone(), Arc::new(Painter)]);
    let api = over(&bench, RequestLimits::default(), Connectors::default());
    let created = ask(&api, &format!("POST {WIDGETS}"), &[], r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(created.code, 201, "{}", created.text);
    let [white, both] = [r#"{"replicas":1,"color":"white"}"#, r#"{"replicas":2,"color":"white"}"#];
    let value = |text: &str| json::parse(text.rsplit_once(' ').unwrap().1.as_bytes()).unwrap().value;
    let seen = recorder.seen();
    assert_eq!(seen[0], "mutate CREATE Widget/ null");
    assert!(
        seen[1].starts_with("again CREATE Widget/ ") && seen[2].starts_with("validate CREATE Widget/ "),
        "{seen:?}"
    );
    assert_eq!(
        [value(&seen[1]), value(&seen[2])],
        [white, both].map(|text| json::parse(text.as_bytes()).unwrap().value)
    );
}

#[tokio::test]
async fn streams_are_connects_with_the_options_of_the_query() {
    let recorder = Arc::new(Recorder::default());
    let mut widget = kinds::widget();
    let visit = |name: &str, gvk: GroupVersionKind| Subresource {
        name: name.into(),
        verbs: vec!["get".into()],
        gvk,
        serve: Serve::Handler,
    };
    widget.subresources.push(visit("log", widget.gvk.clone()));
    widget.subresources.push(visit("visit", GroupVersionKind::new("autoscaling", "v1", "Scale")));
    let bench = Bench::admitting(vec![recorder.clone()], [widget, kinds::scale()]);
    let mut connectors = Connectors::default();
    for name in ["log", "visit"] {
        connectors.register("test.corten.dev", "widgets", name, Arc::new(Echo));
    }
    let api = over(&bench, RequestLimits::default(), connectors);
    assert_eq!(ask(&api, &format!("GET {WIDGETS}/a/visit"), &[], "").await.text, "visit");
    assert_eq!(recorder.seen(), ["mutate CONNECT Scale/visit null", "validate CONNECT Scale/visit null"]);
    let refused = ask(&api, &format!("GET {WIDGETS}/forbidden/visit"), &[], "").await;
    assert_eq!((refused.code, refused.header("warning")), (400, r#"299 - "null""#), "{}", refused.text);
    recorder.seen();
    assert_eq!(ask(&api, &format!("GET {WIDGETS}/a/log"), &[], "").await.text, "log");
    assert!(recorder.seen().is_empty(), "a log is read, not connected to");
}
