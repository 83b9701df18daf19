//! `corten`: settings, wiring, shutdown.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use corten::args::{Arguments, Verb};
use corten::service::{install, uninstall, upgrade};
use corten::{backup, down, edge, image, join, purge, token, up, version};
use tracing_subscriber::EnvFilter;

/// What is logged where `CORTEN_LOG` does not say.
const LOG: &str = "info";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("CORTEN_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    let colours = std::io::stderr().is_terminal();
    let is_edge = matches!(arguments.verb, Verb::Edge);
    let words = move || edge::words::Words { is_edge };
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(words).init();
    let done = match arguments.verb {
        Verb::Up(settings) => up::run(&settings),
        Verb::Node(settings) => join::run(&settings),
        Verb::Token(verb) => token::run(&verb),
        Verb::Status(verb) => corten_cli::status::run(&verb),
        Verb::Why(verb) => corten_cli::why::run(&verb),
        Verb::Run(verb) => corten_cli::run::run(&verb),
        Verb::Ps(verb) => corten_cli::ps::run(&verb),
        Verb::Rm(verb) => corten_cli::rm::run(&verb),
        Verb::Image(verb) => image::run(&verb),
        Verb::Install(settings) => install::run(&settings),
        Verb::Uninstall(settings) => uninstall::run(&settings),
        Verb::Upgrade(settings) => upgrade::run(&settings),
        Verb::Down(settings) => down::run(&settings),
        Verb::Backup(verb) => backup::run(&verb),
        Verb::Restore(verb) => backup::restore::run(&verb),
        Verb::Purge(settings) => purge::run(&settings),
        Verb::Edge => edge::process::run(),
        Verb::Version(ask) => version::run(&ask),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
