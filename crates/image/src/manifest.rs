//! Manifests and configurations of images: what OCI's image specification and Docker's schema 2 have in common.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::{Config, ImageError};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What a registry may send when it is asked for an image.
pub(crate) const MANIFEST_TYPES: [&str; 4] = [
    OCI_MANIFEST,
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Bytes of a manifest or an index; registries promise no more.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Bytes of a configuration.
pub(crate) const CONFIG_BYTES_MAX: u64 = 8 << 20;
/// Layers of an image; the kernel stacks no more in one overlay.
const LAYERS_MAX: usize = 500;

/// A piece of content: what it is, its digest, its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What an image is made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    pub os: String,
    pub architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// What a manifest's bytes turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    schema_version: Option<u32>,
    manifests: Option<Vec<Descriptor>>,
    layers: Option<serde::de::IgnoredAny>,
    config: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Reads an index or a manifest. One that could be taken for both is refused: two readers must not see two images.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let shape: Shape =
            serde_json::from_slice(bytes).map_err(|error| format!("the manifest is malformed: {error}"))?;
        if shape.schema_version == Some(1) {
            return Err("the manifest has Docker's schema 1, which is no longer supported; push the image anew".into());
        }
        match (shape.manifests, shape.layers.is_some() || shape.config.is_some()) {
            (Some(_), true) => Err("the manifest could be read as an index too".into()),
            (Some(manifests), false) => Ok(Self::Index(manifests)),
            (None, _) => {
                let manifest: Manifest =
                    serde_json::from_slice(bytes).map_err(|error| format!("the manifest is malformed: {error}"))?;
                manifest.check()?;
                Ok(Self::Manifest(manifest))
            }
        }
    }
}

impl Manifest {
    fn check(&self) -> Result<(), String> {
        if ![OCI_CONFIG, DOCKER_CONFIG].contains(&self.config.media_type.as_str()) {
            return Err(format!("it is no image of a container: its configuration is {:?}", self.config.media_type));
        }
        if self.config.size > CONFIG_BYTES_MAX {
            return Err(format!("its configuration has {} bytes, more than {CONFIG_BYTES_MAX}", self.config.size));
        }
        if self.layers.len() > LAYERS_MAX {
            return Err(format!("it has {} layers, more than {LAYERS_MAX}", self.layers.len()));
        }
        Ok(())
    }
}

/// How a layer's tar is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// By a layer's media type; both families, and their variants for layers that may not be pushed elsewhere.
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        let kind = media_type
            .strip_prefix("application/vnd.oci.image.layer.v1.tar")
            .or_else(|| media_type.strip_prefix("application/vnd.oci.image.layer.nondistributable.v1.tar"))
            .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.diff.tar"))
            .or_else(|| media_type.strip_prefix("application/vnd.docker.image.rootfs.foreign.diff.tar"))?;
        match kind {
            "" => Some(Self::Plain),
            "+gzip" | ".gzip" => Some(Self::Gzip),
            "+zstd" | ".zstd" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// By the first bytes, where nothing says the media type.
    pub(crate) fn sniff(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// An image's configuration file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default)]
    pub(crate) config: Option<Execution>,
    pub(crate) rootfs: RootFs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) history: Option<Vec<History>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct RootFs {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) diff_ids: Vec<Digest>,
}

/// How a layer came to be; for people.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct History {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) created_by: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) empty_layer: bool,
}

/// What to run. Docker writes `null` for empty lists.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Execution {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) env: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) working_dir: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) exposed_ports: Option<BTreeMap<String, BTreeMap<String, String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) labels: Option<BTreeMap<String, String>>,
}

impl ConfigFile {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("the configuration is malformed: {error}"))?;
        if file.rootfs.kind != "layers" {
            return Err(format!("the configuration's rootfs is {:?}, not \"layers\"", file.rootfs.kind));
        }
        Ok(file)
    }

    /// What the image says about its containers.
    pub(crate) fn execution(&self) -> Config {
        let said = self.config.clone().unwrap_or_default();
        Config {
            user: said.user.unwrap_or_default(),
            env: said.env.unwrap_or_default(),
            entrypoint: said.entrypoint.unwrap_or_default(),
            cmd: said.cmd.unwrap_or_default(),
            working_dir: said.working_dir.unwrap_or_default(),
            stop_signal: said.stop_signal.unwrap_or_default(),
            exposed_ports: said.exposed_ports.unwrap_or_default().into_keys().collect(),
            labels: said.labels.unwrap_or_default().into_iter().collect(),
        }
    }

    /// Refuses a configuration that is made for another machine. Images without the two fields are taken as ours.
    pub(crate) fn check_platform(&self, reference: &str, ours: &Platform) -> Result<(), ImageError> {
        let theirs =
            Platform { os: self.os.clone(), architecture: self.architecture.clone(), variant: self.variant.clone() };
        let unsaid = self.os.is_empty() && self.architecture.is_empty();
        if unsaid || ours.runs(&theirs) {
            return Ok(());
        }
        Err(ours.refuse(reference, &theirs.to_string()))
    }
}

