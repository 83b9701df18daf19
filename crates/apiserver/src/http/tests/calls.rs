//! What a client sees of verbs, representations, refusals, discovery and watches.

use std::time::Duration;

use corten_apimachinery::value::Value;
use http_body_util::BodyExt as _;

use super::{Answer, ask, send, server, with};
use crate::http::pipeline::RequestLimits;

const WIDGETS: &str = "/apis/test.corten.dev/v1/namespaces/n/widgets";
const WIDGET: &str =
    r#"{"kind":"Widget","apiVersion":"test.corten.dev/v1","metadata":{"name":"a"},"spec":{"color":"red"}}"#;

fn named(name: &str) -> String {
    WIDGET.replace("\"a\"", &format!("{name:?}"))
}

#[tokio::test]
async fn the_life_of_an_object() {
    let (api, _bench) = server();
    let created = ask(&api, &format!("POST {WIDGETS}"), &[], WIDGET).await;
    assert_eq!(created.code, 201, "{}", created.text);
    assert_eq!(created.header("content-type"), "application/json");
    assert_eq!(created.header("cache-control"), "no-cache, private");
    assert!(!created.header("audit-id").is_empty());
    let created = created.value();
    assert_eq!(created.str_at(&["metadata", "namespace"]), "n");
    let revision: u64 = created.str_at(&["metadata", "resourceVersion"]).parse().unwrap();
    assert!(revision > 0);

    let again = ask(&api, &format!("POST {WIDGETS}"), &[], WIDGET).await;
    assert_eq!(again.code, 409);
    assert_eq!(again.value().str_at(&["message"]), "widgets.test.corten.dev \"a\" already exists");

    let got = ask(&api, &format!("GET {WIDGETS}/a"), &[], "").await;
    assert_eq!((got.code, got.value()), (200, created.clone()));
    let yaml = ask(&api, &format!("GET {WIDGETS}/a"), &[("accept", "application/yaml")], "").await;
    assert!(yaml.text.starts_with("apiVersion: test.corten.dev/v1\nkind: Widget\n"), "{}", yaml.text);
    let pretty = ask(&api, &format!("GET {WIDGETS}/a?pretty=true"), &[], "").await;
    assert!(pretty.text.starts_with("{\n  \"kind\": \"Widget\",\n"), "{}", pretty.text);
    assert_eq!(pretty.value(), created);

    let yaml = "metadata: {name: a}\nspec: {color: blue}\n";
    let updated = ask(&api, &format!("PUT {WIDGETS}/a"), &[("content-type", "application/yaml")], yaml).await;
    assert_eq!(updated.code, 200, "{}", updated.text);
    assert_eq!(updated.value().str_at(&["spec", "color"]), "blue");

    let merge = [("content-type", "application/merge-patch+json")];
    let patched = ask(&api, &format!("PATCH {WIDGETS}/a"), &merge, r#"{"spec":{"color":"green"}}"#).await;
    assert_eq!((patched.code, patched.value().str_at(&["spec", "color"])), (200, "green"), "{}", patched.text);
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let refused = ask(&api, &format!("PATCH {WIDGETS}/a"), &strategic, "{}").await;
    assert_eq!(refused.code, 415, "{}", refused.text);
    assert_eq!(
        refused.value().str_at(&["message"]),
        "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    );

    let deleted = ask(&api, &format!("DELETE {WIDGETS}/a?propagationPolicy=Background"), &[], "").await;
    assert_eq!((deleted.code, deleted.value().str_at(&["status"])), (200, "Success"), "{}", deleted.text);
    let gone = ask(&api, &format!("GET {WIDGETS}/a"), &[], "").await;
    assert_eq!(gone.code, 404);
    assert_eq!(gone.value().str_at(&["message"]), "widgets.test.corten.dev \"a\" not found");
}

#[tokio::test]
async fn lists_pages_and_collections() {
    let (api, _bench) = server();
    for name in ["a", "b", "c"] {
        assert_eq!(ask(&api, &format!("POST {WIDGETS}"), &[], &named(name)).await.code, 201);
    }
    let list = ask(&api, "GET /apis/test.corten.dev/v1/widgets", &[], "").await.value();
    assert_eq!((list.str_at(&["kind"]), list.str_at(&["apiVersion"])), ("WidgetList", "test.corten.dev/v1"));
    let names = |list: &Value| -> Vec<String> {
        let items = list.get("items").and_then(Value::as_array).unwrap();
        items.iter().map(|item| item.str_at(&["metadata", "name"]).to_owned()).collect()
    };
    assert_eq!(names(&list), ["a", "b", "c"]);
    let item = &list.get("items").and_then(Value::as_array).unwrap()[0];
    assert_eq!(item.str_at(&["kind"]), "Widget", "custom resources keep their type in lists");
    assert!(!item.str_at(&["metadata", "resourceVersion"]).is_empty());

    let page = ask(&api, &format!("GET {WIDGETS}?limit=2"), &[], "").await.value();
    assert_eq!(names(&page), ["a", "b"]);
    assert_eq!(page.i64_at(&["metadata", "remainingItemCount"]), Some(1));
    let token = page.str_at(&["metadata", "continue"]);
    let rest = ask(&api, &format!("GET {WIDGETS}?limit=2&continue={token}"), &[], "").await.value();
    assert_eq!(names(&rest), ["c"]);

    let one = ask(&api, &format!("GET {WIDGETS}?fieldSelector=metadata.name%3Db"), &[], "").await.value();
    assert_eq!(names(&one), ["b"]);
    let gone = ask(&api, &format!("DELETE {WIDGETS}"), &[], "").await;
    assert_eq!(gone.code, 200, "{}", gone.text);
    assert_eq!(names(&ask(&api, &format!("GET {WIDGETS}"), &[], "").await.value()), Vec::<String>::new());
}

#[tokio::test]
async fn a_large_list_is_streamed_whole() {
    let (api, _bench) = server();
    let color = "x".repeat(2_000);
    for index in 0..200 {
        let body = named(&format!("w{index:03}")).replace("red", &color);
        assert_eq!(ask(&api, &format!("POST {WIDGETS}"), &[], &body).await.code, 201);
    }
    let plain = ask(&api, &format!("GET {WIDGETS}"), &[], "").await;
    assert_eq!(plain.header("content-length"), "");
    assert_eq!(plain.value().get("items").and_then(Value::as_array).unwrap().len(), 200);
    let response = send(&api, &format!("GET {WIDGETS}"), &[("accept-encoding", "gzip")], "").await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let packed = response.into_body().collect().await.unwrap().to_bytes();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed.as_ref()), &mut text).unwrap();
    assert_eq!(text, plain.text);
}

