//! `corten run`: from an image to a URL by one command, changed by a second one, listed, followed, removed without a trace; what
//! cannot run is told with what helps.

mod limits;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::node::{LIMIT, Node};
use super::shop::NAMESPACE;
use crate::process::{Process, wait};

const NAME: &str = "hello";
const HOST: &str = "hello.localhost";

/// Serves a page that says a word, and ends when it is told to.
const SERVE: &str = "trap 'exit 0' TERM; mkdir -p /tmp/www; echo \"it says $WORD\" >/tmp/www/index.html; \
                     httpd -p 8080 -h /tmp/www; echo begun; while :; do sleep 1 & wait; done";

/// All of it.
pub(super) fn one_command(node: &mut Node) -> Result<()> {
    let shell = node.field(NAMESPACE, "deployment/admin", "{.spec.template.spec.containers[0].image}")?;
    answers_and_is_changed(node, &shell)?;
    is_followed(node, &shell)?;
    tells_what_helps(node, &shell)?;
    limits::hold(node, &shell)?;
    leaves_nothing(node)
}

/// A URL from one command; the same command with another word is an update.
fn answers_and_is_changed(node: &Node, shell: &str) -> Result<()> {
    for word in ["one", "two"] {
        let variable = format!("WORD={word}");
        let options = ["-d", "--name", NAME, "-p", "80:8080", "-e", &variable, shell, "sh", "-c", SERVE];
        let said = run(node, &options)?;
        ensure!(said.status.success() && text(&said.stdout) == format!("http://{HOST}/\n"), "it says {}", all(&said));
        wait(LIMIT, || Ok(page(node, HOST, "/")?.contains(&format!("it says {word}")).then_some(())))
            .context("the page")?;
    }
    let field = |path: &str| node.field("default", &format!("deployment/{NAME}"), path);
    let manager = field("{.metadata.managedFields[?(@.operation==\"Apply\")].manager}")?;
    ensure!(manager == "corten-run", "it is applied by {manager:?}");
    let rows: Value = serde_json::from_str(&node.corten(&["ps", "-o", "json"])?)?;
    let row = &rows[0];
    let expected = serde_json::json!([NAME, shell, 1, "Running", format!("http://{HOST}/")]);
    let found = serde_json::json!([row["name"], row["image"], row["ready"], row["state"], row["url"]]);
    ensure!(found == expected, "ps shows {rows}");
    let table = node.corten(&["ps"])?;
    ensure!(table.starts_with("NAME ") && table.contains(&format!("http://{HOST}/")), "ps shows {table}");
    Ok(())
}

/// Its output is shown as it comes; an interrupt leaves it running.
fn is_followed(node: &Node, shell: &str) -> Result<()> {
    let command = command(node, &["--name", NAME, "-p", "80:8080", "-e", "WORD=three", shell, "sh", "-c", SERVE]);
    let mut shown = Process::start("run", &command, node.folder())?;
    wait(LIMIT, || {
        let output = shown.output()?;
        Ok((output.contains(&format!("http://{HOST}/")) && output.contains("begun")).then_some(()))
    })
    .with_context(|| format!("it shows {}", shown.tail().unwrap_or_default()))?;
    kill_process(Pid::from_raw(i32::try_from(shown.identity().1)?).context("a process has an id")?, Signal::INT)?;
    wait(LIMIT, || Ok(shown.output()?.contains("corten rm").then_some(())))?;
    wait(LIMIT, || Ok(shown.check().is_err().then_some(()))).context("an interrupt ends it")?;
    ensure!(page(node, HOST, "/")?.contains("it says three"), "it does not go on: {}", page(node, HOST, "/")?);
    Ok(())
}

/// Each reason comes with the next step, and the command fails.
fn tells_what_helps(node: &Node, shell: &str) -> Result<()> {
    for (options, words) in [
        (&["--name", "nope", "localhost/test/none:1"][..], &["its image cannot be had", "corten image import"][..]),
        (
            &["--name", "crash", "-p", "9", shell, "sh", "-c", "echo about to die; exit 3"],
            &["about to die", "exit code 3"],
        ),
        (&["--name", "kubernetes", "-p", "80", shell], &["services/kubernetes", "another --name"]),
        (&["--memory", "256m", shell], &["write 256Mi"]),
    ] {
        let said = run(node, &[&["-d"], options].concat())?;
        let all = all(&said);
        ensure!(!said.status.success() && words.iter().all(|word| all.contains(word)), "{options:?} says {all}");
    }
    Ok(())
}

fn leaves_nothing(node: &Node) -> Result<()> {
    for name in [NAME, "nope", "crash", limits::NAME, limits::HOG] {
        node.corten(&["rm", name])?;
    }
    let kinds = "deployments,replicasets,pods,services,ingresses,persistentvolumeclaims";
    let left = node.kubectl(&["get", kinds, "-l", "app.kubernetes.io/managed-by=corten-run", "-o", "name"])?;
    ensure!(left.is_empty(), "left behind: {left}");
    let said = node.corten(&["ps"])?;
    ensure!(said.contains("nothing runs"), "ps shows {said}");
    Ok(())
}

/// `corten run` with these words.
pub(super) fn command(node: &Node, words: &[&str]) -> Command {
    let mut command = Command::new(node.program());
    command.arg("run").arg("--kubeconfig").arg(node.kubeconfig()).args(words);
    command
}

pub(super) fn run(node: &Node, words: &[&str]) -> Result<Output> {
    command(node, words).output().with_context(|| format!("corten run {}", words.join(" ")))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything that a command has said.
pub(super) fn all(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

/// What the edge answers for a host; that it knows none yet is an answer too.
pub(super) fn page(node: &Node, host: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(node.edge()).context("the edge")?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the edge's answer")?;
    Ok(answer)
}
