//! The columns of `get -o wide`: upstream's, in their order, with cells that make sense.

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

use super::{NAMESPACE, NEW, OLD};
use crate::process::wait;
use crate::spine::node::{LIMIT, NAME, Node};
use crate::spine::shop;

const NAME_OF_POD: &str = r"www-[0-9a-z]+-[0-9a-z]{5}";
const AGE: &str = r"(\d+[smh])+";
const ADDRESS: &str = r"10\.244\.\d+\.\d+";
const SERVICE: &str = r"10\.96\.\d+\.\d+";
const NONE: &str = "<none>";
const BUSYBOX: &str = "localhost/test/busybox:1";

/// Columns and what is in them.
type Columns = [(&'static str, &'static str)];

/// What is listed, and all columns of it.
struct Listing {
    namespace: &'static str,
    /// Kind and selector.
    what: &'static [&'static str],
    columns: &'static Columns,
}

const OF_WWW: &str = "-l=app.kubernetes.io/name=www";

const LISTINGS: [Listing; 11] = [
    Listing {
        namespace: shop::NAMESPACE,
        what: &["pods", OF_WWW],
        columns: &[
            ("NAME", NAME_OF_POD),
            ("READY", "1/1"),
            ("STATUS", "Running"),
            ("RESTARTS", r"\d+( \(.+ ago\))?"),
            ("AGE", AGE),
            ("IP", ADDRESS),
            ("NODE", NAME),
            ("NOMINATED NODE", NONE),
            ("READINESS GATES", NONE),
        ],
    },
    Listing {
        namespace: shop::NAMESPACE,
        what: &["services", OF_WWW],
        columns: &[
            ("NAME", "www"),
            ("TYPE", "ClusterIP"),
            ("CLUSTER-IP", SERVICE),
            ("EXTERNAL-IP", NONE),
            ("PORT(S)", "80/TCP"),
            ("AGE", AGE),
            ("SELECTOR", r"app\.kubernetes\.io/name=www"),
        ],
    },
    Listing {
        namespace: NAMESPACE,
        what: &["services", "-l=shown=port"],
        columns: &[
            ("NAME", "shown-port"),
            ("TYPE", "NodePort"),
            ("CLUSTER-IP", SERVICE),
            ("EXTERNAL-IP", NONE),
            ("PORT(S)", r"80:3\d{4}/TCP"),
            ("AGE", AGE),
            ("SELECTOR", "app=shown"),
        ],
    },
    Listing {
        namespace: NAMESPACE,
        what: &["services", "-l=shown=elsewhere"],
        columns: &[
            ("NAME", "shown-elsewhere"),
            ("TYPE", "ExternalName"),
            ("CLUSTER-IP", NONE),
            ("EXTERNAL-IP", "elsewhere.example.com"),
            ("PORT(S)", NONE),
            ("AGE", AGE),
            ("SELECTOR", NONE),
        ],
    },
    Listing {
        namespace: shop::NAMESPACE,
        what: &["nodes"],
        columns: &[
            ("NAME", NAME),
            ("STATUS", "Ready"),
            ("ROLES", NONE),
            ("AGE", AGE),
            ("VERSION", r"v1\.36\.\d+\+corten\.\S+"),
            ("INTERNAL-IP", r"\d+\.\d+\.\d+\.\d+"),
            ("EXTERNAL-IP", NONE),
            ("OS-IMAGE", r"\S.*"),
            ("KERNEL-VERSION", r"\d+\.\d+\S* \(\S+\)"),
            ("CONTAINER-RUNTIME", r"corten://\d\S+"),
        ],
    },
    Listing {
        namespace: shop::NAMESPACE,
        what: &["deployments", OF_WWW],
        columns: &[
            ("NAME", "www"),
            ("READY", "3/3"),
            ("UP-TO-DATE", "3"),
            ("AVAILABLE", "3"),
            ("AGE", AGE),
            ("CONTAINERS", "www"),
            ("IMAGES", "localhost/shop/www:1"),
            ("SELECTOR", r"app\.kubernetes\.io/name=www"),
        ],
    },
    Listing {
        namespace: shop::NAMESPACE,
        what: &["replicasets", OF_WWW],
        columns: &[
            ("NAME", r"www-[0-9a-z]+"),
            ("DESIRED", "3|0"),
            ("CURRENT", "3|0"),
            ("READY", "3|0"),
            ("AGE", AGE),
            ("CONTAINERS", "www"),
            ("IMAGES", "localhost/shop/www:1"),
            ("SELECTOR", r"app\.kubernetes\.io/name=www,pod-template-hash=[0-9a-z]+"),
        ],
    },
    Listing {
        namespace: NAMESPACE,
        what: &["statefulsets", "-l=shown=set"],
        columns: &[("NAME", "shown"), ("READY", "1/1"), ("AGE", AGE), ("CONTAINERS", "main"), ("IMAGES", BUSYBOX)],
    },
    Listing {
        namespace: NAMESPACE,
        what: &["daemonsets", "-l=shown=agent"],
        columns: &[
            ("NAME", "shown"),
            ("DESIRED", "1"),
            ("CURRENT", "1"),
            ("READY", "1"),
            ("UP-TO-DATE", "1"),
            ("AVAILABLE", "1"),
            ("NODE SELECTOR", NONE),
            ("AGE", AGE),
            ("CONTAINERS", "main"),
            ("IMAGES", BUSYBOX),
            ("SELECTOR", "app=shown-agent"),
        ],
    },
    Listing {
        namespace: shop::NAMESPACE,
        what: &["ingresses"],
        columns: &[
            ("NAME", "shop"),
            ("CLASS", "corten"),
            ("HOSTS", r"www\.localhost,blog\.localhost,admin\.localhost"),
            ("ADDRESS", r"\d+\.\d+\.\d+\.\d+"),
            ("PORTS", "80"),
            ("AGE", AGE),
        ],
    },
    Listing {
        namespace: shop::NAMESPACE,
        what: &["endpointslices", OF_WWW],
        columns: &[
            ("NAME", r"www-[0-9a-z]{5}"),
            ("ADDRESSTYPE", "IPv4"),
            ("PORTS", "8080"),
            ("ENDPOINTS", r"(10\.244\.\d+\.\d+,?){3}"),
            ("AGE", AGE),
        ],
    },
];