#[tokio::test]
async fn tables_and_metadata() {
    let (api, _bench) = server();
    ask(&api, &format!("POST {WIDGETS}"), &[], WIDGET).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")];
    let list = ask(&api, &format!("GET {WIDGETS}"), &table, "").await.value();
    assert_eq!((list.str_at(&["kind"]), list.str_at(&["apiVersion"])), ("Table", "meta.k8s.io/v1"));
    let row = &list.get("rows").and_then(Value::as_array).unwrap()[0];
    assert_eq!(row.get("cells").and_then(Value::as_array).unwrap()[0], Value::from("a"));
    assert_eq!(row.str_at(&["object", "kind"]), "PartialObjectMetadata");
    let none = ask(&api, &format!("GET {WIDGETS}/a?includeObject=None"), &table, "").await.value();
    assert_eq!(none.get("rows").and_then(Value::as_array).unwrap()[0].get("object"), Some(&Value::Null));
    let wrong = ask(&api, &format!("GET {WIDGETS}?includeObject=Some"), &table, "").await;
    assert_eq!(wrong.code, 400);
    assert_eq!(
        wrong.value().str_at(&["message"]),
        "Unable to convert to Table as requested: includeObject: Invalid value: \"Some\": must be 'Metadata', \
         'Object', 'None', or empty"
    );

    let partial = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let list = ask(&api, &format!("GET {WIDGETS}"), &partial, "").await.value();
    assert_eq!(list.str_at(&["kind"]), "PartialObjectMetadataList");
    let one = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let object = ask(&api, &format!("GET {WIDGETS}/a"), &one, "").await.value();
    assert_eq!((object.str_at(&["kind"]), object.str_at(&["metadata", "name"])), ("PartialObjectMetadata", "a"));
    assert_eq!(object.get("spec"), None);
    assert_eq!(ask(&api, &format!("GET {WIDGETS}"), &one, "").await.code, 406);
}

