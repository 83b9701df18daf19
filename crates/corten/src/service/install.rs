//! `corten install`: this program as a service that systemd starts with the server and again when it ends. Everything that can be
//! refused is, before a file is written; what cannot be started is taken back. Repeated, it completes what is missing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{ArgMatches, Args, CommandFactory as _, Subcommand};

use super::place::{Place, UNIT};
use super::program::{self, OWN};
use super::systemd::{self, Start, systemctl};
use super::unit::{self, Unit};
use super::{flags, uninstall};
use crate::args::{Arguments, Join, Node, Up};
use crate::datadir::{DataDir, DataDirError, RUN};
use crate::edge::doors::Doors;
use crate::files::{read_if_there, write_private};
use crate::preflight;
use crate::ranges::Ranges;

/// How long the first start may take; one that takes longer goes on alone.
const READY_MAX: Duration = Duration::from_secs(60);

/// What a place of sockets is called that no instance has.
const NOBODY: &str = "none";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Install {
    /// What the service is to be, if not a cluster of its own.
    #[command(subcommand)]
    pub role: Option<Role>,
    #[command(flatten)]
    pub up: Up,
}

#[derive(Debug, Subcommand)]
pub enum Role {
    /// A further server of a cluster: the flags are those of `corten node`.
    Node(Join),
}

pub fn run(settings: &Install) -> anyhow::Result<()> {
    let place = Place::find()?;
    let words = words(Arguments::command(), std::env::args_os())?;
    let node = settings.node();
    let data_dir = std::path::absolute(&node.data_dir).context("the data directory's path")?;
    let unit = Unit { words, data_dir };
    if let Some(found) = read_if_there(&place.unit())? {
        same(&found, &unit)?;
    } else {
        ensure!(
            !settings.up.demo,
            "the demo is made of a checkout, which a service has none of; install without --demo, then run examples/images.sh \
             and kubectl apply -f examples/shop/"
        );
        settings.fit()?;
    }
    let name = program_in_use(&place)?;
    make(&place, &unit, &name, settings.token())?;
    start(&place, &unit)
}

impl Install {
    fn node(&self) -> &Node {
        match &self.role {
            Some(Role::Node(join)) => &join.node,
            None => &self.up.node,
        }
    }

    fn token(&self) -> Option<&str> {
        match &self.role {
            Some(Role::Node(join)) => join.token.as_deref(),
            None => None,
        }
    }

