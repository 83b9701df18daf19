//! Two databases of one image, made of Debian's own package, each configured by its environment alone: they keep their rows over
//! the ends of their pods and of control.

use anyhow::{Result, ensure};

use super::node::Node;

const NAMESPACE: &str = "database";
const ROWS: &str = "SELECT count(*), sum(n) FROM rows";

pub(super) fn keeps_rows(node: &mut Node) -> Result<()> {
    node.images(&["database"])?;
    node.kubectl(&["apply", "-f", &Node::example("database/database.yaml")])?;
    ready(node, "orders")?;
    ready(node, "people")?;
    // What makes them two is what they were told.
    let told = "SELECT current_database(), current_setting('max_connections'), current_setting('work_mem')";
    ensure!(sql(node, "orders", told)? == "orders|20|4MB\n", "{}", sql(node, "orders", told)?);
    ensure!(sql(node, "people", told)? == "people|10|8MB\n", "{}", sql(node, "people", told)?);
    for (name, rows) in [("orders", 1000), ("people", 10)] {
        let fill = format!("CREATE TABLE rows (n int); INSERT INTO rows SELECT generate_series(1, {rows})");
        sql(node, name, &fill)?;
    }
    let uid = node.field(NAMESPACE, "pod/orders-0", "{.metadata.uid}")?;
    node.kubectl(&["-n", NAMESPACE, "delete", "pod", "orders-0", "--grace-period=5", "--timeout=60s"])?;
    ready(node, "orders")?;
    ensure!(node.field(NAMESPACE, "pod/orders-0", "{.metadata.uid}")? != uid, "it is the same pod");
    node.kill()?;
    node.up()?;
    for (name, rows) in [("orders", "1000|500500\n"), ("people", "10|55\n")] {
        let kept = sql(node, name, ROWS)?;
        ensure!(kept == rows, "{name} has {kept}");
    }
    sql(node, "orders", "INSERT INTO rows VALUES (0)")?;
    node.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]).map(drop)
}

fn ready(node: &Node, name: &str) -> Result<()> {
    let pod = format!("{name}-0");
    let ready = "jsonpath={.status.containerStatuses[0].ready}{.metadata.deletionTimestamp}";
    node.until(&["-n", NAMESPACE, "get", "pod", &pod, "-o", ready], |ready| ready == "true").map(drop)
}

fn sql(node: &Node, name: &str, text: &str) -> Result<String> {
    node.kubectl(&["-n", NAMESPACE, "exec", &format!("{name}-0"), "--", "sql", text])
}
