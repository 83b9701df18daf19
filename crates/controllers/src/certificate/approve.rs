//! Approves what nodes ask for (`pkg/controller/certificates/approver`), and denies what must not be: a name that a living node
//! has, a token that was used already. Upstream leaves the certificates of nodes' servers to people; here they are approved for
//! exactly the names and addresses of the node that asks, as are those of its data path.

use std::net::IpAddr;
use std::sync::Arc;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Resource};
use corten_stdx::clock::Clock;

use super::{
    ACCOUNT, EDGE_CLIENT, EDGE_PREFIX, EDGES_GROUP, NODE_CLIENT, NODE_PREFIX, NODE_SERVING, NODES_GROUP, REQUESTS,
    Requested, Signer, TOKEN_PREFIX, condition, has_usages, is_issued, usages,
};
use crate::Base;
use crate::node::{NODES, condition as node_condition};

const REVIEWS: Resource = Resource::new("authorization.k8s.io", "v1", "subjectaccessreviews");

/// What is known of a node.
struct Known {
    is_ready: bool,
    addresses: Vec<IpAddr>,
}

impl View for Known {
    fn from_object(node: &Value) -> Option<Self> {
        let addresses = node.at(&["status", "addresses"]).and_then(Value::as_array).unwrap_or_default();
        let addresses = addresses.iter().filter_map(|address| address.str_at(&["address"]).parse().ok()).collect();
        Some(Self { is_ready: node_condition(node, "Ready") == "True", addresses })
    }
}

struct Context {
    client: Client,
    clock: Clock,
    signer: Arc<dyn Signer>,
    requests: Informer<Value>,
    nodes: Informer<Known>,
}

pub fn controller(base: &Base, signer: Arc<dyn Signer>) -> Controller {
    let requests = base.informers.of::<Value>(Scope::all(REQUESTS));
    let nodes = base.informers.of::<Known>(Scope::all(NODES));
    let context = Context {
        client: (base.client_of)(ACCOUNT),
        clock: base.clock.clone(),
        signer,
        requests: requests.clone(),
        nodes: nodes.clone(),
    };
    // One at a time: of two that come with the same token one is approved.
    Controller::new("certificate-approval", Arc::new(context), reconcile)
        .watches(&requests)
        .watches_for(&nodes, |_| Vec::new())
        .concurrency(1)
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(request) = ctx.requests.cache().get("", &key.name) else { return Ok(Next::Change) };
    let is_decided = ["Approved", "Denied"].iter().any(|kind| condition(&request.view, kind).is_some());
    if is_issued(&request.view) || is_decided {
        return Ok(Next::Change);
    }
    // What cannot be read is not for nodes.
    let Ok(requested) = ctx.signer.read(request.view.str_at(&["spec", "request"])) else { return Ok(Next::Change) };
    let Some(asked) = Asked::of(&request.view, &requested) else { return Ok(Next::Change) };
    if let Some(permission) = asked.permission()
        && !ctx.may(&request.view, permission).await?
    {
        return Ok(Next::Change);
    }
    let node = ctx.nodes.cache().get("", asked.node);
    let others = ctx.requests.cache().all();
    let verdict = judge(&asked, node.as_deref().map(|node| &node.view), is_token_used(&request, &others));
    let mut decided = request.view.clone();
    decided.object_entry("status").insert("conditions", vec![verdict.condition()]);
    let Some(written) = unless_gone(ctx.client.update(&REQUESTS, "approval", &decided).await)? else {
        return Ok(Next::Change);
    };
    ctx.requests.caught_up(Meta::of(&written).resource_version(), &ctx.clock).await?;
    Ok(Next::Change)
}

impl Context {
    /// Whether who made a request may have it approved without a person.
    async fn may(&self, request: &Value, subresource: &str) -> Result<bool, Error> {
        let spec = |field: &str| request.at(&["spec", field]).cloned().unwrap_or_default();
        let review = value!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": (spec("username")), "uid": (spec("uid")), "groups": (spec("groups")), "extra": (spec("extra")),
                "resourceAttributes": {
                    "group": "certificates.k8s.io", "version": "*", "resource": "certificatesigningrequests",
                    "subresource": subresource, "verb": "create"
                }
            }
        });
        let answer = self.client.create(&REVIEWS, "", &review).await?;
        Ok(answer.at(&["status", "allowed"]).and_then(Value::as_bool).unwrap_or(false))
    }
}

