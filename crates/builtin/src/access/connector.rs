//! The reviews as endpoints.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apiserver::connect::{Answer, Call, CallBody, Connector, Connectors};
use corten_stdx::clock::Clock;
use futures_core::future::BoxFuture;

use super::{Review, answer};
use crate::rbac::Rbac;

struct Endpoint {
    review: Review,
    rbac: Rbac,
    clock: Clock,
}

/// Registers every review.
pub fn register(connectors: &mut Connectors, rbac: &Rbac, clock: &Clock) {
    for review in Review::ALL {
        let endpoint = Endpoint { review, rbac: rbac.clone(), clock: clock.clone() };
        connectors.register(review.group(), &review.resource(), "", Arc::new(endpoint));
    }
}

impl Connector for Endpoint {
    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(std::future::ready(self.answer(call)))
    }
}

impl Endpoint {
    fn answer(&self, call: Call) -> Result<Answer, Status> {
        let CallBody::Object(object) = call.body else {
            return Err(Status::bad_request(format!("not a {}", self.review.kind())));
        };
        let now = Time::from_seconds(self.clock.now_s()).to_rfc3339();
        let value = answer(&self.rbac, self.review, &call.user, &call.target.namespace, object, &now)?;
        Ok(Answer::Object { code: 201, value })
    }
}
