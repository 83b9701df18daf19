//! Takes bootstrap tokens away when their time is over (`pkg/controller/bootstrap`), and when they have brought a server in.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::value::Value;
use corten_client::cache::{Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Resource};
use corten_stdx::clock::Clock;

use crate::Base;
use crate::certificate::{REQUESTS, TOKEN_PREFIX, condition, is_issued};
use crate::pod::seconds;

const SECRETS: Resource = Resource::new("", "v1", "secrets");
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const ACCOUNT: &str = "token-cleaner";

/// How long whoever came with a token may still ask for the certificate that was made.
const FETCH_S: i64 = 30;

/// When a token is over, in Unix seconds, if ever; nothing else of it is kept.
struct Over(Option<i64>);

impl View for Over {
    fn from_object(secret: &Value) -> Option<Self> {
        let text = STANDARD.decode(secret.str_at(&["data", "expiration"])).unwrap_or_default();
        Some(Self(std::str::from_utf8(&text).ok().filter(|text| !text.is_empty()).map(seconds)))
    }
}

struct Context {
    client: Client,
    clock: Clock,
    tokens: Informer<Over>,
    requests: Informer<Value>,
}

pub fn controller(base: &Base) -> Controller {
    let only = Scope { namespace: NAMESPACE.into(), fields: format!("type={TYPE}"), ..Scope::all(SECRETS) };
    let tokens = base.informers.of::<Over>(only);
    let requests = base.informers.of::<Value>(Scope::all(REQUESTS));
    let context = Context {
        client: (base.client_of)(ACCOUNT),
        clock: base.clock.clone(),
        tokens: tokens.clone(),
        requests: requests.clone(),
    };
    Controller::new("token-cleaner", Arc::new(context), reconcile).watches(&tokens).watches_for(&requests, |request| {
        token_of(&request.view).map(|id| Key::new(NAMESPACE, name(id))).into_iter().collect()
    })
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(token) = ctx.tokens.cache().get(NAMESPACE, &key.name) else { return Ok(Next::Change) };
    let used_s = ctx.requests.cache().all().iter().filter_map(|request| used_s(&request.view, &key.name)).min();
    let Some(over_s) = token.view.0.into_iter().chain(used_s).min() else { return Ok(Next::Change) };
    let left_s = u64::try_from(over_s - ctx.clock.now_s()).unwrap_or_default();
    if left_s > 0 {
        return Ok(Next::After(Duration::from_secs(left_s)));
    }
    let delete = Delete { revision: Some(token.head.revision.clone()), ..Delete::of(&token.head.uid) };
    unless_gone(ctx.client.delete(&SECRETS, NAMESPACE, &key.name, &delete).await)?;
    Ok(Next::Change)
}

/// The id of the token that a request was made with.
fn token_of(request: &Value) -> Option<&str> {
    request.str_at(&["spec", "username"]).strip_prefix(TOKEN_PREFIX)
}

/// The name of a token's Secret.
fn name(id: &str) -> String {
    format!("bootstrap-token-{id}")
}

/// When a token is over because of a request, in Unix seconds.
fn used_s(request: &Value, secret: &str) -> Option<i64> {
    let id = token_of(request).filter(|id| name(id) == secret && is_issued(request));
    let approved = id.and(condition(request, "Approved"))?;
    Some(seconds(approved.str_at(&["lastUpdateTime"])) + FETCH_S)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    #[test]
    fn a_token_ends_when_it_says_or_soon_after_its_use() {
        let over = |text: &str| {
            let secret = value!({"data": {"expiration": (STANDARD.encode(text))}});
            Over::from_object(&secret).expect("a view").0
        };
        assert_eq!([over("1970-01-01T00:01:00Z"), over("")], [Some(60), None]);
        let request = |certificate: &str| {
            value!({
                "spec": {"username": "system:bootstrap:abcdef"},
                "status": {
                    "certificate": certificate,
                    "conditions": [{"type": "Approved", "lastUpdateTime": "1970-01-01T00:00:10Z"}]
                }
            })
        };
        assert_eq!(used_s(&request("c"), "bootstrap-token-abcdef"), Some(40));
        assert_eq!(used_s(&request("c"), "bootstrap-token-zzzzzz"), None);
        assert_eq!(used_s(&request(""), "bootstrap-token-abcdef"), None);
    }
}
