//! The passphrase of a backup: from a file, an environment variable, or asked on the terminal. Never an argument: those stand in the
//! list of processes and in the shell's history.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

const VARIABLE: &str = "CORTEN_PASSPHRASE";
/// Shorter ones are found by trying.
const LENGTH_MIN: usize = 8;
const TERMINAL: &str = "/dev/tty";

#[derive(Debug, Args)]
pub(super) struct Passphrase {
    /// The file whose first line is the passphrase [default: the variable CORTEN_PASSPHRASE, else the terminal is asked].
    #[arg(long, value_name = "F")]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    /// For something new: long enough, and typed twice where somebody types it.
    pub(super) fn new_one(&self) -> anyhow::Result<String> {
        let passphrase = match self.given()? {
            Some(given) => given,
            None => {
                let typed = ask("passphrase of the backup: ")?;
                ensure!(typed == ask("once more: ")?, "the two passphrases are not the same; start again");
                typed
            }
        };
        ensure!(
            passphrase.chars().count() >= LENGTH_MIN,
            "the passphrase is shorter than {LENGTH_MIN} characters, and whoever has it and the file has the cluster; take a longer one"
        );
        Ok(passphrase)
    }

    /// For something that was sealed.
    pub(super) fn known(&self) -> anyhow::Result<String> {
        self.given()?.map_or_else(|| ask("passphrase of the backup: "), Ok)
    }

    fn given(&self) -> anyhow::Result<Option<String>> {
        match (&self.passphrase_file, std::env::var(VARIABLE)) {
            (Some(path), _) => first_line(path).map(Some),
            (None, Ok(text)) => Ok(Some(text)),
            (None, Err(std::env::VarError::NotPresent)) => Ok(None),
            (None, Err(error)) => Err(error).context(VARIABLE),
        }
    }
}

fn first_line(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path);
    let text = text.with_context(|| format!("cannot read {}; see --passphrase-file", path.display()))?;
    let line = text.lines().next().unwrap_or_default().to_owned();
    ensure!(!line.is_empty(), "the first line of {} is empty; write the passphrase there", path.display());
    Ok(line)
}

/// Asks on the terminal of this process, without showing what is typed.
fn ask(question: &str) -> anyhow::Result<String> {
    let opened = OpenOptions::new().read(true).write(true).open(TERMINAL);
    let mut terminal = opened.with_context(|| {
        format!("there is no terminal to ask for the passphrase; name a file with --passphrase-file, or set {VARIABLE}")
    })?;
    terminal.write_all(question.as_bytes())?;
    let quiet = Quiet::new(terminal.try_clone()?)?;
    let mut line = String::new();
    let read = BufReader::new(&terminal).read_line(&mut line);
    drop(quiet);
    terminal.write_all(b"\n")?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal that does not show what is typed, as long as this lives.
struct Quiet(File, Termios);

impl Quiet {
    fn new(terminal: File) -> anyhow::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self(terminal, before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(&self.0, OptionalActions::Now, &self.1) {
            tracing::warn!(%error, "the terminal stays quiet; `stty echo` helps");
        }
    }
}
