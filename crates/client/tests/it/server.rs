//! A small API server in memory that loses answers, refuses writes, cuts watches, repeats events and forgets revisions.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apimachinery::{json, value::Map};
use corten_client::transport::BoxError;
use corten_client::{StreamBody, Transport, TransportError};
use corten_stdx::random::Random;
use futures_core::future::BoxFuture;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Frame;
use tokio::sync::Notify;

#[derive(Clone)]
pub(crate) struct Server(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    state: Mutex<State>,
    news: Notify,
    random: Random,
    pub(crate) faults: AtomicBool,
    pub(crate) injected: AtomicUsize,
    /// A kind that cannot be read now; empty for none.
    pub(crate) unreadable: Mutex<&'static str>,
    /// Nothing can be read from its beginning now.
    pub(crate) unlistable: AtomicBool,
    /// Watches that were begun.
    pub(crate) watches: AtomicUsize,
    streaming: bool,
}

#[derive(Default)]
struct State {
    /// By plural and name.
    objects: BTreeMap<(String, String), Value>,
    log: Vec<(u64, &'static str, String, Value)>,
    forgotten: u64,
}

impl State {
    fn revision(&self) -> u64 {
        self.log.last().map_or(1, |(revision, ..)| *revision)
    }

    fn record(&mut self, kind: &'static str, plural: &str, mut object: Value) -> Value {
        let revision = self.revision() + 1;
        object.object_entry("metadata").insert("resourceVersion", revision.to_string());
        let key = (plural.to_owned(), object.str_at(&["metadata", "name"]).to_owned());
        if kind == "DELETED" {
            drop(self.objects.remove(&key))
        } else {
            drop(self.objects.insert(key, object.clone()))
        }
        self.log.push((revision, kind, plural.to_owned(), object.clone()));
        object
    }
}

impl Server {
    pub(crate) fn new(random: Random, streaming: bool) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::default(),
            news: Notify::new(),
            random,
            faults: AtomicBool::new(true),
            injected: AtomicUsize::new(0),
            unreadable: Mutex::default(),
            unlistable: AtomicBool::new(false),
            watches: AtomicUsize::new(0),
            streaming,
        }))
    }

    /// Whether a fault of the given chance in a hundred happens now.
    fn fault(&self, percent: u64) -> bool {
        let happens = self.0.faults.load(Ordering::SeqCst) && self.0.random.next_u64() % 100 < percent;
        self.0.injected.fetch_add(usize::from(happens), Ordering::SeqCst);
        happens
    }

    pub(crate) fn objects(&self, plural: &str) -> Vec<Value> {
        let state = self.0.state.lock().expect("no panic under it");
        state.objects.iter().filter(|((of, _), _)| of == plural).map(|(_, object)| object.clone()).collect()
    }

    /// A write of a user, which never fails.
    pub(crate) fn put(&self, plural: &str, mut object: Value) {
        let mut state = self.0.state.lock().expect("no panic under it");
        let key = (plural.to_owned(), object.str_at(&["metadata", "name"]).to_owned());
        let kind = match state.objects.get(&key) {
            Some(old) => {
                object.object_entry("metadata").insert("uid", old.str_at(&["metadata", "uid"]));
                "MODIFIED"
            }
            None => {
                object.object_entry("metadata").insert("uid", self.0.random.uuid());
                "ADDED"
            }
        };
        state.record(kind, plural, object);
        self.0.news.notify_waiters();
    }

    pub(crate) fn remove(&self, plural: &str, name: &str) {
        let mut state = self.0.state.lock().expect("no panic under it");
        if let Some(object) = state.objects.get(&(plural.to_owned(), name.to_owned())).cloned() {
            state.record("DELETED", plural, object);
        }
        self.0.news.notify_waiters();
    }

    fn answer(&self, method: &str, plural: &str, name: &str, body: &Value) -> Result<Value, Status> {
        let mut state = self.0.state.lock().expect("no panic under it");
        let key = (plural.to_owned(), name.to_owned());
        let known = state.objects.get(&key).cloned();
        let missing = || Status::not_found("sim", plural, name);
        match method {
            "GET" if name.is_empty() => {
                let revision = state.revision().to_string();
                drop(state);
                Ok(value!({"kind": "List", "metadata": {"resourceVersion": revision}, "items": (self.objects(plural))}))
            }
            "GET" => known.ok_or_else(missing),
            "POST" => {
                let name = body.str_at(&["metadata", "name"]);
                if state.objects.contains_key(&(plural.to_owned(), name.to_owned())) {
                    return Err(Status::already_exists("sim", plural, name));
                }
                let mut object = body.clone();
                object.object_entry("metadata").insert("uid", self.0.random.uuid());
                Ok(state.record("ADDED", plural, object))
            }
            "DELETE" => Ok(state.record("DELETED", plural, known.ok_or_else(missing)?)),
            other => panic!("{other} is not simulated"),
        }
    }

    fn watch(&self, plural: &str, query: &str) -> Result<StreamBody, Status> {
        self.0.watches.fetch_add(1, Ordering::SeqCst);
        let has = |text: &str| query.contains(text);
        let mut begin = Vec::new();
        let state = self.0.state.lock().expect("no panic under it");
        let from = if has("sendInitialEvents=true") {
            if self.0.unlistable.load(Ordering::SeqCst) {
                return Err(Status::internal("an object cannot be read"));
            }
            if !self.0.streaming {
                return Err(Status::bad_request("no streaming lists here"));
            }
            for ((_, _), object) in state.objects.iter().filter(|((of, _), _)| of == plural) {
                begin.push(event("ADDED", object));
            }
            let mut metadata = value!({"resourceVersion": (state.revision().to_string())});
            metadata.object_entry("annotations").insert("k8s.io/initial-events-end", "true");
            begin.push(event("BOOKMARK", &value!({"metadata": metadata})));
            state.revision()
        } else {
            let text = query.split("resourceVersion=").nth(1).expect("a revision");
            text.split('&').next().expect("a value").parse().expect("a number")
        };
        if from < state.forgotten || self.fault(5) {
            return Err(Status::expired("too old resource version"));
        }
        drop(state);
        begin.reverse();
        let feed = Feed { server: self.clone(), plural: plural.to_owned(), from, begin };
        Ok(http_body_util::StreamBody::new(stream::unfold(feed, Feed::next)).boxed_unsync())
    }

    async fn exchange(&self, request: http::Request<Bytes>) -> Result<http::Response<StreamBody>, TransportError> {
        tokio::task::yield_now().await;
        let path = request.uri().path().trim_start_matches("/apis/sim/v1/").to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (plural, name) = path.split_once('/').unwrap_or((&path, ""));
        if self.fault(5) || *self.0.unreadable.lock().expect("no panic under it") == plural {
            return Err(TransportError::new("refused", "before the request"));
        }
        if query.contains("watch=true") {
            return Ok(match self.watch(plural, &query) {
                Ok(body) => http::Response::new(body),
                Err(status) => respond(Err(status)),
            });
        }
        let reads = request.method() == http::Method::GET;
        if !reads && self.fault(10) {
            return Ok(respond(Err(Status::modified("sim", plural, name))));
        }
        let body = if request.body().is_empty() {
            Value::Null
        } else {
            json::parse(request.body()).expect("as simulated").value
        };
        let answer = self.answer(request.method().as_str(), plural, name, &body);
        self.0.news.notify_waiters();
        tokio::task::yield_now().await;
        if self.fault(10) {
            return Err(TransportError::new("cut", "after the write, before its answer"));
        }
        Ok(respond(answer))
    }
}

