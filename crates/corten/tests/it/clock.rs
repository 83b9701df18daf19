//! The clock of the server is set back between two starts.

use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use crate::process::{Server, command, refusal};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;

async fn make(server: &Server, name: &str) -> u64 {
    let object = value!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}});
    let (code, made) = server.client.post(CONFIG_MAPS, &object).await;
    assert_eq!(code, 201, "{made:?}");
    made.str_at(&["metadata", "resourceVersion"]).parse().expect("a revision")
}

async fn lease(server: &Server) -> String {
    let path = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1";
    let (code, lease) = server.client.get(path).await;
    assert_eq!(code, 200, "{lease:?}");
    lease.str_at(&["spec", "renewTime"]).to_owned()
}

/// Certificates stay good, revisions go on, the node is alive, events that are to expire are there.
#[tokio::test]
async fn a_start_after_the_clock_was_set_back() {
    let dir = tempfile::tempdir().expect("a directory");
    // The authorities are older than what follows.
    let server = Server::start_at(dir.path(), -2 * DAY_S);
    make(&server, "before").await;
    assert_eq!(server.stop(), Some(0));
    let server = Server::start_at(dir.path(), 0);
    let (last, renewed) = (make(&server, "then").await, lease(&server).await);
    assert_eq!(server.stop(), Some(0));

    let server = Server::start_at(dir.path(), -HOUR_S);
    assert!(make(&server, "after").await > last, "revisions do not go back with the clock");
    let (_, list) = server.client.get(CONFIG_MAPS).await;
    let names = list.get("items").and_then(Value::as_array).expect("items").iter();
    let names: Vec<&str> = names.map(|item| item.str_at(&["metadata", "name"])).collect();
    assert_eq!(
        names.into_iter().filter(|name| *name != "kube-root-ca.crt").collect::<Vec<_>>(),
        ["after", "before", "then"]
    );
    assert!(lease(&server).await < renewed, "the node's lease tells the time of now");
    let (_, node) = server.client.get("/api/v1/nodes/node-1").await;
    let conditions = node.at(&["status", "conditions"]).and_then(Value::as_array).expect("conditions");
    let ready = conditions.iter().find(|condition| condition.str_at(&["type"]) == "Ready").expect("told");
    assert_eq!(ready.str_at(&["status"]), "True");
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn a_clock_before_the_authorities_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(Server::start(dir.path()).stop(), Some(0));
    let mut command = command(dir.path(), "127.0.0.1:0");
    let output = refusal(command.env("CORTEN_CLOCK_OFFSET", (-DAY_S).to_string()));
    let text = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("ca.crt is not valid yet by this server's clock; set the clock, then start again"), "{text}");
    assert_eq!(Server::start(dir.path()).stop(), Some(0), "nothing was harmed");
}
