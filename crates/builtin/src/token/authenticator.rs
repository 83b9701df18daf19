//! Who a token proves: its account, if that and the object it is bound to are still the ones it was made for.

use std::collections::BTreeMap;

use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Str;
use corten_apiserver::auth::{AUTHENTICATED, Authenticator, AuthnError, Credentials, User};
use futures_core::future::BoxFuture;
use http::header::AUTHORIZATION;

use super::claims::{Claims, Reference};
use super::{ISSUER, NODES, SECRETS, SERVICE_ACCOUNTS, Tokens, jwt, own_audiences};
use crate::lookup::{PODS, Resource, tree};

/// Clocks may differ by this, and what was deleted just now may still be at its last words.
const LEEWAY_S: i64 = 60;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// `Authorization: Bearer …` with a token of this server.
pub struct BearerTokens(pub Tokens);

impl Authenticator for BearerTokens {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<User>, AuthnError>> {
        Box::pin(async move {
            let Some(token) = bearer(credentials.headers) else { return Ok(None) };
            let proved = self.0.authenticate(token, &own_audiences()).await.map_err(AuthnError)?;
            Ok(proved.map(|proved| proved.user))
        })
    }
}

/// The token of a request.
pub(crate) fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Whom a token proves, and for which of the audiences that were asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Proved {
    pub(super) user: User,
    pub(super) audiences: Vec<Str>,
}

impl Tokens {
    /// Checks a token. `None`: it is not one of this server's. The error is upstream's text.
    pub(super) async fn authenticate(&self, token: &str, wanted: &[Str]) -> Result<Option<Proved>, String> {
        let Some(verified) = jwt::verify(&self.keys, token, ISSUER) else { return Ok(None) };
        let claims = Claims::read(&verified.map_err(|error| error.to_string())?);
        let audiences: Vec<Str> = claims.audiences.iter().filter(|own| wanted.contains(own)).cloned().collect();
        if audiences.is_empty() {
            let [own, wanted] = [&claims.audiences, wanted].map(go_list);
            return Err(format!("token audiences {own} is invalid for the target audiences {wanted}"));
        }
        in_time(&claims, self.clock.wall_s())?;
        self.still_there(&claims).await?;
        Ok(Some(Proved { user: user(&claims), audiences }))
    }

    async fn still_there(&self, claims: &Claims) -> Result<(), String> {
        let (namespace, account) = (claims.namespace.as_str(), &claims.account);
        match self.state(SERVICE_ACCOUNTS, namespace, account).await? {
            State::Same => {}
            State::Absent => {
                let refusal = Status::not_found("", SERVICE_ACCOUNTS.plural, &account.name);
                return Err(refusal.message);
            }
            State::Other(uid) => {
                return Err(format!("service account UID ({uid}) does not match claim ({})", account.uid));
            }
            State::Deleted => return Err(format!("service account {namespace}/{} has been deleted", account.name)),
        }
        if let Some(secret) = &claims.secret {
            self.bound(SECRETS, namespace, secret, "secret UID", "service account secret ref claim").await?;
        }
        match (&claims.pod, &claims.node) {
            (Some(pod), _) => self.bound(PODS, namespace, pod, "pod UID", "service account pod ref claim").await,
            (None, Some(node)) => self.bound(NODES, "", node, "node UID", "service account node ref claim").await,
            (None, None) => Ok(()),
        }
    }

    async fn bound(
        &self,
        resource: Resource,
        namespace: &str,
        to: &Reference,
        what: &str,
        claim: &str,
    ) -> Result<(), String> {
        match self.state(resource, namespace, to).await? {
            State::Same => Ok(()),
            State::Other(uid) => Err(format!("{what} ({uid}) does not match {claim} ({})", to.uid)),
            State::Absent | State::Deleted => Err("service account token has been invalidated".to_owned()),
        }
    }

    async fn state(&self, resource: Resource, namespace: &str, of: &Reference) -> Result<State, String> {
        let found = self.lookup.get(resource, namespace, &of.name).await.map_err(|status| status.message)?;
        let Some(object) = found else { return Ok(State::Absent) };
        if object.head.uid != of.uid {
            return Ok(State::Other(object.head.uid.clone()));
        }
        if !object.head.deleting {
            return Ok(State::Same);
        }
        let tree = tree(&object).map_err(|status| status.message)?;
        let deleted = Time::parse(tree.str_at(&["metadata", "deletionTimestamp"]));
        let long_ago = deleted.is_ok_and(|deleted| deleted.seconds < self.clock.now_s() - LEEWAY_S);
        Ok(if long_ago { State::Deleted } else { State::Same })
    }
}

/// What has become of an object that a token names.
enum State {
    Same,
    Absent,
    /// Another one of its name; this is its UID.
    Other(Str),
    /// It is being deleted, and not since just now.
    Deleted,
}

fn in_time(claims: &Claims, now_s: i64) -> Result<(), String> {
    let why = if claims.not_before_s > now_s + LEEWAY_S {
        "service account token is not valid yet"
    } else if claims.expires_s < now_s - LEEWAY_S {
        "service account token has expired"
    } else if claims.issued_s > now_s + LEEWAY_S {
        "service account token is issued in the future"
    } else {
        return Ok(());
    };
    Err(why.to_owned())
}

fn user(claims: &Claims) -> User {
    let mut extra: BTreeMap<Str, Vec<Str>> = BTreeMap::new();
    let mut add = |key: &str, text: &str| {
        if !text.is_empty() {
            extra.insert(key.into(), vec![text.into()]);
        }
    };
    if let Some(pod) = claims.pod.as_ref().filter(|pod| !pod.name.is_empty() && !pod.uid.is_empty()) {
        add(POD_NAME, &pod.name);
        add(POD_UID, &pod.uid);
    }
    if let Some(node) = &claims.node {
        add(NODE_NAME, &node.name);
        add(NODE_UID, &node.uid);
    }
    if !claims.id.is_empty() {
        add(CREDENTIAL_ID, &format!("JTI={}", claims.id));
    }
    let of_namespace = format!("system:serviceaccounts:{}", claims.namespace);
    User {
        name: claims.subject().into(),
        uid: claims.account.uid.clone(),
        groups: vec!["system:serviceaccounts".into(), of_namespace.into(), AUTHENTICATED.into()],
        extra,
    }
}

/// As Go prints a list of quoted texts.
fn go_list(texts: &[Str]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}
