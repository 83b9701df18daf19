//! What `run` makes of one image: which objects belong together, and how they are known again.

use anyhow::ensure;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::name::dns1035_label;
use corten_apimachinery::value::Value;
use corten_client::Resource;

/// The field manager, and the program's name in what it makes.
pub(crate) const MANAGER: &str = "corten-run";

pub(crate) const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");
pub(crate) const REPLICA_SETS: Resource = Resource::new("apps", "v1", "replicasets");
pub(crate) const PODS: Resource = Resource::new("", "v1", "pods");
pub(crate) const SERVICES: Resource = Resource::new("", "v1", "services");
pub(crate) const INGRESSES: Resource = Resource::new("networking.k8s.io", "v1", "ingresses");
pub(crate) const CLAIMS: Resource = Resource::new("", "v1", "persistentvolumeclaims");

/// Upstream's recommended labels.
pub(crate) const NAME: &str = "app.kubernetes.io/name";
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Selects everything that was made by `run`.
pub(crate) fn ours() -> String {
    format!("{MANAGED_BY}={MANAGER}")
}

/// Selects everything of one application.
pub(crate) fn of(name: &str) -> String {
    format!("{NAME}={name},{}", ours())
}

/// Whether `run` has made an object.
pub(crate) fn is_ours(object: &Value) -> bool {
    Meta::of(object).label(MANAGED_BY) == Some(MANAGER)
}

/// Refuses what cannot name a Service, a host and a label at once.
pub(crate) fn check_name(name: &str) -> anyhow::Result<()> {
    let reasons = dns1035_label(name);
    ensure!(reasons.is_empty(), "{name:?} cannot be a name: {}; choose one with --name", reasons.join(", "));
    Ok(())
}

/// The name that an image gives by itself: the last part of its path, without tag and digest.
pub(crate) fn name_of(image: &str) -> String {
    let path = image.split('@').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    let plain = last.split(':').next().unwrap_or_default().to_lowercase();
    let label: String = plain.chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
    label.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_gives_a_name() {
        let check = |image: &str, expect: &str| assert_eq!(name_of(image), expect);
        check("localhost/shop/www:1", "www");
        check("registry.example:5000/Team/My_App", "my-app");
        check("busybox@sha256:abc", "busybox");
        check("localhost:5000/x.y:2@sha256:abc", "x-y");
    }

    #[test]
    fn a_name_is_good_for_a_service_and_a_host() {
        assert!(check_name("www").is_ok());
        for bad in ["", "7zip", "Www", "a.b", "-a"] {
            let said = check_name(bad).expect_err(bad).to_string();
            assert!(said.contains("--name"), "{said}");
        }
    }
}
