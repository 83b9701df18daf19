//! The master keys of encryption at rest: `D/keys`, made at the first start.

use std::path::{Path, PathBuf};

use corten_builtin::seal::{Keyring, KeyringError};
use corten_stdx::random::Random;

use crate::files::{FileError, read_if_there, write_private};

#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} cannot be used; restore it: without its keys no Secret can be read", path.display())]
    Unusable { path: PathBuf, source: KeyringError },
}

/// Reads the keys, or makes a first one.
pub fn open(path: &Path, random: &Random) -> Result<Keyring, KeysError> {
    let text = match read_if_there(path)? {
        Some(text) => text,
        None => {
            let first = Keyring::new_line(random);
            write_private(path, first.as_bytes())?;
            first
        }
    };
    Keyring::parse(&text).map_err(|source| KeysError::Unusable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_last_and_damaged_ones_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        let sealed = open(&path, &Random::seeded(1)).expect("made").seal(b"k", b"plain").expect("sealed");
        let again = open(&path, &Random::seeded(2)).expect("read");
        assert_eq!(again.open(b"k", &sealed).expect("opened"), &b"plain"[..]);
        std::fs::write(&path, "").expect("written");
        let text = open(&path, &Random::seeded(3)).err().expect("refused").to_string();
        assert!(text.contains("restore it"), "{text}");
    }
}
