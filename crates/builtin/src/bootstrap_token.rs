//! Bootstrap tokens: `Authorization: Bearer ID.SECRET`, where a Secret of `kube-system` knows both. With one, a server asks for
//! its first certificate, and may do nothing else (`plugin/pkg/auth/authenticator/token/bootstrap`).

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Str, Value};
use corten_apiserver::auth::{AUTHENTICATED, Authenticator, AuthnError, Credentials, User};
use corten_stdx::clock::Clock;
use futures_core::future::BoxFuture;

use crate::lookup::{Lookup, Resource, tree};
use crate::token::bearer;

const SECRETS: Resource = Resource { group: "", plural: "secrets" };
const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";

const USER_PREFIX: &str = "system:bootstrap:";
/// Everybody with a token is in this group, and groups that a token adds begin with it.
const GROUP: &str = "system:bootstrappers";

const ID_CHARS: usize = 6;
const SECRET_CHARS: usize = 16;

/// Tells whom a bootstrap token proves.
pub struct BootstrapTokens {
    pub lookup: Arc<dyn Lookup>,
    pub clock: Clock,
}

impl Authenticator for BootstrapTokens {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<User>, AuthnError>> {
        Box::pin(async move {
            let Some((id, secret)) = bearer(credentials.headers).and_then(parts) else { return Ok(None) };
            let found = self.lookup.get(SECRETS, NAMESPACE, &format!("bootstrap-token-{id}")).await;
            let found = found.map_err(|status| AuthnError(status.message))?;
            let Some(object) = found.filter(|object| !object.head.deleting) else { return Ok(None) };
            let object = tree(&object).map_err(|status| AuthnError(status.message))?;
            Ok(user(&object, id, secret, self.clock.wall_s()))
        })
    }
}

/// The two halves of what looks like a token.
fn parts(token: &str) -> Option<(&str, &str)> {
    let is = |text: &str, chars| {
        text.len() == chars && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    token.split_once('.').filter(|(id, secret)| is(id, ID_CHARS) && is(secret, SECRET_CHARS))
}

/// Whom a Secret makes of its token; `None` where it is another one's, over, or for something else.
fn user(object: &Value, id: &str, secret: &str, now_s: i64) -> Option<User> {
    let field = |name: &str| {
        let bytes = STANDARD.decode(object.str_at(&["data", name])).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let same = |known: &str, given: &str| {
        aws_lc_rs::constant_time::verify_slices_are_equal(known.as_bytes(), given.as_bytes()).is_ok()
    };
    let is_known = object.str_at(&["type"]) == TYPE && same(&field("token-secret"), secret) && field("token-id") == id;
    let is_for_this = field("usage-bootstrap-authentication") == "true";
    if !is_known || !is_for_this || is_over(&field("expiration"), now_s) {
        return None;
    }
    let extra = field("auth-extra-groups");
    let extra: Vec<Str> = extra.split(',').filter(|group| !group.is_empty()).map(Str::from).collect();
    // A token with a group that it must not give is of no use at all.
    if !extra.iter().all(|group| is_extra_group(group)) {
        return None;
    }
    let groups = [GROUP.into()].into_iter().chain(extra).chain([AUTHENTICATED.into()]).collect();
    Some(User { name: format!("{USER_PREFIX}{id}").into(), groups, ..User::default() })
}

fn is_over(expiration: &str, now_s: i64) -> bool {
    // What is no time is over, so that a typing error opens nothing for ever.
    !expiration.is_empty() && Time::parse(expiration).map_or(true, |end| end.seconds <= now_s)
}

/// `system:bootstrappers:` and then letters, digits, colons and hyphens, ending with a letter or a digit.
fn is_extra_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    rest.len() <= 256
        && rest.bytes().all(|byte| plain(byte) || matches!(byte, b':' | b'-'))
        && rest.bytes().last().is_some_and(plain)
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    const NOW_S: i64 = 1_000;

    fn secret(changes: &[(&str, &str)]) -> Value {
        let mut object = value!({"type": TYPE});
        let fields = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
            ("auth-extra-groups", "system:bootstrappers:corten"),
        ];
        for (field, text) in fields.iter().chain(changes) {
            object.object_entry("data").insert(*field, STANDARD.encode(text));
        }
        object
    }

    fn check(changes: &[(&str, &str)], expect: bool) {
        let found = user(&secret(changes), "abcdef", "0123456789abcdef", NOW_S);
        assert_eq!(found.is_some(), expect, "{changes:?}");
    }

    #[test]
    fn a_good_token_is_a_user_who_may_bring_nodes_in() {
        let user = user(&secret(&[]), "abcdef", "0123456789abcdef", NOW_S).expect("good");
        assert_eq!(user.name, "system:bootstrap:abcdef");
        assert_eq!(user.groups, ["system:bootstrappers", "system:bootstrappers:corten", AUTHENTICATED]);
    }

    #[test]
    fn other_tokens_prove_nobody() {
        check(&[("expiration", "1970-01-01T00:16:41Z")], true);
        check(&[("expiration", "1970-01-01T00:16:40Z")], false);
        check(&[("expiration", "tomorrow")], false);
        check(&[("token-secret", "0123456789abcdeX")], false);
        check(&[("token-id", "zzzzzz")], false);
        check(&[("usage-bootstrap-authentication", "false")], false);
        check(&[("auth-extra-groups", "system:masters")], false);
        check(&[("auth-extra-groups", "system:bootstrappers:")], false);
        let mut opaque = secret(&[]);
        opaque.as_object_mut().expect("an object").insert("type", "Opaque");
        assert_eq!(user(&opaque, "abcdef", "0123456789abcdef", NOW_S), None);
    }

    #[test]
    fn what_is_no_token_is_for_others() {
        assert_eq!(parts("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for other in ["abcdef", "abcde.0123456789abcdef", "abcdef.0123456789ABCDEF", "a.b.c"] {
            assert_eq!(parts(other), None, "{other}");
        }
    }
}
