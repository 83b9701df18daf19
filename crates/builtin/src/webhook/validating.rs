//! The validating webhooks: all at once, and one refusal is enough.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_stdx::clock::Stopwatch;
use futures_core::future::BoxFuture;
use futures_util::future::join_all;

use super::Shared;
use super::hook::Hook;
use super::review::{self, Answer};
use super::verdict::{self, Failure, Half};
use crate::matching::{SeenAs, is_exempt};

pub(super) struct Validating(pub(super) Arc<Shared>);

impl Admission for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        let hooks = self.0.validating.get();
        if hooks.is_empty() || is_exempt(request) {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(async move {
            let mut calls = Vec::new();
            for hook in hooks.iter() {
                if let Some(seen) = self.0.seen_by(hook, request).await? {
                    calls.push((hook, seen));
                }
            }
            let shown: &AdmissionRequest = request;
            let ends = join_all(calls.iter().map(|(hook, seen)| self.ask(hook, seen, shown))).await;
            let mut refused = Ok(());
            for (index, ((hook, _), end)) in calls.iter().zip(ends).enumerate() {
                let settled = match end {
                    Ok(answer) => self.0.heed(hook, answer, request).map(drop),
                    Err(failure) => Err(failure),
                };
                let settled =
                    settled.or_else(|failure| verdict::settle(failure, (hook, Half::Validating), index, request));
                refused = refused.and(settled);
            }
            refused
        })
    }
}

impl Validating {
    async fn ask(&self, hook: &Hook, seen: &SeenAs, request: &AdmissionRequest) -> Result<Answer, Failure> {
        let object = seen.object(&request.object, request).map_err(Failure::Broken)?;
        let took = Stopwatch::start();
        let answer = self.0.ask(hook, seen, request, &object, false).await;
        let denied = answer.as_ref().ok().and_then(|answer| denial(hook, answer));
        let failure = answer.as_ref().err().or(denied.as_ref());
        verdict::count(&self.0.ground.metrics, (hook, Half::Validating), request, took.elapsed(), failure);
        answer
    }
}

/// The failure that a no is.
fn denial(hook: &Hook, answer: &Answer) -> Option<Failure> {
    (!answer.allowed).then(|| Failure::Denied(review::refusal(&hook.name, &answer.result)))
}

impl Shared {
    /// Asks a webhook about an object in the form in which it sees it.
    pub(super) async fn ask(
        &self,
        hook: &Hook,
        seen: &SeenAs,
        request: &AdmissionRequest,
        object: &Value,
        mutating: bool,
    ) -> Result<Answer, Failure> {
        if request.dry_run && !matches!(hook.side_effects.as_str(), "None" | "NoneOnDryRun") {
            let why = format!("admission webhook {:?} does not support dry run", hook.name);
            return Err(Failure::Broken(Status::bad_request(why)));
        }
        let Some(version) = hook.version else {
            let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            return Err(Failure::Calling(format!("could not create admission objects: {why}")));
        };
        let uid = self.ground.random.uuid();
        let head = seen.head(request, &uid);
        let old = seen.old_object(request).map_err(Failure::Broken)?;
        let body = review::encode(version, &head, object, &old);
        let review = hook.caller.call(&self.ground, body.into(), hook.timeout).await?;
        let answer = review::decode(&review, version, &uid, mutating);
        answer.map_err(|why| Failure::Calling(format!("received invalid webhook response: {why}")))
    }

    /// Takes from an answer what is for others to read; a no is a failure.
    pub(super) fn heed(
        &self,
        hook: &Hook,
        mut answer: Answer,
        request: &mut AdmissionRequest,
    ) -> Result<Answer, Failure> {
        let annotations = answer.annotations.drain(..);
        request.annotations.extend(annotations.map(|(key, value)| (format!("{}/{key}", hook.name), value)));
        request.warnings.append(&mut answer.warnings);
        denial(hook, &answer).map_or(Ok(answer), Err)
    }
}
