//! Who asks, as whom, and whether they may: authentication, impersonation, authorization of one request.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Str;
use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::auth::{
    ANONYMOUS, AUTHENTICATED, Attributes, Authenticator, Authorizer, AuthzTarget, Credentials, Decision,
    UNAUTHENTICATED, User,
};
use crate::http::query::percent_decode;
use crate::http::request::RequestInfo;
use crate::http::server::Peer;
use crate::http::tls::ClientCertificate;

/// The authenticators and authorizers of the server, in their order.
#[derive(Clone, Default)]
pub struct Access {
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub authorizers: Vec<Arc<dyn Authorizer>>,
    /// Whether requests without credentials are let in as `system:anonymous`.
    pub anonymous: bool,
}

/// Values of impersonation headers that one request may carry.
const IMPERSONATED_MAX: usize = 1_000;

impl Access {
    /// The identity that the request's credentials prove. Credentials that nobody accepts are refused, even where
    /// anonymous requests are let in.
    pub async fn authenticate(&self, peer: &Peer, headers: &HeaderMap, now_s: i64) -> Result<Arc<User>, Status> {
        let certificate = match peer {
            Peer::InProcess(user) => return Ok(user.clone()),
            Peer::Network { certificate, .. } => certificate,
        };
        let mut refused = false;
        let chain = match certificate {
            ClientCertificate::None => &[][..],
            ClientCertificate::Verified { chain, not_after_s } if now_s <= *not_after_s => chain,
            ClientCertificate::Verified { .. } => {
                tracing::info!("client certificate has expired");
                refused = true;
                &[]
            }
            ClientCertificate::Refused(why) => {
                tracing::info!(why, "client certificate refused");
                refused = true;
                &[]
            }
        };
        let credentials = Credentials { certificates: chain, headers };
        for authenticator in &self.authenticators {
            match authenticator.authenticate(&credentials).await {
                Ok(Some(user)) => return Ok(Arc::new(user)),
                Ok(None) => {}
                Err(error) => {
                    tracing::info!(error = %error, "credentials refused");
                    refused = true;
                }
            }
        }
        // A token that no authenticator knows is a failed proof, not an absent one.
        refused |= headers.get(AUTHORIZATION).is_some_and(|value| value.as_bytes().starts_with(b"Bearer "));
        if refused || !self.anonymous { Err(Status::unauthorized()) } else { Ok(Arc::new(User::anonymous())) }
    }

    /// The identity under which the request goes on: the user's own, or one that it may take on.
    pub async fn impersonate(&self, user: Arc<User>, headers: &HeaderMap) -> Result<Arc<User>, Status> {
        let asked = Impersonated::read(headers)?;
        let Some(asked) = asked else { return Ok(user) };
        for (group, resource, subresource, namespace, name) in asked.checks() {
            let target = AuthzTarget::Resource { group, version: "v1", resource, subresource, namespace, name };
            self.authorize(&Attributes { user: &user, verb: "impersonate", target }).await?;
        }
        Ok(Arc::new(asked.into_user()))
    }

    /// Refuses with 403 what no authorizer allows.
    pub async fn authorize(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let mut reasons = Vec::new();
        for authorizer in &self.authorizers {
            match authorizer.authorize(attributes).await {
                Decision::Allow => return Ok(()),
                Decision::Deny(reason) => return Err(forbidden(attributes, &reason)),
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
            }
        }
        Err(forbidden(attributes, &reasons.join(", ")))
    }
}

/// What a request is, as authorizers see it.
pub fn attributes<'a>(user: &'a User, info: &'a RequestInfo) -> Attributes<'a> {
    let target = if info.is_resource {
        AuthzTarget::Resource {
            group: &info.group,
            version: &info.version,
            resource: &info.resource,
            subresource: &info.subresource,
            namespace: &info.namespace,
            name: &info.name,
        }
    } else {
        AuthzTarget::Path(&info.path)
    };
    Attributes { user, verb: &info.verb, target }
}

/// Upstream's text: `pods is forbidden: User "a" cannot list resource "pods" in API group "" in the namespace "b"`.
pub fn forbidden(attributes: &Attributes<'_>, reason: &str) -> Status {
    let (user, verb) = (&attributes.user.name, attributes.verb);
    let (group, resource, name, text) = match attributes.target {
        AuthzTarget::Path(path) => ("", "", "", format!("User {user:?} cannot {verb} path {path:?}")),
        AuthzTarget::Resource { group, resource, subresource, namespace, name, .. } => {
            let what = if subresource.is_empty() { resource.to_owned() } else { format!("{resource}/{subresource}") };
            let place = match namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace {namespace:?}"),
            };
            let text = format!("User {user:?} cannot {verb} resource {what:?} in API group {group:?} {place}");
            (group, resource, name, text)
        }
    };
    // Texts that come from the client must not look like HTML to a browser.
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let why = if reason.is_empty() { text } else { format!("{text}: {reason}") };
    Status::forbidden(group, resource, name, &why)
}

