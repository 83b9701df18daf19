//! A node that runs short of something: who goes, what is told of it, and who stays.

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::Resource;

use crate::fakes::Fill;
use crate::node::{Node, PODS, condition};

const MIB: u64 = 1 << 20;

/// With one container of its own name.
fn pod(name: &str, requests: &str, spec: Value) -> Value {
    let container = value!({"name": name, "image": "app:1", "resources": {"requests": {"memory": requests}}});
    let mut pod =
        value!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    let spec = pod.object_entry("spec");
    spec.insert("nodeName", "n");
    spec.insert_if_absent("containers", || value!([container]));
    pod
}

fn runs(pod: &Value) -> bool {
    condition(pod, "Ready") == "True"
}

fn is_evicted(pod: &Value) -> bool {
    (pod.str_at(&["status", "phase"]), pod.str_at(&["status", "reason"])) == ("Failed", "Evicted")
}

fn message(pod: &Value) -> &str {
    pod.str_at(&["status", "message"])
}

#[tokio::test]
async fn the_pod_that_is_most_beyond_its_request_goes_and_the_others_stay() {
    let (node, _) = Node::new().await;
    for (name, requests, used) in [("modest", "300Mi", 250), ("small", "10Mi", 20), ("greedy", "10Mi", 200)] {
        node.engine.use_memory(name, used * MIB);
        node.create(&PODS, &pod(name, requests, Value::object())).await;
        node.wait(name, "it runs", runs).await;
    }
    node.gauges.fill_memory(&node.engine, "greedy");
    let gone = node.wait("greedy", "it goes", is_evicted).await;
    assert_eq!(
        message(&gone),
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
         Container greedy was using 200Mi, request is 10Mi, has larger consumption of memory. "
    );
    let conditions = gone.at(&["status", "conditions"]).and_then(Value::as_array).expect("conditions");
    let told = conditions.iter().find(|one| one.str_at(&["type"]) == "DisruptionTarget").expect("it is told");
    assert_eq!((told.str_at(&["status"]), told.str_at(&["reason"])), ("True", "TerminationByKubelet"));
    let events = Resource::new("", "v1", "events");
    let told = async {
        loop {
            let events = node.client.list(&events, "shop", &corten_client::Select::default()).await.expect("listed");
            if events.items.iter().any(|event| event.str_at(&["reason"]) == "Evicted") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), told).await.expect("an event tells of it");
    for name in ["modest", "small"] {
        assert!(node.engine.is_running(name), "{name} goes on");
    }
    // It is short for its period yet: who has asked for memory is taken, who has not is refused.
    node.create(&PODS, &pod("asking", "1Mi", Value::object())).await;
    node.create(&PODS, &pod("careless", "0", Value::object())).await;
    let refused = node.wait("careless", "it is refused", is_evicted).await;
    assert_eq!(message(&refused), "The node had condition: [MemoryPressure]. ");
    node.wait("asking", "it is taken", runs).await;
    node.stop().await;
}

#[tokio::test]
async fn a_disk_that_fills_is_freed_of_images_before_pods_go() {
    let (node, _) = Node::new().await;
    node.create(&PODS, &pod("a", "1Mi", Value::object())).await;
    node.wait("a", "it runs", runs).await;
    node.gauges.fill_disk(Fill::Images);
    node.create(&PODS, &pod("critical", "1Mi", value!({"priority": 2_000_000_000}))).await;
    node.wait("critical", "it runs", runs).await;
    // Whoever looks has looked when the node takes nobody any more.
    let refused = async {
        for number in 0.. {
            let name = format!("b{number}");
            node.create(&PODS, &pod(&name, "1Mi", Value::object())).await;
            let seen = node.wait(&name, "it is taken or not", |pod| runs(pod) || is_evicted(pod)).await;
            if is_evicted(&seen) {
                return message(&seen).to_owned();
            }
        }
        unreachable!("there is no end to numbers")
    };
    assert_eq!(refused.await, "The node had condition: [DiskPressure]. ");
    assert!(node.gauges.filled() == Fill::Little, "images have gone");
    assert!(node.engine.is_running("a"));
    node.gauges.fill_disk(Fill::Other);
    let gone = node.wait("a", "it goes", is_evicted).await;
    assert_eq!(
        message(&gone),
        "The node was low on resource: ephemeral-storage. Threshold quantity: 100, available: 50. "
    );
    assert!(node.engine.is_running("critical"), "it is spared");
    node.stop().await;
}

#[tokio::test]
async fn a_pod_that_writes_more_than_it_may_goes_with_what_it_wrote() {
    let (node, reading) = Node::new().await;
    let volumes = value!([{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]);
    node.create(&PODS, &pod("a", "1Mi", value!({"volumes": volumes}))).await;
    node.wait("a", "it runs", runs).await;
    let (uid, _) = reading.named("shop", "a").expect("it is known");
    let volume = node.settings().pod_dir(&uid).join("volumes/v");
    std::fs::write(volume.join("much"), vec![1; 2 << 20]).expect("written");
    let gone = node.wait("a", "it goes", is_evicted).await;
    assert_eq!(message(&gone), "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ");
    assert_eq!(condition(&gone, "DisruptionTarget"), "", "it is to blame itself");
    for _ in 0..500 {
        if !volume.exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(!volume.exists(), "what it wrote is gone");
    node.stop().await;
}
