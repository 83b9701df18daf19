//! How webhooks are reached, and what comes of those that are not.

use std::sync::atomic::Ordering;

use corten_apimachinery::value;
use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::serving::{SERVICE, stranger};
use super::*;
use crate::webhook::caller::CALLS_MAX;
use crate::webhook::hook::Hook;

/// Why creating a config map fails with one webhook, and that it does not fail where failures are ignored.
async fn check(path: &str, client: Option<Value>, more: Value, message: &str) {
    let bench = Bench::new().await;
    let hook = |policy: &str| {
        let mut hook = bench.hook(path, more.clone());
        hook.as_object_mut().expect("an object").insert("failurePolicy", policy);
        if let Some(client) = &client {
            hook.as_object_mut().expect("an object").insert("clientConfig", client.clone());
        }
        hook
    };
    bench.configure(VALIDATING, "open", vec![hook("Ignore")]).await;
    bench.config_map("a").await.expect("the failure is passed over");
    bench.configure(VALIDATING, "shut", vec![hook("Fail")]).await;
    let status = bench.config_map("b").await.expect_err("refused");
    let wanted = message.replace("ADDRESS", &bench.webhook.address.to_string());
    assert!(status.message.contains(&wanted), "{status}\n{wanted}");
    assert!(bench.metrics.print().contains("apiserver_admission_webhook_fail_open_count{") || status.code == 403);
    bench.end().await;
}

#[tokio::test]
async fn failures_are_told_or_passed_over() {
    let called = "Internal error occurred: failed calling webhook \"hook.example.com\": failed to call webhook: ";
    let post = |why: &str| format!("{called}Post \"https://ADDRESS/hang?timeout=1s\": {why}");
    check("/hang", None, value!({"timeoutSeconds": 1}), &post("context deadline exceeded")).await;
    let text = "an error on the server (\"no luck\") has prevented the request from succeeding";
    check("/broken", None, value!({}), &format!("{called}{text}")).await;
    check("/stranger", None, value!({}), "received invalid webhook response: expected response.uid=").await;
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let nobody = value!({"url": (format!("https://{free}/x")), "caBundle": (stranger())});
    let text = format!("Post \"https://{free}/x?timeout=10s\": dial tcp {free}: connect: connection refused");
    check("/x", Some(nobody), value!({}), &text).await;
    let conditions = value!([{"name": "own", "expression": "object.data.absent == 'x'"}]);
    let text =
        "configmaps \"b\" is forbidden: expression 'object.data.absent == 'x'' resulted in error: no such key: absent";
    check("/allow", None, value!({"matchConditions": conditions}), text).await;
}

#[tokio::test]
async fn strangers_are_not_trusted() {
    let bench = Bench::new().await;
    let url = format!("https://{}/allow", bench.webhook.address);
    bench.validate("/allow", value!({"clientConfig": {"url": url, "caBundle": (stranger())}})).await;
    let status = bench.config_map("a").await.expect_err("refused");
    let text = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(status.message.ends_with(text), "{status}");
    assert_eq!(bench.webhook.count("/allow"), 0);
    bench.end().await;
}

#[tokio::test]
async fn a_service_is_found_by_its_endpoints_and_the_connection_is_kept() {
    let bench = Bench::new().await;
    let (namespace, name) = SERVICE;
    let client = value!({
        "service": {"namespace": namespace, "name": name, "path": "/allow"}, "caBundle": (bench.webhook.bundle.clone())
    });
    bench.validate("", value!({"clientConfig": client})).await;
    let called = "Internal error occurred: failed calling webhook \"hook.example.com\": failed to call webhook: Post \
                  \"https://hook.shop.svc:443/allow?timeout=10s\": ";
    refused(bench.config_map("a").await, 500, &format!("{called}services \"hook\" not found"));
    let service = value!({
        "metadata": {"name": name}, "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"name": "https", "port": 443}]}
    });
    bench.create("Service", service).await.expect("made");
    refused(bench.config_map("a").await, 500, &format!("{called}no endpoints available for service \"hook\""));
    let slice = value!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}}, "addressType": "IPv4",
        // The port is the test's own; the address is its machine's, which the kind's rules would refuse.
        "ports": [{"name": "https", "port": (i64::from(bench.webhook.address.port()))}],
        "endpoints": [{"addresses": ["10.9.9.9"]}]
    });
    bench.create("EndpointSlice", slice).await.expect("made");
    let target = bench.target("EndpointSlice", name);
    let here = |slice: &mut Value| {
        let endpoint = value!({"addresses": ["127.0.0.1"]});
        slice.as_object_mut().expect("an object").insert("endpoints", vec![endpoint]);
        Ok(())
    };
    bench.registry.amend(&bench.context, &target, &Default::default(), false, here).await.expect("amended");
    for index in 0..5 {
        let name = format!("a-{index}");
        let value = value!({"metadata": {"name": name}});
        let (_, warnings) = bench.create_as("ConfigMap", value, WriteOptions::default()).await.expect("made");
        assert_eq!(warnings, ["looked at"]);
    }
    assert_eq!(bench.webhook.count("/allow"), 5);
    assert_eq!(bench.webhook.connections.load(Ordering::SeqCst), 1);
    bench.end().await;
}

#[tokio::test]
async fn one_that_hangs_holds_no_more_than_its_own() {
    let bench = Bench::new().await;
    bench.validate("/hang", value!({"timeoutSeconds": 30})).await;
    let names: Vec<String> = (0..CALLS_MAX).map(|index| format!("a-{index}")).collect();
    let held = join_all(names.iter().map(|name| bench.config_map(name)));
    let others = async {
        bench.until("all hang", || bench.webhook.count("/hang") == CALLS_MAX).await;
        let status = bench.config_map("more").await.expect_err("refused");
        assert_eq!((status.code, status.reason), (429, "TooManyRequests"), "{status}");
        assert_eq!(status.details.expect("details").retry_after_s, 1);
        bench.create("Secret", value!({"metadata": {"name": "s"}})).await.expect("nobody hangs here");
    };
    tokio::select! {
        held = held => panic!("held: {}", held.len()),
        () = others.fuse() => {}
    }
    bench.end().await;
}

#[tokio::test]
async fn dry_runs_need_webhooks_without_side_effects() {
    let bench = Bench::new().await;
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let create = async || bench.create_as("ConfigMap", value!({"metadata": {"name": "a"}}), dry).await;
    bench.validate("/allow", value!({"sideEffects": "NoneOnDryRun"})).await;
    create().await.expect("allowed");
    let review = &bench.webhook.took("/allow")[0];
    assert_eq!(review.at(&["request", "dryRun"]), Some(&Value::Bool(true)));
    assert_eq!(review.at(&["request", "options", "dryRun"]), Some(&value!(["All"])));
    // Such a configuration is refused today; one may be stored from before.
    let shared = &bench.webhooks.0;
    let hook = bench.hook("/allow", value!({"sideEffects": "Some", "namespaceSelector": {}, "objectSelector": {}}));
    let stored = value!({"metadata": {"name": "old"}, "webhooks": [hook]});
    shared.validating.replace(Hook::all(&stored, &shared.trust));
    refused(create().await, 400, "admission webhook \"hook.example.com\" does not support dry run");
    bench.end().await;
}
