//! Requests: objects as they are, in and out. What is written has preconditions: an update carries the revision that it
//! is based on, a delete may insist on a UID and a revision, a patch carries what it tests. Views of a cache are no
//! objects, and nothing here takes them: a view is never written back.

use std::sync::Arc;

use bytes::Bytes;
use corten_apimachinery::json;
use corten_apimachinery::kind::Propagation;
use corten_apimachinery::meta::Meta;
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use http::Method;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http_body_util::BodyExt as _;

use crate::error::Error;
use crate::line::Lines;
use crate::resource::{Resource, percent_encode};
use crate::transport::{StreamBody, Transport, TransportError};

const JSON: &str = "application/json";
/// Everything but metadata stays on the server.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// Sends requests under one identity. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    transport: Arc<dyn Transport>,
    /// Who writes, in managed fields and in the server's log.
    agent: String,
}

/// A change to an object, in one of its four forms.
#[derive(Clone, Debug, PartialEq)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    Strategic(Value),
    /// Server-side apply of what the manager wants; over conflicts where `force` is set.
    Apply {
        object: Value,
        manager: &'static str,
        force: bool,
    },
}

/// How an object is deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delete {
    pub uid: Option<Str>,
    pub revision: Option<Str>,
    pub propagation: Option<Propagation>,
    pub grace_period_s: Option<i64>,
}

/// A watch of one object is begun again after so long.
const UNTIL_S: u64 = 60;

/// Which objects a list or watch means, and how much of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    pub labels: String,
    pub fields: String,
    /// Objects come as `PartialObjectMetadata`.
    pub metadata_only: bool,
    /// Objects a page; 0 is all.
    pub limit: usize,
    pub continue_token: String,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed {
    /// Without `kind` and `apiVersion`, which the server gives once for the list.
    pub items: Vec<Value>,
    pub revision: Str,
    /// Empty on the last page.
    pub continue_token: String,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From<'a> {
    /// With every object there is, then a bookmark that says so (a streaming list, KEP-3157).
    Everything,
    /// Behind a revision.
    Revision(&'a str),
}

/// A watch under way.
pub struct Watching(Lines);

/// One event of a watch.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    Added(Value),
    Modified(Value),
    Deleted(Value),
    Bookmark { revision: Str, initial_events_end: bool },
}

impl Client {
    pub fn new(transport: Arc<dyn Transport>, agent: &str) -> Self {
        Self(Arc::new(Inner { transport, agent: agent.to_owned() }))
    }

    pub async fn get(&self, resource: &Resource, namespace: &str, name: &str) -> Result<Value, Error> {
        self.exchange(Method::GET, &resource.path(namespace, name, ""), JSON, None).await
    }

    /// The object at a path that is no resource: `/version`, discovery documents.
    pub async fn get_path(&self, path: &str, accept: &str) -> Result<Value, Error> {
        self.exchange(Method::GET, path, accept, None).await
    }

