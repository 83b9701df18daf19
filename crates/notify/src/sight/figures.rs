//! What servers say of themselves: how full their disks are, and how long their certificates are good. The limits are those by which
//! `corten status` judges.

use std::collections::BTreeMap;

use corten_apimachinery::value::Str;
use corten_client::cache::Held;

use super::nodes::Server;
use crate::fact::{Health, Kind, Sight, Sights, Subject};

/// A disk with less of it free is told of, in per cent.
const FREE_MIN: i64 = 10;
/// With more than this it is well again.
const FREE_WELL: i64 = 12;

/// A node's certificate that is good for less is told of: it should have been renewed long before.
const CERTIFICATE_S_MIN: i64 = 7 * 86_400;

/// What one server says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figure {
    disk_used_bytes: Option<i64>,
    disk_free_bytes: Option<i64>,
    certificate_s: Option<i64>,
}

impl Figure {
    /// Reads what a node gives at `/metrics`.
    pub(crate) fn parse(metrics: &str) -> Self {
        let rows: BTreeMap<&str, &str> = metrics.lines().filter_map(|line| line.split_once(' ')).collect();
        #[expect(clippy::cast_possible_truncation, reason = "a cast of floats saturates")]
        let of = |name| rows.get(name).and_then(|value| value.trim().parse::<f64>().ok()).map(|value| value as i64);
        Self {
            disk_used_bytes: of("corten_disk_used_bytes"),
            disk_free_bytes: of("corten_disk_available_bytes"),
            certificate_s: of("kubelet_certificate_manager_server_ttl_seconds"),
        }
    }

    /// How it is with the disk and the certificate; this is what changes when there is something to tell.
    pub(crate) fn healths(&self) -> [Health; 2] {
        let disk = match self.free_percent() {
            Some(free) if free < FREE_MIN => Health::Ill,
            Some(free) if free < FREE_WELL => Health::Unsure,
            _ => Health::Well,
        };
        let is_short = self.certificate_s.is_some_and(|left_s| left_s < CERTIFICATE_S_MIN);
        [disk, if is_short { Health::Ill } else { Health::Well }]
    }

    fn free_percent(&self) -> Option<i64> {
        let free = self.disk_free_bytes?;
        Some(free.saturating_mul(100) / self.disk_used_bytes?.saturating_add(free).max(1))
    }
}

/// Of each server what it said last; who is ready and has said nothing yet leaves us blind.
pub(crate) fn add(nodes: &[std::sync::Arc<Held<Server>>], figures: &BTreeMap<Str, Figure>, sights: &mut Sights) {
    for node in nodes {
        let Some(figure) = figures.get(&node.head.name) else {
            if node.is_ready() {
                sights.blind = vec![Kind::Disk, Kind::Certificate];
            }
            continue;
        };
        let [disk, certificate] = figure.healths();
        let subject = || Subject::new("node", "", node.head.name.clone());
        let mut add = |kind, health, text| {
            let sight = Sight::new(kind, subject(), health, text);
            sights.all.push(Sight { silent_until_s: node.silent_until_s(), ..sight });
        };
        if disk != Health::Well {
            let full = 100 - figure.free_percent().unwrap_or_default();
            add(Kind::Disk, disk, format!("its disk is {full} % full"));
        }
        if certificate != Health::Well {
            let days = figure.certificate_s.unwrap_or_default() / 86_400;
            let text = format!("its certificate is good for {days} days only, and should have been renewed");
            add(Kind::Certificate, certificate, text);
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
        add(&[node("one")], &BTreeMap::from([("one".into(), Figure::parse(metrics))]), &mut sights);
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
