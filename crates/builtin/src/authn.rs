//! Client certificates: the common name is the user, organizations are its groups, with `system:authenticated`. The TLS layer has verified the chain
//! against the client CA; in-process callers never come this way, they hand over their identity as a value.

use corten_apimachinery::value::Str;
use corten_apiserver::auth::{AUTHENTICATED, Authenticator, AuthnError, Credentials, User};
use futures_core::future::BoxFuture;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Extra field upstream adds: which certificate it was, by its fingerprint.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

#[derive(Clone, Copy, Debug, Default)]
pub struct ClientCertificates;

impl ClientCertificates {
    fn user(credentials: &Credentials<'_>) -> Result<Option<User>, AuthnError> {
        let Some(leaf) = credentials.certificates.first() else { return Ok(None) };
        let (_, certificate) = X509Certificate::from_der(leaf)
            .map_err(|error| AuthnError(format!("the client certificate cannot be read: {error}")))?;
        let subject = certificate.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute
                .as_str()
                .map(Into::into)
                .map_err(|error| AuthnError(format!("the client certificate's subject is no text: {error}")))
        };
        let Some(name) = subject.iter_common_name().last().map(text).transpose()? else { return Ok(None) };
        let mut groups: Vec<Str> = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.into());
        }
        let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
        let hex: String = fingerprint.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let extra = [(CREDENTIAL_ID.into(), vec![format!("X509SHA256={hex}").into()])].into();
        Ok(Some(User { name, groups, extra, ..User::default() }))
    }
}

impl Authenticator for ClientCertificates {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<User>, AuthnError>> {
        Box::pin(std::future::ready(Self::user(credentials)))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use rustls::pki_types::CertificateDer;

    use super::*;

    fn user(name: Option<&str>, groups: &[&str]) -> Option<User> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate: CertificateDer<'static> = params.self_signed(&key).expect("a certificate").into();
        let credentials = Credentials { certificates: &[certificate], headers: &http::HeaderMap::new() };
        ClientCertificates::user(&credentials).expect("readable")
    }

    #[test]
    fn a_subject_becomes_a_user() {
        let admin = user(Some("kubernetes-admin"), &["system:masters"]).expect("a user");
        assert_eq!(admin.name, "kubernetes-admin");
        assert_eq!(admin.groups, ["system:masters", AUTHENTICATED]);
        assert!(admin.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        assert_eq!(user(None, &["staff"]), None, "no name, not ours");
        let none = Credentials { certificates: &[], headers: &http::HeaderMap::new() };
        assert_eq!(ClientCertificates::user(&none), Ok(None));
    }

    #[test]
    fn a_damaged_certificate_is_refused() {
        let certificates = [CertificateDer::from(vec![1, 2, 3])];
        let credentials = Credentials { certificates: &certificates, headers: &http::HeaderMap::new() };
        assert!(ClientCertificates::user(&credentials).is_err());
    }
}
