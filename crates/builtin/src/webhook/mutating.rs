//! The mutating webhooks: one after another, each sees what those before it have made of the object. When one has changed
//! it, the whole chain runs once more, and those that asked for it are called again if what they made was changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use corten_apimachinery::json;
use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::patch::json::JsonPatch;
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation, Round};
use corten_stdx::clock::Stopwatch;
use futures_core::future::BoxFuture;

use super::Shared;
use super::hook::Hook;
use super::review::Answer;
use super::verdict::{self, Failure, Half};
use crate::matching::{SeenAs, convert, is_exempt};

const NAME: &str = "MutatingAdmissionWebhook";

pub(super) struct Mutating(pub(super) Arc<Shared>);

/// What is remembered of the first round.
#[derive(Default)]
struct Memory {
    /// The object as this plugin left it.
    left: Option<Value>,
    /// Those that were called, and want to be called again if the object is changed after them.
    called: BTreeSet<String>,
    /// Those whose object was changed after them.
    again: BTreeSet<String>,
}

impl Memory {
    /// The object was changed.
    fn changed(&mut self) {
        self.again.append(&mut self.called);
    }
}

impl Admission for Mutating {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        let hooks = self.0.mutating.get();
        if hooks.is_empty() || is_exempt(request) {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(async move {
            let mut memory: Memory = request.kept.take(NAME).unwrap_or_default();
            if request.round == Round::Second && memory.left.as_ref() != Some(&request.object) {
                memory.changed();
            }
            for (index, hook) in hooks.iter().enumerate() {
                let Some(seen) = self.0.seen_by(hook, request).await? else { continue };
                // One that was not called in the first round is not called for the first time in the second.
                if request.round == Round::Second && !memory.again.contains(&hook.id) {
                    continue;
                }
                let changed = match self.call(hook, &seen, index, request).await {
                    Ok(changed) => changed,
                    Err(failure) => {
                        verdict::settle(failure, (hook, Half::Mutating), index, request)?;
                        false
                    }
                };
                if changed {
                    memory.changed();
                    request.again |= request.round == Round::First;
                }
                if hook.reinvoke {
                    memory.called.insert(hook.id.clone());
                }
            }
            memory.left = Some(request.object.clone());
            request.kept.put(NAME, memory);
            Ok(())
        })
    }
}

impl Mutating {
    /// Calls one webhook and does what it says; whether that has changed the object.
    async fn call(
        &self,
        hook: &Hook,
        seen: &SeenAs,
        index: usize,
        request: &mut AdmissionRequest,
    ) -> Result<bool, Failure> {
        let object = seen.object(&request.object, request).map_err(Failure::Broken)?;
        let took = Stopwatch::start();
        let made = match self.0.ask(hook, seen, request, &object, true).await {
            Ok(answer) => self.obey(hook, seen, answer, &object, request),
            Err(failure) => Err(failure),
        };
        let failure = made.as_ref().err();
        verdict::count(&self.0.ground.metrics, (hook, Half::Mutating), request, took.elapsed(), failure);
        let changed = match &made {
            Ok(Some(new)) => *new != object,
            Ok(None) | Err(_) => false,
        };
        let note = value!({
            "configuration": (hook.configuration.clone()), "webhook": (hook.name.clone()), "mutated": changed
        });
        let key = format!("{}round_{}_index_{index}", Half::Mutating.annotation(), verdict::round(request));
        request.annotations.push((key, json::to_string(&note)));
        if let Some(new) = made? {
            request.object = match seen.body == *request.body() {
                true => new,
                false => convert(new, &seen.kind, &request.kind).map_err(Failure::Broken)?,
            };
        }
        Ok(changed)
    }

    /// The object that an answer makes of the one that was sent; `None`: it says nothing of it.
    fn obey(
        &self,
        hook: &Hook,
        seen: &SeenAs,
        answer: Answer,
        object: &Value,
        request: &mut AdmissionRequest,
    ) -> Result<Option<Value>, Failure> {
        let answer = self.0.heed(hook, answer, request)?;
        let Some(patch) = &answer.patch else { return Ok(None) };
        let undecodable =
            |why: String| Failure::Calling(format!("received undecodable patch in webhook response: {why}"));
        let patch = json::parse(patch).map_err(|error| undecodable(error.to_string()))?.value;
        if patch.as_array().is_some_and(<[Value]>::is_empty) {
            return Ok(None);
        }
        let patch = JsonPatch::decode(patch).map_err(|error| undecodable(error.to_string()))?;
        let broken = |why: String| Failure::Broken(Status::internal(why));
        if object.is_null() {
            let why = "attempted to modify the object, which is not supported for this operation";
            return Err(broken(format!("admission webhook {:?} {why}", hook.name)));
        }
        if answer.patch_type != "JSONPatch" {
            return Err(Failure::Calling(format!("unsupported patch type {:?}", answer.patch_type)));
        }
        let patched = patch.apply(object).map_err(|error| broken(error.to_string()))?;
        let kind = self.kind_of(seen);
        let mut new = kind.schema.conform(patched).map_err(|error| broken(error.to_string()))?.value;
        kind.schema.default(&mut new);
        Ok(Some(new))
    }

    /// The record of the objects' kind.
    fn kind_of(&self, seen: &SeenAs) -> Arc<KindInfo> {
        let of_body = |registry: &corten_apiserver::registry::Registry| registry.kinds().kind(&seen.body).cloned();
        match seen.body == seen.kind.gvk {
            true => seen.kind.clone(),
            false => self.0.registry.get().and_then(of_body).unwrap_or_else(|| seen.kind.clone()),
        }
    }
}
