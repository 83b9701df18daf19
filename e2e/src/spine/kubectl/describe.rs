//! `describe` of what a user has: every object has its words and its events, and nothing is there that kubectl prints for want of
//! a value.

use anyhow::{Context as _, Result, ensure};

use super::{NAMESPACE, NEW, OLD};
use crate::process::wait;
use crate::spine::node::{LIMIT, NAME, Node};
use crate::spine::shop;

/// Object, words that are to be there, and how many values kubectl may call unset, as it does with upstream.
type Described = (&'static str, &'static [&'static str], usize);

const OF_SHOP: [Described; 9] = [
    (
        "deployment/www",
        &[
            "Annotations: deployment.kubernetes.io/revision:",
            "Replicas: 3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
            "StrategyType: RollingUpdate",
            "Available True MinimumReplicasAvailable",
            "Progressing True NewReplicaSetAvailable",
            "NewReplicaSet: www-",
            "(3/3 replicas created)",
            "ScalingReplicaSet",
            "deployment-controller",
            "Scaled up replica set www-",
        ],
        0,
    ),
    (
        "replicaset -l app.kubernetes.io/name=blog",
        &[
            "Controlled By: Deployment/blog",
            "Replicas: 3 current / 3 desired",
            "Pods Status: 3 Running / 0 Waiting / 0 Succeeded / 0 Failed",
            "SuccessfulCreate",
            "replicaset-controller",
            "Created pod: blog-",
        ],
        0,
    ),
    (
        "pod -l app.kubernetes.io/name=blog",
        &[
            "Service Account: default",
            "Status: Running",
            "SeccompProfile: RuntimeDefault",
            "Controlled By: ReplicaSet/blog-",
            "Container ID: corten://",
            "Image ID: localhost/shop/blog@sha256:",
            "State: Running",
            "Ready: True",
            "Startup: http-get http://:http/healthz",
            "POD_NAME: blog-",
            "PodReadyToStartContainers True",
            "PodScheduled True",
            "QoS Class: Burstable",
            "node.kubernetes.io/not-ready:NoExecute op=Exists for 300s",
            "Scheduled",
            "default-scheduler Successfully assigned shop/blog-",
            "Pulled",
            "Created",
            "Started",
        ],
        0,
    ),
    ("service/www", &["Type: ClusterIP", "Port: http 80/TCP", ":8080,10.244.", "Events:"], 0),
    (
        "ingress/shop",
        &["Ingress Class: corten", "www.localhost", "www:http (10.244.", "admin:http (10.244.", "Events:"],
        0,
    ),
    ("configmap/shop", &["greeting:\n----\nWelcome.", "Events: <none>"], 0),
    ("secret/admin", &["Type: Opaque", "httpd.conf: 24 bytes"], 0),
    ("serviceaccount/default", &["Image pull secrets: <none>", "Events: <none>"], 0),
    (
        "endpointslice -l kubernetes.io/service-name=www",
        &["AddressType: IPv4", "http 8080 TCP", "Ready: true", "TargetRef: Pod/www-", "NodeName: e2e"],
        // Names and zones of three endpoints.
        6,
    ),
];

const OF_OTHERS: [Described; 8] = [
    (
        "statefulset/shown",
        &[
            "Replicas: 1 desired | 1 total",
            "1 Running / 0 Waiting",
            "create Pod shown-0 in StatefulSet shown successful",
        ],
        0,
    ),
    (
        "daemonset/shown",
        &["Number of Nodes Scheduled with Available Pods: 1", "SuccessfulCreate", "Created pod: shown-"],
        0,
    ),
    ("job/shown", &["1 Succeeded / 0 Failed", "SuccessfulCreate", "Completed", "Job completed"], 0),
    ("pdb/shown", &["Min available: 1", "Allowed disruptions: 0", "Current: 1"], 0),
    ("service/shown", &["IP: None", "Endpoints: 10.244."], 1),
    ("service/shown-port", &["Type: NodePort", "/TCP\nEndpoints: 10.244."], 2),
    ("service/shown-elsewhere", &["External Name: elsewhere.example.com"], 0),
    ("pod/shown-0", &["Controlled By: StatefulSet/shown", "kube-api-access-", "QoS Class: BestEffort"], 0),
];

const OF_ALL: [Described; 3] = [
    (
        "node/e2e",
        &[
            "kubernetes.io/hostname=e2e",
            "Unschedulable: false",
            "HolderIdentity: e2e",
            "MemoryPressure False",
            "KubeletHasSufficientMemory",
            "Ready True",
            "kubelet is posting ready status",
            "InternalIP:",
            "Container Runtime Version: corten://",
            "PodCIDR: 10.244.0.0/24",
            "shop www-",
            "10m (0%)",
            "Allocated resources:",
            "RegisteredNode",
            "NodeReady",
            "Starting",
        ],
        // Nobody takes a lease from another node.
        1,
    ),
    ("namespace/shop", &["Status: Active", "No resource quota.", "No LimitRange resource."], 0),
    ("ingressclass/corten", &["Controller: corten.dev/edge"], 0),
];

/// What stands where something went wrong.
const WRONG: [&str; 6] = ["<unknown>", "<nil>", "%!", "<invalid>", "error:", "Error"];

pub(super) fn all(node: &Node) -> Result<()> {
    for (namespace, described) in [(shop::NAMESPACE, &OF_SHOP[..]), (NAMESPACE, &OF_OTHERS), ("default", &OF_ALL)] {
        for one in described {
            // What has just changed has its events a moment later.
            let mut last = Ok(());
            wait(LIMIT, || {
                last = judge(node, NEW, namespace, one);
                Ok(last.is_ok().then_some(()))
            })
            .or(last)?;
        }
    }
    judge(node, OLD, shop::NAMESPACE, &OF_SHOP[2])?;
    ensure!(OF_ALL[0].0.ends_with(NAME), "the node has another name");
    Ok(())
}

fn judge(node: &Node, kubectl: &str, namespace: &str, (object, words, unset): &Described) -> Result<()> {
    let mut command = node.command_of(kubectl, &["-n", namespace, "describe", "--show-events=true"]);
    let output = command.args(object.split(' ')).output().context("kubectl describe")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // How far words are apart depends on what else is shown.
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    let text =
        lines.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n");
    ensure!(output.status.success() && said.is_empty(), "describe {object}: {}: {said}", output.status);
    let missing: Vec<&&str> = words.iter().filter(|word| !text.contains(**word)).collect();
    ensure!(missing.is_empty(), "describe {object} lacks {missing:#?}:\n{text}");
    let wrong: Vec<&&str> = WRONG.iter().filter(|word| text.contains(**word)).collect();
    ensure!(wrong.is_empty(), "describe {object} has {wrong:?}:\n{text}");
    let found = text.matches("<unset>").count();
    ensure!(found == *unset, "describe {object} calls {found} values unset:\n{text}");
    Ok(())
}
