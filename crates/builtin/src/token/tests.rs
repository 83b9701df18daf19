//! A token's life, over a cluster of a few objects.

use corten_apimachinery::json;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use super::claims::Claims;
use super::*;
use crate::fixture::Cluster;
use crate::lookup::PODS;

const NOW_MS: i64 = 1_767_225_600_000;

fn object(name: &str, uid: &str, spec: Value) -> Value {
    value!({"kind": "Any", "apiVersion": "v1", "metadata": {"name": name, "uid": uid}, "spec": spec})
}

fn cluster() -> Vec<(Resource, Value)> {
    vec![
        (SERVICE_ACCOUNTS, object("web", "u-web", value!({}))),
        (PODS, object("web-1", "u-pod", value!({"serviceAccountName": "web", "nodeName": "n1"}))),
        (PODS, object("other-1", "u-other", value!({"serviceAccountName": "other"}))),
        (NODES, object("n1", "u-node", value!({}))),
        (SECRETS, object("s", "u-secret", value!({}))),
    ]
}

fn tokens(keys: &Keys, cluster: Vec<(Resource, Value)>, clock: &Clock) -> Tokens {
    Tokens { keys: keys.clone(), lookup: Arc::new(Cluster(cluster)), clock: clock.clone(), random: Random::seeded(1) }
}

fn asked(expiration_s: i64, audiences: &[&str], reference: Value) -> Value {
    let mut spec = Map::new();
    spec.insert("audiences", audiences.to_vec());
    spec.insert("expirationSeconds", expiration_s);
    spec.insert("boundObjectRef", reference);
    value!({"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": (Value::Object(spec))})
}

async fn make(tokens: &Tokens, request: Value) -> Result<String, String> {
    let account = tokens.lookup.get(SERVICE_ACCOUNTS, "shop", "web").await.expect("looked").expect("there");
    let made = tokens.make(request, &account, "shop", tokens.clock.now_s()).await;
    made.map(|made| made.str_at(&["status", "token"]).to_owned()).map_err(|status| status.message)
}

fn bound(kind: &str, name: &str) -> Value {
    value!({"kind": kind, "apiVersion": "v1", "name": name})
}

async fn review(tokens: &Tokens, token: &str, audiences: &[&str]) -> String {
    let review = value!({"spec": {"token": token, "audiences": (audiences.to_vec())}});
    json::to_string(&tokens.review(&review).await.expect("a status"))
}

#[tokio::test]
async fn a_bound_token_proves_account_pod_and_node() {
    let (keys, clock) = (Keys::make(0).expect("made"), Clock::manual(NOW_MS));
    let tokens = tokens(&keys, cluster(), &clock);
    let token = make(&tokens, asked(3600, &[ISSUER], bound("Pod", "web-1"))).await.expect("made");
    let proved = tokens.authenticate(&token, &own_audiences()).await.expect("good").expect("ours");
    assert_eq!(proved.user.name, "system:serviceaccount:shop:web");
    assert_eq!(proved.user.uid, "u-web");
    let groups = ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"];
    assert_eq!(proved.user.groups, groups);
    let extra: Vec<String> = proved.user.extra.iter().map(|(key, texts)| format!("{key}={}", texts[0])).collect();
    assert!(extra[0].starts_with("authentication.kubernetes.io/credential-id=JTI="), "{extra:?}");
    let rest = ["node-name=n1", "node-uid=u-node", "pod-name=web-1", "pod-uid=u-pod"];
    assert_eq!(extra[1..], rest.map(|text| format!("authentication.kubernetes.io/{text}")));
}

