//! What is read of Ingresses, their classes and their certificates.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::View;

use crate::view::told_by;

/// Upstream's older way to name a class.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class";

/// Annotations that are understood begin so.
pub(super) const ANNOTATION_PREFIX: &str = "nginx.ingress.kubernetes.io/";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ingress {
    /// Older ones win where two say the same; text that sorts by time.
    pub(super) created: Str,
    pub(super) class: Option<Str>,
    pub(super) default_backend: Option<Backend>,
    pub(super) rules: Vec<Rule>,
    pub(super) tls: Vec<Tls>,
    /// Without their prefix.
    pub(super) annotations: Vec<(Str, Str)>,
    /// Where its status says that it is reached, and whether that is our own word.
    pub(super) shown: Vec<Door>,
    pub(super) shown_by_us: bool,
}

/// Where an Ingress is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Door {
    /// An address, or a name where there is none.
    pub(super) host: Str,
    pub(super) ports: Vec<u16>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    /// Empty for every host.
    pub(super) host: Str,
    pub(super) paths: Vec<Path>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) path: Str,
    pub(super) exact: bool,
    /// The edge may read it as it likes, also as a pattern.
    pub(super) implementation_specific: bool,
    pub(super) backend: Backend,
}

/// A port of a service, by name or by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Backend {
    pub(super) service: Str,
    pub(super) port_name: Str,
    pub(super) port_number: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tls {
    pub(super) hosts: Vec<Str>,
    pub(super) secret: Str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Class {
    pub(super) controller: Str,
    pub(super) is_default: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsSecret {
    pub(super) chain_pem: String,
    pub(super) key_pem: String,
}

impl View for Ingress {
    fn from_object(ingress: &Value) -> Option<Self> {
        let meta = Meta::of(ingress);
        let spec = ingress.at(&["spec"])?;
        let by_field = spec.at(&["ingressClassName"]).and_then(Value::as_str);
        let annotations = meta.annotations();
        let understood = annotations.filter_map(|(name, value)| Some((name.strip_prefix(ANNOTATION_PREFIX)?, value)));
        Some(Self {
            created: meta.creation_timestamp().into(),
            class: by_field.or_else(|| meta.annotation(CLASS_ANNOTATION)).map(Str::from),
            default_backend: spec.at(&["defaultBackend"]).and_then(backend),
            rules: list(spec, "rules").iter().map(rule).collect(),
            tls: list(spec, "tls").iter().map(tls).collect(),
            annotations: understood.map(|(name, value)| (name.into(), value.into())).collect(),
            shown: shown(ingress),
            shown_by_us: told_by(ingress, super::status::AGENT),
        })
    }
}

impl View for Class {
    fn from_object(class: &Value) -> Option<Self> {
        let is_default = Meta::of(class).annotation(DEFAULT_CLASS) == Some("true");
        Some(Self { controller: class.str_at(&["spec", "controller"]).into(), is_default })
    }
}

impl View for TlsSecret {
    fn from_object(secret: &Value) -> Option<Self> {
        let text = |field: &str| {
            let bytes = decode(secret.str_at(&["data", field]))?;
            String::from_utf8(bytes).ok()
        };
        // What is no text is no certificate: it is then as if the Secret had none.
        let (chain_pem, key_pem) = (text("tls.crt").unwrap_or_default(), text("tls.key").unwrap_or_default());
        (secret.str_at(&["type"]) == "kubernetes.io/tls").then_some(Self { chain_pem, key_pem })
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

fn shown(ingress: &Value) -> Vec<Door> {
    let told = ingress.at(&["status", "loadBalancer", "ingress"]).and_then(Value::as_array).unwrap_or_default();
    let number = |port: &Value| port.i64_at(&["port"]).and_then(|port| u16::try_from(port).ok());
    let door = |told: &Value| Door {
        host: match told.str_at(&["ip"]) {
            "" => told.str_at(&["hostname"]).into(),
            ip => Str::from(ip),
        },
        ports: list(told, "ports").iter().filter_map(number).collect(),
    };
    told.iter().map(door).collect()
}

fn rule(rule: &Value) -> Rule {
    let paths = rule.at(&["http", "paths"]).and_then(Value::as_array).unwrap_or_default();
    Rule { host: rule.str_at(&["host"]).into(), paths: paths.iter().filter_map(path).collect() }
}

fn path(path: &Value) -> Option<Path> {
    let kind = path.str_at(&["pathType"]);
    let text = path.str_at(&["path"]);
    Some(Path {
        path: if text.is_empty() { Str::const_new("/") } else { text.into() },
        exact: kind == "Exact",
        implementation_specific: kind == "ImplementationSpecific",
        backend: backend(path.at(&["backend"])?)?,
    })
}

/// A backend that is no service (a resource) is one that this edge does not know.
fn backend(backend: &Value) -> Option<Backend> {
    let service = backend.at(&["service"])?;
    let number = service.i64_at(&["port", "number"]).and_then(|number| u16::try_from(number).ok());
    Some(Backend {
        service: service.str_at(&["name"]).into(),
        port_name: service.str_at(&["port", "name"]).into(),
        port_number: number.unwrap_or_default(),
    })
}

fn tls(tls: &Value) -> Tls {
    let hosts = list(tls, "hosts").iter().filter_map(Value::as_str);
    Tls { hosts: hosts.map(Str::from).collect(), secret: tls.str_at(&["secretName"]).into() }
}

fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object.at(&[field]).and_then(Value::as_array).unwrap_or_default()
}
