//! Takes requests away that nobody needs any more: an hour after they were decided, or after a day without that
//! (`pkg/controller/certificates/cleaner`).

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::value::Value;
use corten_client::cache::{Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error};
use corten_stdx::clock::Clock;

use super::{ACCOUNT, REQUESTS, condition};
use crate::Base;
use crate::pod::seconds;

const DECIDED_S: i64 = 3600;
const PENDING_S: i64 = 24 * 3600;

/// When a request goes, in Unix seconds.
struct Goes(i64);

impl View for Goes {
    fn from_object(request: &Value) -> Option<Self> {
        let decided = ["Denied", "Failed", "Approved"].iter().find_map(|kind| condition(request, kind));
        let goes_s = match decided {
            Some(condition) => seconds(condition.str_at(&["lastUpdateTime"])) + DECIDED_S,
            None => seconds(request.str_at(&["metadata", "creationTimestamp"])) + PENDING_S,
        };
        Some(Self(goes_s))
    }
}

struct Context {
    client: Client,
    clock: Clock,
    requests: Informer<Goes>,
}

pub fn controller(base: &Base) -> Controller {
    let requests = base.informers.of::<Goes>(Scope::all(REQUESTS));
    let context = Context { client: (base.client_of)(ACCOUNT), clock: base.clock.clone(), requests: requests.clone() };
    Controller::new("certificate-cleaning", Arc::new(context), reconcile).watches(&requests)
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(request) = ctx.requests.cache().get("", &key.name) else { return Ok(Next::Change) };
    let left_s = u64::try_from(request.view.0 - ctx.clock.now_s()).unwrap_or_default();
    if left_s > 0 {
        return Ok(Next::After(Duration::from_secs(left_s)));
    }
    let delete = Delete { revision: Some(request.head.revision.clone()), ..Delete::of(&request.head.uid) };
    unless_gone(ctx.client.delete(&REQUESTS, "", &key.name, &delete).await)?;
    Ok(Next::Change)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn a_decision_shortens_the_life_of_a_request() {
        let created = "1970-01-01T00:00:10Z";
        let pending = value!({"metadata": {"creationTimestamp": created}});
        assert_eq!(Goes::from_object(&pending).map(|goes| goes.0), Some(10 + PENDING_S));
        let denied = value!({
            "metadata": {"creationTimestamp": created},
            "status": {"conditions": [{"type": "Denied", "lastUpdateTime": "1970-01-01T00:00:20Z"}]}
        });
        assert_eq!(Goes::from_object(&denied).map(|goes| goes.0), Some(20 + DECIDED_S));
    }
}
