//! The caches that sights are made of.

use std::sync::Arc;

use corten_apimachinery::value::Str;
use corten_client::cache::{Head, Held, View};
use corten_client::controller::Controller;
use corten_client::informer::{Informer, Scope};
use corten_client::{Informers, Resource};
use corten_stdx::clock::Clock;

use crate::controller::{Declared, told_of};
use crate::fact::{Kind, Sights, Subject};
use crate::figures::Figures;
use crate::kind::EVERYTHING;
use crate::sight::Silent;
use crate::sight::certificates::{self, Certificate};
use crate::sight::figures;
use crate::sight::nodes::{self, Server};
use crate::sight::pods::{self, Unready};
use crate::sight::rollouts::{self, Form, Rollout};

/// Between two looks whether Secrets can be read.
const UNREAD_S: i64 = 30;

const PODS: Resource = Resource::new("", "v1", "pods");
const NODES: Resource = Resource::new("", "v1", "nodes");
const SECRETS: Resource = Resource::new("", "v1", "secrets");
const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");
const SETS: Resource = Resource::new("apps", "v1", "replicasets");
/// Further kinds that may be silenced, as subjects name them.
const OWNERS: [(&str, Resource); 3] = [
    ("pvc", Resource::new("", "v1", "persistentvolumeclaims")),
    ("statefulset", Resource::new("apps", "v1", "statefulsets")),
    ("daemonset", Resource::new("apps", "v1", "daemonsets")),
];

#[derive(Clone)]
pub(crate) struct Watched {
    pods: Informer<Unready>,
    nodes: Informer<Server>,
    deployments: Informer<Rollout>,
    forms: Informer<Form>,
    certificates: Informer<Certificate>,
    owners: [(&'static str, Informer<Silent>); 3],
    figures: Figures,
}

impl Watched {
    pub(crate) fn new(informers: &Informers, figures: &Figures) -> Self {
        let tls = Scope { fields: "type=kubernetes.io/tls".to_owned(), ..Scope::all(SECRETS) };
        Self {
            pods: informers.of(Scope::all(PODS)),
            nodes: informers.of(Scope::all(NODES)),
            deployments: informers.of(Scope::all(DEPLOYMENTS)),
            forms: informers.of(Scope::all(SETS)),
            certificates: informers.of(tls),
            owners: OWNERS.map(|(kind, resource)| (kind, informers.of(Scope::metadata(resource)))),
            figures: figures.clone(),
        }
    }

    /// Has the notifiers looked at when something changes that they are told of.
    pub(crate) fn bring(&self, controller: Controller, notifiers: &Informer<Declared>) -> Controller {
        let [first, second, third] = &self.owners;
        controller
            .watches_view_for(&self.pods, told_of(notifiers))
            .watches_view_for(&self.nodes, told_of(notifiers))
            .watches_view_for(&self.deployments, told_of(notifiers))
            .watches_view_for(&self.forms, told_of(notifiers))
            .watches_view_for(&first.1, told_of(notifiers))
            .watches_view_for(&second.1, told_of(notifiers))
            .watches_view_for(&third.1, told_of(notifiers))
            .hears_view_for(&self.certificates, told_of(notifiers))
    }

    /// Everything that a notifier of a namespace is told of, and when to look again without a change, in Unix milliseconds.
    pub(crate) fn sights(&self, namespace: &str, clock: &Clock) -> (Sights, Option<i64>) {
        let (now_s, wall_s) = (clock.now_s(), clock.wall_s());
        let mut sights = Sights::default();
        let pods = of(&self.pods, namespace);
        let owner = |head: &_| pods::owner(head, |set| self.deployment_of(head, set));
        sights.all.extend(pods::sights(pods.iter().map(|pod| &**pod), owner, |subject| self.silent_until_s(subject)));
        for deployment in of(&self.deployments, namespace) {
            let forms = self.forms.cache().owned_by(&deployment.head.uid);
            sights.all.extend(rollouts::sights(&deployment, forms.iter().map(|form| &**form)));
        }
        let secrets = of(&self.certificates, namespace);
        sights.all.extend(certificates::sights(secrets.iter().map(|secret| &**secret), wall_s));
        let certificates_ms = certificates::next_ms(secrets.iter().map(|secret| &**secret), wall_s);
        let mut again = certificates_ms.map(|at_ms| at_ms + (now_s - wall_s) * 1000);
        if !self.certificates.is_synced() {
            // One Secret that cannot be read, since its key is lost, is enough for that.
            sights.blind.push(Kind::Certificate);
            again = Some(again.unwrap_or(i64::MAX).min((now_s + UNREAD_S) * 1000));
        }
        let is_told = |of: &str| namespace == EVERYTHING || namespace == of;
        let silent = |subject: &Subject| self.silent_until_s(subject);
        figures::add_volumes(&self.figures.said(), is_told, silent, &mut sights);
        let nodes = self.nodes.cache().all();
        if nodes.iter().any(|node| node.is_ready() && !self.figures.said().contains_key(&node.head.name)) {
            // It has said nothing of its volumes yet.
            sights.blind.push(Kind::Disk);
        }
        if namespace == EVERYTHING {
            sights.all.extend(nodes::sights(nodes.iter().map(|node| &**node), now_s));
            figures::add(&nodes, &self.figures.said(), &mut sights);
            let started_ms = nodes::next_ms(nodes.iter().map(|node| &**node), now_s);
            again = [again, started_ms].into_iter().flatten().min();
        }
        (sights, again)
    }

    fn deployment_of(&self, pod: &Head, set: &str) -> Option<Str> {
        let set = self.forms.cache().get(&pod.namespace, set)?;
        set.head.controller().filter(|owner| owner.kind == "Deployment").map(|owner| owner.name.clone())
    }

    fn silent_until_s(&self, subject: &Subject) -> i64 {
        if subject.kind == "deployment" {
            let deployment = self.deployments.cache().get(&subject.namespace, &subject.name);
            return deployment.map_or(0, |deployment| deployment.silent_until_s());
        }
        let known = self.owners.iter().find(|(kind, _)| *kind == subject.kind);
        let silent = known.and_then(|(_, owners)| owners.cache().get(&subject.namespace, &subject.name));
        silent.map_or(0, |silent| silent.until_s)
    }
}

/// What is in a namespace, or everywhere.
fn of<V: View>(informer: &Informer<V>, namespace: &str) -> Vec<Arc<Held<V>>> {
    match namespace {
        EVERYTHING => informer.cache().all(),
        namespace => informer.cache().in_namespace(namespace),
    }
}
