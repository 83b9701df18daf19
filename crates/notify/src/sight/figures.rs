//! What servers say of themselves: how full their disks are, and how long their certificates are good.

use std::collections::BTreeMap;

use corten_apimachinery::value::Str;
use corten_client::cache::Held;
use corten_stats::{Claim, Enough, Room, Stats};

use super::nodes::Server;
use crate::fact::{Health, Kind, Sight, Sights, Subject};

/// How it is with a disk or volume; this is what changes when there is something to tell.
fn of_room(room: Room) -> Health {
    match room.enough() {
        Enough::No => Health::Ill,
        Enough::Barely => Health::Unsure,
        Enough::Yes => Health::Well,
    }
}

/// What is not well of everything that a server says: its disk, its certificate, volumes.
pub(crate) fn ailing(stats: &Stats) -> (Health, bool, Vec<(Claim, Health)>) {
    let volumes = stats.volumes.iter().map(|(claim, room)| (claim.clone(), of_room(*room)));
    let volumes = volumes.filter(|(_, health)| *health != Health::Well).collect();
    (stats.disk.map_or(Health::Well, of_room), stats.certificate_warning().is_some(), volumes)
}

/// Volumes that fill, of claims in a namespace or everywhere, by what the servers said last on which they are mounted.
pub(crate) fn add_volumes(
    said: &BTreeMap<Str, Stats>,
    is_told: impl Fn(&str) -> bool,
    silent_until_s: impl Fn(&Subject) -> i64,
    sights: &mut Sights,
) {
    for (claim, room) in said.values().flat_map(|stats| &stats.volumes).filter(|(claim, _)| is_told(&claim.namespace)) {
        let subject = Subject::new("pvc", claim.namespace.as_str(), claim.name.as_str());
        let text = format!("its volume is {} % full", room.full_percent());
        match of_room(*room) {
            Health::Well => {}
            health => {
                let silent_until_s = silent_until_s(&subject);
                sights.all.push(Sight { silent_until_s, ..Sight::new(Kind::Disk, subject, health, text) });
            }
        }
    }
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
        if let Some(room) = stats.disk.filter(|room| of_room(*room) != Health::Well) {
            add(Kind::Disk, of_room(room), format!("its disk is {} % full", room.full_percent()));
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
    fn volumes_that_fill() {
        let volume = |name: &str, used_bytes| {
            let claim = Claim { namespace: "shop".to_owned(), name: name.to_owned() };
            (claim, Room { used_bytes, available_bytes: 1000 - used_bytes })
        };
        let stats =
            |volumes: &[(Claim, Room)]| Stats { volumes: volumes.iter().cloned().collect(), ..Stats::default() };
        let said = BTreeMap::from([
            ("one".into(), stats(&[volume("full", 950), volume("roomy", 10)])),
            ("two".into(), stats(&[volume("nearly", 890)])),
        ]);
        let seen = |namespace: &str| {
            let mut sights = Sights::default();
            add_volumes(&said, |known| namespace == known, |_| 0, &mut sights);
            let one = |sight: &Sight| format!("{} {:?} {}", sight.key.subject.text(), sight.health, sight.text);
            sights.all.iter().map(one).collect::<Vec<_>>()
        };
        let both =
            ["pvc/full in shop Ill its volume is 95 % full", "pvc/nearly in shop Unsure its volume is 89 % full"];
        assert_eq!(seen("shop"), both);
        assert_eq!(seen("other"), [""; 0]);
        let news = |used| ailing(&stats(&[volume("a", used)]));
        assert_eq!(news(10), news(500), "what stays well is no news");
        assert_ne!(news(890), news(950));
    }

    #[test]
    fn a_server_that_has_said_nothing_leaves_us_blind() {
        let mut sights = Sights::default();
        add(&[node("one")], &BTreeMap::new(), &mut sights);
        assert_eq!(sights.blind, [Kind::Disk, Kind::Certificate]);
    }
}
