//! What others need to check tokens by themselves: who issues them, and the keys (OpenID Connect Discovery 1.0, RFC 7517).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corten_apimachinery::json;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use corten_apiserver::auth::User;
use corten_apiserver::connect::{Route, Routes};
use corten_apiserver::http::body::{Request, Response, respond, set};
use futures_core::future::BoxFuture;
use http::header::CACHE_CONTROL;

use super::ISSUER;
use super::keys::Keys;

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// How long others may keep what they have read.
const CACHED: &str = "public, max-age=3600";

/// Adds the documents; `external` is the address under which the server is known, with its port.
pub fn routes(routes: &mut Routes, keys: &Keys, external: &str) {
    let keys_uri = format!("https://{external}{KEYS}");
    let configuration = value!({
        "issuer": ISSUER, "jwks_uri": keys_uri, "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]
    });
    routes.register(CONFIGURATION, Arc::new(Configuration(json::to_string(&configuration))));
    routes.register(KEYS, Arc::new(KeySet(keys.clone())));
}

struct Configuration(String);

impl Route for Configuration {
    fn serve(&self, _request: Request, _user: Arc<User>) -> BoxFuture<'_, Response> {
        Box::pin(std::future::ready(document("application/json", self.0.clone())))
    }
}

struct KeySet(Keys);

impl Route for KeySet {
    fn serve(&self, _request: Request, _user: Arc<User>) -> BoxFuture<'_, Response> {
        let text = json::to_string(&key_set(&self.0));
        Box::pin(std::future::ready(document("application/jwk-set+json", text)))
    }
}

fn document(media_type: &str, text: String) -> Response {
    let mut response = respond(200, media_type, text);
    set(&mut response, CACHE_CONTROL, CACHED);
    response
}

fn key_set(keys: &Keys) -> Value {
    let keys = keys.all();
    let key = keys.iter().map(|key| {
        let (x, y) = key.coordinates();
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        value!({"use": "sig", "kty": "EC", "kid": (key.id()), "crv": "P-256", "alg": "ES256", "x": x, "y": y})
    });
    value!({"keys": (key.collect::<Vec<Value>>())})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_published_by_its_public_half() {
        let set = key_set(&Keys::make(0).expect("made"));
        let keys = set.get("keys").and_then(Value::as_array).expect("keys");
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].str_at(&["x"]).len(), 43, "32 bytes");
        let fields: Vec<&str> = keys[0].as_object().expect("an object").keys().map(|key| key.as_str()).collect();
        assert_eq!(fields, ["use", "kty", "kid", "crv", "alg", "x", "y"], "and nothing of the private one");
    }
}
