//! Signs what was approved, for the signers of the API server's own certificates (`pkg/controller/certificates/signer`).

use std::sync::Arc;

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_client::cache::Key;
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error};
use corten_stdx::clock::Clock;

use super::{
    ACCOUNT, EDGE_CLIENT, EDGE_PREFIX, EDGES_GROUP, LIFETIME_S, NODE_CLIENT, NODE_PREFIX, NODE_SERVING, NODES_GROUP,
    REQUESTS, Requested, Signer, Terms, condition, has_usages, is_issued, usages,
};
use crate::Base;

/// Certificates of anybody else that the API server takes as an identity.
const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Without any promise.
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// Shorter ones would be over before they are of use (KEP-2784).
const LIFETIME_S_MIN: i64 = 600;

struct Context {
    client: Client,
    clock: Clock,
    signer: Arc<dyn Signer>,
    requests: Informer<Value>,
}

pub fn controller(base: &Base, signer: Arc<dyn Signer>) -> Controller {
    let requests = base.informers.of::<Value>(Scope::all(REQUESTS));
    let client = (base.client_of)(ACCOUNT);
    let context = Context { client, clock: base.clock.clone(), signer, requests: requests.clone() };
    Controller::new("certificate-signing", Arc::new(context), reconcile).watches(&requests)
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(held) = ctx.requests.cache().get("", &key.name) else { return Ok(Next::Change) };
    let request = &held.view;
    if !is_due(request) {
        return Ok(Next::Change);
    }
    let signed = sign(&*ctx.signer, request);
    let mut answered = request.clone();
    match signed {
        Ok(certificate) => answered.object_entry("status").insert("certificate", certificate),
        Err(why) => {
            let now = Time::from_millis(ctx.clock.now_ms()).to_rfc3339();
            let failed = value!({
                "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why,
                "lastUpdateTime": now
            });
            let conditions = request.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
            let conditions: Vec<Value> = conditions.iter().cloned().chain([failed]).collect();
            answered.object_entry("status").insert("conditions", conditions)
        }
    };
    unless_gone(ctx.client.update(&REQUESTS, "status", &answered).await)?;
    Ok(Next::Change)
}

/// Approved, ours, and neither signed nor failed.
fn is_due(request: &Value) -> bool {
    let ours = [CLIENT, NODE_CLIENT, NODE_SERVING, EDGE_CLIENT, LEGACY];
    let has = |kind| condition(request, kind).is_some_and(|condition| condition.str_at(&["status"]) == "True");
    ours.contains(&request.str_at(&["spec", "signerName"]))
        && has("Approved")
        && !has("Denied")
        && !has("Failed")
        && !is_issued(request)
}

fn sign(signer: &dyn Signer, request: &Value) -> Result<String, String> {
    let text = request.str_at(&["spec", "request"]);
    let requested = signer.read(text)?;
    let usages = usages(request);
    check(request.str_at(&["spec", "signerName"]), &requested, &usages)?;
    signer.sign(text, &Terms { usages: &usages, lifetime_s: lifetime_s(request) })
}

fn lifetime_s(request: &Value) -> i64 {
    let asked = request.i64_at(&["spec", "expirationSeconds"]).unwrap_or(LIFETIME_S);
    asked.clamp(LIFETIME_S_MIN, LIFETIME_S)
}

/// Whether a request is one that its signer signs.
fn check(signer: &str, requested: &Requested, usages: &[&str]) -> Result<(), String> {
    let of_node = |prefix, group, side| {
        let (subject, uses) = (requested.of_node(prefix, group).is_some(), has_usages(usages, side));
        match (subject, uses) {
            (false, _) => {
                Err(format!("subject is to be the organization {group:?} and a common name {prefix:?} with the node's"))
            }
            (_, false) => Err(format!("usages did not match [digital signature {side}]")),
            _ => Ok(()),
        }
    };
    match signer {
        NODE_CLIENT | EDGE_CLIENT if requested.has_names() => {
            Err("DNS and IP subjectAltNames are not allowed".to_owned())
        }
        NODE_CLIENT => of_node(NODE_PREFIX, NODES_GROUP, "client auth"),
        EDGE_CLIENT => of_node(EDGE_PREFIX, EDGES_GROUP, "client auth"),
        NODE_SERVING if !requested.has_names() => Err("DNS or IP subjectAltName is required".to_owned()),
        NODE_SERVING => of_node(NODE_PREFIX, NODES_GROUP, "server auth"),
        CLIENT if !usages.contains(&"client auth") || usages.contains(&"server auth") => {
            Err("usages did not match [client auth digital signature]".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo;

    impl Signer for Echo {
        fn read(&self, request: &str) -> Result<Requested, String> {
            let (common_name, group) = request.split_once(' ').ok_or("no request")?;
            let organizations = vec![group.to_owned()];
            Ok(Requested { common_name: common_name.to_owned(), organizations, ..Requested::default() })
        }

        fn sign(&self, request: &str, terms: &Terms<'_>) -> Result<String, String> {
            Ok(format!("{request} for {} s", terms.lifetime_s))
        }
    }

    fn request(signer: &str, text: &str, conditions: &[&str]) -> Value {
        let conditions: Vec<Value> =
            conditions.iter().map(|kind| value!({"type": (*kind), "status": "True"})).collect();
        value!({
            "spec": {"signerName": signer, "request": text, "usages": ["client auth", "digital signature"]},
            "status": {"conditions": conditions}
        })
    }

    #[test]
    fn only_what_was_approved_is_due() {
        let check = |signer: &str, conditions: &[&str], expect| {
            assert_eq!(is_due(&request(signer, "", conditions)), expect, "{signer} {conditions:?}");
        };
        check(NODE_CLIENT, &["Approved"], true);
        check(NODE_CLIENT, &[], false);
        check(NODE_CLIENT, &["Approved", "Failed"], false);
        check("example.com/own", &["Approved"], false);
    }

    #[test]
    fn a_request_has_to_fit_its_signer() {
        let check = |signer: &str, text: &str, expect: &str| {
            let said = sign(&Echo, &request(signer, text, &["Approved"])).unwrap_or_else(|why| why);
            assert!(said.starts_with(expect), "{signer}: {said}");
        };
        check(NODE_CLIENT, "system:node:two system:nodes", "system:node:two system:nodes for 2592000 s");
        check(NODE_CLIENT, "two system:nodes", "subject is to be");
        check(NODE_SERVING, "system:node:two system:nodes", "DNS or IP subjectAltName is required");
        check(CLIENT, "ann staff", "ann staff for");
        check(LEGACY, "none", "no request");
    }

    #[test]
    fn lifetimes_have_bounds() {
        let asked = |seconds: i64| lifetime_s(&value!({"spec": {"expirationSeconds": seconds}}));
        assert_eq!([asked(1), asked(86_400), asked(i64::MAX)], [600, 86_400, LIFETIME_S]);
    }
}
