//! Programs that say they are Corten and are none: what `corten upgrade` has to find out. They are this very program with a word
//! behind its end, which says how they fail.

use std::fs::{self, File, Permissions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

/// What one says when it is asked which corten it is.
const VERSION: &str = r#"{"version":"9.9.9","layout":1}"#;

/// The words that it is asked with.
#[derive(Subcommand)]
pub(crate) enum Pretend {
    #[command(hide = true)]
    Version {
        #[arg(long)]
        output: String,
    },
    #[command(hide = true)]
    Up {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
}

/// How one fails.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fails {
    /// Ends at once.
    Ends,
    /// Is never ready.
    Waits,
    /// Says that it is ready, then ends.
    Boasts,
}

impl Fails {
    fn word(self) -> &'static [u8; 6] {
        match self {
            Self::Ends => b"\nENDS\n",
            Self::Waits => b"\nWAIT\n",
            Self::Boasts => b"\nBOAS\n",
        }
    }

    /// Writes such a program.
    pub(super) fn write(self, file: &Path) -> Result<()> {
        write(&std::env::current_exe()?, self.word(), file)
    }
}

/// Writes a program with some bytes behind its end, which change nothing of what it does.
pub(super) fn write(program: &Path, end: &[u8], file: &Path) -> Result<()> {
    fs::copy(program, file).with_context(|| program.display().to_string())?;
    fs::set_permissions(file, Permissions::from_mode(0o755))?;
    let mut file = File::options().append(true).open(file)?;
    Ok(file.write_all(end)?)
}

impl Pretend {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let mut own = File::open("/proc/self/exe")?;
        let mut word = [0; 6];
        own.seek(SeekFrom::End(-6))?;
        own.read_exact(&mut word)?;
        let kinds = [Fails::Ends, Fails::Waits, Fails::Boasts];
        let kind = kinds.into_iter().find(|kind| *kind.word() == word).context("this program pretends nothing")?;
        match (self, kind) {
            (Self::Version { .. }, _) => println!("{VERSION}"),
            (Self::Up { .. }, Fails::Ends) => bail!("it cannot do what it is to do"),
            (Self::Up { .. }, Fails::Waits) => thread::sleep(Duration::from_secs(3600)),
            (Self::Up { .. }, Fails::Boasts) => {
                let socket = std::env::var_os("NOTIFY_SOCKET").context("a service has it")?;
                UnixDatagram::unbound()?.send_to(b"READY=1", socket)?;
                thread::sleep(Duration::from_millis(300));
                bail!("it was not ready at all");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
