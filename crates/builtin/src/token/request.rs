//! `serviceaccounts/token`: makes a token.

use std::sync::Arc;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_apiserver::connect::{Answer, Call, CallBody, Connector};
use corten_apiserver::registry::Object;
use futures_core::future::BoxFuture;

use super::claims::{Claims, Reference};
use super::{NODES, SECRETS, SERVICE_ACCOUNTS, Tokens, jwt, own_audiences};
use crate::lookup::{PODS, tree};
use crate::rbac::rule::strings;

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";

const EXPIRATION_S_MIN: i64 = 600;
const EXPIRATION_S_MAX: i64 = 1 << 32;

/// What the ServiceAccount plugin asks for in a pod. Programs that read their token only once would stop after an hour;
/// so theirs lives for a year, and only warns after this.
const PROJECTED_S: i64 = 3607;
const EXTENDED_S: i64 = 365 * 24 * 3600;

/// The endpoint.
pub struct TokenRequests {
    pub tokens: Tokens,
}

impl Connector for TokenRequests {
    fn connect(&self, call: Call) -> BoxFuture<'_, Result<Answer, Status>> {
        Box::pin(async move {
            let CallBody::Object(request) = call.body else {
                return Err(Status::bad_request("not a TokenRequest"));
            };
            let account = self.account(&call.target.namespace, &call.target.name).await?;
            let now_s = self.tokens.clock.wall_s();
            let request = complete(request, &call.target, &account, now_s)?;
            validate(&request)?;
            let value = self.tokens.make(request, &account, &call.target.namespace, now_s).await?;
            Ok(Answer::Object { code: 201, value })
        })
    }
}

impl TokenRequests {
    async fn account(&self, namespace: &str, name: &str) -> Result<Arc<Object>, Status> {
        let found = self.tokens.lookup.get(SERVICE_ACCOUNTS, namespace, name).await?;
        found.ok_or_else(|| Status::not_found("", SERVICE_ACCOUNTS.plural, name))
    }
}

/// The request with what it leaves out.
fn complete(
    mut request: Value,
    target: &corten_apiserver::registry::Target,
    account: &Object,
    now_s: i64,
) -> Result<Value, Status> {
    for (field, own) in [("name", &target.name), ("namespace", &target.namespace)] {
        let asked = request.str_at(&["metadata", field]);
        if !asked.is_empty() && asked != own.as_str() {
            let mut errors = FieldErrors::default();
            let why = format!("must match the service account {field} if specified");
            errors.invalid(&FieldPath::new("metadata").child(field), asked, why);
            return Err(Status::invalid(GROUP, KIND, &target.name, &errors));
        }
    }
    let (asked, uid) = (request.str_at(&["metadata", "uid"]), &account.head.uid);
    if !asked.is_empty() && asked != uid.as_str() {
        let why =
            format!("the UID in the token request ({asked}) does not match the UID of the service account ({uid})");
        return Err(Status::conflict(GROUP, KIND, &target.name, &why));
    }
    let metadata = request.object_entry("metadata");
    metadata.insert("name", target.name.clone());
    metadata.insert("namespace", target.namespace.clone());
    metadata.insert("uid", uid.clone());
    metadata.insert("creationTimestamp", Time::from_seconds(now_s).to_rfc3339());
    if strings(request.at(&["spec", "audiences"])).is_empty() {
        request.object_entry("spec").insert("audiences", own_audiences());
    }
    Ok(request)
}