/// What is asked for, and by whom.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    node: &'a str,
    what: What<'a>,
}

#[derive(Debug, PartialEq, Eq)]
enum What<'a> {
    /// By somebody else, with the right to bring nodes in.
    First,
    /// By the node itself, which has a certificate.
    Renewed,
    Serving(&'a Requested),
    Edge,
}

impl<'a> Asked<'a> {
    /// `None` for what only people approve.
    fn of(request: &'a Value, requested: &'a Requested) -> Option<Self> {
        let usages = usages(request);
        let is_client = has_usages(&usages, "client auth") && !requested.has_names();
        let is_server = has_usages(&usages, "server auth") && requested.has_names();
        let user = request.str_at(&["spec", "username"]);
        let own = |node: &str| user.strip_prefix(NODE_PREFIX) == Some(node);
        let node = requested.of_node(NODE_PREFIX, NODES_GROUP);
        match request.str_at(&["spec", "signerName"]) {
            NODE_CLIENT if is_client => {
                node.map(|node| Self { node, what: if own(node) { What::Renewed } else { What::First } })
            }
            NODE_SERVING if is_server => {
                let node = node.filter(|node| own(node))?;
                Some(Self { node, what: What::Serving(requested) })
            }
            EDGE_CLIENT if is_client => {
                let node = requested.of_node(EDGE_PREFIX, EDGES_GROUP).filter(|node| own(node))?;
                Some(Self { node, what: What::Edge })
            }
            _ => None,
        }
    }