impl Platform {
    /// This machine's, in the words of Go, which images use.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant: None }
    }

    /// Whether a machine of this platform can run an image of that one. Variants above the first are not assumed.
    fn runs(&self, image: &Self) -> bool {
        let first = match image.architecture.as_str() {
            "arm64" => "v8",
            _ => "v1",
        };
        let variant = image.variant.as_deref().filter(|variant| !variant.is_empty());
        self.os == image.os
            && self.architecture == image.architecture
            && (self.variant.as_deref() == variant || variant.is_none_or(|variant| variant == first))
    }

    /// The entry of an index that is made for this machine; one that does not say its platform is tried last.
    pub(crate) fn choose<'a>(&self, reference: &str, entries: &'a [Descriptor]) -> Result<&'a Descriptor, ImageError> {
        let fits = |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|platform| self.runs(platform));
        let unsaid = |entry: &&Descriptor| entry.platform.is_none();
        let chosen = entries.iter().find(fits).or_else(|| entries.iter().find(unsaid));
        chosen.ok_or_else(|| {
            let platforms = entries.iter().filter_map(|entry| entry.platform.as_ref());
            let said = platforms.filter(|platform| platform.os != "unknown").map(Self::to_string);
            let offered: Vec<String> = said.collect();
            let offered = if offered.is_empty() { "nothing at all".to_owned() } else { offered.join(", ") };
            self.refuse(reference, &offered)
        })
    }

    fn refuse(&self, reference: &str, offered: &str) -> ImageError {
        let (reference, offered) = (reference.to_owned(), offered.to_owned());
        ImageError::Platform { reference, platform: self.to_string(), offered }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(platform: Option<(&str, &str, Option<&str>)>) -> Descriptor {
        let platform = platform.map(|(os, architecture, variant)| Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(str::to_owned),
        });
        Descriptor {
            media_type: OCI_MANIFEST.into(),
            digest: Digest::of(format!("{platform:?}").as_bytes()),
            size: 1,
            platform,
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn an_index_gives_the_machine_its_own() {
        let amd64 = Platform { os: "linux".into(), architecture: "amd64".into(), variant: None };
        let arm64 = Platform { architecture: "arm64".into(), ..amd64.clone() };
        let entries = [
            entry(Some(("linux", "amd64", Some("v3")))),
            entry(Some(("linux", "arm64", Some("v8")))),
            entry(Some(("windows", "amd64", None))),
            entry(Some(("unknown", "unknown", None))),
            entry(Some(("linux", "amd64", None))),
        ];
        assert_eq!(amd64.choose("a", &entries), Ok(&entries[4]));
        assert_eq!(arm64.choose("a", &entries), Ok(&entries[1]));
        assert_eq!(amd64.choose("a", &[entry(None)]), Ok(&entry(None)));
        let text = amd64.choose("a", &entries[..4]).expect_err("none fits").to_string();
        assert_eq!(text, "a is not made for linux/amd64; it has linux/amd64/v3, linux/arm64/v8, windows/amd64");
    }

    #[track_caller]
    fn refuse(json: &str, expected: &str) {
        let problem = Document::parse(json.as_bytes()).expect_err(json);
        assert!(problem.starts_with(expected), "{problem}");
    }

    #[test]
    fn what_is_no_image_is_refused() {
        let digest = Digest::of(b"");
        let descriptor = format!(r#"{{"mediaType":"{OCI_CONFIG}","digest":"{digest}","size":1}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#);
        assert!(matches!(Document::parse(manifest.as_bytes()), Ok(Document::Manifest(_))));
        refuse("{", "the manifest is malformed");
        refuse(r#"{"schemaVersion":1}"#, "the manifest has Docker's schema 1");
        refuse(&manifest.replace("[]", r#"[],"manifests":[]"#), "the manifest could be read as an index too");
        refuse(&manifest.replace(OCI_CONFIG, "application/vnd.cncf.helm.config.v1+json"), "it is no image");
        refuse(&manifest.replace("\"size\":1", "\"size\":99999999"), "its configuration has 99999999 bytes");
        let layers = vec![descriptor.as_str(); 501].join(",");
        refuse(&manifest.replace("[]", &format!("[{layers}]")), "it has 501 layers, more than 500");
    }

    #[test]
    fn packings_go_by_media_type_or_by_the_first_bytes() {
        assert_eq!(Packing::of(OCI_LAYER_ZSTD), Some(Packing::Zstd));
        assert_eq!(Packing::of("application/vnd.docker.image.rootfs.diff.tar.gzip"), Some(Packing::Gzip));
        assert_eq!(Packing::of("application/vnd.oci.image.layer.v1.tar"), Some(Packing::Plain));
        assert_eq!(Packing::of("application/vnd.oci.image.layer.v1.tar+lzma"), None);
        assert_eq!(Packing::of("text/plain"), None);
        assert_eq!(Packing::sniff(&[0x1f, 0x8b, 8]), Packing::Gzip);
        assert_eq!(Packing::sniff(b"oci-layout"), Packing::Plain);
    }

    #[test]
    fn a_configuration_with_nulls_is_read() {
        let json = r#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["a"],"ExposedPorts":{"80/tcp":{}},
            "Labels":null,"Volumes":{"/x":{}}},"rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config = ConfigFile::parse(json.as_bytes()).expect("well formed").execution();
        assert_eq!((config.cmd, config.exposed_ports), (vec!["a".to_owned()], vec!["80/tcp".to_owned()]));
        assert!(ConfigFile::parse(br#"{"rootfs":{"type":"else","diff_ids":[]}}"#).is_err());
    }
}
