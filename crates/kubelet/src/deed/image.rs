//! The image of a container, by its pull policy, with the events that tell of it.

use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::value::Value;
use corten_image::{Credentials, Image, ImageError};
use corten_stdx::clock::Stopwatch;
use corten_stdx::error::Chain;

use super::{NotStarted, Subjected};
use crate::pod::Container;
use crate::sources::{Kind, Sources, pull_secrets};

/// Gets the image that a container asks for.
pub(super) async fn image(of: &Subjected, container: Container<'_>) -> Result<Arc<Image>, NotStarted> {
    let ground = &of.ground;
    let (pod, reference) = (of.pod(), container.image());
    let tell = |normal, reason: &str, note: &str| ground.tell(pod, Some(container), normal, reason, note);
    let refused = |reason, error: &ImageError| NotStarted::new(reason, Chain(error).to_string());
    let policy = container.value.str_at(&["imagePullPolicy"]);
    let found = match ground.parts.images.find(reference) {
        Ok(found) => found,
        Err(error) => {
            let not_found = not_looked_up(reference, &error);
            tell(false, "InspectFailed", &not_found.message);
            if policy != "Always" || matches!(error, ImageError::Reference { .. }) {
                return Err(not_found);
            }
            // What is here does not count: the pull may mend it.
            None
        }
    };
    match found {
        Some(image) if policy != "Always" => {
            let note =
                format!("Container image {reference:?} already present on machine and can be accessed by the pod");
            tell(true, "Pulled", &note);
            return Ok(image);
        }
        None if policy == "Never" => {
            let note = format!("Container image {reference:?} is not present with pull policy of Never");
            tell(false, "ErrImageNeverPull", &note);
            tell(false, "Failed", "Error: ErrImageNeverPull");
            return Err(NotStarted::new("ErrImageNeverPull", note));
        }
        _ => {}
    }
    tell(true, "Pulling", &format!("Pulling image {reference:?}"));
    let watch = Stopwatch::start();
    match ground.parts.images.pull(reference, &credentials(of).await).await {
        Ok(image) => {
            let took = watch.elapsed().as_millis();
            let size = image.size_bytes;
            tell(
                true,
                "Pulled",
                &format!(
                    "Successfully pulled image {reference:?} in {took}ms ({took}ms including waiting). Image size: {size} bytes."
                ),
            );
            Ok(image)
        }
        Err(error) => {
            tell(false, "Failed", &format!("Failed to pull image {reference:?}: {}", Chain(&error)));
            tell(false, "Failed", "Error: ErrImagePull");
            Err(refused("ErrImagePull", &error))
        }
    }
}

/// Why it is not known whether an image is there: its name is none, or the store cannot tell.
fn not_looked_up(reference: &str, error: &ImageError) -> NotStarted {
    let (reason, what) = match error {
        ImageError::Reference { .. } => ("InvalidImageName", "apply default image tag"),
        _ => ("ImageInspectError", "inspect image"),
    };
    NotStarted::new(reason, format!("Failed to {what} {reference:?}: {}", Chain(error)))
}

/// What the pod's secrets say of registries. A secret that cannot be had is no obstacle: the registry may not ask.
async fn credentials(of: &Subjected) -> Vec<Credentials> {
    let references = pull_secrets(of.pod());
    if references.is_empty() {
        return Vec::new();
    }
    let sources = match of.sources(references.clone()).await {
        Ok(sources) => sources,
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "the image pull secrets cannot be read");
            return Vec::new();
        }
    };
    let secrets =
        references.iter().filter_map(|(_, name)| sources.objects.get(&(Kind::Secret, name.clone()))?.as_ref());
    secrets.flat_map(of_secret).collect()
}

fn of_secret(secret: &Value) -> Vec<Credentials> {
    let Ok(data) = Sources::data(Kind::Secret, secret) else { return Vec::new() };
    let Some(text) = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg")) else { return Vec::new() };
    let Ok(parsed) = json::parse(text) else { return Vec::new() };
    let list = parsed.value.get("auths").unwrap_or(&parsed.value).as_object();
    let each = list.into_iter().flat_map(|list| list.iter());
    each.map(|(registry, entry)| {
        let (username, password) = name_and_password(entry);
        Credentials { registry: registry.to_string(), username, password }
    })
    .collect()
}

/// `username` and `password`, or both in `auth`.
fn name_and_password(entry: &Value) -> (String, String) {
    use base64::Engine as _;
    let both = base64::engine::general_purpose::STANDARD.decode(entry.str_at(&["auth"]));
    let both = both.ok().and_then(|both| String::from_utf8(both).ok()).unwrap_or_default();
    match both.split_once(':') {
        Some((name, password)) => (name.to_owned(), password.to_owned()),
        None => (entry.str_at(&["username"]).to_owned(), entry.str_at(&["password"]).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn only_a_name_that_is_none_is_called_so() {
        let (name, detail) = ("A:b".to_owned(), "is bad".to_owned());
        let by_name = not_looked_up("A:b", &ImageError::Reference { reference: name.clone(), problem: "is bad" });
        assert_eq!(by_name.reason, "InvalidImageName");
        assert!(by_name.message.starts_with("Failed to apply default image tag \"A:b\": "), "{}", by_name.message);
        let by_disk = not_looked_up("A:b", &ImageError::Corrupt { what: name, detail });
        let message = "Failed to inspect image \"A:b\": A:b is damaged: is bad".to_owned();
        assert_eq!(by_disk, NotStarted::new("ImageInspectError", message));
    }

    #[test]
    fn credentials_are_read_in_both_forms() {
        // {"auths":{"r.example":{"auth":"YTpi"},"s.example":{"username":"c","password":"d"}}}
        let text = "eyJhdXRocyI6eyJyLmV4YW1wbGUiOnsiYXV0aCI6IllUcGkifSwicy5leGFtcGxlIjp7InVzZXJuYW1lIjoiYyIsInBhc3N3b3JkIjoiZCJ9fX0=";
        let found = of_secret(&value!({"data": {".dockerconfigjson": text}}));
        let brief: Vec<String> =
            found.iter().map(|one| format!("{} {} {}", one.registry, one.username, one.password)).collect();
        assert_eq!(brief, ["r.example a b", "s.example c d"]);
    }
}
