//! What webhooks are told of requests, and what clients hear of their refusals.

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::{Attributes, Authorizer, Decision};
use corten_apiserver::connect::{Answer, Call, Connector, Connectors, Routes};
use corten_apiserver::health::{Checks, VersionInfo};
use corten_apiserver::http::{Access, Api, ApiConfig, RequestLimits, body};
use corten_stdx::clock::Stopwatch;

use super::*;

const DENIED: &str = "admission webhook \"hook.example.com\" denied the request: not today";

#[tokio::test]
async fn a_no_is_told_as_it_was_said() {
    let bench = Bench::new().await;
    bench.config_map("before").await.expect("nobody is asked");
    bench.validate("/deny", value!({})).await;
    let status = bench.config_map("a").await.expect_err("refused");
    assert_eq!((status.code, status.reason, status.message.as_str()), (403, "Forbidden", DENIED));
    assert_eq!(bench.context.take_warnings(), ["think twice"]);
    let review = &bench.webhook.took("/deny")[0];
    let text = |path: &[&str]| review.str_at(path).to_owned();
    assert_eq!(text(&["apiVersion"]), "admission.k8s.io/v1");
    assert_eq!(text(&["request", "operation"]), "CREATE");
    assert_eq!(text(&["request", "namespace"]), "shop");
    assert_eq!(text(&["request", "userInfo", "username"]), "ann");
    assert_eq!(text(&["request", "object", "data", "k"]), "v");
    assert_eq!(text(&["request", "options", "kind"]), "CreateOptions");
    assert_eq!(review.at(&["request", "oldObject"]), Some(&Value::Null));
    assert_eq!(review.at(&["request", "requestKind"]), review.at(&["request", "kind"]));

    refused(bench.delete("ConfigMap", "before").await, 403, DENIED);
    let review = &bench.webhook.took("/deny")[0];
    assert_eq!(review.at(&["request", "object"]), Some(&Value::Null));
    assert_eq!(review.str_at(&["request", "oldObject", "data", "k"]), "v");
    bench.create("Secret", value!({"metadata": {"name": "a"}})).await.expect("another kind");
    // It cannot keep itself alive.
    bench.delete(VALIDATING, "only").await.expect("nobody is asked about configurations");
    bench.until("gone", || bench.called(VALIDATING) == 0).await;
    bench.delete("ConfigMap", "before").await.expect("nobody is asked any more");
    let counted = bench.metrics.print();
    let line = r#"apiserver_admission_webhook_rejection_count{error_type="no_error",name="hook.example.com",operation="CREATE",rejection_code="403",type="validating"} 1"#;
    assert!(counted.contains(line), "{counted}");
    assert!(counted.contains("apiserver_admission_webhook_admission_duration_seconds_count{"), "{counted}");
    bench.end().await;
}

#[tokio::test]
async fn selectors_choose_namespaces_and_objects() {
    let bench = Bench::new().await;
    let hook = |label: &str, selector: &str, wanted: &str| {
        let mut labels = Map::new();
        labels.insert(label, wanted);
        let rules = of(&["configmaps", "namespaces"], &["CREATE", "UPDATE"]);
        let mut more = value!({"name": (format!("{label}.example.com")), "rules": rules});
        more.object_entry(selector).insert("matchLabels", labels);
        bench.hook("/deny", more)
    };
    bench.configure(VALIDATING, "namespaces", vec![hook("team", "namespaceSelector", "b")]).await;
    bench.config_map("a").await.expect("its namespace is not chosen");
    let namespace = |name: &str, team: &str| value!({"metadata": {"name": name, "labels": {"team": team}}});
    bench.create("Namespace", namespace("other", "a")).await.expect("not chosen");
    let status = bench.create("Namespace", namespace("more", "b")).await.expect_err("a namespace is in itself");
    assert!(status.message.starts_with("admission webhook \"team.example.com\" denied"), "{status}");
    assert_eq!(bench.webhook.took("/deny")[0].str_at(&["request", "namespace"]), "more");

    bench.configure(VALIDATING, "objects", vec![hook("kept", "objectSelector", "yes")]).await;
    let target = bench.target("ConfigMap", "a");
    let label = |value: &mut Value, text: &str| {
        value.object_entry("metadata").object_entry("labels").insert("kept", text);
    };
    bench.update(&target, |value| label(value, "no")).await.expect("neither is chosen");
    refused(
        bench.update(&target, |value| label(value, "yes")).await,
        403,
        "admission webhook \"kept.example.com\" denied the request: not today",
    );
    bench.end().await;
}

