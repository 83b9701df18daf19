//! The pod process, `corten-pod`: pause and shim of one pod in one small static program.
//!
//! It holds the pod's namespaces, starts containers as its children and reaps them, keeps their output flowing into log
//! files, and keeps exit codes until control has acknowledged them. Control comes and goes over the listening socket that
//! this process is given as standard input; the newest connection wins. Control decides everything, this process executes.
//!
//! The second role, `corten-pod holder`, keeps the node's listening sockets and runs the edge that serves them (`holder`).
//!
//! One thread, so it may fork at any time; no allocation trick, no runtime. Children carry a parent-death signal: when this
//! process dies, its containers die with it. A pod that was never set up ends with its connection.

mod child;
mod control;
mod credentials;
mod holder;
mod init;
mod log;
mod pod;
mod process;
mod rootfs;
mod sys;
mod template;

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("corten-pod: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    sys::protect_self()?;
    let signals = sys::block_signals()?;
    let listener = sys::standard_input()?;
    match std::env::args().nth(1).as_deref() {
        Some("holder") => holder::Holder::new(listener, signals)?.serve(),
        _ => pod::Pod::new(listener, signals)?.serve(),
    }
}
