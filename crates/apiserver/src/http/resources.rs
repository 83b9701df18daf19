//! Requests for resources: which verb of the registry, or which connector, answers; and the reading verbs.

use std::sync::Arc;

use bytes::Bytes;
use corten_apimachinery::kind::{KindInfo, Serve, Subresource};
use corten_apimachinery::schema::Node;
use corten_apimachinery::status::{Details, Status};
use corten_apimachinery::value::{Str, Value};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};

use crate::http::body::{self, Output, Response};
use crate::http::negotiate::{Accepted, BodyEncoding, Offer, body_encoding, negotiate, unsupported_body};
use crate::http::pipeline::{Api, Call, warn};
use crate::http::present::{Presentation, TableOptions};
use crate::http::{protobuf, query};
use crate::registry::{Body, Context, List, ListOptions, ObjectError, Sent, Shown, Target};

/// Longest name of a field manager taken from a user agent (upstream's limit).
const MANAGER_CHARS_MAX: usize = 128;

impl Api {
    pub(crate) async fn serve_resource(self: &Arc<Self>, call: Call) -> Response {
        let output = call.output;
        let Some(kind) = call.kind.clone() else {
            return self.unknown_resource(&call);
        };
        let deprecated = kind.strategy.deprecated.clone();
        let mut response = match self.serve_kind(call, kind).await {
            Ok(response) => response,
            Err(status) => output.status(&status),
        };
        if let Some(text) = deprecated {
            warn(&mut response, &[text.into()]);
        }
        response
    }

    /// A resource that is not served: a Status below a group that is, plain text elsewhere, as upstream.
    fn unknown_resource(&self, call: &Call) -> Response {
        let kinds = self.registry.kinds();
        if self.discovery.of(&kinds).serves(&call.info.group) {
            call.output.status(&Status::unknown_path())
        } else {
            body::text(404, "404 page not found\n")
        }
    }

    async fn serve_kind(self: &Arc<Self>, call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        let info = &call.info;
        if info.in_namespace != kind.namespaced() {
            // Without a namespace, namespaced objects can only be listed and watched.
            match info.verb.as_str() {
                "list" | "watch" if kind.namespaced() => {}
                _ if kind.namespaced() && info.name.is_empty() => return Err(method_not_allowed()),
                _ => return Err(Status::unknown_path()),
            }
        }
        if info.subresource.is_empty() {
            if call.request.method() == http::Method::HEAD && matches!(info.verb.as_str(), "list" | "watch") {
                return Err(method_not_allowed());
            }
            let of_one = matches!(info.verb.as_str(), "get" | "update" | "patch" | "delete");
            let of_many = matches!(info.verb.as_str(), "create" | "deletecollection");
            let named = !info.name.is_empty();
            if !kind.verbs.iter().any(|verb| *verb == info.verb) || (of_one && !named) || (of_many && named) {
                return Err(method_not_allowed());
            }
            if kind.storage_prefix.is_empty() {
                return self.connect(call, kind, None).await;
            }
        } else {
            let sub = kind.subresource(&info.subresource).ok_or_else(Status::unknown_path)?.clone();
            if !sub.verbs.iter().any(|verb| *verb == info.verb) {
                return Err(method_not_allowed());
            }
            if matches!(sub.serve, Serve::Handler) {
                return self.connect(call, kind, Some(sub)).await;
            }
            if info.parts.len() > 3 {
                return Err(Status::unknown_path());
            }
        }
        match info.verb.as_str() {
            "get" => self.get(call, kind).await,
            "list" => self.list(call, kind).await,
            "watch" => self.watch(call, kind).await,
            _ => self.write(call, kind).await,
        }
    }

    async fn get(&self, call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        let presentation = call.presentation(&kind, self.clock.now_s())?;
        let revision = call.query.first("resourceVersion").unwrap_or_default().to_owned();
        let options = ListOptions { resource_version: revision, ..ListOptions::default() };
        let shown = self.registry.get(&call.target(&kind), &options).await?;
        presentation.object(200, &shown)
    }

    async fn list(&self, call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        let presentation = call.presentation(&kind, self.clock.now_s())?;
        let options = call.list_options(false)?;
        let list = self.registry.list(&kind, &call.namespace(&kind), &options).await?;
        presentation.list(list)
    }
}

impl Call {
    pub(crate) fn namespace(&self, kind: &KindInfo) -> Str {
        if kind.namespaced() { self.info.namespace.as_str().into() } else { Str::default() }
    }

    pub(crate) fn target(&self, kind: &Arc<KindInfo>) -> Target {
        Target {
            kind: kind.clone(),
            namespace: self.namespace(kind),
            name: self.info.name.as_str().into(),
            subresource: self.info.subresource.as_str().into(),
        }
    }

