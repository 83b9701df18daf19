//! Client certificates: the common name is the user, organizations are its groups. The TLS layer has verified the chain
//! against the client CA; in-process callers never come this way, they hand over their identity as a value.

use corten_apiserver::auth::{Authenticator, AuthnError, Credentials, User};
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
        let groups = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
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
