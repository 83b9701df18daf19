//! OpenAPI documents, made from the kinds' records: one of version 3 per group and version, with hashes for caches
//! (KEP-2896), and one of version 2 for all, in JSON and in protobuf.
//!
//! Documents are made when they are first asked for and kept compressed. When kinds change, only the documents of the
//! groups concerned are made again.

mod definitions;
mod operations;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use corten_apimachinery::kind::{KindInfo, api_version};
use corten_apimachinery::openapi::{Definitions, gnostic};
use corten_apimachinery::value::{Map, Str, Value};
use corten_apimachinery::{json, value};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::header::{ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, ETAG, IF_NONE_MATCH, VARY};

use crate::discovery::hash;
use crate::http::body::{self, Response};
use crate::http::negotiate::Clause;
use crate::http::paths::not_found;
use crate::http::pipeline::{Api, Call};
use crate::registry::KindSet;

/// The documents that were made so far.
#[derive(Default)]
pub struct OpenApi {
    versions: Mutex<BTreeMap<(Str, Str), Arc<Document>>>,
    second: [Mutex<Option<Arc<Document>>>; 2],
}

/// What a document is written in.
#[derive(Clone, Copy)]
enum Form {
    Json,
    /// Version 2 alone.
    Protobuf,
}

/// The names of version 2 in protobuf; the answer is under the first, clients of today ask for the other.
const PROTOBUF: [&str; 2] =
    ["com.github.proto-openapi.spec.v2.v1.0+protobuf", "com.github.proto-openapi.spec.v2@v1.0+protobuf"];

impl Form {
    /// The first form that the client takes.
    fn negotiate(accept: &str, protobuf: bool) -> Option<Self> {
        if accept.is_empty() {
            return Some(Self::Json);
        }
        Clause::parse_all(accept).iter().find_map(|clause| match clause {
            clause if clause.matches("json") => Some(Self::Json),
            clause if protobuf && PROTOBUF.iter().any(|sub| clause.matches(sub)) => Some(Self::Protobuf),
            _ => None,
        })
    }

    fn encode(self, value: &Value) -> Vec<u8> {
        match self {
            Self::Json => json::to_vec(value),
            Self::Protobuf => gnostic::encode(value),
        }
    }

    fn media_type(self) -> String {
        match self {
            Self::Json => "application/json".to_owned(),
            Self::Protobuf => format!("application/{}", PROTOBUF[0]),
        }
    }
}

/// One document: what it was made of, and its compressed bytes.
struct Document {
    kinds: Vec<Arc<KindInfo>>,
    form: Form,
    gzip: Bytes,
    hash: String,
}

impl Document {
    fn new(kinds: Vec<Arc<KindInfo>>, form: Form, value: &Value) -> Self {
        let bytes = form.encode(value);
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 8), Compression::fast());
        encoder.write_all(&bytes).expect("writing to memory cannot fail");
        let gzip = encoder.finish().expect("writing to memory cannot fail").into();
        Self { kinds, form, gzip, hash: hash(&bytes) }
    }

    fn is_of(&self, kinds: &[Arc<KindInfo>]) -> bool {
        self.kinds.len() == kinds.len() && self.kinds.iter().zip(kinds).all(|(own, other)| Arc::ptr_eq(own, other))
    }
}

impl OpenApi {
    /// The version 3 document of a group and version.
    fn version(&self, title: &str, kinds: &KindSet, group: &Str, version: &Str) -> Arc<Document> {
        let own: Vec<Arc<KindInfo>> = of_version(kinds, group, version).cloned().collect();
        let key = (group.clone(), version.clone());
        let kept = self.versions.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(document) = kept.filter(|document| document.is_of(&own)) {
            return document;
        }
        let mut definitions = Definitions::default();
        let paths = operations::paths(&own, &mut definitions, kinds);
        let value = value!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": title},
            "paths": paths,
            "components": {
                "schemas": (definitions.0.into_iter().map(|(name, schema)| (name.into(), schema)).collect::<Map>()),
                "securitySchemes": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header"}},
            },
        });
        let document = Arc::new(Document::new(own, Form::Json, &value));
        self.versions.lock().unwrap_or_else(PoisonError::into_inner).insert(key, document.clone());
        document
    }

    /// The version 2 document.
    fn second(&self, title: &str, kinds: &KindSet, form: Form) -> Arc<Document> {
        let own: Vec<Arc<KindInfo>> = kinds.iter().cloned().collect();
        let place = &self.second[form as usize];
        let kept = place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(document) = kept.filter(|document| document.is_of(&own)) {
            return document;
        }
        let mut definitions = Definitions::default();
        let paths = operations::second_paths(operations::paths(&own, &mut definitions, kinds));
        let schemas =
            definitions.0.iter().map(|(name, schema)| (Str::from(name.as_str()), definitions::second(schema)));
        let value = value!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": title},
            "paths": paths,
            "definitions": (schemas.collect::<Map>()),
            "securityDefinitions": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header"}},
            "security": [{"BearerToken": []}],
        });
        let document = Arc::new(Document::new(own, form, &value));
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(document.clone());
        document
    }
}

