//! The kind `Notifier`: its definition, which control installs like any custom kind, and what it asks for, read from an object.

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::Resource;

use crate::fact::Kind;

pub const GROUP: &str = "corten.dev";
pub const VERSION: &str = "v1alpha1";
pub const NOTIFIERS: Resource = Resource::new(GROUP, VERSION, "notifiers");
pub const API_VERSION: &str = "corten.dev/v1alpha1";
pub const KIND: &str = "Notifier";

/// A notifier of this namespace is told of the whole cluster; of another one, of what is in it.
pub const EVERYTHING: &str = "kube-system";

/// On an object: nobody is told of it until that time (RFC 3339).
pub const SILENCE: &str = "corten.dev/silence-until";

/// Messages an hour, where nothing else is asked for.
const MESSAGES_PER_HOUR: i64 = 20;

/// What a notifier asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    pub target: Target,
    pub facts: Vec<Kind>,
    /// Nobody is told of anything until then, in Unix seconds.
    pub silent_until_s: i64,
    pub messages_per_hour: i64,
}

/// Where messages go. Secrets are named, not held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Webhook {
        url: Text,
        /// The value of the header `Authorization`.
        authorization: Option<Text>,
        authorities_pem: Str,
    },
    Email {
        host: Str,
        port: u16,
        security: Security,
        from: Str,
        to: Vec<Str>,
        /// A Secret with `username` and `password`.
        credentials: Option<Str>,
        authorities_pem: Str,
    },
}

/// A text that stands in the object, or under a key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Text {
    Plain(Str),
    Secret { name: Str, key: Str },
}

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    StartTls,
    /// From the first byte on.
    Tls,
    /// For a server of one's own machine or network.
    None,
}

impl Spec {
    /// Reads an object that has passed the schema; `None` where it names no target.
    pub fn of(notifier: &Value) -> Option<Self> {
        let spec = notifier.get("spec")?;
        let facts = spec.get("facts").and_then(Value::as_array);
        let facts = facts.map(|facts| facts.iter().filter_map(|fact| Kind::of_name(fact.as_str()?)).collect());
        Some(Self {
            target: webhook(spec).or_else(|| email(spec))?,
            facts: facts.unwrap_or_else(|| Kind::ALL.to_vec()),
            silent_until_s: seconds(spec.str_at(&["silenceUntil"])),
            messages_per_hour: spec.i64_at(&["messagesPerHour"]).unwrap_or(MESSAGES_PER_HOUR),
        })
    }
}

fn webhook(spec: &Value) -> Option<Target> {
    let webhook = spec.get("webhook")?;
    let plain = webhook.get("url").and_then(Value::as_str).map(|url| Text::Plain(url.into()));
    Some(Target::Webhook {
        url: plain.or_else(|| secret(webhook, "urlFrom"))?,
        authorization: secret(webhook, "authorizationFrom"),
        authorities_pem: webhook.str_at(&["authorities"]).into(),
    })
}

fn email(spec: &Value) -> Option<Target> {
    let email = spec.get("email")?;
    let security = match email.str_at(&["security"]) {
        "TLS" => Security::Tls,
        "None" => Security::None,
        _ => Security::StartTls,
    };
    let usual = if security == Security::Tls { 465 } else { 587 };
    let to = email.get("to").and_then(Value::as_array).unwrap_or_default();
    Some(Target::Email {
        host: email.str_at(&["host"]).into(),
        port: email.i64_at(&["port"]).and_then(|port| u16::try_from(port).ok()).unwrap_or(usual),
        security,
        from: email.str_at(&["from"]).into(),
        to: to.iter().filter_map(|one| one.as_str().map(Str::from)).collect(),
        credentials: email.at(&["credentialsFrom", "name"]).and_then(Value::as_str).map(Str::from),
        authorities_pem: email.str_at(&["authorities"]).into(),
    })
}

fn secret(of: &Value, field: &str) -> Option<Text> {
    let from = of.get(field)?;
    Some(Text::Secret { name: from.str_at(&["name"]).into(), key: from.str_at(&["key"]).into() })
}

/// Unix seconds of a time; 0 for none, or for what is none.
pub(crate) fn seconds(text: &str) -> i64 {
    Time::parse(text).map_or(0, |time| time.seconds)
}

/// The definition of the kind.
pub fn definition() -> Value {
    let column = |name: &str, kind: &str, path: &str| value!({"name": name, "type": kind, "jsonPath": path});
    let columns = vec![
        column("Delivering", "string", ".status.conditions[?(@.type==\"Delivering\")].status"),
        column("Open", "integer", ".status.open"),
        column("Waiting", "integer", ".status.waiting"),
        column("Last", "date", ".status.lastMessageTime"),
        column("Age", "date", ".metadata.creationTimestamp"),
    ];
    let schema = value!({
        "type": "object", "required": ["spec"],
        "description": "Tells somebody, by a webhook or by e-mail, what is wrong and when it is well again: of the whole cluster in the namespace kube-system, of its own namespace elsewhere.",
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": (spec_schema()), "status": (status_schema())
        }
    });
    value!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "notifiers.corten.dev"},
        "spec": {
            "group": GROUP, "scope": "Namespaced",
            "names": {"plural": "notifiers", "singular": "notifier", "kind": KIND, "listKind": "NotifierList"},
            "versions": [{
                "name": VERSION, "served": true, "storage": true, "subresources": {"status": {}},
                "additionalPrinterColumns": columns, "schema": {"openAPIV3Schema": schema}
            }]
        }
    })
}

