//! The objects that one `run` means: a Deployment, a Service and an Ingress where there are ports, and a claim for each named
//! volume. They are applied by one field manager, so that what a second run leaves out is taken out.

use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use super::Run;
use super::words::{Source, Volume};
use crate::app::{MANAGED_BY, MANAGER, NAME};

/// What the kubelet of a Corten node reads of a pod, docs/limits.md.
const PIDS: &str = "corten.dev/pids";
const IO_READ: &str = "corten.dev/io-read-bps";
const IO_WRITE: &str = "corten.dev/io-write-bps";

/// How much a volume holds that nobody has said a size for.
pub(super) const SIZE: &str = "1Gi";

/// How long a program without ports has to run until it counts.
const SETTLES_S: i64 = 1;

/// How long a program may take to end; Docker's.
const GRACE_S: i64 = 10;

/// Everything that is wanted of an application. Its name is settled.
pub(super) struct Wanted<'a> {
    pub(super) run: &'a Run,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
}

impl Wanted<'_> {
    pub(super) fn deployment(&self) -> Value {
        let (run, labels) = (self.run, self.labels());
        let replaces = run.volumes.iter().any(|volume| matches!(volume.source, Source::Named { .. }));
        // Both forms say everything, so that one replaces the other. Who has a volume ends before the next one begins.
        let strategy = match replaces {
            true => value!({"type": "Recreate"}),
            false => value!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}}),
        };
        // Who takes no connections is ready as soon as it runs; one that ends at once is not to count.
        let settles_s = if run.ports.is_empty() { SETTLES_S } else { 0 };
        value!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": (self.metadata(self.name)),
            "spec": {
                "replicas": (i64::from(run.replicas)), "strategy": strategy, "minReadySeconds": settles_s,
                "selector": {"matchLabels": (labels.clone())},
                "template": {
                    "metadata": {"labels": labels, "annotations": (self.annotations())},
                    "spec": {
                        "automountServiceAccountToken": false, "enableServiceLinks": false,
                        "terminationGracePeriodSeconds": GRACE_S,
                        "containers": [(self.container())], "volumes": (self.volumes())
                    }
                }
            }
        })
    }

    pub(super) fn service(&self) -> Option<Value> {
        let ports = self.run.ports.iter().map(|port| {
            let (service, container) = (i64::from(port.service), i64::from(port.container));
            value!({"name": (format!("p{service}")), "port": service, "targetPort": container, "protocol": "TCP"})
        });
        let ports: Vec<Value> = ports.collect();
        (!ports.is_empty()).then(|| {
            value!({
                "apiVersion": "v1", "kind": "Service", "metadata": (self.metadata(self.name)),
                "spec": {"type": "ClusterIP", "selector": (self.labels()), "ports": ports}
            })
        })
    }

    /// Of the first port.
    pub(super) fn ingress(&self) -> Option<Value> {
        let port = i64::from(self.run.ports.first()?.service);
        let backend = value!({"service": {"name": (self.name), "port": {"number": port}}});
        let path = value!({"path": "/", "pathType": "Prefix", "backend": backend});
        Some(value!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": (self.metadata(self.name)),
            "spec": {"rules": [{"host": (self.host()), "http": {"paths": [path]}}]}
        }))
    }

    /// One for each named volume, and whether its size was said.
    pub(super) fn claims(&self) -> Vec<(Value, bool)> {
        let named = self.run.volumes.iter().filter_map(|volume| match &volume.source {
            Source::Named { name, size } => Some((name, size)),
            Source::Host(_) => None,
        });
        named
            .map(|(name, size)| {
                let amount = size.as_deref().unwrap_or(SIZE);
                let claim = value!({
                    "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                    "metadata": (self.metadata(&claim_name(self.name, name))),
                    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": amount}}}
                });
                (claim, size.is_some())
            })
            .collect()
    }

    /// The name under which the edge knows it: below `localhost`, which every browser takes for this machine.
    fn host(&self) -> String {
        match (&self.run.host, self.namespace) {
            (Some(host), _) => host.clone(),
            (None, "default") => format!("{}.localhost", self.name),
            (None, namespace) => format!("{}.{namespace}.localhost", self.name),
        }
    }

    fn labels(&self) -> Value {
        let mut labels = Map::new();
        labels.insert(NAME, self.name);
        labels.insert(MANAGED_BY, MANAGER);
        labels.into()
    }

    fn metadata(&self, name: &str) -> Value {
        value!({"name": name, "namespace": (self.namespace), "labels": (self.labels())})
    }

    fn annotations(&self) -> Value {
        let run = self.run;
        let pids = run.pids.map(|pids| pids.to_string());
        let mut annotations = Map::new();
        for (name, amount) in [(PIDS, &pids), (IO_READ, &run.io_read), (IO_WRITE, &run.io_write)] {
            if let Some(amount) = amount {
                annotations.insert(name, amount.as_str());
            }
        }
        annotations.into()
    }

    fn container(&self) -> Value {
        let run = self.run;
        let env: Vec<Value> = run
            .env
            .iter()
            .enumerate()
            // The last of several of one name counts; the list may name each once.
            .filter(|(at, variable)| run.env[at + 1..].iter().all(|later| later.name != variable.name))
            .map(|(_, variable)| value!({"name": (variable.name.as_str()), "value": (variable.value.as_str())}))
            .collect();
        let mut limits = Map::new();
        for (name, amount) in [("memory", &run.memory), ("cpu", &run.cpus)] {
            if let Some(amount) = amount {
                limits.insert(name, amount.as_str());
            }
        }
        let mut ports: Vec<i64> = run.ports.iter().map(|port| i64::from(port.container)).collect();
        ports.sort_unstable();
        ports.dedup();
        let ports: Vec<Value> =
            ports.iter().map(|port| value!({"containerPort": (*port), "protocol": "TCP"})).collect();
        let mut container = value!({
            "name": (self.name), "image": (run.image()), "imagePullPolicy": "IfNotPresent", "env": env,
            "ports": ports, "resources": {"limits": (Value::from(limits))}, "volumeMounts": (self.mounts())
        });
        if let Value::Object(container) = &mut container {
            if !run.command().is_empty() {
                container.insert("args", run.command().iter().map(String::as_str).collect::<Vec<_>>());
            }
            if let Some(port) = run.ports.first() {
                // Ready is who takes connections.
                let probe = value!({
                    "tcpSocket": {"port": (i64::from(port.container))}, "periodSeconds": 1, "failureThreshold": 3
                });
                container.insert("readinessProbe", probe);
            }
        }
        container
    }

    fn volumes(&self) -> Vec<Value> {
        let one = |(at, volume): (usize, &Volume)| match &volume.source {
            Source::Named { name, .. } => {
                let claim = claim_name(self.name, name);
                value!({"name": (volume_name(at)), "persistentVolumeClaim": {"claimName": claim}})
            }
            Source::Host(path) => value!({"name": (volume_name(at)), "hostPath": {"path": (path.as_str())}}),
        };
        self.run.volumes.iter().enumerate().map(one).collect()
    }

    fn mounts(&self) -> Vec<Value> {
        let one = |(at, volume): (usize, &Volume)| {
            let (name, target) = (volume_name(at), volume.target.as_str());
            value!({"name": name, "mountPath": target, "readOnly": (volume.readonly)})
        };
        self.run.volumes.iter().enumerate().map(one).collect()
    }
}