#[tokio::test]
async fn conditions_must_all_hold() {
    let bench = Bench::new().await;
    let conditions = value!([
        {"name": "skip", "expression": "object.metadata.name != 'skip-me'"},
        {"name": "who", "expression": "request.userInfo.username == 'ann' && request.operation == 'CREATE'"}
    ]);
    bench.validate("/deny", value!({"matchConditions": conditions})).await;
    bench.config_map("skip-me").await.expect("one does not hold");
    refused(bench.config_map("a").await, 403, DENIED);
    bench.end().await;
}

#[tokio::test]
async fn subresources_are_seen_as_they_are_shown() {
    let bench = Bench::new().await;
    let rules = of(&["deployments/*", "serviceaccounts/token"], &["UPDATE", "CREATE"]);
    bench.validate("/look", value!({"rules": rules})).await;
    let deployment = value!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}
            }
        }
    });
    bench.create("Deployment", deployment).await.expect("allowed");
    bench.webhook.took("/look");
    let of = |subresource: &str| Target { subresource: subresource.into(), ..bench.target("Deployment", "web") };
    let four = |scale: &mut Value| {
        scale.object_entry("spec").insert("replicas", 4);
    };
    bench.update(&of("scale"), four).await.expect("allowed");
    let review = &bench.webhook.took("/look")[0];
    assert_eq!(review.str_at(&["request", "kind", "kind"]), "Scale");
    assert_eq!(review.str_at(&["request", "resource", "resource"]), "deployments");
    assert_eq!(review.str_at(&["request", "subResource"]), "scale");
    let replicas = |of: &str| review.i64_at(&["request", of, "spec", "replicas"]);
    assert_eq!((replicas("oldObject"), replicas("object")), (Some(1), Some(4)));
    let observed = |whole: &mut Value| {
        whole.object_entry("status").insert("observedGeneration", 2);
    };
    bench.update(&of("status"), observed).await.expect("allowed");
    let review = &bench.webhook.took("/look")[0];
    assert_eq!(review.str_at(&["request", "subResource"]), "status");
    assert_eq!(review.i64_at(&["request", "object", "status", "observedGeneration"]), Some(2));
    bench.end().await;
}

struct Everybody;

impl Authorizer for Everybody {
    fn authorize<'a>(&'a self, _attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
        Box::pin(std::future::ready(Decision::Allow))
    }
}

/// Says that it was reached; takes the request itself where it is told to.
struct Reached(bool);

impl Connector for Reached {
    fn raw(&self) -> bool {
        self.0
    }

    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        let text = format!("reached {}", call.target.subresource);
        Box::pin(std::future::ready(Ok(Answer::Response(body::text(200, &text)))))
    }
}