/// The identity that `Impersonate-*` headers ask for.
struct Impersonated {
    user: String,
    uid: String,
    groups: Vec<String>,
    extra: Vec<(String, String)>,
}

/// Group, resource, subresource, namespace and name of one thing to impersonate.
type Check<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

const AUTHENTICATION_GROUP: &str = "authentication.k8s.io";
const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

impl Impersonated {
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        let all = |name: &str| -> Vec<String> {
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect()
        };
        let one = |name: &str| all(name).into_iter().next().unwrap_or_default();
        let groups = all("impersonate-group");
        let mut extra = Vec::new();
        for (name, value) in headers {
            let Some(key) = name.as_str().strip_prefix("impersonate-extra-") else { continue };
            let key = percent_decode(key).unwrap_or_else(|| key.to_owned());
            extra.push((key, value.to_str().map_err(|error| Status::bad_request(error.to_string()))?.to_owned()));
        }
        let (user, uid) = (one("impersonate-user"), one("impersonate-uid"));
        if user.is_empty() && uid.is_empty() && groups.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        if user.is_empty() {
            let quoted = groups.iter().map(|group| format!("{group:?}")).collect::<Vec<_>>().join(", ");
            let groups = if groups.is_empty() { "[]string(nil)".to_owned() } else { format!("[]string{{{quoted}}}") };
            return Err(Status::bad_request(format!(
                "requested &user.DefaultInfo{{Name:\"\", UID:{uid:?}, Groups:{groups}, \
                 Extra:map[string][]string(nil)}} without impersonating a user name"
            )));
        }
        if groups.len() + extra.len() > IMPERSONATED_MAX {
            return Err(Status::bad_request("too many impersonation headers"));
        }
        Ok(Some(Self { user, uid, groups, extra }))
    }

    /// Namespace and name of a service account.
    fn service_account(&self) -> Option<(&str, &str)> {
        self.user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')
    }

    fn checks(&self) -> Vec<Check<'_>> {
        let mut checks: Vec<Check<'_>> = match self.service_account() {
            Some((namespace, name)) => vec![("", "serviceaccounts", "", namespace, name)],
            None => vec![("", "users", "", "", &self.user)],
        };
        checks.extend(self.groups.iter().map(|group| ("", "groups", "", "", group.as_str())));
        if !self.uid.is_empty() {
            checks.push((AUTHENTICATION_GROUP, "uids", "", "", &self.uid));
        }
        let extra = self.extra.iter();
        checks.extend(extra.map(|(key, value)| (AUTHENTICATION_GROUP, "userextras", key.as_str(), "", value.as_str())));
        checks
    }

    fn into_user(self) -> User {
        let mut groups: Vec<Str> = self.groups.iter().map(Str::from).collect();
        if let (Some((namespace, _)), true) = (self.service_account(), groups.is_empty()) {
            groups.push("system:serviceaccounts".into());
            groups.push(format!("system:serviceaccounts:{namespace}").into());
        }
        let implied = if self.user == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        if !groups.iter().any(|group| group == AUTHENTICATED || group == UNAUTHENTICATED) {
            groups.push(implied.into());
        }
        let mut user = User { name: self.user.into(), uid: self.uid.into(), groups, ..User::default() };
        for (key, value) in self.extra {
            user.extra.entry(key.into()).or_default().push(value.into());
        }
        user
    }
}

#[cfg(test)]
mod tests {
    use futures_core::future::BoxFuture;

    use super::*;
    use crate::auth::AuthnError;
    use crate::http::query::Query;

    /// Accepts the bearer token `good`, refuses `bad`.
    struct Tokens;

