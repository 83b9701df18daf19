//! Match conditions: expressions that must all hold of a request before a webhook is called. What evaluates them is handed
//! in.

use std::sync::Arc;

use corten_apimachinery::value::Value;
use corten_apiserver::auth::User;
use futures_core::future::BoxFuture;

/// One of `matchConditions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub name: String,
    pub expression: String,
}

/// What conditions are evaluated on.
pub struct Circumstances<'a> {
    /// The review's request without the objects: the variable `request`.
    pub request: &'a Value,
    /// `Null` where there is none, in the version that the webhook sees.
    pub object: &'a Value,
    pub old_object: &'a Value,
    /// Whose rights the variable `authorizer` tells of.
    pub user: &'a User,
}

/// Makes conditions ready, once a configuration is read.
pub trait Conditions: Send + Sync {
    fn ready(&self, conditions: Vec<Condition>) -> Arc<dyn Ready>;
}

/// The conditions of one webhook.
pub trait Ready: Send + Sync {
    /// Whether all hold; false as soon as one does not, whatever the others are.
    ///
    /// # Errors
    /// Why one could not be evaluated, where none is false.
    fn hold<'a>(&'a self, on: &'a Circumstances<'a>) -> BoxFuture<'a, Result<bool, String>>;
}

/// Evaluates nothing: webhooks with conditions go by their failure policy.
pub struct Unevaluated;

impl Conditions for Unevaluated {
    fn ready(&self, conditions: Vec<Condition>) -> Arc<dyn Ready> {
        Arc::new(Names(conditions.into_iter().map(|condition| condition.name).collect()))
    }
}

struct Names(Vec<String>);

impl Ready for Names {
    fn hold<'a>(&'a self, _on: &'a Circumstances<'a>) -> BoxFuture<'a, Result<bool, String>> {
        let why = format!("this server cannot evaluate match conditions yet: {}", self.0.join(", "));
        Box::pin(std::future::ready(Err(why)))
    }
}
