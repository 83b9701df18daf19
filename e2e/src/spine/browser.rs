//! A real browser opens the shop by its name. It finds names below localhost by itself.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::node::Node;

/// What a page shows once it is rendered, and its address.
const PAGES: [(&str, &str); 2] = [("http://www.localhost/", "Tea, Assam"), ("http://blog.localhost/", "How to brew")];

/// After so many seconds the browser is ended.
const LIMIT_S: &str = "90";

pub(super) fn shows(node: &Node) -> Result<()> {
    for (address, words) in PAGES {
        let document = document(node, address)?;
        ensure!(document.contains(words), "{address} lacks {words:?} in a browser: {document}");
    }
    Ok(())
}

/// The document as the browser has it after rendering.
fn document(node: &Node, address: &str) -> Result<String> {
    let mut browser = Command::new("timeout");
    browser.args(["--kill-after=5", LIMIT_S, "chromium", "--headless", "--disable-gpu", "--disable-breakpad"]);
    // Its own walls are of use against strangers' pages, and cannot be made by root.
    browser.args(["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--dump-dom"]);
    browser.arg(format!("--user-data-dir={}", node.folder().join("browser").display())).arg(address);
    let output = browser.env("HOME", node.folder()).output().context("chromium")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "chromium ends with {}: {said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
