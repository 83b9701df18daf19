//! What the machine is, read from the kernel's and the system's own files. What cannot be read is empty or 0: a node
//! without a machine id is a node all the same.

use std::fs;
use std::path::Path;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub processors: i64,
    pub memory_bytes: i64,
    /// Of the file system of the data directory.
    pub disk_bytes: i64,
    /// Size (`2Mi`) and bytes (as a quantity) of huge pages.
    pub hugepages: Vec<(String, String)>,
    pub machine_id: String,
    pub system_uuid: String,
    pub boot_id: String,
    pub kernel: String,
    pub os_image: String,
}

impl Facts {
    pub fn read(dir: &Path) -> Self {
        let disk_bytes = match rustix::fs::statvfs(dir) {
            Ok(disk) => i64::try_from(disk.f_blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the size of the disk cannot be read");
                0
            }
        };
        Self {
            processors: processors(&text("/proc/cpuinfo")),
            memory_bytes: memory_bytes(&text("/proc/meminfo")),
            disk_bytes,
            hugepages: hugepages(Path::new("/sys/kernel/mm/hugepages")),
            machine_id: text("/etc/machine-id"),
            system_uuid: text("/sys/class/dmi/id/product_uuid"),
            boot_id: text("/proc/sys/kernel/random/boot_id"),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            os_image: os_image(&text("/etc/os-release")),
        }
    }
}

/// Go's name of the architecture.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn text(path: &str) -> String {
    // Absent on some machines, which is no news.
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn processors(cpuinfo: &str) -> i64 {
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    i64::try_from(count.max(1)).unwrap_or(1)
}

fn memory_bytes(meminfo: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse::<i64>().ok());
    kib.unwrap_or_default() * 1024
}

fn os_image(release: &str) -> String {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

/// `hugepages-2048kB/nr_hugepages` and its neighbours.
fn hugepages(dir: &Path) -> Vec<(String, String)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut sizes: Vec<(i64, i64)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let kib: i64 = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let count: i64 = fs::read_to_string(entry.path().join("nr_hugepages")).ok()?.trim().parse().ok()?;
            Some((kib, count))
        })
        .collect();
    sizes.sort_unstable();
    let size = |kib: i64| if kib % (1 << 20) == 0 { format!("{}Gi", kib >> 20) } else { format!("{}Mi", kib >> 10) };
    let total = |kib: i64, count: i64| if count == 0 { "0".to_owned() } else { format!("{}Ki", kib * count) };
    sizes.into_iter().map(|(kib, count)| (size(kib), total(kib, count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_system_are_read() {
        assert_eq!(processors("processor\t: 0\nmodel\nprocessor\t: 1\n"), 2);
        assert_eq!(memory_bytes("MemTotal:       24605404 kB\nMemFree: 1 kB\n"), 24_605_404 << 10);
        assert_eq!(
            os_image("NAME=\"x\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n"),
            "Debian GNU/Linux 12 (bookworm)"
        );
        let facts = Facts::read(Path::new("/"));
        assert!(facts.processors > 0 && facts.memory_bytes > 0 && facts.disk_bytes > 0, "{facts:?}");
    }

    #[test]
    fn huge_pages_are_counted_by_size() {
        let dir = tempfile::tempdir().expect("a directory");
        for (name, count) in [("hugepages-1048576kB", "0"), ("hugepages-2048kB", "3")] {
            let size = dir.path().join(name);
            fs::create_dir(&size).expect("a directory");
            fs::write(size.join("nr_hugepages"), count).expect("a file");
        }
        let sizes = [("2Mi", "6144Ki"), ("1Gi", "0")].map(|(size, bytes)| (size.to_owned(), bytes.to_owned()));
        assert_eq!(hugepages(dir.path()), sizes);
    }
}
