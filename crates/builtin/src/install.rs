//! Bringing a cluster to what it begins with: objects that are missing are made, default roles and bindings get back
//! what they lost. Runs at every start; a cluster that has everything is only read.

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::User;
use corten_apiserver::registry::{Body, Context, DeleteOptions, ListOptions, Registry, Target, WriteOptions};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::bootstrap::{self, Network};
use crate::crd;
use crate::lookup::Resource;
use crate::rbac::defaults::{self, Change, FactsError};
use crate::rbac::{GROUP, Policy};

/// Writes under way at one time: they share the store's flushes.
const WRITES_MAX: usize = 64;

/// Attempts for one object that somebody else is writing too.
const ATTEMPTS_MAX: usize = 5;

/// Under this name the server's own writes stand in managed fields.
const MANAGER: &str = "corten";

#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(transparent)]
    Facts(#[from] FactsError),
    #[error("the Services of this cluster are in {stored}, not in {asked}; start with --service-cidr {stored}")]
    Range { stored: String, asked: String },
    #[error("{kind} {name} cannot be made or brought up to date")]
    Refused { kind: String, name: String, source: Status },
}

/// Writes the initial objects under an in-process identity. Keys of config maps in `published` are kept as they are there.
pub async fn install(
    registry: &Registry,
    user: &Arc<User>,
    network: &Network,
    published: Vec<(Resource, Value)>,
) -> Result<(), InstallError> {
    let context = Context::new(user.clone(), MANAGER);
    let context = &context;
    // Everything else may stand in a namespace.
    settle_all(registry, context, bootstrap::namespaces(), create_only).await?;
    settle_all(registry, context, bootstrap::objects(), create_only).await?;
    settle_all(registry, context, published, bootstrap::keep).await?;
    ready_range(registry, context, network).await?;
    settle_all(registry, context, network.services(), create_only).await?;
    settle_all(registry, context, network.endpoints(), bootstrap::follow).await?;
    settle_roles(registry, context, defaults::objects()?).await
}

/// The same for the roles of a part that not every server has.
pub async fn install_roles(
    registry: &Registry,
    user: &Arc<User>,
    objects: Vec<(Policy, Value)>,
) -> Result<(), InstallError> {
    settle_roles(registry, &Context::new(user.clone(), MANAGER), objects).await
}

/// Kinds of our own, as definitions like anybody's: made where they are missing, brought to this version's form where they differ.
pub async fn install_kinds(registry: &Registry, user: &Arc<User>, definitions: Vec<Value>) -> Result<(), InstallError> {
    let resource = Resource { group: crd::controller::GROUP, plural: crd::controller::RESOURCE };
    let objects = definitions.into_iter().map(|definition| (resource, definition)).collect();
    settle_all(registry, &Context::new(user.clone(), MANAGER), objects, |existing, wanted| {
        let Some(existing) = existing else { return Some(Change::Create(wanted.clone())) };
        let mut object = existing.clone();
        object.as_object_mut()?.insert("spec", wanted.get("spec")?.clone());
        // Where the defaults make it what is stored, nothing is written.
        Some(Change::Update(object))
    })
    .await
}

async fn settle_roles(
    registry: &Registry,
    context: &Context,
    objects: Vec<(Policy, Value)>,
) -> Result<(), InstallError> {
    for policy in [Policy::ClusterRole, Policy::Role, Policy::ClusterRoleBinding, Policy::RoleBinding] {
        let own = objects.iter().filter(|(of, _)| *of == policy);
        let resource = Resource { group: GROUP, plural: policy.resource() };
        let objects = own.map(|(_, object)| (resource, object.clone())).collect();
        settle_all(registry, context, objects, move |existing, wanted| defaults::plan(policy, existing, wanted))
            .await?;
    }
    Ok(())
}

