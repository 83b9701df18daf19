//! What a registry asks for before it answers: RFC 9110's challenges, and the token protocol that registries share.

use http::header::GetAll;
use http::{HeaderValue, Uri};
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// A token from the server at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

impl Challenge {
    /// Of several, a token: it shows the password to fewer.
    pub(super) fn choose(values: GetAll<'_, HeaderValue>) -> Option<Self> {
        let challenges: Vec<Self> = values.iter().filter_map(|value| Self::parse(value.to_str().ok()?)).collect();
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }

    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
        }
        Some(Self::Bearer { realm: realm?, service, scope })
    }
}

/// `name="value"` or `name=value`, separated by commas; a quoted value may hold commas.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([',', ' ']).to_owned();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.push((name, value.trim().to_owned()));
        rest = next;
    }
    found
}

pub(super) fn token_uri(realm: &str, service: Option<&str>, scope: &str) -> Option<Uri> {
    let separator = if realm.contains('?') { '&' } else { '?' };
    let mut uri = format!("{realm}{separator}scope={}", encoded(scope));
    if let Some(service) = service {
        uri.push_str(&format!("&service={}", encoded(service)));
    }
    uri.parse().ok()
}

fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Under either of its two names.
pub(super) fn token(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(bytes).ok()?;
    answer.token.or(answer.access_token).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::WWW_AUTHENTICATE;

    use super::*;

    fn choose(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
        Challenge::choose(headers.get_all(WWW_AUTHENTICATE))
    }

    #[test]
    fn challenges_are_understood() {
        let text = r#"Bearer realm="https://auth.example/token",service="a, b",scope="repository:x/y:pull,push""#;
        let bearer = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("a, b".into()),
            scope: Some("repository:x/y:pull,push".into()),
        };
        assert_eq!(choose(&["Basic realm=\"x\"", text]), Some(bearer));
        assert_eq!(choose(&["basic"]), Some(Challenge::Basic));
        let bare = Challenge::Bearer { realm: "https://a/t".into(), service: Some("s".into()), scope: None };
        assert_eq!(choose(&["BEARER realm=https://a/t, service=s"]), Some(bare));
        assert_eq!((choose(&["Bearer service=x"]), choose(&["Negotiate"]), choose(&[])), (None, None, None));
    }

    #[test]
    fn tokens_are_asked_for_and_read() {
        let uri = token_uri("https://a/t?x=y", Some("s e"), "repository:a/b:pull").expect("a URL").to_string();
        assert_eq!(uri, "https://a/t?x=y&scope=repository%3Aa%2Fb%3Apull&service=s%20e");
        assert_eq!(token(br#"{"access_token":"t","expires_in":300}"#).as_deref(), Some("t"));
        assert_eq!((token(br#"{"token":""}"#), token(b"x")), (None, None));
    }
}