fn volume_name(at: usize) -> String {
    format!("v{at}")
}

/// The claim of a volume: two applications may use the same word.
fn claim_name(app: &str, volume: &str) -> String {
    format!("{app}-{volume}")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        run: Run,
    }

    fn parse(words: &str) -> Run {
        Command::try_parse_from(format!("run {words}").split(' ')).expect("a command line").run
    }

    #[track_caller]
    fn wanted<T>(words: &str, of: impl FnOnce(&Wanted<'_>) -> T) -> T {
        let run = parse(words);
        of(&Wanted { run: &run, name: "web", namespace: "default" })
    }

    fn pod(deployment: &Value) -> &Value {
        deployment.at(&["spec", "template", "spec"]).expect("a pod")
    }

    #[test]
    fn an_image_alone_is_a_deployment_alone() {
        wanted("nginx", |wanted| {
            assert!(wanted.service().is_none() && wanted.ingress().is_none() && wanted.claims().is_empty());
            let deployment = wanted.deployment();
            assert_eq!(deployment.i64_at(&["spec", "replicas"]), Some(1));
            assert_eq!(deployment.str_at(&["spec", "strategy", "type"]), "RollingUpdate");
            let container = &pod(&deployment).get("containers").and_then(Value::as_array).expect("one")[0];
            assert_eq!(container.str_at(&["image"]), "nginx");
            assert!(container.get("args").is_none() && container.get("readinessProbe").is_none());
        });
    }

    #[test]
    fn every_option_is_in_its_place() {
        let words = "-p 80:8080 -p 9090 -e A=1 -e A=2 --memory 64Mi --cpus 0.5 --pids 30 --io-read 5M --io-write 1M \
                     --replicas 2 -v /srv:/www:ro nginx serve --fast";
        wanted(words, |wanted| {
            let deployment = wanted.deployment();
            let template = deployment.at(&["spec", "template"]).expect("a template");
            let annotations = template.at(&["metadata", "annotations"]).expect("annotations");
            let expected =
                value!({"corten.dev/pids": "30", "corten.dev/io-read-bps": "5M", "corten.dev/io-write-bps": "1M"});
            assert_eq!(annotations, &expected);
            let container = &pod(&deployment).get("containers").and_then(Value::as_array).expect("one")[0];
            assert_eq!(container.get("args"), Some(&value!(["serve", "--fast"])));
            assert_eq!(container.get("env"), Some(&value!([{"name": "A", "value": "2"}])));
            assert_eq!(container.at(&["resources", "limits"]), Some(&value!({"memory": "64Mi", "cpu": "0.5"})));
            assert_eq!(container.i64_at(&["readinessProbe", "tcpSocket", "port"]), Some(8080));
            let mount = value!([{"name": "v0", "mountPath": "/www", "readOnly": true}]);
            assert_eq!(container.get("volumeMounts"), Some(&mount));
            assert_eq!(pod(&deployment).get("volumes"), Some(&value!([{"name": "v0", "hostPath": {"path": "/srv"}}])));
            let service = wanted.service().expect("a service");
            let ports = service.at(&["spec", "ports"]).and_then(Value::as_array).expect("ports");
            assert_eq!((ports.len(), ports[0].i64_at(&["targetPort"])), (2, Some(8080)));
            let ingress = wanted.ingress().expect("an ingress");
            let rule = &ingress.at(&["spec", "rules"]).and_then(Value::as_array).expect("rules")[0];
            assert_eq!(rule.str_at(&["host"]), "web.localhost");
        });
    }

    #[test]
    fn a_named_volume_is_a_claim_of_the_application() {
        wanted("-v data:/var/lib/x -v logs:/logs:size=5Gi db", |wanted| {
            let claims = wanted.claims();
            let brief: Vec<_> = claims
                .iter()
                .map(|(claim, said)| {
                    let size = claim.str_at(&["spec", "resources", "requests", "storage"]);
                    (claim.str_at(&["metadata", "name"]), size, *said)
                })
                .collect();
            assert_eq!(brief, [("web-data", "1Gi", false), ("web-logs", "5Gi", true)]);
            let deployment = wanted.deployment();
            assert_eq!(deployment.at(&["spec", "strategy"]), Some(&value!({"type": "Recreate"})));
            let volumes = pod(&deployment).get("volumes").and_then(Value::as_array).expect("volumes");
            assert_eq!(volumes[0].str_at(&["persistentVolumeClaim", "claimName"]), "web-data");
        });
    }

    #[test]
    fn hosts_of_namespaces_do_not_meet() {
        let run = parse("-p 80 nginx");
        let host = |namespace: &str| Wanted { run: &run, name: "web", namespace }.host();
        assert_eq!((host("default").as_str(), host("shop").as_str()), ("web.localhost", "web.shop.localhost"));
    }
}
