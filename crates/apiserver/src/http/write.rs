//! Requests that change something: create, update, patch, delete, deletecollection.

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use http::header::CONTENT_TYPE;

use crate::http::body::{self, Response};
use crate::http::negotiate::{BodyEncoding, body_encoding, unsupported_body};
use crate::http::pipeline::{Api, Call, warn};
use crate::http::query::{self, WriteKind};
use crate::http::resources::{body_kind, has_protobuf, method_not_allowed};
use crate::http::{present, protobuf};
use crate::registry::{DeleteOptions, Deleted, Patch, Written};

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

impl Api {
    pub(crate) async fn write(self: &Arc<Self>, call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        match call.info.verb.as_str() {
            "create" => self.create(call, kind).await,
            "update" => self.update(call, kind).await,
            "patch" => self.patch(call, kind).await,
            "delete" => self.delete(call, kind).await,
            "deletecollection" => self.delete_collection(call, kind).await,
            _ => Err(method_not_allowed()),
        }
    }

    async fn create(&self, mut call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        let presentation = call.presentation(&kind, self.clock.now_s())?;
        let body = call.object(&kind).await?;
        let write = query::write_options(&call.query, WriteKind::Create)?;
        let (context, target) = (call.context(&write.sent), call.target(&kind));
        let made = self.registry.create(&context, &target, body, write.options).await;
        written(&presentation, &context, made)
    }

    async fn update(&self, mut call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        let presentation = call.presentation(&kind, self.clock.now_s())?;
        let body_kind = body_kind(self, &kind, kind.subresource(&call.info.subresource))?;
        let body = call.object(&body_kind).await?;
        let write = query::write_options(&call.query, WriteKind::Update)?;
        let (context, target) = (call.context(&write.sent), call.target(&kind));
        let made = self.registry.update(&context, &target, body, write.options).await;
        written(&presentation, &context, made)
    }

    async fn patch(&self, mut call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        let media_type = call.header(CONTENT_TYPE).split(';').next().unwrap_or_default().to_owned();
        let strategic = has_protobuf(&kind);
        let known = match media_type.as_str() {
            STRATEGIC_PATCH => strategic,
            JSON_PATCH | MERGE_PATCH | APPLY_PATCH => true,
            _ => false,
        };
        if !known {
            return Err(unknown_patch(strategic));
        }
        let presentation = call.presentation(&kind, self.clock.now_s())?;
        let bytes = call.bytes().await?;
        let apply = media_type == APPLY_PATCH;
        let write = query::write_options(&call.query, if apply { WriteKind::Apply } else { WriteKind::Patch })?;
        let patch = match media_type.as_str() {
            JSON_PATCH => Patch::Json(bytes.clone()),
            MERGE_PATCH => Patch::Merge(patch_text(&bytes)?),
            STRATEGIC_PATCH => Patch::Strategic(patch_text(&bytes)?),
            _ => Patch::Apply(body::configuration(&bytes, &kind.gvk.kind)?),
        };
        let (context, target) = (call.context(&write.sent), call.target(&kind));
        let made = self.registry.patch(&context, &target, patch, write.options).await;
        written(&presentation, &context, made)
    }

    async fn delete(&self, mut call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        let presentation = call.presentation(&kind, self.clock.now_s())?;
        let options = self.delete_options(&mut call).await?;
        let mut warnings = delete_warnings(&kind, &options);
        let (context, target) = (call.context(&Default::default()), call.target(&kind));
        let deleted = self.registry.delete(&context, &target, &options).await;
        warnings.extend(context.take_warnings());
        let mut response = match deleted {
            Ok(Deleted::Object(shown)) => presentation.object(200, &shown)?,
            Ok(Deleted::Status(status)) => presentation.output.status(&status),
            Err(status) => return refused(call.output, status, &warnings),
        };
        warn(&mut response, &warnings);
        Ok(response)
    }

    async fn delete_collection(&self, mut call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        let presentation = call.presentation(&kind, self.clock.now_s())?;
        let options = self.delete_options(&mut call).await?;
        let selection = call.list_options(false)?;
        let (context, namespace) = (call.context(&Default::default()), call.namespace(&kind));
        let deleted = self.registry.delete_collection(&context, &kind, &namespace, &options, &selection).await;
        let mut warnings = delete_warnings(&kind, &options);
        warnings.extend(context.take_warnings());
        let list = match deleted {
            Ok(list) => list,
            Err(status) => return refused(call.output, status, &warnings),
        };
        let mut response = presentation.list(list)?;
        warn(&mut response, &warnings);
        Ok(response)
    }

    /// `DeleteOptions` from the body, or from the query where there is none.
    async fn delete_options(&self, call: &mut Call) -> Result<DeleteOptions, Status> {
        let encoding = body_encoding(call.header(CONTENT_TYPE));
        let bytes = call.bytes().await?;
        if bytes.is_empty() {
            return query::delete_options(&call.query);
        }
        let value = match encoding.ok_or_else(|| unsupported_body(true))? {
            BodyEncoding::Protobuf => protobuf::delete_options(&self.registry.kinds(), &bytes)?,
            text => body::parse_text(&bytes, text).map_err(Status::bad_request)?.value,
        };
        let (kind, version) = (value.str_at(&["kind"]), value.str_at(&["apiVersion"]));
        if !matches!(kind, "" | "DeleteOptions") {
            let message = format!(
                "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
            );
            return Err(Status::bad_request(message));
        }
        query::delete_options_of(&value)
    }
}

/// What a delete is told for what its options leave open.
fn delete_warnings(kind: &KindInfo, options: &DeleteOptions) -> Vec<String> {
    let open = options.propagation.is_none();
    kind.strategy.warn_delete.filter(|_| open).map(str::to_owned).into_iter().collect()
}

/// A refusal with the warnings that came before it.
pub(crate) fn refused(output: body::Output, status: Status, warnings: &[String]) -> Result<Response, Status> {
    if warnings.is_empty() {
        return Err(status);
    }
    let mut response = output.status(&status);
    warn(&mut response, warnings);
    Ok(response)
}

/// The refusal of a patch's type: built-in kinds' comes from upstream's router, custom resources' lists the types.
fn unknown_patch(built_in: bool) -> Status {
    if built_in {
        let message = "415: Unsupported Media Type".to_owned();
        return Status { message, details: Some(Box::default()), ..Status::unsupported_media_type("") };
    }
    Status::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH, APPLY_PATCH].join(", "))
}

/// A merge patch; what is no JSON is refused with upstream's text.
fn patch_text(bytes: &[u8]) -> Result<crate::registry::Body, Status> {
    let parsed = corten_apimachinery::json::parse(bytes);
    let parsed = parsed.map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    Ok(parsed.into())
}

/// The answer to a write, with its warnings; a refusal has some too.
fn written(
    presentation: &present::Presentation,
    context: &crate::registry::Context,
    made: Result<Written, Status>,
) -> Result<Response, Status> {
    let (mut response, warnings) = match made {
        Ok(made) => {
            let code = if made.created { 201 } else { 200 };
            (presentation.object(code, &made.object)?, made.warnings)
        }
        Err(status) => match context.take_warnings() {
            warnings if warnings.is_empty() => return Err(status),
            warnings => (presentation.output.status(&status), warnings),
        },
    };
    warn(&mut response, &warnings);
    Ok(response)
}
