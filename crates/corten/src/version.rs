//! `corten version`: which program this is. An older one asks a newer one by this before it gives way (`service::upgrade`), so
//! fields are only ever added.

use clap::Args;
use corten_cli::option::Output;
use serde::{Deserialize, Serialize};

use crate::datadir;

#[derive(Debug, Args)]
pub struct Ask {
    /// How to print the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

#[derive(Debug, Deserialize, Serialize)]
pub struct Version {
    pub version: String,
    /// The newest layout of data directories that it can use.
    pub layout: u32,
}

pub fn run(ask: &Ask) -> anyhow::Result<()> {
    let own = Version { version: env!("CARGO_PKG_VERSION").to_owned(), layout: datadir::LAYOUT };
    match ask.output {
        Output::Text => println!("corten {}", own.version),
        Output::Json => println!("{}", serde_json::to_string(&own)?),
    }
    Ok(())
}
