//! The API server: kinds, registry, access, endpoints, sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::Admission;
use corten_apiserver::around::Arounds;
use corten_apiserver::auth::{AUTHENTICATED, Authenticator, Authorizer, User};
use corten_apiserver::connect::{Connectors, Routes};
use corten_apiserver::health::{Check, Checks, VersionInfo};
use corten_apiserver::http::access::Access;
use corten_apiserver::http::pipeline::{Api, ApiConfig, RequestLimits};
use corten_apiserver::metrics::Metrics;
use corten_apiserver::registry::Registry;
use corten_builtin::authn::ClientCertificates;
use corten_builtin::bootstrap::Network;
use corten_builtin::bootstrap_token::BootstrapTokens;
use corten_builtin::connect::{self, Dial, Ground};
use corten_builtin::crd::controller::CustomResources;
use corten_builtin::install::{install, install_kinds, install_roles};
use corten_builtin::lookup::{FromRegistry, Lookup, Resource};
use corten_builtin::node::NodeAuthorizer;
use corten_builtin::policy::Policies;
use corten_builtin::rbac::Rbac;
use corten_builtin::rbac::escalation::Escalation;
use corten_builtin::rbac::feed::{Feed, aggregate};
use corten_builtin::seal::{Keyring, Sealing};
use corten_builtin::service::{SERVICES, Services};
use corten_builtin::token::{BearerTokens, Keys, TokenRequests, TokenReviews, Tokens};
use corten_builtin::webhook::{self, Webhooks};
use corten_builtin::{access, admission, binding, eviction, token, usage};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;
use corten_store::{Alarm, Store, StoreError};
use futures_core::future::BoxFuture;

/// Resources that never reach the store in plain text.
const SEALED: [&str; 1] = ["secrets"];

/// The identity of what this process writes by itself.
const SERVER: &str = "system:apiserver";

/// What the API server stands on.
pub struct Base {
    pub store: Arc<dyn Store>,
    pub keys: Keyring,
    /// What signs the tokens of service accounts.
    pub signing: Keys,
    /// Where others read the documents about tokens.
    pub external: SocketAddr,
    pub network: Network,
    /// How nodes and pods are reached.
    pub dial: Arc<dyn Dial>,
    /// Config maps that tell others of the cluster.
    pub published: Vec<(Resource, Value)>,
    /// Kinds of our own, as custom resource definitions.
    pub kinds: Vec<Value>,
    /// Whether this server tells what nodes and pods use, or leaves that to others.
    pub measures: bool,
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
}

/// Makes an API server that has everything it begins with and knows who may do what.
pub async fn start(base: Base) -> anyhow::Result<Arc<Api>> {
    let Base { store, keys, signing, external, network, published, kinds, measures, dial, clock, random, tasks } = base;
    let server = Arc::new(User { name: SERVER.into(), groups: vec![AUTHENTICATED.into()], ..User::default() });
    let rbac = Rbac::default();
    let lookup = Arc::new(FromRegistry::default());
    let reads: Arc<dyn Lookup> = lookup.clone();
    let authorizer: Arc<dyn Authorizer> = Arc::new(rbac.clone());
    let gates = Gates::new(&reads, &rbac, (&clock, &random), &tasks);
    let plugins = plugins(&lookup, &rbac, &server, &gates, (&clock, &random));
    let sealer = Arc::new(Sealing::new(keys, &SEALED));
    let registry = Registry::new(store.clone(), clock.clone(), random.clone(), plugins, sealer, &tasks);
    registry.install(corten_api::kinds());
    registry.install(corten_api::measured().into_iter().filter(|_| measures));
    lookup.set(registry.clone());
    let services = Services::new(registry.clone(), server.clone(), random.clone());
    let mut arounds = Arounds::default();
    arounds.register(SERVICES.group, SERVICES.plural, Arc::new(services.clone()));
    registry.set_arounds(arounds);
    let mended = services.begin().await.context("the addresses of Services")?;
    tracing::debug!(mended.freed, mended.taken, "looked at the addresses of Services");
    install(&registry, &server, &network, published).await.context("the objects that a cluster begins with")?;
    install_kinds(&registry, &server, kinds).await.context("the kinds of our own")?;
    ready_roles(&registry, &server, measures).await?;
    tasks.spawn("service-addresses", services.keep(clock.clone(), tasks.stopped()));
    let mut feed = Feed::start(&rbac, &registry, &server, &tasks)?;
    anyhow::ensure!(feed.synced().await, "the roles and bindings could not be read");
    let custom = CustomResources::new(registry.clone(), server.clone(), clock.clone(), corten_api::metadata_schema())?;
    let served = custom.start(&tasks).wait_for(|count| *count > 0).await.is_ok();
    anyhow::ensure!(served, "the custom resource definitions could not be read");
    gates.start(&registry, &tasks).await?;

    let mut checks = Checks::default();
    checks.register("store", true, Arc::new(StoreCheck(store)));
    let bootstrap = BootstrapTokens { lookup: reads.clone(), clock: clock.clone() };
    let tokens = Tokens { keys: signing, lookup: reads, clock: clock.clone(), random: random.clone() };
    let authenticators: Vec<Arc<dyn Authenticator>> =
        vec![Arc::new(ClientCertificates), Arc::new(BearerTokens(tokens.clone())), Arc::new(bootstrap)];
    let mut routes = Routes::default();
    token::routes(&mut routes, &tokens.keys, &external.to_string());
    let ground = Ground {
        lookup: lookup.clone(),
        authorizer: authorizer.clone(),
        dial,
        random: random.clone(),
        tasks: tasks.clone(),
    };
    let connectors = connectors(&ground, &registry, &rbac, &tokens, &clock);
    let nodes = NodeAuthorizer::new(tokens.lookup.clone())?;
    let authorizers: Vec<Arc<dyn Authorizer>> = vec![Arc::new(nodes), authorizer];
    let access = Access { authenticators, authorizers, anonymous: true };
    Ok(Api::new(ApiConfig {
        registry,
        access,
        connectors,
        routes,
        checks,
        version: version(),
        limits: RequestLimits::default(),
        metrics: gates.metrics,
        clock,
        random,
        tasks,
    }))
}