impl Transport for Server {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<StreamBody>, TransportError>> {
        Box::pin(self.exchange(request))
    }
}

fn respond(answer: Result<Value, Status>) -> http::Response<StreamBody> {
    let (code, value) = match answer {
        Ok(value) => (200, value),
        Err(status) => (status.code, status.to_value()),
    };
    let body = Full::new(Bytes::from(json::to_vec(&value))).map_err(|never| match never {}).boxed_unsync();
    http::Response::builder().status(code).body(body).expect("as simulated")
}

fn event(kind: &str, object: &Value) -> Bytes {
    let mut map = Map::new();
    map.insert("type", kind);
    map.insert("object", object.clone());
    let mut line = json::to_vec(&Value::Object(map));
    line.push(b'\n');
    line.into()
}

struct Feed {
    server: Server,
    plural: String,
    from: u64,
    /// What comes first, last one first.
    begin: Vec<Bytes>,
}

impl Feed {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, BoxError>, Self)> {
        loop {
            if self.server.fault(3) {
                return match self.server.fault(50) {
                    true => None,
                    false => Some((Err("cut".into()), self)),
                };
            }
            if let Some(line) = self.begin.pop() {
                return Some((Ok(Frame::data(line)), self));
            }
            let server = self.server.clone();
            let news = server.0.news.notified();
            if let Some(line) = self.later() {
                return Some((Ok(Frame::data(line)), self));
            }
            news.await;
        }
    }
    /// The next event of the log.
    fn later(&mut self) -> Option<Bytes> {
        let mut state = self.server.0.state.lock().expect("no panic under it");
        let next = state.log.iter().find(|(at, _, of, _)| *at > self.from && *of == self.plural);
        let (revision, kind, _, object) = next?;
        let line = event(kind, object);
        self.from = *revision;
        if self.server.fault(5) {
            self.begin.push(line.clone());
        }
        if self.server.fault(3) {
            state.forgotten = state.revision();
        }
        Some(line)
    }
}
