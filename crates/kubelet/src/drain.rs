//! The time between a pod's deletion and the signal: until nobody begins a request to it, and those that are under way have
//! ended. A program that exits as soon as it is asked to then cuts nobody off.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_core::future::BoxFuture;
use futures_util::future::join_all;

use crate::deed::{Subjected, blocking};

/// What leads connections to pods.
pub trait Traffic: Send + Sync {
    /// Resolves when no new connection is led to this address of a pod any more.
    fn left(&self, address: IpAddr) -> BoxFuture<'_, ()>;
}

/// Whoever chose the pod before it left may reach it so much later.
const SETTLE: Duration = Duration::from_millis(300);

/// The kernel does not tell of the end of somebody's connections: it is asked so often, while a pod ends.
const PAUSE: Duration = Duration::from_millis(50);

/// Resolves when the pod has no more to answer, and after `limit` at the latest.
pub(crate) async fn drain(of: &Subjected, limit: Duration) {
    tokio::select! {
        () = of.ground.parts.clock.sleep(limit) => {
            tracing::debug!(pod = of.pod().long_name(), "a pod ends with connections open");
        }
        () = until_idle(of) => {}
    }
}

async fn until_idle(of: &Subjected) {
    let parts = &of.ground.parts;
    let Some(traffic) = &parts.traffic else { return };
    join_all(of.addresses.iter().map(|address| traffic.left(*address))).await;
    parts.clock.sleep(SETTLE).await;
    let states = match parts.engine.pods().await {
        Ok(states) => states,
        Err(error) => {
            tracing::warn!(pod = of.pod().long_name(), %error, "the connections of a pod cannot be told");
            return;
        }
    };
    let Some(pid) = states.iter().find(|state| state.id == of.pod().uid()).map(|state| state.pid) else { return };
    while is_busy(pid).await {
        parts.clock.sleep(PAUSE).await;
    }
}

/// Whether somebody is connected to a server in the network of a process.
async fn is_busy(pid: u32) -> bool {
    let busy = blocking(move || {
        let read = |table| match std::fs::read_to_string(format!("/proc/{pid}/net/{table}")) {
            // The process has ended, or the kernel has no IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other,
        };
        Ok(has_clients(&(read("tcp")? + &read("tcp6")?)))
    });
    busy.await.unwrap_or_else(|error| {
        tracing::debug!(pid, %error, "the connections of a pod cannot be read");
        false
    })
}

/// States of connections in the kernel's tables: those whose client may still want an answer, and those that both sides
/// have not closed. One that is cut off in between stays in the kernel's memory of translated connections, and leads whoever
/// uses the same port next to a pod that is gone.
const OPEN: [&str; 7] = ["01", "03", "04", "05", "08", "09", "0B"];
const LISTENING: &str = "0A";

/// 127.0.0.1, `::1`, and the first one as an IPv6 address: what containers of a pod have to say to each other.
const LOOPBACK: [&str; 3] = ["0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"];

/// Whether the tables (`/proc/net/tcp`, `tcp6`) have a connection to a port that somebody listens on.
fn has_clients(tables: &str) -> bool {
    // Number, own address and port, the other's, state.
    let sockets = tables.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        Some((address, port, words.nth(1)?))
    });
    let sockets: Vec<_> = sockets.collect();
    let served: BTreeSet<&str> =
        sockets.iter().filter(|(_, _, state)| *state == LISTENING).map(|(_, port, _)| *port).collect();
    sockets
        .iter()
        .any(|(address, port, state)| OPEN.contains(state) && served.contains(port) && !LOOPBACK.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n";
    const LISTENER: &str = "   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0\n";

    #[track_caller]
    fn check(own: &str, state: &str, expect: bool) {
        let socket = format!("   1: {own} 0200F40A:D2A4 {state} 00000000:00000000 00:00000000 00000000     0\n");
        assert_eq!(has_clients(&format!("{HEAD}{LISTENER}{socket}{HEAD}")), expect, "{own} {state}");
    }

    #[test]
    fn clients_of_servers_count() {
        check("0300F40A:1F90", "01", true);
        check("0300F40A:1F90", "03", true);
        check("0300F40A:1F90", "08", true);
        check("0300F40A:1F90", "05", true);
        check("0000000000000000FFFF00000300F40A:1F90", "01", true);
        check("0300F40A:1F90", "06", false);
        check("0300F40A:C350", "01", false);
        check("0100007F:1F90", "01", false);
        check("0000000000000000FFFF00000100007F:1F90", "01", false);
    }

    #[tokio::test]
    async fn a_process_that_is_gone_has_none() {
        assert!(!is_busy(u32::MAX).await);
    }
}
