//! What belongs to no object: discovery in its three forms, the OpenAPI index, health, version, paths that are none.

use crate::differential::kinds::Kind;
use crate::differential::scenario::Scenario;
use crate::http::Request;

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
const AGGREGATED_BETA: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

pub(super) fn all(kinds: &[Kind]) -> Vec<Scenario> {
    let mut scenarios = vec![roots(), paths()];
    let mut versions: Vec<(&str, &str)> =
        kinds.iter().map(|kind| (kind.group.as_str(), kind.version.as_str())).collect();
    versions.sort_unstable();
    versions.dedup();
    for (group, version) in versions {
        scenarios.push(of(group, version));
    }
    scenarios
}

fn roots() -> Scenario {
    let mut scenario = Scenario::new("discovery", "roots");
    for path in ["/api", "/apis", "/version"] {
        scenario.step(path, Request::get(path));
    }
    for path in ["/api", "/apis"] {
        scenario.step(format!("{path} aggregated"), Request::get(path).header("accept", AGGREGATED));
        scenario.step(format!("{path} aggregated beta"), Request::get(path).header("accept", AGGREGATED_BETA));
    }
    scenario
}

fn of(group: &str, version: &str) -> Scenario {
    let mut scenario =
        Scenario::new("discovery", if group.is_empty() { "core" } else { group }.to_owned() + "/" + version);
    let path = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    scenario.step("resources", Request::get(&path));
    scenario.step("resources yaml", Request::get(&path).header("accept", "application/yaml"));
    if !group.is_empty() {
        scenario.step("group", Request::get(format!("/apis/{group}")));
    }
    scenario.step("unknown resource", Request::get(format!("{path}/nothings")));
    scenario.step("unknown resource of a namespace", Request::get(format!("{path}/namespaces/diff/nothings")));
    scenario.step("post", Request::new("POST", path).body("application/json", "{}"));
    scenario
}

fn paths() -> Scenario {
    let mut scenario = Scenario::new("discovery", "paths");
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/healthz/ping",
        "/livez/ping",
        "/nothing",
        "/api/v2",
        "/apis/nothing.example.com",
        "/apis/apps/v9",
        "/apis/apps/v9/deployments",
        "/api/",
        "/apis/",
        "/api/v1/",
        "//api/v1",
        "/api/v1/namespaces/diff/",
        "/api/v1/namespaces/absent",
        "/api/v1/namespaces/absent/configmaps",
        "/api/v1/namespaces/diff/configmaps/",
        "/api/v1/pods/name",
        "/api/v1/nodes/a/b/c/d",
        "/api/v1/namespaces/diff/pods/a/log",
        "/api/v1/watch/configmaps?timeoutSeconds=1&fieldSelector=metadata.name%3Dnone",
    ] {
        scenario.step(path, Request::get(path));
    }
    scenario.step("post to health", Request::new("POST", "/healthz"));
    scenario
}
