//! `corten image rm`.

use clap::Args;
use corten_cli::option::Output;

use super::advise;
use crate::args::Common;

#[derive(Debug, Args)]
pub(super) struct Remove {
    #[command(flatten)]
    common: Common,
    /// Names or ids.
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

impl Remove {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let store = self.common.store()?;
        let mut gone = Vec::new();
        for image in &self.images {
            gone.extend(store.remove(image).map_err(advise)?);
        }
        match self.common.output {
            Output::Text => gone.iter().for_each(|name| println!("{name}")),
            Output::Json => println!("{}", serde_json::Value::from(gone)),
        }
        Ok(())
    }
}
