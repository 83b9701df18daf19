//! A recorder against a server that cannot be reached, refuses, or has forgotten an event.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use corten_apimachinery::json;
use corten_apimachinery::status::Status;
use corten_client::events::{Form, Recorder, Reference};
use corten_client::{Client, StreamBody, Transport, TransportError};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};

/// Answers as told, then well; keeps what was asked.
#[derive(Clone, Default)]
struct Told {
    answers: Arc<Mutex<VecDeque<Option<Status>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Transport for Told {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<StreamBody>, TransportError>> {
        let body = json::parse(request.body()).expect("JSON").value;
        let path = request.uri().path();
        let collection = path.split("/events").next().expect("a path");
        let asked = format!("{} {collection} {}", request.method(), body.str_at(&["reason"]));
        self.asked.lock().expect("no panic under it").push(asked.trim_end().to_owned());
        let answer = self.answers.lock().expect("no panic under it").pop_front();
        Box::pin(async move {
            let (code, body) = match answer {
                Some(None) => return Err(TransportError::new("cut", "as told")),
                Some(Some(status)) => (status.code, status.to_value()),
                None => (200, body),
            };
            let body = Full::new(Bytes::from(json::to_vec(&body))).map_err(|never| match never {}).boxed_unsync();
            Ok(http::Response::builder().status(code).body(body).expect("as told"))
        })
    }
}

async fn settle() {
    for _ in 0..30 {
        tokio::task::yield_now().await;
    }
}

async fn check(answers: Vec<Option<Status>>, expect: &[&str]) {
    let told = Told { answers: Arc::new(Mutex::new(answers.into())), ..Told::default() };
    let (clock, tasks) = (Clock::manual(0), Tasks::new());
    let form = Form::Counted { component: "kubelet".into(), host: "n1".into() };
    let client = Client::new(Arc::new(told.clone()), "test");
    let recorder = Recorder::new(form, client, &clock, &Random::seeded(1), &tasks);
    let pod = Reference { kind: "Pod".into(), namespace: "shop".into(), name: "a".into(), ..Reference::default() };
    recorder.warning(&pod, "BackOff", "again");
    recorder.warning(&pod, "BackOff", "again");
    recorder.normal(&pod, "Started", "well");
    for _ in 0..30 {
        settle().await;
        clock.advance(Duration::from_secs(10));
    }
    assert_eq!(*told.asked.lock().expect("no panic under it"), expect);
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn events_arrive_in_order_whatever_fails() {
    let post = "POST /api/v1/namespaces/shop BackOff";
    let (patch, last) = ("PATCH /api/v1/namespaces/shop", "POST /api/v1/namespaces/shop Started");
    check(vec![], &[post, patch, last]).await;
    // What cannot be reached is tried again, what is refused is not.
    check(vec![None, None], &[post, post, post, patch, last]).await;
    check(vec![Some(Status::bad_request("no"))], &[post, patch, last]).await;
    check(vec![Some(Status::internal("later"))], &[post, post, patch, last]).await;
    // The event is gone: it is made again with its count.
    let gone = || Some(Status::not_found("", "events", "a.1"));
    check(vec![Some(Status::already_exists("", "events", "a.1")), gone()], &[post, patch, post, last]).await;
}

#[tokio::test]
async fn too_many_are_dropped_and_counted() {
    let (clock, tasks) = (Clock::manual(0), Tasks::new());
    let form = Form::Series { controller: "default-scheduler".into(), instance: "default-scheduler-n1".into() };
    let client = Client::new(Arc::new(Told::default()), "test");
    let recorder = Recorder::new(form, client, &clock, &Random::seeded(1), &tasks);
    for _ in 0..1200 {
        recorder.normal(&Reference::default(), "Scheduled", "");
    }
    assert_eq!(recorder.dropped(), 200);
    assert_eq!(tasks.stop(Duration::from_secs(5)).await, 0);
}
