//! A custom resource passes the same table of cases as every built-in kind: once it is defined, nothing tells them
//! apart.

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::User;
use corten_apiserver::registry::WriteOptions;
use corten_apiserver::testing::table::{self, Sample};
use corten_apiserver::testing::{Bench, body, context, target};
use corten_builtin::crd::controller::CustomResources;

fn definition(scope: &str) -> Value {
    value!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": scope,
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {
                        "size": {"type": "integer", "default": 1},
                        "parts": {"type": "array", "items": {"type": "object", "properties": {
                            "name": {"type": "string"}
                        }}}
                    }},
                    "status": {"type": "object", "properties": {"phase": {"type": "string"}}}
                }}}
            }]
        }
    })
}

#[tokio::test]
async fn a_custom_resource_passes_the_table() {
    for scope in ["Namespaced", "Cluster"] {
        let bench = Bench::new(corten_api::kinds());
        let user = Arc::new(User::default());
        let registry = bench.registry.clone();
        let resources =
            CustomResources::new(registry.clone(), user, bench.clock.clone(), corten_api::metadata_schema());
        drop(resources.expect("definitions are served").start(&bench.tasks));
        let definitions = target(&bench.kind("customresourcedefinitions"), "");
        registry
            .create(&context(), &definitions, body(definition(scope)), WriteOptions::default())
            .await
            .expect("a good definition");
        let mut kinds = registry.watch_kinds();
        let served = kinds.wait_for(|kinds| kinds.resource("example.com", "v1", "widgets").is_some());
        drop(
            tokio::time::timeout(Duration::from_secs(20), served)
                .await
                .expect("served soon")
                .expect("the registry is there"),
        );
        let sample = Sample {
            kind: bench.kind("widgets"),
            object: value!({"spec": {"size": 2, "parts": [{"name": "a"}]}}),
            part: "spec",
            status: Some(("phase".into(), "Ready".into())),
        };
        table::all(&registry, &sample).await;
        assert_eq!(bench.tasks.stop(Duration::from_secs(5)).await, 0);
    }
}