    /// What its maker needs the right to create. What is checked against the node itself needs none.
    fn permission(&self) -> Option<&'static str> {
        match self.what {
            What::First => Some("nodeclient"),
            What::Renewed => Some("selfnodeclient"),
            What::Serving(_) | What::Edge => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Approved,
    Denied { reason: &'static str, message: &'static str },
}

impl Verdict {
    fn condition(self) -> Value {
        let (kind, reason, message) = match self {
            Self::Approved => ("Approved", "AutoApproved", "Approved because it is for the node that asks."),
            Self::Denied { reason, message } => ("Denied", reason, message),
        };
        value!({"type": kind, "status": "True", "reason": reason, "message": message})
    }
}

/// `node` is the one that is asked for, if there is one of that name.
fn judge(asked: &Asked<'_>, node: Option<&Known>, is_token_used: bool) -> Verdict {
    match asked.what {
        What::First if is_token_used => Verdict::Denied {
            reason: "TokenUsed",
            message: "the token has brought in a server already; make another with `corten token create`",
        },
        What::First if node.is_some_and(|node| node.is_ready) => Verdict::Denied {
            reason: "NameTaken",
            message: "a server of this name is in the cluster and alive; choose another name with --name, or stop that one",
        },
        What::Serving(requested) if !is_its_own(asked.node, requested, node) => Verdict::Denied {
            reason: "ForeignName",
            message: "a node's server is known by the node's name and addresses alone",
        },
        _ => Verdict::Approved,
    }
}

fn is_its_own(name: &str, requested: &Requested, node: Option<&Known>) -> bool {
    let has = |ip: &IpAddr| node.is_some_and(|node| node.addresses.contains(ip));
    requested.dns.iter().all(|dns| dns == name) && requested.ips.iter().all(has)
}

/// Whether the token that a request was made with has already got something approved.
fn is_token_used(request: &Held<Value>, others: &[Arc<Held<Value>>]) -> bool {
    let user = request.view.str_at(&["spec", "username"]);
    user.starts_with(TOKEN_PREFIX)
        && others.iter().any(|other| {
            other.head.uid != request.head.uid
                && other.view.str_at(&["spec", "username"]) == user
                && condition(&other.view, "Approved").is_some()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(signer: &str, user: &str, usages: &[&str]) -> Value {
        let usages: Vec<Value> = usages.iter().map(|usage| (*usage).into()).collect();
        value!({"spec": {"signerName": signer, "username": user, "usages": usages}})
    }

    fn requested(name: &str, group: &str, dns: &[&str], ips: &[&str]) -> Requested {
        Requested {
            common_name: name.to_owned(),
            organizations: vec![group.to_owned()],
            dns: dns.iter().map(|name| (*name).to_owned()).collect(),
            ips: ips.iter().map(|ip| ip.parse().expect("an address")).collect(),
            has_other_names: false,
        }
    }

    const CLIENT: [&str; 2] = ["client auth", "digital signature"];
    const SERVER: [&str; 2] = ["server auth", "digital signature"];

    #[test]
    fn a_token_brings_one_server_in_under_a_free_name() {
        let request = request(NODE_CLIENT, "system:bootstrap:abcdef", &CLIENT);
        let requested = requested("system:node:two", "system:nodes", &[], &[]);
        let asked = Asked::of(&request, &requested).expect("for a node");
        assert_eq!((&asked.what, asked.permission()), (&What::First, Some("nodeclient")));
        let reason = |node: Option<bool>, used| {
            let node = node.map(|is_ready| Known { is_ready, addresses: Vec::new() });
            match judge(&asked, node.as_ref(), used) {
                Verdict::Approved => "",
                Verdict::Denied { reason, .. } => reason,
            }
        };
        assert_eq!(reason(None, false), "");
        assert_eq!(reason(Some(false), false), "", "a server that was lost comes back, made anew");
        assert_eq!(reason(Some(true), false), "NameTaken");
        assert_eq!(reason(None, true), "TokenUsed");
    }

    #[test]
    fn a_node_renews_its_own_certificate_alone() {
        let check = |user: &str, expect: Option<&str>| {
            let request = request(NODE_CLIENT, user, &CLIENT);
            let requested = requested("system:node:two", "system:nodes", &[], &[]);
            let asked = Asked::of(&request, &requested);
            assert_eq!(asked.and_then(|asked| asked.permission()), expect, "{user}");
        };
        check("system:node:two", Some("selfnodeclient"));
        check("system:node:one", Some("nodeclient"));
        let edge = requested("corten:edge:two", "corten:edges", &[], &[]);
        assert!(Asked::of(&request(EDGE_CLIENT, "system:node:two", &CLIENT), &edge).is_some());
        assert_eq!(Asked::of(&request(EDGE_CLIENT, "system:node:one", &CLIENT), &edge), None);
        let master = requested("system:node:two", "system:masters", &[], &[]);
        assert_eq!(Asked::of(&request(NODE_CLIENT, "system:bootstrap:abcdef", &CLIENT), &master), None);
    }

    #[test]
    fn a_nodes_server_has_the_nodes_names() {
        let node = Known { is_ready: true, addresses: vec![[10, 0, 0, 2].into()] };
        let check = |dns: &[&str], ips: &[&str], expect| {
            let request = request(NODE_SERVING, "system:node:two", &SERVER);
            let requested = requested("system:node:two", "system:nodes", dns, ips);
            let asked = Asked::of(&request, &requested).expect("for a node's server");
            assert_eq!(judge(&asked, Some(&node), false) == Verdict::Approved, expect, "{dns:?} {ips:?}");
        };
        check(&["two"], &["10.0.0.2"], true);
        check(&["two"], &["10.0.0.1"], false);
        check(&["one"], &[], false);
    }

    #[test]
    fn a_token_is_used_once_something_of_it_was_approved() {
        let held = |uid: &str, user: &str, approved: bool| {
            let mut object = request(NODE_CLIENT, user, &CLIENT);
            object.object_entry("metadata").insert("uid", uid);
            if approved {
                object.object_entry("status").insert("conditions", vec![Verdict::Approved.condition()]);
            }
            Arc::new(Held::<Value>::from_object(&object).expect("a request"))
        };
        let mine = held("1", "system:bootstrap:abcdef", false);
        let check = |others: &[Arc<Held<Value>>], expect| assert_eq!(is_token_used(&mine, others), expect);
        check(&[mine.clone(), held("2", "system:bootstrap:abcdef", false)], false);
        check(&[mine.clone(), held("2", "system:bootstrap:other0", true)], false);
        check(&[mine.clone(), held("2", "system:bootstrap:abcdef", true)], true);
        let person = held("3", "ann", false);
        assert!(!is_token_used(&person, &[held("4", "ann", true)]));
    }
}
