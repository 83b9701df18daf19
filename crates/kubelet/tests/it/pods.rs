//! Lives of pods.

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::{Delete, Patch};
use corten_network::{HostPort, Protocol};

use crate::node::{CONFIG_MAPS, Node, PODS, condition, first};

fn pod(name: &str, spec: Value) -> Value {
    let mut pod =
        value!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    let spec = pod.object_entry("spec");
    spec.insert("nodeName", "n");
    spec.insert_if_absent("containers", || value!([{"name": "c", "image": "app:1"}]));
    pod
}

fn is_ready(pod: &Value) -> bool {
    pod.str_at(&["status", "phase"]) == "Running" && condition(pod, "Ready") == "True"
}

fn waits(pod: &Value, reason: &str) -> bool {
    first(pod, "containerStatuses").str_at(&["state", "waiting", "reason"]) == reason
}

#[tokio::test]
async fn a_pod_runs_and_goes() {
    let (node, reading) = Node::new().await;
    let created = node.create(&PODS, &pod("a", Value::object())).await;
    let uid = created.str_at(&["metadata", "uid"]).to_owned();
    let running = node.wait("a", "it becomes ready", is_ready).await;
    let status = first(&running, "containerStatuses");
    assert_eq!(status.str_at(&["image"]), "registry.example/app:1");
    assert_eq!(
        (running.str_at(&["status", "podIP"]), running.str_at(&["status", "hostIP"])),
        ("10.244.0.2", "192.0.2.1")
    );
    assert_eq!(running.i64_at(&["status", "observedGeneration"]), Some(1));
    let of = node.dir.path().join("pods").join(&uid).join("node");
    let hosts = std::fs::read_to_string(of.join("etc-hosts")).expect("it is written");
    assert!(hosts.contains("10.244.0.2\ta\n"), "{hosts}");
    assert!(reading.named("shop", "a").is_some_and(|(_, pod)| pod.containers[0].running));
    node.client.delete(&PODS, "shop", "a", &Delete::default()).await.expect("it is deleted");
    node.wait("a", "it goes", Value::is_null).await;
    assert_eq!((node.engine.pod_ids(), of.exists()), (Vec::<String>::new(), false));
    node.stop().await;
}

#[tokio::test]
async fn a_pod_that_serves_is_signalled_when_nothing_leads_to_it() {
    let (node, _) = Node::new().await;
    node.traffic.left.send_replace(false);
    node.create(&PODS, &pod("a", Value::object())).await;
    node.wait("a", "it becomes ready", is_ready).await;
    node.client.delete(&PODS, "shop", "a", &Delete::default()).await.expect("it is deleted");
    let mut asked = node.traffic.asked.subscribe();
    asked.wait_for(|asked| !asked.is_empty()).await.expect("it is asked for");
    assert!(node.engine.is_running("c"));
    node.traffic.left.send_replace(true);
    node.wait("a", "it goes", Value::is_null).await;
    assert_eq!(*node.traffic.asked.borrow(), [std::net::IpAddr::from([10, 244, 0, 2])]);
    // Something that leads to a pod for ever does not keep it.
    node.traffic.left.send_replace(false);
    node.create(&PODS, &pod("b", Value::object())).await;
    node.wait("b", "it becomes ready", is_ready).await;
    node.client.delete(&PODS, "shop", "b", &Delete::default()).await.expect("it is deleted");
    node.wait("b", "it goes", Value::is_null).await;
    node.stop().await;
}

#[tokio::test]
async fn ports_of_the_node_lead_to_a_pod_while_it_is_there() {
    let (mut node, _) = Node::new().await;
    let ports = value!([{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}]);
    let spec = value!({"containers": [{"name": "c", "image": "app:1", "ports": (ports)}]});
    node.create(&PODS, &pod("a", spec)).await;
    node.wait("a", "it becomes ready", is_ready).await;
    let port = HostPort { address: None, protocol: Protocol::Tcp, port: 8080, to: 80 };
    assert_eq!(node.network.published(), [port]);
    node.restart().await;
    assert_eq!(node.network.published(), [port]);
    node.client.delete(&PODS, "shop", "a", &Delete::default()).await.expect("it is deleted");
    node.wait("a", "it goes", Value::is_null).await;
    assert_eq!(node.network.published(), []);
    node.stop().await;
}

