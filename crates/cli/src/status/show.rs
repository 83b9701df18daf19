//! The page that a user sees.

use corten_stats::Room;

use super::judge::{Server, Wrong};
use crate::table::table;

/// Of what is wrong so much is shown; the rest is counted.
const WRONG_MAX: usize = 12;

const UNKNOWN: &str = "?";

const HEAD: [&str; 8] =
    ["SERVER", "STATE", "CPU used/free", "MEMORY used/free", "ASKED FOR", "DISK used/free", "PODS", "CERTIFICATE"];

pub(super) fn text(servers: &[Server], wrong: &[Wrong]) -> String {
    let mut out = table(HEAD, servers.iter().map(row));
    out.push('\n');
    if wrong.is_empty() {
        out.push_str("Nothing is wrong.\n");
        return out;
    }
    out.push_str("What is wrong:\n");
    for Wrong { object, finding } in wrong.iter().take(WRONG_MAX) {
        out.push_str(&format!("\n  {object}: {}\n", finding.fact));
        for (number, command) in finding.next.iter().enumerate() {
            out.push_str(&format!("    {} {command}\n", if number == 0 { "next:" } else { "     " }));
        }
    }
    if let Some(more) = wrong.len().checked_sub(WRONG_MAX).filter(|more| *more > 0) {
        out.push_str(&format!("\n  and {more} more; `corten status -o json` has all\n"));
    }
    out
}

fn row(server: &Server) -> [String; 8] {
    let unknown = || UNKNOWN.to_owned();
    let cpu = |used: f64| format!("{used:.2} / {:.2}", (server.cpu_total - used).max(0.0));
    let memory = |used: i64| format!("{} / {}", size(used), size((server.memory_total - used).max(0)));
    let disk = |disk: Room| format!("{} / {}", size(disk.used_bytes), size(disk.available_bytes));
    [
        server.name.clone(),
        server.state.clone(),
        server.cpu_used.map_or_else(unknown, cpu),
        server.memory_used.map_or_else(unknown, memory),
        format!("{:.2} CPU, {}", server.cpu_asked, size(server.memory_asked)),
        server.stats.disk.map_or_else(unknown, disk),
        format!("{}/{}", server.pods, server.pods_max),
        server.stats.certificate_s.map_or_else(unknown, |left| format!("{} days", left / 86_400)),
    ]
}

/// Bytes with the unit that fits: `1.2 GiB`.
fn size(bytes: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let bytes = bytes as f64;
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, power) in units {
        let amount = bytes / f64::from(power).exp2();
        if amount >= 1.0 {
            return if amount < 10.0 { format!("{amount:.1} {unit}") } else { format!("{amount:.0} {unit}") };
        }
    }
    format!("{bytes:.0} B")
}

pub(super) fn json(servers: &[Server], wrong: &[Wrong]) -> serde_json::Value {
    let server = |server: &Server| {
        let disk = server.stats.disk;
        serde_json::json!({
            "name": server.name, "state": server.state,
            "cpu": {"total": server.cpu_total, "used": server.cpu_used, "requested": server.cpu_asked},
            "memoryBytes": {"total": server.memory_total, "used": server.memory_used, "requested": server.memory_asked},
            "diskBytes": {"used": disk.map(|disk| disk.used_bytes), "free": disk.map(|disk| disk.available_bytes)},
            "pods": server.pods, "podsMax": server.pods_max, "certificateSeconds": server.stats.certificate_s,
        })
    };
    let one = |wrong: &Wrong| serde_json::json!({"object": wrong.object, "fact": wrong.finding.fact, "next": wrong.finding.next});
    let servers: Vec<serde_json::Value> = servers.iter().map(server).collect();
    let wrong: Vec<serde_json::Value> = wrong.iter().map(one).collect();
    serde_json::json!({"servers": servers, "wrong": wrong})
}

#[cfg(test)]
mod tests {
    use corten_stats::Stats;

    use super::*;
    use crate::why::finding::Finding;

    fn server() -> Server {
        let disk = Some(Room { used_bytes: 42 << 30, available_bytes: 178 << 30 });
        Server {
            name: "one".to_owned(),
            state: "ready".to_owned(),
            cpu_total: 2.0,
            cpu_used: Some(0.411),
            cpu_asked: 0.7,
            memory_total: 24 << 30,
            memory_used: Some(1_288_490_189),
            memory_asked: 300 << 20,
            pods: 12,
            pods_max: 110,
            stats: Stats { disk, certificate_s: Some(29 * 86_400), ..Stats::default() },
        }
    }

    #[test]
    fn the_page_reads_well() {
        let silent = Server {
            name: "two".to_owned(),
            state: "silent".to_owned(),
            cpu_total: 2.0,
            pods_max: 110,
            ..Server::default()
        };
        let finding = Finding::new("its disk is 95 % full").then("corten image ls");
        let wrong = Wrong { object: "node/one".to_owned(), finding };
        let expected = "\
SERVER   STATE    CPU used/free   MEMORY used/free   ASKED FOR           DISK used/free     PODS     CERTIFICATE
one      ready    0.41 / 1.59     1.2 GiB / 23 GiB   0.70 CPU, 300 MiB   42 GiB / 178 GiB   12/110   29 days
two      silent   ?               ?                  0.00 CPU, 0 B       ?                  0/110    ?

What is wrong:

  node/one: its disk is 95 % full
    next: corten image ls
";
        let page = text(&[server(), silent], std::slice::from_ref(&wrong));
        assert_eq!(page, expected);
        assert!(text(&[server()], &[]).ends_with("29 days\n\nNothing is wrong.\n"));
        let many = text(&[], &vec![wrong; WRONG_MAX + 3]);
        assert!(many.contains("and 3 more"), "{many}");
    }

    #[test]
    fn sizes_have_a_unit() {
        assert_eq!([0, 1023, 1 << 20, (1 << 30) * 3 / 2].map(size), ["0 B", "1023 B", "1.0 MiB", "1.5 GiB"]);
    }
}
