//! Upstream's golden objects, every field set to something odd, sent as a dry run: mostly refused, each with the full
//! list of what is wrong.

use std::path::PathBuf;
use std::process::Command;
use std::{fs, str};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::kinds::Kind;
use super::scenario::Scenario;
use super::scenarios::JSON;
use crate::http::Request;

const MODULE: &str = "k8s.io/api@v0.36.3";

pub(crate) fn all(kinds: &[Kind]) -> Result<Vec<Scenario>> {
    let folder = folder()?;
    let mut scenarios = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.has("create")) {
        let group = if kind.group.is_empty() { "core" } else { &kind.group };
        let path = folder.join(format!("{group}.{}.{}.json", kind.version, kind.kind));
        if path.is_file() {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            scenarios.push(scenario(kind, &text)?);
        }
    }
    ensure!(scenarios.len() > 40, "only {} golden objects in {}", scenarios.len(), folder.display());
    Ok(scenarios)
}

fn folder() -> Result<PathBuf> {
    let output = Command::new("go").args(["mod", "download", "-json", MODULE]).output().context("cannot start go")?;
    ensure!(output.status.success(), "go mod download {MODULE}: {}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_str(str::from_utf8(&output.stdout)?)?;
    Ok(PathBuf::from(told["Dir"].as_str().context("go mod download names no folder")?).join("testdata/HEAD"))
}

fn scenario(kind: &Kind, text: &str) -> Result<Scenario> {
    let whole: Value = serde_json::from_str(text)?;
    let mut plain = whole.clone();
    plain["metadata"] = json!({"name": "golden", "namespace": kind.namespaced.then_some("diff")});
    let mut scenario = Scenario::new("golden", kind.subject());
    let path = format!("{}?dryRun=All", kind.collection());
    scenario.step("whole", Request::new("POST", &path).body(JSON, whole.to_string()));
    scenario.step("plain metadata", Request::new("POST", &path).body(JSON, plain.to_string()));
    Ok(scenario)
}
