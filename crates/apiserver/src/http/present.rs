//! How objects and lists are shown: whole, as metadata alone, or as a table with server-side printing.
//!
//! Whole objects in plain JSON are the stored bytes with the revision spliced in; a list is a concatenation of them,
//! sent in frames so that a large one is never held twice.

use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use corten_apimachinery::cells;
use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::{Cell, Column, KindInfo};
use corten_apimachinery::schema::Node;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};
use corten_apimachinery::{json, value};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use crate::http::body::{self, BoxError, Output, Response};
use crate::http::negotiate::{MetaVersion, Representation};
use crate::http::query::Query;
use crate::http::resources::unreadable;
use crate::registry::{List, Object, Shown};

/// Bytes after which a list's frame is sent; a list that fits one frame has a `Content-Length`.
const FRAME_BYTES: usize = 128 * 1024;

/// The form of one answer.
#[derive(Clone)]
pub(crate) struct Presentation {
    pub(crate) kind: Arc<KindInfo>,
    pub(crate) representation: Representation,
    pub(crate) output: Output,
    pub(crate) table: TableOptions,
    pub(crate) now_s: i64,
}

/// `includeObject` and `noHeaders`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableOptions {
    pub(crate) include: Include,
    pub(crate) no_headers: bool,
}

/// What a table's row carries of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    #[default]
    Metadata,
    Object,
}

impl TableOptions {
    pub(crate) fn parse(query: &Query, representation: Representation) -> Result<Self, Status> {
        if !matches!(representation, Representation::Table(_)) {
            return Ok(Self::default());
        }
        let include = match query.first("includeObject").unwrap_or_default() {
            "None" => Include::None,
            "" | "Metadata" => Include::Metadata,
            "Object" => Include::Object,
            other => {
                let mut errors = FieldErrors::default();
                let detail = "must be 'Metadata', 'Object', 'None', or empty";
                errors.invalid(&FieldPath::new("includeObject"), other, detail);
                return Err(Status::bad_request(format!("Unable to convert to Table as requested: {errors}")));
            }
        };
        Ok(Self { include, no_headers: false })
    }
}

impl Presentation {
    /// Answers with one object.
    pub(crate) fn object(&self, code: u16, shown: &Shown) -> Result<Response, Status> {
        let plain = self.representation == Representation::Object;
        if plain && self.output.raw() {
            let mut bytes = Vec::with_capacity(shown.object.json.len() + 64);
            shown.write_json(&mut bytes).map_err(|error| unreadable(&error))?;
            bytes.push(b'\n');
            return Ok(self.output.bytes(code, bytes));
        }
        let value = shown.to_value().map_err(|error| unreadable(&error))?;
        Ok(self.output.value(code, &self.shape(value, false)?))
    }

