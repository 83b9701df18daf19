//! The admission chain around one write.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::{Str, Value};

use super::engine::Registry;
use super::{Context, DeleteOptions, Target};
use crate::admission::{AdmissionRequest, Operation, Round};

/// One write's way through the chain.
pub(super) struct Chain<'a> {
    registry: &'a Registry,
    request: AdmissionRequest,
}

/// What goes through the chain without being stored.
pub(crate) struct Asked<'a> {
    pub(crate) operation: Operation,
    pub(crate) object: Value,
    pub(crate) dry_run: bool,
    /// The object's own rules, between the chain's two halves.
    pub(crate) check: &'a (dyn Fn(&Value) -> Result<(), Status> + Send + Sync),
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
        let mut request = AdmissionRequest::new(context.user.clone(), target.kind.clone(), operation);
        request.subresource = target.subresource.to_string();
        request.namespace = target.namespace.to_string();
        request.name = target.name.to_string();
        request.old = old;
        request.dry_run = dry_run;
        request.options.field_manager = context.sent.field_manager.clone();
        request.options.field_validation = context.sent.field_validation.clone();
        Chain { registry: self, request }
    }

    /// The chain for a delete.
    pub(super) fn admission_of_delete<'a>(
        &'a self,
        context: &Context,
        target: &Target,
        old: Arc<Value>,
        options: &DeleteOptions,
    ) -> Chain<'a> {
        let mut chain = self.admission(context, target, Operation::Delete, Some(old), options.dry_run);
        chain.request.options.delete = Some(Box::new(options.clone()));
        chain
    }

    /// Takes what a connector is asked to do through the chain. What plugins want the client to be told is kept in the
    /// context.
    pub(crate) async fn admit(&self, context: &Context, target: &Target, asked: Asked<'_>) -> Result<Value, Status> {
        let Asked { operation, object, dry_run, check } = asked;
        let named = Target { name: name_of(target, &object), ..target.clone() };
        let mut chain = self.admission(context, &named, operation, None, dry_run);
        if chain.is_empty() {
            return check(&object).map(|()| object);
        }
        let admitted = match chain.mutate(object).await.and_then(|object| check(&object).map(|()| object)) {
            Ok(object) => chain.validate(object).await,
            Err(status) => Err(status),
        };
        context.keep_warnings(chain.into_warnings());
        admitted
    }
}

impl Chain<'_> {
    /// Lets the plugins change the object; twice where one of them asks for it.
    pub(super) async fn mutate(&mut self, object: Value) -> Result<Value, Status> {
        self.request.object = object;
        self.mutate_once().await?;
        if std::mem::take(&mut self.request.again) {
            self.request.round = Round::Second;
            self.mutate_once().await?;
        }
        Ok(std::mem::take(&mut self.request.object))
    }

    async fn mutate_once(&mut self) -> Result<(), Status> {
        for plugin in &self.registry.0.admission {
            if plugin.handles(self.request.operation) {
                plugin.mutate(&mut self.request).await?;
            }
        }
        Ok(())
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
        for (key, value) in &self.request.annotations {
            tracing::debug!(key, value, "noted by admission");
        }
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
