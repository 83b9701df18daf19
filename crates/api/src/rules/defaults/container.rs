//! Containers, their probes, hooks, ports and environment.

use corten_apimachinery::value::Map;

use super::{absent, fills, text, zero};
use crate::rules::RuleTable;

pub(in crate::rules) const RULES: RuleTable = &[
    ("core/v1.Container", fills(container)),
    ("core/v1.EphemeralContainer", fills(container)),
    ("core/v1.ContainerPort", fills(|port| zero(port, "protocol", "TCP"))),
    ("core/v1.FileKeySelector", fills(|file| absent(file, "optional", false))),
    ("core/v1.GRPCAction", fills(|grpc| absent(grpc, "service", ""))),
    (
        "core/v1.HTTPGetAction",
        fills(|http| {
            zero(http, "path", "/");
            zero(http, "scheme", "HTTP");
        }),
    ),
    ("core/v1.ObjectFieldSelector", fills(|field| zero(field, "apiVersion", "v1"))),
    (
        "core/v1.Probe",
        fills(|probe| {
            zero(probe, "timeoutSeconds", 1);
            zero(probe, "periodSeconds", 10);
            zero(probe, "successThreshold", 1);
            zero(probe, "failureThreshold", 3);
        }),
    ),
];

fn container(container: &mut Map) {
    let policy = pull_policy(text(container, "image"));
    zero(container, "imagePullPolicy", policy);
    zero(container, "terminationMessagePath", "/dev/termination-log");
    zero(container, "terminationMessagePolicy", "File");
}

/// An image that may move (`latest`, said or implied) is pulled always.
pub(super) fn pull_policy(image: &str) -> &'static str {
    if moving_tag(image) { "Always" } else { "IfNotPresent" }
}

/// Whether a reference resolves to the tag `latest`: named so, or with neither tag nor digest. What is no reference
/// has no tag at all.
fn moving_tag(image: &str) -> bool {
    if image.is_empty() {
        return false;
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let last = name.rsplit('/').next().unwrap_or(name);
    let (repository, tag) = match last.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (last, None),
    };
    let well_formed = !repository.is_empty() && !name.chars().any(|c| c.is_whitespace()) && !upper_case_path(name);
    well_formed && tag.map_or(!digest, |tag| tag == "latest")
}

/// Repository names are lower-case; only a registry's host before the first slash may differ.
fn upper_case_path(name: &str) -> bool {
    let path = match name.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" || host != host.to_lowercase() => path,
        _ => name,
    };
    let path = path.rsplit_once(':').map_or(path, |(repository, _)| repository);
    path.chars().any(|c| c.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;
    use corten_apimachinery::value;

    #[test]
    fn pull_policies() {
        for (image, expect) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.29", "IfNotPresent"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/a/nginx:2", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("nginx:latest@sha256:abc", "Always"),
            ("", "IfNotPresent"),
            ("Nginx", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), expect, "{image}");
        }
    }

    #[test]
    fn containers() {
        check(
            "core/v1.Container",
            value!({"name": "a", "image": "a:1"}),
            &value!({
                "name": "a", "image": "a:1", "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"
            }),
        );
        check(
            "core/v1.ContainerPort",
            value!({"containerPort": 80}),
            &value!({"containerPort": 80, "protocol": "TCP"}),
        );
    }

    #[test]
    fn probes() {
        check(
            "core/v1.Probe",
            value!({"periodSeconds": 5, "timeoutSeconds": 0}),
            &value!({"periodSeconds": 5, "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3}),
        );
        check("core/v1.HTTPGetAction", value!({"port": 1}), &value!({"port": 1, "path": "/", "scheme": "HTTP"}));
        check("core/v1.GRPCAction", value!({"port": 1}), &value!({"port": 1, "service": ""}));
    }
}
