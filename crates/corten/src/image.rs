//! `corten image …`: the images of this server, beside a node that runs or without one.

use anyhow::anyhow;
use clap::{Args, Subcommand};
use corten_image::{ImageError, Settings, Store};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;

use crate::args::Common;
use crate::datadir;

mod from_root;
mod import;
mod list;
mod pull;
mod remove;
mod words;

#[derive(Debug, Args)]
pub struct Image {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Put the images of an archive into the store: an OCI layout (folder or tar), or what `docker save` wrote.
    Import(import::Import),
    /// Make an image of a folder that holds a root file system.
    FromRoot(from_root::FromRoot),
    /// Get an image from its registry.
    Pull(pull::Pull),
    /// List the images.
    Ls(list::List),
    /// Remove a name, and the image with its last name.
    Rm(remove::Remove),
}

pub fn run(image: &Image) -> anyhow::Result<()> {
    match &image.verb {
        Verb::Import(verb) => verb.run(),
        Verb::FromRoot(verb) => verb.run(),
        Verb::Pull(verb) => verb.run(),
        Verb::Ls(verb) => verb.run(),
        Verb::Rm(verb) => verb.run(),
    }
}

impl Common {
    fn store(&self) -> anyhow::Result<Store> {
        self.store_with(Vec::new(), Vec::new())
    }

    /// With registries that are asked without encryption, and authorities that are trusted.
    fn store_with(&self, plain_http: Vec<String>, authorities_pem: Vec<u8>) -> anyhow::Result<Store> {
        let content = datadir::content(&self.data_dir)?;
        let clock = Clock::from_environment().map_err(anyhow::Error::msg)?;
        let settings = Settings { plain_http, authorities_pem, ..Settings::new(clock, Random::system(), Tasks::new()) };
        Store::open(&content, settings).map_err(advise)
    }
}

/// An error with the next step.
#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn advise(error: ImageError) -> anyhow::Error {
    let next = match &error {
        ImageError::Reference { .. } => "write it as NAME:TAG or HOST/NAME:TAG",
        ImageError::NotFound { .. } => "`corten image ls` shows what is here",
        ImageError::Platform { .. } => "choose an image that is made for this machine",
        ImageError::Unauthorized { .. } => "name an account with --username and --password-stdin",
        ImageError::Corrupt { .. } => "get it again from where it comes",
        ImageError::NoSpace { .. } => "free space on its disk, for example with `corten image rm`",
        ImageError::Failed { detail, .. } if detail.contains("(os error 13)") || detail.contains("(os error 1)") => {
            "run as root, or choose another place with --data-dir"
        }
        ImageError::Failed { .. } => "remove the cause and try again",
    };
    anyhow!("{error}; {next}")
}
