//! Reads the Secrets that a notifier names, at the moment of sending: a password that was changed is the next message's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::value::Value;
use corten_client::error::unless_gone;
use corten_client::{Client, Error, Resource};

use crate::carry::{Address, CarryError};
use crate::kind::{Target, Text};

const SECRETS: Resource = Resource::new("", "v1", "secrets");

/// The target with its secrets. What is missing is the user's to mend, and is no error of the API.
pub(crate) async fn address(
    client: &Client,
    namespace: &str,
    target: &Target,
) -> Result<Result<Address, CarryError>, Error> {
    let mut read = Vec::new();
    for name in named(target) {
        read.push((name, unless_gone(client.get(&SECRETS, namespace, name).await)?));
    }
    let text = |name: &str, key: &str| {
        let secret = read.iter().find(|(of, _)| *of == name).and_then(|(_, secret)| secret.as_ref());
        text(secret, name, key)
    };
    Ok(fill(target, &text))
}

/// The Secrets of a target.
fn named(target: &Target) -> Vec<&str> {
    let mut names: Vec<&str> = match target {
        Target::Webhook { url, authorization, .. } => [Some(url), authorization.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|text| match text {
                Text::Plain(_) => None,
                Text::Secret { name, .. } => Some(name.as_str()),
            })
            .collect(),
        Target::Email { credentials, .. } => credentials.iter().map(|name| name.as_str()).collect(),
    };
    names.dedup();
    names
}

fn fill(target: &Target, text: &impl Fn(&str, &str) -> Result<String, CarryError>) -> Result<Address, CarryError> {
    let read = |of: &Text| match of {
        Text::Plain(plain) => Ok(plain.to_string()),
        Text::Secret { name, key } => text(name, key),
    };
    Ok(match target {
        Target::Webhook { url, authorization, authorities_pem } => Address::Webhook {
            url: read(url)?,
            authorization: authorization.as_ref().map(read).transpose()?,
            authorities_pem: authorities_pem.clone(),
        },
        Target::Email { host, port, security, from, to, credentials, authorities_pem } => {
            let both = |name: &str| Ok::<_, CarryError>((text(name, "username")?, text(name, "password")?));
            Address::Email {
                host: host.clone(),
                port: *port,
                security: *security,
                from: from.clone(),
                to: to.clone(),
                credentials: credentials.as_deref().map(both).transpose()?,
                authorities_pem: authorities_pem.clone(),
            }
        }
    })
}

fn text(secret: Option<&Value>, name: &str, key: &str) -> Result<String, CarryError> {
    let wrong = |what: &str| CarryError::Setting(what.to_owned());
    let secret = secret.ok_or_else(|| wrong(&format!("the Secret {name} is not there")))?;
    let data = secret.at(&["data", key]).and_then(Value::as_str);
    let data = data.ok_or_else(|| wrong(&format!("the Secret {name} has no {key}")))?;
    let bytes = STANDARD.decode(data).map_err(|_| wrong(&format!("{key} of the Secret {name} is no base64")))?;
    String::from_utf8(bytes).map_err(|_| wrong(&format!("{key} of the Secret {name} is no text")))
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::kind::Spec;

    #[test]
    fn what_a_secret_lacks_is_said_without_its_content() {
        let spec = value!({"spec": {"webhook": {"urlFrom": {"name": "chat", "key": "url"}}}});
        let target = Spec::of(&spec).expect("a target").target;
        let of = |secret: Option<Value>| {
            let filled = fill(&target, &|name, key| text(secret.as_ref(), name, key));
            filled.map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(of(None), Err("the Secret chat is not there".to_owned()));
        assert_eq!(of(Some(value!({"data": {}}))), Err("the Secret chat has no url".to_owned()));
        assert_eq!(of(Some(value!({"data": {"url": "%"}}))), Err("url of the Secret chat is no base64".to_owned()));
        assert_eq!(of(Some(value!({"data": {"url": "aHR0cDovL2E="}}))), Ok(()));
        assert_eq!(named(&target), ["chat"]);
    }
}