#[tokio::test]
async fn streams_and_creates_of_subresources_are_asked_about() {
    let bench = Bench::new().await;
    let rules = value!([
        {"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec", "pods/attach"]},
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/eviction"]}
    ]);
    bench.validate("/deny", value!({"rules": rules})).await;
    let mut connectors = Connectors::default();
    for (subresource, raw) in [("exec", true), ("attach", true), ("portforward", true), ("eviction", false)] {
        connectors.register("", "pods", subresource, Arc::new(Reached(raw)));
    }
    let api = Api::new(ApiConfig {
        registry: bench.registry.clone(),
        access: Access { authorizers: vec![Arc::new(Everybody)], ..Access::default() },
        connectors,
        routes: Routes::default(),
        checks: Checks::default(),
        version: VersionInfo::default(),
        limits: RequestLimits::default(),
        metrics: bench.metrics.clone(),
        clock: Clock::system(),
        random: Random::seeded(1),
        tasks: bench.tasks.clone(),
    });
    let ask = async |method: &str, rest: &str, sent: &'static str| {
        let uri = format!("/api/v1/namespaces/shop/pods/web/{rest}");
        let request = http::Request::builder().method(method).uri(uri).header("content-type", "application/json");
        let response = api.call(request.body(body::full(sent)).expect("a request"), bench.context.user.clone()).await;
        let code = response.status().as_u16();
        let text = body::collect(response).await.expect("whole");
        (code, String::from_utf8_lossy(&text).into_owned())
    };
    let (code, text) = ask("POST", "exec?command=sh&command=-c&stdin=1&container=c", "").await;
    assert!(code == 403 && text.contains("not today"), "{text}");
    let review = &bench.webhook.took("/deny")[0];
    assert_eq!(review.str_at(&["request", "operation"]), "CONNECT");
    assert_eq!(review.str_at(&["request", "name"]), "web");
    assert_eq!(review.str_at(&["request", "kind", "kind"]), "PodExecOptions");
    assert_eq!(review.at(&["request", "options"]), Some(&Value::Null));
    let options = review.at(&["request", "object"]).expect("options");
    assert_eq!((options.str_at(&["kind"]), options.str_at(&["container"])), ("PodExecOptions", "c"));
    assert_eq!(options.get("command"), Some(&value!(["sh", "-c"])));
    assert_eq!(options.get("stdin"), Some(&Value::Bool(true)));
    assert_eq!(ask("GET", "attach?stdout=1", "").await.0, 403);
    assert_eq!(bench.webhook.took("/deny")[0].str_at(&["request", "kind", "kind"]), "PodAttachOptions");
    assert_eq!(ask("POST", "portforward?ports=80", "").await, (200, "reached portforward".to_owned()));
    let eviction = r#"{"kind":"Eviction","apiVersion":"policy/v1","metadata":{"name":"web"}}"#;
    assert_eq!(ask("POST", "eviction", eviction).await.0, 403);
    let review = &bench.webhook.took("/deny")[0];
    assert_eq!(review.str_at(&["request", "kind", "kind"]), "Eviction");
    assert_eq!(review.str_at(&["request", "kind", "group"]), "policy");
    bench.end().await;
}

#[tokio::test]
async fn a_change_is_in_effect_within_a_tenth_of_a_second() {
    const CHANGES: usize = 21;
    let bench = Bench::new().await;
    let mut took = Vec::new();
    for _ in 0..CHANGES {
        let hook = bench.hook("/deny", value!({}));
        let configuration = value!({"metadata": {"name": "only"}, "webhooks": [hook]});
        bench.create(VALIDATING, configuration).await.expect("stored");
        let since = Stopwatch::start();
        while bench.config_map("a").await.is_ok() {
            bench.delete("ConfigMap", "a").await.expect("nobody is asked yet");
            tokio::task::yield_now().await;
        }
        took.push(since.elapsed());
        bench.delete(VALIDATING, "only").await.expect("deleted");
        let since = Stopwatch::start();
        while bench.config_map("a").await.is_err() {
            tokio::task::yield_now().await;
        }
        took.push(since.elapsed());
        bench.delete("ConfigMap", "a").await.expect("nobody is asked any more");
    }
    took.sort_unstable();
    let median = took[CHANGES];
    println!("a change is in effect after {median:?} at the median, {:?} at the most", took[2 * CHANGES - 1]);
    assert!(median < Duration::from_millis(100), "{took:?}");
    bench.end().await;
}