#[tokio::test]
async fn a_token_goes_with_what_it_is_bound_to() {
    let (keys, clock) = (Keys::make(0).expect("made"), Clock::manual(NOW_MS));
    let first = tokens(&keys, cluster(), &clock);
    let check = async |kind: &str, name: &str, resource: Resource, absent: &str, other: &str| {
        let token = make(&first, asked(600, &[ISSUER], bound(kind, name))).await.expect("made");
        let mut without = cluster();
        without.retain(|(of, object)| !(*of == resource && object.str_at(&["metadata", "name"]) == name));
        let gone = tokens(&keys, without.clone(), &clock).authenticate(&token, &own_audiences()).await;
        assert_eq!(gone, Err(absent.to_owned()));
        without.push((resource, object(name, "u-new", value!({}))));
        let replaced = tokens(&keys, without, &clock).authenticate(&token, &own_audiences()).await;
        assert_eq!(replaced, Err(other.to_owned()));
    };
    let gone = "service account token has been invalidated";
    let pod = "pod UID (u-new) does not match service account pod ref claim (u-pod)";
    check("Pod", "web-1", PODS, gone, pod).await;
    let secret = "secret UID (u-new) does not match service account secret ref claim (u-secret)";
    check("Secret", "s", SECRETS, gone, secret).await;
    let node = "node UID (u-new) does not match service account node ref claim (u-node)";
    check("Node", "n1", NODES, gone, node).await;
    let token = make(&first, asked(600, &[ISSUER], Value::Null)).await.expect("made");
    let mut without = cluster();
    without.remove(0);
    let refused = tokens(&keys, without, &clock).authenticate(&token, &own_audiences()).await;
    assert_eq!(refused, Err(r#"serviceaccounts "web" not found"#.to_owned()));
}

#[tokio::test]
async fn a_token_has_its_time_and_its_audience() {
    let (keys, clock) = (Keys::make(0).expect("made"), Clock::manual(NOW_MS));
    let tokens = tokens(&keys, cluster(), &clock);
    let token = make(&tokens, asked(600, &["vault", "other"], Value::Null)).await.expect("made");
    let no = format!(r#"token audiences ["vault" "other"] is invalid for the target audiences ["{ISSUER}"]"#);
    assert_eq!(tokens.authenticate(&token, &own_audiences()).await, Err(no));
    assert!(review(&tokens, &token, &["vault", "x"]).await.contains(r#""audiences":["vault"]"#));
    clock.advance(std::time::Duration::from_secs(661));
    let expired = review(&tokens, &token, &["vault"]).await;
    assert_eq!(expired, r#"{"user":{},"error":"service account token has expired"}"#);
    clock.advance(std::time::Duration::from_secs(3600));
    assert!(review(&tokens, "abc", &[]).await.contains("invalid bearer token"));
}

#[tokio::test]
async fn what_cannot_be_bound_is_refused() {
    let (keys, clock) = (Keys::make(0).expect("made"), Clock::manual(NOW_MS));
    let tokens = tokens(&keys, cluster(), &clock);
    let check = async |reference: Value, expect: &str| {
        assert_eq!(make(&tokens, asked(600, &[ISSUER], reference)).await, Err(expect.to_owned()));
    };
    check(bound("Pod", "none"), r#"pods "none" not found"#).await;
    let other = r#"cannot bind token for serviceaccount "web" to pod running with different serviceaccount name."#;
    check(bound("Pod", "other-1"), other).await;
    check(bound("ConfigMap", "a"), "cannot bind token to object of type /v1, Kind=ConfigMap").await;
    let stale = value!({"kind": "Pod", "apiVersion": "v1", "name": "web-1", "uid": "u-old"});
    let refused = make(&tokens, asked(600, &[ISSUER], stale)).await.expect_err("refused");
    assert!(refused.contains("the UID in the bound object reference (u-old) does not match"), "{refused}");
}

#[tokio::test]
async fn a_pods_own_token_lives_longer_than_it_says() {
    let (keys, clock) = (Keys::make(0).expect("made"), Clock::manual(NOW_MS));
    let tokens = tokens(&keys, cluster(), &clock);
    let lives = async |seconds: i64, reference: Value| {
        let token = make(&tokens, asked(seconds, &[ISSUER], reference)).await.expect("made");
        let claims = jwt::verify(&keys, &token, ISSUER).expect("ours").expect("good");
        let claims = Claims::read(&claims);
        (claims.expires_s - claims.issued_s, claims.warn_after_s.map(|after_s| after_s - claims.issued_s))
    };
    assert_eq!(lives(3607, bound("Pod", "web-1")).await, (31_536_000, Some(3607)));
    assert_eq!(lives(3600, bound("Pod", "web-1")).await, (3600, None));
    assert_eq!(lives(3607, Value::Null).await, (3607, None));
}
