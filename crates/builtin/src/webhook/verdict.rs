//! How a call ends, and what that means for the request.

use std::time::Duration;

use corten_apimachinery::status::Status;
use corten_apiserver::admission::AdmissionRequest;
use corten_apiserver::metrics::{Ending, HookLabels, Metrics};

use super::hook::Hook;

/// Why a call has no good end.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody was asked, or what was answered is no answer: the failure policy decides.
    Calling(String),
    /// Too many wait for this webhook already: likewise, and the client may try again.
    Busy,
    /// It said no.
    Denied(Status),
    /// This server's own trouble with what it said; no policy helps.
    Broken(Status),
}

/// Which of the two plugins calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Mutating,
    Validating,
}

impl Half {
    /// As metrics name it.
    fn label(self) -> &'static str {
        match self {
            Self::Mutating => "admit",
            Self::Validating => "validating",
        }
    }

    pub(super) fn annotation(self) -> &'static str {
        match self {
            Self::Mutating => "mutation.webhook.admission.k8s.io/",
            Self::Validating => "validating.webhook.admission.k8s.io/",
        }
    }
}

impl Failure {
    /// The code of a call's end in metrics.
    fn code(&self) -> u16 {
        match self {
            Self::Calling(_) => 503,
            Self::Busy => 429,
            Self::Denied(status) => status.code,
            Self::Broken(_) => 0,
        }
    }

    fn ending(&self, ignored: bool) -> Ending {
        match self {
            Self::Calling(_) | Self::Busy if ignored => Ending::Open,
            Self::Calling(_) | Self::Busy => Ending::Rejected("calling_webhook_error"),
            Self::Denied(_) => Ending::Rejected("no_error"),
            Self::Broken(_) => Ending::Rejected("apiserver_internal_error"),
        }
    }

    /// The refusal of the request; `None`: the failure is to be ignored.
    fn into_refusal(self, hook: &Hook) -> Option<Status> {
        match self {
            Self::Denied(status) | Self::Broken(status) => Some(status),
            Self::Calling(_) | Self::Busy if hook.ignore_failures => None,
            Self::Calling(why) => Some(Status::internal(failed(hook, &why))),
            Self::Busy => Some(Status::too_many_requests(failed(hook, "too many requests wait for it"), 1)),
        }
    }
}

fn failed(hook: &Hook, why: &str) -> String {
    format!("failed calling webhook {:?}: {why}", hook.name)
}

/// Counts how a call has ended.
pub(super) fn count(
    metrics: &Metrics,
    (hook, half): (&Hook, Half),
    request: &AdmissionRequest,
    took: Duration,
    failure: Option<&Failure>,
) {
    let labels = HookLabels { name: &hook.name, half: half.label(), operation: request.operation.as_str() };
    let ending = failure.map_or(Ending::Allowed, |failure| failure.ending(hook.ignore_failures));
    metrics.webhook(labels, failure.map_or(200, Failure::code), took, ending);
}

/// Lets a failed call be the end of the request, or not.
pub(super) fn settle(
    failure: Failure,
    (hook, half): (&Hook, Half),
    index: usize,
    request: &mut AdmissionRequest,
) -> Result<(), Status> {
    let told = match &failure {
        Failure::Calling(why) => why.clone(),
        Failure::Busy => "too many requests wait for it".to_owned(),
        Failure::Denied(status) | Failure::Broken(status) => status.message.clone(),
    };
    let Some(refusal) = failure.into_refusal(hook) else {
        tracing::warn!(webhook = hook.name, why = told, "a webhook could not be called, and is passed over");
        let round = round(request);
        let key = format!("failed-open.{}round_{round}_index_{index}", half.annotation());
        request.annotations.push((key, hook.name.clone()));
        return Ok(());
    };
    tracing::debug!(webhook = hook.name, why = told, "refused by a webhook");
    Err(refusal)
}

/// The number of the round in annotations.
pub(super) fn round(request: &AdmissionRequest) -> usize {
    match request.round {
        corten_apiserver::admission::Round::First => 0,
        corten_apiserver::admission::Round::Second => 1,
    }
}
