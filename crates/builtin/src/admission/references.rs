//! What a pod refers to by name: the way from a node to what its pods need.

use corten_apimachinery::value::Value;

/// Volumes with a `secretRef`.
pub(crate) const SECRET_VOLUMES: [&str; 6] = ["cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO"];

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object.at(path).and_then(Value::as_array).unwrap_or_default()
}

/// The names in the environment of all containers: of single keys and of whole objects.
pub(crate) fn names<'a>(pod: &'a Value, of_key: &str, of_all: &str) -> Vec<&'a str> {
    let containers = CONTAINERS.iter().flat_map(|field| list(pod, &["spec", field]));
    let of = containers.flat_map(|container| {
        let keys = list(container, &["env"]).iter().map(move |env| env.str_at(&["valueFrom", of_key, "name"]));
        keys.chain(list(container, &["envFrom"]).iter().map(move |from| from.str_at(&[of_all, "name"])))
    });
    of.filter(|name| !name.is_empty()).collect()
}

pub(crate) fn config_maps(pod: &Value) -> Vec<&str> {
    let mut names = names(pod, "configMapKeyRef", "configMapRef");
    for volume in list(pod, &["spec", "volumes"]) {
        names.push(volume.str_at(&["configMap", "name"]));
        names
            .extend(list(volume, &["projected", "sources"]).iter().map(|source| source.str_at(&["configMap", "name"])));
    }
    names.retain(|name| !name.is_empty());
    names
}

/// The claims of a pod, those included that are made for it.
pub(crate) fn claims(pod: &Value) -> Vec<String> {
    let own = pod.str_at(&["metadata", "name"]);
    let claim = |volume: &Value| match volume.get("ephemeral") {
        Some(_) => format!("{own}-{}", volume.str_at(&["name"])),
        None => volume.str_at(&["persistentVolumeClaim", "claimName"]).to_owned(),
    };
    list(pod, &["spec", "volumes"]).iter().map(claim).filter(|name| !name.is_empty()).collect()
}

/// The resource claims of a pod, those included that were made for it.
pub(crate) fn resource_claims(pod: &Value) -> Vec<&str> {
    let named = list(pod, &["spec", "resourceClaims"]).iter();
    let made = list(pod, &["status", "resourceClaimStatuses"]).iter();
    let names = named.chain(made).map(|claim| claim.str_at(&["resourceClaimName"]));
    let extended = pod.str_at(&["status", "extendedResourceClaimStatus", "resourceClaimName"]);
    names.chain([extended]).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn everything_a_pod_names_is_found() {
        let pod = value!({
            "metadata": {"name": "p"},
            "spec": {
                "initContainers": [{"envFrom": [{"configMapRef": {"name": "c1"}}]}],
                "containers": [{"env": [{"valueFrom": {"configMapKeyRef": {"name": "c2"}}}, {"value": "x"}]}],
                "volumes": [
                    {"configMap": {"name": "c3"}},
                    {"projected": {"sources": [{"configMap": {"name": "c4"}}, {"secret": {"name": "s"}}]}},
                    {"name": "own", "ephemeral": {}},
                    {"persistentVolumeClaim": {"claimName": "data"}}
                ],
                "resourceClaims": [{"resourceClaimName": "r"}, {"resourceClaimTemplateName": "t"}]
            },
            "status": {"resourceClaimStatuses": [{"resourceClaimName": "made"}]}
        });
        assert_eq!(config_maps(&pod), ["c1", "c2", "c3", "c4"]);
        assert_eq!(claims(&pod), ["p-own", "data"]);
        assert_eq!(resource_claims(&pod), ["r", "made"]);
    }
}