    /// Another representation of one object that is not an item of a list.
    pub(crate) fn shape(&self, object: Value, bare: bool) -> Result<Value, Status> {
        match self.representation {
            Representation::Object => Ok(object),
            Representation::Metadata(version) => Ok(partial(&object, version)),
            Representation::MetadataList(_) => Err(not_acceptable(format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list ({})",
                self.go_type(&self.kind.gvk.kind, "Unstructured")
            ))),
            Representation::Table(version) => {
                let metadata = value!({"resourceVersion": (object.str_at(&["metadata", "resourceVersion"]))});
                Ok(self.table(version, metadata, vec![object], bare))
            }
        }
    }

    /// Answers with a list.
    pub(crate) fn list(&self, list: List) -> Result<Response, Status> {
        if self.representation == Representation::Object && self.output.raw() {
            return self.list_bytes(list);
        }
        let metadata = list_metadata(&list);
        let items = list.items.into_iter().map(|object| Shown { kind: list.kind.clone(), object }.to_value());
        let mut items = items.collect::<Result<Vec<Value>, _>>().map_err(|error| unreadable(&error))?;
        let value = match self.representation {
            Representation::Object => {
                if is_typed(&self.kind) {
                    items.iter_mut().filter_map(Value::as_object_mut).for_each(drop_type);
                }
                let api_version = self.kind.gvk.api_version();
                let kind = self.kind.list_kind.clone();
                value!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items})
            }
            Representation::MetadataList(version) => {
                let items: Vec<Value> = items.iter().map(|item| partial(item, version)).collect();
                let api_version = version.api_version();
                let kind = "PartialObjectMetadataList";
                value!({"kind": kind, "apiVersion": api_version, "metadata": metadata, "items": items})
            }
            Representation::Table(version) => self.table(version, metadata, items, false),
            Representation::Metadata(_) => {
                return Err(not_acceptable(format!(
                    "you requested PartialObjectMetadata, but the requested object is a list ({})",
                    self.go_type(&self.kind.list_kind, "UnstructuredList")
                )));
            }
        };
        Ok(self.output.value(200, &value))
    }

    fn list_bytes(&self, list: List) -> Result<Response, Status> {
        let mut head = br#"{"kind":"#.to_vec();
        json::write_str(&self.kind.list_kind, &mut head);
        head.extend_from_slice(br#","apiVersion":"#);
        json::write_str(&self.kind.gvk.api_version(), &mut head);
        head.extend_from_slice(br#","metadata":"#);
        json::write(&list_metadata(&list), &mut head);
        head.extend_from_slice(br#","items":["#);
        let size: usize = list.items.iter().map(|object| object.json.len() + 64).sum();
        let mut frames = Frames::new(list, head);
        if size <= FRAME_BYTES {
            let mut bytes = Vec::with_capacity(size + 256);
            while frames.fill(&mut bytes).map_err(|error| unreadable(&error))? {}
            return Ok(self.output.bytes(200, bytes));
        }
        frames.gzip = self.output.gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        let gzip = frames.gzip.is_some();
        let stream = StreamBody::new(futures_util::stream::iter(frames.map(|frame| frame.map(Frame::data))));
        let mut response = http::Response::new(stream.boxed_unsync());
        body::set(&mut response, CONTENT_TYPE, "application/json");
        body::set(&mut response, CACHE_CONTROL, "no-cache, private");
        if gzip {
            body::set(&mut response, CONTENT_ENCODING, "gzip");
            body::set(&mut response, VARY, "Accept-Encoding");
        }
        Ok(response)
    }

    /// The Go type that upstream's refusals print: `*core.Example`, `*unstructured.Unstructured`.
    fn go_type(&self, name: &str, custom: &str) -> String {
        let package = match self.kind.gvk.group.split('.').next().unwrap_or_default() {
            "" => "core",
            first => first,
        };
        if is_typed(&self.kind) { format!("*{package}.{name}") } else { format!("*unstructured.{custom}") }
    }

    fn table(&self, version: MetaVersion, metadata: Value, objects: Vec<Value>, bare: bool) -> Value {
        let mut table = value!({"kind": "Table", "apiVersion": (version.api_version()), "metadata": metadata});
        let map = table.as_object_mut().expect("made an object above");
        let columns = columns(&self.kind);
        let definitions: Vec<Value> = columns.iter().map(definition).collect();
        let headers = !bare && !self.table.no_headers;
        map.insert("columnDefinitions", if headers { definitions } else { Vec::new() });
        let rows = objects.into_iter().map(|object| {
            let cells: Vec<Value> = columns.iter().map(|column| cell(column, &object, self.now_s)).collect();
            let initial_end = object.at(&["metadata", "annotations", INITIAL_EVENTS_END]).is_some();
            let shown = match self.table.include {
                Include::Object if !initial_end => object,
                Include::None if !initial_end => Value::Null,
                _ => partial(&object, version),
            };
            value!({"cells": cells, "object": shown})
        });
        map.insert("rows", rows.collect::<Vec<Value>>());
        table
    }
}

/// Marks the bookmark that ends a streaming list (KEP-3157).
pub(crate) const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

fn not_acceptable(message: String) -> Status {
    Status { message, ..Status::not_acceptable("") }
}

/// Items of built-in kinds' lists do not repeat the list's type; those of custom resources do.
fn is_typed(kind: &KindInfo) -> bool {
    matches!(kind.schema.node(), Node::Table(_))
}

fn drop_type(item: &mut Map) {
    item.remove("kind");
    item.remove("apiVersion");
}

fn list_metadata(list: &List) -> Value {
    let mut metadata = Value::object();
    let map = metadata.as_object_mut().expect("made an object above");
    if list.revision > 0 {
        map.insert("resourceVersion", list.revision.to_string());
    }
    if !list.continue_token.is_empty() {
        map.insert("continue", list.continue_token.as_str());
    }
    if let Some(remaining) = list.remaining {
        map.insert("remainingItemCount", i64::try_from(remaining).unwrap_or(i64::MAX));
    }
    metadata
}

/// An object's metadata alone.
fn partial(object: &Value, version: MetaVersion) -> Value {
    let metadata = object.get("metadata").cloned().unwrap_or_else(Value::object);
    value!({"kind": "PartialObjectMetadata", "apiVersion": (version.api_version()), "metadata": metadata})
}

/// The kind's columns; a kind without any shows name and creation time, as upstream's default.
fn columns(kind: &KindInfo) -> Vec<Column> {
    if !kind.columns.is_empty() {
        return kind.columns.clone();
    }
    let column = |name: &str, kind: &str, format: &str, cell| Column {
        name: name.into(),
        kind: kind.into(),
        format: format.into(),
        description: Default::default(),
        priority: 0,
        cell,
    };
    vec![
        column("Name", "string", "name", Cell::Field(&["metadata", "name"])),
        column("Created At", "date", "", Cell::Field(&["metadata", "creationTimestamp"])),
    ]
}

fn definition(column: &Column) -> Value {
    value!({
        "name": (column.name.clone()), "type": (column.kind.clone()), "format": (column.format.clone()),
        "description": (column.description.clone()), "priority": (column.priority),
    })
}

fn cell(column: &Column, object: &Value, now_s: i64) -> Value {
    match &column.cell {
        Cell::Field(path) => {
            object.at(path).filter(|value| !value.is_null()).cloned().unwrap_or_else(|| cells::NONE.into())
        }
        Cell::Age(path) => cells::age(object.at(path).and_then(Value::as_str), now_s).into(),
        Cell::Computed(compute) => compute(object, now_s),
        Cell::Path(compute) => compute(object, now_s),
    }
}

/// The JSON of a list, piece by piece.
struct Frames {
    kind: Arc<KindInfo>,
    /// Items are the stored bytes, without the type that the list names.
    spliced: bool,
    items: std::vec::IntoIter<Arc<Object>>,
    head: Vec<u8>,
    first: bool,
    ended: bool,
    gzip: Option<GzEncoder<Vec<u8>>>,
}

impl Frames {
    fn new(list: List, head: Vec<u8>) -> Self {
        let typed = is_typed(&list.kind);
        let stored_form = list.kind.convert.is_none() && !list.kind.schema.defaults_on_read();
        let spliced = typed && stored_form && list.revision > 0;
        let (kind, items) = (list.kind, list.items.into_iter());
        Self { kind, spliced, items, head, first: true, ended: false, gzip: None }
    }

    /// Appends the next piece; false: that was the last one.
    fn fill(&mut self, out: &mut Vec<u8>) -> Result<bool, crate::registry::ObjectError> {
        out.append(&mut self.head);
        let Some(object) = self.items.next() else {
            out.extend_from_slice(b"]}\n");
            self.ended = true;
            return Ok(false);
        };
        if !std::mem::replace(&mut self.first, false) {
            out.push(b',');
        }
        self.item(object, out)?;
        Ok(true)
    }

    fn item(&self, object: Arc<Object>, out: &mut Vec<u8>) -> Result<(), crate::registry::ObjectError> {
        if self.spliced {
            out.extend_from_slice(br#"{"metadata":{"resourceVersion":""#);
            write!(out, "{}\"", object.revision).expect("writing to memory cannot fail");
            let rest = &object.json[object.splice..];
            if !rest.starts_with(b"}") {
                out.push(b',');
            }
            out.extend_from_slice(rest);
            return Ok(());
        }
        let shown = Shown { kind: self.kind.clone(), object };
        if !is_typed(&self.kind) {
            return shown.write_json(out);
        }
        let mut value = shown.to_value()?;
        if let Some(map) = value.as_object_mut() {
            drop_type(map);
        }
        json::write(&value, out);
        Ok(())
    }

    fn frame(&mut self) -> Result<Bytes, BoxError> {
        let mut out = Vec::with_capacity(FRAME_BYTES + FRAME_BYTES / 8);
        while out.len() < FRAME_BYTES && self.fill(&mut out)? {}
        let Some(gzip) = &mut self.gzip else { return Ok(out.into()) };
        gzip.write_all(&out)?;
        if self.ended {
            gzip.try_finish()?;
        }
        Ok(std::mem::take(gzip.get_mut()).into())
    }
}

impl Iterator for Frames {
    type Item = Result<Bytes, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let frame = self.frame();
        // A list that cannot be written to its end is cut, which clients notice; it is never shortened.
        self.ended |= frame.is_err();
        Some(frame)
    }
}
