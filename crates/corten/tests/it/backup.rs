//! A cluster is backed up while it is written to, and is the same one elsewhere.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use corten_apimachinery::value;
use corten_apimachinery::value::Value;

use crate::client::Client;
use crate::process::{Server, command_of_api};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const WORDS: &str = "correct horse battery staple";

/// `corten VERB FILE --data-dir DIR` with a passphrase.
fn verb(verb: &str, file: &Path, dir: &Path, passphrase: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    command.arg(verb).arg(file).arg("--data-dir").arg(dir).env("CORTEN_PASSPHRASE", passphrase);
    command.output().expect("it runs")
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refused(output: &Output, expect: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.starts_with("error: ") && text.contains(expect), "{text}");
}

async fn make(server: &Server, name: &str) {
    let object = value!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}});
    let (code, made) = server.client.post(CONFIG_MAPS, &object).await;
    assert_eq!(code, 201, "{made:?}");
}

async fn list(client: &Client, path: &str) -> Vec<Value> {
    let (code, list) = client.get(path).await;
    assert_eq!(code, 200, "{list:?}");
    list.get("items").and_then(Value::as_array).expect("items").to_vec()
}

/// An instance without controllers, which would change objects by themselves, and its backup.
struct Kept {
    dir: tempfile::TempDir,
    server: Server,
    file: PathBuf,
}

impl Kept {
    async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let server = Server::run(command_of_api(&dir.path().join("data"), "127.0.0.1:0"), &dir.path().join("data"));
        let secret =
            value!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "stringData": {"k": "hidden"}});
        assert_eq!(server.client.post(SECRETS, &secret).await.0, 201);
        let file = dir.path().join("backup");
        Self { dir, server, file }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }
}

#[tokio::test]
async fn the_same_cluster_elsewhere() {
    let Kept { dir, server, file } = Kept::new().await;
    let (data, other) = (dir.path().join("data"), dir.path().join("other/place"));
    for at in 0..20 {
        make(&server, &format!("before-{at}")).await;
    }
    let (from, to) = (data.clone(), file.clone());
    let backup = tokio::task::spawn_blocking(move || verb("backup", &to, &from, WORDS));
    let mut during = 0;
    while !backup.is_finished() {
        make(&server, &format!("during-{during}")).await;
        during += 1;
    }
    let said = done(&backup.await.expect("no panic"));
    assert!(said.contains("left out: images") && said.contains("corten restore "), "{said}");
    assert!(during > 0, "somebody wrote meanwhile");
    let written = list(&server.client, CONFIG_MAPS).await;
    let (_, last) = server.client.get(CONFIG_MAPS).await;
    let seen = last.str_at(&["metadata", "resourceVersion"]).to_owned();
    let secret = list(&server.client, SECRETS).await;
    assert_eq!(server.stop(), Some(0));
    let kubeconfig = dir.path().join("admin.kubeconfig");
    std::fs::copy(data.join("admin.kubeconfig"), &kubeconfig).expect("copied");
    let address = address(&kubeconfig);
    let held: Vec<_> = ["instance", "keys", "pki/ca.key", "pki/service-accounts.pem", "pki/edge.key"]
        .into_iter()
        .filter_map(|name| Some((name, std::fs::read(data.join(name)).ok()?)))
        .collect();
    assert!(held.len() >= 4, "{held:?}");
    std::fs::remove_dir_all(&data).expect("removed");

    let said = done(&verb("restore", &file, &other, WORDS));
    assert!(said.contains("missing: images") && said.contains(" --name node-1"), "{said}");
    for (name, bytes) in held {
        assert_eq!(std::fs::read(other.join(name)).expect(name), bytes, "{name}");
    }
    let server = Server::run(command_of_api(&other, &address), &other);
    // As it was handed out before.
    let client = Client::new(&kubeconfig);
    let restored = list(&client, CONFIG_MAPS).await;
    let is = |name: String| move |object: &&Value| object.str_at(&["metadata", "name"]) == name;
    for at in 0..20 {
        let name = format!("before-{at}");
        assert!(restored.iter().any(|object| is(name.clone())(&object)), "{name} was answered before the backup");
    }
    for object in &restored {
        assert!(written.contains(object), "the same uid, resourceVersion and all: {object:?}");
    }
    assert_eq!(list(&client, SECRETS).await, secret, "it is readable");
    let watch = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=5&resourceVersion={seen}");
    let (_, gone) = client.get(&watch).await;
    let code = gone.at(&["object", "code"]).or_else(|| gone.get("code")).cloned();
    assert_eq!(code, Some(Value::from(410)), "whoever has seen what is lost lists again: {gone:?}");
    make(&server, "afterwards").await;
    assert_eq!(server.stop(), Some(0));
}