fn spec_schema() -> Value {
    let names: Vec<Value> = Kind::ALL.iter().map(|kind| kind.name().into()).collect();
    value!({
        "type": "object",
        "oneOf": [{"required": ["webhook"]}, {"required": ["email"]}],
        "properties": {
            "webhook": (webhook_schema()),
            "email": (email_schema()),
            "facts": {
                "type": "array", "minItems": 1, "x-kubernetes-list-type": "set",
                "description": "What is told; everything where it is left out.",
                "items": {"type": "string", "enum": names}
            },
            "silenceUntil": {
                "type": "string", "format": "date-time",
                "description": "Nothing is told until this time. What is still wrong then is told then."
            },
            "messagesPerHour": {
                "type": "integer", "minimum": 1, "maximum": 3600, "default": MESSAGES_PER_HOUR,
                "description": "Half of them may come at once. News beyond that wait, and come together."
            }
        }
    })
}

fn webhook_schema() -> Value {
    value!({
        "type": "object",
        "description": "Gets each message as JSON by HTTP POST, and takes it by any answer from 200 to 299.",
        "oneOf": [{"required": ["url"]}, {"required": ["urlFrom"]}],
        "properties": {
            "url": {"type": "string", "pattern": "^https?://[^\\s]+$", "maxLength": 2048},
            "urlFrom": (key_schema("Where the URL stands, if it is a secret itself.")),
            "authorizationFrom": (key_schema("The value of the header Authorization.")),
            "authorities": (authorities_schema())
        }
    })
}

fn email_schema() -> Value {
    let address = || value!({"type": "string", "minLength": 3, "maxLength": 320});
    value!({
        "type": "object",
        "description": "Gets each message as an e-mail, which the server takes by SMTP.",
        "required": ["host", "from", "to"],
        "properties": {
            "host": {"type": "string", "minLength": 1, "maxLength": 253},
            "port": {"type": "integer", "minimum": 1, "maximum": 65_535, "description": "587, or 465 for TLS."},
            "security": {
                "type": "string", "enum": ["StartTLS", "TLS", "None"], "default": "StartTLS",
                "description": "Without it, nothing is sent: a server that offers no STARTTLS is refused."
            },
            "from": (address()),
            "to": {"type": "array", "minItems": 1, "maxItems": 50, "items": (address())},
            "credentialsFrom": {
                "type": "object", "required": ["name"],
                "description": "A Secret of this namespace with username and password (kubernetes.io/basic-auth).",
                "properties": {"name": {"type": "string", "minLength": 1}}
            },
            "authorities": (authorities_schema())
        }
    })
}

fn key_schema(description: &str) -> Value {
    value!({
        "type": "object", "required": ["name", "key"], "description": description,
        "properties": {
            "name": {"type": "string", "minLength": 1, "description": "A Secret of this namespace."},
            "key": {"type": "string", "minLength": 1}
        }
    })
}

fn authorities_schema() -> Value {
    value!({"type": "string", "description": "Certificates in PEM that are trusted beside those of the server's machine."})
}

/// The ledger is for control alone; people read the rest.
fn status_schema() -> Value {
    value!({
        "type": "object",
        "properties": {
            "observedGeneration": {"type": "integer", "format": "int64"},
            "open": {"type": "integer", "description": "How much is wrong."},
            "waiting": {"type": "integer", "description": "News that were not delivered yet."},
            "lastMessageTime": {"type": "string", "format": "date-time"},
            "conditions": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"],
                "items": {
                    "type": "object", "required": ["type", "status"],
                    "properties": {
                        "type": {"type": "string"}, "status": {"type": "string"}, "reason": {"type": "string"},
                        "message": {"type": "string"}, "lastTransitionTime": {"type": "string", "format": "date-time"}
                    }
                }
            },
            "ledger": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_is_read() {
        let notifier = value!({"spec": {
            "webhook": {"urlFrom": {"name": "chat", "key": "url"}, "authorizationFrom": {"name": "chat", "key": "token"}},
            "facts": ["Node", "Disk"], "silenceUntil": "1970-01-01T00:01:00Z", "messagesPerHour": 5
        }});
        let of = |key: &str| Text::Secret { name: "chat".into(), key: key.into() };
        let target =
            Target::Webhook { url: of("url"), authorization: Some(of("token")), authorities_pem: Str::default() };
        let expected = Spec { target, facts: vec![Kind::Node, Kind::Disk], silent_until_s: 60, messages_per_hour: 5 };
        assert_eq!(Spec::of(&notifier), Some(expected));
    }

    #[test]
    fn an_email_has_the_usual_port_of_its_security() {
        let port = |security: &str| {
            let notifier = value!({"spec": {"email": {
                "host": "mail.example.com", "from": "a@example.com", "to": ["b@example.com"], "security": security}}});
            match Spec::of(&notifier)?.target {
                Target::Email { port, .. } => Some(port),
                Target::Webhook { .. } => None,
            }
        };
        assert_eq!(["StartTLS", "TLS", "None"].map(port), [Some(587), Some(465), Some(587)]);
        assert_eq!(Spec::of(&value!({"spec": {}})), None);
    }
}