    /// The whole answer at a path that is no object: a log, a node's figures.
    pub async fn text(&self, path: &str) -> Result<String, Error> {
        let bytes = whole(self.read(path).await?).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The answer at a path, as it arrives: a log that is followed.
    pub async fn read(&self, path: &str) -> Result<StreamBody, Error> {
        let response = self.send(Method::GET, path, "*/*", None).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(response.into_body())
    }

    pub async fn list(&self, resource: &Resource, namespace: &str, select: &Select) -> Result<Listed, Error> {
        let mut query = select.query();
        if select.limit > 0 {
            query.set("limit", &select.limit.to_string());
        }
        query.set("continue", &select.continue_token);
        let path = query.behind(resource.path(namespace, "", ""));
        let accept = if select.metadata_only { METADATA_LIST } else { JSON };
        let mut list = self.exchange(Method::GET, &path, accept, None).await?;
        let revision = list.str_at(&["metadata", "resourceVersion"]).into();
        let continue_token = list.str_at(&["metadata", "continue"]).to_owned();
        let items = match list.as_object_mut().and_then(|list| list.remove("items")) {
            Some(Value::Array(items)) => items,
            Some(Value::Null) | None => Vec::new(),
            Some(_) => return Err(Error::Shape(format!("the items of a list of {resource} are no list"))),
        };
        Ok(Listed { items, revision, continue_token })
    }

    /// Begins a watch; the server ends it after `timeout_s`.
    pub async fn watch(
        &self,
        resource: &Resource,
        namespace: &str,
        select: &Select,
        from: From<'_>,
        timeout_s: u64,
    ) -> Result<Watching, Error> {
        let mut query = select.query();
        query.set("watch", "true");
        query.set("allowWatchBookmarks", "true");
        query.set("timeoutSeconds", &timeout_s.to_string());
        match from {
            From::Everything => {
                query.set("sendInitialEvents", "true");
                query.set("resourceVersionMatch", "NotOlderThan");
            }
            From::Revision(revision) => query.set("resourceVersion", revision),
        }
        let path = query.behind(resource.path(namespace, "", ""));
        let accept = if select.metadata_only { METADATA } else { JSON };
        let response = self.send(Method::GET, &path, accept, None).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(Watching(Lines::new(response.into_body())))
    }

    /// Follows one object until `done` has an answer; it is asked of every state, and with `None` when the object is deleted or not
    /// there.
    pub async fn until<T>(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        done: impl Fn(Option<&Value>) -> Option<T>,
    ) -> Result<T, Error> {
        let select = Select { fields: format!("metadata.name={name}"), ..Select::default() };
        loop {
            let mut watching = self.watch(resource, namespace, &select, From::Everything, UNTIL_S).await?;
            let mut is_there = false;
            while let Some(event) = watching.next().await? {
                is_there |= matches!(event, WatchEvent::Added(_));
                let answer = match &event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => done(Some(object)),
                    WatchEvent::Deleted(_) => done(None),
                    WatchEvent::Bookmark { initial_events_end: true, .. } if !is_there => done(None),
                    WatchEvent::Bookmark { .. } => None,
                };
                if let Some(answer) = answer {
                    return Ok(answer);
                }
            }
        }
    }

    /// Reads what is below an object, or below all that are selected where the name is `*`: a metric of pods.
    pub async fn get_part(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        select: &Select,
    ) -> Result<Value, Error> {
        let path = select.query().behind(resource.path(namespace, name, subresource));
        self.exchange(Method::GET, &path, JSON, None).await
    }

    pub async fn create(&self, resource: &Resource, namespace: &str, object: &Value) -> Result<Value, Error> {
        let body = (JSON, json::to_vec(object).into());
        self.exchange(Method::POST, &resource.path(namespace, "", ""), JSON, Some(body)).await
    }

    /// Creates below an object: `pods/a/binding`, `serviceaccounts/a/token`.
    pub async fn create_part(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        object: &Value,
    ) -> Result<Value, Error> {
        let body = (JSON, json::to_vec(object).into());
        self.exchange(Method::POST, &resource.path(namespace, name, subresource), JSON, Some(body)).await
    }

    /// Replaces an object, or one of its subresources. The object carries the revision that it is based on.
    pub async fn update(&self, resource: &Resource, subresource: &str, object: &Value) -> Result<Value, Error> {
        let meta = Meta::of(object);
        if meta.resource_version().is_empty() {
            return Err(Error::Shape(format!("an update of {resource} {:?} without a revision", meta.name())));
        }
        let body = (JSON, json::to_vec(object).into());
        let path = resource.path(meta.namespace(), meta.name(), subresource);
        self.exchange(Method::PUT, &path, JSON, Some(body)).await
    }

    pub async fn patch(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: &Patch,
    ) -> Result<Value, Error> {
        let mut query = Query::default();
        let (media, body) = match patch {
            Patch::Json(body) => ("application/json-patch+json", body),
            Patch::Merge(body) => ("application/merge-patch+json", body),
            Patch::Strategic(body) => ("application/strategic-merge-patch+json", body),
            Patch::Apply { object, manager, force } => {
                query.set("fieldManager", manager);
                query.set("force", if *force { "true" } else { "" });
                ("application/apply-patch+yaml", object)
            }
        };
        let path = query.behind(resource.path(namespace, name, subresource));
        self.exchange(Method::PATCH, &path, JSON, Some((media, json::to_vec(body).into()))).await
    }

    /// Deletes an object. The answer is the object where it is still there, else a `Status`.
    pub async fn delete(
        &self,
        resource: &Resource,
        namespace: &str,
        name: &str,
        delete: &Delete,
    ) -> Result<Value, Error> {
        let body = (JSON, json::to_vec(&delete.to_value()).into());
        self.exchange(Method::DELETE, &resource.path(namespace, name, ""), JSON, Some(body)).await
    }