/// The kinds of one group and version that have an endpoint.
fn of_version<'a>(kinds: &'a KindSet, group: &'a Str, version: &'a Str) -> impl Iterator<Item = &'a Arc<KindInfo>> {
    let own = move |kind: &&Arc<KindInfo>| kind.gvk.group == *group && kind.gvk.version == *version;
    kinds.iter().filter(|kind| kind.is_resource()).filter(own)
}

/// Groups and versions with an endpoint, each once, with its path below `/openapi/v3/`.
fn versions(kinds: &KindSet) -> BTreeMap<String, (Str, Str)> {
    let served = kinds.iter().filter(|kind| kind.is_resource());
    served.map(|kind| (root(kind), (kind.gvk.group.clone(), kind.gvk.version.clone()))).collect()
}

/// `api/v1` or `apis/apps/v1`.
fn root(kind: &KindInfo) -> String {
    let base = if kind.gvk.group.is_empty() { "api" } else { "apis" };
    format!("{base}/{}", api_version(&kind.gvk.group, &kind.gvk.version))
}

impl Api {
    /// Answers `/openapi/…`; `rest` is what follows.
    pub(crate) fn openapi(&self, call: &Call, rest: &[&str]) -> Response {
        let Some(form) = Form::negotiate(call.header(ACCEPT), rest == ["v2"]) else { return body::text(406, "") };
        let kinds = self.registry.kinds();
        let title = &self.version.git_version;
        match rest {
            ["v2"] => send(call, &self.openapi.second(title, &kinds, form), false),
            ["v3"] => call.output.value(200, &self.openapi_index(&kinds)),
            ["v3", path @ ..] => {
                let Some((group, version)) = versions(&kinds).remove(&path.join("/")) else { return not_found() };
                let document = self.openapi.version(title, &kinds, &group, &version);
                match call.query.first("hash") {
                    Some(asked) if asked != document.hash => moved(&path.join("/"), &document.hash),
                    asked => send(call, &document, asked.is_some()),
                }
            }
            _ => not_found(),
        }
    }

    fn openapi_index(&self, kinds: &KindSet) -> Value {
        let mut paths = Map::new();
        for (path, (group, version)) in versions(kinds) {
            let document = self.openapi.version(&self.version.git_version, kinds, &group, &version);
            let url = format!("/openapi/v3/{path}?hash={}", document.hash);
            paths.insert(path, value!({"serverRelativeURL": url}));
        }
        value!({"paths": paths})
    }
}

/// An outdated hash: the client is sent to the document of now.
fn moved(path: &str, hash: &str) -> Response {
    let mut response = body::text(301, "");
    body::set(&mut response, http::header::LOCATION, &format!("/openapi/v3/{path}?hash={hash}"));
    response
}

fn send(call: &Call, document: &Document, immutable: bool) -> Response {
    let etag = format!("\"{}\"", document.hash);
    let known = call.header(IF_NONE_MATCH).split(',').any(|tag| tag.trim() == etag);
    let gzip = call.header(ACCEPT_ENCODING).split(',').any(|coding| coding.trim() == "gzip");
    let media_type = document.form.media_type();
    let mut response = match (known, gzip) {
        (true, _) => body::respond(304, &media_type, ""),
        (false, true) => body::respond(200, &media_type, document.gzip.clone()),
        (false, false) => body::respond(200, &media_type, unpack(&document.gzip)),
    };
    if gzip && !known {
        body::set(&mut response, CONTENT_ENCODING, "gzip");
    }
    body::set(&mut response, ETAG, &etag);
    body::set(&mut response, VARY, "Accept-Encoding, Accept");
    let cache = if immutable { "public, immutable, max-age=31536000" } else { "no-cache, private" };
    body::set(&mut response, CACHE_CONTROL, cache);
    response
}

fn unpack(gzip: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(gzip.len() * 10);
    GzDecoder::new(gzip).read_to_end(&mut bytes).expect("the document was compressed by this server");
    bytes
}