#[tokio::test]
async fn a_container_that_ends_starts_again_and_then_pauses() {
    let (node, _) = Node::new().await;
    node.create(&PODS, &pod("a", Value::object())).await;
    node.wait("a", "it becomes ready", is_ready).await;
    node.engine.exit("c", 3);
    let again = |pod: &Value| first(pod, "containerStatuses").i64_at(&["restartCount"]) == Some(1) && is_ready(pod);
    let pod = node.wait("a", "it starts again", again).await;
    assert_eq!(first(&pod, "containerStatuses").i64_at(&["lastState", "terminated", "exitCode"]), Some(3));
    node.engine.exit("c", 4);
    let pod = node.wait("a", "it pauses", |pod| waits(pod, "CrashLoopBackOff")).await;
    let message = first(&pod, "containerStatuses").str_at(&["state", "waiting", "message"]);
    assert!(message.starts_with("back-off 10s restarting failed container=c pod=a_shop("), "{message}");
    assert_eq!((pod.str_at(&["status", "phase"]), condition(&pod, "Ready")), ("Running", "False"));
    assert_eq!(node.engine.started(), ["c/0", "c/1"]);
}

#[tokio::test]
async fn init_containers_come_first_and_a_pod_completes() {
    let (node, _) = Node::new().await;
    let spec = value!({"restartPolicy": "Never", "initContainers": [{"name": "i", "image": "app:1"}]});
    node.create(&PODS, &pod("a", spec)).await;
    let begun = |pod: &Value| first(pod, "initContainerStatuses").at(&["state", "running"]).is_some();
    let pod = node.wait("a", "it begins", begun).await;
    assert!(waits(&pod, "PodInitializing") && pod.str_at(&["status", "phase"]) == "Pending");
    node.engine.exit("i", 0);
    node.wait("a", "it becomes ready", is_ready).await;
    node.engine.exit("c", 0);
    node.wait("a", "it completes", |pod| pod.str_at(&["status", "phase"]) == "Succeeded").await;
    for _ in 0..250 {
        if node.engine.pod_ids().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!((node.engine.pod_ids(), node.engine.started()), (vec![], vec!["i/0".to_owned(), "c/0".to_owned()]));
}

#[tokio::test]
async fn what_is_missing_is_named_and_looked_for() {
    let (node, _) = Node::new().await;
    let from = value!({"configMapKeyRef": {"name": "m", "key": "k"}});
    let container = value!({"name": "c", "image": "app:1", "env": [{"name": "K", "valueFrom": from}]});
    node.create(&PODS, &pod("a", value!({"containers": [container]}))).await;
    let pod = node.wait("a", "it waits", |pod| waits(pod, "CreateContainerConfigError")).await;
    let message = first(&pod, "containerStatuses").str_at(&["state", "waiting", "message"]);
    assert_eq!(message, "configmap \"m\" not found");
    let map = value!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m"}, "data": {"k": "1"}});
    node.create(&CONFIG_MAPS, &map).await;
    node.wait("a", "it becomes ready", is_ready).await;
    assert!(node.engine.spec("c").env.contains(&("K".to_owned(), "1".to_owned())));
}

#[tokio::test]
async fn volumes_follow_their_objects() {
    let (node, _) = Node::new().await;
    let map = value!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m"}, "data": {"k": "1"}});
    node.create(&CONFIG_MAPS, &map).await;
    let container = value!({"name": "c", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/etc/m"}]});
    let spec = value!({"containers": [container], "volumes": [{"name": "v", "configMap": {"name": "m"}}]});
    node.create(&PODS, &pod("a", spec)).await;
    node.wait("a", "it becomes ready", is_ready).await;
    let spec = node.engine.spec("c");
    let mount = spec.mounts.iter().find(|mount| mount.target.ends_with("m")).expect("it is mounted");
    assert_eq!(std::fs::read_to_string(mount.source.join("k")).expect("a file"), "1");
    let patch = Patch::Merge(value!({"data": {"k": "2"}}));
    node.client.patch(&CONFIG_MAPS, "shop", "m", "", &patch).await.expect("it changes");
    for _ in 0..500 {
        if std::fs::read_to_string(mount.source.join("k")).expect("a file") == "2" {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the volume has not followed");
}

#[tokio::test]
async fn a_volume_that_was_lost_is_there_at_the_next_start() {
    let (node, _) = Node::new().await;
    let map = value!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m"}, "data": {"k": "1"}});
    node.create(&CONFIG_MAPS, &map).await;
    let mounts = value!([{"name": "map", "mountPath": "/etc/m"}, {"name": "disk", "mountPath": "/data"}]);
    let volumes = value!([{"name": "map", "configMap": {"name": "m"}}, {"name": "disk", "emptyDir": {}}]);
    let container = value!({"name": "c", "image": "app:1", "volumeMounts": (mounts)});
    node.create(&PODS, &pod("a", value!({"containers": [container], "volumes": (volumes)}))).await;
    node.wait("a", "it becomes ready", is_ready).await;
    let source = |target: &str| {
        let spec = node.engine.spec("c");
        let mount = spec.mounts.into_iter().find(|mount| mount.target == std::path::Path::new(target));
        mount.expect("it is mounted").source
    };
    let (map, disk, hosts) = (source("/etc/m"), source("/data"), source("/etc/hosts"));
    std::fs::write(disk.join("kept"), "").expect("it is written");
    std::fs::remove_dir_all(&map).expect("it was there");
    std::fs::remove_file(&hosts).expect("it was there");
    node.engine.exit("c", 1);
    let again = |count| {
        move |pod: &Value| is_ready(pod) && first(pod, "containerStatuses").i64_at(&["restartCount"]) == Some(count)
    };
    node.wait("a", "it starts again", again(1)).await;
    assert_eq!(std::fs::read_to_string(map.join("k")).expect("it is made anew"), "1");
    assert!(std::fs::read_to_string(hosts).expect("it is made anew").contains("localhost"));
    assert!(disk.join("kept").exists(), "what was there stays");
    node.stop().await;
}

#[tokio::test]
async fn a_pod_whose_object_is_gone_gives_its_room_to_others() {
    let (node, _) = Node::new().await;
    let ports = value!([{"containerPort": 80, "hostPort": 8080, "protocol": "TCP"}]);
    let spec = value!({"containers": [{"name": "c", "image": "app:1", "ports": (ports)}]});
    node.create(&PODS, &pod("b", spec.clone())).await;
    node.wait("b", "it becomes ready", is_ready).await;
    node.engine.ignore_stops();
    let force = Delete { grace_period_s: Some(0), ..Delete::default() };
    node.client.delete(&PODS, "shop", "b", &force).await.expect("it is deleted");
    // By its name it comes first where both changes are heard of at once.
    node.create(&PODS, &pod("a", spec)).await;
    node.wait("a", "it becomes ready", is_ready).await;
    assert_eq!(node.engine.pod_ids().len(), 2, "the other one runs still");
    node.stop().await;
}

#[tokio::test]
async fn a_pod_that_does_not_fit_is_refused() {
    let (node, _) = Node::new().await;
    node.create(&PODS, &pod("a", value!({"nodeSelector": {"no": "where"}}))).await;
    let pod = node.wait("a", "it fails", |pod| pod.str_at(&["status", "phase"]) == "Failed").await;
    assert_eq!(pod.str_at(&["status", "reason"]), "NodeAffinity");
    assert_eq!(node.engine.started(), Vec::<String>::new());
}

#[tokio::test]
async fn an_image_that_nobody_has_is_asked_for_again() {
    let (node, _) = Node::new().await;
    node.create(&PODS, &pod("a", value!({"containers": [{"name": "c", "image": "missing"}]}))).await;
    node.wait("a", "the pull fails", |pod| waits(pod, "ErrImagePull")).await;
    let pod = node.wait("a", "it pauses", |pod| waits(pod, "ImagePullBackOff")).await;
    let message = first(&pod, "containerStatuses").str_at(&["state", "waiting", "message"]);
    assert!(message.starts_with("Back-off pulling image \"missing\": ErrImagePull: "), "{message}");
}

#[tokio::test]
async fn a_restarted_node_goes_on() {
    let (mut node, _) = Node::new().await;
    node.create(&PODS, &pod("a", Value::object())).await;
    node.create(&PODS, &pod("b", Value::object())).await;
    let before = node.wait("a", "it becomes ready", is_ready).await;
    node.wait("b", "it becomes ready", is_ready).await;
    node.stop().await;
    let force = Delete { grace_period_s: Some(0), ..Delete::default() };
    node.client.delete(&PODS, "shop", "b", &force).await.expect("it is deleted while nobody looks");
    node.restart().await;
    for _ in 0..250 {
        if node.engine.pod_ids().len() == 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(node.engine.pod_ids(), [before.str_at(&["metadata", "uid"])], "only what has an object stays");
    let after = node.wait("a", "it is ready still", is_ready).await;
    assert_eq!(first(&after, "containerStatuses"), first(&before, "containerStatuses"));
    assert_eq!(node.engine.started().len(), 2);
    node.engine.exit("c", 1);
    let again = |pod: &Value| first(pod, "containerStatuses").i64_at(&["restartCount"]) == Some(1);
    node.wait("a", "it starts again", again).await;
}

/// The end of what nobody wants any more takes its time; pods begin meanwhile.
#[tokio::test]
async fn what_an_earlier_life_left_goes_and_nothing_of_a_pod_that_came_since() {
    let (mut node, _) = Node::new().await;
    let old = node.create(&PODS, &pod("old", Value::object())).await;
    node.wait("old", "it becomes ready", is_ready).await;
    node.stop().await;
    let force = Delete { grace_period_s: Some(0), ..Delete::default() };
    node.client.delete(&PODS, "shop", "old", &force).await.expect("it is deleted while nobody looks");
    let dir = node.dir.path().to_owned();
    let folder = |pod: &Value| dir.join("pods").join(pod.str_at(&["metadata", "uid"]));
    let log = dir.join(format!("logs/pods/shop_old_{}", old.str_at(&["metadata", "uid"])));
    std::fs::create_dir_all(log.join("c")).expect("it is made as by the engine");
    let left = [folder(&old), log];
    assert_eq!(left.each_ref().map(|folder| folder.exists()), [true; 2]);

    node.engine.hold_removals(true);
    node.restart().await;
    let map = value!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "m"}, "data": {"k": "1"}});
    node.create(&CONFIG_MAPS, &map).await;
    let container = value!({"name": "c", "image": "app:1", "volumeMounts": [{"name": "v", "mountPath": "/etc/m"}]});
    let spec = value!({"containers": [container], "volumes": [{"name": "v", "configMap": {"name": "m"}}]});
    let new = node.create(&PODS, &pod("new", spec)).await;
    node.wait("new", "it becomes ready", is_ready).await;
    node.engine.hold_removals(false);
    // Waits for the end of what is under way.
    node.stop().await;

    assert_eq!(left.each_ref().map(|folder| folder.exists()), [false; 2]);
    let sources = node.engine.spec("c").mounts.into_iter().map(|mount| mount.source);
    let lost: Vec<_> = sources.filter(|source| !source.exists()).collect();
    assert_eq!((lost.as_slice(), folder(&new).exists()), ([].as_slice(), true));
}

#[tokio::test]
async fn after_a_reboot_pods_are_made_anew() {
    let (mut node, _) = Node::new().await;
    let spec = value!({
        "initContainers": [{"name": "i", "image": "app:1"}], "containers": [{"name": "c", "image": "app:1"}],
    });
    let created = node.create(&PODS, &pod("a", spec)).await;
    node.wait("a", "its init container begins", |_| node.engine.is_running("i")).await;
    node.engine.exit("i", 0);
    node.wait("a", "it becomes ready", is_ready).await;
    node.stop().await;
    node.engine.reboot();
    node.restart().await;
    node.wait("a", "its init container begins again", |_| node.engine.is_running("i")).await;
    node.engine.exit("i", 0);
    let again = |pod: &Value| first(pod, "containerStatuses").i64_at(&["restartCount"]) == Some(1) && is_ready(pod);
    let after = node.wait("a", "it runs again", again).await;
    assert_eq!(after.str_at(&["metadata", "uid"]), created.str_at(&["metadata", "uid"]), "it is the same pod");
}

#[tokio::test]
async fn a_lost_sandbox_is_made_anew() {
    let (node, _) = Node::new().await;
    let created = node.create(&PODS, &pod("a", Value::object())).await;
    node.wait("a", "it becomes ready", is_ready).await;
    node.engine.lose(created.str_at(&["metadata", "uid"]));
    let again = |pod: &Value| first(pod, "containerStatuses").i64_at(&["restartCount"]) == Some(1) && is_ready(pod);
    let pod = node.wait("a", "it runs again", again).await;
    let last = first(&pod, "containerStatuses").str_at(&["lastState", "terminated", "reason"]);
    assert_eq!(last, "ContainerStatusUnknown");
}