#[tokio::test]
async fn refusals() {
    let (api, _bench) = server();
    let check = async |line: &str, headers: &[(&str, &str)], body: &str, code: u16, message: &str| {
        let answer = ask(&api, line, headers, body).await;
        let seen = if answer.text.starts_with('{') {
            answer.value().str_at(&["message"]).to_owned()
        } else {
            answer.text.trim_end().to_owned()
        };
        assert_eq!((answer.code, seen.as_str()), (code, message), "{line}");
    };
    let unknown = "the server could not find the requested resource";
    let method = "the server does not allow this method on the requested resource";
    check("GET /apis/test.corten.dev/v1/sprockets", &[], "", 404, unknown).await;
    check("GET /apis/none.corten.dev/v1/sprockets", &[], "", 404, "404 page not found").await;
    check("GET /nothing", &[], "", 404, "404 page not found").await;
    check("GET /apis/test.corten.dev/v1/namespaces/n/gadgets", &[], "", 404, unknown).await;
    check("GET /apis/test.corten.dev/v1/widgets/a", &[], "", 404, unknown).await;
    check("POST /apis/test.corten.dev/v1/widgets", &[], WIDGET, 405, method).await;
    check(&format!("POST {WIDGETS}/a"), &[], WIDGET, 405, method).await;
    check(&format!("PUT {WIDGETS}"), &[], WIDGET, 405, method).await;
    check("GET /apis/test.corten.dev/v9", &[], "", 404, unknown).await;
    check(
        &format!("GET {WIDGETS}"),
        &[("impersonate-group", "g")],
        "",
        400,
        "requested &user.DefaultInfo{Name:\"\", UID:\"\", Groups:[]string{\"g\"}, Extra:map[string][]string(nil)} \
         without impersonating a user name",
    )
    .await;
    check(&format!("GET {WIDGETS}/a/none"), &[], "", 404, unknown).await;
    check(&format!("DELETE {WIDGETS}/a/status"), &[], "", 405, method).await;
    check(
        &format!("POST {WIDGETS}"),
        &[("content-type", "application/cbor")],
        WIDGET,
        415,
        "the body of the request was in an unknown format - accepted media types include: application/json, \
         application/yaml",
    )
    .await;
    check(
        &format!("GET {WIDGETS}"),
        &[("accept", "application/vnd.kubernetes.protobuf")],
        "",
        406,
        "only the following media types are accepted: application/json, application/yaml",
    )
    .await;
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(3 * 1024 * 1024));
    check(&format!("POST {WIDGETS}"), &[], &large, 413, "Request entity is too large: limit is 3145728").await;
    check(
        "GET /apis/test.corten.dev/v1/namespaces/secret/widgets",
        &[],
        "",
        403,
        "widgets.test.corten.dev is forbidden: User \"tester\" cannot list resource \"widgets\" in API group \
         \"test.corten.dev\" in the namespace \"secret\"",
    )
    .await;
}