/// The range that Services begin with, marked as ready. It is the cluster's for good.
async fn ready_range(registry: &Registry, context: &Context, network: &Network) -> Result<(), InstallError> {
    let (resource, wanted) = network.range();
    settle_all(registry, context, vec![(resource, wanted.clone())], create_only).await?;
    let refused = |source| InstallError::Refused { kind: "ServiceCIDR".into(), name: "kubernetes".into(), source };
    let mut target = target(&kind_of(registry, resource, &wanted).map_err(refused)?, &wanted);
    let stored = registry.get(&target, &ListOptions::default()).await.map_err(refused)?;
    let mut range = stored.to_value().map_err(|error| refused(Status::internal(error)))?;
    let cidrs = |range: &Value| range.at(&["spec", "cidrs"]).cloned().unwrap_or_default();
    if cidrs(&range) != cidrs(&wanted) {
        let [stored, asked] = [&range, &wanted].map(|range| {
            let cidrs = range.at(&["spec", "cidrs"]).and_then(Value::as_array).unwrap_or_default();
            cidrs.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        });
        return Err(InstallError::Range { stored, asked });
    }
    if range.at(&["status", "conditions"]).is_some() {
        return Ok(());
    }
    let since = registry.now().to_rfc3339();
    let ready = value!({
        "type": "Ready", "status": "True", "reason": "", "lastTransitionTime": since,
        "message": "Kubernetes default Service CIDR is ready"
    });
    range.object_entry("status").insert("conditions", vec![ready]);
    target.subresource = "status".into();
    write(registry, context, &target, Change::Update(range)).await.map_err(refused)
}

fn create_only(existing: Option<&Value>, wanted: &Value) -> Option<Change> {
    existing.is_none().then(|| Change::Create(wanted.clone()))
}

async fn settle_all(
    registry: &Registry,
    context: &Context,
    objects: Vec<(Resource, Value)>,
    plan: impl Fn(Option<&Value>, &Value) -> Option<Change> + Copy,
) -> Result<(), InstallError> {
    let settled = objects.into_iter().map(|(resource, object)| async move {
        let settled = settle(registry, context, resource, &object, plan).await;
        settled.map_err(|source| InstallError::Refused {
            kind: object.str_at(&["kind"]).to_owned(),
            name: object.str_at(&["metadata", "name"]).to_owned(),
            source,
        })
    });
    stream::iter(settled).buffer_unordered(WRITES_MAX).try_collect().await
}

/// Brings one object to what the plan wants of it.
async fn settle(
    registry: &Registry,
    context: &Context,
    resource: Resource,
    wanted: &Value,
    plan: impl Fn(Option<&Value>, &Value) -> Option<Change>,
) -> Result<(), Status> {
    let target = target(&kind_of(registry, resource, wanted)?, wanted);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let existing = match registry.get(&target, &ListOptions::default()).await {
            Ok(shown) => Some(shown.to_value().map_err(Status::internal)?),
            Err(status) if status.code == 404 => None,
            Err(status) => return Err(status),
        };
        let Some(change) = plan(existing.as_ref(), wanted) else { return Ok(()) };
        match write(registry, context, &target, change).await {
            Err(status) if matches!(status.code, 404 | 409) && attempts < ATTEMPTS_MAX => {}
            done => return done,
        }
    }
}

async fn write(registry: &Registry, context: &Context, target: &Target, change: Change) -> Result<(), Status> {
    let options = WriteOptions::default();
    let body = |value: Value| Body::from(value);
    match change {
        Change::Create(object) => registry.create(context, target, body(object), options).await.map(drop),
        Change::Update(object) => registry.update(context, target, body(object), options).await.map(drop),
        Change::Recreate(object) => {
            registry.delete(context, target, &DeleteOptions::default()).await?;
            registry.create(context, target, body(object), options).await.map(drop)
        }
    }
}

