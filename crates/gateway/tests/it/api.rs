//! An API server that answers watches of one kind, from the beginning, with events that a test adds.

use bytes::Bytes;
use corten_apimachinery::value::{Map, Value};
use corten_apimachinery::{json, value};
use corten_client::{StreamBody, Transport, TransportError};
use futures_core::future::BoxFuture;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody as Body};
use hyper::body::Frame;
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct Api(watch::Sender<Vec<Bytes>>);

impl Api {
    /// One that has these objects.
    pub(crate) fn new(objects: &[Value]) -> Self {
        let api = Self(watch::channel(Vec::new()).0);
        for object in objects {
            api.tell("ADDED", object);
        }
        let end = value!({"metadata": {"annotations": {"k8s.io/initial-events-end": "true"}}});
        api.tell("BOOKMARK", &end);
        api
    }

    /// The next event.
    pub(crate) fn tell(&self, kind: &str, object: &Value) {
        self.0.send_modify(|lines| {
            let mut object = object.clone();
            object.object_entry("metadata").insert("resourceVersion", (lines.len() + 1).to_string());
            let mut event = Map::new();
            event.insert("type", kind);
            event.insert("object", object);
            let mut line = json::to_vec(&Value::Object(event));
            line.push(b'\n');
            lines.push(line.into());
        });
    }
}

impl Transport for Api {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<StreamBody>, TransportError>> {
        let uri = request.uri().to_string();
        assert!(uri.contains("watch=true") && uri.contains("sendInitialEvents=true"), "{uri} is not simulated");
        let lines = stream::unfold((self.0.subscribe(), 0), |(mut told, at)| async move {
            let line = told.wait_for(|lines| lines.len() > at).await.ok()?[at].clone();
            Some((Ok(Frame::data(line)), (told, at + 1)))
        });
        Box::pin(std::future::ready(Ok(http::Response::new(Body::new(lines).boxed_unsync()))))
    }
}
