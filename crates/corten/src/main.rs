//! `corten`: settings, wiring, shutdown.

use clap::Parser as _;
use corten::args::{Arguments, Verb};

fn main() {
    match Arguments::parse().verb {
        Verb::Version => println!("corten {}", env!("CARGO_PKG_VERSION")),
    }
}
