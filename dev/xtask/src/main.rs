//! The workspace's commands. The same ones run in CI.
//!
//! `cargo xtask check` formats, lints, tidies; `cargo xtask test` runs every test, with what it needs built first.

mod check;
mod guest;
mod requirements;
mod step;
mod strangers;
mod supply;
mod test;
mod tidy;

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "usage: cargo xtask COMMAND

  check   format, lints and tidy rules; licences, bans and sources of crates
  test    every test of the workspace; says what is missing on this machine and how to get it
  e2e     real clients against Corten; arguments go through (--focus, --help)
          --faults: 300 random kills of everything under load, about ten minutes; arguments go through (--seed, --random-kills)
  spine   the examples' shop on this machine: kubectl, kills, a rollout under load, the purge; arguments go through (--focus, --help)
  servers several servers in namespaces of this machine: joining, ways between them, a server lost; arguments go through (--focus)
  host    a server that systemd runs: installed, upgraded under load, rebooted; arguments go through (--focus)
  guest   an emulated server with control groups of v2 alone: tests of the runtime, a node from `up` to `purge`
  diff    the same requests to the real Kubernetes and to Corten; arguments go through (--filter, --seed, --help)
  conformance  Kubernetes' own tests against Corten; arguments go through (--focus, --class, --record, --help)
  bench   figures: api, node, edge, crowd, placement, services, runtime, scheduler or table, with the peer in the same run; arguments go through (--rounds, --help)
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (command, rest) = arguments.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    env::set_current_dir(root())?;
    match (command, rest) {
        ("check", []) => check::run(),
        ("test", []) => test::run(),
        ("e2e", arguments) => strangers::clients(arguments),
        ("spine", arguments) => strangers::spine(arguments),
        ("servers", arguments) => strangers::servers(arguments),
        ("host", arguments) => strangers::host(arguments),
        ("guest", arguments) => guest::run(arguments),
        ("diff", arguments) => strangers::differential(arguments),
        ("conformance", arguments) => strangers::conformance(arguments),
        ("bench", arguments) => strangers::bench(arguments),
        ("help" | "--help" | "-h", _) => {
            print!("{USAGE}");
            Ok(())
        }
        ("", _) => bail!("no command\n{USAGE}"),
        _ => bail!("unknown command {:?}\n{USAGE}", arguments.join(" ")),
    }
}

/// The workspace's root.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).expect("dev/xtask lies two folders below the root").to_owned()
}
