//! What a node says of itself at `/metrics`: the node writes it, `corten status` and notifiers read it, and what is too little is
//! decided here for both.
//!
//! Rows of upstream's kubelet have upstream's names. Source of the form: Prometheus' text exposition format 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;

mod rows;

use rows::Row;

/// A disk or volume with less than this free is too full, in per cent.
const FREE_PERCENT_MIN: i64 = 10;

/// With at least this free it is well again, in per cent.
const FREE_PERCENT_WELL: i64 = 12;

/// A node's certificate that is good for less should have been renewed: Corten renews its own at half of thirty days.
const CERTIFICATE_S_MIN: i64 = 7 * 86_400;

const RUNNING_PODS: &str = "kubelet_running_pods";
const RUNNING_CONTAINERS: &str = "kubelet_running_containers";
const CERTIFICATE: &str = "kubelet_certificate_manager_server_ttl_seconds";
const DISK_USED: &str = "corten_disk_used_bytes";
const DISK_AVAILABLE: &str = "corten_disk_available_bytes";
const VOLUME_USED: &str = "kubelet_volume_stats_used_bytes";
const VOLUME_AVAILABLE: &str = "kubelet_volume_stats_available_bytes";
const NAMESPACE: &str = "namespace";
const CLAIM: &str = "persistentvolumeclaim";

/// What a node says; what it does not know is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub running_pods: Option<i64>,
    pub running_containers: Option<i64>,
    /// How long the certificate of its server is good.
    pub certificate_s: Option<i64>,
    /// The disk with pods and images.
    pub disk: Option<Room>,
    /// The claimed volumes that are mounted on it.
    pub volumes: BTreeMap<Claim, Room>,
}

/// The claim whose volume it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    pub namespace: String,
    pub name: String,
}

/// How full a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub used_bytes: i64,
    /// What its user may still write, which is less than what is free where some is kept for root.
    pub available_bytes: i64,
}

/// Whether there is enough of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enough {
    Yes,
    /// It has become so little that it is told of only where it was too little before.
    Barely,
    No,
}

impl Stats {
    /// What is said of a certificate that should have been renewed.
    pub fn certificate_warning(&self) -> Option<String> {
        let left_s = self.certificate_s.filter(|left_s| *left_s < CERTIFICATE_S_MIN)?;
        let days = left_s / 86_400;
        Some(format!("its certificate is good for {days} days only, and should have been renewed"))
    }

    /// As a node gives it at `/metrics`.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        let one = |value: Option<i64>| value.map(|value| (String::new(), value)).into_iter().collect();
        let used = |room: &Room| room.used_bytes;
        let available = |room: &Room| room.available_bytes;
        let rows: [(&str, &str, Vec<(String, i64)>); 7] = [
            (RUNNING_PODS, "Pods with a running container.", one(self.running_pods)),
            (RUNNING_CONTAINERS, "Containers that run.", one(self.running_containers)),
            (CERTIFICATE, "How long the certificate of this server is good.", one(self.certificate_s)),
            (DISK_USED, "Used of the disk with pods and images.", one(self.disk.as_ref().map(used))),
            (DISK_AVAILABLE, "What is free of it.", one(self.disk.as_ref().map(available))),
            (VOLUME_USED, "Used of a claimed volume.", self.of_volumes(used)),
            (VOLUME_AVAILABLE, "What is free of it.", self.of_volumes(available)),
        ];
        for (name, help, values) in rows {
            if !values.is_empty() {
                writeln!(out, "# HELP {name} {help}\n# TYPE {name} gauge").expect("a string takes all");
            }
            for (labels, value) in values {
                writeln!(out, "{name}{labels} {value}").expect("a string takes all");
            }
        }
        out
    }

    fn of_volumes(&self, figure: impl Fn(&Room) -> i64) -> Vec<(String, i64)> {
        let labels = |claim: &Claim| format!("{{{NAMESPACE}=\"{}\",{CLAIM}=\"{}\"}}", claim.namespace, claim.name);
        self.volumes.iter().map(|(claim, room)| (labels(claim), figure(room))).collect()
    }

    /// Reads what a node gives. Rows of other names are passed over, and so is what is no row.
    pub fn parse(text: &str) -> Self {
        let mut stats = Self::default();
        let (mut used, mut available) = (None, None);
        let mut volumes: BTreeMap<Claim, (Option<i64>, Option<i64>)> = BTreeMap::new();
        for row in text.lines().filter_map(Row::parse) {
            let value = Some(row.value);
            match row.name {
                RUNNING_PODS => stats.running_pods = value,
                RUNNING_CONTAINERS => stats.running_containers = value,
                CERTIFICATE => stats.certificate_s = value,
                DISK_USED => used = value,
                DISK_AVAILABLE => available = value,
                VOLUME_USED | VOLUME_AVAILABLE => {
                    let Some(claim) = claim(&row) else { continue };
                    let room = volumes.entry(claim).or_default();
                    *(if row.name == VOLUME_USED { &mut room.0 } else { &mut room.1 }) = value;
                }
                _ => {}
            }
        }
        stats.disk = room(used, available);
        let whole = |(claim, (used, available))| Some((claim, room(used, available)?));
        stats.volumes = volumes.into_iter().filter_map(whole).collect();
        stats
    }
}

