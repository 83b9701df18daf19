//! What servers say of themselves: how full their disks are, and how long their certificates are good.

use std::collections::BTreeMap;

use corten_apimachinery::value::Str;
use corten_client::cache::Held;
use corten_stats::{Enough, Stats};

use super::nodes::Server;
use crate::fact::{Health, Kind, Sight, Sights, Subject};

/// How it is with a server's disk; this is what changes when there is something to tell.
fn of_disk(stats: &Stats) -> Health {
    match stats.disk.map(|disk| disk.enough()) {
        Some(Enough::No) => Health::Ill,
        Some(Enough::Barely) => Health::Unsure,
        Some(Enough::Yes) | None => Health::Well,
    }
}

/// How it is with everything that a server says.
pub(crate) fn healths(stats: &Stats) -> [Health; 2] {
    let certificate = if stats.certificate_warning().is_some() { Health::Ill } else { Health::Well };
    [of_disk(stats), certificate]
}

/// Of each server what it said last; who is ready and has said nothing yet leaves us blind.
pub(crate) fn add(nodes: &[std::sync::Arc<Held<Server>>], said: &BTreeMap<Str, Stats>, sights: &mut Sights) {
    for node in nodes {
        let Some(stats) = said.get(&node.head.name) else {
            if node.is_ready() {
                sights.blind.extend([Kind::Disk, Kind::Certificate]);
            }
            continue;
        };
        let subject = || Subject::new("node", "", node.head.name.clone());
        let mut add = |kind, health, text| {
            let sight = Sight::new(kind, subject(), health, text);
            sights.all.push(Sight { silent_until_s: node.silent_until_s(), ..sight });
        };
        let disk = of_disk(stats);
        if let Some(room) = stats.disk.filter(|_| disk != Health::Well) {
            add(Kind::Disk, disk, format!("its disk is {} % full", room.full_percent()));
        }
        if let Some(text) = stats.certificate_warning() {
            add(Kind::Certificate, Health::Ill, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_apimachinery::value;

    use super::*;

    fn node(name: &str) -> Arc<Held<Server>> {
        let conditions = value!([{"type": "Ready", "status": "True"}]);
        let object = value!({"metadata": {"name": name}, "status": {"conditions": conditions}});
        Arc::new(Held::from_object(&object).expect("a view"))
    }

    #[track_caller]
    fn check(metrics: &str, expect: &[&str]) {
        let mut sights = Sights::default();
        add(&[node("one")], &BTreeMap::from([("one".into(), Stats::parse(metrics))]), &mut sights);
        let one = |sight: &Sight| format!("{:?} {:?} {}", sight.key.kind, sight.health, sight.text);
        assert_eq!(sights.all.iter().map(one).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn disks_and_certificates_of_servers() {
        let disk = |used: i64| {
            format!("# HELP x y\ncorten_disk_used_bytes {used}\ncorten_disk_available_bytes {}\n", 1000 - used)
        };
        check(&disk(901), &["Disk Ill its disk is 91 % full"]);
        check(&disk(900), &["Disk Unsure its disk is 90 % full"]);
        check(&disk(880), &[]);
        check("kubelet_certificate_manager_server_ttl_seconds 2.592e+06\n", &[]);
        let expected = ["Certificate Ill its certificate is good for 1 days only, and should have been renewed"];
        check("kubelet_certificate_manager_server_ttl_seconds 100000\n", &expected);
        check("", &[]);
    }

    #[test]
    fn a_server_that_has_said_nothing_leaves_us_blind() {
        let mut sights = Sights::default();
        add(&[node("one")], &BTreeMap::new(), &mut sights);
        assert_eq!(sights.blind, [Kind::Disk, Kind::Certificate]);
    }
}