    /// Whether a start would be refused: it is better said before there is a service. Nothing of it is kept.
    fn fit(&self) -> anyhow::Result<()> {
        let dir = match DataDir::existing(&self.node().data_dir) {
            Ok(dir) => dir,
            Err(DataDirError::Absent { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let instance = dir.as_ref().map_or(NOBODY, DataDir::instance);
        if self.role.is_some() {
            preflight::fit_for_pods()?;
        } else {
            preflight::fit(&self.up)?;
            Ranges::open(&self.up, instance)?;
            preflight::listen(self.up.listen, "--listen ADDR:PORT")?;
        }
        Doors::open(self.node(), &Path::new(RUN).join(instance)).map(drop)
    }
}

/// The verb and the flags that were given.
fn words(
    mut command: clap::Command,
    line: impl IntoIterator<Item = impl Into<std::ffi::OsString> + Clone>,
) -> anyhow::Result<Vec<String>> {
    command.build();
    let matches = command.clone().try_get_matches_from(line)?;
    let below = |command: &clap::Command, matches: &ArgMatches| {
        let (name, matches) = matches.subcommand()?;
        Some((command.find_subcommand(name)?.clone(), matches.clone()))
    };
    let (install, given) = below(&command, &matches).context("a verb was given")?;
    let (verb, (command, given)) = match below(&install, &given) {
        Some(node) => ("node", node),
        None => ("up", (install, given)),
    };
    Ok([vec![verb.to_owned()], flags::given(&command, &given)?].concat())
}

/// An error if the unit that is there does something else.
fn same(found: &str, unit: &Unit) -> anyhow::Result<()> {
    let text = unit.text();
    let (before, now) = (unit::words(found), unit::words(&text));
    ensure!(
        before == now,
        "corten is installed with other flags: `{}`, and now `{}` is asked for; run `corten uninstall` first (pods and data stay), \
         then this again",
        before.unwrap_or_default(),
        now.unwrap_or_default()
    );
    Ok(())
}

/// The name of the program that the service is to run: this one, unless another is there, which only an upgrade replaces.
fn program_in_use(place: &Place) -> anyhow::Result<String> {
    let own = program::name(Path::new(OWN), env!("CARGO_PKG_VERSION"))?;
    match program::current(place)? {
        Some(current) if current != own && place.programs().join(&current).is_file() => {
            let this = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("this program"));
            bail!("{current} is installed; `corten upgrade {}` replaces it while it runs", this.display())
        }
        _ => Ok(own),
    }
}

/// Makes every part; what is there stays.
fn make(place: &Place, unit: &Unit, name: &str, token: Option<&str>) -> anyhow::Result<()> {
    let program = program::put(place, Path::new(OWN), name)?;
    program::switch(place, name)?;
    println!("program       {}", program.display());
    if program::link_command(place)? {
        println!("command       {}", place.command().display());
    } else {
        println!("command       {} is something else, and stays", place.command().display());
    }
    if let Some(token) = token {
        let path = place.joining();
        path.parent().map_or(Ok(()), program::make_dir).with_context(|| format!("the folder of {}", path.display()))?;
        write_private(&path, format!("CORTEN_TOKEN={token}\n").as_bytes())?;
    }
    program::write_text(&place.unit(), &unit.text())?;
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", UNIT])?;
    println!("service       {}: corten {}", place.unit().display(), unit.words.join(" "));
    Ok(())
}

/// Starts the service, if it does not run. One that ends at once is taken back.
fn start(place: &Place, unit: &Unit) -> anyhow::Result<()> {
    if systemd::state()?.is_active() {
        println!("it runs; see systemctl status corten");
        return Ok(());
    }
    match systemd::start("start", READY_MAX)? {
        Start::Ready => {
            // The server is known to its cluster now.
            program::remove(&place.joining())?;
            println!(
                "ready, with its data in {}; see systemctl status corten, and corten status",
                unit.data_dir.display()
            );
            Ok(())
        }
        Start::Late(status) => {
            println!("not ready after {READY_MAX:?}, and goes on ({status}); see systemctl status corten");
            Ok(())
        }
        Start::Failed => {
            let last = systemd::last_words();
            uninstall::remove(place).context("what cannot be started is taken back")?;
            bail!("the service does not start, and was taken back; it said last:\n{last}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: &str) {
        let words = words(Arguments::command(), line.split(' ')).expect("they parse");
        assert_eq!(words.join(" "), expect);
    }

    #[test]
    fn a_service_is_a_cluster_or_a_further_server() {
        check("corten install", "up");
        check("corten install --http-port 8080", "up --http-port 8080");
        check(
            "corten install node --server https://192.0.2.2:6443 --token a.b --name two",
            "node --name two --server https://192.0.2.2:6443",
        );
    }

    #[test]
    fn other_flags_are_named() {
        let unit = |words: &[&str]| Unit {
            words: words.iter().map(ToString::to_string).collect(),
            data_dir: "/var/lib/corten".into(),
        };
        same(&unit(&["up"]).text(), &unit(&["up"])).expect("the same");
        let text = same(&unit(&["up", "--http-port", "80"]).text(), &unit(&["up"])).expect_err("others").to_string();
        assert!(
            text.contains("`up --http-port 80`") && text.contains("`up`") && text.contains("corten uninstall"),
            "{text}"
        );
    }
}
