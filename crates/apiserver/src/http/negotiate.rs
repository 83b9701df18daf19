//! Which form an answer takes: the `Accept` header against what an endpoint offers.
//!
//! A client names encodings with weights (RFC 9110 § 12.5.1) and, by the parameters `as`, `g` and `v`, a
//! representation other than the object itself. A clause that the endpoint cannot serve is passed over.

use corten_apimachinery::status::Status;

/// Clauses of one `Accept` header that are looked at; more are ignored.
const CLAUSES_MAX: usize = 64;

const META_GROUP: &str = "meta.k8s.io";
const PROTOBUF: &str = "vnd.kubernetes.protobuf";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// `v1` or `v1beta1` of `meta.k8s.io`; they differ in `apiVersion` alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaVersion {
    V1,
    V1Beta1,
}

/// What is shown of an object or list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Representation {
    #[default]
    Object,
    Table(MetaVersion),
    /// `PartialObjectMetadata` of one object, or of a watch's objects.
    Metadata(MetaVersion),
    MetadataList(MetaVersion),
}

/// What an endpoint can answer with.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// An encoder for protobuf exists.
    pub protobuf: bool,
    /// The kind has a protobuf form, so refusals name it as upstream does.
    pub protobuf_named: bool,
    /// A watch: no YAML.
    pub stream: bool,
    /// The path lists and watches, so that refusals name the types of both.
    pub collection: bool,
}

/// The answer's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub encoding: Encoding,
    pub representation: Representation,
    pub pretty: bool,
}

/// One clause of an `Accept` header.
#[derive(Clone, Debug, PartialEq)]
pub struct Clause<'a> {
    pub kind: &'a str,
    pub sub: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

impl MetaVersion {
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1Beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

impl Encoding {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Yaml => "application/yaml",
            Self::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }
}

impl Offer {
    /// The types as refusals list them.
    fn names(self) -> &'static str {
        match (self.stream, self.protobuf_named) {
            (false, true) => "application/json, application/yaml, application/vnd.kubernetes.protobuf",
            (false, false) => "application/json, application/yaml",
            (true, true) => "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch",
            (true, false) => "application/json;stream=watch",
        }
    }

    fn encodings(self) -> impl Iterator<Item = (Encoding, &'static str)> {
        let all = [(Encoding::Json, "json"), (Encoding::Yaml, "yaml"), (Encoding::Protobuf, PROTOBUF)];
        all.into_iter().filter(move |(encoding, _)| match encoding {
            Encoding::Json => true,
            Encoding::Yaml => !self.stream,
            Encoding::Protobuf => self.protobuf,
        })
    }
}

impl<'a> Clause<'a> {
    /// The clauses by falling weight; among equals what is more specific first, else in order.
    pub fn parse_all(accept: &'a str) -> Vec<Self> {
        let mut clauses: Vec<Self> = accept.split(',').take(CLAUSES_MAX).filter_map(Self::parse).collect();
        clauses.sort_by(|a, b| {
            b.quality
                .total_cmp(&a.quality)
                .then((a.kind == "*").cmp(&(b.kind == "*")))
                .then((a.sub == "*").cmp(&(b.sub == "*")))
        });
        clauses
    }

    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, sub) = match parts.next()? {
            "*" => ("*", "*"),
            media => media.split_once('/')?,
        };
        let mut clause = Clause { kind: kind.trim(), sub: sub.trim(), quality: 1.0, parameters: Vec::new() };
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            if key == "q" {
                clause.quality = value.parse().ok().filter(|quality: &f32| quality.is_finite()).unwrap_or(1.0);
            } else {
                clause.parameters.push((key, value));
            }
        }
        Some(clause)
    }

    pub fn parameter(&self, key: &str) -> &'a str {
        self.parameters.iter().find(|(own, _)| *own == key).map_or("", |(_, value)| value)
    }

    pub fn matches(&self, sub: &str) -> bool {
        match (self.kind, self.sub) {
            ("*", "*") | ("application", "*") => true,
            ("application", own) => own == sub,
            _ => false,
        }
    }

    /// Whether `as`, `g` or `v` ask for another representation.
    pub fn converts(&self) -> bool {
        self.parameters.iter().any(|(key, _)| matches!(*key, "as" | "g" | "v"))
    }

    /// The representation asked for; `None` if there is none of that name.
    fn representation(&self, encoding: Encoding) -> Option<Representation> {
        if !self.converts() {
            return Some(Representation::Object);
        }
        let version = match (self.parameter("g"), self.parameter("v")) {
            (META_GROUP, "v1") => MetaVersion::V1,
            (META_GROUP, "v1beta1") => MetaVersion::V1Beta1,
            _ => return None,
        };
        match self.parameter("as") {
            "Table" => (encoding != Encoding::Protobuf).then_some(Representation::Table(version)),
            "PartialObjectMetadata" => Some(Representation::Metadata(version)),
            "PartialObjectMetadataList" => Some(Representation::MetadataList(version)),
            _ => None,
        }
    }
}

/// Picks the answer's form; refused with 406 if the client takes nothing that is offered.
pub fn negotiate(accept: &str, offer: Offer) -> Result<Accepted, Status> {
    if accept.is_empty() {
        let representation = Representation::Object;
        return Ok(Accepted { encoding: Encoding::Json, representation, pretty: false });
    }
    for clause in Clause::parse_all(accept) {
        for (encoding, sub) in offer.encodings().filter(|(_, sub)| clause.matches(sub)) {
            let stream = clause.parameter("stream");
            let streams = stream.is_empty() || (stream == "watch" && encoding != Encoding::Yaml);
            if !streams || !clause.parameter("sv").is_empty() {
                continue;
            }
            if let Some(representation) = clause.representation(encoding) {
                tracing::trace!(sub, "negotiated");
                return Ok(Accepted { encoding, representation, pretty: clause.parameter("pretty") == "1" });
            }
        }
    }
    Err(if offer.protobuf_named && !names_any(accept) {
        unroutable(offer.collection)
    } else {
        Status::not_acceptable(offer.names())
    })
}

