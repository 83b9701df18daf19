//! The form of a token: three parts in base64, the last one a signature of the first two (RFC 7519, ES256 of RFC 7518).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use corten_apimachinery::json;
use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use super::keys::{Key, Keys};

const ALGORITHM: &str = "ES256";

/// Longer tokens are nobody's.
const BYTES_MAX: usize = 16 * 1024;

/// Why a token of ours is no good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwtError {
    #[error("invalid signature, no keys found")]
    NoKey,
    #[error("error in cryptographic primitive")]
    Signature,
}

/// Signs claims; `None` where the cryptography fails.
pub(super) fn sign(key: &Key, claims: &Value) -> Option<String> {
    let header = value!({"alg": ALGORITHM, "kid": (key.id())});
    let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(json::to_vec(part)));
    let message = format!("{header}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())?);
    Some(format!("{message}.{signature}"))
}

/// The claims of a token of this issuer, by whoever signed it; `None` where it is somebody else's or none at all.
pub(super) fn verify(keys: &Keys, token: &str, issuer: &str) -> Option<Result<Value, JwtError>> {
    let (message, signature) = token.rsplit_once('.').filter(|_| token.len() <= BYTES_MAX)?;
    let (header, claims) = message.split_once('.')?;
    let (header, claims) = (part(header)?, part(claims)?);
    if claims.str_at(&["iss"]) != issuer || header.str_at(&["alg"]) != ALGORITHM {
        return None;
    }
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let named = header.str_at(&["kid"]);
    let keys = keys.all();
    let fitting: Vec<_> = keys.iter().filter(|key| named.is_empty() || key.id() == named).collect();
    Some(match fitting.as_slice() {
        [] => Err(JwtError::NoKey),
        keys if keys.iter().any(|key| key.verifies(message.as_bytes(), &signature)) => Ok(claims),
        _ => Err(JwtError::Signature),
    })
}

fn part(text: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    json::parse(&bytes).ok().map(|parsed| parsed.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_signed_is_ours() {
        let (own, other) = (Keys::make(0).expect("made"), Keys::make(0).expect("made"));
        let claims = value!({"iss": "https://a", "sub": "b"});
        let token = sign(&own.newest(), &claims).expect("signed");
        assert_eq!(verify(&own, &token, "https://a"), Some(Ok(claims.clone())));
        assert_eq!(verify(&own, &token, "https://b"), None);
        assert_eq!(verify(&other, &token, "https://a"), Some(Err(JwtError::NoKey)));
        let (message, signature) = token.rsplit_once('.').expect("three parts");
        let (header, _) = message.split_once('.').expect("three parts");
        let changed = URL_SAFE_NO_PAD.encode(json::to_vec(&value!({"iss": "https://a", "sub": "root"})));
        let forged = format!("{header}.{changed}.{signature}");
        assert_eq!(verify(&own, &forged, "https://a"), Some(Err(JwtError::Signature)));
        let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
        assert_eq!(verify(&own, &format!("{unsigned}.{changed}."), "https://a"), None);
        for text in ["", "abc", "a.b.c", "..", "{}.{}.{}"] {
            assert_eq!(verify(&own, text, "https://a"), None, "{text}");
        }
    }
}
