//! A server's life: first start, restart, crash, keys.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use corten_apimachinery::value;
use corten_apimachinery::value::Value;
use rustix::process::{Pid, Signal};

use crate::client::Client;
use crate::process::{self, Server};

const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn secret() -> Value {
    value!({
        "kind": "Secret", "apiVersion": "v1", "metadata": {"name": "db"},
        "data": {"password": "c3dvcmRmaXNo"}
    })
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("listed").flatten() {
        if entry.path().is_dir() { files.extend(files_below(&entry.path())) } else { files.push(entry.path()) }
    }
    files
}

#[tokio::test]
async fn it_starts_with_what_a_cluster_has_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let parts: Vec<&str> = server.lines.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(parts, ["store", "certificates", "api", "controllers", "node", "ready"]);
    let kubeconfig = dir.path().join("admin.kubeconfig");
    assert!(server.lines[5].ends_with(&format!("kubeconfig {}", kubeconfig.display())), "{}", server.lines[5]);
    let (code, list) = server.client.get("/api/v1/namespaces").await;
    let items = list.get("items").and_then(Value::as_array).expect("items");
    let names: Vec<&str> = items.iter().map(|item| item.str_at(&["metadata", "name"])).collect();
    assert_eq!((code, names), (200, vec!["default", "kube-node-lease", "kube-public", "kube-system"]));
    let (_, admin) = server.client.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/admin").await;
    assert!(admin.get("rules").and_then(Value::as_array).is_some_and(|rules| rules.len() > 10), "aggregated");
    let (_, node) = server.client.get("/api/v1/nodes/node-1").await;
    let conditions = node.at(&["status", "conditions"]).and_then(Value::as_array).expect("conditions");
    let ready = conditions.iter().find(|condition| condition.str_at(&["type"]) == "Ready").expect("told");
    assert_eq!(ready.str_at(&["status"]), "True");
    let (code, lease) =
        server.client.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/node-1").await;
    assert_eq!((code, lease.str_at(&["spec", "holderIdentity"])), (200, "node-1"));
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn strangers_may_ask_for_the_version_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let stranger = Client::anonymous(&dir.path().join("admin.kubeconfig"));
    assert_eq!(stranger.get("/version").await.0, 200);
    let (code, status) = stranger.get("/api/v1/namespaces").await;
    let expected = r#"namespaces is forbidden: User "system:anonymous" cannot list resource "namespaces" in API group "" at the cluster scope"#;
    assert_eq!((code, status.str_at(&["message"])), (403, expected));
    drop(server);
}

#[tokio::test]
async fn a_watch_does_not_hold_up_the_end() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    let client = Client::new(&dir.path().join("admin.kubeconfig"));
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let path = format!("{CONFIG_MAPS}?watch=true");
    let watch = client.stream(&path, || begun.send(()).expect("somebody waits"));
    let stop = async {
        has_begun.await.expect("the watch begins");
        let stopped = tokio::task::spawn_blocking(|| server.stop());
        tokio::time::timeout(Duration::from_secs(5), stopped).await.expect("it ends before its drain limit")
    };
    let (watched, stopped) = tokio::join!(watch, stop);
    assert_eq!((watched, stopped.expect("joined")), (200, Some(0)));
}

/// Its first line waits in a full pipe until the signal has come.
#[test]
fn a_signal_ends_a_start_before_it_is_ready() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let size = rustix::pipe::fcntl_getpipe_size(&writer).expect("its size");
    writer.write_all(&vec![b'\n'; size]).expect("it fits");
    let mut command = process::command(dir.path(), "127.0.0.1:0");
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().expect("it runs");
    drop(command);
    let pid = Pid::from_child(&child);
    let catches_it = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it is there");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).expect("a row");
        let caught = u64::from_str_radix(caught, 16).expect("a mask");
        caught & (1 << (Signal::TERM.as_raw() - 1)) != 0
    };
    while !catches_it() {
        std::thread::sleep(Duration::from_millis(5));
    }
    rustix::process::kill_process(pid, Signal::TERM).expect("it is there");
    let mut said = String::new();
    reader.read_to_string(&mut said).expect("text");
    let said = said.trim();
    assert!(said.starts_with("store ") && !said.contains("ready"), "{said}");
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    for name in ["a", "b", "c"] {
        let object = value!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}});
        assert_eq!(server.client.post(CONFIG_MAPS, &object).await.0, 201);
    }
    server.kill();
    let server = Server::start(dir.path());
    let (_, list) = server.client.get(CONFIG_MAPS).await;
    let found = list.get("items").and_then(Value::as_array).expect("items");
    let names = found.iter().map(|item| item.str_at(&["metadata", "name"]));
    // A controller publishes its own beside them.
    let names: Vec<&str> = names.filter(|name| *name != "kube-root-ca.crt").collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test]
async fn secrets_are_on_the_disk_in_cipher_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    assert_eq!(server.client.post(SECRETS, &secret()).await.0, 201);
    let (_, read) = server.client.get(&format!("{SECRETS}/db")).await;
    assert_eq!(read.str_at(&["data", "password"]), "c3dvcmRmaXNo");
    assert_eq!(server.stop(), Some(0));
    let files = files_below(&dir.path().join("store"));
    assert!(!files.is_empty());
    let mut mentions = 0;
    for file in files {
        let bytes = std::fs::read(&file).expect("readable");
        let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(!has(b"c3dvcmRmaXNo") && !has(b"swordfish"), "{} has the plain text", file.display());
        mentions += usize::from(has(b"/secrets/default/db"));
    }
    assert!(mentions > 0, "the sealed value is there");
}

#[tokio::test]
async fn a_wrong_key_is_named_and_nothing_is_taken_for_absent() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = Server::start(dir.path());
    for namespace in ["default", "kube-system"] {
        assert_eq!(server.client.post(&SECRETS.replace("default", namespace), &secret()).await.0, 201);
    }
    assert_eq!(server.stop(), Some(0));
    let keys = dir.path().join("keys");
    let old = std::fs::read_to_string(&keys).expect("keys");
    std::fs::remove_file(&keys).expect("removed");
    // What reads Secrets goes on trying, and neither holds up the start nor what needs none.
    let server = Server::start(dir.path());
    for path in [format!("{SECRETS}/db"), SECRETS.to_owned()] {
        let (code, status) = server.client.get(&path).await;
        let text = status.str_at(&["message"]);
        assert!(code == 500 && text.contains(&old[..8]), "{path}: {code} {text}");
    }
    let again = server.client.post(SECRETS, &secret()).await.0;
    assert_ne!(again, 201, "it is there, and cannot be replaced");
    assert_eq!(server.stop(), Some(0));
    // With both keys the old Secret is back and new ones use the new key.
    let new = std::fs::read_to_string(&keys).expect("keys");
    std::fs::write(&keys, format!("{old}{new}")).expect("written");
    let server = Server::start(dir.path());
    assert_eq!(server.client.get(&format!("{SECRETS}/db")).await.0, 200);
    assert_eq!(server.stop(), Some(0));
}
