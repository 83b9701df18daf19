//! The admission chain around one write.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Str, Value};

use super::engine::Registry;
use super::{Context, Target};
use crate::admission::{AdmissionRequest, Operation};
use crate::auth::User;

/// One write's way through the chain.
pub(super) struct Chain<'a> {
    registry: &'a Registry,
    request: AdmissionRequest,
}

impl Registry {
    /// The chain for a write on a target; `old` is the stored object.
    pub(super) fn admission<'a>(
        &'a self,
        context: &Context,
        target: &Target,
        operation: Operation,
        old: Option<Arc<Value>>,
        dry_run: bool,
    ) -> Chain<'a> {
        let request = AdmissionRequest {
            user: context.user.clone(),
            kind: target.kind.clone(),
            subresource: target.subresource.to_string(),
            namespace: target.namespace.to_string(),
            name: target.name.to_string(),
            operation,
            object: Value::Null,
            old,
            dry_run,
            warnings: Vec::new(),
        };
        Chain { registry: self, request }
    }
}

impl Registry {
    /// Takes what a connector is asked to do through the chain, as a create of the subresource that it answers.
    pub async fn admit(
        &self,
        user: &Arc<User>,
        target: &Target,
        object: Value,
        dry_run: bool,
    ) -> Result<Value, Status> {
        let context = Context::new(user.clone(), Str::default());
        let mut chain = self.admission(&context, target, Operation::Create, None, dry_run);
        let object = chain.mutate(object).await?;
        chain.validate(object).await
    }
}

impl Chain<'_> {
    /// Lets the plugins change the object.
    pub(super) async fn mutate(&mut self, object: Value) -> Result<Value, Status> {
        self.request.object = object;
        for plugin in &self.registry.0.admission {
            if plugin.handles(self.request.operation) {
                plugin.mutate(&mut self.request).await?;
            }
        }
        Ok(std::mem::take(&mut self.request.object))
    }

    /// Asks the plugins whether the object may be written as it is now.
    pub(super) async fn validate(&mut self, object: Value) -> Result<Value, Status> {
        if self.request.name.is_empty() {
            self.request.name = object.str_at(&["metadata", "name"]).to_owned();
        }
        self.request.object = object;
        for plugin in &self.registry.0.admission {
            if plugin.handles(self.request.operation) {
                plugin.validate(&mut self.request).await?;
            }
        }
        Ok(std::mem::take(&mut self.request.object))
    }

    /// What plugins want the client to be told.
    pub(super) fn into_warnings(self) -> Vec<String> {
        self.request.warnings
    }

    /// Whether there is anybody to ask.
    pub(super) fn is_empty(&self) -> bool {
        let operation = self.request.operation;
        !self.registry.0.admission.iter().any(|plugin| plugin.handles(operation))
    }
}

/// The name under which a create goes through admission: the URL's, else the body's, else none yet.
pub(super) fn name_of(target: &Target, object: &Value) -> Str {
    if target.name.is_empty() { object.str_at(&["metadata", "name"]).into() } else { target.name.clone() }
}