/// Whether any clause names a type that built-in kinds are served in, whatever its parameters.
fn names_any(accept: &str) -> bool {
    let known = ["json", "yaml", PROTOBUF];
    Clause::parse_all(accept).iter().any(|clause| known.iter().any(|sub| clause.matches(sub)))
}

/// The refusal where not even the type is known, as upstream's router words it.
pub(crate) fn no_representation() -> Status {
    unroutable(false)
}

fn unroutable(collection: bool) -> Status {
    let names = |stream| Offer { protobuf: false, protobuf_named: true, stream, collection }.names();
    let streams = if collection { format!(", {}", names(true)) } else { String::new() };
    Status {
        message: format!("406: Not Acceptable\n\nAvailable representations: {}{streams}", names(false)),
        details: Some(Box::default()),
        ..Status::not_acceptable("")
    }
}

/// A client that a person reads: upstream indents for it unless `?pretty=` says otherwise.
pub fn is_human(user_agent: &str) -> bool {
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|prefix| user_agent.starts_with(prefix))
}

/// The encoding of a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEncoding {
    Json,
    Yaml,
    Protobuf,
}

/// Reads a `Content-Type`; `None`: 415.
pub fn body_encoding(content_type: &str) -> Option<BodyEncoding> {
    match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "application/json" => Some(BodyEncoding::Json),
        "application/yaml" => Some(BodyEncoding::Yaml),
        "application/vnd.kubernetes.protobuf" => Some(BodyEncoding::Protobuf),
        _ => None,
    }
}

/// The refusal of a representation that an endpoint does not have.
pub fn not_acceptable(protobuf: bool) -> Status {
    Status::not_acceptable(Offer { protobuf, protobuf_named: protobuf, stream: false, collection: false }.names())
}

/// The refusal of a body's type.
pub fn unsupported_body(protobuf: bool) -> Status {
    Status::unsupported_media_type(
        Offer { protobuf, protobuf_named: protobuf, stream: false, collection: false }.names(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Offer = Offer { protobuf: false, protobuf_named: true, stream: false, collection: false };
    const STREAM: Offer = Offer { protobuf: false, protobuf_named: true, stream: true, collection: true };

    fn check(accept: &str, offer: Offer, encoding: Encoding, representation: Representation) {
        let accepted = negotiate(accept, offer).unwrap_or_else(|status| panic!("{accept}: {status}"));
        assert_eq!((accepted.encoding, accepted.representation), (encoding, representation), "{accept}");
    }

    #[test]
    fn encodings() {
        use Encoding::{Json, Protobuf, Yaml};
        let object = Representation::Object;
        check("", PLAIN, Json, object);
        check("*/*", PLAIN, Json, object);
        check("application/*", PLAIN, Json, object);
        check("application/yaml", PLAIN, Yaml, object);
        check("application/yaml, application/json;q=0.9", PLAIN, Yaml, object);
        check("application/yaml;q=0.5, application/json;q=0.9", PLAIN, Json, object);
        check("application/vnd.kubernetes.protobuf,application/json", PLAIN, Json, object);
        check("application/vnd.kubernetes.protobuf, */*", PLAIN, Json, object);
        check("application/vnd.kubernetes.protobuf", Offer { protobuf: true, ..PLAIN }, Protobuf, object);
        check("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", PLAIN, Json, object);
        check("application/json;stream=watch", STREAM, Json, object);
        check("*/*, application/yaml", PLAIN, Yaml, object);
    }

    #[test]
    fn representations() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        check(table, PLAIN, Encoding::Json, Representation::Table(MetaVersion::V1));
        check(
            "application/json;as=Table;g=meta.k8s.io;v=v1beta1",
            STREAM,
            Encoding::Json,
            Representation::Table(MetaVersion::V1Beta1),
        );
        check(
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,\
             application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
            PLAIN,
            Encoding::Json,
            Representation::MetadataList(MetaVersion::V1),
        );
        check(
            "application/json;as=Unknown;g=meta.k8s.io;v=v1, application/json",
            PLAIN,
            Encoding::Json,
            Representation::Object,
        );
    }

    #[test]
    fn refusals() {
        let text = |accept, offer| negotiate(accept, offer).unwrap_err().message;
        assert_eq!(
            text("application/cbor", PLAIN),
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        );
        assert_eq!(
            text("application/xml", Offer { collection: true, ..PLAIN }),
            "406: Not Acceptable\n\nAvailable representations: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf, application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        );
        assert_eq!(
            text("application/vnd.kubernetes.protobuf", PLAIN),
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf"
        );
        assert_eq!(
            text("application/yaml", STREAM),
            "only the following media types are accepted: application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        );
        let custom = Offer { protobuf: false, protobuf_named: false, stream: false, collection: false };
        assert_eq!(
            text("application/vnd.kubernetes.protobuf", custom),
            "only the following media types are accepted: application/json, application/yaml"
        );
        assert_eq!(negotiate("application/json;as=Table;v=v2;g=meta.k8s.io", PLAIN).unwrap_err().code, 406);
    }

    #[test]
    fn request_bodies() {
        assert_eq!(body_encoding(""), Some(BodyEncoding::Json));
        assert_eq!(body_encoding("application/json; charset=utf-8"), Some(BodyEncoding::Json));
        assert_eq!(body_encoding("application/yaml"), Some(BodyEncoding::Yaml));
        assert_eq!(body_encoding("application/cbor"), None);
    }
}
