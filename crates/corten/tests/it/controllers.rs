//! The built-in controllers behind the real server: namespaces get what they begin with and are emptied, what has lost
//! its owner goes.

use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use crate::client::Client;
use crate::process::{Server, purge};

/// Waits until the answer to a path satisfies a predicate.
async fn eventually(client: &Client, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let looks = async {
        loop {
            let (code, value) = client.get(path).await;
            if wanted(code, &value) {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), looks).await.unwrap_or_else(|_| panic!("{path} is not as wanted"))
}

async fn config_map(client: &Client, namespace: &str, name: &str, more: &Value) -> String {
    let mut object = value!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}});
    for (field, value) in more.as_object().expect("fields of metadata").iter() {
        object.object_entry("metadata").insert(field.clone(), value.clone());
    }
    let (code, made) = client.post(&format!("/api/v1/namespaces/{namespace}/configmaps"), &object).await;
    assert_eq!(code, 201, "{made:?}");
    made.str_at(&["metadata", "uid"]).to_owned()
}

#[tokio::test]
async fn a_namespace_begins_with_its_own_and_ends_empty() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let client = &server.client;
    let namespace = value!({"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop"}});
    assert_eq!(client.post("/api/v1/namespaces", &namespace).await.0, 201);
    eventually(client, "/api/v1/namespaces/shop/serviceaccounts/default", |code, _| code == 200).await;
    let path = "/api/v1/namespaces/shop/configmaps/kube-root-ca.crt";
    let authority = eventually(client, path, |code, _| code == 200).await;
    assert!(authority.str_at(&["data", "ca.crt"]).starts_with("-----BEGIN CERTIFICATE-----"));

    config_map(client, "shop", "held", &value!({"finalizers": ["example.com/hold"]})).await;
    assert_eq!(client.delete("/api/v1/namespaces/shop").await, 200);
    let told = |namespace: &Value| {
        let conditions = namespace.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        let bad = conditions.iter().filter(|condition| condition.str_at(&["status"]) == "True");
        bad.map(|condition| condition.str_at(&["message"]).to_owned()).collect::<Vec<_>>()
    };
    let held = [
        "Some resources are remaining: configmaps. has 1 resource instances",
        "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
    ];
    let going = eventually(client, "/api/v1/namespaces/shop", |_, namespace| told(namespace) == held).await;
    assert_eq!(going.str_at(&["status", "phase"]), "Terminating");
    let free = value!({"metadata": {"finalizers": null}});
    assert_eq!(client.merge("/api/v1/namespaces/shop/configmaps/held", &free).await.0, 200);
    eventually(client, "/api/v1/namespaces/shop", |code, _| code == 404).await;
    for plural in ["configmaps", "serviceaccounts"] {
        let (_, list) = client.get(&format!("/api/v1/namespaces/shop/{plural}")).await;
        assert_eq!(list.get("items").and_then(Value::as_array), Some(&[][..]), "{plural}");
    }
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn dependents_go_with_their_last_owner() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let client = &server.client;
    let owned_by = |name: &str, uid: &str| {
        value!({"ownerReferences": [{
            "kind": "ConfigMap", "apiVersion": "v1", "name": name, "uid": uid, "blockOwnerDeletion": true
        }]})
    };
    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    for policy in ["Background", "Foreground", "Orphan"] {
        let top = config_map(client, "default", "top", &value!({})).await;
        let middle = config_map(client, "default", "middle", &owned_by("top", &top)).await;
        config_map(client, "default", "leaf", &owned_by("middle", &middle)).await;
        assert_eq!(client.delete(&format!("{MAPS}/top?propagationPolicy={policy}")).await, 200);
        eventually(client, &format!("{MAPS}/top"), |code, _| code == 404).await;
        if policy == "Orphan" {
            let middle = eventually(client, &format!("{MAPS}/middle"), |code, _| code == 200).await;
            assert!(middle.at(&["metadata", "ownerReferences"]).is_none());
            assert_eq!(client.get(&format!("{MAPS}/leaf")).await.0, 200);
        } else {
            eventually(client, &format!("{MAPS}/leaf"), |code, _| code == 404).await;
            eventually(client, &format!("{MAPS}/middle"), |code, _| code == 404).await;
        }
    }
    config_map(client, "default", "lost", &owned_by("nobody", "00000000-0000-4000-8000-000000000000")).await;
    eventually(client, &format!("{MAPS}/lost"), |code, _| code == 404).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_deployment_becomes_pods_and_a_new_template_a_new_set() {
    const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
    const SETS: &str = "/apis/apps/v1/namespaces/default/replicasets";
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let client = &server.client;
    let count = |list: &Value| list.get("items").and_then(Value::as_array).map_or(0, <[Value]>::len);
    let deployment = value!({
        "kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web"},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"nodeSelector": {"example.com/none": ""}, "containers": [{"name": "c", "image": "i:1"}]}
            }
        }
    });
    assert_eq!(client.post(DEPLOYMENTS, &deployment).await.0, 201);
    let path = format!("{DEPLOYMENTS}/web");
    let told = eventually(client, &path, |_, web| web.i64_at(&["status", "updatedReplicas"]) == Some(3)).await;
    assert_eq!(told.str_at(&["metadata", "annotations", "deployment.kubernetes.io/revision"]), "1");
    assert_eq!(count(&client.get("/api/v1/namespaces/default/pods?labelSelector=app%3Dweb").await.1), 3);
    let image = value!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}}});
    assert_eq!(client.merge(&path, &image).await.0, 200);
    eventually(client, SETS, |_, sets| count(sets) == 2).await;
    let revision = |web: &Value| web.str_at(&["metadata", "annotations", "deployment.kubernetes.io/revision"]) == "2";
    eventually(client, &path, |_, web| revision(web)).await;
    assert_eq!(client.delete(&path).await, 200);
    eventually(client, SETS, |_, sets| count(sets) == 0).await;
    eventually(client, "/api/v1/namespaces/default/pods", |_, pods| count(pods) == 0).await;
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_stateful_set_becomes_named_pods_with_claims_and_keeps_its_history() {
    const SETS: &str = "/apis/apps/v1/namespaces/default/statefulsets";
    const PODS: &str = "/api/v1/namespaces/default/pods";
    const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let client = &server.client;
    let count = |list: &Value| list.get("items").and_then(Value::as_array).map_or(0, <[Value]>::len);
    let set = value!({
        "kind": "StatefulSet", "apiVersion": "apps/v1", "metadata": {"name": "db"},
        "spec": {
            "replicas": 2, "serviceName": "db", "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "db"}},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
            "template": {
                "metadata": {"labels": {"app": "db"}},
                "spec": {"nodeSelector": {"example.com/none": ""}, "containers": [{"name": "c", "image": "i:1"}]}
            },
            "volumeClaimTemplates": [{
                "metadata": {"name": "data"},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
            }]
        }
    });
    assert_eq!(client.post(SETS, &set).await.0, 201);
    let path = format!("{SETS}/db");
    let told = eventually(client, &path, |_, set| set.i64_at(&["status", "replicas"]) == Some(2)).await;
    let first = told.str_at(&["status", "updateRevision"]).to_owned();
    let of_revision =
        |pod: &Value, revision: &str| pod.str_at(&["metadata", "labels", "controller-revision-hash"]) == revision;
    for pod in ["db-0", "db-1"] {
        let made = eventually(client, &format!("{PODS}/{pod}"), |code, _| code == 200).await;
        assert!(of_revision(&made, &first) && made.str_at(&["spec", "hostname"]) == pod, "{made:?}");
        let owned = |claim: &Value| claim.at(&["metadata", "ownerReferences"]).is_some();
        eventually(client, &format!("{CLAIMS}/data-{pod}"), |code, claim| code == 200 && owned(claim)).await;
    }
    let image = |tag: &str| value!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": (format!("i:{tag}"))}]}}}});
    let revisions = async |tag: &str, wanted: i64| {
        assert_eq!(client.merge(&path, &image(tag)).await.0, 200);
        let newest = |list: &Value| {
            let items = list.get("items").and_then(Value::as_array).unwrap_or_default();
            items.iter().filter_map(|revision| revision.i64_at(&["revision"])).max()
        };
        let list = "/apis/apps/v1/namespaces/default/controllerrevisions";
        count(&eventually(client, list, |_, list| newest(list) == Some(wanted)).await)
    };
    assert_eq!(revisions("2", 2).await, 2);
    eventually(client, &format!("{PODS}/db-1"), |code, pod| code == 200 && !of_revision(pod, &first)).await;
    let (_, other) = client.get(&format!("{PODS}/db-0")).await;
    assert!(of_revision(&other, &first), "it waits until the pod behind it is available");
    assert_eq!(revisions("1", 3).await, 2, "a form that comes back takes a new number");
    eventually(client, &format!("{PODS}/db-1"), |code, pod| code == 200 && of_revision(pod, &first)).await;
    assert_eq!(client.delete(&path).await, 200);
    for list in [PODS, CLAIMS, "/apis/apps/v1/namespaces/default/controllerrevisions"] {
        eventually(client, list, |_, list| count(list) == 0).await;
    }
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_daemon_set_has_a_pod_on_the_nodes_that_take_it() {
    const SETS: &str = "/apis/apps/v1/namespaces/default/daemonsets";
    const PODS: &str = "/api/v1/namespaces/default/pods?labelSelector=app%3Dlog";
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let client = &server.client;
    let set = value!({
        "kind": "DaemonSet", "apiVersion": "apps/v1", "metadata": {"name": "log"},
        "spec": {
            "selector": {"matchLabels": {"app": "log"}},
            "template": {
                "metadata": {"labels": {"app": "log"}},
                "spec": {"containers": [{"name": "c", "image": "example.invalid/i:1"}]}
            }
        }
    });
    assert_eq!(client.post(SETS, &set).await.0, 201);
    let path = format!("{SETS}/log");
    let desired = |set: &Value| set.i64_at(&["status", "desiredNumberScheduled"]);
    let current = |set: &Value| set.i64_at(&["status", "currentNumberScheduled"]);
    eventually(client, &path, |_, set| desired(set) == Some(1) && current(set) == Some(1)).await;
    let nodes = |list: &Value| {
        let pods = list.get("items").and_then(Value::as_array).unwrap_or_default();
        pods.iter().map(|pod| pod.str_at(&["spec", "nodeName"]).to_owned()).collect::<Vec<_>>()
    };
    eventually(client, PODS, |_, list| nodes(list) == ["node-1"]).await;
    let nowhere = value!({"spec": {"template": {"spec": {"nodeSelector": {"example.com/none": ""}}}}});
    assert_eq!(client.merge(&path, &nowhere).await.0, 200);
    eventually(client, PODS, |_, list| nodes(list).is_empty()).await;
    eventually(client, &path, |_, set| desired(set) == Some(0) && current(set) == Some(0)).await;
    assert_eq!(server.stop(), Some(0));
    purge(dir.path());
}

#[tokio::test]
async fn pods_get_a_node_or_a_reason_and_services_their_endpoints() {
    const PODS: &str = "/api/v1/namespaces/default/pods";
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let client = &server.client;
    eventually(client, "/api/v1/namespaces/default/serviceaccounts/default", |code, _| code == 200).await;
    let pod = |name: &str, selector: Value| {
        value!({
            "kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeSelector": selector, "containers": [{"name": "c", "image": "example.invalid/i:1"}]}
        })
    };
    let items = |list: &Value| list.get("items").and_then(Value::as_array).unwrap_or_default().to_vec();
    assert_eq!(client.post(PODS, &pod("found", value!({}))).await.0, 201);
    assert_eq!(client.post(PODS, &pod("lost", value!({"example.com/none": ""}))).await.0, 201);
    eventually(client, &format!("{PODS}/found"), |_, pod| !pod.str_at(&["spec", "nodeName"]).is_empty()).await;
    let told = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are \
                available: 1 Preemption is not helpful for scheduling.";
    let says = |pod: &Value| {
        let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        conditions.iter().any(|of| of.str_at(&["reason"]) == "Unschedulable" && of.str_at(&["message"]) == told)
    };
    eventually(client, &format!("{PODS}/lost"), |_, pod| says(pod)).await;
    for (pod, reason) in [("found", "Scheduled"), ("lost", "FailedScheduling")] {
        let path =
            format!("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D{pod}%2Creason%3D{reason}");
        eventually(client, &path, |_, events| !items(events).is_empty()).await;
    }
    let binding = value!({
        "kind": "Binding", "apiVersion": "v1", "metadata": {"name": "found"}, "target": {"kind": "Node", "name": "other"}
    });
    let (code, status) = client.post(&format!("{PODS}/found/binding"), &binding).await;
    assert_eq!((code, status.str_at(&["reason"])), (409, "Conflict"));

    let service = value!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "lost"},
        "spec": {"selector": {"app": "lost"}, "publishNotReadyAddresses": true, "ports": [{"port": 80}]}
    });
    assert_eq!(client.post("/api/v1/namespaces/default/services", &service).await.0, 201);
    let address = value!({"status": {"podIP": "10.244.9.9", "podIPs": [{"ip": "10.244.9.9"}]}});
    assert_eq!(client.merge(&format!("{PODS}/lost/status"), &address).await.0, 200);
    let slices =
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dlost";
    let has = |slices: &Value| {
        let endpoints = items(slices).first().and_then(|slice| slice.get("endpoints").cloned()).unwrap_or_default();
        endpoints.as_array().is_some_and(|all| all.iter().any(|of| of.str_at(&["targetRef", "name"]) == "lost"))
    };
    eventually(client, slices, |_, slices| has(slices)).await;
    let subsets = |endpoints: &Value| endpoints.get("subsets").and_then(Value::as_array).map_or(0, <[Value]>::len);
    eventually(client, "/api/v1/namespaces/default/endpoints/lost", |_, endpoints| subsets(endpoints) == 1).await;
    assert_eq!(client.delete(&format!("{PODS}/lost")).await, 200);
    eventually(client, slices, |_, slices| !has(slices)).await;
    assert_eq!(server.stop(), Some(0));
    purge(dir.path());
}
