//! `corten image from-root`.

use std::path::PathBuf;

use clap::Args;
use corten_image::{Config, Recipe, Reference};

use super::words::words;
use super::{advise, list};
use crate::args::Common;

#[derive(Debug, Args)]
pub(super) struct FromRoot {
    #[command(flatten)]
    common: Common,
    /// The folder that becomes the root file system, with its owners, modes and devices.
    #[arg(value_name = "DIR")]
    root: PathBuf,
    /// The image's name.
    #[arg(long, value_name = "NAME")]
    tag: String,
    /// What runs: words as in a shell, without a shell.
    #[arg(long, value_name = "COMMAND", default_value = "")]
    cmd: String,
    /// What runs before those words, and stays when they are replaced.
    #[arg(long, value_name = "COMMAND", default_value = "")]
    entrypoint: String,
    /// A variable; may be repeated.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Who runs it: a user or user:group, by number or name.
    #[arg(long, value_name = "USER", default_value = "")]
    user: String,
    /// Where it runs.
    #[arg(long, value_name = "DIR", default_value = "")]
    workdir: String,
    /// A port it listens on; may be repeated.
    #[arg(long = "port", value_name = "PORT[/PROTOCOL]")]
    ports: Vec<String>,
    /// No file is newer than this; seconds since 1970. Makes images of the same contents equal.
    #[arg(long, value_name = "SECONDS", env = "SOURCE_DATE_EPOCH")]
    newest: Option<i64>,
}

impl FromRoot {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let tag = Reference::parse(&self.tag).map_err(advise)?;
        let recipe = Recipe { config: self.config()?, newest_s: self.newest };
        let image = self.common.store()?.from_root(&self.root, &tag, &recipe).map_err(advise)?;
        list::print_names(&[image], self.common.output);
        Ok(())
    }

    fn config(&self) -> anyhow::Result<Config> {
        if let Some(wrong) = self.environment.iter().find(|variable| !variable.contains('=')) {
            anyhow::bail!("--env {wrong:?} has no value; write it as NAME=VALUE");
        }
        let ports = self.ports.iter().map(|port| exposed(port)).collect::<Result<_, _>>()?;
        Ok(Config {
            user: self.user.clone(),
            env: self.environment.clone(),
            entrypoint: words(&self.entrypoint)?,
            cmd: words(&self.cmd)?,
            working_dir: self.workdir.clone(),
            exposed_ports: ports,
            ..Config::default()
        })
    }
}

/// `8080` is `8080/tcp`.
fn exposed(port: &str) -> anyhow::Result<String> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    if number.parse::<u16>().is_err() || !["tcp", "udp", "sctp"].contains(&protocol) {
        anyhow::bail!("--port {port:?} is no port; write it as 8080 or 53/udp");
    }
    Ok(format!("{number}/{protocol}"))
}
