//! `corten image pull`.

use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use corten_image::{Credentials, Images as _, Reference};

use super::{advise, list};
use crate::args::Common;

#[derive(Debug, Args)]
pub(super) struct Pull {
    #[command(flatten)]
    common: Common,
    /// The image, with its registry's host unless it is Docker Hub.
    #[arg(value_name = "REF")]
    reference: String,
    /// An account of the registry.
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the account's password from standard input.
    #[arg(long, requires = "username")]
    password_stdin: bool,
    /// Ask the registry without encryption; one on this machine always is.
    #[arg(long)]
    insecure: bool,
    /// Trust these authorities too: certificates in PEM.
    #[arg(long, value_name = "FILE")]
    authorities: Option<PathBuf>,
}

impl Pull {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let reference = Reference::parse(&self.reference).map_err(advise)?;
        let credentials = self.credentials(&reference)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("the runtime")?;
        let authorities = match &self.authorities {
            Some(path) => std::fs::read(path).with_context(|| format!("the authorities in {}", path.display()))?,
            None => Vec::new(),
        };
        let plain = self.insecure.then(|| reference.registry().to_owned());
        let store = self.common.store_with(plain.into_iter().collect(), authorities)?;
        let image = runtime.block_on(store.pull(&self.reference, &credentials)).map_err(advise)?;
        list::print_names(&[image], self.common.output);
        Ok(())
    }

    fn credentials(&self, reference: &Reference) -> anyhow::Result<Vec<Credentials>> {
        let Some(username) = self.username.clone() else { return Ok(Vec::new()) };
        let mut password = String::new();
        std::io::stdin().read_to_string(&mut password).context("the password on standard input")?;
        let password = password.trim_end_matches(['\r', '\n']).to_owned();
        Ok(vec![Credentials { registry: reference.registry().to_owned(), username, password }])
    }
}
