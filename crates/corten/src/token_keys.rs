//! The keys that sign the tokens of service accounts: `D/pki/service-accounts.pem`, made at the first start. A new key
//! joins every ninety days, without a restart; what older ones signed stays good.

use std::path::{Path, PathBuf};

use corten_builtin::token::{Keys, KeysError};
use corten_stdx::clock::Clock;
use corten_stdx::error::Chain;
use corten_stdx::task::Stopped;

use crate::files::{FileError, read_if_there, write_private};

/// The longest time between two looks at the clock, which may be set.
const LOOK_EVERY_MS: i64 = 600_000;

#[derive(Debug, thiserror::Error)]
pub enum TokenKeysError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{} cannot be used; restore it, or remove it: then every token that was given out is void", path.display())]
    Unusable { path: PathBuf, source: KeysError },
}

/// The keys in use and their file.
pub struct TokenKeys {
    path: PathBuf,
    pub keys: Keys,
}

impl TokenKeys {
    /// Reads the keys, or makes a first one; a new one joins if it is time for that.
    pub fn open(path: &Path, clock: &Clock) -> Result<Self, TokenKeysError> {
        let unusable = |source| TokenKeysError::Unusable { path: path.to_owned(), source };
        let keys = match read_if_there(path)? {
            Some(text) => Keys::parse(&text).map_err(unusable)?,
            None => {
                let first = Keys::make(clock.now_s()).map_err(unusable)?;
                write_private(path, first.text().as_bytes())?;
                first
            }
        };
        let opened = Self { path: path.to_owned(), keys };
        opened.renew(clock)?;
        Ok(opened)
    }

    /// Renews until it is told to stop.
    pub async fn keep(self, clock: Clock, mut stopped: Stopped) {
        // From before each look, so that a clock that is moved meanwhile is looked at again.
        let mut looked_ms = clock.now_ms();
        loop {
            tokio::select! {
                () = stopped.wait() => return,
                () = clock.sleep_until_ms(looked_ms + LOOK_EVERY_MS) => looked_ms = clock.now_ms(),
            }
            if let Err(error) = self.renew(&clock) {
                tracing::error!(error = %Chain(&error), "the keys of tokens could not be renewed");
            }
        }
    }

    /// The file first: a token must not be signed by a key that a crash could lose.
    fn renew(&self, clock: &Clock) -> Result<(), TokenKeysError> {
        let renewed = self.keys.renewed(clock.now_s());
        let renewed = renewed.map_err(|source| TokenKeysError::Unusable { path: self.path.clone(), source })?;
        if let Some(renewed) = renewed {
            write_private(&self.path, renewed.text().as_bytes())?;
            self.keys.replace(&renewed);
            tracing::info!("a new key signs tokens");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn keys_last_are_renewed_in_time_and_damaged_ones_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("service-accounts.pem");
        let clock = Clock::manual(1_800_000_000_000);
        let first = TokenKeys::open(&path, &clock).expect("made").keys.text();
        let keys = TokenKeys::open(&path, &clock).expect("read");
        assert_eq!(keys.keys.text(), first);
        clock.advance(Duration::from_secs(91 * 24 * 3600));
        keys.renew(&clock).expect("renewed");
        let both = keys.keys.text();
        assert!(both.ends_with(&first) && both.len() > first.len(), "the new one in front");
        assert_eq!(TokenKeys::open(&path, &clock).expect("read").keys.text(), both);
        std::fs::write(&path, "").expect("written");
        let text = TokenKeys::open(&path, &clock).err().expect("refused").to_string();
        assert!(text.contains("restore it"), "{text}");
    }
}
