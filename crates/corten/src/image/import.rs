//! `corten image import`.

use std::path::PathBuf;

use clap::Args;
use corten_image::Reference;

use super::{advise, list};
use crate::args::Common;

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    common: Common,
    /// An OCI layout (folder or tar) or a Docker archive; a tar may be compressed.
    #[arg(value_name = "FILE-OR-DIR")]
    archive: PathBuf,
    /// The image's name, where the archive says none or another is wanted.
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
}

impl Import {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let tag = self.tag.as_deref().map(Reference::parse).transpose().map_err(advise)?;
        let images = self.common.store()?.import(&self.archive, tag.as_ref()).map_err(advise)?;
        list::print_names(&images, self.common.output);
        Ok(())
    }
}
