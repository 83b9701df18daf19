//! `TokenReview`: whose is this token?

use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::connect::{Answer, Call, CallBody, Connector};
use futures_core::future::BoxFuture;

use super::{Tokens, own_audiences};
use crate::access::user_info;
use crate::rbac::rule::strings;

/// The endpoint.
pub struct TokenReviews(pub Tokens);

impl Connector for TokenReviews {
    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(async move {
            let CallBody::Object(mut review) = call.body else {
                return Err(Status::bad_request("not a TokenReview"));
            };
            let status = self.0.review(&review).await?;
            review.as_object_mut().map(|review| review.insert("status", status));
            Ok(Answer::Object { code: 201, value: review })
        })
    }
}

impl Tokens {
    pub(super) async fn review(&self, review: &Value) -> Result<Value, Status> {
        let token = review.str_at(&["spec", "token"]);
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let mut audiences = strings(review.at(&["spec", "audiences"]));
        if audiences.is_empty() {
            audiences = own_audiences();
        }
        // What was sent stays where there is nothing to say.
        let mut status = review.get("status").and_then(Value::as_object).cloned().unwrap_or_default();
        status.remove("authenticated");
        match self.authenticate(token, &audiences).await {
            Ok(Some(proved)) => {
                status.insert("authenticated", true);
                status.insert("user", user_info(&proved.user));
                status.insert("audiences", proved.audiences);
            }
            Ok(None) => refuse(&mut status, "invalid bearer token".into()),
            Err(why) => refuse(&mut status, why),
        }
        Ok(Value::Object(status))
    }
}

fn refuse(status: &mut Map, why: String) {
    status.insert_if_absent("user", || Map::new().into());
    status.insert("error", why);
}
