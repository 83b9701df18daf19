//! The certificates of a real control plane that lives as long as a test.

use std::fs;
use std::path::Path;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use crate::kubeconfig::Endpoint;

/// Writes `ca.crt`, `server.{crt,key}` and `tokens.{key,pub}` to `folder`. Returns how to log in as an administrator,
/// still without an address.
pub(super) fn write(folder: &Path) -> Result<Endpoint> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    ca.distinguished_name.push(DnType::CommonName, "e2e-ca");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let hosts = ["127.0.0.1", "10.96.0.1", "localhost", "kubernetes.default.svc"].map(str::to_owned).to_vec();
    let server = leaf(&issuer, hosts, &[(DnType::CommonName, "kube-apiserver")], ExtendedKeyUsagePurpose::ServerAuth)?;
    let names = [(DnType::OrganizationName, "system:masters"), (DnType::CommonName, "kubernetes-admin")];
    let admin = leaf(&issuer, Vec::new(), &names, ExtendedKeyUsagePurpose::ClientAuth)?;
    let tokens = KeyPair::generate()?;

    fs::write(folder.join("ca.crt"), &ca_pem)?;
    fs::write(folder.join("server.crt"), server.0)?;
    fs::write(folder.join("server.key"), server.1)?;
    fs::write(folder.join("tokens.key"), tokens.serialize_pem())?;
    fs::write(folder.join("tokens.pub"), tokens.public_key_pem())?;
    let (certificate, key) = admin;
    Ok(Endpoint {
        address: String::new(),
        ca_pem: ca_pem.into_bytes(),
        certificate_pem: certificate.into_bytes(),
        key_pem: key.into_bytes(),
    })
}

/// Certificate and key, as PEM.
fn leaf(
    issuer: &Issuer<'_, KeyPair>,
    hosts: Vec<String>,
    names: &[(DnType, &str)],
    usage: ExtendedKeyUsagePurpose,
) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(hosts)?;
    for (kind, name) in names {
        params.distinguished_name.push(kind.clone(), *name);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    Ok((params.signed_by(&key, issuer)?.pem(), key.serialize_pem()))
}
