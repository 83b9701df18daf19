//! What a second `kubectl apply` of the shop says, and what `kubectl diff` does: asked of Corten with everything running, and of
//! the real server, whose word is what is written here.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};

/// A Secret with `stringData` is written each time: kubectl does not find that field in what is stored.
const AGAIN: &str = "namespace/shop unchanged
configmap/shop unchanged
configmap/blog-posts unchanged
secret/admin configured
deployment.apps/admin unchanged
service/admin unchanged
deployment.apps/blog unchanged
service/blog unchanged
ingress.networking.k8s.io/shop unchanged
deployment.apps/www unchanged
service/www unchanged
";

/// Applies the shop once more, where it has been applied, and asks for differences: none, and then one. `kubectl` is a command for
/// the server; `scratch` is a folder for a file.
pub(crate) fn again(kubectl: impl Fn() -> Command, scratch: &Path) -> Result<()> {
    let shop = folder();
    let Output { status, stdout, stderr } = kubectl().args(["apply", "-f"]).arg(&shop).output()?;
    let (said, errors) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    ensure!(status.success() && said == AGAIN && errors.is_empty(), "applied once more: {status}\n{said}{errors}");

    let same = kubectl().args(["diff", "-f"]).arg(&shop).output()?;
    let said = String::from_utf8_lossy(&same.stdout);
    ensure!(same.status.success() && said.is_empty(), "what was applied differs: {}\n{said}", same.status);

    let www = std::fs::read_to_string(shop.join("www.yaml")).context("www.yaml")?;
    let other = scratch.join("www-with-four.yaml");
    std::fs::write(&other, www.replace("replicas: 3", "replicas: 4"))?;
    let differs = kubectl().args(["diff", "-f"]).arg(&other).output()?;
    let said = String::from_utf8_lossy(&differs.stdout);
    let lines: Vec<&str> = said.lines().filter(|line| line.contains("replicas: ")).collect();
    ensure!(differs.status.code() == Some(1), "a difference ends with {}: {said}", differs.status);
    ensure!(lines == ["-  replicas: 3", "+  replicas: 4"], "the difference is shown as\n{said}");
    Ok(())
}

/// The manifests of the shop.
pub(crate) fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/shop")
}