#[tokio::test]
async fn unknown_fields_warn_or_refuse() {
    let (api, _bench) = server();
    let body = WIDGET.replace("\"color\"", "\"colour\"");
    let warned = ask(&api, &format!("POST {WIDGETS}"), &[], &body).await;
    assert_eq!((warned.code, warned.header("warning")), (201, r#"299 - "unknown field \"spec.colour\"""#));
    let strict =
        ask(&api, &format!("POST {WIDGETS}?fieldValidation=Strict"), &[], &body.replace("\"a\"", "\"b\"")).await;
    assert_eq!(strict.code, 400);
    let message = strict.value();
    assert!(
        message.str_at(&["message"]).ends_with("strict decoding error: unknown field \"spec.colour\""),
        "{message:?}"
    );
}

/// Reads frames of a watch until it holds so many lines.
async fn lines(response: &mut crate::http::body::Response, count: usize) -> Vec<String> {
    let mut text = String::new();
    while text.lines().count() < count || !text.ends_with('\n') {
        let frame = tokio::time::timeout(Duration::from_secs(5), response.body_mut().frame()).await;
        let Some(frame) = frame.unwrap_or_else(|_| panic!("only {text:?} came")) else { break };
        text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
    }
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn watches_stream_and_end_with_a_bookmark() {
    let (api, bench) = server();
    ask(&api, &format!("POST {WIDGETS}"), &[], &named("a")).await;
    let mut watch = send(&api, &format!("GET {WIDGETS}?watch=1&allowWatchBookmarks=true"), &[], "").await;
    assert_eq!(watch.status(), 200);
    let first = lines(&mut watch, 1).await;
    assert!(first[0].starts_with(r#"{"type":"ADDED","object":{"kind":"Widget","#), "{first:?}");
    ask(&api, &format!("POST {WIDGETS}"), &[], &named("b")).await;
    ask(&api, &format!("DELETE {WIDGETS}/b"), &[], "").await;
    let mut seen = Vec::new();
    while !seen.iter().any(|line: &String| line.contains("DELETED")) {
        seen.extend(lines(&mut watch, 1).await);
    }
    let types: Vec<&str> = seen.iter().filter(|line| !line.contains("BOOKMARK")).map(|line| &line[9..13]).collect();
    assert_eq!(types, ["ADDE", "DELE"], "{seen:?}");
    assert!(api.metrics().print().contains("apiserver_longrunning_requests 1\n"));

    let (rest, _left) = tokio::join!(Answer::of(watch), bench.tasks.stop(Duration::from_secs(5)));
    assert!(
        rest.text
            .trim_end()
            .lines()
            .next_back()
            .unwrap()
            .starts_with(r#"{"type":"BOOKMARK","object":{"kind":"Widget""#),
        "{}",
        rest.text
    );
    assert!(api.metrics().print().contains("apiserver_longrunning_requests 0\n"));
}

#[tokio::test]
async fn a_watch_as_table_sends_its_columns_once() {
    let (api, _bench) = server();
    ask(&api, &format!("POST {WIDGETS}"), &[], &named("a")).await;
    ask(&api, &format!("POST {WIDGETS}"), &[], &named("b")).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let mut watch = send(&api, &format!("GET {WIDGETS}?watch=1"), &table, "").await;
    let seen = lines(&mut watch, 2).await;
    assert!(seen[0].contains(r#""columnDefinitions":[{"name":"Name""#), "{seen:?}");
    assert!(seen[1].contains(r#""columnDefinitions":[],"rows":[{"cells":["b""#), "{seen:?}");
}

#[tokio::test]
async fn discovery() {
    let (api, _bench) = server();
    let legacy = ask(&api, "GET /apis/test.corten.dev/v1", &[], "").await.value();
    assert_eq!((legacy.str_at(&["kind"]), legacy.str_at(&["groupVersion"])), ("APIResourceList", "test.corten.dev/v1"));
    let resources = legacy.get("resources").and_then(Value::as_array).unwrap();
    let names: Vec<&str> = resources.iter().map(|resource| resource.str_at(&["name"])).collect();
    assert_eq!(names, ["gadgets", "gadgets/scale", "gadgets/status", "widgets", "widgets/scale", "widgets/status"]);
    assert_eq!(resources[4].str_at(&["group"]), "autoscaling");

    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let aggregated = ask(&api, "GET /apis", &[("accept", v2)], "").await;
    assert_eq!(aggregated.header("content-type"), v2);
    let etag = aggregated.header("etag").to_owned();
    let value = aggregated.value();
    assert_eq!(value.str_at(&["kind"]), "APIGroupDiscoveryList");
    assert_eq!(
        value.get("items").and_then(Value::as_array).unwrap()[0].str_at(&["metadata", "name"]),
        "test.corten.dev"
    );
    let unchanged = ask(&api, "GET /apis", &[("accept", v2), ("if-none-match", &etag)], "").await;
    assert_eq!((unchanged.code, unchanged.text.as_str()), (304, ""));

    let groups = ask(&api, "GET /apis", &[], "").await.value();
    assert_eq!(
        groups.get("groups").and_then(Value::as_array).unwrap()[0].str_at(&["preferredVersion", "version"]),
        "v1"
    );
    assert_eq!(ask(&api, "GET /apis/test.corten.dev", &[], "").await.value().str_at(&["kind"]), "APIGroup");
    assert_eq!(ask(&api, "GET /apis/none.corten.dev", &[], "").await.code, 404);
    let index = ask(&api, "GET /", &[], "").await.text;
    assert!(index.contains("\"/apis/test.corten.dev/v1\"") && index.contains("\"/readyz/ping\""), "{index}");
    assert_eq!(ask(&api, "GET /version", &[], "").await.value().str_at(&["gitVersion"]), "v1.36.3");
    assert_eq!(ask(&api, "GET /readyz", &[], "").await.text, "ok");
    assert_eq!(ask(&api, "POST /version", &[], "").await.code, 405);
}

#[tokio::test]
async fn limits_and_counts() {
    let limits = RequestLimits { reads_in_flight_max: 0, ..RequestLimits::default() };
    let (api, _bench) = with(limits, Default::default());
    let peer = crate::http::Peer::Network { address: ([127, 0, 0, 1], 1).into(), certificate: Default::default() };
    let request = http::Request::get(WIDGETS).body(crate::http::body::full("")).unwrap();
    let refused = Answer::of(crate::http::Handler::handle(api.clone(), request, peer).await).await;
    assert_eq!((refused.code, refused.header("retry-after")), (429, "1"));
    assert_eq!(ask(&api, &format!("GET {WIDGETS}"), &[], "").await.code, 200, "parts of the process are exempt");
    let metrics = ask(&api, "GET /metrics", &[], "").await.text;
    assert!(metrics.contains(r#"apiserver_request_total{code="429""#), "{metrics}");
    assert!(metrics.contains("apiserver_rejected_requests_total 1\n"), "{metrics}");
}

#[tokio::test]
async fn openapi() {
    let (api, _bench) = server();
    let index = ask(&api, "GET /openapi/v3", &[], "").await.value();
    let url = index.str_at(&["paths", "apis/test.corten.dev/v1", "serverRelativeURL"]).to_owned();
    assert!(url.starts_with("/openapi/v3/apis/test.corten.dev/v1?hash="), "{url}");
    let document = ask(&api, &format!("GET {url}"), &[], "").await;
    assert_eq!(document.header("cache-control"), "public, immutable, max-age=31536000");
    let etag = document.header("etag").to_owned();
    let value = document.value();
    let schema = value.at(&["components", "schemas", "dev.corten.test.v1.Widget"]).unwrap();
    assert_eq!(schema.str_at(&["properties", "spec", "properties", "color", "type"]), "string");
    let gvk = &schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array).unwrap()[0];
    assert_eq!((gvk.str_at(&["group"]), gvk.str_at(&["kind"])), ("test.corten.dev", "Widget"));
    let patch =
        value.at(&["paths", "/apis/test.corten.dev/v1/namespaces/{namespace}/widgets/{name}", "patch"]).unwrap();
    assert_eq!(patch.str_at(&["operationId"]), "patchTestCortenDevV1NamespacedWidget");
    let parameters = patch.get("parameters").and_then(Value::as_array).unwrap();
    assert!(parameters.iter().any(|parameter| parameter.str_at(&["name"]) == "fieldValidation"));

    let known = ask(&api, &format!("GET {url}"), &[("if-none-match", &etag)], "").await;
    assert_eq!((known.code, known.text.as_str()), (304, ""));
    let moved = ask(&api, "GET /openapi/v3/apis/test.corten.dev/v1?hash=OLD", &[], "").await;
    assert_eq!((moved.code, moved.header("location")), (301, url.as_str()));
    assert_eq!(ask(&api, "GET /openapi/v3/apis/none/v1", &[], "").await.code, 404);

    let second = ask(&api, "GET /openapi/v2", &[], "").await.value();
    assert_eq!(second.str_at(&["swagger"]), "2.0");
    assert!(second.at(&["definitions", "dev.corten.test.v1.WidgetList"]).is_some());
}

/// The bytes themselves are read by client-go's own decoder in the tests with clients.
#[tokio::test]
async fn openapi_in_protobuf() {
    let (api, _bench) = server();
    let accept = [("accept", "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")];
    let document = ask(&api, "GET /openapi/v2", &accept, "").await;
    assert_eq!(document.code, 200);
    assert_eq!(document.header("content-type"), "application/com.github.proto-openapi.spec.v2.v1.0+protobuf");
    assert!(document.text.starts_with("\n\x032.0"), "{:?}", document.text.get(..20));
    let etag = document.header("etag").to_owned();
    let known = ask(&api, "GET /openapi/v2", &[accept[0], ("if-none-match", &etag)], "").await;
    assert_eq!((known.code, known.text.as_str()), (304, ""));

    let content = async |path: &str, accept: &str| {
        let answer = ask(&api, &format!("GET {path}"), &[("accept", accept)], "").await;
        (answer.code, answer.header("content-type").to_owned())
    };
    let json = (200, "application/json".to_owned());
    assert_eq!(
        content("/openapi/v2", "application/json, application/com.github.proto-openapi.spec.v2.v1.0+protobuf").await,
        json
    );
    assert_eq!(content("/openapi/v2", "*/*").await, json);
    assert_eq!(content("/openapi/v2", "text/plain").await.0, 406);
    assert_eq!(content("/openapi/v3/apis/test.corten.dev/v1", accept[0].1).await.0, 406);
}