fn kind_of(registry: &Registry, resource: Resource, object: &Value) -> Result<Arc<KindInfo>, Status> {
    let version = object.str_at(&["apiVersion"]);
    let version = version.rsplit_once('/').map_or(version, |(_, version)| version);
    let found = registry.kinds().resource(resource.group, version, resource.plural).cloned();
    found.ok_or_else(|| Status::internal(format_args!("the kind {} is not served", resource.plural)))
}

fn target(kind: &Arc<KindInfo>, object: &Value) -> Target {
    let metadata = |field| object.str_at(&["metadata", field]).into();
    Target { kind: kind.clone(), namespace: metadata("namespace"), name: metadata("name"), subresource: "".into() }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};
    use std::time::Duration;

    use corten_apimachinery::kind::{Serve, Subresource};
    use corten_stdx::clock::Clock;
    use corten_stdx::random::Random;
    use corten_stdx::task::Tasks;
    use corten_store::Store as _;
    use corten_store::model::ModelStore;
    use ipnet::Ipv4Net;

    use super::*;
    use crate::bootstrap::Authorities;
    use crate::fixture::kind;
    use crate::lookup::NAMESPACES;
    use crate::rbac::Rbac;
    use crate::rbac::feed::Feed;
    use crate::rbac::rule::{rules_of, uncovered};
    use crate::seal::{Keyring, Sealing};

    const NETWORK: Network = Network {
        services: Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16),
        endpoint: Some(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 7), 6443)),
    };

    struct Server {
        store: Arc<ModelStore>,
        registry: Registry,
        user: Arc<User>,
        tasks: Tasks,
    }

    fn server() -> Server {
        let clock = Clock::manual(1_767_225_600_000);
        let (store, tasks) = (Arc::new(ModelStore::new(clock.clone())), Tasks::new());
        let keys = Keyring::parse(&Keyring::new_line(&Random::seeded(1))).expect("a key");
        let sealer = Arc::new(Sealing::new(keys, &["secrets"]));
        let registry = Registry::new(store.clone(), clock, Random::seeded(2), Vec::new(), sealer, &tasks);
        let initial = bootstrap::namespaces().into_iter().chain(bootstrap::objects()).chain([NETWORK.range()]);
        let placed = NETWORK.services().into_iter().chain(NETWORK.endpoints()).chain([Authorities::default().object()]);
        registry.install(initial.chain(placed).map(|(resource, object)| {
            let namespaced = object.at(&["metadata", "namespace"]).is_some();
            let mut kind = kind(resource, object.str_at(&["kind"]), namespaced);
            let status = || Subresource {
                name: "status".into(),
                verbs: vec!["update".into()],
                gvk: kind.gvk.clone(),
                serve: Serve::Status,
            };
            kind.subresources = vec![status()];
            kind
        }));
        registry.install(Policy::ALL.map(|policy| {
            let resource = Resource { group: GROUP, plural: policy.resource() };
            kind(resource, policy.kind(), matches!(policy, Policy::Role | Policy::RoleBinding))
        }));
        registry.install([kind(Resource { group: "", plural: "secrets" }, "Secret", true)]);
        Server { store, registry, user: Arc::new(User::default()), tasks }
    }

    impl Server {
        fn target(&self, resource: Resource, namespace: &str, name: &str) -> Target {
            let kind = self.registry.kinds().resource(resource.group, "v1", resource.plural).cloned().expect("served");
            Target { kind, namespace: namespace.into(), name: name.into(), subresource: "".into() }
        }

        async fn role(&self, name: &str) -> Value {
            let roles = Resource { group: GROUP, plural: "clusterroles" };
            let target = self.target(roles, "", name);
            self.registry.get(&target, &ListOptions::default()).await.expect("there").to_value().expect("readable")
        }

        async fn put(&self, role: Value) {
            let target =
                self.target(Resource { group: GROUP, plural: "clusterroles" }, "", role.str_at(&["metadata", "name"]));
            let context = Context::new(self.user.clone(), "test");
            write(&self.registry, &context, &target, Change::Update(role)).await.expect("written");
        }
    }

    #[tokio::test]
    async fn a_second_install_changes_nothing_and_a_lost_rule_returns() {
        let server = server();
        install(&server.registry, &server.user, &NETWORK, vec![Authorities::default().object()])
            .await
            .expect("installed");
        let revision = server.store.status().revision;
        install(&server.registry, &server.user, &NETWORK, vec![Authorities::default().object()])
            .await
            .expect("installed again");
        assert_eq!(server.store.status().revision, revision, "nothing was written");
        let namespace = server.target(NAMESPACES, "", "kube-system");
        assert!(server.registry.get(&namespace, &ListOptions::default()).await.is_ok());

        let whole = server.role("system:kube-scheduler").await;
        let mut less = whole.clone();
        less.as_object_mut().expect("an object").insert("rules", Vec::<Value>::new());
        server.put(less).await;
        install(&server.registry, &server.user, &NETWORK, vec![Authorities::default().object()])
            .await
            .expect("repaired");
        let repaired = server.role("system:kube-scheduler").await;
        assert!(uncovered(&rules_of(&repaired), &rules_of(&whole)).is_empty());
    }

    #[tokio::test]
    async fn a_kind_of_our_own_is_made_once_and_follows_its_definition() {
        let server = server();
        server.registry.install(corten_api::kinds());
        let definition = |columns: Value| {
            value!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "widgets.example.com"},
                "spec": {
                    "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                    "versions": [{"name": "v1", "served": true, "storage": true, "additionalPrinterColumns": columns,
                        "schema": {"openAPIV3Schema": {"type": "object"}}}]
                }
            })
        };
        let columns = || value!([{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]);
        let mut revisions = Vec::new();
        for columns in [value!([]), value!([]), columns(), columns()] {
            install_kinds(&server.registry, &server.user, vec![definition(columns)]).await.expect("installed");
            revisions.push(server.store.status().revision);
        }
        assert!(revisions[0] == revisions[1] && revisions[1] < revisions[2] && revisions[2] == revisions[3]);
    }

    #[tokio::test]
    async fn the_feed_knows_all_roles_and_fills_aggregated_ones() {
        let server = server();
        install(&server.registry, &server.user, &NETWORK, vec![Authorities::default().object()])
            .await
            .expect("installed");
        let rbac = Rbac::default();
        let mut feed = Feed::start(&rbac, &server.registry, &server.user, &server.tasks).expect("started");
        assert!(feed.synced().await);
        let scheduler = User { name: "system:kube-scheduler".into(), ..User::default() };
        assert!(!rbac.read(|index| index.rules_for(&scheduler, "")).0.is_empty());
        let filled = async {
            while rules_of(&server.role("admin").await).len() < 10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), filled).await.expect("admin gets the rules of edit and view");
        assert_eq!(server.tasks.stop(Duration::from_secs(5)).await, 0);
    }

    #[tokio::test]
    async fn a_secret_reaches_the_store_sealed() {
        let server = server();
        let secrets = Resource { group: "", plural: "secrets" };
        let target = server.target(secrets, "shop", "db");
        let context = Context::new(server.user.clone(), "test");
        let object = corten_apimachinery::value!({
            "kind": "Secret", "apiVersion": "v1",
            "metadata": {"name": "db", "namespace": "shop"},
            "data": {"password": "c3dvcmRmaXNo"}
        });
        write(&server.registry, &context, &target, Change::Create(object)).await.expect("written");
        let page = server.store.list(b"/registry/", None, 0, corten_store::At::Latest).await.expect("listed");
        assert_eq!(page.entries.len(), 1);
        assert!(!page.entries[0].value.windows(12).any(|part| part == b"c3dvcmRmaXNo"));
        let read =
            server.registry.get(&target, &ListOptions::default()).await.expect("there").to_value().expect("opened");
        assert_eq!(read.str_at(&["data", "password"]), "c3dvcmRmaXNo");
    }
}
