//! Whether a webhook sees a request, and as which of the equivalent resources.

use corten_apimachinery::status::Status;
use corten_apiserver::admission::AdmissionRequest;

use super::Shared;
use super::hook::Hook;
use crate::matching::SeenAs;
use crate::policy::{Circumstances, hold};

impl Shared {
    /// As what a webhook is to be called for a request; `None`: it is not.
    pub(super) async fn seen_by(&self, hook: &Hook, request: &AdmissionRequest) -> Result<Option<SeenAs>, Status> {
        let Some(registry) = self.registry.get() else { return Ok(None) };
        let seen = hook.constraints.seen(request, &registry.kinds(), &*self.ground.lookup).await?;
        let Some(seen) = seen else { return Ok(None) };
        Ok(self.conditions_hold(hook, request, &seen)?.then_some(seen))
    }

    fn conditions_hold(&self, hook: &Hook, request: &AdmissionRequest, seen: &SeenAs) -> Result<bool, Status> {
        if hook.conditions.is_empty() {
            return Ok(true);
        }
        let on = Circumstances::without_namespace(request, seen)?;
        match hold(&hook.conditions, &on, &self.ground.rbac, request) {
            Ok(hold) => Ok(hold),
            Err(_) if hook.ignore_failures => Ok(false),
            Err(why) => {
                let kind = &request.kind;
                Err(Status::forbidden(&kind.gvk.group, &kind.plural, &request.name, &why))
            }
        }
    }
}
