//! One leaf certificate: making it, reading it from its file, and telling whether a stored one is still good.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use corten_controllers::certificate::LIFETIME_S;
use corten_kubelet::server::Identity;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Authority, BACKDATED_S, NODE_CLIENT, Names, PkiError};

/// Where the key begins in the file of a leaf, behind the certificate.
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----";

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub certificate_pem: String,
    pub key_pem: String,
    /// Half life, in Unix seconds.
    pub renew_at_s: i64,
}

/// Why a certificate and a key are no leaf.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    #[error("a certificate or key is no PEM")]
    Pem(#[from] pem::Error),
    #[error("a certificate cannot be read")]
    Certificate(#[from] x509_parser::nom::Err<X509Error>),
    #[error("a key cannot be read")]
    Key(#[from] rcgen::Error),
    #[error("the certificate is for another key")]
    Foreign,
}

/// A leaf with what its certificate says.
pub struct Stored {
    pub leaf: Leaf,
    pub common_name: String,
    pub names: Names,
    /// In Unix seconds.
    pub valid_s: Range<i64>,
}

/// What a leaf has to be.
pub(super) struct Wanted<'a> {
    pub(super) file: &'static str,
    pub(super) common_name: &'a str,
    pub(super) organization: Option<&'a str>,
    pub(super) names: Names,
    pub(super) usage: ExtendedKeyUsagePurpose,
}

impl Leaf {
    pub(super) fn make(wanted: &Wanted<'_>, authority: &Authority, now_s: i64) -> Result<Self, PkiError> {
        let failed = |source| PkiError::Making { name: wanted.file, source };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = wanted.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.distinguished_name.push(DnType::CommonName, wanted.common_name);
        for name in &wanted.names.dns {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into().map_err(failed)?));
        }
        params.subject_alt_names.extend(wanted.names.ips.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![wanted.usage.clone()];
        params.use_authority_key_identifier_extension = true;
        let not_before_s = now_s - BACKDATED_S;
        set_validity(&mut params, not_before_s, not_before_s + LIFETIME_S);
        let certificate = params.signed_by(&key, &authority.issuer).map_err(failed)?;
        let renew_at_s = not_before_s + LIFETIME_S / 2;
        Ok(Self { certificate_pem: certificate.pem(), key_pem: key.serialize_pem(), renew_at_s })
    }

    /// A certificate that was made for this key.
    pub fn new(certificate_pem: String, key_pem: String) -> Result<Self, LeafError> {
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes())?;
        let (_, certificate) = X509Certificate::from_der(&der)?;
        let key = KeyPair::from_pem(&key_pem)?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(LeafError::Foreign);
        }
        let valid_s = validity_s(&certificate);
        let renew_at_s = valid_s.start + (valid_s.end - valid_s.start) / 2;
        Ok(Self { certificate_pem, key_pem, renew_at_s })
    }

    /// The stored leaf, if it is what is wanted, of this authority, and before its half life.
    pub(super) fn good(text: &str, wanted: &Wanted<'_>, authority: &Authority, now_s: i64) -> Option<Self> {
        let Stored { leaf, names, valid_s, .. } = Stored::read(text, &authority.der)?;
        let good = (valid_s.start..leaf.renew_at_s).contains(&now_s) && names == wanted.names;
        good.then_some(leaf)
    }

    /// What [`Stored::read`] reads.
    pub fn text(&self) -> String {
        format!("{}{}", self.certificate_pem, self.key_pem)
    }

    /// Certificate and key as TLS takes them.
    pub fn parsed(&self) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), pem::Error> {
        let certificate = CertificateDer::from_pem_slice(self.certificate_pem.as_bytes())?;
        Ok((certificate, PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?))
    }

    /// Who a node's server is with this leaf, towards the one client that it serves.
    pub fn identity(&self, client_root: CertificateDer<'static>) -> Result<Identity, pem::Error> {
        let (certificate, key) = self.parsed()?;
        Ok(Identity { chain: vec![certificate], key, client_root, client_name: NODE_CLIENT.to_owned() })
    }
}

impl Stored {
    /// The leaf in a file's text, if this authority has signed it. Whatever is wrong with it, the remedy is the same: a new one.
    pub fn read(text: &str, authority: &CertificateDer<'_>) -> Option<Self> {
        let (certificate_pem, key_pem) = text.split_at(text.find(PRIVATE_KEY)?);
        let leaf = Leaf::new(certificate_pem.to_owned(), key_pem.to_owned()).ok()?;
        let der = CertificateDer::from_pem_slice(certificate_pem.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let (_, issuer) = X509Certificate::from_der(authority).ok()?;
        certificate.verify_signature(Some(issuer.public_key())).ok()?;
        let common_name = certificate.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        let (names, valid_s) = (names_of(&certificate)?, validity_s(&certificate));
        Some(Self { leaf, common_name, names, valid_s })
    }
}

fn validity_s(certificate: &X509Certificate<'_>) -> Range<i64> {
    let validity = certificate.validity();
    validity.not_before.timestamp()..validity.not_after.timestamp()
}

fn names_of(certificate: &X509Certificate<'_>) -> Option<Names> {
    let mut names = Names::default();
    let Some(extension) = certificate.subject_alternative_name().ok()? else { return Some(names) };
    for name in &extension.value.general_names {
        match name {
            GeneralName::DNSName(name) => names.dns.insert((*name).to_owned()),
            GeneralName::IPAddress(bytes) => names.ips.insert(ip(bytes)?),
            _ => return None,
        };
    }
    Some(names)
}

pub(super) fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Sets the time of validity; a time before 1970 is 1970.
pub(super) fn set_validity(params: &mut CertificateParams, from_s: i64, to_s: i64) {
    let since_epoch = |unix_s: i64| Duration::from_secs(u64::try_from(unix_s).unwrap_or_default());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch(from_s);
    params.not_after = epoch + since_epoch(to_s);
}