/// All listings by the new kubectl, pods and nodes by the old one too.
pub(super) fn all(node: &Node) -> Result<()> {
    for listing in &LISTINGS {
        // What was replaced a moment ago may still be ending.
        let mut last = Ok(());
        wait(LIMIT, || {
            last = listing.judge(node, NEW);
            Ok(last.is_ok().then_some(()))
        })
        .or(last)?;
        if matches!(listing.what[0], "pods" | "nodes") {
            listing.judge(node, OLD)?;
        }
    }
    Ok(())
}

impl Listing {
    fn judge(&self, node: &Node, kubectl: &str) -> Result<()> {
        let output = node.command_of(kubectl, &["-n", self.namespace, "get", "-o", "wide"]).args(self.what).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let what = self.what.join(" ");
        let wrong = || format!("{kubectl} get {what}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
        let table = Table::read(&text).with_context(wrong)?;
        let wanted: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        ensure!(table.heads == wanted, "the columns are to be {wanted:?}; {}", wrong());
        ensure!(!table.rows.is_empty(), "nothing is listed; {}", wrong());
        for (name, pattern) in self.columns {
            let pattern = Regex::new(&format!("^({pattern})$"))?;
            for cell in table.column(name)? {
                ensure!(pattern.is_match(&cell), "{name} is {cell:?}, not {pattern}; {}", wrong());
            }
        }
        Ok(())
    }
}

/// What kubectl has printed, by columns. In one that goes on, a cell may be too wide for its column and shift the rest of its row.
pub(super) struct Table {
    heads: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns are set apart by three spaces, words within by one.
    pub(super) fn read(text: &str) -> Result<Self> {
        let cells = |line: &str| {
            line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let mut lines = text.lines().map(cells);
        let heads = lines.next().context("nothing is printed")?;
        let rows: Vec<_> = lines.collect();
        let narrow = rows.iter().find(|row| row.len() != heads.len());
        ensure!(narrow.is_none(), "a row without all of the columns {heads:?}: {narrow:?}");
        Ok(Self { heads, rows })
    }

    pub(super) fn column(&self, name: &str) -> Result<Vec<String>> {
        let at = self.heads.iter().position(|head| head == name).with_context(|| format!("no column {name}"))?;
        Ok(self.rows.iter().map(|row| row[at].clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_the_space_between_them() {
        let table = Table::read("NAME   NOMINATED NODE   AGE\na-long-name   <none>           3s\n").unwrap();
        assert_eq!(table.column("NOMINATED NODE").unwrap(), ["<none>"]);
        assert_eq!(table.column("AGE").unwrap(), ["3s"]);
        assert!(table.column("NODE").is_err());
        assert!(Table::read("NAME   AGE\na\n").is_err());
        assert!(Table::read("").is_err());
    }
}