fn validate(request: &Value) -> Result<(), Status> {
    let seconds = request.i64_at(&["spec", "expirationSeconds"]).unwrap_or_default();
    let why = match seconds {
        ..EXPIRATION_S_MIN => "may not specify a duration less than 10 minutes",
        EXPIRATION_S_MIN..=EXPIRATION_S_MAX => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let mut errors = FieldErrors::default();
    errors.invalid(&FieldPath::new("spec").child("expirationSeconds"), seconds, why);
    Err(Status::invalid(GROUP, KIND, "", &errors))
}

impl Tokens {
    /// Makes the token that a complete request asks for: the request with its status.
    pub(super) async fn make(
        &self,
        mut request: Value,
        account: &Object,
        namespace: &str,
        now_s: i64,
    ) -> Result<Value, Status> {
        let asked_s = request.i64_at(&["spec", "expirationSeconds"]).unwrap_or_default();
        let audiences = strings(request.at(&["spec", "audiences"]));
        let mut claims = Claims {
            id: self.random.uuid().into(),
            audiences,
            issued_s: now_s,
            not_before_s: now_s,
            expires_s: now_s + asked_s,
            namespace: namespace.into(),
            account: Reference { name: account.head.name.clone(), uid: account.head.uid.clone() },
            ..Claims::default()
        };
        if let Some(reference) = request.at(&["spec", "boundObjectRef"]).filter(|reference| !reference.is_null()) {
            self.bind(&mut claims, reference).await?;
        }
        let own = own_audiences();
        if claims.pod.is_some() && asked_s == PROJECTED_S && claims.audiences.iter().all(|of| own.contains(of)) {
            claims.warn_after_s = Some(now_s + asked_s);
            claims.expires_s = now_s + EXTENDED_S;
        }
        let token = jwt::sign(&self.keys.newest(), &claims.to_value());
        let token = token.ok_or_else(|| Status::internal("failed to generate token"))?;
        let until = Time::from_seconds(now_s + asked_s).to_rfc3339();
        let status = value!({"token": token, "expirationTimestamp": until});
        request.as_object_mut().map(|request| request.insert("status", status));
        Ok(request)
    }

    /// Names the object with which the token goes.
    async fn bind(&self, claims: &mut Claims, reference: &Value) -> Result<(), Status> {
        let text = |field| reference.str_at(&[field]);
        let (version, kind, name) = (text("apiVersion"), text("kind"), text("name"));
        let resource = match (version.contains('/'), kind) {
            (false, "Pod") => PODS,
            (false, "Secret") => SECRETS,
            (false, "Node") => NODES,
            _ => {
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                let why = format!("cannot bind token to object of type {group}/{version}, Kind={kind}");
                return Err(Status::bad_request(why));
            }
        };
        let namespace = if resource == NODES { Str::default() } else { claims.namespace.clone() };
        let object = self.lookup.get(resource, &namespace, name).await?;
        let object = object.ok_or_else(|| Status::not_found("", resource.plural, name))?;
        let bound = Reference { name: object.head.name.clone(), uid: object.head.uid.clone() };
        if resource == PODS {
            claims.node = self.node_of(&object, &claims.account.name).await?;
        }
        let asked = text("uid");
        if !asked.is_empty() && asked != bound.uid.as_str() {
            let why = format!(
                "the UID in the bound object reference ({asked}) does not match the UID in record. The object might \
                 have been deleted and then recreated"
            );
            return Err(Status::conflict("", kind, name, &why));
        }
        let place = match resource.plural {
            "pods" => &mut claims.pod,
            "secrets" => &mut claims.secret,
            _ => &mut claims.node,
        };
        *place = Some(bound);
        Ok(())
    }

    /// The node of a pod that runs as the account.
    async fn node_of(&self, pod: &Object, account: &str) -> Result<Option<Reference>, Status> {
        let pod = tree(pod)?;
        if pod.str_at(&["spec", "serviceAccountName"]) != account {
            let why = format!(
                "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
            );
            return Err(Status::bad_request(why));
        }
        let name = pod.str_at(&["spec", "nodeName"]);
        if name.is_empty() {
            return Ok(None);
        }
        // A node that is not there is named all the same.
        let uid = self.lookup.get(NODES, "", name).await?.map(|node| node.head.uid.clone()).unwrap_or_default();
        Ok(Some(Reference { name: name.into(), uid }))
    }
}
