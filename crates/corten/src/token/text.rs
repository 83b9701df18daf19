//! The text of a join token: `ID.SECRET.HASH`. The first two are Kubernetes' bootstrap token; the hash is that of the cluster
//! authority's public key (SHA-256 of its SubjectPublicKeyInfo, as `kubeadm join --discovery-token-ca-cert-hash` has it), so that
//! a new server knows the cluster before it tells it anything.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;
use aws_lc_rs::digest;
use corten_stdx::random::Random;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
const ID_CHARS: usize = 6;
const SECRET_CHARS: usize = 16;
const HASH_CHARS: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    pub id: String,
    pub secret: String,
    /// Of the authority's public key, in hexadecimal digits.
    pub hash: String,
}

impl JoinToken {
    pub fn new(random: &Random, authority_pem: &str) -> anyhow::Result<Self> {
        let hash = hash_of(authority_pem)?;
        Ok(Self { id: text(random, ID_CHARS), secret: text(random, SECRET_CHARS), hash })
    }

    /// What the API server takes as a bearer token.
    pub fn bearer(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }
}

/// Of the public key of an authority.
pub fn hash_of(authority_pem: &str) -> anyhow::Result<String> {
    let der = CertificateDer::from_pem_slice(authority_pem.as_bytes()).context("the authority's certificate")?;
    let (_, certificate) = X509Certificate::from_der(&der).context("the authority's certificate")?;
    let digest = digest::digest(&digest::SHA256, certificate.public_key().raw);
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.id, self.secret, self.hash)
    }
}

impl FromStr for JoinToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is = |part: &str, chars, known: &dyn Fn(u8) -> bool| part.len() == chars && part.bytes().all(known);
        let plain = |byte: u8| LETTERS.contains(&byte);
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        match text.split('.').collect::<Vec<_>>().as_slice() {
            [id, secret, hash]
                if is(id, ID_CHARS, &plain) && is(secret, SECRET_CHARS, &plain) && is(hash, HASH_CHARS, &hex) =>
            {
                let [id, secret, hash] = [id, secret, hash].map(|part| (*part).to_owned());
                Ok(Self { id, secret, hash })
            }
            _ => Err("not what `corten token create` prints (ID.SECRET.HASH); copy it whole".to_owned()),
        }
    }
}

/// Letters and digits, each as likely as the others.
fn text(random: &Random, chars: usize) -> String {
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let mut bytes = [0; 32];
        random.fill(&mut bytes);
        // Bytes from 252 on would make the first letters likelier.
        let letters = bytes.iter().filter(|byte| **byte < 252).map(|byte| char::from(LETTERS[usize::from(*byte) % 36]));
        text.extend(letters.take(chars - text.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use corten_stdx::clock::Clock;

    use super::*;
    use crate::pki::Pki;

    #[test]
    fn a_token_is_read_as_it_was_printed() {
        let dir = tempfile::tempdir().expect("a directory");
        let pki = Pki::open(dir.path(), Clock::manual(1_800_000_000_000)).expect("made");
        let token = JoinToken::new(&Random::seeded(3), pki.cluster_pem()).expect("made");
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert_eq!(token.hash.len(), HASH_CHARS);
        let other = JoinToken::new(&Random::seeded(4), pki.cluster_pem()).expect("made");
        assert!(token.hash == other.hash && token.id != other.id && token.secret != other.secret);
    }

    #[test]
    fn what_is_cut_short_is_said() {
        for bad in ["", "abcdef.0123456789abcdef", "abcdef.0123456789abcdef.00", "x.y.z"] {
            assert!(bad.parse::<JoinToken>().expect_err(bad).contains("corten token create"));
        }
    }
}
