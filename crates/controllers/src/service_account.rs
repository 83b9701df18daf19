//! Every namespace has a service account `default` (`pkg/controller/serviceaccount/serviceaccounts_controller.go`).

use std::sync::Arc;

use corten_apimachinery::value;
use corten_client::cache::{Head, Key};
use corten_client::controller::{Controller, Next};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Resource};

use crate::Base;
use crate::namespace::NAMESPACES;

const ACCOUNTS: Resource = Resource::new("", "v1", "serviceaccounts");
const NAME: &str = "default";

struct Context {
    client: Client,
    namespaces: Informer<()>,
    accounts: Informer<()>,
}

pub fn controller(base: &Base) -> Controller {
    let namespaces = base.informers.of::<()>(Scope::metadata(NAMESPACES));
    let only = Scope { fields: format!("metadata.name={NAME}"), ..Scope::metadata(ACCOUNTS) };
    let accounts = base.informers.of::<()>(only);
    let context = Context {
        client: (base.client_of)("service-account-controller"),
        namespaces: namespaces.clone(),
        accounts: accounts.clone(),
    };
    Controller::new("service-account", Arc::new(context), reconcile)
        .watches(&namespaces)
        .watches_for(&accounts, |held| vec![Key::new("", held.head.namespace.clone())])
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let namespace = ctx.namespaces.cache().get("", &key.name);
    let account = ctx.accounts.cache().get(&key.name, NAME);
    if plan(namespace.as_deref().map(|held| &*held.head), account.is_some()) {
        let account = value!({"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": NAME}});
        match ctx.client.create(&ACCOUNTS, &key.name, &account).await {
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() || error.is_not_found() => {}
            done => drop(done?),
        }
    }
    Ok(Next::Change)
}

/// Whether the account is to be made.
fn plan(namespace: Option<&Head>, has_account: bool) -> bool {
    namespace.is_some_and(|namespace| !namespace.deleting) && !has_account
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_living_namespaces_get_one() {
        let living = Head::default();
        let going = Head { deleting: true, ..Head::default() };
        assert!(plan(Some(&living), false));
        assert!(!plan(Some(&living), true));
        assert!(!plan(Some(&going), false));
        assert!(!plan(None, false));
    }
}
