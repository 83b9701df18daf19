//! `corten upgrade FILE`: another program for the service, while pods and routes go on. It is tried first: what is started is said
//! by a file that lives until the next reboot, so a server that goes down in the middle comes up with the program that it had.
//! Only one that has become ready, and stays so, is in use from then on; otherwise the former one is started again.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use corten_cli::option::period;
use corten_stdx::clock::Stopwatch;
use rustix::fs::{FlockOperation, flock};

use super::candidate::Candidate;
use super::place::{Place, named};
use super::systemd::{self, Start, systemctl};
use super::{program, unit};
use crate::datadir;
use crate::files::read_if_there;
use crate::signals;

#[derive(Debug, Args)]
pub struct Upgrade {
    /// The new program.
    pub file: PathBuf,
    /// How long it may take until it is ready, before the former one is taken back.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = period)]
    pub timeout: Duration,
}

/// An installation that has a program.
struct Installed {
    place: Place,
    /// What systemd starts.
    unit: String,
    /// The name of the program in use.
    current: String,
}

pub fn run(settings: &Upgrade) -> anyhow::Result<()> {
    let installed = Installed::find()?;
    let folder = File::open(installed.place.programs()).context("the folder of programs")?;
    let alone = flock(&folder, FlockOperation::NonBlockingLockExclusive);
    alone.context("another `corten upgrade` is at work on this server; wait for its end")?;
    let candidate = Candidate::take(&installed.place, &settings.file)?;
    if candidate.name == installed.current && !installed.place.trial().exists() {
        println!("{} runs already", candidate.name);
        return Ok(());
    }
    if let Err(error) = installed.readable(&candidate) {
        installed.forget(&candidate)?;
        return Err(error);
    }
    println!("{} is replaced by {}", installed.current, candidate.name);
    // A connection to this server that breaks off now leaves nothing half done.
    signals::outlive().context("signals")?;
    let watch = Stopwatch::start();
    match installed.try_out(&candidate, settings.timeout) {
        Ok(Start::Ready) => installed.keep(&candidate, &watch),
        Ok(Start::Failed) => installed.take_back(&candidate, "it ends instead of becoming ready", settings.timeout),
        Ok(Start::Late(status)) => {
            let why = format!("it is not ready after {:?} ({status})", settings.timeout);
            installed.take_back(&candidate, &why, settings.timeout)
        }
        Err(error) => installed.take_back(&candidate, &format!("{error:#}"), settings.timeout),
    }
}

impl Installed {
    fn find() -> anyhow::Result<Self> {
        let place = Place::find()?;
        let (unit, current) = (read_if_there(&place.unit())?, program::current(&place)?);
        let (Some(unit), Some(current)) = (unit, current) else {
            bail!(
                "corten is not installed on this server; run `corten install` first, or end `corten up` and start the new program: \
                 pods go on meanwhile"
            );
        };
        Ok(Self { place, unit, current })
    }

    /// An error if the data of this server are of a layout that the program does not know.
    fn readable(&self, candidate: &Candidate) -> anyhow::Result<()> {
        let data_dir = unit::data_dir(&self.unit).context("the unit does not say where the data are")?;
        let Some(layout) = datadir::layout(&data_dir)? else { return Ok(()) };
        ensure!(
            candidate.version.layout >= layout,
            "{} was written by a newer corten (layout {layout}, corten {} knows {}); upgrade to that one or a newer one",
            data_dir.display(),
            candidate.version.version,
            candidate.version.layout
        );
        Ok(())
    }

    fn try_out(&self, candidate: &Candidate, limit: Duration) -> anyhow::Result<Start> {
        let text =
            unit::trial(&self.unit, &named(&candidate.path)).context("the unit starts something else than corten")?;
        program::write_text(&self.place.trial(), &text)?;
        systemctl(&["daemon-reload"])?;
        systemd::start("restart", limit)
    }

    /// From now on it is the program in use. The former one stays, to go back to by hand.
    fn keep(&self, candidate: &Candidate, watch: &Stopwatch) -> anyhow::Result<()> {
        program::switch(&self.place, &candidate.name)?;
        self.end_trial()?;
        program::keep_only(&self.place, &[&candidate.name, &self.current])?;
        let former = self.place.programs().join(&self.current);
        println!("ready after {} ms; corten upgrade {} goes back", watch.elapsed().as_millis(), former.display());
        Ok(())
    }

    fn take_back(&self, candidate: &Candidate, why: &str, limit: Duration) -> anyhow::Result<()> {
        let last = systemd::last_words();
        self.end_trial()?;
        let former = systemd::start("restart", limit).context("the former program cannot be started again")?;
        self.forget(candidate)?;
        let again = match former {
            Start::Ready => "runs again".to_owned(),
            Start::Failed => "does not run again either; see journalctl -u corten".to_owned(),
            Start::Late(status) => format!("was started again, and is not ready yet ({status})"),
        };
        bail!("{} is not used: {why}; {} {again}. What the service said last:\n{last}", candidate.name, self.current)
    }

    fn end_trial(&self) -> anyhow::Result<()> {
        program::remove(&self.place.trial())?;
        self.place.trial().parent().map_or(Ok(()), program::remove_empty)?;
        systemctl(&["daemon-reload"]).map(drop)
    }

    /// Removes its file, unless it is the one in use.
    fn forget(&self, candidate: &Candidate) -> anyhow::Result<()> {
        if candidate.name != self.current {
            program::remove(&candidate.path)?;
        }
        Ok(())
    }
}