    pub(crate) fn context(&self, sent: &Sent) -> Context {
        let asked = &sent.field_manager;
        let manager = if asked.is_empty() { manager_of(self.header(USER_AGENT)) } else { asked.clone() };
        Context::new(self.user.clone(), manager).with_sent(sent.clone())
    }

    /// The options of list and watch; a name in the path (`/watch/pods/a`) becomes a field selector.
    pub(crate) fn list_options(&self, watch: bool) -> Result<ListOptions, Status> {
        let mut options = query::list_options(&self.query, watch)?;
        let name = &self.info.name;
        if !name.is_empty() && options.field_selector.is_empty() {
            options.field_selector = format!("metadata.name={name}");
        }
        Ok(options)
    }

    /// Objects that no store has, as this request asks for them.
    pub(crate) fn show_unstored(
        &self,
        presentation: &Presentation,
        target: &Target,
        objects: &[Value],
    ) -> Result<Response, Status> {
        if self.info.verb == "list" {
            let options = self.list_options(false)?;
            return presentation.list(List::unstored(&target.kind, &target.namespace, &options, objects)?);
        }
        presentation.object(200, &Shown::unstored_one(target, objects)?)
    }

    /// The form of the answer for objects of a kind.
    pub(crate) fn presentation(&self, kind: &Arc<KindInfo>, now_s: i64) -> Result<Presentation, Status> {
        let accepted = self.accepted(kind, false)?;
        let output = Output { encoding: accepted.encoding, ..self.output };
        self.present(kind, accepted, output, now_s)
    }

    pub(crate) fn accepted(&self, kind: &KindInfo, stream: bool) -> Result<Accepted, Status> {
        let collection = matches!(self.info.verb.as_ref(), "list" | "watch");
        let offer = Offer { protobuf: false, protobuf_named: has_protobuf(kind), stream, collection };
        negotiate(self.header(ACCEPT), offer)
    }

    pub(crate) fn present(
        &self,
        kind: &Arc<KindInfo>,
        accepted: Accepted,
        output: Output,
        now_s: i64,
    ) -> Result<Presentation, Status> {
        let table = TableOptions::parse(&self.query, accepted.representation)?;
        let representation = accepted.representation;
        Ok(Presentation { kind: kind.clone(), representation, output, table, now_s })
    }

    /// Reads and decodes the request's body as an object of a kind.
    pub(crate) async fn object(&mut self, kind: &KindInfo) -> Result<Body, Status> {
        let protobuf = has_protobuf(kind);
        let encoding =
            body_encoding(self.header(CONTENT_TYPE)).filter(|own| protobuf || *own != BodyEncoding::Protobuf);
        let encoding = encoding.ok_or_else(|| unsupported_body(protobuf))?;
        let bytes = self.bytes().await?;
        match encoding {
            BodyEncoding::Protobuf => protobuf::decode(kind, &bytes),
            text => body::decode_text(&bytes, text, &kind.gvk.kind),
        }
    }

    /// Reads the request's body.
    pub(crate) async fn bytes(&mut self) -> Result<Bytes, Status> {
        body::read(std::mem::replace(self.request.body_mut(), body::full(Bytes::new()))).await
    }
}

/// Whether bodies of a kind have a protobuf form: built-in kinds do, custom resources do not.
pub(crate) fn has_protobuf(kind: &KindInfo) -> bool {
    matches!(kind.schema.node(), Node::Table(_))
}

/// The answer to a verb that the resource does not have.
pub(crate) fn method_not_allowed() -> Status {
    Status {
        code: 405,
        reason: "MethodNotAllowed",
        message: "the server does not allow this method on the requested resource".to_owned(),
        details: Some(Box::new(Details::default())),
        continue_token: None,
    }
}

/// A field manager's name from a user agent: what stands before the first slash, printable.
fn manager_of(user_agent: &str) -> Str {
    let name = user_agent.split('/').next().unwrap_or_default();
    name.chars().filter(|character| !character.is_control()).take(MANAGER_CHARS_MAX).collect()
}

/// A stored object that cannot be shown: the server's fault, and never silently left out.
pub(crate) fn unreadable(error: &ObjectError) -> Status {
    Status::internal(error)
}

/// The kind of a subresource's request body.
pub(crate) fn body_kind(api: &Api, kind: &Arc<KindInfo>, sub: Option<&Subresource>) -> Result<Arc<KindInfo>, Status> {
    let Some(sub) = sub.filter(|sub| sub.gvk != kind.gvk) else { return Ok(kind.clone()) };
    let found = api.registry.kinds().kind(&sub.gvk).cloned();
    found.ok_or_else(|| Status::internal(format_args!("no kind {} is installed for the endpoint's body", sub.gvk)))
}