    impl Authenticator for Tokens {
        fn authenticate<'a>(
            &'a self,
            credentials: &'a Credentials<'a>,
        ) -> BoxFuture<'a, Result<Option<User>, AuthnError>> {
            let token = credentials.headers.get("authorization").and_then(|value| value.to_str().ok());
            Box::pin(std::future::ready(match token {
                Some("Bearer good") => Ok(Some(User { name: "ann".into(), ..User::default() })),
                Some("Bearer bad") => Err(AuthnError("bad token".to_owned())),
                _ => Ok(None),
            }))
        }
    }

    /// Allows one verb on one resource (or path).
    struct Only(&'static str, &'static str);

    impl Authorizer for Only {
        fn authorize<'a>(&'a self, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision> {
            let what = match attributes.target {
                AuthzTarget::Resource { resource, .. } => resource,
                AuthzTarget::Path(path) => path,
            };
            let allow = attributes.verb == self.0 && what == self.1;
            Box::pin(std::future::ready(if allow { Decision::Allow } else { Decision::NoOpinion(String::new()) }))
        }
    }

    fn access(anonymous: bool, allow: Only) -> Access {
        Access { authenticators: vec![Arc::new(Tokens)], authorizers: vec![Arc::new(allow)], anonymous }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut map: HeaderMap, (name, value): (http::HeaderName, http::HeaderValue)| {
                map.append(name, value);
                map
            })
    }

    fn network(certificate: ClientCertificate) -> Peer {
        Peer::Network { address: ([127, 0, 0, 1], 1).into(), certificate }
    }

    async fn name_of(anonymous: bool, certificate: ClientCertificate, token: Option<&str>) -> Result<String, u16> {
        let headers = token.map_or_else(HeaderMap::new, |token| headers(&[("authorization", token)]));
        let access = access(anonymous, Only("", ""));
        let user = access.authenticate(&network(certificate), &headers, 1_000).await;
        user.map(|user| user.name.to_string()).map_err(|status| status.code)
    }

    #[tokio::test]
    async fn authentication() {
        let none = ClientCertificate::None;
        let expired = ClientCertificate::Verified { chain: Arc::from([]), not_after_s: 999 };
        let foreign = ClientCertificate::Refused("unknown issuer".to_owned());
        assert_eq!(name_of(true, none.clone(), None).await, Ok("system:anonymous".to_owned()));
        assert_eq!(name_of(false, none.clone(), None).await, Err(401));
        assert_eq!(name_of(true, none.clone(), Some("Bearer good")).await, Ok("ann".to_owned()));
        assert_eq!(name_of(true, none.clone(), Some("Bearer bad")).await, Err(401));
        assert_eq!(name_of(true, none, Some("Bearer unknown")).await, Err(401));
        assert_eq!(name_of(true, expired.clone(), None).await, Err(401));
        assert_eq!(name_of(true, expired, Some("Bearer good")).await, Ok("ann".to_owned()));
        assert_eq!(name_of(true, foreign, None).await, Err(401));
    }

    #[tokio::test]
    async fn forbidden_texts() {
        let user = User { name: "x".into(), ..User::default() };
        let check = async |target: &str, expect: &str| {
            let info = RequestInfo::parse(&http::Method::GET, target, &Query::default()).unwrap();
            let status = access(true, Only("", "")).authorize(&attributes(&user, &info)).await.unwrap_err();
            assert_eq!((status.code, status.message.as_str()), (403, expect));
        };
        check(
            "/api/v1/namespaces/y/pods",
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "y""#,
        )
        .await;
        check(
            "/apis/apps/v1/namespaces/y/deployments/d/scale",
            r#"deployments.apps "d" is forbidden: User "x" cannot get resource "deployments/scale" in API group "apps" in the namespace "y""#,
        )
        .await;
        check(
            "/api/v1/nodes",
            r#"nodes is forbidden: User "x" cannot list resource "nodes" in API group "" at the cluster scope"#,
        )
        .await;
        check("/metrics", r#"forbidden: User "x" cannot get path "/metrics""#).await;
    }

    #[tokio::test]
    async fn impersonation() {
        let ann = Arc::new(User { name: "ann".into(), ..User::default() });
        let asked = headers(&[("impersonate-user", "bob")]);
        let user = access(true, Only("impersonate", "users")).impersonate(ann.clone(), &asked).await.unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("bob", &[Str::from(AUTHENTICATED)][..]));

        let refused = access(true, Only("", "")).impersonate(ann.clone(), &asked).await.unwrap_err();
        assert_eq!(
            refused.message,
            r#"users "bob" is forbidden: User "ann" cannot impersonate resource "users" in API group "" at the cluster scope"#
        );
        let groups = headers(&[("impersonate-user", "bob"), ("impersonate-group", "system:masters")]);
        assert_eq!(
            access(true, Only("impersonate", "users")).impersonate(ann.clone(), &groups).await.unwrap_err().code,
            403
        );

        let account = headers(&[("impersonate-user", "system:serviceaccount:ns:sa")]);
        let user =
            access(true, Only("impersonate", "serviceaccounts")).impersonate(ann.clone(), &account).await.unwrap();
        assert_eq!(user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", AUTHENTICATED]);
        let plain = access(true, Only("", "")).impersonate(ann.clone(), &HeaderMap::new()).await.unwrap();
        assert_eq!(plain.name, "ann");
    }
}