/// The endpoints that are no stored object.
fn connectors(ground: &Ground, registry: &Registry, rbac: &Rbac, tokens: &Tokens, clock: &Clock) -> Connectors {
    let mut connectors = Connectors::default();
    access::register(&mut connectors, rbac, clock);
    connect::register(&mut connectors, ground);
    usage::register(&mut connectors, ground, clock);
    binding::register(&mut connectors, registry, clock);
    eviction::register(&mut connectors, registry, clock);
    connectors.register("authentication.k8s.io", "tokenreviews", "", Arc::new(TokenReviews(tokens.clone())));
    let requests = TokenRequests { tokens: tokens.clone() };
    connectors.register("", "serviceaccounts", "token", Arc::new(requests));
    connectors
}

/// The plugins of admission that others configure.
struct Gates {
    policies: Policies,
    webhooks: Webhooks,
    metrics: Arc<Metrics>,
}

impl Gates {
    fn new(lookup: &Arc<dyn Lookup>, rbac: &Rbac, (clock, random): (&Clock, &Random), tasks: &Tasks) -> Self {
        let metrics = Arc::<Metrics>::default();
        let webhooks = Webhooks::new(webhook::Ground {
            lookup: lookup.clone(),
            rbac: rbac.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
        });
        Self { policies: Policies::new(lookup.clone(), rbac.clone()), webhooks, metrics }
    }

    /// Puts what is stored into effect, and follows it.
    async fn start(&self, registry: &Registry, tasks: &Tasks) -> anyhow::Result<()> {
        self.policies.start(registry, tasks).await?;
        Ok(self.webhooks.start(registry).await?)
    }
}

/// What every write goes through.
fn plugins(
    lookup: &Arc<FromRegistry>,
    rbac: &Rbac,
    server: &Arc<User>,
    gates: &Gates,
    (clock, random): (&Clock, &Random),
) -> Vec<Arc<dyn Admission>> {
    let reads: Arc<dyn Lookup> = lookup.clone();
    let authorizer: Arc<dyn Authorizer> = Arc::new(rbac.clone());
    let ledger = Arc::new(admission::Ledger::new(lookup.clone(), server.clone()));
    let quotas = admission::ResourceQuota::new(ledger, clock.clone());
    let escalation = Escalation::new(rbac.clone(), server.clone());
    admission::chain(&reads, &authorizer, escalation, &gates.policies, &gates.webhooks, quotas, random)
}

/// The roles of what is measured, and those that are made of others.
async fn ready_roles(registry: &Registry, server: &Arc<User>, measures: bool) -> anyhow::Result<()> {
    if measures {
        install_roles(registry, server, usage::roles()?).await.context("the roles of what is measured")?;
    }
    aggregate(registry, server).await.context("the aggregated cluster roles")
}

/// A store that takes no writes any more is only helped by a restart.
struct StoreCheck(Arc<dyn Store>);

impl Check for StoreCheck {
    fn check(&self) -> BoxFuture<'_, Result<(), String>> {
        let answer = match self.0.status().alarm {
            None | Some(Alarm::NoSpace) => Ok(()),
            Some(Alarm::ReadOnly) => Err(StoreError::ReadOnly.to_string()),
        };
        Box::pin(std::future::ready(answer))
    }
}

/// The version of Kubernetes that is spoken, with this program's behind it.
fn version() -> VersionInfo {
    VersionInfo {
        major: "1".to_owned(),
        minor: "36".to_owned(),
        git_version: git_version(),
        compiler: "rustc".to_owned(),
        platform: format!("{}/{}", std::env::consts::OS, architecture()),
        ..VersionInfo::default()
    }
}

/// The version as everything here tells it.
pub fn git_version() -> String {
    format!("v1.36.3+corten.{}", env!("CARGO_PKG_VERSION"))
}

/// Go's name of the architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
