//! Paths that are no resource: discovery, OpenAPI, health, version, metrics, the index, and the binary's own routes.

use std::sync::Arc;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use http::Method;
use http::header::{ACCEPT, CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};

use crate::discovery::{Document, Documents, Form};
use crate::http::body::{self, Response};
use crate::http::negotiate::{Clause, no_representation};
use crate::http::pipeline::{Api, Call};
use crate::http::resources::method_not_allowed;
use corten_apimachinery::status::Status;

/// The types that discovery's refusals list.
const DISCOVERY_TYPES: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

impl Api {
    pub(crate) async fn serve_path(self: &Arc<Self>, call: Call) -> Response {
        let path = call.info.path.clone();
        if let Some(route) = self.routes.find(&path) {
            return route.serve(call.request, call.user).await;
        }
        if let Some(response) = self.checks.serve(&path, &call.query).await {
            return response;
        }
        if !matches!(*call.request.method(), Method::GET | Method::HEAD) {
            let known = self.index(&self.documents()).contains(&path);
            return if known { call.output.status(&method_not_allowed()) } else { not_found() };
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        match parts.as_slice() {
            [""] => call.output.value(200, &value!({"paths": (self.index(&self.documents()))})),
            ["version"] => call.output.value(200, &self.version.to_value()),
            ["metrics"] => body::respond(200, "text/plain; version=0.0.4; charset=utf-8", self.metrics.print()),
            ["api" | "apis", ..] => self.discover(&call, &parts),
            ["openapi", rest @ ..] => self.openapi(&call, rest),
            _ => not_found(),
        }
    }

    pub(crate) fn documents(&self) -> Arc<Documents> {
        self.discovery.of(&self.registry.kinds())
    }

    fn index(&self, documents: &Documents) -> Vec<String> {
        let mut paths = documents.paths();
        paths.extend(self.checks.paths());
        paths.extend(self.routes.paths().map(str::to_owned));
        paths.extend(["/metrics", "/openapi/v2", "/openapi/v3", "/version"].map(str::to_owned));
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    fn discover(&self, call: &Call, parts: &[&str]) -> Response {
        let documents = self.documents();
        let form = match parts {
            ["api" | "apis"] => Form::accepted(call.header(ACCEPT)),
            _ => Some(Form::Legacy),
        };
        let Some(form) = form else { return call.output.status(&unacceptable(call.header(ACCEPT))) };
        if let (Form::Aggregated(version), [root]) = (form, parts) {
            let document = documents.aggregated(&format!("/{root}"), version);
            return document.map_or_else(not_found, |document| tagged(call, document, &form.media_type()));
        }
        let legacy: Option<Value> = match parts {
            ["api"] => Some(documents.versions(self.server_address(call))),
            ["apis"] => Some(documents.group_list()),
            ["api", version] => documents.resource_list("", version),
            ["apis", group] => documents.group(group),
            ["apis", group, version] => documents.resource_list(group, version),
            _ => None,
        };
        match (legacy, parts) {
            (Some(value), _) => call.output.value(200, &value),
            (None, ["api", _]) => call.output.status(&Status::unknown_path()),
            (None, ["apis", group, _]) if documents.serves(group) => call.output.status(&Status::unknown_path()),
            (None, _) => not_found(),
        }
    }

    /// The address by which this client reached the server.
    fn server_address<'a>(&self, call: &'a Call) -> &'a str {
        let authority = call.request.uri().authority().map(http::uri::Authority::as_str);
        authority.unwrap_or_else(|| call.header(http::header::HOST))
    }
}

fn unacceptable(accept: &str) -> Status {
    let known = Clause::parse_all(accept).iter().any(|clause| clause.matches("json") || clause.matches("yaml"));
    if known { Status::not_acceptable(DISCOVERY_TYPES) } else { no_representation() }
}

pub(crate) fn not_found() -> Response {
    body::text(404, "404 page not found\n")
}

/// A document with its entity tag; 304 where the client has it already.
pub(crate) fn tagged(call: &Call, document: &Document, media_type: &str) -> Response {
    let known = call.header(IF_NONE_MATCH).split(',').any(|tag| tag.trim() == document.etag);
    let mut response = if known {
        let mut response = body::respond(304, media_type, "");
        response.headers_mut().remove(http::header::CONTENT_TYPE);
        response
    } else {
        body::respond(200, media_type, document.bytes.clone())
    };
    body::set(&mut response, ETAG, &document.etag);
    body::set(&mut response, VARY, "Accept");
    body::set(&mut response, CACHE_CONTROL, "public");
    response
}
