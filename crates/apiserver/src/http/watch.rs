//! Watches over HTTP: JSON frames in one endless body, or one WebSocket message an event.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apimachinery::{json, value};
use corten_stdx::task::Stopped;
use corten_store::Revision;
use futures_util::stream::{self, BoxStream, ReadyChunks, StreamExt as _};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use crate::http::body::{self, BoxError, Output, Response};
use crate::http::negotiate::{Encoding, Representation};
use crate::http::pipeline::{Api, Call};
use crate::http::present::{INITIAL_EVENTS_END, Presentation};
use crate::http::websocket;
use crate::metrics::{LongRunning, Metrics};
use crate::registry::{Shown, WatchEvent};

/// Events that are ready at one time go out together, up to so many.
const EVENTS_PER_FRAME_MAX: usize = 64;

impl Api {
    pub(crate) async fn watch(self: &Arc<Self>, mut call: Call, kind: Arc<KindInfo>) -> Result<Response, Status> {
        let accepted = call.accepted(&kind, true)?;
        let output = Output { encoding: Encoding::Json, pretty: false, gzip: false };
        let presentation = call.present(&kind, accepted, output, self.clock.now_s())?;
        let options = call.list_options(true)?;
        let events = self.registry.watch(&kind, &call.namespace(&kind), &options).await?;
        let watching = Watching {
            events: events.ready_chunks(EVENTS_PER_FRAME_MAX),
            stopped: call.stopped.clone(),
            presentation,
            bare: false,
            bookmarks: options.allow_bookmarks,
            revision: 0,
            ended: false,
            clock: self.clock.clone(),
            held: LongRunning::hold(&self.metrics),
            metrics: self.metrics.clone(),
        };
        if websocket::is_upgrade(&call.request) {
            return websocket::serve(&mut call.request, &self.tasks, watching.frames());
        }
        let frames = watching.frames().map(|frame| Ok::<_, BoxError>(Frame::data(frame.concat().into())));
        let mut response = http::Response::new(StreamBody::new(frames).boxed_unsync());
        body::set(&mut response, CONTENT_TYPE, "application/json");
        body::set(&mut response, CACHE_CONTROL, "no-cache, private");
        Ok(response)
    }
}

/// A watch that is being sent.
struct Watching {
    events: ReadyChunks<BoxStream<'static, WatchEvent>>,
    stopped: Stopped,
    presentation: Presentation,
    /// A table's column definitions were sent.
    bare: bool,
    bookmarks: bool,
    /// The last revision that was sent.
    revision: Revision,
    ended: bool,
    clock: corten_stdx::clock::Clock,
    metrics: Arc<Metrics>,
    #[expect(dead_code, reason = "held for its drop: it counts the watch as open")]
    held: LongRunning,
}

impl Watching {
    /// The watch as encoded events, those together that were ready together.
    fn frames(self) -> BoxStream<'static, Vec<Bytes>> {
        stream::unfold(self, async |mut watching| {
            let frame = watching.next().await?;
            Some((frame, watching))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Vec<Bytes>> {
        if self.ended {
            return None;
        }
        let events = tokio::select! {
            biased;
            () = self.stopped.wait() => None,
            events = self.events.next() => Some(events?),
        };
        let Some(events) = events else {
            // The server goes down: a last bookmark saves the client a list when it comes back.
            self.ended = true;
            let last = WatchEvent::Bookmark { revision: self.revision, initial_events_end: false };
            return (self.bookmarks && self.revision > 0).then(|| vec![self.encode(last)]);
        };
        self.presentation.now_s = self.clock.now_s();
        self.metrics.watch_events.fetch_add(events.len().try_into().unwrap_or(0), Ordering::Relaxed);
        Some(events.into_iter().map(|event| self.encode(event)).collect())
    }

    fn encode(&mut self, event: WatchEvent) -> Bytes {
        let encoded = match event {
            WatchEvent::Added(shown) => self.object("ADDED", &shown),
            WatchEvent::Modified(shown) => self.object("MODIFIED", &shown),
            WatchEvent::Deleted(shown) => self.object("DELETED", &shown),
            WatchEvent::Bookmark { revision, initial_events_end } => self.bookmark(revision, initial_events_end),
            WatchEvent::Error(status) => Err(status),
        };
        encoded.unwrap_or_else(|status| {
            self.ended = true;
            line("ERROR", &json::to_vec(&status.to_value()))
        })
    }

    fn object(&mut self, kind: &str, shown: &Shown) -> Result<Bytes, Status> {
        self.revision = self.revision.max(shown.object.revision);
        let unreadable = |error| crate::http::resources::unreadable(&error);
        if self.presentation.representation == Representation::Object {
            let mut out = Vec::with_capacity(shown.object.json.len() + 96);
            begin(kind, &mut out);
            shown.write_json(&mut out).map_err(unreadable)?;
            out.extend_from_slice(b"}\n");
            return Ok(out.into());
        }
        self.shaped(kind, shown.to_value().map_err(unreadable)?)
    }

    fn bookmark(&mut self, revision: Revision, initial_events_end: bool) -> Result<Bytes, Status> {
        self.revision = self.revision.max(revision);
        let gvk = &self.presentation.kind.gvk;
        let mut metadata = value!({"resourceVersion": (revision.to_string())});
        if initial_events_end {
            metadata.object_entry("annotations").insert(INITIAL_EVENTS_END, "true");
        }
        let object = value!({
            "kind": (gvk.kind.clone()), "apiVersion": (gvk.api_version()), "metadata": metadata,
        });
        self.shaped("BOOKMARK", object)
    }

    fn shaped(&mut self, kind: &str, object: Value) -> Result<Bytes, Status> {
        let shaped = self.presentation.shape(object, self.bare)?;
        self.bare = true;
        Ok(line(kind, &json::to_vec(&shaped)))
    }
}

fn begin(kind: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(br#"","object":"#);
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(object.len() + 40);
    begin(kind, &mut out);
    out.extend_from_slice(object);
    out.extend_from_slice(b"}\n");
    out.into()
}
