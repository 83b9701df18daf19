//! Calls to connectors. What they are asked goes through admission first: as a create of what the endpoint takes, or,
//! where a stream or a proxied request is opened, as a connect with the options that the query spells.

use std::sync::Arc;

use corten_apimachinery::kind::{KindInfo, Subresource, Validation};
use corten_apimachinery::schema::table::{FieldType, TableSchema};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};

use crate::admission::Operation;
use crate::connect::{self, Answer, CallBody};
use crate::http::body::{self, Response};
use crate::http::negotiate::{Representation, not_acceptable};
use crate::http::pipeline::{Api, Call, warn};
use crate::http::present::Presentation;
use crate::http::query::{self, Query, WriteKind};
use crate::http::resources::{body_kind, has_protobuf};
use crate::http::write::refused;
use crate::metrics::LongRunning;
use crate::registry::{Asked, Context};

impl Api {
    /// Hands a request to the connector of a kind that is not stored, or of a subresource.
    pub(crate) async fn connect(
        self: &Arc<Self>,
        mut call: Call,
        kind: Arc<KindInfo>,
        sub: Option<Subresource>,
    ) -> Result<Response, Status> {
        let (group, resource) = (&kind.gvk.group, &kind.plural);
        let connector = self.connectors.find(group, resource, &call.info.subresource).cloned();
        let connector = connector.ok_or_else(Status::unknown_path)?;
        let target = call.target(&kind);
        let path = call.info.parts.get(3..).filter(|rest| !rest.is_empty()).map(|rest| format!("/{}", rest.join("/")));
        let path = path.unwrap_or_default();
        let raw = connector.raw();
        let write = query::write_options(&call.query, WriteKind::Create);
        let write = if raw { write.unwrap_or_default() } else { write? };
        let context = call.context(&write.sent);
        let mut warnings = Vec::new();
        let presentation = if raw { None } else { Some(call.presentation(&kind, self.clock.now_s())?) };
        let body = match raw {
            true => self.admit_stream(&mut call, &context, sub.as_ref(), &path).await,
            false if matches!(call.info.verb.as_str(), "create" | "update") => {
                let body_kind = body_kind(self, &kind, sub.as_ref())?;
                refuse_shapes(&kind, presentation.as_ref())?;
                self.body_object(&mut call, &context, &body_kind, &write, &mut warnings).await.map(CallBody::Object)
            }
            false => Ok(CallBody::None),
        };
        warnings.extend(context.take_warnings());
        let body = match body {
            Ok(body) => body,
            Err(status) => return refused(call.output, status, &warnings),
        };
        let held = raw.then(|| LongRunning::hold(&self.metrics));
        let called = connect::Call {
            user: call.user.clone(),
            verb: call.info.verb.clone(),
            target: target.clone(),
            path,
            query: call.query.clone(),
            options: write.options,
            body,
        };
        let answer = connector.connect(called).await;
        drop(held);
        let mut response = match answer {
            Err(status) => return refused(call.output, status, &warnings),
            Ok(Answer::Response(response)) => response,
            Ok(Answer::Object { code, value }) => call.output.value(code, &value),
            Ok(Answer::Objects(objects)) => {
                let presentation =
                    presentation.ok_or_else(|| Status::internal("objects in answer to a raw request"))?;
                call.show_unstored(&presentation, &target, &objects)?
            }
        };
        warn(&mut response, &warnings);
        Ok(response)
    }

    /// The request itself for a connector. Where the endpoint has options of its own, it connects to something, and
    /// these go through admission; a log is read.
    async fn admit_stream(
        &self,
        call: &mut Call,
        context: &Context,
        sub: Option<&Subresource>,
        path: &str,
    ) -> Result<CallBody, Status> {
        if let (Some(kind), Some(sub)) = (&call.kind, sub)
            && sub.gvk != kind.gvk
        {
            let options = options_of(&*body_kind(self, kind, Some(sub))?, &call.query, path)?;
            let asked = Asked { operation: Operation::Connect, object: options, dry_run: false, check: &|_| Ok(()) };
            self.registry.admit(context, &call.target(kind), asked).await?;
        }
        let empty = http::Request::new(body::full(bytes::Bytes::new()));
        Ok(CallBody::Raw(Box::new(std::mem::replace(&mut call.request, empty))))
    }

    /// An object for a connector: conformed, defaults applied, admitted, validated.
    async fn body_object(
        &self,
        call: &mut Call,
        context: &Context,
        kind: &Arc<KindInfo>,
        write: &query::Write,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let body = call.object(kind).await?;
        let (mut value, strict) = self.registry.conform(kind, body, write.options.field_validation)?;
        warnings.extend(strict);
        if call.info.subresource.is_empty() {
            warnings.extend(self.registry.begin_unstored(context, &call.target(kind), &mut value)?);
        }
        kind.schema.default(&mut value);
        let subresource = call.info.subresource.as_str();
        let check = |value: &Value| {
            let errors = kind.validate(Validation { object: value, old: None, subresource });
            if errors.is_empty() {
                return Ok(());
            }
            Err(Status::invalid(&kind.gvk.group, &kind.gvk.kind, value.str_at(&["metadata", "name"]), &errors))
        };
        let operation = if call.info.verb == "update" { Operation::Update } else { Operation::Create };
        let target = call.target(call.kind.as_ref().unwrap_or(kind));
        let asked = Asked { operation, object: value, dry_run: write.options.dry_run, check: &check };
        self.registry.admit(context, &target, asked).await
    }
}

/// What is not stored has no metadata to print: other representations are refused with 406.
fn refuse_shapes(kind: &KindInfo, presentation: Option<&Presentation>) -> Result<(), Status> {
    match presentation.map_or(Representation::Object, |presentation| presentation.representation) {
        Representation::Object => Ok(()),
        _ => Err(not_acceptable(has_protobuf(kind))),
    }
}

/// The options that a query spells, as an object of their kind. What follows the endpoint in the path is the field
/// `path` of a kind that has one.
fn options_of(kind: &KindInfo, query: &Query, path: &str) -> Result<Value, Status> {
    let mut map = Map::new();
    map.insert("kind", kind.gvk.kind.clone());
    map.insert("apiVersion", kind.gvk.api_version());
    let schema = kind.schema.as_any().downcast_ref::<TableSchema>();
    for field in schema.into_iter().flat_map(|schema| &schema.table().get(schema.ty()).fields) {
        let Some(first) = query.first(field.json) else { continue };
        let value: Value = match &field.ty {
            FieldType::Bool => query.flag(field.json).into(),
            FieldType::Int32 | FieldType::Int64 => integer(first)?.into(),
            FieldType::String => first.into(),
            FieldType::List(item) => {
                let values = query.all(field.json).filter(|text| !text.is_empty());
                let item = |text: &str| match **item {
                    FieldType::Int32 | FieldType::Int64 => integer(text).map(Value::from),
                    _ => Ok(text.into()),
                };
                values.map(item).collect::<Result<Vec<Value>, Status>>()?.into()
            }
            _ => continue,
        };
        map.insert(field.json, value);
    }
    if !path.is_empty() {
        map.insert("path", path);
    }
    let conformed = kind.schema.conform(Value::Object(map)).map_err(|error| Status::bad_request(error.to_string()))?;
    Ok(conformed.value)
}

fn integer(text: &str) -> Result<i64, Status> {
    let number = text.parse();
    number.map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
}