fn room(used_bytes: Option<i64>, available_bytes: Option<i64>) -> Option<Room> {
    Some(Room { used_bytes: used_bytes?, available_bytes: available_bytes? })
}

fn claim(row: &Row<'_>) -> Option<Claim> {
    let of = |name| row.label(name).map(str::to_owned);
    Some(Claim { namespace: of(NAMESPACE)?, name: of(CLAIM)? })
}

impl Room {
    pub fn enough(&self) -> Enough {
        match self.free_percent() {
            free if free < FREE_PERCENT_MIN => Enough::No,
            free if free < FREE_PERCENT_WELL => Enough::Barely,
            _ => Enough::Yes,
        }
    }

    /// Rounded up, so that what is full to the last block is 100 % full and nothing else is less full than it says.
    pub fn full_percent(&self) -> i64 {
        100 - self.free_percent()
    }

    fn free_percent(&self) -> i64 {
        let total = self.used_bytes.saturating_add(self.available_bytes).max(1);
        self.available_bytes.saturating_mul(100) / total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str) -> Claim {
        Claim { namespace: "shop".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn what_a_node_writes_is_read_again() {
        let stats = Stats {
            running_pods: Some(3),
            running_containers: Some(4),
            certificate_s: Some(2_592_000),
            disk: Some(Room { used_bytes: 60, available_bytes: 40 }),
            volumes: BTreeMap::from([
                (claim("data-0"), Room { used_bytes: 1, available_bytes: 2 }),
                (claim("data-1"), Room { used_bytes: 0, available_bytes: i64::MAX }),
            ]),
        };
        assert_eq!(Stats::parse(&stats.to_text()), stats);
        assert_eq!(Stats::parse(&Stats::default().to_text()), Stats::default());
    }

    #[test]
    fn the_text_is_as_prometheus_reads_it() {
        let room = Room { used_bytes: 1, available_bytes: 2 };
        let volumes = BTreeMap::from([(claim("a"), room), (claim("b"), room)]);
        let stats = Stats { running_pods: Some(3), volumes, ..Stats::default() };
        let expected = r#"# HELP kubelet_running_pods Pods with a running container.
# TYPE kubelet_running_pods gauge
kubelet_running_pods 3
# HELP kubelet_volume_stats_used_bytes Used of a claimed volume.
# TYPE kubelet_volume_stats_used_bytes gauge
kubelet_volume_stats_used_bytes{namespace="shop",persistentvolumeclaim="a"} 1
kubelet_volume_stats_used_bytes{namespace="shop",persistentvolumeclaim="b"} 1
# HELP kubelet_volume_stats_available_bytes What is free of it.
# TYPE kubelet_volume_stats_available_bytes gauge
kubelet_volume_stats_available_bytes{namespace="shop",persistentvolumeclaim="a"} 2
kubelet_volume_stats_available_bytes{namespace="shop",persistentvolumeclaim="b"} 2
"#;
        assert_eq!(stats.to_text(), expected);
    }

    #[test]
    fn what_others_write_is_read_as_far_as_it_is_known() {
        let text = "# HELP x y\ngo_threads 7\nkubelet_running_pods 3\nkubelet_certificate_manager_server_ttl_seconds 2.592e+06\n\
            corten_disk_used_bytes 5\nkubelet_volume_stats_used_bytes{persistentvolumeclaim=\"a\"} 5\n<html>\n";
        let expected = Stats { running_pods: Some(3), certificate_s: Some(2_592_000), ..Stats::default() };
        assert_eq!(Stats::parse(text), expected);
    }

    #[test]
    fn a_disk_is_judged_by_what_is_free() {
        let room = |used_bytes| Room { used_bytes, available_bytes: 1000 - used_bytes };
        assert_eq!((room(901).enough(), room(901).full_percent()), (Enough::No, 91));
        assert_eq!((room(900).enough(), room(900).full_percent()), (Enough::Barely, 90));
        assert_eq!(room(880).enough(), Enough::Yes);
        assert_eq!(Room { used_bytes: 0, available_bytes: 0 }.enough(), Enough::No);
    }

    #[test]
    fn a_certificate_that_should_have_been_renewed_is_told_of() {
        let of = |certificate_s| Stats { certificate_s, ..Stats::default() }.certificate_warning();
        assert_eq!(of(None), None);
        assert_eq!(of(Some(7 * 86_400)), None);
        let expected = "its certificate is good for 1 days only, and should have been renewed";
        assert_eq!(of(Some(100_000)).as_deref(), Some(expected));
    }
}
