//! `corten uninstall`: takes away what `corten install` has made, and nothing else. Pods, routes and data stay, as they do when
//! `corten up` ends; `--purge` takes them away too.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::place::{Place, UNIT};
use super::systemd::systemctl;
use super::{program, unit};
use crate::files::read_if_there;
use crate::{args, purge};

#[derive(Debug, Args)]
pub struct Uninstall {
    /// Take away its pods and data too, as `corten purge` does.
    #[arg(long)]
    pub purge: bool,
}

pub fn run(settings: &Uninstall) -> anyhow::Result<()> {
    let place = Place::find()?;
    let data_dir = read_if_there(&place.unit())?.as_deref().and_then(unit::data_dir);
    if !remove(&place)? {
        println!("corten is not installed on this server: there is nothing to undo");
        return Ok(());
    }
    let Some(data_dir) = data_dir.filter(|data_dir| data_dir.exists()) else { return Ok(()) };
    if settings.purge {
        return purge::run(&args::Purge { data_dir });
    }
    println!("its pods and data stay in {0}: corten purge --data-dir {0} takes them away", data_dir.display());
    Ok(())
}

/// Ends the service and removes every part of an installation, whole or begun. Gives whether there was any.
pub(super) fn remove(place: &Place) -> anyhow::Result<bool> {
    let mut found = false;
    if place.unit().exists() {
        systemctl(&["disable", "--now", UNIT]).context("the service cannot be ended")?;
        found = true;
    }
    let links = [place.current()].into_iter().chain(own_command(place)?);
    let files = [place.trial(), place.unit(), place.joining()];
    for path in files.into_iter().chain(links) {
        if program::remove(&path)? {
            println!("  {}", path.display());
            found = true;
        }
    }
    if place.programs().exists() {
        program::keep_only(place, &[])?;
        println!("  {}", place.programs().display());
        found = true;
    }
    for folder in [place.trial(), place.joining()] {
        folder.parent().map_or(Ok(()), program::remove_empty)?;
    }
    program::remove_empty(&place.programs())?;
    if found {
        systemctl(&["daemon-reload"])?;
    }
    Ok(found)
}

/// The command, if it is the link that `install` has made.
fn own_command(place: &Place) -> anyhow::Result<Option<PathBuf>> {
    let command = place.command();
    let is_ours = program::is_own_command(&command)?;
    Ok(is_ours.then_some(command))
}