    pub async fn delete_collection(
        &self,
        resource: &Resource,
        namespace: &str,
        select: &Select,
        delete: &Delete,
    ) -> Result<Value, Error> {
        let path = select.query().behind(resource.path(namespace, "", ""));
        let body = (JSON, json::to_vec(&delete.to_value()).into());
        self.exchange(Method::DELETE, &path, METADATA_LIST, Some(body)).await
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Value, Error> {
        let response = self.send(method, path, accept, body).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        Ok(json::parse(&whole(response.into_body()).await?)?.value)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<http::Response<StreamBody>, Error> {
        let (media, bytes) = body.unwrap_or_default();
        let mut request = http::Request::builder().method(method).uri(path);
        request = request.header(ACCEPT, accept).header(USER_AGENT, &self.0.agent);
        if !media.is_empty() {
            request = request.header(CONTENT_TYPE, media);
        }
        let request = request.body(bytes).map_err(|error| Error::Shape(format!("{path} cannot be asked: {error}")))?;
        Ok(self.0.transport.send(request).await?)
    }
}

impl Watching {
    /// The next event; `None` where the server has ended the watch. A refusal inside the watch is an error.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, Error> {
        let Some(line) = self.0.next().await? else { return Ok(None) };
        let mut event = json::parse(&line)?.value;
        let object = event.as_object_mut().and_then(|event| event.remove("object")).unwrap_or_default();
        let event = match event.str_at(&["type"]) {
            "ADDED" => WatchEvent::Added(object),
            "MODIFIED" => WatchEvent::Modified(object),
            "DELETED" => WatchEvent::Deleted(object),
            "BOOKMARK" => {
                let meta = Meta::of(&object);
                let initial_events_end = meta.annotation("k8s.io/initial-events-end") == Some("true");
                WatchEvent::Bookmark { revision: meta.resource_version().into(), initial_events_end }
            }
            "ERROR" => return Err(Status::from_value(&object).map_or_else(|| unknown(&object), Error::from)),
            _ => return Err(unknown(&event)),
        };
        Ok(Some(event))
    }
}

impl Delete {
    /// Exactly this object, and not another one of its name.
    pub fn of(uid: &str) -> Self {
        Self { uid: Some(uid.into()), ..Self::default() }
    }

    fn to_value(&self) -> Value {
        let mut options = value!({"kind": "DeleteOptions", "apiVersion": "v1"});
        for (field, text) in [("uid", &self.uid), ("resourceVersion", &self.revision)] {
            if let Some(text) = text {
                options.object_entry("preconditions").insert(field, text.clone());
            }
        }
        let Some(map) = options.as_object_mut() else { unreachable!("made an object above") };
        if let Some(propagation) = self.propagation {
            let name = match propagation {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            };
            map.insert("propagationPolicy", name);
        }
        if let Some(seconds) = self.grace_period_s {
            map.insert("gracePeriodSeconds", seconds);
        }
        options
    }
}

impl Select {
    fn query(&self) -> Query {
        let mut query = Query::default();
        query.set("labelSelector", &self.labels);
        query.set("fieldSelector", &self.fields);
        query
    }
}

/// A query that is being written. Options without a value are left out.
#[derive(Default)]
struct Query(String);

impl Query {
    fn set(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(name);
        self.0.push('=');
        percent_encode(value, &mut self.0);
    }

    fn behind(&self, mut path: String) -> String {
        path.push_str(&self.0);
        path
    }
}

fn unknown(event: &Value) -> Error {
    Error::Shape(format!("an event of a watch is not understood: {}", json::to_string(event)))
}

async fn whole(body: StreamBody) -> Result<Bytes, TransportError> {
    let collected = body.collect().await.map_err(|error| TransportError::new("the answer broke off", error))?;
    Ok(collected.to_bytes())
}

/// The `Status` of an answer; one made from the bare text where a proxy or a panic has answered.
async fn refusal(response: http::Response<StreamBody>) -> Error {
    let code = response.status().as_u16();
    let bytes = match whole(response.into_body()).await {
        Ok(bytes) => bytes,
        Err(error) => return error.into(),
    };
    if let Some(status) = json::parse(&bytes).ok().and_then(|parsed| Status::from_value(&parsed.value)) {
        return status.into();
    }
    let mut status = Status::internal(String::from_utf8_lossy(&bytes).trim());
    status.code = code;
    status.into()
}
