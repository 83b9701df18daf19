//! Where the parts of an installation lie.

use std::path::{Path, PathBuf};

/// The unit's name.
pub(super) const UNIT: &str = "corten.service";

/// Set by tests: everything lies below this folder. Units name the paths without it.
const ROOT: &str = "CORTEN_ROOT";

/// What the unit starts: a link to the program that is in use.
pub(super) const CURRENT: &str = "/usr/local/lib/corten/current";

pub(super) struct Place {
    root: PathBuf,
}

/// A server on which no service can be made or changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnableError {
    #[error("this changes files below /etc and /usr/local; run it as root")]
    NotRoot,
    #[error(
        "this server is not run by systemd: there is no /run/systemd/system; have what runs it start `corten up`, and let it \
         end that process alone"
    )]
    NoSystemd,
}

impl Place {
    /// Where things lie on this server, if a service can be made here.
    pub(super) fn find() -> Result<Self, UnableError> {
        if !rustix::process::geteuid().is_root() {
            return Err(UnableError::NotRoot);
        }
        let place = Self { root: std::env::var_os(ROOT).unwrap_or_else(|| "/".into()).into() };
        // As sd_booted(3) finds out.
        if place.at("/run/systemd/system").is_dir() { Ok(place) } else { Err(UnableError::NoSystemd) }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The folder of programs, one file for each version and build.
    pub(super) fn programs(&self) -> PathBuf {
        self.at("/usr/local/lib/corten")
    }

    /// The link to the program in use.
    pub(super) fn current(&self) -> PathBuf {
        self.at(CURRENT)
    }

    /// The command that users call: a link to that link.
    pub(super) fn command(&self) -> PathBuf {
        self.at("/usr/local/bin/corten")
    }

    pub(super) fn unit(&self) -> PathBuf {
        self.at("/etc/systemd/system").join(UNIT)
    }

    /// Says until the next reboot that another program is started.
    pub(super) fn trial(&self) -> PathBuf {
        self.at("/run/systemd/system").join(format!("{UNIT}.d")).join("upgrade.conf")
    }

    /// The environment of the first start of a server that joins: its token.
    pub(super) fn joining(&self) -> PathBuf {
        self.at(JOINING)
    }
}

/// See [`Place::joining`].
pub(super) const JOINING: &str = "/etc/corten/joining";

/// The path without the folder of tests, as units name it.
pub(super) fn named(program: &Path) -> PathBuf {
    Path::new(CURRENT).with_file_name(program.file_name().unwrap_or_default())
}
