//! `corten status`: what each server has and uses, how long certificates are good, and what is wrong with the command that helps.
//! By the Kubernetes API alone: what a cluster does not tell stays empty.

mod judge;
mod read;
mod show;

use anyhow::Context as _;
use clap::Args;

use crate::connect::{Cluster, refused};
use crate::option::Output;

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    cluster: Cluster,
    /// How to print the answer.
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

/// Shows the cluster.
///
/// # Errors
/// When the cluster does not answer.
pub fn run(status: &Status) -> anyhow::Result<()> {
    status.cluster.with(async |session| {
        let cluster = read::cluster(&session.client, session.clock.wall_s()).await.context(refused())?;
        let (servers, wrong) = (judge::servers(&cluster), judge::wrong(&cluster));
        match status.output {
            Output::Text => print!("{}", show::text(&servers, &wrong)),
            Output::Json => println!("{}", serde_json::to_string_pretty(&show::json(&servers, &wrong))?),
        }
        Ok(())
    })
}
