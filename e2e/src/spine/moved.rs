//! A cluster that moves: it is backed up while somebody writes, taken away, and restored in another place, where it is the same one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::neighbour::answers;
use super::node::{LIMIT, Node};
use crate::process::{Process, wait};

/// What nothing changes by itself.
const KINDS: &str = "configmaps,secrets,services,serviceaccounts,namespaces,clusterroles";
/// "hidden", as a Secret has it.
const HIDDEN: &str = "aGlkZGVu";

pub(super) fn elsewhere(node: &mut Node) -> Result<()> {
    node.kubectl(&["create", "secret", "generic", "kept", "--from-literal=k=hidden"])?;
    let (file, words, kubeconfig) =
        (node.folder().join("backup"), node.folder().join("words"), node.folder().join("admin.kubeconfig"));
    fs::write(&words, "correct horse battery staple\n")?;
    fs::copy(node.kubeconfig(), &kubeconfig)?;
    let [file, words, kubeconfig] = [&file, &words, &kubeconfig].map(|path| path.display().to_string());

    let mut writer = writer(node)?;
    wait(LIMIT, || Ok((writer.output()?.lines().count() > 2).then_some(())))?;
    let (before, uid) = (objects(node, &[])?, node.field("default", "deployment/web", "{.metadata.uid}")?);
    let said = node.corten(&["backup", &file, "--passphrase-file", &words])?;
    ensure!(said.contains("left out: images"), "{said}");
    writer.check()?;
    drop(writer);
    let after = objects(node, &[])?;
    refused_beside(node, &file, &words)?;

    node.purge()?;
    node.move_to("elsewhere");
    let said = node.corten(&["restore", &file, "--passphrase-file", &words])?;
    ensure!(said.contains(" --name neighbour"), "{said}");
    node.images(&["busybox"])?;
    node.up()?;
    // By what was handed out before.
    let restored = objects(node, &["--kubeconfig", &kubeconfig])?;
    let (lost, foreign) = (before.difference(&restored).next(), restored.difference(&after).next());
    ensure!(lost.is_none() && foreign.is_none(), "lost: {lost:?}, of nowhere: {foreign:?}");
    ensure!(node.field("default", "deployment/web", "{.metadata.uid}")? == uid, "another Deployment");
    let secret = node.field("default", "secret/kept", "{.data.k}")?;
    ensure!(secret == HIDDEN, "the Secret says {secret:?}");
    wait(LIMIT, || Ok(answers(node).ok())).context("the pods do not answer again")
}

/// Kind, name, uid and resourceVersion of each object.
fn objects(node: &Node, options: &[&str]) -> Result<BTreeSet<String>> {
    let line = "{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid} {.metadata.resourceVersion}";
    let path = format!("jsonpath={{range .items[*]}}{line}{{\"\\n\"}}{{end}}");
    let told = node.kubectl(&[&["get", KINDS, "-A", "-o", &path], options].concat())?;
    Ok(told.lines().map(str::to_owned).collect())
}

/// Makes one object after the other, and prints the name of each that is made.
fn writer(node: &Node) -> Result<Process> {
    let script =
        r#"i=0; while "$0" create configmap "written-$i" >/dev/null; do echo "$i"; i=$((i + 1)); done; sleep 60"#;
    let mut command = Command::new("env");
    command.arg(format!("KUBECONFIG={}", node.kubeconfig().display())).args(["sh", "-c", script]);
    command.arg(node.command(&[]).get_program());
    Process::start("writer", &command, node.folder())
}

/// Two of one instance would be in each other's way.
fn refused_beside(node: &Node, file: &str, words: &str) -> Result<()> {
    let place = node.folder().join("beside");
    let mut restore = Command::new(node.program());
    restore.args(["restore", file, "--passphrase-file", words, "--data-dir"]).arg(&place);
    let output = restore.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("is on this server already, in "), "beside itself: {said}");
    ensure!(is_absent(&place), "something was made");
    Ok(())
}

fn is_absent(place: &Path) -> bool {
    !place.exists() && !place.with_added_extension("restoring").exists()
}
