//! This server's corten as a service of systemd: `install` makes it one, `uninstall` undoes exactly that, `upgrade` replaces its
//! program under load and takes the old one back where the new one does not become ready (docs/adr/0014).
//!
//! What an installation consists of is said by [`place::Place`] alone. Nothing here ends a pod: control is the only process that
//! the service starts and stops.

mod candidate;
mod flags;
pub mod install;
mod place;
mod program;
pub mod readiness;
mod systemd;
pub mod uninstall;
mod unit;
pub mod upgrade;

/// Whether systemd is ending everything that it has started.
///
/// # Errors
/// When systemd cannot be asked.
pub fn server_is_going_down() -> anyhow::Result<bool> {
    systemd::is_stopping()
}
