//! The scripts of `examples/story/`, as a user runs them: a stage of the history of managing servers each.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::node::Node;
use super::run::all;

/// Those that need one server.
const STAGES: [&str; 5] = ["1-server.sh", "2-container.sh", "3-names.sh", "4-healing.sh", "5-scaling.sh"];

/// The one that needs two.
pub(crate) const SECOND_SERVER: &str = "6-second-server.sh";

/// All of them in their order. The fourth kills control, which is started again as it says.
pub(super) fn told(node: &mut Node) -> Result<()> {
    let there = fs::read_dir(Node::example("story"))?.map(|entry| Ok(entry?.file_name().display().to_string()));
    let there =
        there.filter(|name| name.as_ref().is_ok_and(|name| name.starts_with(|first: char| first.is_ascii_digit())));
    let told: BTreeSet<String> = STAGES.iter().chain([&SECOND_SERVER]).map(ToString::to_string).collect();
    ensure!(there.collect::<Result<BTreeSet<String>>>()? == told, "the tests do not run every script of the story");
    for stage in STAGES {
        let (_, control) = node.control()?.identity();
        let said = succeeds(script(node, stage)?.env("CONTROL_PID", control.to_string()))?;
        said.lines()
            .filter(|line| line.contains("requests meanwhile"))
            .for_each(|line| println!("        {stage}: {line}"));
        if node.control()?.has_ended()?.is_some() {
            node.kill()?;
            node.up()?;
            node.corten(&["rm", "patient"])?;
        }
    }
    Ok(())
}

/// A script against this server.
pub(crate) fn script(node: &Node, stage: &str) -> Result<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([node.programs().to_owned()].into_iter().chain(env::split_paths(&path)))?;
    let mut command = Command::new(Node::example(&format!("story/{stage}")));
    command.env("PATH", path).env("KUBECONFIG", node.kubeconfig()).env("CORTEN", node.program());
    command.env("DATA_DIR", node.data());
    Ok(command)
}

/// What it says, once it has ended well.
pub(crate) fn succeeds(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{}", command.get_program().display()))?;
    let said = all(&output);
    ensure!(output.status.success(), "{} ends with {}:\n{said}", command.get_program().display(), output.status);
    Ok(said)
}