/// Where the API is, in a kubeconfig.
fn address(kubeconfig: &Path) -> String {
    let text = std::fs::read_to_string(kubeconfig).expect("a kubeconfig");
    let (_, rest) = text.split_once("https://").expect("a server");
    rest.chars().take_while(|char| !char.is_whitespace() && *char != '"').collect()
}

#[tokio::test]
async fn a_backup_that_is_wrong_is_refused_and_nothing_is_made() {
    let kept = Kept::new().await;
    let data = kept.data();
    let Kept { dir, server, file } = kept;
    done(&verb("backup", &file, &data, WORDS));
    assert_eq!(server.stop(), Some(0));
    let place = dir.path().join("place");
    let is_untouched = || {
        let names: Vec<_> =
            std::fs::read_dir(dir.path()).expect("listed").map(|entry| entry.expect("one").file_name()).collect();
        assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("place")), "{names:?}");
    };
    let whole = std::fs::read(&file).expect("there");
    let with = |bytes: &[u8]| {
        let bad = dir.path().join("bad");
        std::fs::write(&bad, bytes).expect("written");
        verb("restore", &bad, &place, WORDS)
    };
    refused(
        &verb("restore", &file, &place, "another passphrase"),
        "sealed with another passphrase; see --passphrase-file",
    );
    is_untouched();
    refused(&with(&whole[..whole.len() - 1]), "ends early: it is only a part of a backup; copy it again");
    is_untouched();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    refused(&with(&changed), "was changed at byte ");
    is_untouched();
    refused(&with(b"#!/bin/sh\n"), "is no backup of corten");
    refused(&with(b""), "is no backup of corten");
    refused(&verb("restore", &dir.path().join("nowhere"), &place, WORDS), "cannot read ");
    is_untouched();
}

#[tokio::test]
async fn a_restore_into_a_place_that_is_taken() {
    let kept = Kept::new().await;
    let data = kept.data();
    done(&verb("backup", &kept.file, &data, WORDS));
    let refusal = verb("restore", &kept.file, &data, WORDS);
    refused(
        &refusal,
        "is not empty; choose another place with --data-dir, or take away what is there with `corten purge`",
    );
    make(&kept.server, "goes-on").await;
    let place = kept.dir.path().join("place");
    std::fs::create_dir(&place).expect("made");
    // What a restore that was killed has left.
    std::fs::create_dir_all(kept.dir.path().join("place.restoring/pki")).expect("made");
    done(&verb("restore", &kept.file, &place, WORDS));
    assert!(place.join("instance").exists() && !kept.dir.path().join("place.restoring").exists());
    assert_eq!(kept.server.stop(), Some(0));
}

#[tokio::test]
async fn a_backup_that_cannot_be_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("backup");
    refused(&verb("backup", &file, &dir.path().join("nowhere"), WORDS), "is no data directory of corten");
    let kept = Kept::new().await;
    refused(&verb("backup", &file, &kept.data(), "short"), "shorter than 8 characters");
    refused(
        &verb("backup", &kept.data().join("backup"), &kept.data(), WORDS),
        "would be lost with what it is to replace",
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_corten"));
    command.arg("backup").arg(&file).arg("--data-dir").arg(kept.data()).env_remove("CORTEN_PASSPHRASE");
    command.arg("--passphrase-file").arg(dir.path().join("nowhere"));
    refused(&command.output().expect("it runs"), "see --passphrase-file");
    assert_eq!(kept.server.stop(), Some(0));
    std::fs::remove_dir_all(kept.dir.path().join("data/store")).expect("removed");
    refused(&verb("backup", &file, &kept.dir.path().join("data"), WORDS), "is a further server's");
    assert!(!file.exists(), "nothing is left");
}
